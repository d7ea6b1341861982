"""The lens: laws, and lenstronomy's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.lensing import shear, sie

place = st.floats(-5, 5).filter(lambda v: abs(v) > 1e-3)
ratio = st.floats(0.3, 1.0)
angle = st.floats(0, np.pi)


@given(place, place, st.floats(0.1, 3), ratio, angle)
def test_deflection_is_odd(x, y, theta_e, q, phi):
    a, b = sie.deflection(x, y, theta_e, q, phi), sie.deflection(-x, -y, theta_e, q, phi)
    assert np.allclose(a, [-b[0], -b[1]], atol=1e-12)


@given(place, place, ratio, angle)
def test_deflection_is_curl_free_and_its_divergence_is_twice_the_convergence(x, y, q, phi):
    h = 1e-5 * np.hypot(x, y)
    right, left = sie.deflection(x + h, y, 1.0, q, phi), sie.deflection(x - h, y, 1.0, q, phi)
    up, down = sie.deflection(x, y + h, 1.0, q, phi), sie.deflection(x, y - h, 1.0, q, phi)
    scale = sie.convergence(x, y, 1.0, q, phi)
    assert abs((right[1] - left[1]) - (up[0] - down[0])) / (2 * h) < 1e-5 * max(1, scale)
    divergence = ((right[0] - left[0]) + (up[1] - down[1])) / (2 * h)
    assert divergence == pytest.approx(2 * scale, rel=1e-5)


@given(place, place, angle)
def test_the_ellipse_tends_to_the_sphere_without_a_step(x, y, phi):
    round_, nearly = sie.deflection(x, y, 1.0, 1.0, phi), sie.deflection(x, y, 1.0, 1.0 - 1e-9, phi)
    assert np.allclose(round_, nearly, atol=1e-8)
    assert np.hypot(*round_) == pytest.approx(1.0, abs=1e-12)
    ellipticities = np.geomspace(1e-8, 1e-2, 61)
    values = np.array([sie.deflection(x, y, 1.0, 1.0 - e, phi) for e in ellipticities])
    assert np.abs(np.diff(values, axis=0)).max() < 1e-2 * 0.5


@pytest.mark.parametrize("q", [0.3, 0.5, 0.7, 0.9, 1.0])
def test_the_critical_curve_encloses_pi_theta_e_squared(q):
    """On the tangential critical curve of an SIE kappa = 1/2; its area by polar integration, within 0.5 %."""
    theta_e, turn = 1.3, np.linspace(0, 2 * np.pi, 20_001)
    kappa_at_1 = sie.convergence(np.cos(turn), np.sin(turn), theta_e, q, 0.4)
    area = np.trapezoid(0.5 * (kappa_at_1 / 0.5) ** 2, turn)
    assert area == pytest.approx(np.pi * theta_e**2, rel=5e-3)


@pytest.mark.parametrize("q", [0.3, 0.5, 0.7, 0.9, 0.999])
def test_the_critical_curve_found_from_the_deflection_alone_has_that_area_too(q):
    """det(1 - d alpha / d theta) changes sign across the curve: counted on a fine grid."""
    theta_e, n, half = 1.0, 1501, 2.5
    grid = np.linspace(-half, half, n)
    x, y = np.meshgrid(grid, grid)
    ax, ay = sie.deflection(x, y, theta_e, q, 0.3)
    step = grid[1] - grid[0]
    axx, axy = np.gradient(ax, step, axis=1), np.gradient(ax, step, axis=0)
    ayx, ayy = np.gradient(ay, step, axis=1), np.gradient(ay, step, axis=0)
    inside = (1 - axx) * (1 - ayy) - axy * ayx < 0
    inside |= np.hypot(x, y) < 0.05  # differences across the singular centre mean nothing
    assert inside.sum() * step**2 == pytest.approx(np.pi * theta_e**2, rel=5e-3)


@pytest.mark.parametrize("q", [0.3, 0.6, 0.8, 0.95])
def test_deflection_is_lenstronomys_to_1e_6(q):
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian

    rng = np.random.default_rng(5)
    x, y = rng.uniform(-4, 4, (2, 500))
    theta_e, phi, g, phi_g = 1.4, 0.7, 0.06, 1.9
    e1, e2 = phi_q2_ellipticity(phi, q)
    g1, g2 = shear_polar2cartesian(phi_g, g)
    model = LensModel(["SIE", "SHEAR"])
    theirs = model.alpha(x, y, [
        {"theta_E": theta_e, "e1": e1, "e2": e2, "center_x": 0, "center_y": 0},
        {"gamma1": g1, "gamma2": g2, "ra_0": 0, "dec_0": 0},
    ])  # fmt: skip
    ours = np.array(sie.deflection(x, y, theta_e, q, phi)) + np.array(shear.deflection(x, y, *shear.components(g, phi_g)))
    assert np.abs(ours - np.array(theirs)).max() < 1e-6


def test_an_sie_without_its_square_root_would_be_seen():
    """The fault of earlier pipelines: the area test must not pass with theta_e / sqrt(q)."""
    q, theta_e = 0.5, 1.0
    turn = np.linspace(0, 2 * np.pi, 20_001)
    kappa = sie.convergence(np.cos(turn), np.sin(turn), theta_e / np.sqrt(q), q)
    area = np.trapezoid(0.5 * (kappa / 0.5) ** 2, turn)
    assert area > 1.9 * np.pi * theta_e**2


def test_shear_has_no_curl_and_no_divergence():
    g1, g2 = shear.components(0.08, 0.6)
    ax, ay = shear.deflection(np.array([1.0, 0.0]), np.array([0.0, 1.0]), g1, g2)
    assert ax[0] + ay[1] == pytest.approx(0)
    assert ay[0] == pytest.approx(ax[1])
