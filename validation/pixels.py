"""Gates on pixels: of all stamps, or of row groups drawn from a large set; and a few arcs and stamps made again."""

from collections import Counter

import numpy as np
import pyarrow.compute as pc

from lib import cuts, injection, reader
from lib.schemas import BANDS
from validation import samples, scan
from validation.data import Data
from validation.result import gate, judged, not_applicable, too_few


@gate("planes", "stamps", "no NaN, constant or missing plane in a row that was made; none with an arc in a control", unit="rows")
def planes(data: Data, facts) -> object:
    found = scan.notes(data)
    wrong = found.get("wrong", 0)
    message = "; ".join(sorted(found.get("what", Counter()))[:5]) or "all planes are whole and finite"
    return judged(not wrong, f"{message}; {found['sample']}" if not wrong else message, measured=wrong, threshold=0, n=found["n"],
                  examples=found["which"].values if wrong else ())  # fmt: skip


@gate("arc_flux", "stamps", "the arc's pixels add up to the flux in metrics, band by band")
def arc_flux(data: Data, facts) -> object:
    found, limit = scan.notes(data), data.tier.gates.pixel_tolerance
    if not found.get("arcs"):
        return judged(False, "no arc to judge")
    return judged(not found["far"], f"{found['far']} arcs differ from flux_stamp by more than {limit:g}", measured=found["off"].value,
                  threshold=limit, n=found["arcs"], examples=found["far which"].values)  # fmt: skip


@gate("mask_planes", "stamps", "the masks in the stamps are those that metrics tell shares of", unit="rows")
def mask_planes(data: Data, facts) -> object:
    found = scan.notes(data)
    wrong = found.get("masks other", 0)
    return judged(not wrong, f"{wrong} stamps have another share of masked pixels than bad_pixel_frac says", measured=wrong, threshold=0,
                  n=found.get("masks", 0), examples=found["masks which"].values if wrong else ())  # fmt: skip


@gate("duplicate_pixels", "stamps", "no arc is there twice, and no two galaxies show the same pixels", unit="stamps")
def duplicates(data: Data, facts) -> object:
    found = scan.notes(data)
    if "arc hashes" not in found:
        return judged(False, "no stamp to judge")
    arcs, frames = found["arc hashes"].rows, found["frame hashes"].rows
    again = [t.group_by("hash").aggregate([(k, "count_distinct"), (k, "min")]) for t, k in ((arcs, "task_id"), (frames, "galaxy_id"))]
    doubled = [t.filter(pc.greater(t[f"{k}_count_distinct"], 1)) for t, k in zip(again, ("task_id", "galaxy_id"), strict=True)]
    arcs_twice, shared = (sum(t[f"{k}_count_distinct"].to_pylist()) for t, k in zip(doubled, ("task_id", "galaxy_id"), strict=True))
    examples = (*doubled[0]["task_id_min"].to_pylist()[:3], *doubled[1]["galaxy_id_min"].to_pylist()[:3])
    return judged(arcs_twice + shared == 0, f"{arcs_twice} arcs are of the same pixels as another; {shared} galaxies show the pixels of another",
                  measured=arcs_twice + shared, threshold=0, n=found["n"], examples=examples)  # fmt: skip


@gate("rerender", "stamps", "sampled arcs, rendered again from the manifest, are the stored ones", uses=[samples.ARCS], unit="of the peak")
def rerender(data: Data, facts) -> object:
    limits, arcs = data.tier.gates, samples.arcs(data)
    if not arcs:
        return judged(False, "no arc to judge")
    most = max(limits.rerender_rows, min(len(arcs), round(limits.rerender_share * data.rows("stamps"))))
    picked = [r for r in arcs if "coadd" not in (r["psf_source_g"], r["psf_source_r"], r["psf_source_z"])][:most]
    if not picked:
        return too_few(data.tier, "every sampled PSF is a coadd image, which is not stored in the tables", n=len(arcs))
    stored = data.stamps([r["task_id"] for r in picked])
    worst, bad = 0.0, []
    for row in picked:
        off = _redrawn(row, stored.get(row["task_id"]), data)
        worst = max(worst, off)
        if not off < limits.pixel_tolerance:
            bad.append(row["task_id"])
    return judged(not bad, f"{len(bad)} of {len(picked)} arcs differ from their row's parameters; those with the first ids, which are hashes, are taken",
                  measured=worst, threshold=limits.pixel_tolerance, n=len(picked), examples=tuple(bad[:5]))  # fmt: skip


