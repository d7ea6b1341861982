"""What lies around a stamp's galaxy: the level of the sky and its noise, with the correlation that drizzling leaves."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

LAGS = 3  # pixels over which neighbours' noise may be correlated; drizzling and resampling reach 2
SHARE = 8  # a stamp's frame is this part of its side wide, 3 px or more
CLIP = 3.0  # sigma
DISAGREE = 4.0  # a stamp whose noise is so many times another than its catalogue's is not the stamp the catalogue means


class StampError(ValueError):
    """This stamp cannot become a source, and why."""


@dataclass(frozen=True, eq=False)
class Sky:
    """``level``, and the covariance of pixels (lag y, lag x), both -LAGS..LAGS."""

    level: float
    covariance: np.ndarray
    electrons: float | None = None  # of one count; the galaxy's own light then adds its noise

    @property
    def density(self) -> float:
        """Variance a pixel of the sum of many: the noise power at zero frequency."""
        return float(max(self.covariance.sum(), self.covariance[LAGS, LAGS]))

    def growth(self, light):
        """Noise where there is light over the sky's."""
        return 1.0 if self.electrons is None else np.sqrt(1.0 + np.maximum(light, 0.0) / (self.electrons * self.density))

    def after(self, transfer, grid) -> float:
        """Standard deviation of a pixel after a filter, given by its half-plane transfer (as of ``rfft2``) on a grid."""
        response = fft.irfft2(np.abs(transfer) ** 2, grid)
        lags = np.arange(-LAGS, LAGS + 1)
        return float(np.sqrt(max((response[np.ix_(lags, lags)] * self.covariance).sum(), 0.0)))


def measure(image, variance: float | None = None, electrons: float | None = None) -> Sky:
    """The sky in the frame of ``image``, without what stands out of it; its ``variance`` must be about the one given."""
    width = max(3, min(image.shape) // SHARE)
    frame = np.ones(image.shape, bool)
    frame[width:-width, width:-width] = False
    for _ in range(10):
        level = np.median(image[frame])
        sigma = 1.4826 * np.median(np.abs(image[frame] - level))
        frame &= np.abs(image - level) <= CLIP * sigma
    if not sigma > 0.0:
        raise StampError("the stamp's frame has no noise: is it padded with a constant?")
    level = float(image[frame].mean())
    found = _covariance(np.where(frame, image - level, 0.0), frame)
    own = found[LAGS, LAGS]
    if variance is not None and not variance / DISAGREE < own < variance * DISAGREE:
        raise StampError(f"noise variance {own:.3g} in the stamp's frame, {variance:.3g} given")
    return Sky(level, found, electrons)


def _covariance(values, where):
    """Mean product of pairs of pixels at every lag up to LAGS."""
    grid = tuple(fft.next_fast_len(n + LAGS) for n in values.shape)
    products, pairs = (fft.irfft2(np.abs(fft.rfft2(v, grid)) ** 2, grid) for v in (values, where.astype(float)))
    lags = np.ix_(*2 * [np.arange(-LAGS, LAGS + 1)])
    return products[lags] / np.maximum(pairs[lags], 1.0)
