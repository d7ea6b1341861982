"""Which of a stamp's pixels are the galaxy: the connected region at the centre, its neighbours cut off, its edge faded."""

import numpy as np
from scipy import ndimage

from lib.sources.levels import step
from lib.sources.sky import StampError

CENTRE = 0.1  # a galaxy's region comes this near to its stamp's centre, in sides
SADDLE = 0.2  # two peaks are two galaxies if the light between falls below this share of either's; clumps of one stay above
RISE = 1.25  # from one isophote on which this is tried to the next
FADE, FADE_PIX = 0.4, 4.0  # width of the fade to zero: this share of the galaxy's radius, at least so many pixels
MAX_LOST = 0.05  # share of a galaxy's light beyond its stamp


def find(smooth, threshold):
    """(the galaxy's pixels, its neighbours') in a smoothed stamp, of those above the threshold."""
    labels, _ = ndimage.label(smooth > threshold)
    near = (_from_middle(smooth.shape) <= CENTRE * min(smooth.shape)) & (labels > 0)
    if not near.any():
        raise StampError(f"no galaxy within {CENTRE:g} sides of the stamp's centre")
    found = np.unique(labels[near])
    galaxy = labels == found[np.argmax(ndimage.sum_labels(smooth, labels, found))]
    others = (labels > 0) & ~galaxy
    while (threshold := threshold * RISE) < SADDLE * smooth[galaxy].max():
        mine = _own(np.where(galaxy, smooth, 0.0), threshold)
        galaxy, others = galaxy & mine, others | (galaxy & ~mine)
    return ndimage.binary_fill_holes(galaxy) & ~others, others


def _from_middle(shape):
    y, x = np.indices(shape)
    return np.hypot(y - (shape[0] - 1) / 2, x - (shape[1] - 1) / 2)


def _own(smooth, threshold):
    """Pixels nearer to the middle's island above the threshold than to any other island that is a galaxy."""
    labels, count = ndimage.label(smooth > threshold)
    numbers = np.arange(1, count + 1)
    peaks = ndimage.maximum(smooth, labels, numbers)
    islands = numbers[peaks > threshold / SADDLE]
    if islands.size < 2:
        return np.ones(smooth.shape, bool)
    main = islands[np.argmin(ndimage.minimum(_from_middle(smooth.shape), labels, islands))]
    rivals = np.isin(labels, islands[islands != main])
    return ndimage.distance_transform_edt(labels != main) <= ndimage.distance_transform_edt(~rivals)


def require_whole(light, galaxy) -> None:
    """Raise if much of the galaxy lies beyond the stamp: what an exponential disc would have there, from the light on the outline."""
    outline = np.ones(light.shape, bool)
    outline[1:-1, 1:-1] = False
    bright = np.cumsum(np.sort(light[galaxy])[::-1])
    scale_pix = np.sqrt(np.searchsorted(bright, 0.5 * bright[-1]) / np.pi) / 1.68
    lost = light[galaxy & outline].sum() * scale_pix / light[galaxy].sum()
    if lost > MAX_LOST:
        raise StampError(f"about {lost:.0%} of the galaxy's light lies beyond the stamp, more than {MAX_LOST:.0%}")


def fade(galaxy, others):
    """Weights: 1 on the galaxy, falling smoothly to 0 around it, before a neighbour and at the stamp's edge."""
    width = max(FADE_PIX, FADE * np.sqrt(galaxy.sum() / np.pi))
    outside = ndimage.distance_transform_edt(~galaxy)
    edge = ndimage.distance_transform_edt(np.pad(np.ones(galaxy.shape), 1))[1:-1, 1:-1]
    rival = ndimage.distance_transform_edt(~others) if others.any() else np.inf
    return step(1.0 - outside / width) * step((edge - 1.0) / FADE_PIX) * step((rival - 1.0) / FADE_PIX)
