"""Steps between images that overlap, at points of their tile, each image by its nearest pixel.

Where one image is alone it is the mosaic, so its pixels say nothing there; what counts is where two images are, and they are compared with each
other.  An image against the tile, everywhere, tells besides whether the tile is made of it as the table of corrections says.
"""

from itertools import combinations

import numpy as np

from lib.frames import plan
from lib.frames.engine import Input, Where
from lib.mosaic import lattice
from lib.mosaic.lattice import Window

IMAGES = 60  # of a tile; of more every second, third, ...: pairs grow as the square
POINTS, ALL_POINTS = 6000, 3_000_000  # of an overlap, and of all of a tile's
LEAST, ENOUGH = 100, 2000  # the median of ENOUGH differences is known to 0.04 of the noise; steps of fewer count less, as their root


def apart(tile: dict, science, images: list[Input], where: Where) -> dict[tuple[str, str, int], float]:
    """The steps of a tile, ``{(image, other, plane): in units of a pixel's noise}``; ``science`` (planes, ny, nx) are its pixels on disk."""
    grid, whole = plan.lattice_of(tile), plan.window_of(tile)
    images = images[:: max(1, -(-len(images) // IMAGES))]
    prints = {one.name: lattice.footprint(grid, one.wcs, one.shape) & whole for one in images}
    boxes = {(name, name): box for name, box in prints.items()} | {
        (a, b): prints[a] & prints[b] for a, b in combinations(sorted(prints), 2)
    }
    points = _points({key: box for key, box in boxes.items() if not box.empty})
    seen: dict[tuple[str, tuple[str, str]], np.ndarray] = {}
    for one in images:
        mine = [key for key in points if one.name in key]
        at = np.concatenate([points[key] for key in mine], axis=1)
        cuts = np.cumsum([points[key].shape[1] for key in mine])[:-1]
        seen |= {(one.name, key): v for key, v in zip(mine, np.split(_corrected(one, where, grid, *at), cuts, axis=1), strict=True)}
    noise = {one.name: np.maximum(np.multiply(one.sigma, one.gain), 1e-12) for one in images}
    stored = {key: science[:, y - whole.y0, x - whole.x0] for key, (y, x) in points.items()}
    alone = {name: np.nanmedian(seen[name, (name, name)] - stored[name, name], axis=1) for name in prints if (name, name) in points}
    found = {}
    for a, b in (key for key in points if key[0] != key[1]):
        off = seen[a, (a, b)] - seen[b, (a, b)]
        number = np.isfinite(off + stored[a, b]).sum(axis=1)
        for plane in np.flatnonzero(number >= LEAST):
            step = max(abs(np.nanmedian(off[plane])), abs(alone[a][plane] - alone[b][plane]))
            typical = np.sqrt((noise[a][plane] ** 2 + noise[b][plane] ** 2) / 2)
            found[a, b, int(plane)] = float(step / typical * min(1.0, np.sqrt(number[plane] / ENOUGH)))
    return found


def _points(boxes: dict[tuple[str, str], Window]) -> dict[tuple[str, str], np.ndarray]:
    """(y, x) of some lattice pixels of each box: all of a small one."""
    random, most = np.random.default_rng(1), min(POINTS, ALL_POINTS // max(1, len(boxes)))
    found = {}
    for key, box in boxes.items():
        size = box.shape[0] * box.shape[1]
        at = np.arange(size) if size <= most else random.integers(0, size, most)
        found[key] = np.array(np.unravel_index(at, box.shape)) + [[box.y0], [box.x0]]
    return found


def _corrected(one: Input, where: Where, grid: lattice.Lattice, y, x) -> np.ndarray:
    """(planes, points) of an image at pixels of the lattice, its gain, offset and slope applied; NaN outside it."""
    pixels = one.load(where).pixels
    px, py = lattice.pixel_of(one.wcs, *grid.wcs.all_pix2world(x, y, 0))
    i, j = (np.round(np.nan_to_num(v, nan=-9.0)).astype(int) for v in (px, py))
    inside = (i >= 0) & (i < pixels.shape[2]) & (j >= 0) & (j < pixels.shape[1])
    out = np.full((len(pixels), len(x)), np.nan)
    out[:, inside] = pixels[:, j[inside], i[inside]]
    slope = np.array([a * (y - one.middle[0]) + b * (x - one.middle[1]) for a, b in one.slope])
    return np.array(one.gain)[:, None] * out + np.array(one.offset)[:, None] + slope
