"""Gains and offsets against the truth of scenes, where sky has structure, where it has none, and where something is wrong."""

import logging

import numpy as np
import pytest
from astropy.wcs import WCS

from lib.mosaic import image, lattice, mapping, overlaps, solve
from lib.mosaic.scaling import apply_tile_photometric_scaling, compute_tile_photometric_scaling
from tests.mosaic import scenes


def measured(scene, frames=None):
    """(bins, middles) of a scene's frames."""
    grid, bins, middles = lattice.Lattice(WCS(scene.canvas), scene.shape), [], []
    for one in frames or scene.frames:
        found = mapping.of(grid, one.wcs, one.shape)
        window = found.window
        bins.append(overlaps.bins(image.of(one.pixels, one.wcs), found, image.noise(one.pixels), image.level(one.pixels)))
        middles.append(((window.y0 + window.y1) / 2, (window.x0 + window.x1) / 2))
    return bins, np.array(middles)


def all_pairs(bins):
    return [p for i in range(len(bins)) for j in range(i + 1, len(bins)) for p in overlaps.pairs(bins[i], bins[j], i, j)]


@pytest.fixture(scope="module")
def s1():
    scene = scenes.s1()
    bins, middles = measured(scene)
    return scene, all_pairs(bins), middles


def gain_errors(scene, table):
    off = np.log(table.gain / np.array([one.truth["gain"] for one in scene.frames]))
    return off - off.mean(axis=0)


def test_gains_of_s1_are_recovered_to_a_tenth_of_a_per_cent(s1):
    scene, pairs, middles = s1
    table = solve.table(pairs, middles, 3)
    off = gain_errors(scene, table)
    assert np.sqrt(np.mean(off**2)) < 1e-3 and np.abs(off).max() < 3e-3
    assert (table.component == 0).all() and not table.clipped.any() and (table.pairs >= 3).all()
    # the whole is mapped to the truth by one gain and offset a band: what is left is each tile's own error
    gain, offset = (np.array([one.truth[name] for one in scene.frames]) for name in ("gain", "offset"))
    level = table.gain * ((1050.0 - offset) / gain) + table.offset
    assert np.abs(level - level.mean(axis=0)).max() < 0.35


def test_errors_of_slopes_are_what_their_information_says(s1):
    scene, pairs, _ = s1
    gain = np.array([one.truth["gain"] for one in scene.frames])
    pulls = [np.log(p.slope / (gain[p.i, p.band] / gain[p.j, p.band])) * np.sqrt(p.information) for p in pairs]
    assert len(pulls) == 60 and 0.6 < np.std(pulls) < 1.4


def test_collapsed_gains_would_be_seen(s1):
    """The fault that a seam test alone lets through: all gains times a small number."""
    _scene, pairs, middles = s1
    table = solve.table(pairs, middles, 3)
    np.testing.assert_allclose(np.log(table.gain).mean(axis=0), 0.0, atol=1e-6)


def test_perfect_tiles_are_left_as_they_are():
    scene = scenes.s1(perfect=True)
    bins, middles = measured(scene)
    table = solve.table(all_pairs(bins), middles, 3)
    assert np.abs(table.gain - 1).max() <= 0.002
    assert np.abs(table.offset).max() <= 0.5


def test_the_line_is_unbiased_where_least_squares_is_not():
    random = np.random.default_rng(1)
    truth = 1000.0 + random.normal(0, 10.0, 40_000)
    x, y = truth + random.normal(0, 10, truth.size), 1.1 * truth + 5 + random.normal(0, 10, truth.size)
    assert np.polyfit(x, y, 1)[0] == pytest.approx(0.55, abs=0.02)  # the wrong way
    slope, intercept = overlaps.line(x, y, 1.0, np.ones(x.size))
    assert slope == pytest.approx(1.1, abs=0.02) and intercept == pytest.approx(5.0, abs=20)


def test_flat_sky_leans_on_the_prior_and_offsets_are_found():
    """No star, no nebula: a slope fitted to noise would be anything."""
    random, bins = np.random.default_rng(2), []
    for offset in (0.0, 30.0, -20.0):
        mean = (1000.0 + offset + random.normal(0, 1.0, (1, 40, 40))).astype(np.float32)
        bins.append(overlaps.Bins((0, 0), mean, np.ones(1, np.float32), np.float32([1000 + offset])))
    table = solve.table(all_pairs(bins), np.zeros((3, 2)), 1)
    np.testing.assert_allclose(table.gain, 1.0, atol=0.02)
    np.testing.assert_allclose((table.gain * [[1000], [1030], [980]] + table.offset)[:, 0], 1003.333, atol=0.2)


