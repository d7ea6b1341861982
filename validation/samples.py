"""Rows of metrics that several gates and the report look at, taken in the pass over the table: samples by the hash of the ids."""

from collections import Counter

import numpy as np
import pyarrow as pa

from lib.schemas import BANDS, MAGNITUDES, SHAPE
from validation.data import Data
from validation.result import Note
from validation.tally import First, Rows, hashed, sampled

LOOKS = 20_000  # rows that are drawn in plots
EXTREMES = 12  # arcs of each gallery
EXTREME = ("task_id", "role", "arc_snr", "mag_r_observed", "src_dmag", "theta_e_arcsec")
PAIRS = 96  # of injections and paired controls
ARC = (
    "task_id", "seed", "role", "galaxy_id", "brickname", *SHAPE, *MAGNITUDES, "stamp_side_pix", "pixel_scale_arcsec",
    *(f"{kind}_{b}{unit}" for kind, unit in (("psfsize_used", "_arcsec"), ("psf_source", ""), ("flux_lensed", "")) for b in BANDS),
    "theta_e_over_psf", "arc_snr", "arc_snr_peak", "magnification", "magnification_expected",
)  # fmt: skip
LOOK = (
    "task_id", "role", "split", "ra_deg", "dec_deg", *(f"mag_{b}" for b in BANDS), "mag_r_observed", "shape_r_arcsec",
    *(f"psf_fwhm_used_{b}_arcsec" for b in BANDS), *(f"psfdepth_{b}_mag" for b in BANDS), "ebv_mag", "theta_e_arcsec", "src_dmag",
    "src_reff_arcsec", "src_e", "src_gr", "src_rz", "lens_e", "shear", "arc_snr", "arc_snr_peak", "theta_e_over_psf",
    "stamp_flux_fraction", "magnification", "magnification_expected", "bad_pixel_frac", "wise_brightmask_frac", "core_flux_fraction",
)  # fmt: skip


def _arcs(rows: Rows, asked) -> dict:
    most, arc = asked.tier.gates.magnification_sample, rows.arc
    mine = arc & sampled(rows.ids, asked.share(4 * most))
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs(rows["magnification"] / rows["magnification_expected"] - 1.0)
    snr, held, masked = rows["arc_snr"], rows["stamp_flux_fraction"], rows["bad_pixel_frac"]
    return {
        "arcs": First((rows.take(mine, dict.fromkeys(ARC)),), "task_id", most),
        "Brightest arcs": _extreme(rows, arc, snr, True), "Faintest arcs": _extreme(rows, arc, snr),
        "Farthest from their expected magnification": _extreme(rows, arc, off, True),
        "Least of their light inside the stamp": _extreme(rows, arc, held), "Most masked": _extreme(rows, rows.made, masked, True),
    }  # fmt: skip


def _extreme(rows: Rows, where: np.ndarray, values: np.ndarray, descending: bool = False) -> First:
    """The rows with the smallest or largest values that are known."""
    at = np.flatnonzero(where & ~np.isnan(values))
    if len(at) > EXTREMES:
        at = at[np.argpartition(-values[at] if descending else values[at], EXTREMES)[:EXTREMES]]
    found = pa.table({name: rows.column(name) for name in EXTREME}).take(pa.array(at))
    return First((found.append_column("by", pa.array(values[at].astype(float))),), "by", EXTREMES, descending)


def _looks(rows: Rows, asked) -> dict:
    mine = rows.made & sampled(rows.ids, asked.share(1.2 * LOOKS))
    return {"looks": First((rows.take(mine, LOOK),), "task_id", LOOKS)}


def _controls(rows: Rows, asked) -> dict:
    """Controls that were made, by role, with the ids of their injections."""
    names, out = ("task_id", "pair_id", "role", "mag_r_observed", "match_rung"), {}
    some = rows.made & sampled(rows.ids, asked.share(50 * PAIRS))
    for role, mine, most in (("paired_control", some, PAIRS), ("unpaired_control", some, EXTREMES), ("hard_negative", rows.made, EXTREMES)):
        out[role] = First((rows.take(mine & rows.isin("role", [role]), names),), "pair_id", most)
    return out


def _roles(rows: Rows, asked) -> dict:
    return {"by": Counter(rows.counts("role", "split", "status"))}


ARCS = Note("arcs", "metrics", _arcs)
LOOK_ROWS = Note("looks", "metrics", _looks)
CONTROLS = Note("controls", "metrics", _controls)
ROLES = Note("roles", "metrics", _roles)
ALL = (ARCS, LOOK_ROWS, CONTROLS, ROLES)


def arcs(data: Data) -> list[dict]:
    """Injections that were made: those of the smallest ids (which are hashes), as many as the tier asks for."""
    return data.noted(ARCS)["arcs"].rows.to_pylist()


def numbers(ids) -> np.ndarray:
    """Of tasks' ids, as ``Data.where`` wants them."""
    return hashed(pa.array(list(ids), pa.string()))
