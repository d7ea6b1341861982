"""Stamps as pictures for people: colour images and PNGs to set into a page."""

import base64
import io

import numpy as np
from matplotlib.image import imsave

# Bands weigh by their noise and zero points so that a galaxy of typical colour looks white-yellow.
WEIGHTS = {"g": 2.2, "r": 1.0, "z": 0.6}


def rgb(grz, stretch=0.03, soft=8.0):
    """(ny, nx, 3) uint8 from planes in g, r, z (nanomaggy a pixel): z red, r green, g blue.

    The arcsinh scaling of Lupton et al. (2004, PASP 116, 133): colour is kept where it is bright.  Row 0 is at the bottom
    of the survey's image, and comes out last, as a picture's is.
    """
    planes = np.nan_to_num(np.stack([w * np.asarray(p, float) for w, p in zip(WEIGHTS.values(), grz, strict=True)]))
    mean = np.clip(planes.mean(axis=0), 1e-9, None)
    scale = np.arcsinh(soft * mean / stretch) / (np.arcsinh(soft * 12.0) * mean)
    colour = np.clip(planes * scale + 0.04, 0.0, None)
    colour /= np.maximum(colour.max(axis=0), 1.0)
    return (255 * np.moveaxis(colour[::-1], 0, -1)[::-1]).astype(np.uint8)


def png_uri(image) -> str:
    """A ``data:`` URI of a picture (ny, nx, 3) uint8."""
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(image), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