@pytest.mark.parametrize("stars, slope", [(0, 1.0), (60, 1.1)])
def test_rays_in_one_image_draw_no_line_and_move_no_offset(stars, slope):
    """Thirty bins have light that the other image has not; a line through them would be steep, and fit everything."""
    random = np.random.default_rng(8)
    x, y = (random.normal(0, 1.0, (1, 30, 30)).astype(np.float32) for _ in range(2))
    at = random.integers(0, 30, (2, stars))
    light = random.uniform(20, 100, stars).astype(np.float32)
    x[0, at[0], at[1]] += light
    y[0, at[0], at[1]] += slope * light
    rays = random.integers(0, 30, (2, 30))
    y[0, rays[0], rays[1]] += random.uniform(50, 2000, 30).astype(np.float32)
    one, other = (overlaps.Bins((0, 0), 1000 + v, np.ones(1, np.float32), np.float32([1000])) for v in (x, y))
    (pair,) = overlaps.pairs(one, other)
    assert pair.slope == pytest.approx(slope, abs=0.02) and (pair.information > 0) == (stars > 0)
    assert pair.y - pair.x == pytest.approx((slope - 1.0) * (pair.x - 1000.0), abs=0.2) and pair.residual < 2.0


def synthetic(gains, offsets, random, links=None, tilt=None):
    """Bins of images on one line, each overlapping its neighbour's half, of a sky with structure."""
    sky = 1000.0 + 200.0 * random.standard_exponential((40, 20 * (len(gains) + 1)))
    bins = []
    for k, (gain, offset) in enumerate(zip(gains, offsets, strict=True)):
        seen = sky[:, 20 * k : 20 * k + 40].copy()
        if tilt is not None:
            seen += tilt[k] * (np.arange(40) - 19.5)[:, None] * 8
        mean = ((seen - offset) / gain + random.normal(0, 1.0, seen.shape))[None].astype(np.float32)
        bins.append(overlaps.Bins((0, 20 * k), mean, np.ones(1, np.float32), np.float32([np.median(mean)])))
    return bins, np.array([[159.5, 160.0 * k + 159.5] for k in range(len(gains))])


def test_groups_that_do_not_meet_are_each_solved_and_told():
    random = np.random.default_rng(3)
    bins, middles = synthetic([1.1, 0.9, 1.0, 1.2, 0.8, 1.0], [0, 10, -10, 5, 0, 0], random)
    far = [overlaps.Bins((b.at[0] + (500 if k >= 3 else 0), b.at[1]), b.mean, b.sigma, b.sky) for k, b in enumerate(bins)]
    table = solve.table(all_pairs(far), middles, 1)
    assert len(set(table.component)) == 2 and np.isfinite(table.gain).all() and np.isfinite(table.offset).all()
    ratio = table.gain[:, 0] / np.array([1.1, 0.9, 1.0, 1.2, 0.8, 1.0])
    np.testing.assert_allclose(ratio[:3] / ratio[0], 1.0, atol=2e-3)
    np.testing.assert_allclose(ratio[3:] / ratio[3], 1.0, atol=2e-3)
    assert any("2 groups" in line for line in table.said)


def test_an_anchor_keeps_its_own_scale():
    bins, middles = synthetic([1.1, 0.9, 1.0], [0, 10, -10], np.random.default_rng(4))
    table = solve.table(all_pairs(bins), middles, 1, anchored=True)
    anchor = table.anchor[0]
    assert anchor == 1  # it has two neighbours
    assert table.gain[anchor, 0] == 1.0 and table.offset[anchor, 0] == 0.0
    np.testing.assert_allclose(table.gain[:, 0], [1.1 / 0.9, 1.0, 1.0 / 0.9], rtol=2e-3)
    assert "image 1" in table.said[0]


