"""One brick's files, all or none; and what is written when all bricks are there."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from astropy.io import fits

from lib.survey import geometry
from lib.survey.synthetic import catalogue, coadds, defects, files, optics, sky, tables
from lib.survey.synthetic.spec import SurveySpec

PARTIAL = ".partial-"


def coadd_folder(out_dir: Path, brick: str) -> Path:
    return Path(out_dir) / "coadd" / brick[:3] / brick


def _write_brick(spec: SurveySpec, brick: geometry.BrickGeometry, folder: Path, out_dir: Path) -> None:
    """Coadds into ``folder``, catalogue and truth to their places."""
    objects, parts = optics.around(spec, brick)
    own = sky.of_brick(spec, brick.name).objects
    x, y = optics.wcs(brick).all_world2pix(own["ra"], own["dec"], 0)
    primary = defects.primary(brick)
    samples, lost, saturated = {}, {}, {}
    measured: dict[str, float] = {}
    for band in coadds.bands(spec, brick, objects, parts):
        files.write_band(folder, brick, band)
        if spec.coadd_psf:
            files.write_psf(folder, brick, band.band, band.field)
        samples[band.band] = catalogue.sample(band, x, y)
        lost[band.band], saturated[band.band] = band.lost, band.saturated
        measured |= tables.conditions(band, primary)
    bits = defects.maskbits(primary, objects, lost, saturated)
    files.write_image(folder, brick, "maskbits", None, bits)
    rows = catalogue.rows(spec, brick, own, samples, bits)
    conditions = tables.conditions_row(spec, brick, len(rows), measured)
    truth = own.astype([(n, "S10" if n == "kind" else own.dtype[n]) for n in own.dtype.names or ()])
    tables.write(Path(out_dir) / "truth" / brick.name[:3] / f"truth-{brick.name}.fits", truth)
    tables.write(tables.tractor_path(out_dir, brick.name), rows, conditions)


def make_brick(spec: SurveySpec, name: str, out_dir) -> dict:
    """Simulate one brick and write its files; a brick that is there already is left as it is.

    The folder of coadds is renamed into place last, so it is whole, and so are the catalogue and the truth
    beside it, whenever the process is killed.
    """
    started = time.monotonic()
    brick, folder = geometry.by_name(name), coadd_folder(out_dir, name)
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
        try:
            _write_brick(spec, brick, partial, Path(out_dir))
            partial.chmod(0o755)
            os.rename(partial, folder)
        except OSError:
            if not folder.exists():  # else another process has made the same brick, byte for byte
                raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    rows = fits.getdata(tables.tractor_path(out_dir, name), 1)
    lrgs = int(catalogue.is_lrg(rows).sum())
    return {"brickname": name, "objects": len(rows), "lrgs": lrgs, "seconds": time.monotonic() - started}


def finish(spec: SurveySpec, out_dir) -> None:
    """Write the sweeps and the lists of bricks, and clear what killed processes left; needs every brick."""
    for partial in Path(out_dir).glob(f"coadd/*/{PARTIAL}*"):
        shutil.rmtree(partial, ignore_errors=True)
    tables.write_sweeps(spec, Path(out_dir))
    tables.write_bricks(spec, Path(out_dir))
