"""Magnification without pixels: closed forms, published means, image counts."""

import numpy as np
import pytest

from lib.lensing import magnification, sie


def test_an_exponential_on_the_axis_of_a_sphere_has_its_closed_form():
    for theta_e, r_eff in ((1.0, 0.3), (2.5, 0.04), (0.3, 0.05)):
        h = r_eff / 1.67834699
        found = magnification.of_source(theta_e, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, r_eff, 1.0, 0.0)[0]
        assert found == pytest.approx(2 * theta_e / h + np.exp(-theta_e / h), rel=1e-5)


@pytest.mark.parametrize("r_eff, values", [(0.1, (3.910, 3.955, 3.982, 3.999)), (2.5, (3.400, 3.441, 3.465, 3.481))])
def test_mean_over_the_disc_is_the_tabulated_one(r_eff, values):
    """Independent integration, q = 0.6, 0.7, 0.8, 1.0, round exponentials of r_eff/theta_e = 0.02 and 0.5."""
    for q, value in zip((0.6, 0.7, 0.8, 1.0), values, strict=True):
        assert magnification.mean_over_disc(5.0, q, 0.0, 0.0, 1.0, r_eff, 1.0, 5.0) == pytest.approx(value, abs=0.004)


def test_mean_over_the_disc_is_the_mean_of_drawn_sources():
    rng = np.random.default_rng(3)
    count, disc = 1000, 0.8
    b, a = disc * np.sqrt(rng.uniform(0, 1, count)), rng.uniform(0, 2 * np.pi, count)
    drawn = magnification.of_source(1.0, 0.7, 0.0, 0.03, 0.0, b * np.cos(a), b * np.sin(a), 1.0, 0.2, 0.6, rng.uniform(0, np.pi, count))
    expected = magnification.mean_over_disc(1.0, 0.7, 0.03, 0.0, 1.0, 0.2, 0.6, disc)
    assert abs(drawn.mean() - expected) < 4 * drawn.std() / np.sqrt(count)


@pytest.mark.parametrize("b, values", [
    (0.1, (4.97, 7.31, 9.61, 13.86, 17.49, 20.50)), (0.3, (3.39, 4.96, 6.58, 9.81, 12.99, 16.08)), (0.5, (2.39, 3.37, 4.44, 6.65, 8.89, 11.14)),
])  # fmt: skip
def test_a_source_at_a_fixed_offset_gains_flux_with_theta_e_as_tabulated(b, values):
    """q 0.8, round exponential of r_eff 0.3", averaged over the direction of the offset."""
    turn = (np.arange(24) + 0.5) * 2 * np.pi / 24
    for theta_e, value in zip((0.5, 0.75, 1.0, 1.5, 2.0, 2.5), values, strict=True):
        found = magnification.of_source(theta_e, 0.8, 0.0, 0.0, 0.0, b * np.cos(turn), b * np.sin(turn), 1.0, 0.3, 1.0, 0.0)
        assert found.mean() == pytest.approx(value, abs=0.011)


def test_number_of_images_of_a_sphere_and_of_an_ellipse():
    q = sie.axis_ratio(0.2)
    assert magnification.images(1.0, 1.0 - 1e-6, 0.0, 0.0, 0.0, 0.4, 0.2)[0] == 2
    assert magnification.images(1.0, 1.0 - 1e-6, 0.0, 0.0, 0.0, 1.4, 0.2)[0] == 1
    assert magnification.images(1.0, q, 0.0, 0.0, 0.0, 0.01, 0.02)[0] == 4
    assert magnification.images(1.0, q, 0.3, 0.0, 0.0, 3.0, 0.0)[0] == 1
