"""Magnification without pixels: closed forms, published means, a slow reference, lenstronomy, image counts."""

import itertools

import numpy as np
import pytest
from scipy import integrate

from lib.lensing import chords, magnification, sersic, shear, sie
from tests.physics import rays


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


def lenses(count, seed, n=(0.5, 4.0), r_eff=(0.04, 0.5)):
    """Random lenses and sources, a tenth each: at the centre, large, on the cut, on the caustic, and unlensed but for the shear."""
    u = np.random.default_rng(seed).uniform
    theta_e, q, phi, g, axis = u(0.1, 3, count), u(0.3, 1, count), u(-3, 3, count), u(0, 0.1, count), u(0, 3, count)
    g1, g2 = shear.components(g, axis)
    off, way = theta_e * np.sqrt(u(0, 1, count)), u(0, 2 * np.pi, count)
    x, y, index = off * np.cos(way), off * np.sin(way), u(*n, count)
    radius = np.exp(u(*np.log(r_eff), count))
    kind = np.arange(count) % 10
    x[kind == 0], y[kind == 0] = 0.0, 0.0
    index[kind == 0], radius[kind == 0] = n[1], r_eff[0]
    radius[kind == 1] *= 4.0
    for k in np.flatnonzero((kind == 2) | (kind == 3)):
        ax, ay, dx, dy = rays.line(way[k], theta_e[k], q[k], phi[k], g1[k], g2[k])
        c, s = np.cos(way[k] - phi[k]), np.sin(way[k] - phi[k])
        turn = theta_e[k] * np.sqrt(q[k]) / np.hypot(q[k] * c, s)
        critical = turn * (ax * np.cos(way[k]) + ay * np.sin(way[k])) / (1.0 - g[k] ** 2) if kind[k] == 3 else 0.0
        x[k], y[k] = critical * ax - dx, critical * ay - dy
    theta_e[kind == 4] = 0.0
    return theta_e, q, phi, g1, g2, x, y, index, radius, u(0.3, 1, count), u(0, np.pi, count)


@pytest.mark.parametrize("seed, ranges, limit", [
    (1, {}, 1e-5), (2, {"n": (4.0, 6.0)}, 2e-5), (3, {"n": (0.3, 0.5)}, 2e-5), (4, {"r_eff": (0.005, 0.04)}, 2e-5),
])  # fmt: skip
def test_a_source_is_magnified_as_by_the_slow_reference(seed, ranges, limit):
    given = lenses(50, seed, **ranges)
    assert np.abs(magnification.of_source(*given) / rays.of_source(*given) - 1.0).max() < limit


def test_a_batch_gives_each_source_what_it_has_alone():
    given = lenses(40, 5)
    given[7][::2] = 1.0
    whole = magnification.of_source(*given)
    assert [magnification.of_source(*(v[k] for v in given))[0] for k in range(40)] == whole.tolist()


def test_a_source_is_magnified_as_by_lenstronomys_rays():
    """Rays on a grid of 0.02", profiles wide enough for it."""
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.Util.param_util import phi_q2_ellipticity

    x, y = np.meshgrid(*[np.arange(-9, 9, 0.02) + 0.01] * 2)
    for k, row in enumerate(zip(*lenses(8, 6, n=(0.6, 1.0), r_eff=(0.15, 0.3)), strict=True)):
        theta_e, q, phi, g1, g2, sx, sy, n, r_eff, src_q, src_phi = (float(v) for v in row)
        theta_e = max(0.5 * theta_e, 1e-6)
        e1, e2 = phi_q2_ellipticity(phi, q)
        bx, by = LensModel(["SIE", "SHEAR"]).ray_shooting(x, y, [
            {"theta_E": theta_e, "e1": e1, "e2": e2, "center_x": 0, "center_y": 0}, {"gamma1": g1, "gamma2": g2, "ra_0": 0, "dec_0": 0},
        ])  # fmt: skip
        theirs = sersic.brightness(bx - sx, by - sy, n, r_eff, src_q, src_phi).sum() * 4e-4
        ours = magnification.of_source(theta_e, q, phi, g1, g2, sx, sy, n, r_eff, src_q, src_phi)[0]
        assert ours == pytest.approx(theirs, rel=1e-3), k


