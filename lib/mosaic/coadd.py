"""A window of the lattice from the images that meet it: each resampled once, block by block, and stacked.

Memory is that of the window, one block of samples, and the images of the rows in work: it does not grow with the number of images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from lib.mosaic import resample, stack
from lib.mosaic.image import Image
from lib.mosaic.kernels import BILINEAR
from lib.mosaic.lattice import Lattice, Window
from lib.mosaic.mapping import Mapping

BLOCK = (32, 1024)  # px of a block: its samples stay in the cache
IMAGE_BYTES = 1 << 28  # of images in memory: more are read strip by strip of the window
CUBE_BYTES = 1 << 26  # of samples that wait for each other: blocks get smaller, the more images meet them
FEATHER_PIX = 64.0


@dataclass(frozen=True)
class Source:
    """An image that a coadd is made from: where it lies, how to get it, and what makes it photometrically one with the others.

    Its pixels become ``gain * value + offset + slope . (y, x)``, (bands,) and (bands, 2), with (y, x) the lattice's, from ``middle``; ``sigma``
    (bands,) is the noise after the gain.  ``load(window)`` gives the image's pixels of a window of its own.
    """

    name: str
    mapping: Mapping
    full: tuple[int, int]
    load: Callable[[Window], Image]
    gain: np.ndarray
    offset: np.ndarray
    sigma: np.ndarray
    slope: np.ndarray | None = None
    middle: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Settings:
    """How a coadd is made; ``feather_pix`` from an image's edge inwards its weight rises from 0 to that of its noise."""

    kernel: str = BILINEAR
    rule: stack.Rule = field(default_factory=stack.Rule)
    feather_pix: float = FEATHER_PIX
    flux: bool = False

    def __post_init__(self):
        if self.kernel not in resample.KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(resample.KERNELS)}, got {self.kernel!r}")
        if self.feather_pix < 0.0:
            raise ValueError(f"feather_pix must not be negative, got {self.feather_pix}")


