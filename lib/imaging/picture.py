"""Stamps as pictures for people: colour images and PNGs to set into a page."""

import base64
import io

import numpy as np
from matplotlib.image import imsave

# The Legacy Surveys' viewer: weights that make a galaxy of typical colour white-yellow, a pedestal, and the softening.
WEIGHTS = {"g": 6.0, "r": 3.4, "z": 2.2}
PEDESTAL, SOFTENING = 0.03, 20.0


def rgb(grz):
    """(ny, nx, 3) uint8 from planes in g, r, z (nanomaggy a pixel): z red, r green, g blue.

    The arcsinh scaling of Lupton et al. (2004, PASP 116, 133): brightness is compressed, colour kept.  North is up:
    row 0 of the survey's image is the picture's last.
    """
    planes = np.stack([w * np.asarray(p, float) + PEDESTAL for w, p in zip(WEIGHTS.values(), grz, strict=True)])
    planes = np.clip(np.nan_to_num(planes), 0.0, None)
    mean = np.maximum(planes.mean(axis=0), 1e-6)
    colour = planes * np.arcsinh(SOFTENING * mean) / (np.sqrt(SOFTENING) * mean)
    return (255 * np.clip(np.moveaxis(colour[::-1], 0, -1)[::-1], 0.0, 1.0)).astype(np.uint8)


def png_uri(image) -> str:
    """A ``data:`` URI of a picture (ny, nx, 3) uint8."""
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(image), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
