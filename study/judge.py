"""What scores say, and what can be told without the arc."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.metrics import roc_auc_score

from lib import reader, runs
from lib.store import Dataset
from study.pixels import Set
from validation import balance, classes, features

STRATA = {"unresolved": (0.0, 0.5), "marginal": (0.5, 1.0), "resolved": (1.0, np.inf)}  # theta_e over the PSF's FWHM
RATES = (1e-2, 1e-3)


@dataclass(frozen=True)
class Auc:
    value: float
    error: float  # of samples of this size (Hanley & McNeil 1982, Radiology 143, 29)
    n: tuple[int, int]

    def __str__(self):
        return f"{self.value:.3f} +- {self.error:.3f}" if min(self.n) else "none to tell by"


def auc(lenses: np.ndarray, controls: np.ndarray) -> Auc:
    """
    >>> str(auc(np.array([1.0, 2.0]), np.array([0.0, 1.5])))
    '0.750 +- 0.276'
    """
    n, m = len(lenses), len(controls)
    if not n or not m:
        return Auc(float("nan"), float("nan"), (n, m))
    a = float(roc_auc_score(np.repeat([1, 0], [n, m]), np.r_[lenses, controls]))
    variance = (a * (1 - a) + (n - 1) * (a / (2 - a) - a * a) + (m - 1) * (2 * a * a / (1 + a) - a * a)) / (n * m)
    return Auc(a, float(np.sqrt(max(variance, 0.0))), (n, m))


def threshold(controls: np.ndarray, rate: float) -> float:
    """The score that ``floor(rate n)`` of n controls reach; with none above, NaN: there are too few to tell.

    >>> threshold(np.arange(100.0), 0.02), threshold(np.arange(10.0), 0.01)
    (98.0, nan)
    """
    k = int(np.floor(rate * len(controls) + 1e-9))
    return float(np.sort(controls)[-k]) if k else float("nan")


def strata(some: Set) -> dict[str, np.ndarray]:
    """Which are the lenses of each resolvability."""
    ratio = some.facts["theta_e_over_psf"].astype(float)
    return {name: some.lens & (ratio > low) & (ratio <= high) for name, (low, high) in STRATA.items()}


def share(scores: np.ndarray, limit: float) -> float:
    return float((scores >= limit).mean()) if np.isfinite(limit) and len(scores) else float("nan")


def resolved(some: Set, scores: np.ndarray) -> Auc:
    """Resolved lenses against unpaired controls."""
    return auc(scores[strata(some)["resolved"]], scores[some.of("unpaired_control")])


def measures(some: Set, scores: dict[str, np.ndarray]) -> dict:
    """Of one network's scores of test stamps as they are, ``plain``, with a part blanked, and of bare hosts with a ``blob``."""
    plain, unpaired, paired = scores["plain"], some.of("unpaired_control"), some.of("paired_control")
    kinds, bare, hard = strata(some), unpaired | paired, some.of("hard_negative")
    limits = {rate: threshold(plain[bare], rate) for rate in RATES}
    lit = kinds["resolved"]
    out: dict = {f"auroc {name}": auc(plain[of], plain[unpaired]) for name, of in kinds.items()}
    out |= {"auroc resolved, paired controls": auc(plain[lit], plain[paired])}
    out |= {f"auroc resolved, {part} blanked": auc(scores[part][lit], scores[part][unpaired]) for part in ("core", "arc")}
    out |= {f"tpr {name} at fpr {rate:g}": share(plain[of], limits[rate]) for rate in RATES for name, of in kinds.items()}
    out |= {"auroc of central light": auc(scores["blob"], plain[unpaired])}
    out |= {"central light taken for a lens at fpr 0.01": share(scores["blob"], limits[1e-2])}
    out |= {"lens-like galaxies taken for a lens at fpr 0.01": share(plain[hard], limits[1e-2])}
    return out


def metadata_auc(dataset: Dataset) -> float:
    """Of a classifier that knows seeing, depth, brightness, colours and place, but no pixels: lenses against unpaired controls, all splits."""
    metrics = runs.read(dataset, "metrics").sort_by("task_id")
    metrics = metrics.filter(pc.equal(metrics["status"], "ok"))
    sides = (metrics.filter(pc.equal(metrics["role"], role)) for role in ("injected", "unpaired_control"))
    return balance.metadata_auc(classes.Classes(*sides))


def zero_flux_auc(dataset: Dataset) -> float:
    """Of a classifier on pixels: injections without light, which are the paired controls, against unpaired ones, all splits."""
    stamps = reader.Stamps(
        dataset, roles=("paired_control", "unpaired_control"), columns=("role", "galaxy_id"), planes=("stamp", "invvar", "mask")
    )
    parts = []
    for b in stamps.epoch(shuffle=False):
        of = features.of(b["stamp"], b["stamp"], b["invvar"], b["mask"])
        parts.append(
            pa.table(
                {"task_id": b["task_id"], "role": b["role"], "galaxy_id": b["galaxy_id"]}
                | {k: v for k, v in of.items() if k.startswith("zero_")}
            )
        )
    rows = pa.concat_tables(parts).sort_by("task_id")
    x = np.stack([rows[name].to_numpy() for name in rows.column_names if name.startswith("zero_")], axis=1)
    y = pc.equal(rows["role"], "paired_control").to_numpy().astype(int)
    return float(roc_auc_score(y, balance.scores(x, y, rows["galaxy_id"].to_numpy())))
