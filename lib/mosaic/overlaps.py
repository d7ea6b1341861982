"""What two images say of each other: their light in bins of the lattice, and the line through it.

Each image is resampled once and reduced to means of 8x8 px; pairs compare the bins that both fill.  The line ``y = s x + c`` is fitted
with errors in both (total least squares in the form of Deming 1943, with the images' noise ratio): a fit of y on x alone is biased to 0 by
x's noise.  Flat sky says nothing of s, and ``information``, the inverse variance of log s, says so.
"""

from dataclasses import dataclass

import numpy as np

from lib.mosaic import loops, resample
from lib.mosaic.image import Image
from lib.mosaic.lattice import Window
from lib.mosaic.mapping import Mapping

BIN_PIX = 8
STRIP_BINS = 32  # rows of bins that are resampled at once
LEAST_BINS = 64
CLIP_MAD, ROUNDS = 4.0, 8
STEEPEST = 4.0  # slope of two images whose gains are within their limits; and 1 / it
COMMON_SIGMA = 4.0  # of a correlation: below it two images have no light in common, and any slope fits
ERODED_PIX = 1  # around a bin that must be good as well
ABSURD = 1e3  # times the typical level: no sky, but a file of something else
SCATTER = 0.004  # of the light above the sky: what resampling may move from bin to bin; keeps a few bright stars from deciding alone


@dataclass(frozen=True)
class Bins:
    """Means of an image on the lattice's bins, (bands, my, mx) float32, NaN where a bin is not whole; the first is bin ``at`` (y, x) of the
    lattice.  ``sigma`` (bands,) is the noise of a mean, ``sky`` (bands,) the image's level, ``share`` of its pixels that are good.
    """

    at: tuple[int, int]
    mean: np.ndarray
    sigma: np.ndarray
    sky: np.ndarray
    share: float = 1.0

    @property
    def window(self) -> Window:
        """Of the lattice's bins."""
        return Window(self.at[0], self.at[1], self.at[0] + self.mean.shape[1], self.at[1] + self.mean.shape[2])


@dataclass(frozen=True)
class Pair:
    """One band of one overlap: ``y = slope x + intercept`` between images ``i`` (x) and ``j`` (y), over ``n`` bins.

    ``information`` is 1 / variance of log slope; ``x`` and ``y`` the means; ``residual`` the scatter about the line; ``sigma_x`` and ``sigma_y`` that of
    a bin of each.  ``tilt_x``, ``tilt_y`` (3,): value, and slopes a px along y and x, at ``middle`` (lattice px), with ``normal`` (3, 3) of that fit.
    """

    i: int
    j: int
    band: int
    n: int
    slope: float
    intercept: float
    information: float
    x: float
    y: float
    residual: float
    sigma_x: float
    sigma_y: float
    middle: tuple[float, float]
    tilt_x: tuple[float, ...]
    tilt_y: tuple[float, ...]
    normal: tuple[float, ...]


