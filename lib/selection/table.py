"""SELECTION rows from counts."""

import itertools

import numpy as np
import pyarrow as pa

from lib import rows
from lib.schemas import SELECTION
from lib.selection import curves
from lib.selection.axes import ALL, AXES
from lib.selection.counts import Recovery


def of(counted: list[dict], recoveries: list[Recovery], least: int, nside: int) -> pa.Table:
    """The table, one lattice of bins after the other, each cut to the bins that lenses reach."""
    made = []
    order = sorted(counted, key=_lattice)
    for (number, _, region, x, y), cells in itertools.groupby(order, _lattice):
        made.append(_rows(list(cells), recoveries[number], region if region == ALL else f"nside{nside}-{region}", x, y or None, least))
    return pa.concat_tables(made)


def _lattice(row: dict) -> tuple:
    return row["recovery"], row["region"] != ALL, row["region"], row["x"], row["y"] or ""


def _rows(cells: list[dict], recovery: Recovery, region: str, x: str, y: str | None, least: int) -> pa.Table:
    i, j = (np.array([c[k] for c in cells]) for k in "ij")
    shape = (np.ptp(i) + 1, np.ptp(j) + 1)
    n, found = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    np.add.at(n, (i - i.min(), j - j.min()), [c["n"] for c in cells])
    np.add.at(found, (i - i.min(), j - j.min()), [c["found"] for c in cells])
    share, error = (v.ravel() for v in curves.smooth(found if y else found[:, 0], n if y else n[:, 0]))
    n, found = n.ravel(), found.ravel()
    low, high = curves.wilson(found, n)
    few = n < least
    at = [np.repeat(np.arange(shape[0]), shape[1]) + i.min(), np.tile(np.arange(shape[1]), shape[0]) + j.min()]
    edges = AXES[x].edges
    columns = {
        "recovery": [recovery.name] * len(n), "region": [region] * len(n), "n": n, "n_recovered": found,
        "x": [x] * len(n), "x_low": edges[at[0]], "x_high": edges[at[0] + 1],
        "completeness": pa.array(found / np.maximum(n, 1), mask=few), "low": pa.array(low, mask=few), "high": pa.array(high, mask=few),
        "smooth": share, "smooth_error": error,
    }  # fmt: skip
    if y:
        edges = AXES[y].edges
        columns |= {"y": [y] * len(n), "y_low": edges[at[1]], "y_high": edges[at[1] + 1]}
    told = {
        "false_positive_rate": recovery.rate,
        "false_positive_rate_reached": recovery.reached,
        "threshold": recovery.threshold,
        "n_controls": recovery.n_controls,
    }
    return rows.table(columns | {k: [v] * len(n) for k, v in told.items()}, SELECTION)
