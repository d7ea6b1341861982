"""An image on a window of the lattice: by its mapping and a kernel, copied where it lies on the lattice already, or exactly by area."""

from typing import NamedTuple

import numpy as np

from lib.mosaic import loops
from lib.mosaic.image import Image
from lib.mosaic.kernels import BILINEAR, BORDER, LANCZOS3
from lib.mosaic.lattice import Lattice, Window
from lib.mosaic.mapping import Mapping

EXACT = "exact"
KERNELS = (BILINEAR, LANCZOS3, EXACT)
REACH = BORDER + 2  # px of an image around the positions that a window needs
NOTHING = np.zeros((1, 1), np.float32)


class Patch(NamedTuple):
    """An image on a window: ``values`` (bands, h, w), NaN outside it; ``good`` (h, w) its quality and ``edge`` (h, w) its feather, 0 outside."""

    values: np.ndarray
    good: np.ndarray
    edge: np.ndarray


def empty(bands: int, shape: tuple[int, int]) -> Patch:
    return Patch(np.empty((bands, *shape), np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32))


def needed(mapping: Mapping, window: Window, full: tuple[int, int]) -> Window:
    """The pixels of the image that a window of the lattice is made from."""
    if mapping.shift is not None:
        dy, dx = mapping.shift
        return Window(window.y0 - dy, window.x0 - dx, window.y1 - dy, window.x1 - dx) & Window(0, 0, *full)
    rows = slice(window.y0 // mapping.step - mapping.row0 - 1, (window.y1 - 1) // mapping.step - mapping.row0 + 3)
    columns = slice(window.x0 // mapping.step - mapping.col0 - 1, (window.x1 - 1) // mapping.step - mapping.col0 + 3)
    x, y = mapping.x[rows, columns], mapping.y[rows, columns]
    ends = [np.clip(v, -1e8, 1e8) for v in (y.min(), x.min(), y.max(), x.max())]
    found = Window(*(int(np.floor(v)) - REACH for v in ends[:2]), *(int(np.ceil(v)) + REACH + 1 for v in ends[2:]))
    return found & Window(0, 0, *full)


def onto(
    image: Image,
    mapping: Mapping,
    window: Window,
    kernel: str = BILINEAR,
    *,
    feather: float = 0.0,
    flux: bool = False,
    into: Patch | None = None,
) -> Patch:
    """The image's ``Patch`` on a window that lies in ``mapping.window``, written ``into`` arrays if given.

    With ``flux`` the values are per pixel, and scaled by the pixels' areas; else they are surface brightness.
    """
    made = into or empty(image.bands, window.shape)
    if mapping.shift is not None:
        _copied(image, mapping.shift, window, feather, made)
        return made
    quality = NOTHING if image.quality is None else image.quality
    loops.sample(
        image.planes, quality, image.quality is not None, image.origin, image.full, float(feather), kernel == LANCZOS3, flux,
        mapping.x, mapping.y, mapping.area, mapping.step, (mapping.row0, mapping.col0), (window.y0, window.x0), *made,
    )  # fmt: skip
    return made


def _copied(image: Image, shift, window: Window, feather: float, made: Patch) -> None:
    """Pixels that lie on the lattice are those of the image, bit for bit."""
    (dy, dx), (oy, ox) = shift, image.origin
    _, ny, nx = image.pixels.shape
    there = Window(oy + dy, ox + dx, oy + dy + ny, ox + dx + nx) & window
    made.values[...], made.good[...], made.edge[...] = np.nan, 0.0, 0.0
    if there.empty:
        return
    to = there.slices(window)
    source = there.slices(Window(oy + dy, ox + dx, 0, 0))
    made.values[:, to[0], to[1]] = image.pixels[:, source[0], source[1]]
    made.good[to] = 1.0 if image.quality is None else image.quality[BORDER:-BORDER, BORDER:-BORDER][source]
    made.edge[to] = _feather(there.y0 - dy, there.x0 - dx, there.shape, image.full, feather)


def _feather(y0: int, x0: int, shape, full, feather: float):
    if feather <= 0.0:
        return np.float32(1.0)
    y, x = np.arange(y0, y0 + shape[0], dtype=np.float32), np.arange(x0, x0 + shape[1], dtype=np.float32)
    inward = np.minimum(np.minimum(y, full[0] - 1 - y)[:, None], np.minimum(x, full[1] - 1 - x)) + 1.0
    return np.minimum(inward * np.float32(1.0 / feather), 1.0).astype(np.float32)


def exact(image: Image, lattice: Lattice, window: Window, *, feather: float = 0.0, flux: bool = False) -> Patch:
    """The same by the areas that pixels share on the sphere (``reproject_exact``): slow, and free of any kernel; weights are bilinear."""
    from reproject import reproject_exact

    from lib.mosaic import mapping

    made = empty(image.bands, window.shape)
    found = mapping.of(lattice, image.wcs, image.full)
    if found is None:
        made.values[...], made.good[...], made.edge[...] = np.nan, 0.0, 0.0
        return made
    onto(image, found, window, BILINEAR, feather=feather, into=made)
    moved = image.wcs.deepcopy()
    moved.wcs.crpix = moved.wcs.crpix - np.array(image.origin[::-1])
    if moved.sip is not None:
        raise ValueError("the exact kernel does not know SIP distortions: take bilinear or lanczos3")
    scale = float(np.median(found.area)) if flux else 1.0
    for band, plane in enumerate(image.pixels):
        made.values[band] = reproject_exact((plane, moved), lattice.cut(window), shape_out=window.shape, return_footprint=False) * scale
    return made
