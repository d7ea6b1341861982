"""A brick's PSF, and its sky drawn through it.

The PSF of a band is (1 - t) a + t b, two Moffats of different width, with t(x, y) between 0 and 1 a slow wave
over the brick.  The Moffats hold the pixel: a px is its area times the brightness at its centre.
"""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from scipy import fft

from lib import jit
from lib.imaging import convolve, psf
from lib.lensing import render, sersic
from lib.survey import geometry
from lib.survey.synthetic import sky
from lib.survey.synthetic.spec import BANDS, PIXEL_ARCSEC, SIDE_PIX, SurveySpec, rng

MARGIN_PIX = 144  # sky drawn around the image, and room for what wraps around; the side is then 2**4 3**5
NEGLIGIBLE_NMGY = 3e-5  # per px: where galaxies end, a third of the quantum of the image files
STAR_NEGLIGIBLE_NMGY = 1e-5
STAR_REACH_PIX = 500


@dataclass(frozen=True)
class PsfField:
    """The PSF of one band of one brick."""

    a: psf.Moffat
    b: psf.Moffat
    wave: tuple[float, float, float]  # of t: phase, and its change in radians a px along x and y

    def mixing(self, x, y):
        """t at a pixel position, 0-based."""
        phase, kx, ky = self.wave
        return 0.5 + 0.5 * np.sin(phase + kx * x + ky * y)

    def brightness(self, r_arcsec, t):
        """Flux per arcsec**2 at a radius."""
        return (1.0 - t) * self.a.brightness(r_arcsec) + t * self.b.brightness(r_arcsec)

    def nea_arcsec2(self, t):
        """Noise-equivalent area: 1 / integral psf**2, with the integral of a b done numerically."""
        r = self.b.alpha_arcsec * np.sinh(np.linspace(0.0, 6.0, 4001))
        cross = np.trapezoid(2.0 * np.pi * r * self.a.brightness(r) * self.b.brightness(r), r)
        return 1.0 / ((1 - t) ** 2 / self.a.nea_arcsec2 + t**2 / self.b.nea_arcsec2 + 2 * t * (1 - t) * cross)


def psf_field(spec: SurveySpec, name: str, band: str) -> PsfField:
    """The PSF of a brick and band; ``spec.psfsize_arcsec`` is the survey's mean."""
    random = rng(spec, name, f"psf/{band}")
    i = BANDS.index(band)
    size = spec.psfsize_arcsec[i] * np.exp(spec.psfsize_scatter * random.standard_normal())
    widths = size * (1.0 + spec.psf_contrast * np.array([-0.5, 0.5]))
    a, b = (psf.moffat_from_psfsize(width, spec.psf_beta[i]) for width in widths)
    k = random.uniform(1.5, 4.0) / SIDE_PIX
    angle = random.uniform(0.0, 2.0 * np.pi)
    return PsfField(a, b, (random.uniform(0.0, 2.0 * np.pi), k * np.cos(angle), k * np.sin(angle)))


def wcs(brick: geometry.BrickGeometry) -> WCS:
    """The brick's tangent plane, 0.262 arcsec a px, RA to the left."""
    plane = WCS(naxis=2)
    plane.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    plane.wcs.crval = [brick.ra, brick.dec]
    plane.wcs.crpix = [SIDE_PIX / 2 + 0.5] * 2
    plane.wcs.cd = np.diag([-PIXEL_ARCSEC / 3600.0, PIXEL_ARCSEC / 3600.0])
    return plane


def around(spec: SurveySpec, brick: geometry.BrickGeometry):
    """(objects, parts), with 0-based px positions ``x, y``, of all that is on or near the brick's image."""
    bricks = [brick, *geometry.neighbours(brick, reach_deg=0.05)]
    skies = [sky.of_brick(spec, other.name) for other in bricks]
    found = []
    for table in (np.concatenate([s.objects for s in skies]), np.concatenate([s.parts for s in skies])):
        x, y = wcs(brick).all_world2pix(table["ra"], table["dec"], 0)
        centre = (SIDE_PIX - 1) / 2
        near = np.maximum(np.abs(x - centre), np.abs(y - centre)) < SIDE_PIX / 2 + MARGIN_PIX
        found.append((table[near], x[near], y[near]))
    return found


