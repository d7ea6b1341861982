"""From what pairs say to one gain and one offset an image and band: a graph of log-gains, then one of offsets.

Gains minimise ``sum I (lg_i - lg_j - log s_ij)**2 + sum (lg_i / PRIOR)**2``, where image i's pixel x and image j's pixel y are of the same sky:
``g_i x + o_i = g_j y + o_j`` and ``y = s x + c``.  Logarithms, because a homogeneous set in the gains themselves is solved best by all of
them 0.  Offsets follow, given the final gains.  What pairs leave open, a constant for each connected group, is fixed by the mean or by an anchor.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from lib.mosaic.overlaps import Pair

PRIOR = 0.05  # scatter of gains that are not known at all
LIMITS = (0.5, 2.0)
TUKEY = 4.685  # in sigma: a pair that is further off does not count
ROUNDS = 12
TILT_SIGMA = 3.0  # residual offsets of a pair beyond it ask for a slope
EQUAL_SIGMA = 3.0  # of a chi-squared: pairs that differ from slope 1 by no more than their errors have gain 1
PAIR_SIGMA = 5.0  # unless one of them differs by more
SETTLED = 1e-12
EXACT = 1e-6  # of a level: float32 tells no difference below
RANK = 1e-10  # of the largest singular value: what is smaller is not known


@dataclass(frozen=True)
class Table:
    """Corrections of all images: (images, bands) arrays; ``slope`` (images, bands, 2) a px along y and x, about ``middle`` (images, 2).

    ``pairs`` counts each image's overlaps, ``bins`` the bins in them; ``residual`` is the rms of what its pairs still differ by at their means,
    ``clipped`` tells gains at a limit, ``component`` (images,) the connected group, ``anchor`` the image that has gain 1 and offset 0 in each, or -1.
    """

    gain: np.ndarray
    offset: np.ndarray
    slope: np.ndarray
    middle: np.ndarray
    pairs: np.ndarray
    bins: np.ndarray
    residual: np.ndarray
    clipped: np.ndarray
    component: np.ndarray
    anchor: np.ndarray
    said: list[str] = field(default_factory=list)


def identity(images: int, bands: int) -> Table:
    """Gains 1, offsets 0."""
    shape = (images, bands)
    return Table(
        np.ones(shape, np.float32), np.zeros(shape, np.float32), np.zeros((*shape, 2)), np.zeros((images, 2)), np.zeros(shape, int),
        np.zeros(shape, int), np.zeros(shape, np.float32), np.zeros(shape, bool), np.arange(images), np.full(images, -1),
    )  # fmt: skip


def table(
    pairs: list[Pair], middle, bands: int, *, healthy=None, anchored: bool = False, tilts: bool = False, gains: bool = True, limits=LIMITS
) -> Table:
    """The corrections of ``len(middle)`` images, whose middles are (y, x) of the lattice.

    ``anchored`` gives each group's healthiest image, that with the most overlap, gain 1 and offset 0; else mean log-gains and offsets are 0.
    ``tilts`` adds slopes where pairs ask for them; without ``gains`` only offsets are solved for.
    """
    images = len(middle)
    made = identity(images, bands)
    healthy = np.ones(images, bool) if healthy is None else np.asarray(healthy, bool)
    if not healthy.any():
        made.said.append("[GRID] Photometric scaling disabled: no valid reference tile found (all tiles invalid)")
        return made
    made.middle[...] = middle
    pairs = [p for p in pairs if healthy[p.i] and healthy[p.j]]
    links = sparse.coo_matrix((np.ones(len(pairs)), ([p.i for p in pairs], [p.j for p in pairs])), (images, images))
    groups, label = connected_components(links, directed=False)
    made.component[...] = label
    anchors = _anchors(pairs, label, groups, healthy)
    if anchored:
        made.anchor[...] = anchors[label]
        made.said.append("[GRID] reference: " + ", ".join(f"image {a}" for a in anchors if a >= 0))
    if (linked := len({label[p.i] for p in pairs})) > 1:
        made.said.append(f"[GRID] {linked} groups of images do not overlap: each is normalised for itself")
    for band in range(bands):
        mine = [p for p in pairs if p.band == band]
        if mine:
            _one_band(made, mine, band, label, anchors if anchored else None, tilts, gains, limits)
    for band, image in zip(*np.nonzero(made.clipped.T), strict=True):
        made.said.append(f"[GRID] gain of image {image}, band {band} is clipped at {made.gain[image, band]:.3g}")
    return made


def _anchors(pairs, label, groups, healthy) -> np.ndarray:
    """Of each group the healthy image with the most overlap; the first of equals."""
    overlap = np.zeros(len(label))
    for p in pairs:
        overlap[[p.i, p.j]] += p.n
    found = np.full(groups, -1)
    for k in np.lexsort((-np.arange(len(label)), overlap)):  # the last written is the best
        if healthy[k]:
            found[label[k]] = k
    return found


def _one_band(made: Table, pairs, band, label, anchors, tilts, gains, limits) -> None:
    images = len(label)
    i, j = np.array([p.i for p in pairs]), np.array([p.j for p in pairs])
    n = np.array([p.n for p in pairs], float)
    np.add.at(made.pairs[:, band], i, 1)
    np.add.at(made.pairs[:, band], j, 1)
    np.add.at(made.bins[:, band], i, n.astype(int))
    np.add.at(made.bins[:, band], j, n.astype(int))
    log_gain = np.zeros(images)
    if gains:
        target = np.log([p.slope for p in pairs])
        information = np.array([p.information for p in pairs])
        known = np.isin(label[i], _equal(label[i], target, information))
        target, information = np.where(known, 0.0, target), np.where(known, 0.0, information)
        log_gain, made.clipped[:, band] = _log_gains(i, j, target, information, label, anchors, np.log(limits))
    gain = np.exp(log_gain)
    made.gain[:, band] = gain
    x, y = np.array([p.x for p in pairs]), np.array([p.y for p in pairs])
    gain_i, gain_j = gain[i], gain[j]
    apart = gain_j * y - gain_i * x  # o_i - o_j
    variance = np.maximum((gain_i * [p.sigma_x for p in pairs]) ** 2 + (gain_j * [p.sigma_y for p in pairs]) ** 2, 1e-24) / n
    offset = _robust(i, j, apart, 1.0 / variance, label, anchors, np.zeros(images))
    if tilts:
        offset = _tilted(made, pairs, band, gain, offset, apart, variance, label, anchors)
    made.offset[:, band] = offset
    left = offset[i] - offset[j] - apart
    square, count = np.zeros(images), np.zeros(images)
    for k in (i, j):
        np.add.at(square, k, left**2)
        np.add.at(count, k, 1)
    made.residual[:, band] = np.sqrt(square / np.maximum(count, 1))


def _equal(group, target, information) -> list[int]:
    """Groups whose pairs say, within their errors, that all gains are equal.

    They are taken at their word: errors of a tenth of a per cent would otherwise become gains, and, times the sky, offsets of a unit or more.
    """
    found = []
    for g in np.unique(group):
        square = (information * target**2)[group == g]
        if square.sum() <= square.size + EQUAL_SIGMA * np.sqrt(2.0 * square.size) and square.max() <= PAIR_SIGMA**2:
            found.append(int(g))
    return found


def _log_gains(i, j, target, information, label, anchors, limits):
    """Log-gains and which of them are at a limit: those are held there, and the others solved again."""
    images = len(label)
    held = np.full(images, np.nan)
    while True:
        found = _robust(i, j, target, information, label, anchors, np.full(images, PRIOR**-2), held=held)
        over = np.isnan(held) & ((found < limits[0]) | (found > limits[1]))
        if not over.any():
            return found, np.isfinite(held)
        held[over] = np.clip(found, *limits)[over]


def _robust(i, j, target, weight, label, anchors, prior, held=None):
    """u that minimises ``sum weight (u_i - u_j - target)**2 + sum prior u**2``, pairs far off losing their weight (Tukey)."""
    images, share = len(label), np.ones(len(target))
    held = np.full(images, np.nan) if held is None else held
    found = np.zeros(images)
    for _ in range(ROUNDS):
        before = found
        found = _least(i, j, target, weight * share, prior, held)
        free = np.isnan(held)
        for group in np.unique(label):
            members = label == group
            if anchors is not None and anchors[group] >= 0:
                found[members & free] -= found[anchors[group]]
            elif (members & free).all(where=members):
                found[members] -= found[members].mean()
        off = (found[i] - found[j] - target) * np.sqrt(weight)
        scale = max(1.4826 * float(np.median(np.abs(off))), 1.0) if len(off) > images else max(1.0, np.abs(off).max(initial=0.0))
        share = np.square(np.clip(1.0 - np.square(off / (TUKEY * scale)), 0.0, None)) + 1e-6
        if np.abs(found - before).max(initial=0.0) < SETTLED:
            break
    return found


def _least(i, j, target, weight, prior, held):
    """The weighted least squares themselves, by normal equations; what is held stays."""
    images = len(prior)
    rows = np.concatenate([i, j, i, j])
    columns = np.concatenate([i, j, j, i])
    values = np.concatenate([weight, weight, -weight, -weight])
    scale = float(weight.max(initial=0.0)) or 1.0
    ridge = prior + 1e-9 * scale  # a group's constant is open: any will do, the gauge comes after
    matrix = sparse.coo_matrix((values, (rows, columns)), (images, images)).tocsc() + sparse.diags(ridge)
    right = np.zeros(images)
    np.add.at(right, i, weight * target)
    np.add.at(right, j, -weight * target)
    fixed = np.isfinite(held)
    found = np.where(fixed, np.nan_to_num(held), 0.0)
    if (~fixed).any():
        free = np.flatnonzero(~fixed)
        right = right - matrix @ found
        found[free] = spsolve(matrix[free][:, free], right[free])
    return found


def _tilted(made: Table, pairs, band, gain, offset, apart, variance, label, anchors):
    """Offsets and slopes together, where the offsets alone leave pairs further apart than their noise; else the offsets as they are."""
    worst = 0.0
    for p in pairs:
        noise = max(np.hypot(gain[p.i] * p.sigma_x, gain[p.j] * p.sigma_y), EXACT * abs(p.x), 1e-12)
        normal = np.array(p.normal).reshape(3, 3)
        tilt = gain[p.i] * np.array(p.tilt_x) - gain[p.j] * np.array(p.tilt_y)
        tilt[0] += offset[p.i] - offset[p.j]
        worst = max(worst, float(np.sqrt(tilt @ normal @ tilt / 3.0) / noise))
    if worst <= TILT_SIGMA:
        return offset
    images = len(label)
    matrix, right = np.zeros((3 * images, 3 * images)), np.zeros(3 * images)
    for p in pairs:
        noise = max(gain[p.i] ** 2 * p.sigma_x**2 + gain[p.j] ** 2 * p.sigma_y**2, (EXACT * p.x) ** 2, 1e-24)
        normal = np.array(p.normal).reshape(3, 3) / noise
        tilt = gain[p.j] * np.array(p.tilt_y) - gain[p.i] * np.array(p.tilt_x)  # (o_i + t_i (r - m_i)) - (o_j + t_j (r - m_j))
        parts = []
        for k, sign in ((p.i, 1.0), (p.j, -1.0)):
            at = np.array(p.middle) - made.middle[k]
            parts.append((slice(3 * k, 3 * k + 3), sign * np.array([[1.0, at[0], at[1]], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])))
        for rows, a in parts:
            right[rows] += a.T @ normal @ tilt
            for columns, b in parts:
                matrix[rows, columns] += a.T @ normal @ b
    scale = 1.0 / np.sqrt(np.maximum(np.diag(matrix), 1e-30))  # offsets and slopes have other units, and pairs differ in noise
    found = np.linalg.lstsq(matrix * np.outer(scale, scale), right * scale, rcond=RANK)[0]  # a common tilt is open: the least
    found = (found * scale).reshape(images, 3)
    for group in np.unique(label):
        members = label == group
        reference = found[anchors[group]] if anchors is not None and anchors[group] >= 0 else found[members].mean(axis=0)
        found[members, 1:] -= reference[1:]
        at = made.middle[members] - (
            made.middle[anchors[group]] if anchors is not None and anchors[group] >= 0 else made.middle[members].mean(axis=0)
        )
        found[members, 0] -= reference[0] + at @ reference[1:]
    made.slope[:, band] = found[:, 1:]
    made.said.append(f"[GRID] band {band}: overlaps differ by up to {worst:.1f} sigma beyond offsets, slopes are fitted")
    return found[:, 0]
