"""Sweep and tractor catalogues (DR8, DR9, DR10 columns): where they are, and their columns as arrays."""

import glob
import os
import re
import zlib
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits

from lib import place
from lib.errors import InputError
from lib.place import Place
from lib.schemas import BANDS
from lib.survey import geometry

IDENTITY = ("BRICKNAME", "TYPE", "RA", "DEC", *(f"FLUX_{b.upper()}" for b in BANDS))
# What a sweep has besides, and what stands in for it where a catalogue without it is explicitly allowed.
DETAILS: dict[str, float] = {"RELEASE": 0, "MASKBITS": 0, "EBV": np.nan} | {
    f"{name}_{b.upper()}": value
    for b in BANDS
    for name, value in (("MW_TRANSMISSION", 1.0), ("NOBS", 0), ("FRACMASKED", np.nan), ("PSFDEPTH", np.nan))
}
INTEGERS = ("RELEASE", "BRICKID", "OBJID", "MASKBITS", *(f"NOBS_{b.upper()}" for b in BANDS))

# The catalogues themselves, not the photo-z, light-curve and extra-column files beside them.
NAME = re.compile(r"(sweep-\d{3}[mp]\d{3}-\d{3}[mp]\d{3}|tractor-\d{4}[mp]\d{3})\.(fits|fits\.gz|parquet)")
# (folder, in folders under it too, how the names begin); not everywhere: a survey has millions of other files
SURVEY = (("sweep", True, "sweep-"), ("", False, "sweep-"), ("tractor", True, "tractor-"))
FOLDER = (("", True, "sweep-"), ("", True, "tractor-"))
SUMMARY = "survey-bricks-*.fits*"
WANTED = {*IDENTITY, *DETAILS, "BRICKID", "OBJID", "BRICK_PRIMARY", "FRACDEV", *(f"PSFSIZE_{b.upper()}" for b in BANDS)} | {
    f"SHAPE{kind}_{part}" for kind in ("", "DEV", "EXP") for part in ("R", "E1", "E2")
}


def find(folder: Path | str | Place, where: tuple[tuple[str, bool, str], ...] = SURVEY) -> list[str]:
    """The catalogues of a survey folder, local or of a bucket: its sweeps, or where there are none its tractor files."""
    survey = folder if isinstance(folder, Place) else place.at(folder)
    for under, deep, start in where:
        names = [f.name for f in survey.files(under)] if deep else survey.names(under)
        found = sorted(n for n in names if (last := n.rpartition("/")[2]).startswith(start) and NAME.fullmatch(last))
        folders = sorted({f"{survey}/{n}".rpartition("/")[0] for n in found})
        if start == "sweep-" and len(folders) > 1:
            raise InputError(f"sweeps of several versions would give every galaxy twice: {', '.join(folders)}; name them with --catalogue")
        twice = [stem for stem, n in Counter(n.rpartition("/")[2].split(".")[0] for n in found).items() if n > 1]
        if twice:
            raise InputError(f"{survey}: {len(twice)} catalogues are there more than once, such as {twice[0]}; name them with --catalogue")
        if found:
            return [survey.url(n) for n in found]
    raise InputError(f"no sweep-*.fits or tractor-*.fits in {survey}, nor .fits.gz or .parquet")


def named(addresses) -> list[str]:
    """The catalogues that files, folders and globs name, each once; in a bucket ``?`` begins options, so globs have ``*`` and ``[]``."""
    found = [name for address in map(str, addresses) for name in (_named if place.at(address).local else _in_bucket)(address)]
    return list({os.path.realpath(name) if place.at(name).local else name: name for name in found}.values())


def _named(address: str) -> list[str]:
    path = str(place.at(address))
    if os.path.isdir(path):
        return find(path, FOLDER)
    if os.path.exists(path) or not any(c in path for c in "*?["):
        return [path]
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        raise InputError(f"no file matches {path}")
    return [name for match in found for name in (find(match, FOLDER) if os.path.isdir(match) else [match])]


def _in_bucket(address: str) -> list[str]:
    whole = place.at(address)
    bucket, *parts = whole.address.removeprefix("s3://").split("/")
    fixed = next((k for k, part in enumerate(parts) if any(c in part for c in "*[")), None)
    if fixed is None:
        folder, name = place.split(address) if parts else (whole, "")
        if name and folder.has(name):
            return [whole.url()]
        if not whole.exists():
            raise InputError(f"no such file or folder: {whole}")
        return find(whole, FOLDER)
    top, pattern = Place("/".join([f"s3://{bucket}", *parts[:fixed]]), whole.options, whole.patience), parts[fixed:]
    matches = {}  # a folder that matches stands for its catalogues
    for file in top.files():
        steps = file.name.split("/")
        k = next((k for k in range(1, len(steps) + 1) if _matches(steps[:k], pattern)), 0)
        if k:
            matches["/".join(steps[:k])] = k == len(steps)
    if not matches:
        raise InputError(f"no file matches {whole}")
    return [name for match, is_file in sorted(matches.items()) for name in ([top.url(match)] if is_file else find(top / match, FOLDER))]