def test_a_gain_at_the_limit_is_told_and_its_offset_is_solved_again():
    bins, middles = synthetic([1.0, 3.0, 1.0], [0, 0, 0], np.random.default_rng(5))
    table = solve.table(all_pairs(bins), middles, 1, anchored=False)
    assert table.gain.max() == pytest.approx(2.0) and table.clipped[1, 0] and not table.clipped[[0, 2], 0].any()
    assert any("clipped" in line for line in table.said)
    at = list(all_pairs(bins))
    for p in at:  # the offsets close the gap at the overlaps' means
        left = table.gain[p.i, 0] * p.x + table.offset[p.i, 0] - table.gain[p.j, 0] * p.y - table.offset[p.j, 0]
        assert abs(left) < 1.0


def test_one_absurd_image_does_not_spoil_the_others():
    """A master tile of median 1e8: told apart before the fit, and left out of it."""
    bins, middles = synthetic([1.0, 1.1, 0.9, 1.0], [0, 0, 0, 0], np.random.default_rng(6))
    broken = overlaps.Bins((0, 0), np.full((1, 40, 100), 1e8, np.float32), bins[0].sigma, np.float32([1e8]))
    everything = [*bins, broken]
    healthy = overlaps.healthy(everything)
    np.testing.assert_array_equal(healthy, [True] * 4 + [False])
    table = solve.table(all_pairs(everything), np.vstack([middles, [0, 0]]), 1, healthy=healthy)
    ratio = table.gain[:4, 0] / [1.0, 1.1, 0.9, 1.0]
    np.testing.assert_allclose(ratio / ratio[0], 1.0, atol=2e-3)
    assert table.gain[4, 0] == 1.0 and table.offset[4, 0] == 0.0


def test_nothing_healthy_is_told_and_changes_nothing():
    empty = [overlaps.Bins((0, 0), np.full((1, 20, 20), np.nan, np.float32), np.ones(1), np.float32([np.nan]), 0.0)] * 2
    table = solve.table(all_pairs(empty), np.zeros((2, 2)), 1, healthy=overlaps.healthy(empty))
    assert (table.gain == 1).all() and (table.offset == 0).all()
    assert table.said == ["[GRID] Photometric scaling disabled: no valid reference tile found (all tiles invalid)"]


def test_scattered_light_is_taken_by_slopes_where_asked_for():
    tilt = [0.0, 0.02, 0.0, -0.02, 0.0]
    bins, middles = synthetic([1.0] * 5, [0.0] * 5, np.random.default_rng(7), tilt=tilt)
    pairs = all_pairs(bins)
    flat, tilted = solve.table(pairs, middles, 1), solve.table(pairs, middles, 1, tilts=True)
    assert (flat.slope == 0).all()
    found = tilted.slope[:, 0, 0] - tilted.slope[0, 0, 0]
    np.testing.assert_allclose(found, -np.array(tilt), atol=2e-3)
    assert any("slopes" in line for line in tilted.said)
    level = solve.table(all_pairs(synthetic([1.0] * 5, [0.0] * 5, np.random.default_rng(7))[0]), middles, 1, tilts=True)
    assert (level.slope == 0).all()  # not where nothing asks for it


def test_slopes_are_right_beside_a_pair_that_is_exact():
    """Two images share their pixels: theirs outweighs all other pairs by 1e10, and the others' offsets and slopes are solved all the same."""
    tilt, offsets = [0.0, 0.02, 0.0, -0.02, 0.0], [0.0, 3.0, -4.0, 0.0, 5.0]
    bins, middles = synthetic([1.0] * 5, offsets, np.random.default_rng(7), tilt=tilt)
    twin = overlaps.Bins(bins[0].at, bins[0].mean + np.float32(2.0), bins[0].sigma, bins[0].sky + np.float32(2.0))
    table = solve.table(all_pairs([*bins, twin]), np.vstack([middles, middles[:1]]), 1, tilts=True, gains=False)
    np.testing.assert_allclose(table.slope[:, 0, 0] - table.slope[0, 0, 0], [*-np.array(tilt), 0.0], atol=2e-3)
    np.testing.assert_allclose(table.offset[:, 0] - table.offset[0, 0], [*offsets, -2.0], atol=0.5)


def test_the_solution_does_not_depend_on_the_order_of_pairs(s1):
    _, pairs, middles = s1
    one, other = solve.table(pairs, middles, 3), solve.table(pairs[::-1], middles, 3)
    np.testing.assert_allclose(one.gain, other.gain, rtol=1e-6)
    np.testing.assert_allclose(one.offset, other.offset, atol=1e-3)


