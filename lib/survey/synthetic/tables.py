"""The survey's tables: sweeps, and the two lists of bricks."""

import gzip
import os
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits

from lib.survey.geometry import BrickGeometry
from lib.survey.synthetic.catalogue import SWEEP, extended_depth
from lib.survey.synthetic.coadds import Band
from lib.survey.synthetic.spec import BANDS, SurveySpec, brick_list, ebv

SWEEP_DEG = (10, 5)  # a sweep file's extent in RA and dec
BRICK = np.dtype([
    ("brickname", "S8"), ("brickid", "i4"), ("brickq", "i2"), ("brickrow", "i4"), ("brickcol", "i4"),
    *((name, "f8") for name in ("ra", "dec", "ra1", "ra2", "dec1", "dec2")),
])  # fmt: skip
CONDITIONS = np.dtype([
    ("brickname", "S8"), ("ra", "f8"), ("dec", "f8"), ("survey_primary", "?"),
    *((f"nexp_{band}", "i2") for band in BANDS),
    *((f"{name}_{band}", "f4") for name in ("psfsize", "psfdepth", "galdepth") for band in BANDS),
    ("ebv", "f4"), ("nobjs", "i4"),
])  # fmt: skip
THIN = (slice(None, None, 4), slice(None, None, 4))  # px that a brick's medians are taken of


def write(path: Path, *tables) -> None:
    """Tables in HDU 1 and on, in place at once and whole; gzip without a clock where the name ends so."""
    stream = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *(fits.BinTableHDU(table) for table in tables)]).writeto(stream)
    data = gzip.compress(stream.getvalue(), mtime=0) if path.suffix == ".gz" else stream.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(path)


def conditions(band: Band, primary) -> dict[str, float]:
    """A band over the unique area, named as in the surveys' list of bricks; depths are 5 sigma AB magnitudes."""
    inside, name = primary[THIN], band.band
    psfsize, depth = band.psfsize[THIN][inside], band.depth[THIN][inside]
    size, point = psfsize[psfsize > 0].mean(dtype=float), np.median(depth[depth > 0])
    return {
        f"nexp_{name}": np.median(band.nexp[THIN][inside]),
        f"psfsize_{name}": size,
        f"psfdepth_{name}": 22.5 - 2.5 * np.log10(5.0 / np.sqrt(point)),
        f"galdepth_{name}": 22.5 - 2.5 * np.log10(5.0 / np.sqrt(extended_depth(point, size))),
    }


def conditions_row(spec: SurveySpec, brick: BrickGeometry, nobjs: int, measured: dict[str, float]) -> np.ndarray:
    """One row of the list of bricks."""
    row = np.zeros(1, CONDITIONS)
    place = {"brickname": brick.name, "ra": brick.ra, "dec": brick.dec, "survey_primary": True, "nobjs": nobjs}
    for name, value in (place | measured | {"ebv": ebv(spec, brick.ra, brick.dec)}).items():
        row[name] = value
    return row


def tractor_path(out_dir: Path, brick: str) -> Path:
    return Path(out_dir) / "tractor" / brick[:3] / f"tractor-{brick}.fits"


def sweep_name(ra: int, dec: int) -> str:
    """
    >>> sweep_name(150, 0), sweep_name(0, -5)
    ('sweep-150p000-160p005.fits', 'sweep-000m005-010p000.fits')
    """
    corners = ((ra, dec), (ra + SWEEP_DEG[0], dec + SWEEP_DEG[1]))
    return "-".join(["sweep", *(f"{a:03d}{'m' if d < 0 else 'p'}{abs(d):03d}" for a, d in corners)]) + ".fits"


def _cell(ra, dec):
    """South-west corner of the sweep of each position."""
    step_ra, step_dec = SWEEP_DEG
    return np.floor_divide(ra, step_ra).astype(int) * step_ra, np.floor_divide(dec, step_dec).astype(int) * step_dec


def _cells_of(brick: BrickGeometry) -> set[tuple[int, int]]:
    edges = (brick.ra1, np.nextafter(brick.ra2, 0.0)), (brick.dec1, np.nextafter(brick.dec2, -90.0))
    return {(int(c[0]), int(c[1])) for c in (_cell(ra, dec) for ra in edges[0] for dec in edges[1])}


def write_sweeps(spec: SurveySpec, out_dir: Path) -> None:
    """All rows of the bricks' catalogues, by cell of the sky and then by brick."""
    members: dict[tuple[int, int], list[str]] = {}
    for brick in sorted(brick_list(spec), key=lambda b: b.brickid):
        for cell in _cells_of(brick):
            members.setdefault(cell, []).append(brick.name)
    for cell, names in sorted(members.items()):
        tables = [fits.getdata(tractor_path(out_dir, name), 1) for name in names]
        table = np.concatenate([np.asarray(t).astype(SWEEP) for t in tables])
        ra, dec = _cell(table["RA"], table["DEC"])
        table = table[(ra == cell[0]) & (dec == cell[1])]
        if len(table):
            write(Path(out_dir) / "sweep" / "10.1" / sweep_name(*cell), table)


def write_bricks(spec: SurveySpec, out_dir: Path) -> None:
    """``survey-bricks.fits.gz``, the geometry, and ``survey-bricks-dr10-south.fits.gz``, the conditions."""
    bricks = sorted(brick_list(spec), key=lambda b: b.brickid)
    plain = np.zeros(len(bricks), BRICK)
    for i, b in enumerate(bricks):
        quarter = b.row % 2 * 2 + b.col % 2
        plain[i] = (b.name, b.brickid, quarter, b.row, b.col, b.ra, b.dec, b.ra1, b.ra2, b.dec1, b.dec2)
    measured = [np.asarray(fits.getdata(tractor_path(out_dir, b.name), 2)).astype(CONDITIONS) for b in bricks]
    write(Path(out_dir) / "survey-bricks.fits.gz", plain)
    write(Path(out_dir) / "survey-bricks-dr10-south.fits.gz", np.concatenate(measured))
