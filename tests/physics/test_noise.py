"""An arc's own electrons: their distribution against scipy's, their independence, and what a row's do not depend on."""

import numpy as np
import pytest
from scipy import stats

from lib.imaging import noise

MEANS = [1e-4, 0.03, 0.7, 3.0, 9.99, 10.0, 10.01, 35.0, 400.0, 2e4]


def drawn(mean, key=1, side=400) -> np.ndarray:
    """Electrons in side**2 pixels of one mean."""
    light = np.full((1, 1, side, side), mean, np.float32)
    image, invvar = np.zeros_like(light), np.ones_like(light)
    noise.expose(image, invvar, light, [1.0], [key])
    return image[0, 0].astype(float)


@pytest.mark.parametrize("mean", MEANS)
def test_counts_are_poisson_distributed(mean):
    """Pearson's chi squared over the counts that are expected 20 times or more, the others as one."""
    mean = float(np.float32(mean))
    counts = drawn(mean)
    assert np.array_equal(counts, np.rint(counts)) and counts.min() >= 0
    low, high = stats.poisson.ppf([1e-9, 1 - 1e-9], mean).astype(int)
    edges = np.arange(low, high + 1, max(1, (high - low) // 60))  # bins of counts [edge, next edge)
    probability = np.diff(np.r_[0.0, stats.poisson.cdf(edges - 1, mean), 1.0])
    found = np.bincount(np.searchsorted(edges, counts.ravel(), side="right"), minlength=len(probability))
    expected = probability * counts.size
    rare = expected < 20
    expected, found = (np.r_[v[~rare], v[rare].sum()] for v in (expected, found))
    expected, found = expected[expected > 1e-3], found[expected > 1e-3]
    chi2 = ((found - expected) ** 2 / expected).sum()
    assert found.sum() == counts.size
    assert stats.chi2.sf(chi2, max(1, len(expected) - 1)) > 1e-4, (chi2, len(expected))


@pytest.mark.parametrize("mean", [0.03, 3.0, 35.0])
def test_pixels_do_not_know_of_each_other(mean):
    counts = drawn(mean) - mean
    limit = 4.5 * mean / counts.size**0.5
    others = [np.roll(counts, 1), np.roll(counts, 1, axis=1), np.roll(counts, 1, axis=0)]
    for other in (*others, drawn(mean, key=2) - mean, drawn(mean, key=1 + (1 << 40)) - mean):
        assert abs((counts * other).mean()) < limit


def rows(n=5, side=24, seed=3):
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 0.01, (n, 3, side, side)).astype("f4")
    invvar = rng.choice([0.0, 4e4, 1e5], image.shape).astype("f4")
    light = (rng.lognormal(-9, 2.5, image.shape) - 1e-5).astype("f4") * (rng.random(image.shape) < 0.8)
    return image, invvar, light.astype("f4"), rng.integers(0, 2**63, n).astype(np.uint64)


GAIN = (1e3, 2e4, 5e5)


def exposed(image, invvar, light, keys, at=None):
    made = image.copy(), invvar.copy()
    noise.expose(*made, light, GAIN, keys, at)
    return made


def test_a_row_is_the_same_alone_in_a_batch_and_in_any_order():
    image, invvar, light, keys = rows()
    whole = exposed(image, invvar, light, keys)
    for k in range(len(keys)):
        alone = exposed(image[k : k + 1], invvar[k : k + 1], light[k : k + 1], keys[k : k + 1])
        assert all(np.array_equal(a[0], b[k]) for a, b in zip(alone, whole, strict=True))
    turned = exposed(image, invvar, light, keys, at=[4, 2])
    assert all(np.array_equal(a[[2, 4]], b[[2, 4]]) for a, b in zip(turned, whole, strict=True))
    assert np.array_equal(turned[0][[0, 1, 3]], image[[0, 1, 3]]) and np.array_equal(turned[1][[0, 1, 3]], invvar[[0, 1, 3]])
    assert not np.array_equal(exposed(image, invvar, light, keys + np.uint64(1))[0], whole[0])


def test_variance_is_that_of_the_electrons_and_dark_or_lost_pixels_keep_their_bits():
    image, invvar, light, keys = rows()
    image[0, 0, 0, :3] = np.float32([-0.0, np.nan, np.inf])
    light[0, 0, 0, :3] = 0.0
    seen, weight = exposed(image, invvar, light, keys)
    dark = light == 0
    assert dark.sum() > 500
    assert np.array_equal(seen[dark].view("u4"), image[dark].view("u4")) and np.array_equal(weight[dark], invvar[dark])
    gain = np.array(GAIN)[:, None, None]
    wanted = invvar / (1.0 + invvar * np.maximum(light, 0).astype(float) / gain)
    assert np.allclose(weight, wanted, rtol=1e-6, atol=0) and (weight[invvar == 0] == 0).all()


def test_noise_has_mean_zero_and_the_variance_of_its_light():
    many = 3000
    light = np.repeat(rows(n=1, side=16)[2], many, axis=0)
    made, _ = exposed(np.zeros_like(light), np.ones_like(light), light, np.arange(many, dtype=np.uint64) << np.uint64(7))
    gain = np.array(GAIN)[:, None, None]
    off = made.astype(float) - light
    mean, variance = np.maximum(light[0], 0) * gain, np.maximum(light[0], 0) / gain
    score = off.mean(axis=0) / np.sqrt(np.maximum(variance, 1e-30) / many)
    assert abs(score[mean > 1e-2]).max() < 5.0
    bright = mean > 1.0
    assert (off.var(axis=0)[bright] / variance[bright]).mean() == pytest.approx(1.0, abs=0.01)
    assert (off[:, light[0] < 0] == 0).all()  # ringing carries no electrons, and is in the image


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_light_that_is_none_is_refused(value):
    image, invvar, light, keys = rows()
    light[1, 2, 3, 4] = value
    with pytest.raises(ValueError, match="light must be finite and below 1e"):
        exposed(image, invvar, light, keys)