def of(lattice: Lattice, window: Window, sources: list[Source], sky: np.ndarray, settings: Settings) -> stack.Block:
    """The coadd of a window; ``sources`` in any order, and any other window that holds a pixel, give the same bits.

    ``sky`` (bands,) is the level above which there is light, of the whole mosaic and not of the window.
    """
    bands = len(sky)
    sources = sorted(sources, key=lambda s: s.name)
    made = stack.Block.empty(bands, window.shape)
    meets = [s.mapping.window & window for s in sources]
    height, width = _block(settings.rule, max(_deepest(meets, window), 1), bands)
    work = _Work(np.asarray(sky, np.float32), height, width)
    held = 4 * (bands + 1) * sum(meet.shape[0] * meet.shape[1] for meet in meets if not meet.empty)
    tall = max(1, -(-window.shape[0] * IMAGE_BYTES // max(held, 1) // height)) * height
    for y in range(window.y0, window.y1, tall):
        strip = Window(y, window.x0, min(y + tall, window.y1), window.x1)
        _strip(lattice, window, strip, sources, [meet & strip for meet in meets], settings, work, made)
    return made


def _strip(lattice: Lattice, window: Window, strip: Window, sources, meets: list[Window], settings: Settings, work: "_Work", made) -> None:
    """Fill the window's rows of a strip, block by block; an image is there from the first row that needs it to the last."""
    images: dict[int, Image] = {}
    height, width = work.total.shape[1:]
    for y in range(strip.y0, strip.y1, height):
        for x in range(strip.x0, strip.x1, width):
            block = Window(y, x, min(y + height, strip.y1), min(x + width, strip.x1))
            seen = [k for k, meet in enumerate(meets) if not (meet & block).empty]
            for k in seen:
                if k not in images:
                    images[k] = sources[k].load(resample.needed(sources[k].mapping, meets[k], sources[k].full))
            rows, columns = block.slices(window)
            if not seen:
                made.science[:, rows, columns] = np.nan
            else:
                into = stack.Block(*(a[:, rows, columns] for a in (made.science, made.weight, made.coverage, made.rejected)))
                work.stacked(lattice, block, [(sources[k], images[k], meets[k] & block) for k in seen], settings, into)
        for k in [k for k in images if meets[k].y1 <= y + height]:
            del images[k]


def _deepest(meets: list[Window], window: Window) -> int:
    """The most images that meet one block of the usual size."""
    counts = np.zeros((-(-window.shape[0] // BLOCK[0]), -(-window.shape[1] // BLOCK[1])), int)
    for meet in meets:
        if not meet.empty:
            rows, columns = meet.slices(window)
            counts[rows.start // BLOCK[0] : -(-rows.stop // BLOCK[0]), columns.start // BLOCK[1] : -(-columns.stop // BLOCK[1])] += 1
    return int(counts.max(initial=0))


def _block(rule: stack.Rule, depth: int, bands: int) -> tuple[int, int]:
    """Rows and columns of a block: fewer where all samples of a pixel wait for each other and there are many."""
    height, width = BLOCK
    if not rule.streams:
        pixels = max(64, CUBE_BYTES // (4 * (bands + 2) * depth))
        width = min(width, max(64, pixels // height))
        height = min(height, max(1, pixels // width))
    return height, width


class _Work:
    """The arrays of a block, made once."""

    def __init__(self, sky: np.ndarray, height: int, width: int):
        self.bands, self.sky = (bands := len(sky)), sky
        self.total = np.empty((bands, height, width))
        self.weight = np.empty((bands, height, width))
        self.patch = np.empty((bands + 2) * height * width, np.float32)
        self.cube: np.ndarray | None = None
        self.inverse: dict[str, np.ndarray] = {}

    def stacked(
        self, lattice: Lattice, block: Window, seen: list[tuple[Source, Image, Window]], settings: Settings, into: stack.Block
    ) -> None:
        if settings.rule.streams:
            self._mean(lattice, block, seen, settings, into)
        else:
            self._all(lattice, block, seen, settings, into)

    def _patch(self, shape) -> resample.Patch:
        h, w = shape
        n, flat = h * w, self.patch
        return resample.Patch(
            flat[: self.bands * n].reshape(self.bands, h, w),
            flat[self.bands * n : (self.bands + 1) * n].reshape(h, w),
            flat[(self.bands + 1) * n : (self.bands + 2) * n].reshape(h, w),
        )

    def _mean(self, lattice, block, seen, settings, into):
        h, w = block.shape
        total, weight = self.total[:, :h, :w], self.weight[:, :h, :w]
        total[...], weight[...] = 0.0, 0.0
        for source, image, meet in seen:
            patch = corrected(source, image, lattice, meet, settings, self._patch(meet.shape))
            rows, columns = meet.slices(block)
            inverse = self.inverse.setdefault(source.name, inverse_variance(source.sigma))
            for band in range(self.bands):
                parts = (a[band, rows, columns] for a in (total, weight, into.coverage))
                stack.add(patch.values[band], patch.good, patch.edge, inverse[band], *parts)
        for band in range(self.bands):
            stack.finish(total[band], weight[band], into.science[band], into.weight[band])

    def _all(self, lattice, block, seen, settings, into):
        (h, w), n = block.shape, len(seen)
        size = n * (self.bands + 2) * h * w
        if self.cube is None or self.cube.size < size:
            self.cube = np.empty(size, np.float32)
        cube = self.cube[: n * self.bands * h * w].reshape(n, self.bands, h, w)
        good, edge = self.cube[cube.size : size].reshape(2, n, h, w)
        cube[...], good[...], edge[...] = np.nan, 0.0, 0.0
        for k, (source, image, meet) in enumerate(seen):
            patch = corrected(source, image, lattice, meet, settings, self._patch(meet.shape))
            rows, columns = meet.slices(block)
            cube[k][:, rows, columns], good[k][rows, columns], edge[k][rows, columns] = patch
        sigma = np.array([s.sigma for s, _, _ in seen], np.float32)
        stack.samples(settings.rule, cube, good, edge, np.where(sigma > 0, sigma, 1.0).astype(np.float32), self.sky, into)


def inverse_variance(sigma) -> np.ndarray:
    """(bands,) float32; 1 for an image without noise: all of a noise-free set count alike."""
    return np.where(sigma > 0, 1.0 / np.square(np.where(sigma > 0, sigma, 1.0), dtype=float), 1.0).astype(np.float32)


def corrected(
    source: Source, image: Image, lattice: Lattice, window: Window, settings: Settings, into: resample.Patch | None = None
) -> resample.Patch:
    """A source on a window, its gain, offset and slope applied."""
    if settings.kernel == resample.EXACT and source.mapping.shift is None:
        patch = resample.exact(image, lattice, window, feather=settings.feather_pix, flux=settings.flux)
    else:
        patch = resample.onto(image, source.mapping, window, settings.kernel, feather=settings.feather_pix, flux=settings.flux, into=into)
    for band, values in enumerate(patch.values):
        if source.gain[band] != 1.0:
            values *= np.float32(source.gain[band])
        if source.offset[band] != 0.0:
            values += np.float32(source.offset[band])
        if source.slope is not None and np.any(source.slope[band]):
            y = np.arange(window.y0, window.y1, dtype=float) - source.middle[0]
            x = np.arange(window.x0, window.x1, dtype=float) - source.middle[1]
            values += (source.slope[band][0] * y[:, None] + source.slope[band][1] * x).astype(np.float32)
    return patch
