"""An image in memory: native float32 with a border, NaN where it is bad, and how noisy it is."""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from lib.mosaic import loops
from lib.mosaic.kernels import BORDER

LAG_PIX = 3  # between the pixels whose difference measures the noise: debayered and resampled neighbours are correlated
SAMPLED = 60_000  # pixels, or differences, that are looked at: half a per cent of the noise


@dataclass(frozen=True)
class Image:
    """``planes`` (bands, ny + 6, nx + 6) float32, NaN where bad and in the border; ``quality`` (ny + 6, nx + 6) a relative inverse variance
    of median 1, 0 where bad, or None: 1 everywhere.  Its first pixel is ``origin`` (y, x) of the image of ``full`` (ny, nx) that ``wcs`` describes.
    """

    planes: np.ndarray
    wcs: WCS
    full: tuple[int, int]
    origin: tuple[int, int] = (0, 0)
    quality: np.ndarray | None = None

    @property
    def bands(self) -> int:
        return self.planes.shape[0]

    @property
    def pixels(self) -> np.ndarray:
        """(bands, ny, nx) without the border, a view."""
        return self.planes[:, BORDER:-BORDER, BORDER:-BORDER]


def of(pixels, wcs: WCS, quality=None, *, full=None, origin=(0, 0)) -> Image:
    """An ``Image`` of (bands, ny, nx) or (ny, nx) pixels of any kind and byte order, copied; ``quality`` (ny, nx) is 0 where they are bad."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    bands, ny, nx = pixels.shape
    planes = _bordered((bands, ny, nx), np.nan)
    inner = planes[:, BORDER:-BORDER, BORDER:-BORDER]
    inner[...] = pixels
    if pixels.dtype.kind == "f":
        loops.drop_infinite(planes)
    made = None
    if quality is not None:
        made = _bordered((ny, nx), 0.0)
        made[BORDER:-BORDER, BORDER:-BORDER] = np.where(np.isfinite(quality) & (quality > 0), quality, 0.0)
        inner[:, made[BORDER:-BORDER, BORDER:-BORDER] == 0.0] = np.nan
    return Image(planes, wcs, full or (ny, nx), origin, made)


def _bordered(shape, value) -> np.ndarray:
    made = np.empty((*shape[:-2], shape[-2] + 2 * BORDER, shape[-1] + 2 * BORDER), np.float32)
    made[..., :BORDER, :] = made[..., -BORDER:, :] = made[..., :BORDER] = made[..., -BORDER:] = value
    return made


def noise(pixels) -> np.ndarray:
    """(bands,) float32: standard deviation of the pixels of (bands, ny, nx) around what is smooth, 0 where none is good.

    The median difference of pixels three apart, which stars and nebulae, being few or smooth, do not reach.
    """
    found = []
    for plane in pixels:
        step = max(1, int(np.ceil(np.sqrt(plane.size / SAMPLED))))
        lines = plane[::step]
        apart = (lines[:, LAG_PIX:] - lines[:, :-LAG_PIX])[:, ::step]
        apart = apart[np.isfinite(apart)]
        found.append(1.4826 * float(np.median(np.abs(apart - np.median(apart)))) / 2**0.5 if apart.size else 0.0)
    return np.array(found, np.float32)


def level(pixels) -> np.ndarray:
    """(bands,) float32: the median of the good pixels of (bands, ny, nx), the sky where that is most of them; NaN where none is good."""
    found = []
    for plane in pixels:
        step = max(1, int(np.ceil(np.sqrt(plane.size / SAMPLED))))
        good = plane[::step, ::step]
        good = good[np.isfinite(good)]
        found.append(np.median(good) if good.size else np.nan)
    return np.array(found, np.float32)
