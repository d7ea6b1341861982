"""Two tiles made photometrically one, for callers that have arrays and no lattice: the pair fit and the solution of ``lib.mosaic``."""

import logging

import numpy as np
from scipy import ndimage

from lib.mosaic import image, solve
from lib.mosaic.overlaps import LEAST_BINS, Bins, pairs

log = logging.getLogger(__name__)
SIDES = (8, 4, 2, 1)  # of bins, px: the largest that leaves enough of them
ERODED_PIX = 1


def compute_tile_photometric_scaling(reference, target, *, mask=None) -> tuple[np.ndarray, np.ndarray]:
    """``(gains, offsets)``, each (bands,) float32 and finite, that bring ``target`` to ``reference``: ``gain * target + offset``.

    Both are (bands, ny, nx), (ny, nx), or (ny, nx, bands) as colour pictures have it, on the same pixels, NaN where there is nothing;
    ``mask`` (ny, nx) is True where both have enough coverage, without it where both are finite.  A band without a pixel in common has gain 1 and offset 0.
    """
    one, other = _planes(reference), _planes(target)
    if one.shape != other.shape:
        raise ValueError(f"reference and target must have the same shape, got {np.shape(reference)} and {np.shape(target)}")
    if mask is None:
        log.info("[GRID] Coverage not available for tile target, falling back to finite-pixel mask.")
        mask = np.ones(one.shape[1:], bool)
    elif np.shape(mask) != one.shape[1:]:
        raise ValueError(f"mask must be {one.shape[1:]}, got {np.shape(mask)}")
    gains, offsets = np.ones(len(one), np.float32), np.zeros(len(one), np.float32)
    for band in range(len(one)):
        common = np.asarray(mask, bool) & np.isfinite(one[band]) & np.isfinite(other[band])
        eroded = ndimage.binary_erosion(common, iterations=ERODED_PIX, border_value=1)
        common = eroded if eroded.sum() >= LEAST_BINS else common
        if not common.any():
            log.info("[GRID] no valid pixels in overlap, scaling disabled for tile target, channel %d", band)
            continue
        x, y = (np.where(common, v[band], np.float32(np.nan))[None] for v in (one, other))
        gains[band], offsets[band] = _scaling(x, y)
    for name, values in (("gains", gains), ("offsets", offsets)):
        log.debug("[GRID] %s: %s", name, np.array2string(values, precision=5))
    return gains, offsets


def apply_tile_photometric_scaling(tile, gains, offsets) -> np.ndarray:
    """``gains * tile + offsets``, a new float32 array of the tile's shape; NaN stay NaN, and the tile is as it was."""
    gains, offsets = np.atleast_1d(np.asarray(gains, np.float32)), np.atleast_1d(np.asarray(offsets, np.float32))
    tile = np.asarray(tile)
    if tile.ndim == 2:
        shape: tuple[int, ...] = (1, 1)
        gains, offsets = gains[:1], offsets[:1]
    else:
        shape = (-1, 1, 1) if _bands_first(tile.shape) else (1, 1, -1)
    made = tile.astype(np.float32) * gains.reshape(shape) + offsets.reshape(shape)
    if log.isEnabledFor(logging.DEBUG) and np.isfinite(made).any():
        log.debug("[GRID] scaled tile: min %g, median %g, max %g", np.nanmin(made), np.nanmedian(made), np.nanmax(made))
    return made


def _bands_first(shape) -> bool:
    """Pictures have their few bands last, science arrays first."""
    return not (shape[-1] <= 4 < shape[0])


def _planes(tile) -> np.ndarray:
    """(bands, ny, nx) float32, infinite values NaN."""
    tile = np.asarray(tile, np.float32)
    if tile.ndim not in (2, 3):
        raise ValueError(f"a tile must be (bands, ny, nx), (ny, nx) or (ny, nx, bands), got {tile.shape}")
    planes = tile[None] if tile.ndim == 2 else tile if _bands_first(tile.shape) else np.moveaxis(tile, -1, 0)
    return np.where(np.isfinite(planes), planes, np.float32(np.nan))


def _scaling(x, y) -> tuple[float, float]:
    """Gain and offset of one band, (1, ny, nx) each, NaN where they are not compared; offsets alone where there are too few bins for a line."""
    for side in SIDES:
        one, other = (_binned(v, side) for v in (x, y))
        if np.isfinite(one.mean + other.mean).sum() >= LEAST_BINS and (found := pairs(one, other, 0, 1, side)):
            table = solve.table(found, np.zeros((2, 2)), 1, healthy=[True, True])
            gain = float(table.gain[1, 0] / table.gain[0, 0])
            gain = float(np.clip(gain, *solve.LIMITS))
            return gain, float(found[0].x - gain * found[0].y)
    return 1.0, float(np.nanmedian(x) - np.nanmedian(y))


def _binned(plane, side: int) -> Bins:
    _, ny, nx = plane.shape
    whole = plane[:, : ny // side * side, : nx // side * side].reshape(1, ny // side, side, nx // side, side)
    return Bins((0, 0), whole.mean(axis=(2, 4)), image.noise(plane) / side, image.level(plane))
