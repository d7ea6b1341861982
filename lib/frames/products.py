"""Files of a tile: one FITS with science, weight, coverage and rejected, compressed without loss, and a PNG to look at."""

import gzip
import hashlib
import io
from contextlib import contextmanager
from functools import partial

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.compressed import _codecs
from matplotlib.image import imsave

from lib.mosaic.stack import Block
from lib.place import Place

PIECE = 256  # px a side that is compressed for itself: what a window costs to read
SOFTENING = 3.0  # of the preview: in noise
SCIENCE, WEIGHT, COVERAGE, REJECTED = 1, 2, 3, 4  # HDUs


@contextmanager
def _untimed():
    """astropy has gzip put the time of day into each tile: the same pixels would be another file a second later."""
    timed = _codecs.gzip_compress
    _codecs.gzip_compress = partial(gzip.compress, mtime=0)
    try:
        yield
    finally:
        _codecs.gzip_compress = timed


def written(place: Place, name: str, block: Block, counts, wcs, unit: str, run: str, alpha=None) -> dict:
    """Put the FITS file, named by its content: the columns of COADDS that tell of it."""
    header = wcs.to_header(relax=True)
    if unit:
        header["BUNIT"] = unit
    layers = [
        ("SCIENCE", block.science),
        ("WEIGHT", block.weight),
        ("COVERAGE", counts[None]),
        ("REJECTED", block.rejected.astype(np.int32)),
    ]
    if alpha is not None:
        layers.append(("ALPHA", alpha[None]))
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header["RUN_ID"] = run
    with _untimed():
        packed = _packed(hdus, layers, header)
    digest = hashlib.sha256(packed).hexdigest()
    path = f"{name}-{digest[:12]}.fits"
    place.put(path, packed)
    good = block.weight[block.weight > 0]
    return {"path": path, "bytes": len(packed), "sha256": digest, "weight": float(np.median(good)) if good.size else 0.0}


def _packed(hdus: fits.HDUList, layers, header) -> bytes:
    for layer, pixels in layers:
        exact = {"compression_type": "GZIP_2", "quantize_level": 0.0} if pixels.dtype.kind == "f" else {"compression_type": "GZIP_2"}
        shape = (1, *(min(PIECE, n) for n in pixels.shape[1:]))
        hdus.append(fits.CompImageHDU(np.ascontiguousarray(pixels), header, name=layer, tile_shape=shape, **exact))
        if layer != "SCIENCE":
            hdus[-1].header.pop("BUNIT", None)
    packed = io.BytesIO()
    hdus.writeto(packed)
    return packed.getvalue()


def preview(place: Place, name: str, science) -> str:
    """Put a PNG of (bands, ny, nx): north up, an arcsinh stretch from below the sky to the brightest thousandth; colour where there are three."""
    place.put(name, png(science))
    return name


def png(science) -> bytes:
    """A PNG of pixels; transparent where they are NaN."""
    there = np.isfinite(science).all(axis=0)
    planes = []
    for plane in science:
        good = plane[there]
        low, high = (float(v) for v in np.percentile(good, (1.0, 99.7))) if good.size else (0.0, 1.0)
        middle = float(np.median(good)) if good.size else 0.0
        scale = max((middle - low) * SOFTENING, 1e-12 + 1e-6 * abs(high))
        stretched = np.arcsinh((plane - low) / scale) / np.arcsinh(max(high - low, 1e-12) / scale)
        planes.append(np.clip(np.nan_to_num(stretched), 0.0, 1.0))
    colour = planes if len(planes) == 3 else [planes[0]] * 3
    picture = (255 * np.stack([*colour, there.astype(float)], axis=-1)[::-1]).astype(np.uint8)
    packed = io.BytesIO()
    imsave(packed, np.ascontiguousarray(picture), format="png")
    return packed.getvalue()
