"""Samples of one pixel from many images to one value: weights, rejection, mean or median.

The weight of a sample is ``quality edge / sigma**2``: inverse variance, and a feather that falls to 0 at its image's edge.  What a sample may differ
by is known beforehand, ``sigma**2 / quality + (STRUCTURE (centre - sky))**2``: the second term is what interpolation may do on the flanks of
a star.  A scatter measured on the samples themselves cannot reject at small n (one outlier among n is never more than (n-1)/sqrt(n) of
it away), so it may only widen the known one.
"""

from dataclasses import dataclass

import numpy as np

from lib import jit

NONE, KAPPA_SIGMA, KAPPA_MAD, WINSORISED = "none", "kappa_sigma", "kappa_mad", "winsorised"
REJECTIONS = (NONE, KAPPA_SIGMA, KAPPA_MAD, WINSORISED)
MEAN, MEDIAN = "mean", "median"
STRUCTURE = 0.06  # of the light above the sky
MAD = 1.4826  # a Gaussian's standard deviation over its median absolute deviation
ROUNDS = 10
SETTLED = 5e-4  # of the scale: a winsorised mean that moves by less has come to rest
HUBER = 1.134  # a Gaussian's standard deviation over that of its values clipped at 1.5 of it
CLIP = 1.5
SHORT = 24  # samples that are sorted by insertion
F = np.float32


@dataclass(frozen=True)
class Rule:
    """How samples are rejected, beyond how many sigma, and how the rest are combined."""

    rejection: str = NONE
    kappa: float = 3.0
    combine: str = MEAN

    def __post_init__(self):
        for name, value, known in (("rejection", self.rejection, REJECTIONS), ("combine", self.combine, (MEAN, MEDIAN))):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if not 1.0 <= self.kappa <= 100.0:
            raise ValueError(f"kappa must be in [1, 100], got {self.kappa}")

    @property
    def streams(self) -> bool:
        """Whether a sum is enough: no sample needs to see the others."""
        return self.rejection == NONE and self.combine == MEAN


@dataclass(frozen=True)
class Block:
    """A stacked window, each (bands, h, w): ``science`` float32, NaN where nothing is; ``weight`` float32; ``coverage`` the number of images,
    ``rejected`` how many of them were rejected, uint16.
    """

    science: np.ndarray
    weight: np.ndarray
    coverage: np.ndarray
    rejected: np.ndarray

    @classmethod
    def empty(cls, bands: int, shape) -> "Block":
        return cls(*(np.zeros((bands, *shape), kind) for kind in (np.float32, np.float32, np.uint16, np.uint16)))


@jit.entry(fastmath={"contract", "nsz"})
def add(values, good, edge, inverse, total, weight, coverage):
    """Add an image's samples to the sums of one band, (h, w): ``total`` and ``weight`` float64, ``coverage`` uint16."""
    h, w = values.shape
    for y in range(h):
        for x in range(w):
            v, q = values[y, x], good[y, x] * edge[y, x]
            there = (v == v) & (q > F(0.0))
            p = np.float64(q * inverse) if there else 0.0
            total[y, x] += p * np.float64(v if there else F(0.0))
            weight[y, x] += p
            coverage[y, x] += np.uint16(there)


@jit.entry(fastmath={"contract", "nsz"})
def finish(total, weight, science, out_weight):
    """Sums to means."""
    h, w = total.shape
    for y in range(h):
        for x in range(w):
            science[y, x] = F(total[y, x] / weight[y, x]) if weight[y, x] > 0.0 else F(np.nan)
            out_weight[y, x] = F(weight[y, x])


