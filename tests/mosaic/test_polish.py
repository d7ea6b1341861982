"""Depth, colours and the renormalisation by coverage: against their formulas, and where they must do nothing."""

import logging

import numpy as np
import pytest
from scipy import ndimage

from lib.frames import pyramid
from lib.mosaic import coverage, polish


def test_a_deep_spike_masks_next_to_nothing():
    """Nine pixels three times as deep: by the maximum nearly everything would be masked."""
    counts = np.full((300, 300), 4)
    before = coverage.kept(counts, coverage.full_depth(coverage.histogram(counts)), 0.4).mean()
    counts[10:13, 10:13] = 12
    after = coverage.kept(counts, coverage.full_depth(coverage.histogram(counts)), 0.4).mean()
    assert before == 1.0 and abs(after - before) < 1e-3
    assert coverage.kept(counts, counts.max(), 0.4).mean() < 1e-3  # the wrong way


def test_nothing_is_masked_at_0_and_nothing_covered_is_never_kept():
    counts = np.array([[0, 1, 2, 10]])
    np.testing.assert_array_equal(coverage.kept(counts, 10.0, 0.0), [[False, True, True, True]])
    np.testing.assert_array_equal(coverage.kept(counts, 10.0, 0.2), [[False, False, True, True]])
    assert coverage.full_depth({0: 50}) == 0.0


def test_alpha_is_0_only_where_nothing_is():
    counts = np.array([[0, 1, 500, 1000]])
    np.testing.assert_array_equal(coverage.alpha(counts, 500.0), [[0, 1, 255, 255]])


def test_the_box_is_around_what_is_kept():
    good = np.zeros((9, 8), bool)
    good[2, 3] = good[5, 6] = True
    assert coverage.box(good) == (slice(2, 6), slice(3, 7))
    assert coverage.box(good & False) == (slice(0, 0), slice(0, 0))


def test_colours_are_made_equal_within_limits():
    random = np.random.default_rng(1)
    sky = np.array([1000.0, 1030.0, 900.0])
    pixels = (sky[:, None, None] + random.normal(0, 5, (3, 100, 100))).astype(np.float32)
    gains, number = polish.rgb_gains(pixels)
    assert number > 5000
    np.testing.assert_allclose(gains, [1.0, 1000 / 1030, 1.05], rtol=2e-3)


@pytest.mark.parametrize("pixels", [np.ones((1, 100, 100)), np.ones((3, 20, 20)), np.full((3, 100, 100), np.nan), -np.ones((3, 100, 100))])
def test_colours_are_left_where_there_are_not_three_or_too_few_pixels(pixels):
    gains, number = polish.rgb_gains(pixels.astype(np.float32))
    assert (gains == 1).all() and number == 0


def test_the_coverage_scale_is_its_formula_and_has_no_unit():
    counts = np.ones((120, 160), np.float32)
    counts[:, 80:] = 3
    counts[:10] = 0
    there = (counts > 0).astype(float)
    expected = (
        ndimage.gaussian_filter(counts * there, 20, mode="constant")
        / ndimage.gaussian_filter(there, 20, mode="constant")
        / np.maximum(counts, 1)
    )
    made = polish.coverage_scale(counts, 20)
    np.testing.assert_allclose(made[10:], np.clip(expected, 0.5, 2.0)[10:], rtol=1e-5)
    assert (made[:10] == 1).all()
    np.testing.assert_allclose(polish.coverage_scale(5 * counts, 20), made, rtol=1e-5)
    gains = polish.tile_gains(counts, [counts == 1, counts == 3, counts == 9], 20)
    np.testing.assert_allclose(gains, [np.median(made[counts == 1]), max(np.median(made[counts == 3]), 0.85), 1.0], rtol=1e-6)


def test_the_two_pass_does_nothing_to_even_coverage_and_is_refused_where_it_would_harm(caplog):
    pixels = np.random.default_rng(2).normal(100, 1, (1, 80, 80)).astype(np.float32)
    even, uneven = np.full((80, 80), 3), np.full((80, 80), 3)
    uneven[:, 40:] = 6
    np.testing.assert_allclose(polish.two_pass(pixels, even, sigma_pix=10), pixels, rtol=1e-6)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(polish.two_pass(pixels, uneven, sigma_pix=10), pixels)
    assert "skipped: it would change calibrated pixels" in caplog.text
    assert np.abs(polish.two_pass(pixels, uneven, calibrated=False, sigma_pix=10) / pixels - 1).max() > 0.05


def test_a_pyramid_halves_from_level_to_level_and_keeps_holes(tmp_path):
    picture = np.zeros((300, 520, 4), np.uint8)
    picture[..., 0], picture[..., 3] = 200, 255
    picture[:64, :64] = 0
    pyramid._paste(tmp_path, 2, picture, pyramid.Window(10, 0, 310, 520))
    for level in (1, 0):
        pyramid._above(tmp_path, level)
    assert sorted(p.name for p in (tmp_path / "2").iterdir()) == ["0-0.png", "0-1.png", "0-2.png", "1-0.png", "1-1.png", "1-2.png"]
    (top,) = (tmp_path / "0").iterdir()
    small = pyramid._read(top)
    assert small[40, 60].tolist() == [200, 0, 0, 255] and small[10, 8, 3] == 0 and small[200, 200, 3] == 0
