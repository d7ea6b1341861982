"""Sweep and tractor catalogues (DR8, DR9, DR10 columns) as PARENT columns, cut by a named selection."""

import re
from collections.abc import Set
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units
from astropy.io import fits
from astropy_healpix import HEALPix

from lib import draws, rows
from lib.errors import InputError
from lib.imaging import photometry
from lib.schemas import BANDS, PARENT, SPLITS
from lib.survey import geometry
from lib.tiers import Selection, Split

IDENTITY = ("BRICKNAME", "TYPE", "RA", "DEC", *(f"FLUX_{b.upper()}" for b in BANDS))
# What a sweep has besides, and what stands in for it where a catalogue without it is explicitly allowed.
DETAILS: dict[str, float] = {"RELEASE": 0, "MASKBITS": 0, "EBV": np.nan} | {
    f"{name}_{b.upper()}": value
    for b in BANDS
    for name, value in (("MW_TRANSMISSION", 1.0), ("NOBS", 0), ("FRACMASKED", np.nan), ("PSFDEPTH", np.nan))
}

# The catalogues themselves, not the photo-z, light-curve and extra-column files beside them.
NAME = re.compile(r"sweep-\d{3}[mp]\d{3}-\d{3}[mp]\d{3}\.fits|tractor-\d{4}[mp]\d{3}\.fits")
WANTED = {*IDENTITY, *DETAILS, "BRICKID", "OBJID", "BRICK_PRIMARY", "FRACDEV", *(f"PSFSIZE_{b.upper()}" for b in BANDS)} | {
    f"SHAPE{kind}_{part}" for kind in ("", "DEV", "EXP") for part in ("R", "E1", "E2")
}


def find(survey: Path) -> list[str]:
    """The catalogues of a survey folder: its sweeps, or where there are none its tractor files."""
    for pattern in ("sweep/**/sweep-*.fits", "sweep-*.fits", "tractor/**/tractor-*.fits"):
        found = [p for p in sorted(survey.glob(pattern)) if NAME.fullmatch(p.name)]
        folders = sorted({str(p.parent) for p in found})
        if pattern.startswith("sweep/") and len(folders) > 1:
            raise InputError(f"sweeps of several versions would give every galaxy twice: {', '.join(folders)}; name them with --catalogue")
        if found:
            return [str(p) for p in found]
    raise InputError(f"no sweep-*.fits or tractor-*.fits in {survey}")


def read(path: str, allow_columns_missing: bool = False) -> tuple[dict[str, np.ndarray], set[str]]:
    """(columns of a catalogue, names of those filled in); names in upper case, native byte order, strings stripped.

    FITS or Parquet. A file that is not one, or lacks columns, is an ``InputError`` that names it and all it lacks.
    """
    try:
        columns = _parquet(path) if path.endswith(".parquet") else _fits(path)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except StopIteration:
        raise InputError(f"{path}: no table in it") from None
    except (OSError, ValueError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"{path}: {error}") from error
    lacking = [name for name in IDENTITY if name not in columns]
    absent = {name for name in (*DETAILS, "BRICKID", "OBJID") if name not in columns}
    shapes = [{"SHAPE_R", "SHAPE_E1", "SHAPE_E2"}, {"FRACDEV"} | {f"SHAPE{kind}_{p}" for kind in ("DEV", "EXP") for p in ("R", "E1", "E2")}]
    if not any(s <= columns.keys() for s in shapes):
        absent.add("SHAPE_R")
    if lacking or (absent and not allow_columns_missing):
        missing = ", ".join(lacking + sorted(absent))
        raise InputError(f"{path}: not a sweep, columns missing: {missing}")
    size = len(columns["RA"])
    for name in absent:
        if name == "SHAPE_R":
            columns |= {f"SHAPE_{k}": np.full(size, np.nan) for k in ("R", "E1", "E2")}
        elif name == "OBJID":
            columns[name] = np.arange(size)
        elif name == "BRICKID":
            known = np.isfinite(columns["RA"]) & (np.abs(columns["DEC"]) <= 90)
            columns[name] = np.zeros(size, np.int64)
            columns[name][known] = geometry.brickids(columns["RA"][known], columns["DEC"][known])
        else:
            columns[name] = np.full(size, DETAILS[name])
    return columns, absent


