"""Catalogue columns as PARENT rows: dirty rows told by reason, cut by a named selection, flagged by others."""

import numpy as np
import pyarrow as pa

from lib import rows, schemas
from lib.errors import InputError
from lib.imaging import photometry
from lib.schemas import BANDS, PARENT, SPLITS
from lib.survey import cells, geometry, lenses, sweeps
from lib.tiers import Selection, Tier

SANE_MAG = tuple(float(schemas.fact(PARENT.field("mag_r"), side)) for side in ("low", "high"))
OVER_DEG = 1.0  # a place fitted across RA 0 may come out below 0 or above 360 by less than this; it is wrapped
OBJECTS = 1 << 20  # of a brick: the width of objid in galaxy_id
ROWS = "rows"


def of_catalogue(path: str, tier: Tier, sizes: dict[str, tuple], known=None, allow_columns_missing: bool = False):
    """(PARENT rows of one catalogue, its rows and how many each step left out, in order).

    ``sizes`` has the psfsizes of bricks by name, ``known`` (ra, dec) of the lenses to keep away from, None without a list.
    """
    c, absent = sweeps.read(path, allow_columns_missing)
    c["RA"] = wrapped(c["RA"])
    mags = magnitudes(c)
    lost = {ROWS: len(c["RA"])}
    keep = np.ones(lost[ROWS], bool)
    passes = {reason: ~bad for reason, bad in dirty(c, mags).items()} | cuts(c, mags, tier.selection, absent)
    for name, passed in passes.items():
        lost[name] = int((keep & ~passed).sum())
        keep &= passed
    radius = tier.known_lenses.radius_arcsec
    if radius:
        near = lenses.near(c["RA"][keep], c["DEC"][keep], ([], []) if known is None else known, radius)
        keep[keep] = ~near
        lost[f"no known lens within {radius:g} arcsec" + (" (not applied: no list given)" if known is None else "")] = int(near.sum())
    flags = {s.name: np.all(list(cuts(c, mags, s, absent).values()), axis=0)[keep] for s in tier.flags}
    c = {name: values[keep] for name, values in c.items()}
    if not len(c["RA"]):
        return PARENT.empty_table(), lost
    if c["OBJID"].min() < 0 or c["OBJID"].max() >= OBJECTS:
        raise InputError(f"{path}: OBJID must be in 0..{OBJECTS - 1}, got {c['OBJID'].min()}..{c['OBJID'].max()}")
    return _table(c, {n: m[keep] for n, m in mags.items()}, flags, tier, sizes, absent), lost


def wrapped(ra_deg) -> np.ndarray:
    """RA in [0, 360); NaN where it is farther than ``OVER_DEG`` from that range.

    >>> wrapped([360.0, -0.001, -1e-20, 361.0]).tolist()
    [0.0, 359.999, 0.0, nan]
    """
    ra = np.asarray(ra_deg, float)
    turned = np.mod(ra, 360.0)
    turned[turned == 360.0] = 0.0
    return np.where((ra > -OVER_DEG) & (ra < 360.0 + OVER_DEG), turned, np.nan)


def magnitudes(c) -> dict[str, np.ndarray]:
    """AB magnitudes by band, corrected for extinction, and as observed under ``{band}_observed``; NaN without a flux."""
    found = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for b in BANDS:
            flux = c[f"FLUX_{b.upper()}"].astype(float)
            found[b] = photometry.mag(flux / c[f"MW_TRANSMISSION_{b.upper()}"])
            found[f"{b}_observed"] = photometry.mag(flux)
    return found


def dirty(c, mags) -> dict[str, np.ndarray]:
    """Rows that are no measurement of a galaxy, by reason; a row counts at its first."""
    flux, through = (np.stack([c[f"{name}_{b.upper()}"] for b in BANDS]) for name in ("FLUX", "MW_TRANSMISSION"))
    ids, which = np.unique(c["BRICKID"].astype(np.int64), return_inverse=True)
    public = (ids >= 1) & (ids <= geometry.BRICKS)
    names = np.zeros(len(ids), "S8")
    names[public] = geometry.names(ids[public])
    low, high = SANE_MAG
    bands = ", ".join(BANDS[:-1]) + f" or {BANDS[-1]}"
    with np.errstate(invalid="ignore"):
        return {
            "dirty: no place on the sky": ~(np.isfinite(c["RA"]) & (np.abs(c["DEC"]) <= 90.0)),
            "dirty: TYPE is DUP": c["TYPE"] == b"DUP",
            "dirty: no public brick of that BRICKID and BRICKNAME": ~public[which] | (names[which] != c["BRICKNAME"]),
            f"dirty: FLUX is not a number in {bands}": ~np.isfinite(flux).all(axis=0),
            f"dirty: FLUX <= 0 in {bands}": (flux <= 0).any(axis=0),
            f"dirty: MW_TRANSMISSION not in (0, 1] in {bands}": ~((through > 0) & (through <= 1)).all(axis=0),
            f"dirty: absurd flux, not of magnitude {low:g} to {high:g} in {bands}": ~np.all(
                [(low <= m) & (m <= high) for m in mags.values()], axis=0
            ),
        }


