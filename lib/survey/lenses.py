"""Lists of known lenses, in the formats that such lists come in, and the match with them on the sky."""

import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy import units
from astropy.table import Table
from scipy.spatial import cKDTree

from lib import place
from lib.errors import InputError

# Names of the columns in published lists, in lower case.
RA = ("ra", "ra_deg", "radeg", "raj2000", "ra_j2000", "alpha_j2000", "target_ra")
DEC = ("dec", "dec_deg", "dedeg", "decdeg", "dej2000", "decj2000", "dec_j2000", "delta_j2000", "target_dec")
SEXAGESIMAL = re.compile(r"\s*[+-]?\d+\s*[:hd° ]\s*\d+")
FORMATS = {".csv": "ascii.csv", ".tsv": "ascii.tab", ".ecsv": "ascii.ecsv", ".fits": "fits", ".parquet": "parquet"}


def read(paths) -> tuple[np.ndarray, np.ndarray, int]:
    """(ra, dec) of the lenses in all lists, degrees, and how many rows of them have no place on the sky."""
    found = [_positions(str(path)) for path in paths]
    ra, dec = (np.concatenate([np.empty(0), *columns]) for columns in zip(*found, strict=True)) if found else (np.empty(0), np.empty(0))
    placed = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    return ra[placed] % 360.0, dec[placed], int((~placed).sum())


def _positions(path: str):
    return listed(path)[1:]


def listed(path: str) -> tuple[dict, np.ndarray, np.ndarray]:
    """(columns, ra, dec) of a list, degrees, NaN where a place is missing."""
    folder, name = place.split(path)
    path = f"{folder}/{name}"
    kind = FORMATS.get(Path(name.removesuffix(".gz")).suffix.lower())
    if kind is None:
        raise InputError(f"{path}: a list of lenses must be one of {', '.join(FORMATS)}")
    try:
        with place.fetched(folder.url(name)) as file:
            columns = _columns(str(file), kind)
        return columns, _degrees(path, columns, "right ascension", RA), _degrees(path, columns, "declination", DEC)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"{path}: {str(error).strip() or type(error).__name__}") from error


def _columns(path: str, kind: str) -> dict:
    if kind == "parquet":
        made = pq.ParquetFile(path).read()
        return {name: made[name].to_numpy(zero_copy_only=False) for name in made.column_names}
    table = Table.read(path, format=kind)
    return {name: table[name] for name in table.colnames}


def _degrees(path: str, columns: dict, what: str, known: tuple[str, ...]) -> np.ndarray:
    """A column found by its name, in degrees, NaN where a value is missing; text there is an error."""
    found = [name for name in columns if name.strip().lower() in known]
    if len(found) != 1:
        fault = f"{what} may be {' or '.join(found)}" if found else f"no column of {what} (known: {', '.join(known)})"
        raise InputError(f"{path}: {fault}; columns there: {', '.join(columns)}")
    column = columns[found[0]]
    unit = getattr(column, "unit", None)
    try:
        degrees = np.ma.filled(np.ma.asarray(column).astype(float), np.nan)
    except (ValueError, TypeError) as error:
        text = next((str(value) for value in column if _no_number(value)), str(error))
        why = "hours or degrees with minutes and seconds" if SEXAGESIMAL.match(text) else "no number"
        raise InputError(f"{path}: column {found[0]} must be decimal degrees (like 150.1163), {text!r} is {why}") from error
    return np.asarray(degrees) * (unit.to(units.deg) if unit else 1.0)


def _no_number(value) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return value is not None and not np.ma.is_masked(value)
    return False


def near(ra_deg, dec_deg, lenses, radius_arcsec: float) -> np.ndarray:
    """Whether one of ``lenses``, (ra, dec) in degrees, lies within a radius of each position."""
    if not len(lenses[0]) or not len(ra_deg):
        return np.zeros(len(ra_deg), bool)
    chord = 2.0 * np.sin(np.radians(radius_arcsec / 3600.0) / 2.0)
    distance, _ = cKDTree(vectors(*lenses)).query(vectors(ra_deg, dec_deg), distance_upper_bound=chord * (1.0 + 1e-9))
    return np.isfinite(distance)


def vectors(ra_deg, dec_deg) -> np.ndarray:
    """Unit vectors (n, 3) of positions."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