def _fits(path: str) -> dict[str, np.ndarray]:
    with fits.open(path, memmap=True) as hdus:  # a real sweep has 200 columns and millions of rows: touch what is needed
        data = next(h.data for h in hdus if isinstance(h, fits.BinTableHDU))
        found = {name.upper(): np.array(data[name]) for name in data.columns.names if name.upper() in WANTED}
    return {k: np.char.strip(v) if v.dtype.kind in "SU" else v.astype(v.dtype.newbyteorder("=")) for k, v in found.items()}


def _parquet(path: str) -> dict[str, np.ndarray]:
    table = pq.ParquetFile(path).read()
    found = {name.upper(): table[name].to_numpy(zero_copy_only=False) for name in table.column_names if name.upper() in WANTED}
    return {k: np.char.strip(v.astype(str)) if v.dtype.kind == "O" else v for k, v in found.items()}


def _shape(c: dict[str, np.ndarray]):
    """Half-light radius and ellipticity: SHAPE_* since DR9, before that by type, composites by flux."""
    if "SHAPE_R" in c:
        return c["SHAPE_R"], c["SHAPE_E1"], c["SHAPE_E2"]
    kind = c["TYPE"].astype(str)
    dev = np.where(kind == "DEV", 1.0, np.where(kind == "COMP", c["FRACDEV"], 0.0))
    return tuple(dev * c[f"SHAPEDEV_{k}"] + (1.0 - dev) * c[f"SHAPEEXP_{k}"] for k in ("R", "E1", "E2"))


def select(c: dict[str, np.ndarray], cuts: Selection, absent: Set[str] = frozenset()) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows pass, and how many are left after each cut, in their order; a cut on an absent column is left out."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mags = {b: photometry.mag(c[f"FLUX_{b.upper()}"] / c[f"MW_TRANSMISSION_{b.upper()}"]) for b in BANDS}
    gr, rz = mags["g"] - mags["r"], mags["r"] - mags["z"]
    on_sky = np.isfinite(c["RA"]) & (c["RA"] >= 0) & (c["RA"] <= 360) & (np.abs(c["DEC"]) <= 90)
    bad = sum(1 << bit for bit in cuts.exclude_maskbits)
    everything = np.ones(len(gr), bool)
    steps = {
        "on the sky, positive flux in g, r, z": ((), on_sky & np.isfinite(gr) & np.isfinite(rz)),
        "brick primary": ((), c.get("BRICK_PRIMARY", everything).astype(bool)),
        "type is not PSF": ((), c["TYPE"].astype(str) != "PSF" if cuts.not_psf else everything),
        f"{cuts.r_min:g} < r < {cuts.r_max:g}": ((), (mags["r"] > cuts.r_min) & (mags["r"] < cuts.r_max)),
        f"g - r > {cuts.gr_min:g}": ((), gr > cuts.gr_min),
        f"r - z > {cuts.rz_min:g}": ((), rz > cuts.rz_min),
        f"nobs >= {cuts.nobs_min}": (
            [f"NOBS_{b.upper()}" for b in BANDS],
            np.min([c[f"NOBS_{b.upper()}"] for b in BANDS], axis=0) >= cuts.nobs_min,
        ),
        f"fracmasked_g < {cuts.fracmasked_g_max:g}": (["FRACMASKED_G"], c["FRACMASKED_G"] < cuts.fracmasked_g_max),
        f"dec < {cuts.dec_max_deg:g}": ((), c["DEC"] < cuts.dec_max_deg),
        f"no mask bit of {cuts.exclude_maskbits}": (["MASKBITS"], (c["MASKBITS"].astype(np.int64) & bad) == 0),
    }
    keep, counts = everything, {"rows": len(gr)}
    for name, (columns, passed) in steps.items():
        if absent & set(columns):
            name += f" (not applied: no {', '.join(columns)})"
        else:
            keep = keep & passed
        counts[name] = int(keep.sum())
    return keep, counts


def cells(ra_deg, dec_deg, split: Split):
    """(HEALPix cell, split index) of positions: the split is a hash of the cell and of nothing else."""
    cell = HEALPix(split.nside, order="nested").lonlat_to_healpix(np.asarray(ra_deg) * units.deg, np.asarray(dec_deg) * units.deg)
    edges = np.cumsum([split.fractions[name] for name in SPLITS])[:-1]
    return cell, np.searchsorted(edges, draws.uniform("split", split.seed, cell), side="right")


