"""Sources from files in the layout of GalSim's RealGalaxyCatalog, as the HST COSMOS stamps have it (Mandelbaum et al. 2012).

A catalogue (a FITS table) names for every galaxy the file and HDU of its stamp and of its PSF; the files lie beside it.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits

from lib.errors import InputError
from lib.sources import bank
from lib.sources.stamp import StampError, prepare

log = logging.getLogger(__name__)
NEEDED = ("IDENT", "MAG", "BAND", "GAL_FILENAME", "PSF_FILENAME", "GAL_HDU", "PSF_HDU", "PIXEL_SCALE", "NOISE_MEAN", "NOISE_VARIANCE")
ZERO_POINT_MAG = 25.937  # AB, of one electron a second in COSMOS F814W: what the catalogue's MAG and fluxes agree on to 1e-5
ELECTRONS = 2028.0  # of one count: the images are in electrons a second, of four exposures of 507 s (Koekemoer et al. 2007)
MAX_OFFSET_MAG = 0.5  # between the stamp's light and the catalogue's: beyond, they do not mean the same galaxy


def from_real_galaxies(
    catalogue: str, zero_point_mag: float = ZERO_POINT_MAG, electrons: float = ELECTRONS
) -> tuple[pa.Table, dict[str, str]]:
    """(SOURCES table, {source_id: why there is no source}) of every galaxy of a catalogue."""
    made: list[dict] = []
    rejected: dict[str, str] = {}
    for row, image, psf in _stamps(Path(catalogue)):
        source_id = str(row["IDENT"])
        try:
            made.append(_record(row, image, psf, source_id, zero_point_mag, electrons))
        except StampError as error:
            rejected[source_id] = str(error)
    log.info("%s: %d sources, %d stamps rejected", catalogue, len(made), len(rejected))
    return bank.table(made), rejected


def _record(row, image, psf, source_id, zero_point_mag, electrons) -> dict:
    source = prepare(image, row["PIXEL_SCALE"], psf, row["NOISE_VARIANCE"], sky_level=row["NOISE_MEAN"], electrons=electrons)
    made = bank.record(
        source, source_id, f"{row['GAL_FILENAME']}[{row['GAL_HDU']}]", band=row["BAND"], zero_point_mag=zero_point_mag, mag_catalogue=row["MAG"]
    )  # fmt: skip
    offset = made["mag_measured"] - row["MAG"]
    if not abs(offset) <= MAX_OFFSET_MAG:
        raise StampError(f"its light is {offset:+.2f} mag from the catalogue's, more than {MAX_OFFSET_MAG:g}")
    return made


def _stamps(catalogue: Path) -> Iterator[tuple[dict, np.ndarray, np.ndarray]]:
    """Rows of the catalogue with the stamp and PSF of each."""
    with ExitStack() as stack:
        files: dict[Path, fits.HDUList] = {}

        def image(name, hdu, source_id):
            path = catalogue.parent / name
            try:
                if path not in files:
                    files[path] = stack.enter_context(fits.open(path))
                return np.array(files[path][hdu].data, dtype=float)
            except FileNotFoundError as error:
                raise InputError(f"no such file: {path}, of source {source_id} in {catalogue}") from error
            except (OSError, IndexError, TypeError, ValueError) as error:
                raise InputError(f"{path}: no image in HDU {hdu}, of source {source_id}: {error}") from error

        for row in _catalogue(catalogue):
            yield row, image(row["GAL_FILENAME"], row["GAL_HDU"], row["IDENT"]), image(row["PSF_FILENAME"], row["PSF_HDU"], row["IDENT"])


def _catalogue(path: Path) -> list[dict]:
    try:
        with fits.open(path) as hdus:
            data = next(h.data for h in hdus if isinstance(h, fits.BinTableHDU))
            columns = {name.upper(): np.array(data[name]).tolist() for name in data.names if name.upper() in NEEDED}
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except StopIteration:
        raise InputError(f"{path}: no table in it") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error
    missing = sorted(set(NEEDED) - set(columns))
    if missing:
        raise InputError(f"{path} is not a RealGalaxy catalogue: no column {', '.join(missing)}")
    found = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    twice = sorted(name for name, n in Counter(row["IDENT"] for row in found).items() if n > 1)
    if twice:
        raise InputError(f"{path}: IDENT occurs twice: {', '.join(map(str, twice[:5]))}")
    return found
