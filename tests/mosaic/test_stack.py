"""Many samples to one: against NumPy, and outliers at the depths that mosaics have."""

import tracemalloc

import numpy as np
import pytest

from lib.mosaic import coadd, image, lattice, mapping, stack
from lib.mosaic.lattice import Lattice, Window
from tests.mosaic.test_resample import source

SIGMA, SKY = 5.0, 100.0


def stacked(values, rule, good=None, edge=None, sigma=SIGMA) -> stack.Block:
    """``values`` (n, h, w), stacked as one band."""
    n, *shape = values.shape
    cube = values[:, None].astype(np.float32)
    into = stack.Block.empty(1, shape)
    good, edge = (np.ones((n, *shape), np.float32) if a is None else a.astype(np.float32) for a in (good, edge))
    stack.samples(rule, cube, good, edge, np.full((n, 1), sigma, np.float32), np.array([SKY], np.float32), into)
    return into


@pytest.mark.parametrize("n", [1, 2, 5, 6, 24, 25, 40, 601])
def test_medians_are_numpys(n):
    values = np.random.default_rng(n).normal(SKY, 3.0, (n, 7, 11))
    values[:, 2, 3] = np.round(values[:, 2, 3])  # ties
    made = stacked(values, stack.Rule(combine="median"))
    np.testing.assert_array_equal(made.science[0], np.median(values.astype(np.float32), axis=0))
    assert (made.coverage == n).all() and (made.rejected == 0).all()


def test_means_are_weighted_by_variance_quality_and_feather():
    random = np.random.default_rng(1)
    values, good, edge = random.normal(SKY, 5, (9, 6, 8)), random.random((9, 6, 8)), random.random((9, 6, 8))
    values[random.random(values.shape) < 0.2] = np.nan
    good[random.random(values.shape) < 0.1] = 0.0
    values[:, 0, 0] = np.nan
    weight = np.where(np.isnan(values) | (good == 0), 0.0, good * edge / SIGMA**2)
    with np.errstate(invalid="ignore"):
        expected = np.nansum(values * weight, axis=0) / weight.sum(axis=0)
    made = stacked(values, stack.Rule(), good, edge)
    np.testing.assert_allclose(made.science[0], expected, rtol=1e-6)
    np.testing.assert_allclose(made.weight[0], weight.sum(axis=0), rtol=1e-5)
    np.testing.assert_array_equal(made.coverage[0], (weight > 0).sum(axis=0))
    assert np.isnan(made.science[0, 0, 0]) and made.coverage[0, 0, 0] == 0


def test_the_streaming_mean_is_the_same():
    random, grid = np.random.default_rng(2), Lattice(lattice.tangent(10, 10, 1.0), (80, 90))
    sources = []
    for k in range(4):
        wcs = grid.cut(Window(5 * k, 3 * k, 80, 90))
        wcs.wcs.crpix = wcs.wcs.crpix + 0.3 * k
        sources.append(source(f"{k}", random.normal(1e4, 5.0, (1, 60, 60)).astype(np.float32), wcs, grid, sigma=np.float32([2 + k])))
    none = np.zeros(1, np.float32)
    settings = coadd.Settings(feather_pix=9.0)
    summed = coadd.of(grid, grid.window, sources, none, settings)
    # a rejection that never rejects goes by the samples
    listed = coadd.of(grid, grid.window, sources, none, coadd.Settings(rule=stack.Rule("kappa_sigma", kappa=100.0), feather_pix=9.0))
    np.testing.assert_allclose(summed.science, listed.science, rtol=3e-7)
    np.testing.assert_array_equal(summed.coverage, listed.coverage)


@pytest.mark.parametrize("rejection", ["kappa_sigma", "kappa_mad", "winsorised"])
@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 16, 30])
def test_an_outlier_is_rejected_at_every_depth_and_clean_samples_stay(rejection, n):
    random = np.random.default_rng(n)
    values = random.normal(SKY, SIGMA, (n, 60, 60))
    clean = stacked(values, stack.Rule(rejection))
    assert clean.rejected.sum() < 0.012 * values.size
    hit = random.integers(0, n, (60, 60))
    spoiled = values.copy()
    np.put_along_axis(spoiled, hit[None], 800.0, axis=0)
    made = stacked(spoiled, stack.Rule(rejection))
    assert (made.rejected >= 1).all()
    rest = (values.sum(axis=0) - np.take_along_axis(values, hit[None], axis=0)[0]) / (n - 1)
    assert np.abs(made.science[0] - rest).max() < 4.5 * SIGMA
    assert np.abs(np.mean(made.science[0] - rest)) < 0.1 * SIGMA


def test_a_scatter_of_the_samples_alone_would_reject_nothing_there():
    """The trap that the known noise avoids: an outlier among five is never more than 1.79 of their own standard deviations away."""
    values = np.random.default_rng(1).normal(SKY, SIGMA, (5, 60, 60))
    values[2] = 800.0
    away = np.abs(values - values.mean(axis=0)) / values.std(axis=0, ddof=1)
    assert away.max() < 3.0
    assert (stacked(values, stack.Rule("kappa_sigma")).rejected >= 1).all()