def cuts(c, mags, s: Selection, absent) -> dict[str, np.ndarray]:
    """Rows that pass each cut of a selection; a cut on a column that is absent passes all, and says so."""
    gr, rz = mags["g"] - mags["r"], mags["r"] - mags["z"]
    bad = sum(1 << bit for bit in s.exclude_maskbits)
    nobs = [f"NOBS_{b.upper()}" for b in BANDS]
    with np.errstate(invalid="ignore"):
        steps: dict[str, tuple] = {
            "in its brick's unique area": ((), _primary(c)),
            "type is not PSF": ((), (c["TYPE"] != b"PSF") | (not s.not_psf)),
            f"{s.r_min:g} < r < {s.r_max:g}": ((), (mags["r"] > s.r_min) & (mags["r"] < s.r_max)),
            f"g - r > {s.gr_min:g}": ((), gr > s.gr_min),
            f"r - z > {s.rz_min:g}": ((), rz > s.rz_min),
            f"nobs >= {s.nobs_min}": (nobs, np.min([c[name] for name in nobs], axis=0) >= s.nobs_min),
            f"fracmasked_g < {s.fracmasked_g_max:g}": (["FRACMASKED_G"], c["FRACMASKED_G"] < s.fracmasked_g_max),
            f"dec < {s.dec_max_deg:g}": ((), c["DEC"] < s.dec_max_deg),
            f"no mask bit of {s.exclude_maskbits}": (["MASKBITS"], (c["MASKBITS"].astype(np.int64) & bad) == 0),
        }
    found = {}
    for name, (columns, passed) in steps.items():
        lacking = [column for column in columns if column in absent]
        found[name + (f" (not applied: no {', '.join(lacking)})" if lacking else "")] = np.ones_like(passed) if lacking else passed
    return found


def _primary(c) -> np.ndarray:
    """Whether a row's place is its brick's own; neighbouring bricks list the others too."""
    if "BRICK_PRIMARY" in c:
        return c["BRICK_PRIMARY"].astype(bool)
    placed = np.isfinite(c["RA"]) & (np.abs(c["DEC"]) <= 90.0)
    own = np.zeros(len(placed), bool)
    own[placed] = geometry.brickids(c["RA"][placed], c["DEC"][placed]) == c["BRICKID"][placed]
    return own


def shape(c):
    """Half-light radius and ellipticity: SHAPE_* since DR9, before that by type, composites by flux."""
    if "SHAPE_R" in c:
        return c["SHAPE_R"], c["SHAPE_E1"], c["SHAPE_E2"]
    dev = np.where(c["TYPE"] == b"DEV", 1.0, np.where(c["TYPE"] == b"COMP", c["FRACDEV"], 0.0))
    return tuple(dev * c[f"SHAPEDEV_{k}"] + (1.0 - dev) * c[f"SHAPEEXP_{k}"] for k in ("R", "E1", "E2"))


def _table(c, mags, flags, tier: Tier, sizes: dict[str, tuple], absent) -> pa.Table:
    size = len(c["RA"])
    cell, part = cells.at(c["RA"], c["DEC"], tier.split)
    radius, e1, e2 = shape(c)
    release, brickid, objid = (c[k].astype(np.int64) for k in ("RELEASE", "BRICKID", "OBJID"))
    ids, which = np.unique(brickid, return_inverse=True)
    names = geometry.names(ids).astype(str)
    brick_ra, brick_dec = geometry.centres(ids)
    brick_size = np.array([sizes.get(name, (np.nan,) * len(BANDS)) for name in names.tolist()])
    columns: dict = {
        "galaxy_id": (release << 42) | (brickid << 20) | objid,
        "brickname": names[which], "objid": objid, "release": release, "brickid": brickid,
        "ra_deg": c["RA"], "dec_deg": c["DEC"], "brick_ra_deg": brick_ra[which], "brick_dec_deg": brick_dec[which],
        "type": c["TYPE"].astype(str), "shape_r_arcsec": _null(radius), "shape_e1": _null(e1), "shape_e2": _null(e2),
        "ebv_mag": _null(c["EBV"]), "maskbits": c["MASKBITS"].astype(np.int32), "sky_cell": cell,
        "split": np.array(SPLITS)[part], "selections": _lists({tier.selection.name: np.ones(size, bool)} | flags),
        "split_guard": cells.near_other_split(c["RA"], c["DEC"], tier.split, tier.guard_arcsec),
    }  # fmt: skip
    for k, b in enumerate(BANDS):
        up = b.upper()
        columns |= {
            f"mag_{b}": _null(mags[b]),
            f"mag_{b}_observed": _null(mags[f"{b}_observed"]),
            f"nobs_{b}": pa.array(c[f"NOBS_{up}"].astype(np.int32), mask=np.full(size, f"NOBS_{up}" in absent)),
            f"fracmasked_{b}": _null(c[f"FRACMASKED_{up}"]),
            f"psfdepth_{b}_mag": _null(photometry.depth_mag(c[f"PSFDEPTH_{up}"])),
            f"psfsize_{b}_arcsec": _null(c.get(f"PSFSIZE_{up}", np.zeros(size)), positive=True),
            f"brick_psfsize_{b}_arcsec": _null(brick_size[which, k], positive=True),
        }
    return rows.table(columns, PARENT)


def _lists(flags: dict[str, np.ndarray]) -> pa.ListArray:
    """For each row the names whose flag is set, in their order."""
    flag = np.stack(list(flags.values()), axis=1)
    ends = np.concatenate([[0], np.cumsum(flag.sum(axis=1))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(np.array(list(flags))[np.nonzero(flag)[1]]))


def _null(values, positive=False):
    values = np.asarray(values, dtype=np.float32)
    unknown = ~np.isfinite(values) | ((values <= 0) if positive else False)
    return pa.array(values, mask=unknown)
