"""Are two classes alike in what is compared?  Differences of means, and classifiers that should have nothing to go by."""

import numpy as np
import pyarrow as pa
from joblib import parallel_config
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from threadpoolctl import threadpool_limits

from lib.sampling import sides
from lib.schemas import BANDS
from validation import classes

SAMPLE = 20_000  # of each class that the classifier is trained and judged on
FOLDS = 5
BLOCKS = 20  # of galaxies, left out one after the other for the error of an AUC


def differences(found: classes.Classes, tolerance: dict[str, float]) -> dict[str, float]:
    """Standardised mean difference of each matching variable (Rosenbaum & Rubin 1985): over the root of the mean of the two variances."""
    both = (sides.variables(t, tolerance).astype(float) for t in (found.lenses, found.controls))
    a, b = (np.where(v > sides.UNKNOWN / 2, np.nan, v) for v in both)
    spread = np.sqrt(0.5 * (np.nanvar(a, axis=0) + np.nanvar(b, axis=0)))
    off = np.abs(np.nanmean(a, axis=0) - np.nanmean(b, axis=0)) / np.maximum(spread, 1e-12)
    return dict(zip(tolerance, np.nan_to_num(off, nan=np.inf).tolist(), strict=True))  # known of one class only: as different as can be


def metadata(table: pa.Table) -> np.ndarray:
    """(rows, features) of the classifier: what is known without pixels, and the colours made of it."""
    columns = {name: table[name].to_numpy().astype(float) for name in (*classes.HOST, *classes.MEASURED) if name in table.column_names}
    g, r, z = (columns[f"mag_{b}"] for b in BANDS)
    return np.stack([*columns.values(), g - r, r - z], axis=1)


def scores(x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int = 0) -> np.ndarray:
    """Of gradient boosting, cross-validated: no galaxy is in a fold that it was learned from."""
    folds = PredefinedSplit(_folds(y, groups, seed))
    leaf = int(np.clip(len(y) // 20, 2, 20))  # of few rows small ones, or nothing is found
    model = HistGradientBoostingClassifier(max_iter=60, min_samples_leaf=leaf, random_state=seed)
    # a thread a fold: those inside of a fold wait for each other, and are ten times slower where a core is busy
    with threadpool_limits(1), parallel_config("threading", n_jobs=-1):
        return cross_val_predict(model, x, y, cv=folds, method="predict_proba")[:, 1]


def _folds(y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The fold of each row: groups dealt out by lot, those of each class by themselves (sklearn's own takes 3 s for 20,000 groups)."""
    names, at = np.unique(groups, return_inverse=True)
    lot, fold = np.random.default_rng(seed).permutation(len(names)), np.empty(len(names), int)
    fold[np.lexsort((lot, np.bincount(at, y) / np.bincount(at)))] = np.arange(len(names)) % FOLDS
    return fold[at]


def auc(x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Area under the ROC, cross-validated by group, and its standard error: by a jackknife over blocks of groups.

    Rows of a galaxy go together, so pairs of one galaxy that look the same are known to be the same: their error is 0, not that of as many
    independent rows.
    """
    score = scores(x, y, groups, seed)
    return float(roc_auc_score(y, score)), _jackknife(y, score, groups)


def _jackknife(y, score, groups) -> float:
    names = np.unique(groups)
    blocks = min(BLOCKS, len(names))
    block = (np.random.default_rng(0).permutation(len(names)) % blocks)[np.searchsorted(names, groups)]
    left = [roc_auc_score(y[block != k], score[block != k]) for k in range(blocks) if len(set(y[block != k])) == 2]
    return float(np.sqrt((len(left) - 1) / len(left) * np.sum((np.array(left) - np.mean(left)) ** 2))) if len(left) > 1 else np.inf


def together(found: classes.Classes, most: int = SAMPLE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(features, 1 for lenses, galaxies) of the two classes together."""
    tables = [t.slice(0, most) for t in (found.lenses, found.controls)]
    return (np.concatenate([metadata(t) for t in tables]), np.repeat([1, 0], [t.num_rows for t in tables]),
            np.concatenate([t["galaxy_id"].to_numpy() for t in tables]))  # fmt: skip


def metadata_auc(found: classes.Classes) -> float:
    """AUC of a classifier on metadata alone; 0.5 is what it should be."""
    x, y, groups = together(found)
    return float(roc_auc_score(y, scores(x, y, groups)))


def shuffled(found: classes.Classes, seed: int) -> classes.Classes:
    """The same galaxies, each in a class by lot: what a classifier finds now it has from somewhere else than the classes."""
    whole = pa.concat_tables([t.slice(0, SAMPLE) for t in (found.lenses, found.controls)])
    names, at = np.unique(whole["galaxy_id"].to_numpy(), return_inverse=True)
    lens = np.random.default_rng(seed).permutation(np.arange(len(names)) % 2 == 0)[at]
    roles = pa.array(np.where(lens, "injected", "unpaired_control"))
    whole = whole.set_column(whole.column_names.index("role"), "role", roles)
    return classes.Classes(*(whole.filter(pa.array(mine)) for mine in (lens, ~lens)))


def galaxies(found: classes.Classes) -> int:
    """Different galaxies of the class that has fewest."""
    return min(len(t["galaxy_id"].slice(0, SAMPLE).unique()) for t in (found.lenses, found.controls))