def _reach_pix(parts):
    """Px out to which a galaxy is brighter than ``NEGLIGIBLE_NMGY`` in any band."""
    brightest = parts["flux"].max(axis=1) * sersic.central_brightness(parts["n"], parts["r_eff"]) * PIXEL_ARCSEC**2
    decay = np.log(np.maximum(brightest / NEGLIGIBLE_NMGY, 1.0)) / sersic.b_n(parts["n"])
    radius = decay ** parts["n"] * parts["r_eff"] / np.sqrt(parts["q"])
    return np.clip(np.ceil(radius / PIXEL_ARCSEC), 6, 600).astype(np.int64)


def _deposit(parts, x, y) -> np.ndarray:
    """(bands, side, side): the galaxies' light before the PSF."""
    side = SIDE_PIX + 2 * MARGIN_PIX
    phi = np.deg2rad(parts["pa"] + 90.0)  # north is +y, east is -x
    scene = render.Scene(
        x + MARGIN_PIX, y + MARGIN_PIX, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        parts["n"], parts["r_eff"], parts["q"], phi,
    )  # fmt: skip
    canvas = np.zeros((len(BANDS), side, side))
    render.paint(canvas, parts["flux"], scene, PIXEL_ARCSEC, _reach_pix(parts))
    return canvas


@jit.entry()
def _add_stars(image, t, x, y, flux, reach, a, b, beta, pixel):
    """``flux`` of each star times the mixed Moffats (widths ``a``, ``b`` in arcsec) out to ``reach`` px."""
    ny, nx = image.shape
    unit = (beta - 1.0) / np.pi * pixel * pixel
    for k in range(len(x)):
        r = reach[k]
        for i in range(max(0, int(np.ceil(y[k] - r))), min(ny, int(np.floor(y[k] + r)) + 1)):
            for j in range(max(0, int(np.ceil(x[k] - r))), min(nx, int(np.floor(x[k] + r)) + 1)):
                r2 = (i - y[k]) ** 2 + (j - x[k]) ** 2
                if r2 <= r * r:
                    r2 *= pixel * pixel
                    in_a = (1.0 + r2 / (a * a)) ** -beta / (a * a)
                    in_b = (1.0 + r2 / (b * b)) ** -beta / (b * b)
                    image[i, j] += flux[k] * unit * (in_a + t[i, j] * (in_b - in_a))


def radius_pix(field: PsfField, flux, level_nmgy):
    """Px from a star at which its brightness falls to a level; 0 where it never reaches it."""
    wide = field.b
    ratio = np.asarray(flux) * wide.brightness(0.0) * PIXEL_ARCSEC**2 / level_nmgy
    return wide.alpha_arcsec / PIXEL_ARCSEC * np.sqrt(np.maximum(ratio, 1.0) ** (1.0 / wide.beta) - 1.0)


def mixing_map(field: PsfField) -> np.ndarray:
    pixels = np.arange(SIDE_PIX, dtype=np.float32)
    return field.mixing(pixels, pixels[:, None]).astype(np.float32)


def draw(fields: dict[str, PsfField], objects, parts) -> dict[str, np.ndarray]:
    """The noiseless image of each band, float32 nmgy/px; ``objects`` and ``parts`` as ``around`` gives them."""
    canvas = _deposit(*parts)
    inner = (slice(MARGIN_PIX, -MARGIN_PIX),) * 2
    table, x, y = objects
    star = table["kind"] == "star"
    images = {}
    for i, (band, field) in enumerate(fields.items()):
        t = mixing_map(field)
        spectrum = fft.rfft2(canvas[i])
        image, wide = (
            fft.irfft2(spectrum * convolve.transfer(p, canvas[i].shape, PIXEL_ARCSEC), s=canvas[i].shape)[inner] for p in (field.a, field.b)
        )
        images[band] = (image + t * (wide - image)).astype(np.float32)
        flux = np.ascontiguousarray(table["flux"][star, i])
        reach = np.minimum(radius_pix(field, flux, STAR_NEGLIGIBLE_NMGY), STAR_REACH_PIX)
        a, b = field.a.alpha_arcsec, field.b.alpha_arcsec
        _add_stars(images[band], t, x[star], y[star], flux, reach, a, b, field.a.beta, PIXEL_ARCSEC)
    return images
