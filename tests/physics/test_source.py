"""The source: Sersic's numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.lensing import sersic


@given(st.floats(0.3, 6), st.floats(0.02, 3))
def test_half_of_the_flux_lies_within_r_eff_and_all_of_it_is_one(n, r_eff):
    r = np.concatenate([[0], np.geomspace(1e-8, 3e4 ** max(1, n / 2), 60_000)]) * r_eff
    light = sersic.brightness(r, 0.0, n, r_eff) * 2 * np.pi * r
    assert np.trapezoid(light, r) == pytest.approx(1.0, abs=2e-3)
    inner = r <= r_eff
    assert np.trapezoid(light[inner], r[inner]) == pytest.approx(0.5, abs=2e-3)
    assert sersic.flux_within(r_eff, n, r_eff) == pytest.approx(0.5, abs=1e-9)


def test_area_within_r_eff_does_not_depend_on_the_axis_ratio():
    x, y = np.meshgrid(np.linspace(-3, 3, 1201), np.linspace(-3, 3, 1201))
    for q in (0.3, 0.6, 1.0):
        area = (sersic.radius(x, y, q, 0.7) < 1.0).sum() * 0.005**2
        assert area == pytest.approx(np.pi, rel=2e-3)


@pytest.mark.parametrize("n", [0.5, 1.0, 2.0, 4.0])
def test_brightness_is_lenstronomys(n):
    from lenstronomy.LightModel.Profiles.sersic import SersicElliptic
    from lenstronomy.Util.param_util import phi_q2_ellipticity

    r_eff, q, phi = 0.4, 0.6, 0.9
    theirs_b = 1.9992 * n - 0.3271  # their approximation; at another radius the same profile
    e1, e2 = phi_q2_ellipticity(phi, q)
    x, y = np.random.default_rng(2).uniform(-1, 1, (2, 200))
    theirs = SersicElliptic(sersic_major_axis=False).function(
        x, y, amp=1.0, R_sersic=r_eff * (theirs_b / sersic.b_n(n)) ** n, n_sersic=n, e1=e1, e2=e2
    )
    ours = sersic.brightness(x, y, n, r_eff, q, phi)
    ratio = ours / theirs
    assert np.ptp(ratio) / ratio.mean() < 1e-3  # they soften the centre a little
