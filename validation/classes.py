"""The two classes whose hosts are compared, lenses and unpaired controls: what is noted of them, without what classifies them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lib.schemas import BANDS
from validation.result import Note
from validation.tally import Each, Rows, sampled

HOST = (
    *(f"psfsize_{b}_arcsec" for b in BANDS), *(f"psfdepth_{b}_mag" for b in BANDS), *(f"mag_{b}" for b in BANDS),
    "shape_r_arcsec", "shape_e1", "shape_e2", "ebv_mag", *(f"nobs_{b}" for b in BANDS), "ra_deg", "dec_deg",
)  # fmt: skip
MEASURED = ("bad_pixel_frac", "wise_brightmask_frac")  # of the stamp, without its light
ROWS = 100_000  # of each class that means are taken of
COMPARED = ("lenses", "controls")


@dataclass(frozen=True)
class Classes:
    """Lenses and unpaired controls: a sample of each, by their ids, which are hashes."""

    lenses: pa.Table
    controls: pa.Table


def _sides(rows: Rows, asked, names) -> dict:
    """A sample of lenses and of unpaired controls."""
    tier, out = asked.tier, {}
    unpaired = tier.controls.fraction * (1.0 - tier.controls.paired)
    for side, role, part in zip(COMPARED, ("injected", "unpaired_control"), (1.0 - tier.controls.fraction, unpaired), strict=True):
        mine = rows.isin("role", [role])
        mine &= sampled(rows.ids, asked.share(ROWS, max(part, 1e-9)))
        out[side] = Each((rows.take(mine, ("task_id", "role", "galaxy_id", *names)),))
    return out


def matched(rows, asked):
    mine = rows.isin("role", ["unpaired_control"])
    rungs = rows["match_rung"][mine]
    found = {"rungs": Counter(dict(zip(*(v.tolist() for v in np.unique(rungs, return_counts=True)), strict=True))), "n": int(mine.sum())}
    return found | _sides(rows, asked, HOST)


def _judged(rows, asked):
    return _sides(rows, asked, (*HOST, *MEASURED))


METADATA = Note("metadata", "metrics", _judged)


def of(facts: dict) -> Classes:
    return Classes(*(facts[side].rows.sort_by("task_id") for side in COMPARED))