def bins(image: Image, mapping: Mapping, sigma, sky, side: int = BIN_PIX, share: float = 1.0, least: float = 0.0) -> Bins:
    """An image's ``Bins``; ``sigma`` (bands,) is the noise of its pixels; those of a quality of ``least`` or less are left out."""
    window = mapping.window
    y0, x0 = window.y0 // side, window.x0 // side
    my, mx = -(-window.y1 // side) - y0, -(-window.x1 // side) - x0
    made = np.full((image.bands, my, mx), np.nan, np.float32)
    for row in range(0, my, STRIP_BINS):
        rows = min(STRIP_BINS, my - row)
        strip = Window(
            (y0 + row) * side - ERODED_PIX, x0 * side - ERODED_PIX, (y0 + row + rows) * side + ERODED_PIX, (x0 + mx) * side + ERODED_PIX
        )
        inner = strip & window
        values = np.full((image.bands, *strip.shape), np.nan, np.float32)
        patch = resample.onto(image, mapping, inner)
        ys, xs = inner.slices(strip)
        values[:, ys, xs] = np.where(patch.good > least, patch.values, np.float32(np.nan))
        loops.bin_means(values, side, ERODED_PIX, made[:, row : row + rows])
    return Bins((y0, x0), made, np.asarray(sigma, np.float32) / side, np.asarray(sky, np.float32), share)


def pairs(one: Bins, other: Bins, i: int = 0, j: int = 1, side: int = BIN_PIX) -> list[Pair]:
    """The overlap of two images, a ``Pair`` for each band that has enough bins; empty if they are apart."""
    common = one.window & other.window
    if common.empty or common.shape[0] * common.shape[1] < LEAST_BINS:
        return []
    (ya, xa), (yb, xb) = common.slices(one.window), common.slices(other.window)
    gy, gx = np.mgrid[common.y0 : common.y1, common.x0 : common.x1] * float(side) + (side - 1) / 2
    found = []
    for band in range(one.mean.shape[0]):
        x, y = one.mean[band, ya, xa], other.mean[band, yb, xb]
        both = np.isfinite(x) & np.isfinite(y)
        if both.sum() >= LEAST_BINS:
            sky, noise = (one.sky[band], other.sky[band]), (one.sigma[band], other.sigma[band])
            pair = _fitted(x[both].astype(float), y[both].astype(float), noise, sky, gy[both], gx[both], (i, j, band))
            found += [pair] if pair else []
    return found


def line(x, y, ratio: float, weight) -> tuple[float, float]:
    """Slope and intercept with errors in both: ``ratio`` is y's noise variance over x's; NaN where the two have nothing in common.

    Deming's closed form: the slope that minimises the distance to the line in units of the noise.

    >>> x = np.linspace(0.0, 1.0, 50)
    >>> [round(float(v), 12) for v in line(x, 3.0 * x + 1.0, 1.0, np.ones(50))]
    [3.0, 1.0]
    """
    total = weight.sum()
    mx, my = (weight * x).sum() / total, (weight * y).sum() / total
    dx, dy = x - mx, y - my
    xx, yy, xy = (float((weight * a * b).sum() / total) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    if xy <= 0.0 or xy * xy * x.size < COMMON_SIGMA**2 * xx * yy:
        return float("nan"), float("nan")
    apart = yy - ratio * xx
    slope = (apart + np.sqrt(apart * apart + 4.0 * ratio * xy * xy)) / (2.0 * xy)
    return float(slope), float(my - slope * mx)


def _fitted(x, y, noise, sky, gy, gx, key) -> Pair | None:
    """The line through one band's bins: clipped at 4 MAD, bins weighted by what they may differ by."""
    sx, sy = (max(float(s), 1e-12 * (1.0 + abs(float(np.median(v))))) for s, v in zip(noise, (x, y), strict=True))
    ratio = (sy / sx) ** 2
    light = np.maximum(x - (sky[0] if np.isfinite(sky[0]) else np.median(x)), 0.0)
    weight = 1.0 / (1.0 + (SCATTER * light) ** 2 / (2.0 * sx * sx))
    kept, slope, intercept, known = np.ones(x.size, bool), 1.0, 0.0, False
    for _ in range(ROUNDS):
        slope, intercept = line(x[kept], y[kept], ratio, weight[kept])
        known = bool(np.isfinite(slope))
        if not known or not 1.0 / STEEPEST <= slope <= STEEPEST:
            slope = float(np.clip(slope, 1.0 / STEEPEST, STEEPEST)) if known else 1.0
            intercept = float(np.median(y[kept] - slope * x[kept]))
        off = (y - slope * x - intercept) * np.sqrt(weight)
        scale = 1.4826 * np.median(np.abs(off[kept] - np.median(off[kept])))
        stays = np.abs(off) <= CLIP_MAD * max(scale, 1e-9)
        if (stays == kept).all() or stays.sum() < LEAST_BINS:
            break
        kept = stays
    x, y, w, gy, gx = x[kept], y[kept], weight[kept], gy[kept], gx[kept]
    if x.size < LEAST_BINS:
        return None
    residual = float(np.sqrt(np.mean(w * (y - slope * x - intercept) ** 2)))
    # the noise by what is left about the line, shared out by the ratio: an image's own texture may pass for noise in it
    noise_x = residual**2 / (ratio + slope * slope)
    spread = float((w * (x - np.average(x, weights=w)) ** 2).sum() / w.sum()) - noise_x * (1.0 + 2.0 * np.sqrt(2.0 / x.size))
    information = w.sum() * max(spread, 0.0) * slope * slope / max(residual**2, 1e-14 * float(np.mean(y * y)), 1e-30)
    middle = float((w * gy).sum() / w.sum()), float((w * gx).sum() / w.sum())
    basis = np.stack([np.ones(x.size), gy - middle[0], gx - middle[1]])
    normal = basis * w @ basis.T
    tilt_x, tilt_y = (np.linalg.lstsq((basis * np.sqrt(w)).T, v * np.sqrt(w), rcond=None)[0] for v in (x, y))
    scatter_x, scatter_y = float(np.sqrt(noise_x)), float(np.sqrt(ratio * noise_x))
    i, j, band = key
    return Pair(
        i, j, band, int(x.size), slope, intercept, float(information) if known else 0.0, float((w * x).sum() / w.sum()), float((w * y).sum() / w.sum()), residual, scatter_x, scatter_y, middle,
        tuple(map(float, tilt_x)), tuple(map(float, tilt_y)), tuple(map(float, normal.ravel())),
    )  # fmt: skip


def healthy(images: list[Bins]) -> np.ndarray:
    """(images,) bool: those with pixels that differ from each other, and whose level is not absurd beside the others'."""
    found = np.array([b.share > 0 and bool(np.isfinite(b.mean).any()) and _spread(b.mean) > 0.0 for b in images])
    if found.sum() > 2:
        level = np.array([float(np.nanmedian(b.mean[0])) if ok else np.nan for b, ok in zip(images, found, strict=True)])
        middle = np.nanmedian(level)
        scatter = 1.4826 * np.nanmedian(np.abs(level - middle))
        typical = max(abs(middle), scatter, float(np.median([b.sigma[0] for b in images])))
        found &= ~(np.abs(level - middle) > ABSURD * typical)
    return found


def _spread(mean) -> float:
    good = mean[np.isfinite(mean)]
    return float(good.max()) - float(good.min())
