"""Lens models behind the renderer's interface: the loops against the closed forms, lenstronomy, and each other."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.imaging import psf
from lib.lensing import deflector, epl, magnification, sie
from tests.physics.scenes import brute_force, draw, images, one

RNG = np.random.default_rng(4)
X, Y = RNG.uniform(-4, 4, (2, 400)).astype(np.float32)
REACH = np.float32(0.05)


def loops(theta_e, q, phi, slope):
    """(ax, ay, spread) of the float32 loops."""
    kind = deflector.SIE if slope == 2.0 else deflector.EPL
    (row,) = epl.rows([theta_e], [q], [phi], [slope])
    ax, ay, spread, work = np.empty_like(X), np.empty_like(X), np.empty_like(X), np.empty((5, len(X)), np.float32)
    deflector.deflect(kind, row, X, Y, ax, ay, work)
    deflector.spread(kind, row, REACH, np.float32(0.0), X, Y, spread)
    return ax, ay, spread


@pytest.mark.parametrize("q", [0.2, 0.3, 0.6, 0.9, 1.0 - 1e-6, 1.0])
def test_the_sies_series_is_its_closed_form(q):
    ax, ay, _ = loops(1.3, q, 0.7, 2.0)
    assert np.abs(np.array([ax, ay]) - sie.deflection(X, Y, 1.3, q, 0.7)).max() < 1e-6


@pytest.mark.parametrize("slope", [1.5, 1.8, 2.0, 2.3])
@pytest.mark.parametrize("q", [0.3, 0.6, 0.95])
def test_the_power_law_is_lenstronomys(slope, q):
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.Util.param_util import phi_q2_ellipticity

    e1, e2 = phi_q2_ellipticity(0.7, q)
    kwargs = {"theta_E": 1.3, "gamma": slope, "e1": e1, "e2": e2, "center_x": 0, "center_y": 0}
    theirs = np.array(LensModel(["EPL"]).alpha(X.astype(float), Y.astype(float), [kwargs]))
    assert np.abs(np.array(epl.deflection(X, Y, 1.3, q, 0.7, slope)) - theirs).max() < 1e-12
    ax, ay, _ = loops(1.3, q, 0.7, slope)
    assert np.abs(np.array([ax, ay]) - theirs).max() < 2e-6


@settings(max_examples=30, deadline=None)
@given(st.floats(0.2, 2.5), st.floats(0.3, 1.0), st.sampled_from([1.5, 1.8, 2.0, 2.2, 2.4]))
def test_the_spread_of_a_cell_is_never_more_than_its_bound(theta_e, q, slope):
    """Points of the disc around each place map no farther from its image than ``spread`` says."""
    _, _, spread = loops(theta_e, q, 0.4, slope)
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    px, py = X[:, None] + REACH * np.cos(turn), Y[:, None] + REACH * np.sin(turn)
    ax, ay = epl.deflection(X.astype(float), Y.astype(float), theta_e, q, 0.4, slope)
    bx, by = epl.deflection(px, py, theta_e, q, 0.4, slope)
    far = np.hypot(px - bx - (X - ax)[:, None], py - by - (Y - ay)[:, None]).max(axis=1)
    assert (far <= spread * (1 + 1e-5) + 1e-6).all()
    if theta_e > 1.0 and slope == 2.0:  # planted fault: a bound without the map's stretch, which the inner cells pass
        assert not (far <= REACH * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("slope", [1.7, 2.3])
def test_a_power_laws_arc_is_brute_forces(slope):
    scene, p = one(draw(1, 6, q=(0.5, 0.9)), lens_slope=slope), psf.Moffat(1.1, 3.0)
    (ours,), (mu,) = images(scene, p)
    theirs, flux = brute_force(scene, p)
    assert np.abs(ours - theirs).max() < 5e-4 * theirs.max()
    assert mu == pytest.approx(flux, rel=3e-4)
    (isothermal,), _ = images(one(scene, lens_slope=2.0), p)
    assert np.abs(isothermal - ours).max() > 0.02 * ours.max()


def test_the_power_law_tends_to_the_isothermal_lens_without_a_step():
    scene, p = draw(12, 9), psf.Moffat(1.1, 3.0)
    a, mu_a = images(scene, p)
    b, mu_b = images(one(scene, np.arange(12), lens_slope=np.full(12, 2.0 + 1e-6)), p)
    assert np.abs(a - b).max() < 1e-4 * a.max()
    assert np.abs(mu_a / mu_b - 1).max() < 1e-4


@given(st.floats(0.2, 1.0), st.floats(0.2, 3.0))
@settings(max_examples=30)
def test_the_critical_curve_of_the_rays_encloses_pi_theta_e_squared(q, theta_e):
    assert magnification.caustics(theta_e, q)["critical"] == pytest.approx(np.pi * theta_e**2, rel=1e-9)


def test_areas_inside_the_caustics_are_the_tabulated_ones_and_hold_their_images():
    """Independent ray tracing: 0.1326, 0.0656, 0.0259, 0.0058 of theta_e**2 at q = 0.6, 0.7, 0.8, 0.9."""
    for q, area in ((0.6, 0.1326), (0.7, 0.0656), (0.8, 0.0259), (0.9, 0.0058)):
        assert magnification.caustics(2.0, q)["caustic"] / 4.0 == pytest.approx(area, abs=6e-5)
    x, y = RNG.uniform(-1.2, 1.2, (2, 3000))
    found = magnification.images(1.0, 0.6, 0.0, 0.0, 0.0, x, y)
    areas = magnification.caustics(1.0, 0.6)
    for images_at_least, area in ((2, areas["cut"]), (4, areas["caustic"])):
        share = (found >= images_at_least).mean()
        expected = area / 2.4**2
        assert abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / 3000)
