"""What may be done to a finished mosaic: colours made equal, and a renormalisation by coverage that is kept for compatibility."""

import logging

import numpy as np
from scipy import ndimage

log = logging.getLogger(__name__)
LUMINANCE = (5.0, 85.0)  # percentiles between which a pixel is sky
LEAST_PIX, LEAST_SHARE = 5000, 0.01
COLOUR_LIMITS = (0.95, 1.05)
SIGMA_PIX = 50.0
SCALE_LIMITS = (0.5, 2.0)
TILE_LIMITS = (0.85, 1.18)
HARMLESS = 0.002  # a change of calibrated pixels beyond it is refused


def rgb_gains(pixels) -> tuple[np.ndarray, int]:
    """(gains (3,) float32, pixels they are from) that make the medians of (3, ny, nx) equal: on pixels positive in all colours, neither dark nor bright.

    Ones, and 0 pixels, where there are not three bands or too few such pixels.
    """
    same = np.ones(len(pixels), np.float32)
    if len(pixels) != 3:
        return same, 0
    good = (np.isfinite(pixels) & (pixels > 0)).all(axis=0)
    if good.sum() < LEAST_PIX:
        return same, 0
    luminance = np.median(pixels[:, good], axis=0)
    low, high = np.percentile(luminance, LUMINANCE)
    sky = (luminance >= low) & (luminance <= high)
    if sky.sum() < LEAST_PIX or sky.sum() < LEAST_SHARE * good.sum():
        return same, 0
    medians = np.median(pixels[:, good][:, sky], axis=1)
    return np.clip(np.median(medians) / medians, *COLOUR_LIMITS).astype(np.float32), int(sky.sum())


def coverage_scale(coverage, sigma_pix: float = SIGMA_PIX) -> np.ndarray:
    """(ny, nx) float32: smoothed coverage over coverage, in [0.5, 2], 1 where nothing is covered.  The unit of coverage drops out."""
    cov = np.asarray(coverage, np.float32)
    there = (cov > 0).astype(np.float32)
    smooth = ndimage.gaussian_filter(cov * there, sigma_pix, mode="constant") / np.maximum(
        ndimage.gaussian_filter(there, sigma_pix, mode="constant"), np.float32(1e-6)
    )
    return np.where(there > 0, np.clip(smooth / np.where(there > 0, cov, 1), *SCALE_LIMITS), np.float32(1.0)).astype(np.float32)


def tile_gains(coverage, tiles, sigma_pix: float = SIGMA_PIX) -> np.ndarray:
    """(tiles,) float32: the median of ``coverage_scale`` on each tile's pixels (bool (ny, nx)), within [0.85, 1.18]."""
    scale = coverage_scale(coverage, sigma_pix)
    return np.array([np.clip(np.median(scale[t]), *TILE_LIMITS) if t.any() else 1.0 for t in tiles], np.float32)


def two_pass(pixels, coverage, calibrated: bool = True, sigma_pix: float = SIGMA_PIX) -> np.ndarray:
    """The renormalisation as a map on (bands, ny, nx): a new array, or the same with a warning where it would change calibrated pixels.

    A weighted mean does not depend on coverage, so a scale that differs from 1 can only be wrong there.
    """
    scale = coverage_scale(coverage, sigma_pix)
    change = float(np.abs(scale[np.asarray(coverage) > 0] - 1.0).max(initial=0.0))
    if calibrated and change > HARMLESS:
        log.warning("two-pass renormalisation skipped: it would change calibrated pixels by up to %.1f %%", 100 * change)
        return pixels
    return (pixels * scale).astype(np.float32)
