"""Images as sources: the same arcs as the profile they were sampled from, GalSim's rendering, and what is refused."""

import numpy as np
import pytest

from lib import sources
from lib.imaging import psf
from lib.lensing import raster, sersic
from lib.sources.stamp import half_light_radius
from tests.physics.scenes import PIXEL, draw, images, one

MOFFAT = psf.Moffat(1.1, 3.0)
FINE = 0.03  # arcsec a pixel of the source image


def gaussian(r_eff, side=96, q=1.0, phi=0.0):
    """A Sersic profile of n = 0.5, smooth everywhere, as a stamp of unit flux."""
    y, x = (np.indices((side, side)) - (side - 1) / 2) * FINE
    image = sersic.brightness(x, y, 0.5, r_eff, q, phi)
    return raster.Raster(image / image.sum(), r_eff / FINE)


def test_an_image_of_a_profile_gives_the_profiles_arcs():
    """Turned, stretched in size and lensed: pixels within 1e-3 of the peak, flux within 3e-4."""
    scene = one(draw(12, 3, r_eff=(0.15, 0.3)), np.arange(12), src_n=np.full(12, 0.5))
    theirs, mu_theirs = images(one(scene, np.arange(12), src_q=np.full(12, 0.6)), MOFFAT)
    ours, mu = images(one(scene, np.arange(12), src_q=np.ones(12), image=np.zeros(12)), MOFFAT, images=[gaussian(0.3, q=0.6)])
    assert np.abs(ours - theirs).max(axis=(1, 2)).max() < 1e-3 * theirs.max()
    assert np.abs(mu / mu_theirs - 1).max() < 3e-4


def test_an_unlensed_image_is_galsims():
    galsim = pytest.importorskip("galsim")
    rng = np.random.default_rng(2)
    y, x = np.indices((64, 64)) - 31.5
    image = sum(a * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * s * s)) for a, u, v, s in zip(
        rng.uniform(0.3, 1, 6), rng.uniform(-9, 9, 6), rng.uniform(-9, 9, 6), rng.uniform(2, 4, 6), strict=True))  # fmt: skip
    given = raster.Raster(image / image.sum(), 8.0)
    scene = one(draw(1, 1), theta_e_arcsec=0.0, shear=0.0, x_pix=31.7, y_pix=32.1, src_x_arcsec=0.0, src_y_arcsec=0.0,
                src_reff_arcsec=8.0 * FINE, src_q=1.0, src_phi_rad=0.6, image=0)  # fmt: skip
    (ours,), (mu,) = images(scene, MOFFAT, images=[given])
    theirs = galsim.InterpolatedImage(galsim.Image(given.image), scale=FINE, x_interpolant="cubic").rotate(0.6 * galsim.radians)
    sky = galsim.Convolve(theirs, galsim.Moffat(beta=3.0, fwhm=1.1))
    drawn = sky.drawImage(nx=64, ny=64, scale=PIXEL, method="no_pixel", offset=(0.2, 0.6)).array
    assert np.abs(ours - drawn).max() < 2e-3 * drawn.max()
    assert mu == pytest.approx(1.0, abs=3e-4)


def test_an_image_turned_the_wrong_way_would_be_seen():
    scene = one(draw(1, 3, r_eff=(0.3, 0.3)), image=0, src_q=1.0)
    lopsided = gaussian(0.3, q=0.4)
    (a,), _ = images(scene, MOFFAT, images=[lopsided])
    (b,), _ = images(one(scene, src_phi_rad=-scene.src_phi_rad), MOFFAT, images=[lopsided])
    assert np.abs(a - b).max() > 0.02 * a.max()


@pytest.mark.parametrize("image, word", [
    (np.zeros((8, 8)), "sum 1"), (np.full((8, 8), np.nan), "finite"), (np.ones((2, 2)) / 4, "4 px a side"), (np.ones(16) / 16, "2-d"),
])  # fmt: skip
def test_an_image_that_is_no_source_is_refused(image, word):
    with pytest.raises(ValueError, match=word):
        raster.Raster(image, 2.0)


def test_a_galaxy_from_a_bank_is_drawn_with_its_size_and_flux(tmp_path):
    """Written, read, turned and scaled: an unlensed galaxy of the bank has its half-light radius and its flux on the sky."""
    image = gaussian(0.24, side=97, q=0.6).image
    image = np.pad((image * (image > 1e-4 * image.max()))[3:-3, 3:-3], 3)
    image = (image / image.sum()).astype(np.float32)
    row = sources.Source(image, FINE, 0.0, half_light_radius(image) * FINE, 1.0, 1.0, 100.0)
    sources.write(sources.table([sources.record(row, "smooth", "a test")]), str(tmp_path / "bank.parquet"))
    bank = sources.read(str(tmp_path / "bank.parquet"))
    sharp = psf.Gaussian(0.5)
    for size in (0.3, 0.6):
        scene = one(draw(1, 1), theta_e_arcsec=0.0, shear=0.0, x_pix=31.5, y_pix=31.5, src_x_arcsec=0.0, src_y_arcsec=0.0,
                    src_reff_arcsec=size, src_q=1.0, src_phi_rad=0.4, image=0)  # fmt: skip
        (stamp,), (mu,) = images(scene, sharp, images=bank.rasters())
        assert mu == pytest.approx(1.0, abs=3e-4)
        y, x = (np.indices(stamp.shape) - 31.5) * PIXEL
        second = float((stamp * (x * x + y * y)).sum(dtype=float)) - 2 * sharp.sigma_arcsec**2
        (fine_y, fine_x) = (np.indices(image.shape) - (len(image) - 1) / 2) * size / bank.rasters()[0].half_light_pix
        assert second == pytest.approx(float((image * (fine_x**2 + fine_y**2)).sum(dtype=float)), rel=0.01)
