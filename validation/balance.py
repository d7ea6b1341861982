"""Are controls like lenses in everything but the arc?  Differences of means, and a classifier that sees no pixels."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from lib.sampling import sides
from lib.schemas import BANDS

FEATURES = (
    *(f"psfsize_{b}_arcsec" for b in BANDS), *(f"psfdepth_{b}_mag" for b in BANDS), *(f"mag_{b}" for b in BANDS),
    "shape_r_arcsec", "shape_e1", "shape_e2", "ebv_mag", *(f"nobs_{b}" for b in BANDS), "ra_deg", "dec_deg",
)  # fmt: skip
ROWS = 200_000  # of each class that means are taken of
SAMPLE = 20_000  # of each class that the classifier is trained and judged on
FOLDS = 5


@dataclass(frozen=True)
class Classes:
    """Lenses and unpaired controls: a sample of each, by their ids, which are hashes."""

    lenses: pa.Table
    controls: pa.Table
    first_rung_share: float


def classes(manifest: DataFrame) -> Classes:
    """The two classes of a manifest, in what is compared."""
    roles = {
        r["role"]: r
        for r in manifest.groupBy("role").agg(F.count("*").alias("n"), F.count_if(F.col("match_rung") == 1).alias("first")).collect()
    }
    found = []
    for role in ("injected", "unpaired_control"):
        n = roles[role]["n"] if role in roles else 0
        last = "g" if n <= ROWS else f"{int(ROWS / n * 2**64):016x}"  # ids are hexadecimal digits: "g" is beyond all of them
        found.append(
            manifest.filter((F.col("role") == role) & (F.col("task_id") < last)).select("task_id", "galaxy_id", *FEATURES).toArrow()
        )
    unpaired = roles.get("unpaired_control")
    lenses, controls = (t.sort_by("task_id") for t in found)
    return Classes(lenses, controls, unpaired["first"] / unpaired["n"] if unpaired else 0.0)


def differences(found: Classes, tolerance: dict[str, float]) -> dict[str, float]:
    """Standardised mean difference of each matching variable (Rosenbaum & Rubin 1985): over the root of the mean of the two variances."""
    both = (sides.variables(t, tolerance).astype(float) for t in (found.lenses, found.controls))
    a, b = (np.where(v > sides.UNKNOWN / 2, np.nan, v) for v in both)
    spread = np.sqrt(0.5 * (np.nanvar(a, axis=0) + np.nanvar(b, axis=0)))
    off = np.abs(np.nanmean(a, axis=0) - np.nanmean(b, axis=0)) / np.maximum(spread, 1e-12)
    return dict(zip(tolerance, np.nan_to_num(off, nan=np.inf).tolist(), strict=True))  # known of one class only: as different as can be


def metadata(table: pa.Table) -> np.ndarray:
    """(rows, features) of the classifier: what is known without pixels, and the colours made of it."""
    columns = [table[name].to_numpy(zero_copy_only=False).astype(float) for name in FEATURES]
    g, r, z = (columns[FEATURES.index(f"mag_{b}")] for b in BANDS)
    return np.stack([*columns, g - r, r - z], axis=1)


def metadata_auc(found: Classes) -> float:
    """Area under the ROC of gradient boosting on metadata alone, cross-validated by galaxy; 0.5 is what it should be."""
    sides = [t.slice(0, SAMPLE) for t in (found.lenses, found.controls)]
    x, y = np.concatenate([metadata(t) for t in sides]), np.repeat([1, 0], [t.num_rows for t in sides])
    groups = np.concatenate([t["galaxy_id"].to_numpy() for t in sides])
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    score = cross_val_predict(model, x, y, groups=groups, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(y, score))