@jit.plain()
def _median(values, n):
    """The median of the first ``n`` values, which are put in another order; of an even number the mean of the middle two."""
    if n <= SHORT:
        for i in range(1, n):
            v, j = values[i], i - 1
            while j >= 0 and values[j] > v:
                values[j + 1] = values[j]
                j -= 1
            values[j + 1] = v
    else:
        low, high, k = 0, n - 1, n // 2
        while low < high:  # Hoare's selection
            pivot, i, j = values[(low + high) // 2], low, high
            while i <= j:
                while values[i] < pivot:
                    i += 1
                while pivot < values[j]:
                    j -= 1
                if i <= j:
                    values[i], values[j] = values[j], values[i]
                    i += 1
                    j -= 1
            if k <= j:
                high = j
            elif k >= i:
                low = i
            else:
                break
        if n % 2 == 0:
            below = values[0]
            for i in range(1, k):
                below = max(below, values[i])
            values[k - 1] = below
    return values[n // 2] if n % 2 else F(0.5) * (values[n // 2 - 1] + values[n // 2])


@jit.entry(fastmath={"contract", "nsz"})
def reject(cube, good, edge, band, sigma, sky, robust, winsorise, median, kappa, science, weight, coverage, rejected):
    """One band of a block: ``cube`` (n, bands, h, w), ``good`` and ``edge`` (n, h, w), ``sigma`` (n,) and ``sky`` of the band; the rest (h, w).

    ``robust``: the samples' own MAD may widen what they may differ by.  ``winsorise``: the centre and the scale are of values clipped at 1.5.
    """
    n, _, h, w = cube.shape
    v, p, s2, kept = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.bool_)
    work = np.empty(n, np.float32)
    for y in range(h):
        for x in range(w):
            m = 0
            for k in range(n):
                a, q = cube[k, band, y, x], good[k, y, x]
                if a == a and q > F(0.0) and edge[k, y, x] > F(0.0):
                    var = sigma[k] * sigma[k] / q
                    v[m], s2[m], p[m] = a, var, edge[k, y, x] / max(var, F(1e-30))
                    m += 1
            coverage[y, x] = m
            if m == 0:
                science[y, x], weight[y, x], rejected[y, x] = F(np.nan), F(0.0), 0
                continue
            left = m
            for k in range(m):
                kept[k] = True
            if kappa > F(0.0) and m == 2:
                first = 0 if v[0] < v[1] else 1
                low, high = v[first], v[1 - first]
                light = F(STRUCTURE) * max(low - sky, F(0.0))
                if (high - low) * (high - low) > kappa * kappa * (s2[0] + s2[1] + F(2.0) * light * light):
                    # what spoils an image adds light, unless the fainter one is below the sky
                    below = low - sky < -kappa * np.sqrt(s2[first]) and abs(high - sky) < abs(low - sky)
                    kept[first if below else 1 - first] = False
                    left = 1
            elif kappa > F(0.0) and m > 2:
                for k in range(m):
                    work[k] = v[k]
                centre = _median(work, m)
                wide = F(0.0)
                if robust or winsorise:
                    for k in range(m):
                        work[k] = abs(v[k] - centre)
                    wide = F(MAD) * _median(work, m)
                if winsorise and m > 4:
                    typical = F(0.0)
                    for k in range(m):
                        typical += s2[k]
                    least = np.sqrt(typical / F(m))
                    wide = max(wide, least)
                    for _ in range(ROUNDS):
                        total, before, was = F(0.0), centre, wide
                        for k in range(m):
                            total += min(max(v[k], centre - F(CLIP) * wide), centre + F(CLIP) * wide)
                        centre = total / F(m)
                        square = F(0.0)
                        for k in range(m):
                            d = min(max(v[k], before - F(CLIP) * wide), before + F(CLIP) * wide) - centre
                            square += d * d
                        wide = max(F(HUBER) * np.sqrt(square / F(m - 1)), least)
                        if abs(centre - before) <= F(SETTLED) * wide and abs(wide - was) <= F(SETTLED) * wide:
                            break
                for _ in range(ROUNDS):
                    light = F(STRUCTURE) * max(centre - sky, F(0.0))
                    changed, left, top, bottom = False, 0, F(0.0), F(0.0)
                    for k in range(m):
                        d = v[k] - centre
                        stays = d * d <= kappa * kappa * (max(s2[k], wide * wide) + light * light)
                        changed |= stays != kept[k]
                        kept[k] = stays
                        if stays:
                            left += 1
                            top += p[k] * d
                            bottom += p[k]
                    if left == 0 or not changed or winsorise:
                        break
                    centre += top / bottom
                if left == 0:  # two against two: the sample nearest to the median stands
                    nearest = 0
                    for k in range(1, m):
                        if abs(v[k] - centre) < abs(v[nearest] - centre):
                            nearest = k
                    kept[nearest] = True
                    left = 1
            top, bottom, base, j = F(0.0), F(0.0), v[0], 0
            for k in range(m):
                if kept[k]:
                    top += p[k] * (v[k] - base)
                    bottom += p[k]
                    work[j] = v[k]
                    j += 1
            science[y, x] = _median(work, left) if median else base + top / bottom
            weight[y, x] = bottom
            rejected[y, x] = m - left


def samples(rule: Rule, cube, good, edge, sigma, sky, into: Block) -> None:
    """Stack ``cube`` (n, bands, h, w) by a rule; ``good`` and ``edge`` (n, h, w), ``sigma`` (n, bands) and ``sky`` (bands,) say what samples may do."""
    kappa = F(0.0 if rule.rejection == NONE else rule.kappa)
    for band in range(cube.shape[1]):
        reject(
            cube, good, edge, band, np.ascontiguousarray(sigma[:, band]), F(sky[band]), rule.rejection == KAPPA_MAD, rule.rejection == WINSORISED,
            rule.combine == MEDIAN, kappa, into.science[band], into.weight[band], into.coverage[band], into.rejected[band],
        )  # fmt: skip
