"""The images of a brick, one band at a time: sources, noise, residual sky, and what was lost."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import interpolate, ndimage

from lib.imaging import widths
from lib.survey.geometry import BrickGeometry
from lib.survey.synthetic import defects, exposures, optics
from lib.survey.synthetic.spec import BANDS, PIXEL_ARCSEC, SIDE_PIX, SurveySpec, rng

CELL_PIX = 24  # the psfsize and depth maps are piecewise constant, as the real ones are, and so compress
SKY_STEP_PIX = 20  # between the knots of the residual sky
SKY_SMOOTH = 1.05  # in knots: falls to 1/e at 11 arcsec


@dataclass
class Band:
    """One band of a brick as the files have it, (ny, nx), and two bool maps that go into the maskbits."""

    band: str
    field: optics.PsfField
    image: np.ndarray  # nmgy
    invvar: np.ndarray  # 1/nmgy**2
    nexp: np.ndarray  # good exposures
    psfsize: np.ndarray  # arcsec
    depth: np.ndarray  # 1/nmgy**2, of a point source on empty sky
    lost: np.ndarray  # covered, and bad in every exposure
    saturated: np.ndarray


def residual_sky(spec: SurveySpec, name: str, band: str) -> np.ndarray:
    """What sky subtraction leaves: a smooth float32 map in nmgy/px."""
    knots = np.arange(-3, SIDE_PIX // SKY_STEP_PIX + 4)
    coarse = rng(spec, name, f"sky/{band}").standard_normal((knots.size, knots.size))
    coarse = ndimage.gaussian_filter(coarse, SKY_SMOOTH, mode="wrap")
    coarse *= spec.sky_rms_nmgy[BANDS.index(band)] / coarse.std()
    pixels = np.arange(SIDE_PIX)
    spline = interpolate.RectBivariateSpline(knots * SKY_STEP_PIX, knots * SKY_STEP_PIX, coarse)
    return spline(pixels, pixels).astype(np.float32)


def _nea_map(field: optics.PsfField) -> np.ndarray:
    """Noise-equivalent area, float32 arcsec**2, at the centre of each cell."""
    centres = np.arange(SIDE_PIX // CELL_PIX) * CELL_PIX + (CELL_PIX - 1) / 2
    nea = field.nea_arcsec2(field.mixing(centres, centres[:, None])).astype(np.float32)
    return nea.repeat(CELL_PIX, axis=0).repeat(CELL_PIX, axis=1)


def _band(spec, brick, field, band, model, objects) -> Band:
    saturated = defects.saturated(spec, field, objects, band)
    total = exposures.coadd(spec, brick, field, band, saturated)
    model = np.maximum(model, 0.0)  # the transform leaves -1e-9 where there is nothing
    photons = 1.0 + model * total.invvar / np.float32(spec.gain)  # variance over the empty sky's
    image = model + residual_sky(spec, brick.name, band) + total.noise * np.sqrt(photons)
    good = total.nexp > 0
    defects.fill_rows(image, good, total.covered)
    nea = _nea_map(field)
    psfsize = np.where(total.covered, widths.of_nea(nea), 0.0).astype(np.float32)
    depth = total.invvar * np.float32(PIXEL_ARCSEC**2) / nea
    lost = total.covered & ~good
    return Band(band, field, image, total.invvar / photons, total.nexp, psfsize, depth, lost, saturated)


def bands(spec: SurveySpec, brick: BrickGeometry, objects, parts) -> Iterator[Band]:
    """g, r and z in turn, so that a caller who writes each one holds one; the arguments are ``optics.around``'s."""
    fields = {band: optics.psf_field(spec, brick.name, band) for band in BANDS}
    models = optics.draw(fields, objects, parts)
    for band, field in fields.items():
        yield _band(spec, brick, field, band, models.pop(band), objects)