def _matches(steps: list[str], pattern: list[str]) -> bool:
    """Whether a path's steps match a glob's, ``**`` any number of them, as ``glob`` does on a disk."""
    if not pattern or not steps:
        return not steps and all(p == "**" for p in pattern)
    if pattern[0] == "**":
        return any(_matches(steps[k:], pattern[1:]) for k in range(len(steps) + 1))
    return fnmatchcase(steps[0], pattern[0]) and _matches(steps[1:], pattern[1:])


def read(address: str, allow_columns_missing: bool = False) -> tuple[dict[str, np.ndarray], set[str]]:
    """(columns of a catalogue, names of those filled in); names in upper case, native byte order, text as bytes without padding.

    FITS or Parquet. A file that is not one, or lacks columns, is an ``InputError`` that names it and all it lacks.
    """
    folder, name = place.split(address)
    path = f"{folder}/{name}"
    try:
        columns = _parquet(folder, name) if name.endswith(".parquet") else _fits(address)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except StopIteration:
        raise InputError(f"{path}: no table in it") from None
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"{path}: {error}") from error
    lacking = [name for name in IDENTITY if name not in columns]
    absent = {name for name in (*DETAILS, "BRICKID", "OBJID") if name not in columns}
    shapes = [{"SHAPE_R", "SHAPE_E1", "SHAPE_E2"}, {"FRACDEV"} | {f"SHAPE{kind}_{p}" for kind in ("DEV", "EXP") for p in ("R", "E1", "E2")}]
    if not any(s <= columns.keys() for s in shapes):
        absent.add("SHAPE_R")
    if lacking or (absent and not allow_columns_missing):
        missing = ", ".join(lacking + sorted(absent))
        raise InputError(f"{path}: not a sweep, columns missing: {missing}")
    nulls = [name for name in INTEGERS if name in columns and not np.isfinite(columns[name]).all()]
    if nulls:
        raise InputError(f"{path}: nulls in {', '.join(nulls)}")
    return columns | _stand_ins(columns, absent), absent


def _stand_ins(columns, absent) -> dict[str, np.ndarray]:
    """What is known of absent columns: the brick from the place, a number in the brick from the order, or nothing."""
    size, made = len(columns["RA"]), {}
    for name in absent - {"SHAPE_R", "BRICKID", "OBJID"}:
        made[name] = np.full(size, DETAILS[name])
    if "SHAPE_R" in absent:
        made |= {f"SHAPE_{k}": np.full(size, np.nan) for k in ("R", "E1", "E2")}
    if "BRICKID" in absent:
        known = np.isfinite(columns["RA"]) & (np.abs(columns["DEC"]) <= 90)
        made["BRICKID"] = np.zeros(size, np.int64)
        made["BRICKID"][known] = geometry.brickids(columns["RA"][known], columns["DEC"][known])
    if "OBJID" in absent:
        brickid = (columns | made)["BRICKID"]
        order = np.argsort(brickid, kind="stable")
        _, first, count = np.unique(brickid[order], return_index=True, return_counts=True)
        made["OBJID"] = np.empty(size, np.int64)
        made["OBJID"][order] = np.arange(size) - np.repeat(first, count)
    return made


def _fits(address: str) -> dict[str, np.ndarray]:
    # a real sweep has 200 columns and millions of rows: touch what is needed
    with place.fetched(address) as path, fits.open(path, memmap=True) as hdus:
        data = next(h.data for h in hdus if isinstance(h, fits.BinTableHDU))
        raw = data.view(np.ndarray)  # text as it is in the file: astropy would decode it row by row
        kinds = {name: raw.dtype[name].kind for name in data.names if name.upper() in WANTED}
        return {name.upper(): _text(raw[name]) if kind == "S" else _native(data[name]) for name, kind in kinds.items()}


def _native(values) -> np.ndarray:
    return np.array(values, dtype=values.dtype.newbyteorder("="))


def _text(values) -> np.ndarray:
    return np.strings.strip(np.asarray(values).astype("S"))


def _parquet(folder: Place, name: str) -> dict[str, np.ndarray]:
    with folder.open(name) as opened:
        return _columns(pq.ParquetFile(opened))


def _columns(file: pq.ParquetFile) -> dict[str, np.ndarray]:
    table = file.read([name for name in file.schema_arrow.names if name.upper() in WANTED])
    found = {name.upper(): table[name].to_numpy(zero_copy_only=False) for name in table.column_names}
    return {name: _text(values) if values.dtype.kind == "O" and name in ("TYPE", "BRICKNAME") else values for name, values in found.items()}


def size_files(survey: Place) -> list[str]:
    """The survey's brick summaries."""
    return [survey.url(name) for name in survey.names() if fnmatchcase(name, SUMMARY)]


def brick_sizes(survey: Place) -> dict[str, tuple]:
    """Mean psfsize in g, r, z of each brick, from the survey's brick summary; empty where there is none."""
    found: dict[str, tuple] = {}
    for file in size_files(survey):
        with place.fetched(file) as path, fits.open(path) as hdus:
            data = hdus[1].data
            names = {n.lower() for n in data.columns.names}
            if {f"psfsize_{b}" for b in BANDS} <= names:
                sizes = np.stack([np.asarray(data[f"psfsize_{b}"], float) for b in BANDS], axis=1)
                found |= dict(zip(map(str, data["brickname"]), map(tuple, sizes), strict=True))
    return found