class TestTwoTiles:
    """The public pair of functions."""

    random = np.random.default_rng(9)
    sky = (1000.0 + 100.0 * random.standard_exponential((3, 96, 128))).astype(np.float32)
    gain, offset = np.float32([1.1, 0.9, 1.05]), np.float32([-20.0, 30.0, 5.0])

    def target(self):
        return ((self.sky - self.offset[:, None, None]) / self.gain[:, None, None]).astype(np.float32)

    def noisy(self, tile):
        return tile + np.random.default_rng(10).normal(0, 3.0, tile.shape).astype(np.float32)

    @pytest.mark.parametrize("last", [False, True])
    def test_they_bring_a_tile_to_another(self, last):
        one, other = self.noisy(self.sky), self.noisy(self.target())
        if last:
            one, other = np.moveaxis(one, 0, -1), np.moveaxis(other, 0, -1)
        gains, offsets = compute_tile_photometric_scaling(one, other)
        assert gains.shape == offsets.shape == (3,) and gains.dtype == offsets.dtype == np.float32
        np.testing.assert_allclose(gains, self.gain, rtol=0.01)
        made = apply_tile_photometric_scaling(other, gains, offsets)
        assert made.dtype == np.float32 and made.shape == other.shape
        assert np.median(np.abs(made - one)) < 6.0

    def test_one_band(self):
        gains, offsets = compute_tile_photometric_scaling(self.noisy(self.sky)[0], self.noisy(self.target())[0])
        assert gains.shape == (1,) and gains[0] == pytest.approx(1.1, rel=0.01)
        assert apply_tile_photometric_scaling(self.target()[0], gains, offsets).shape == (96, 128)

    def test_nan_stay_nan_and_nothing_else_is_touched(self):
        other = self.target()
        other[0, :40] = np.nan
        before, mask = other.copy(), np.ones((96, 128), bool)
        gains, offsets = compute_tile_photometric_scaling(self.sky, other, mask=mask)
        made = apply_tile_photometric_scaling(other, gains, offsets)
        np.testing.assert_array_equal(np.isnan(made), np.isnan(before))
        np.testing.assert_array_equal(other, before)
        assert made is not other and mask.all()

    def test_a_band_without_pixels_is_left_and_told(self, caplog):
        other = self.target()
        other[1] = np.nan
        with caplog.at_level(logging.INFO):
            gains, offsets = compute_tile_photometric_scaling(self.sky, other)
        assert gains[1] == 1.0 and offsets[1] == 0.0 and np.isfinite(gains).all() and np.isfinite(offsets).all()
        assert "no valid pixels in overlap" in caplog.text and "channel 1" in caplog.text
        assert "falling back to finite-pixel mask." in caplog.text

    def test_an_all_nan_tile_passes_through(self):
        other = np.full_like(self.sky, np.nan)
        gains, offsets = compute_tile_photometric_scaling(self.sky, other)
        np.testing.assert_array_equal(gains, 1.0)
        assert np.isnan(apply_tile_photometric_scaling(other, gains, offsets)).all()

    def test_the_mask_decides_where(self):
        other = self.target()
        other[:, :, :64] += 500.0
        mask = np.zeros((96, 128), bool)
        mask[:, 64:] = True
        gains, _offsets = compute_tile_photometric_scaling(self.sky, other, mask=mask)
        np.testing.assert_allclose(gains, self.gain, rtol=2e-3)

    def test_the_gain_is_clipped(self):
        gains, _ = compute_tile_photometric_scaling(self.sky, self.sky / 5.0)
        assert (gains <= 2.0).all() and (gains >= 0.5).all()

    def test_few_pixels_still_give_an_offset(self):
        gains, offsets = compute_tile_photometric_scaling(self.sky[:, :6, :6], self.sky[:, :6, :6] - 7.0)
        np.testing.assert_allclose(gains, 1.0)
        np.testing.assert_allclose(offsets, 7.0, rtol=1e-3)

    @pytest.mark.parametrize("shape, mask, says", [((3, 9, 9), None, "same shape"), ((3, 96, 128), (3, 3), "mask must be")])
    def test_shapes_that_do_not_fit_are_refused(self, shape, mask, says):
        with pytest.raises(ValueError, match=says):
            compute_tile_photometric_scaling(self.sky, np.zeros(shape), mask=None if mask is None else np.ones(mask, bool))
