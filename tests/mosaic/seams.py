"""What of seams is left in a mosaic whose truth is known; and the steps from frames to mosaic in memory, as a caller of the library has them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from lib.mosaic import coadd, image, lattice, mapping, overlaps, solve, stack
from tests.mosaic.scenes import Scene

RING_PIX = 12
LEAST_PIX = 3000  # of a ring on either side: medians of fewer tell of the noise


@dataclass(frozen=True)
class Made:
    block: stack.Block
    table: solve.Table
    scene: Scene

    @cached_property
    def sets(self) -> np.ndarray:
        """(ny, nx) which frames cover a pixel, a bit each."""
        return covered_by(self.scene)


def mosaic(scene: Scene, settings: coadd.Settings | None = None, normalise: bool = True) -> Made:
    """A scene's frames to its canvas: measured, normalised, stacked."""
    grid = lattice.Lattice(scene.frames[0].wcs.__class__(scene.canvas), scene.shape)
    images, mappings, bins, noises, skies = [], [], [], [], []
    for one in scene.frames:
        wcs = one.wcs
        images.append(image.of(one.pixels, wcs))
        mappings.append(mapping.of(grid, wcs, one.shape))
        noises.append(image.noise(one.pixels))
        skies.append(image.level(one.pixels))
        if normalise:
            bins.append(overlaps.bins(images[-1], mappings[-1], noises[-1], skies[-1]))
    bands, number = len(scene.frames[0].pixels), len(scene.frames)
    table = solve.identity(number, bands)
    if normalise:
        found = [p for i in range(number) for j in range(i + 1, number) for p in overlaps.pairs(bins[i], bins[j], i, j)]
        middles = np.array([((m.window.y0 + m.window.y1) / 2, (m.window.x0 + m.window.x1) / 2) for m in mappings])
        table = solve.table(found, middles, bands)
    sources = [
        coadd.Source(
            f"{k:03d}",
            mappings[k],
            scene.frames[k].shape,
            lambda _, k=k: images[k],
            table.gain[k],
            table.offset[k],
            noises[k] * table.gain[k],
        )
        for k in range(number)
    ]
    sky = np.median(np.array(skies) * table.gain + table.offset, axis=0)
    return Made(coadd.of(grid, grid.window, sources, sky, settings or coadd.Settings()), table, scene)


def covered_by(scene: Scene) -> np.ndarray:
    """Which frames reach each pixel of the canvas, by their closed-form maps alone."""
    ny, nx = scene.shape
    y, x = np.mgrid[:ny, :nx].astype(float)
    sets = np.zeros(scene.shape, np.int64)
    for k, one in enumerate(scene.frames):
        u, v = (c - o for c, o in zip((x, y), one.origin, strict=True))
        back = np.linalg.inv(one.turn)
        px, py = (back[a, 0] * u + back[a, 1] * v + one.header[f"CRPIX{a + 1}"] - 1.0 for a in (0, 1))
        sets |= ((px >= 0) & (px <= one.shape[1] - 1) & (py >= 0) & (py <= one.shape[0] - 1)).astype(np.int64) << k
    return sets


def residual(made, truth, sets) -> np.ndarray:
    """(bands, ny, nx): the mosaic minus the truth, after one gain and offset a band for all of it."""
    left, made = np.empty_like(truth), made.astype(float)  # polyfit of float32 finds no rank in millions of points
    for band in range(len(truth)):
        good = np.isfinite(made[band]) & (sets > 0)
        bright = good & (truth[band] < np.quantile(truth[band], 0.995))  # cores of stars tell of kernels
        middle = float(np.median(made[band][bright]))
        kept, off = bright, truth[band] * 0.0
        for _ in range(4):
            gain, offset = np.polyfit(made[band][kept] - middle, truth[band][kept] - middle, 1)
            off = gain * (made[band] - middle) + offset + middle - truth[band]
            kept = bright & (np.abs(off) < 4 * 1.4826 * np.median(np.abs(off[bright])))
        left[band] = off
    return left


def steps(left, sets, least: int = LEAST_PIX) -> np.ndarray:
    """The step across each border between regions that other frames cover: the difference of the medians of 12 px rings on its two sides."""
    found = []
    regions = [int(s) for s in np.unique(sets) if s]
    rings = {s: ndimage.binary_dilation(sets == s, iterations=RING_PIX) for s in regions}
    for k, one in enumerate(regions):
        for other in regions[k + 1 :]:
            here, there = (sets == one) & rings[other], (sets == other) & rings[one]
            for band in left:
                a, b = band[here & np.isfinite(band)], band[there & np.isfinite(band)]
                if min(a.size, b.size) >= least:
                    found.append(abs(float(np.median(a)) - float(np.median(b))))
    return np.array(found)