def near_other_split(ra_deg, dec_deg, split: Split, radius_arcsec: float) -> np.ndarray:
    """Whether a cell of another split lies within a radius: probed on a circle of 24 directions."""
    own = cells(ra_deg, dec_deg, split)[1]
    near = np.zeros(len(own), bool)
    for turn in np.arange(24) * np.pi / 12:
        dec = np.clip(dec_deg + radius_arcsec / 3600.0 * np.sin(turn), -90, 90)
        ra = (ra_deg + radius_arcsec / 3600.0 * np.cos(turn) / np.maximum(np.cos(np.radians(dec_deg)), 1e-6)) % 360
        near |= cells(ra, dec, split)[1] != own
    return near


def size_files(survey: Path) -> list[Path]:
    """The survey's brick summaries."""
    return sorted(survey.glob("survey-bricks-*.fits*"))


def brick_sizes(survey: Path) -> dict[str, tuple]:
    """Mean psfsize in g, r, z of each brick, from the survey's brick summary; empty where there is none."""
    found: dict[str, tuple] = {}
    for file in size_files(survey):
        with fits.open(file) as hdus:
            data = hdus[1].data
            names = {n.lower() for n in data.columns.names}
            if {f"psfsize_{b}" for b in BANDS} <= names:
                sizes = np.stack([np.asarray(data[f"psfsize_{b}"], float) for b in BANDS], axis=1)
                found |= dict(zip(map(str, data["brickname"]), map(tuple, sizes), strict=True))
    return found


def parent(path: str, cuts: Selection, split: Split, guard_arcsec: float, sizes: dict[str, tuple], allow_columns_missing=False):
    """(PARENT rows of one catalogue, count left after each cut)."""
    c, absent = read(path, allow_columns_missing)
    keep, counts = select(c, cuts, absent)
    c = {name: values[keep] for name, values in c.items()}
    size = len(c["RA"])
    if not size:
        return PARENT.empty_table(), counts
    cell, part = cells(c["RA"], c["DEC"], split)
    radius, e1, e2 = _shape(c)
    release, brickid, objid = (c[k].astype(np.int64) for k in ("RELEASE", "BRICKID", "OBJID"))
    ids, which = np.unique(brickid, return_inverse=True)
    try:
        brick = np.array([(g.ra, g.dec) for g in map(geometry.by_id, ids)])[which]
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    columns: dict = {
        "galaxy_id": (release << 42) | (brickid << 20) | objid,
        "brickname": c["BRICKNAME"].astype(str), "objid": objid, "release": release, "brickid": brickid,
        "ra_deg": c["RA"], "dec_deg": c["DEC"], "brick_ra_deg": brick[:, 0], "brick_dec_deg": brick[:, 1],
        "type": c["TYPE"].astype(str), "shape_r_arcsec": _null(radius), "shape_e1": _null(e1), "shape_e2": _null(e2),
        "ebv_mag": _null(c["EBV"]), "maskbits": c["MASKBITS"].astype(np.int32), "sky_cell": cell,
        "split": np.array(SPLITS)[part], "selection": [cuts.name] * size,
        "split_guard": near_other_split(c["RA"], c["DEC"], split, guard_arcsec),
    }  # fmt: skip
    brick_sizes_here = np.array([sizes.get(name, (np.nan,) * len(BANDS)) for name in columns["brickname"]])
    for k, b in enumerate(BANDS):
        flux, up = c[f"FLUX_{b.upper()}"].astype(float), b.upper()
        columns |= {
            f"mag_{b}": _null(photometry.mag(flux / c[f"MW_TRANSMISSION_{up}"])),
            f"mag_{b}_observed": _null(photometry.mag(flux)),
            f"nobs_{b}": pa.array(c[f"NOBS_{up}"].astype(np.int32), mask=np.full(size, f"NOBS_{up}" in absent)),
            f"fracmasked_{b}": _null(c[f"FRACMASKED_{up}"]),
            f"psfdepth_{b}_mag": _null(photometry.depth_mag(c[f"PSFDEPTH_{up}"])),
            f"psfsize_{b}_arcsec": _null(c.get(f"PSFSIZE_{up}", np.zeros(size)), positive=True),
            f"brick_psfsize_{b}_arcsec": _null(brick_sizes_here[:, k], positive=True),
        }  # fmt: skip
    return rows.table(columns, PARENT), counts


def _null(values, positive=False):
    values = np.asarray(values, dtype=np.float32)
    unknown = ~np.isfinite(values) | ((values <= 0) if positive else False)
    return pa.array(values, mask=unknown)
