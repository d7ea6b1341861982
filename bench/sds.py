"""Scenario S1 by three mega-tiles and one super-stack of them, beside one stack of all frames: ``make bench NAME=sds``.

Seams and noise are those of the residual to the truth, where the depth is kept; the outer ring is what lies within 24 px of the kept area's edge.
Memory is what the super-stack allocates, of three mega-tiles and of twelve.
"""

import json
import tracemalloc

import numpy as np
from scipy import ndimage

from lib.mosaic import coadd, coverage, image, lattice, mapping, overlaps, solve, stack
from lib.mosaic.lattice import Lattice, Window
from tests.mosaic import scenes, seams

BATCHES = ((0, 1, 2), (3, 4, 5), (6, 7, 8))  # rows of S1
KEEP, RING_PIX = 0.4, 24
RULE = coadd.Settings(rule=stack.Rule("kappa_sigma"))


def sources_of(scene: scenes.Scene, grid: Lattice) -> tuple[list[coadd.Source], np.ndarray]:
    """The frames, corrected, and the level above which there is light."""
    images = [image.of(one.pixels, one.wcs) for one in scene.frames]
    found = [mapping.of(grid, one.wcs, one.shape) for one in scene.frames]
    noise, sky = ([f(one.pixels) for one in scene.frames] for f in (image.noise, image.level))
    bins = [overlaps.bins(*four) for four in zip(images, found, noise, sky, strict=True)]
    pairs = [p for i in range(len(bins)) for j in range(i + 1, len(bins)) for p in overlaps.pairs(bins[i], bins[j], i, j)]
    table = solve.table(pairs, np.zeros((len(bins), 2)), len(sky[0]))
    made = [
        coadd.Source(f"{k:03d}", found[k], one.shape, lambda _, k=k: images[k], table.gain[k], table.offset[k], noise[k] * table.gain[k])
        for k, one in enumerate(scene.frames)
    ]
    return made, np.median(np.array(sky) * table.gain + table.offset, axis=0)


def mega(grid: Lattice, sources: list[coadd.Source], sky, name: str) -> tuple[coadd.Source, np.ndarray]:
    """A batch on the canvas, as an image of the next level with the weights of its pixels; and how many frames it has."""
    block = coadd.of(grid, grid.window, sources, sky, RULE)
    weight = block.weight.min(axis=0)
    quality = weight / np.median(weight[weight > 0])
    ones, noise = np.ones(len(sky), np.float32), image.noise(block.science)

    def load(near: Window):
        cut = np.s_[near.y0 : near.y1, near.x0 : near.x1]
        return image.of(block.science[:, *cut], grid.wcs, quality[cut], full=grid.shape, origin=(near.y0, near.x0))

    found = mapping.of(grid, grid.wcs, grid.shape)
    return coadd.Source(name, found, grid.shape, load, ones, 0 * ones, noise), block.coverage.max(axis=0)  # type: ignore[arg-type]


def super_stack(grid: Lattice, sources: list[coadd.Source], sky) -> tuple[stack.Block, float]:
    """The stack, and the MB it took at most."""
    tracemalloc.start()
    made = coadd.of(grid, grid.window, sources, sky, coadd.Settings(feather_pix=0.0))
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return made, peak


def spread(left) -> float:
    return 1.4826 * float(np.median(np.abs(left - np.median(left))))


def main() -> None:
    scene = scenes.s1(1)
    grid = lattice.Lattice(scene.frames[0].wcs.__class__(scene.canvas), scene.shape)
    sources, sky = sources_of(scene, grid)
    megas, counts = zip(*(mega(grid, [sources[k] for k in batch], sky, f"m{b}") for b, batch in enumerate(BATCHES)), strict=True)
    made, small = super_stack(grid, list(megas), sky)
    again = [coadd.Source(f"{m.name}-{k}", *list(vars(m).values())[1:]) for m in megas for k in range(4)]
    _, large = super_stack(grid, again, sky)
    direct = coadd.of(grid, grid.window, sources, sky, RULE)
    depth = sum(counts)
    kept = coverage.kept(depth, coverage.full_depth(coverage.histogram(depth)), KEEP)
    truth, sets = scene.sky.seen(scene.shape), np.where(kept, seams.covered_by(scene), 0)
    left = seams.residual(np.where(kept, made.science, np.nan), truth, sets)
    steps = seams.steps(left, sets)
    straight = seams.residual(np.where(kept, direct.science, np.nan), truth, sets)
    inner = ndimage.binary_erosion(kept, iterations=RING_PIX)
    good = np.isfinite(left).all(axis=0) & np.isfinite(straight).all(axis=0)
    ring, core = (spread(left[:, where & good]) for where in (kept & ~inner, inner))
    variance = (spread(left[:, kept & good]) / spread(straight[:, kept & good])) ** 2
    print(
        f"seams {np.median(steps):.3f} / {np.quantile(steps, 0.95):.3f} ADU; ring over core {ring / core:.2f}; variance over a direct stack {variance:.3f}"
    )
    print(f"super-stack of 3 mega-tiles {small:.0f} MB, of 12 {large:.0f} MB")
    print(json.dumps({
        "seam_median": round(float(np.median(steps)), 3), "seam_p95": round(float(np.quantile(steps, 0.95)), 3), "noise_ring_ratio": round(ring / core, 3),
        "variance_ratio": round(variance, 4), "kept": round(float(kept.mean()), 3), "peak_mb": round(small), "ratio_peak_4x": round(large / small, 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
