"""Lenses and found lenses in each bin of each axis and surface."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lib.selection import axes
from lib.selection.axes import ALL, AXES, SURFACES


@dataclass(frozen=True)
class Recovery:
    """When a lens counts as found: a score of the threshold or more; the proxy without one."""

    threshold: float | None = None
    rate: float | None = None  # of false positives, as asked for
    reached: float | None = None
    n_controls: int | None = None

    @property
    def name(self) -> str:
        return "proxy" if self.threshold is None else "scores"

    @property
    def title(self) -> str:
        if self.threshold is None:
            return f"proxy: arc S/N >= {axes.ARC_SNR:g} and Einstein radius >= {axes.OVER_PSF:g} PSF"
        return f"scores at a false-positive rate of {self.rate:g}"

    def found(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        if self.threshold is not None:
            return columns["score"] >= self.threshold
        return (columns["arc_snr"] >= axes.ARC_SNR) & (columns["theta_e_over_psf"] >= axes.OVER_PSF)


COUNTS = pa.schema([
    ("recovery", pa.int32()), ("region", pa.string()), ("x", pa.string()), ("y", pa.string()), ("i", pa.int32()), ("j", pa.int32()),
    ("n", pa.int64()), ("found", pa.int64()),
])  # fmt: skip


def of(rows: pa.Table | pa.RecordBatch, recoveries: list[Recovery], shift: int) -> pa.RecordBatch:
    """COUNTS of injections: each axis over all the sky and in each region, each surface over all the sky."""
    columns = {name: rows[name].to_numpy(zero_copy_only=False) for name in rows.schema.names}
    bins = {name: axis.bins(columns) for name, axis in AXES.items()}
    region, names = columns["sky_cell"].astype(np.int64) >> shift, []
    out: list[dict] = []
    where = [(ALL, slice(None)), *((str(r), region == r) for r in np.unique(region))]
    for number, recovery in enumerate(recoveries):
        found = recovery.found(columns)
        for name, mine in where:
            pairs = [(x, None) for x in AXES] + (list(SURFACES) if name == ALL else [])
            for x, y in pairs:
                i, j, hit = bins[x][mine], bins[y][mine] if y else np.zeros_like(bins[x][mine]), found[mine]
                known = (i >= 0) & (j >= 0)
                key, at = np.unique(i[known] * 1000 + j[known], return_inverse=True)
                n, k = np.bincount(at, minlength=len(key)), np.bincount(at, weights=hit[known], minlength=len(key))
                names = [name] * len(key)
                out += [
                    {"recovery": number, "region": r, "x": x, "y": y, "i": c // 1000, "j": c % 1000, "n": a, "found": b}
                    for r, c, a, b in zip(names, key.tolist(), n.tolist(), k.astype(int).tolist(), strict=True)
                ]
    return pa.RecordBatch.from_pylist(out, COUNTS)