def _redrawn(row: dict, stamp: dict | None, data: Data) -> float:
    """How far the stored arc is from one of the row's parameters, over the latter's peak."""
    if stamp is None:
        return np.inf
    psfs = [cuts.profile(row[f"psfsize_used_{b}_arcsec"], b, data.tier) for b in BANDS]
    side, fluxes = row["stamp_side_pix"], injection.source_fluxes(row)
    (made,), _ = injection.light([row], [stamp["x_pix"]], [stamp["y_pix"]], side, [psfs], [fluxes], row["pixel_scale_arcsec"])
    off = float(np.abs(reader.planes(stamp)["arc"] - made).max() / np.abs(made).max())
    return off if np.isfinite(off) else np.inf


@gate("stamp_content", "stamps", "stamp and invvar are the survey's pixels plus the arc and its noise, exactly: against paired controls",
      uses=[samples.ARCS, samples.CONTROLS], unit="of the peak")  # fmt: skip
def content(data: Data, facts) -> object:
    """A paired control is the survey's own cut-out; the noise of an arc is seeded by its row. So the injection can be made again."""
    if not samples.arcs(data):
        return judged(False, "no arc to judge")
    if data.tier.output.pixels == "rounded":
        return not_applicable("the tier rounds its pixels, so a stamp cannot be made again to the bit")
    limits = data.tier.gates
    pairs = {
        r["pair_id"]: r["task_id"] for r in data.noted(samples.CONTROLS)["paired_control"].rows.to_pylist()[: 4 * limits.rerender_rows]
    }
    stored = data.stamps([*pairs, *pairs.values()])
    seeds = {r["task_id"]: r for r in data.where("metrics", samples.numbers(pairs), ["task_id", "seed", "status"]).to_pylist()}
    picked = [i for i in pairs if seeds.get(i, {}).get("status") == "ok"]
    if not picked:
        return not_applicable("no injection has a paired control to compare it with")
    worst, bad = 0.0, list[str]()
    for task_id in picked:
        off = _remade(seeds[task_id], stored.get(task_id), stored.get(pairs[task_id]), data)
        worst = max(worst, off)
        if not off < limits.pixel_tolerance:
            bad.append(task_id)
    return judged(not bad, f"{len(bad)} of {len(picked)} stamps are not their control plus the arc and its noise", measured=worst,
                  threshold=limits.pixel_tolerance, n=len(picked), examples=tuple(bad[:5]))  # fmt: skip


def _remade(task: dict, stamp: dict | None, control: dict | None, data: Data) -> float:
    if stamp is None or control is None:
        return np.inf
    try:
        mine, survey = reader.planes(stamp), reader.planes(control)
    except ValueError:  # the gate on planes tells which
        return np.inf
    seen, weight = injection.expose(task, survey["stamp"], survey["invvar"], mine["arc"], data.tier)
    off = float(np.abs(mine["stamp"] - seen).max() / mine["arc"].max())
    off = max(off, float((np.abs(mine["invvar"] - weight) / np.maximum(weight, 1e-6)).max()))
    off = off if np.array_equal(mine["mask"], survey["mask"]) else np.inf
    return off if np.isfinite(off) else np.inf


GATES = (planes, arc_flux, mask_planes, duplicates, rerender, content)
