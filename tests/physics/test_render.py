"""The renderer against brute force, closed forms, an independent method, lenstronomy and GalSim; and its laws."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.imaging import psf
from lib.lensing import magnification, render, sersic, shear
from tests.physics.scenes import PIXEL, SIDE, brute_force, draw, images, magnified, one

MOFFAT = psf.Moffat(1.1, 3.0)


@pytest.mark.parametrize("seed, p", enumerate([MOFFAT, psf.Moffat(0.9, 2.8), psf.Moffat(1.2, 3.5), psf.Gaussian(1.3)]))
def test_pixels_are_brute_forces_within_1e_3_of_the_peak(seed, p):
    scene = one(draw(1, seed))
    (ours,), (mu,) = images(scene, p)
    theirs, flux = brute_force(scene, p)
    assert np.abs(ours - theirs).max() < 3e-4 * theirs.max()
    assert mu == pytest.approx(flux, rel=1e-4)


@pytest.mark.parametrize("fwhm", [0.45, 0.6])
def test_a_psf_sharper_than_two_pixels_is_within_1e_3_of_the_peak(fwhm):
    scene, p = one(draw(1, 3, r_eff=(0.1, 0.1))), psf.Moffat(fwhm, 3.5)
    (ours,), _ = images(scene, p)
    theirs, _ = brute_force(scene, p)
    assert np.abs(ours - theirs).max() < 1e-3 * theirs.max()


@pytest.mark.parametrize("theta_e, r_eff", [(0.3, 0.05), (1.0, 0.3), (1.0, 0.08), (2.5, 0.04), (2.5, 0.5)])
def test_an_exponential_on_the_axis_of_a_sphere_has_its_closed_form(theta_e, r_eff):
    """mu = 2 theta_e/h + exp(-theta_e/h), h = r_eff/1.67834699."""
    scene = render.Scene(32.3, 32.1, theta_e, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, r_eff, 1.0, 0.0)
    h = r_eff / 1.67834699
    _, (mu,) = images(scene, MOFFAT)
    assert mu == pytest.approx(2 * theta_e / h + np.exp(-theta_e / h), rel=3e-5)


@pytest.mark.parametrize("n", [0.5, 1.0, 2.0, 4.0])
def test_an_unlensed_source_has_exactly_its_flux(n):
    scene = render.Scene(32.3, 32.1, 0.0, 1.0, 0.0, 0.0, 0.0, 0.05, -0.1, n, 0.25, 0.5, 0.4)
    _, (mu,) = images(scene, MOFFAT)
    assert mu == pytest.approx(1.0, abs=1e-4)


def test_magnification_is_that_of_rays_from_the_lens_centre():
    """Two methods without common code, r_eff 0.04-0.5", n 0.5-4, q 0.3-1, theta_e 0.2-2.5": every one within 3e-4."""
    scene = draw(200, 11, n=(0.5, 4.0), r_eff=(0.04, 0.5), theta_e=(0.2, 2.5))
    _, mu = images(scene, MOFFAT)
    rays = magnified(scene)
    assert np.abs(mu / magnification.of_source(*rays) - 1).max() < 3e-4
    multiple = magnification.images(*rays[:7]) >= 2
    assert multiple.sum() > 100
    assert mu[multiple].min() > 1.0


def test_flux_is_lenstronomys_at_high_supersampling_within_1e_3():
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.Profiles.sersic import SersicElliptic
    from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian

    s = draw(6, 21, r_eff=(0.15, 0.5), q=(0.5, 1.0))
    _, mu = images(s, MOFFAT)
    at = (np.arange(64 * 25) + 0.5) / 25 - 32  # 64 px, 25 samples each
    x, y = (v.ravel() * PIXEL for v in np.meshgrid(at, at))
    for k in range(6):
        e1, e2 = phi_q2_ellipticity(s.lens_phi_rad[k], s.lens_q[k])
        g1, g2 = shear_polar2cartesian(s.shear_phi_rad[k], s.shear[k])
        bx, by = LensModel(["SIE", "SHEAR"]).ray_shooting(x, y, [
            {"theta_E": s.theta_e_arcsec[k], "e1": e1, "e2": e2, "center_x": 0, "center_y": 0},
            {"gamma1": g1, "gamma2": g2, "ra_0": 0, "dec_0": 0},
        ])  # fmt: skip
        e1, e2 = phi_q2_ellipticity(s.src_phi_rad[k], s.src_q[k])
        radius = s.src_reff_arcsec[k] * (1.9992 - 0.3271) / sersic.b_n(1.0)  # their b_n is approximate; at this radius the same profile
        amp = float(sersic.brightness(radius, 0.0, 1.0, s.src_reff_arcsec[k]))
        light = SersicElliptic(sersic_major_axis=False).function(
            bx, by, amp, radius, 1.0, e1, e2, center_x=s.src_x_arcsec[k], center_y=s.src_y_arcsec[k]
        )
        assert light.sum() * (PIXEL / 25) ** 2 == pytest.approx(mu[k], rel=1e-3)


def test_an_unlensed_galaxy_is_galsims_image_with_its_centroid():
    galsim = pytest.importorskip("galsim")
    x, y, r_eff, q, phi = 31.7, 32.4, 0.45, 0.6, 0.8
    (ours,), _ = images(render.Scene(x, y, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, r_eff, q, phi), MOFFAT)
    galaxy = galsim.Sersic(n=1.0, half_light_radius=r_eff, flux=1.0).shear(q=q, beta=phi * galsim.radians)
    sky = galsim.Convolve(galaxy, galsim.Moffat(beta=3.0, fwhm=1.1))
    theirs = sky.drawImage(nx=64, ny=64, scale=PIXEL, method="no_pixel", offset=(x - 31.5, y - 31.5)).array
    assert np.abs(ours - theirs).max() < 2e-3 * theirs.max()
    assert ours.sum(dtype=float) == pytest.approx(theirs.sum(dtype=float), rel=1e-3)
    iy, ix = np.indices(ours.shape)
    for axis in (ix, iy):
        assert abs((ours * axis).sum() / ours.sum() - (theirs * axis).sum() / theirs.sum()) < 0.02


def test_one_sample_a_pixel_would_be_seen():
    """The fault of earlier pipelines, on a small source: brute force at one sample a pixel is far from the truth."""
    scene = draw(8, 5, r_eff=(0.05, 0.08))
    _, mu = images(scene, MOFFAT)
    off = [abs(brute_force(one(scene, k), MOFFAT, samples=1)[1] / mu[k] - 1) for k in range(8)]
    assert max(off) > 0.1


def test_a_task_has_the_same_bits_alone_and_in_batches_of_any_size_and_order():
    scene = draw(40, 3, n=(0.5, 4.0), r_eff=(0.04, 0.5), theta_e=(0.2, 2.5))
    psfs = [[psf.Moffat(0.8 + 0.02 * k, 3.0), psf.Moffat(1.3, 2.5)] for k in range(40)]
    fluxes = np.random.default_rng(1).uniform(0.1, 2, (40, 2))
    every, mu = render.draw(scene, fluxes, psfs, SIDE, PIXEL)
    for batch in ([7], [39, 0, 12], list(range(20, 33))):
        some = one(scene, np.array(batch))
        part, mu_part = render.draw(some, fluxes[batch], [psfs[k] for k in batch], SIDE, PIXEL)
        assert np.array_equal(part, every[batch])
        assert np.array_equal(mu_part, mu[batch])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.integers(-3, 3), st.integers(-3, 3))
def test_a_lens_moved_by_whole_pixels_moves_its_image(seed, dx, dy):
    a = one(draw(1, seed))
    b = one(a, x_pix=a.x_pix + dx, y_pix=a.y_pix + dy)
    (still,), _ = images(a, MOFFAT)
    (moved,), _ = images(b, MOFFAT)
    assert np.abs(np.roll(still, (dy, dx), (0, 1)) - moved)[4:-4, 4:-4].max() < 1e-4 * still.max()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_scene_turned_by_a_right_angle_is_the_image_turned(seed):
    s = one(draw(1, seed))
    quarter = np.pi / 2
    turned = one(
        s, x_pix=SIDE - 1 - s.y_pix, y_pix=s.x_pix, lens_phi_rad=s.lens_phi_rad + quarter, shear_phi_rad=s.shear_phi_rad + quarter,
        src_x_arcsec=-s.src_y_arcsec, src_y_arcsec=s.src_x_arcsec, src_phi_rad=s.src_phi_rad + quarter,
    )  # fmt: skip
    (a,), (mu_a,) = images(s, MOFFAT)
    (b,), (mu_b,) = images(turned, MOFFAT)
    assert np.abs(np.rot90(a, -1) - b).max() < 1e-4 * a.max()
    assert mu_a == pytest.approx(mu_b, rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.25, 4.0))
def test_a_scene_scaled_with_its_pixels_has_the_same_light(seed, scale):
    """The SIE has no scale of its own: only ratios of angles matter."""
    s = one(draw(1, seed))
    large = one(
        s, theta_e_arcsec=s.theta_e_arcsec * scale, src_x_arcsec=s.src_x_arcsec * scale, src_y_arcsec=s.src_y_arcsec * scale,
        src_reff_arcsec=s.src_reff_arcsec * scale,
    )  # fmt: skip
    a, mu = render.draw(s, np.ones((1, 1)), [[MOFFAT]], SIDE, PIXEL)
    b, mu_b = render.draw(large, np.ones((1, 1)), [[psf.Moffat(1.1 * scale, 3.0)]], SIDE, PIXEL * scale)
    assert np.abs(a - b).max() < 2e-4 * a.max()
    assert mu[0] == pytest.approx(mu_b[0], rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-1, 1))
def test_light_is_proportional_to_the_flux_and_bands_have_the_sources_colour(seed, flux, colour):
    s = one(draw(1, seed))
    fluxes = flux * np.array([[1.0, 10 ** (0.4 * colour), 0.0]])
    (stamp,), _ = render.draw(s, fluxes, [[MOFFAT] * 3], SIDE, PIXEL)
    (unit,), _ = images(s, MOFFAT)
    assert np.allclose(stamp[0], flux * unit, rtol=1e-5, atol=1e-6 * flux * unit.max())
    assert -2.5 * np.log10(stamp[0].sum(dtype=float) / stamp[1].sum(dtype=float)) == pytest.approx(colour, abs=1e-4)
    assert not stamp[2].any()


@pytest.mark.parametrize("side", [33, 40, 63, 65, 96])
def test_stamps_of_other_sides_show_the_same_arc(side):
    scene = one(draw(1, 8, theta_e=(0.5, 1.2)))
    (a,), _ = images(scene, MOFFAT)
    off = (side - SIDE) // 2
    (b,), _ = images(one(scene, x_pix=scene.x_pix + off, y_pix=scene.y_pix + off), MOFFAT, side)
    small, large = (a, b) if side > SIDE else (b, a)
    cut = slice(abs(off), abs(off) + len(small))
    assert np.abs(large[cut, cut] - small).max() < 1e-4 * a.max()


def test_two_components_are_the_sum_of_each_in_every_band():
    """A red bulge and a blue disc behind one lens, and a task with one source beside them."""
    s = draw(3, 4)
    s = one(s, np.arange(3), **{k: np.r_[v[0], v[0], v[2]] for k, v in s.arrays().items() if not k.startswith("src")})
    fluxes = np.array([[1.0, 0.2], [0.3, 0.9], [0.5, 0.5]])
    psfs = [[MOFFAT, psf.Moffat(1.3, 2.8)]] * 2
    both, mu = render.draw(s, fluxes, psfs, SIDE, PIXEL, sources=[2, 1])
    alone, mu_alone = render.draw(s, fluxes, [psfs[0]] * 3, SIDE, PIXEL)
    assert both.shape == (2, 2, SIDE, SIDE)
    assert np.allclose(both[0], alone[0] + alone[1], atol=1e-5 * both[0].max())
    assert np.abs(both[1] - alone[2]).max() < 1e-4 * both[1].max()
    assert np.array_equal(mu, mu_alone)


def test_an_effective_psf_and_an_optical_one_with_its_pixel_differ_as_they_should():
    """The pixel counted twice costs more than 1 % of the peak: the two definitions must not be mixed."""
    scene = one(draw(1, 2, r_eff=(0.1, 0.15)))
    (effective,), _ = images(scene, psf.Moffat(0.9, 2.8))
    (optical,), _ = images(scene, psf.Moffat(0.9, 2.8, with_pixel=True))
    (theirs, _) = brute_force(scene, psf.Moffat(0.9, 2.8, with_pixel=True))
    assert np.abs(optical - theirs).max() < 3e-4 * theirs.max()
    assert np.abs(effective - optical).max() > 0.01 * optical.max()


def test_a_scene_that_makes_no_sense_is_refused_with_its_field():
    s = one(draw(1, 2))
    with pytest.raises(ValueError, match="finite: src_n"):
        images(one(s, src_n=np.nan), MOFFAT)
    with pytest.raises(ValueError, match="1 sources in the scene, 2 rows of fluxes"):
        render.draw(s, np.ones((2, 1)), [[MOFFAT]] * 2, SIDE, PIXEL)
    with pytest.raises(ValueError, match="image 3, 0 were given"):
        images(one(s, image=3), MOFFAT)


@pytest.mark.parametrize("name, value, word", [
    ("theta_e_arcsec", -1.0, "0 or more"), ("lens_q", 0.0, r"\(0, 1\]"), ("src_q", 1.5, r"\(0, 1\]"), ("src_reff_arcsec", 0.0, "positive"),
    ("src_n", -1.0, "positive"), ("lens_slope", 3.0, r"\(1, 3\)"), ("shear", 1.0, r"\[0, 1\)"),
])  # fmt: skip
def test_a_value_no_lens_can_have_is_refused(name, value, word):
    with pytest.raises(ValueError, match=f"{name} must be .*{word}"):
        images(one(draw(1, 2), **{name: value}), MOFFAT)


def test_bands_tasks_and_sources_that_do_not_match_are_refused():
    s = draw(2, 2)
    with pytest.raises(ValueError, match="task 1 has 1 PSFs for 2 bands"):
        render.draw(s, np.ones((2, 2)), [[MOFFAT] * 2, [MOFFAT]], SIDE, PIXEL)
    with pytest.raises(ValueError, match="every task must have a source"):
        render.draw(s, np.ones((2, 1)), [[MOFFAT]] * 3, SIDE, PIXEL, sources=[1, 0, 1])
    with pytest.raises(ValueError, match="fluxes must be finite"):
        render.draw(s, np.full((2, 1), np.nan), [[MOFFAT]] * 2, SIDE, PIXEL)


@pytest.mark.parametrize("side, bands, pixel, p", [
    (128, 3, 0.262, psf.Moffat(1.2, 3.5)), (64, 5, 0.262, psf.Gaussian(2.0)), (96, 3, 0.1, psf.Moffat(1.5, 3.0)), (33, 4, 0.5, MOFFAT),
])  # fmt: skip
def test_a_band_is_the_same_beside_others(side, bands, pixel, p):
    scene = one(draw(1, 4), x_pix=(side - 1) / 2, y_pix=(side - 1) / 2)
    alone, _ = render.draw(scene, np.ones((1, 1)), [[p]], side, pixel)
    beside, _ = render.draw(scene, np.ones((1, bands)), [[p] * bands], side, pixel)
    assert np.abs(beside - alone).max() < 1e-6 * alone.max()


@pytest.mark.parametrize("x", [35.0, 45.0, 55.0])
def test_a_lens_off_the_middle_leaves_no_ghost(x):
    """A narrow PSF, so that nothing but a repetition could put light on the far side."""
    scene = one(draw(1, 4), x_pix=x, y_pix=31.5, theta_e_arcsec=0.35, src_x_arcsec=0.1, src_y_arcsec=0.0, src_reff_arcsec=0.1)
    (stamp,), _ = images(scene, psf.Gaussian(0.9))
    assert np.abs(stamp[:, :10]).max() < 1e-4 * stamp.max()


CODE = """
import hashlib, sys, numpy as np
from tests.physics.scenes import draw
from lib.imaging import psf
from lib.lensing import render
stamps, mu = render.draw(draw(8, 3, n=(0.5, 4.0)), np.ones((8, 1)), [[psf.Moffat(1.2, 3.5)]] * 8, 64, 0.262)
print(hashlib.md5(stamps.tobytes() + mu.tobytes()).hexdigest())
"""


def test_a_process_that_compiles_and_one_that_loads_make_the_same_bits(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    cold, warm = (
        subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert cold.stdout == warm.stdout


def test_a_tiny_source_behind_the_very_centre_is_a_ring_with_its_flux():
    scene = render.Scene(31.5, 31.5, 1.3, 0.7, 0.4, 0.05, 0.2, 0.0, 0.0, 1.0, 0.02, 1.0, 0.0)
    (stamp,), (mu,) = images(scene, MOFFAT)
    assert mu == pytest.approx(float(magnification.of_source(*magnified(scene))[0]), rel=3e-4)
    assert stamp.sum(dtype=float) == pytest.approx(mu, rel=5e-3)


def test_light_outside_of_the_stamp_is_counted_in_the_magnification():
    """A de Vaucouleurs source at theta_e 2.5" keeps about 1 % of its light outside of 64 px; an exponential hardly any."""
    scene = one(draw(1, 7), theta_e_arcsec=2.5, src_reff_arcsec=0.5, src_x_arcsec=1.5, src_y_arcsec=0.5)
    inside = {}
    for n in (1.0, 4.0):
        (stamp,), (mu,) = images(one(scene, src_n=n), psf.Gaussian(0.9))
        inside[n] = stamp.sum(dtype=float) / mu
    assert inside[1.0] == pytest.approx(1.0, abs=2e-4)
    assert 0.985 < inside[4.0] < 0.992