@pytest.mark.parametrize("n", [0.3, 0.77, 1.0, 4.0, 6.0])
def test_a_profile_along_a_half_line_is_the_tables(n):
    peak, b = sersic.central_brightness(n, 1.0), sersic.b_n(n)
    whole, beyond = chords.table(n)
    for rho, turn in np.random.default_rng(6).uniform([-3.5, 0], [1, np.pi], (12, 2)):
        d, ahead = 10**rho * np.sin(turn), 10**rho * np.cos(turn)
        edges = sorted(
            {-ahead, 0.0, *(v for p in np.arange(-6, 3.1, 0.5) for v in (10.0**p, -(10.0**p)) if v > -ahead)}
            - ({0.0} if ahead < 0 else set())
        )

        def f(t, d=d, ahead=ahead):
            return (t + ahead) * peak * np.exp(-b * np.hypot(d, t) ** (1.0 / n))

        summed = sum(integrate.quad(f, lo, hi, epsrel=1e-9, epsabs=1e-13)[0] for lo, hi in itertools.pairwise(edges))
        assert chords.along.py_func(d, ahead, whole, beyond) == pytest.approx(summed, abs=4e-6)


def test_an_index_beyond_the_tables_is_refused():
    with pytest.raises(ValueError, match=r"a Sersic index must be in \[0.3, 6\], got 7"):
        magnification.of_source(1.0, 0.8, 0.0, 0.0, 0.0, 0.1, 0.0, 7.0, 0.2, 1.0, 0.0)


def test_the_bound_on_the_moments_second_derivative_holds():
    """And the first derivative is one: what makes sure that no light and no image is overlooked."""
    u = np.random.default_rng(7).uniform
    phi, step = np.linspace(0.0, 2 * np.pi, 400), 1e-5
    for _ in range(60):
        row = (u(0, 3), u(0.05, 1), u(-3, 3), *shear.components(u(0, 0.5), u(0, 3)), u(-3, 3), u(-3, 3))
        *given, bend = magnification._turned.py_func(row)
        (m0, slope0), (m1, slope1), (_, slope) = (
            np.array([magnification._moment.py_func(p + d, *given)[:2] for p in phi]).T for d in (-step, step, 0.0)
        )
        assert np.abs((m1 - m0) / (2 * step) - slope).max() < 1e-6
        assert np.abs((slope1 - slope0) / (2 * step)).max() < bend


def test_images_are_those_of_a_fine_scan_of_the_angles():
    """8,000 sources, a quarter of them about the astroid: 2,880 samples miss a pair within a hair of it, 200,000 see it."""
    u, count = np.random.default_rng(8).uniform, 8000
    theta_e, q, phi = u(0.2, 3, count), u(0.2, 1, count), u(-3, 3, count)
    off, way = 1.1 * theta_e * np.sqrt(u(0, 1, count)), u(0, 2 * np.pi, count)
    off[::4] *= 0.1
    given = (theta_e, q, phi, *shear.components(u(0, 0.2, count), u(0, 3, count)), off * np.cos(way), off * np.sin(way))
    found, scanned = magnification.images(*given), rays.images(*given)
    odd = np.flatnonzero(found != scanned)
    assert len(odd) <= 8
    assert (found[odd] == rays.images(*(v[odd] for v in given), angles=200_000)).all()
    assert set(found.tolist()) == {1, 2, 3, 4}


def test_images_on_a_borderline_are_counted():
    assert magnification.images(0.0, 0.5, 0.0, 0.1, 0.0, 0.3, 0.0)[0] == 1  # a ray of the search passes the source exactly
    assert magnification.images(1.0, 0.5, 0.0, 0.0, 0.0, 8.0, 0.0)[0] == 1
    assert magnification.images(1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)[0] == 0  # a ring