def test_of_two_the_one_below_the_sky_goes_if_it_is_the_odd_one():
    values = np.stack([np.full((3, 3), SKY + 1.0), np.full((3, 3), -900.0)])
    made = stacked(values, stack.Rule("kappa_sigma"))
    np.testing.assert_allclose(made.science[0], SKY + 1.0)
    trail = stacked(np.stack([np.full((3, 3), SKY - 4.0), np.full((3, 3), 900.0)]), stack.Rule("kappa_sigma"))
    np.testing.assert_allclose(trail.science[0], SKY - 4.0)


def test_star_cores_survive_the_differences_that_interpolation_makes():
    """Samples of a bright core differ by 4 %: far more than the noise, and all right."""
    values = SKY + 5000.0 * (1 + 0.04 * np.random.default_rng(3).uniform(-1, 1, (6, 40, 40)))
    assert stacked(values, stack.Rule("kappa_sigma")).rejected.sum() == 0


def test_a_satellite_trail_leaves_no_trace():
    random, grid = np.random.default_rng(6), Lattice(lattice.tangent(10, 10, 1.0), (120, 120))
    sources, none, one = [], np.zeros(1, np.float32), np.ones(1, np.float32)
    for k in range(4):
        wcs = grid.cut(Window(0, 0, 120, 120))
        wcs.wcs.crpix = wcs.wcs.crpix + 0.37 * k
        pixels = random.normal(0.0, 1.0, (1, 120, 120)).astype(np.float32)
        if k == 2:
            y, x = np.mgrid[:120, :120]
            pixels[0][np.abs(y - 0.7 * x - 10) < 3] += 60.0
        sources.append(source(f"{k}", pixels, wcs, grid, sigma=one))
    spoiled = coadd.of(grid, grid.window, sources, none, coadd.Settings(feather_pix=5.0))
    assert spoiled.science[0, 20:100, 20:100].max() > 12.0
    made = coadd.of(grid, grid.window, sources, none, coadd.Settings(rule=stack.Rule("kappa_sigma"), feather_pix=5.0))
    assert np.nanmax(made.science[0, 20:100, 20:100]) < 4.0
    assert made.rejected.max() >= 1


def test_six_hundred_images_take_no_more_memory_than_sixty():
    random, grid = np.random.default_rng(7), Lattice(lattice.tangent(10, 10, 1.0), (100, 100))
    none, one = np.zeros(1, np.float32), np.ones(1, np.float32)
    pixels = random.normal(0, 1, (1, 100, 100)).astype(np.float32)
    wcs = grid.cut(grid.window)
    found = mapping.of(grid, wcs, (100, 100))

    def load(window):
        return image.of(pixels, wcs, full=(100, 100))

    def peak(number):
        sources = [coadd.Source(f"{k:03d}", found, (100, 100), load, one, none, one) for k in range(number)]
        tracemalloc.start()
        made = coadd.of(grid, grid.window, sources, none, coadd.Settings(rule=stack.Rule("kappa_sigma"), feather_pix=0.0))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, made

    few, _ = peak(60)
    many, made = peak(600)
    held = 600 * 106 * 106 * 4  # the images themselves, all in work here
    assert many < few + 1.1 * held + coadd.CUBE_BYTES
    assert (made.coverage == 600).all()
    np.testing.assert_allclose(made.science, pixels, atol=1e-6)


def test_images_beyond_the_memory_are_read_in_strips_and_the_bits_are_the_same(monkeypatch):
    random, grid, asked = np.random.default_rng(8), Lattice(lattice.tangent(10, 10, 1.0), (900, 90)), []
    sources, none = [], np.zeros(1, np.float32)
    for k in range(4):
        wcs = grid.cut(grid.window)
        wcs.wcs.crpix = wcs.wcs.crpix + 0.3 * k
        pixels = random.normal(0, 1, (900, 90)).astype(np.float32)

        def load(near, pixels=pixels, wcs=wcs):
            asked.append(near.shape[0])
            return image.of(pixels[near.y0 : near.y1, near.x0 : near.x1], wcs, full=(900, 90), origin=(near.y0, near.x0))

        sources.append(coadd.Source(f"{k}", mapping.of(grid, wcs, (900, 90)), (900, 90), load, *np.ones((3, 1), np.float32)))
    settings = coadd.Settings(rule=stack.Rule("kappa_sigma"), feather_pix=9.0)
    whole = coadd.of(grid, grid.window, sources, none, settings)
    assert asked == [900] * 4
    monkeypatch.setattr(coadd, "IMAGE_BYTES", 4 * 2 * 900 * 90 * 4 // 3)
    strips = coadd.of(grid, grid.window, sources, none, settings)
    assert len(asked) > 8 and max(asked[4:]) < 700
    for one, other in zip(vars(whole).values(), vars(strips).values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("facts", [{"rejection": "sigma"}, {"combine": "sum"}, {"kappa": 0.5}])
def test_an_unknown_rule_is_refused(facts):
    with pytest.raises(ValueError, match=next(iter(facts))):
        stack.Rule(**facts)
    with pytest.raises(ValueError, match="kernel"):
        coadd.Settings(kernel="nearest")