def test_painting_many_galaxies_is_the_sum_of_each():
    canvas = np.zeros((2, 96, 96))
    scene = render.Scene(
        np.array([40.2, 55.1]), np.array([48.0, 50.5]), *(np.zeros(2) + v for v in (0.0, 1.0, 0, 0, 0, 0, 0, 1.0, 0.4, 0.8, 0.3))
    )
    render.paint(canvas, np.array([[1.0, 2.0], [3.0, 0.5]]), scene, PIXEL, 30)
    assert canvas[0].sum() == pytest.approx(4.0, rel=1e-4)
    assert canvas[1].sum() == pytest.approx(2.5, rel=1e-4)
    y, x = np.indices(canvas[0].shape)
    assert (canvas[0] * x).sum() / 4.0 == pytest.approx((40.2 + 3 * 55.1) / 4, abs=1e-3)
    assert (canvas[0] * y).sum() / 4.0 == pytest.approx((48.0 + 3 * 50.5) / 4, abs=1e-3)


def test_what_no_galaxy_can_have_is_not_painted():
    scene = render.Scene(5.0, 5.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, -0.4, 0.8, 0.3)
    with pytest.raises(ValueError, match="src_reff_arcsec must be positive"):
        render.paint(np.zeros((1, 9, 9)), np.ones((1, 1)), scene, PIXEL, 3)


def test_shear_alone_magnifies_by_its_jacobian():
    g = 0.1
    scene = render.Scene(31.5, 31.5, 0.0, 1.0, 0.0, g, 0.3, 0.1, 0.0, 1.0, 0.3, 0.8, 0.1)
    _, (mu,) = images(scene, MOFFAT)
    assert mu == pytest.approx(1 / (1 - g * g), rel=1e-4)
    assert shear.components(g, 0.0)[0] == g
