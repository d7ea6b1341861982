"""The array code against the loops, and what happens when a device gives out: NumPy stands in for a GPU; CuPy runs where there is one."""

import logging

import numpy as np
import pytest
from astropy.wcs import WCS

from lib.mosaic import arrays, backend, coadd, image, lattice, mapping, stack
from lib.mosaic.lattice import Lattice
from tests.mosaic import scenes
from tests.mosaic.test_resample import turned


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(backend, "_off", [])


def sources(kind="tan", bands=2, number=6, outliers=True):
    """Turned images of a field of stars with holes, masks and outliers, their gains left in."""
    random, found = np.random.default_rng(3), []
    header = scenes.tangent((150.0, 150.0), 1.0)
    grid = Lattice(WCS(header), (300, 300))
    sky = scenes.stars(random, 120, (300, 300), 1.9, level=(100.0,) * bands)
    for k in range(number):
        wcs, shape = turned(kind, deg=13.0 * k, crpix=(90.3 + 3 * k, 120.7 - 2 * k))
        pixels = sky.seen(shape, scenes.exact(wcs, grid.wcs)) + random.normal(0, 3.0, (bands, *shape))
        if outliers:
            pixels[:, random.integers(0, shape[0], 90), random.integers(0, shape[1], 90)] += 500.0
        pixels[:, 40 + 9 * k, 30:60] = np.nan
        quality = np.ones(shape, np.float32)
        quality[100:104, 20 * k : 20 * k + 9] = 0.0
        one = image.of(pixels.astype(np.float32), wcs, quality if k % 2 else None)
        plus = np.float32([1.0 + 0.02 * k] * bands)
        slope = np.full((bands, 2), 1e-3) if k == 2 else None
        found.append(coadd.Source(
            f"{k}", mapping.of(grid, wcs, shape), shape, lambda _, one=one: one, plus, np.float32([0.3 * k] * bands), np.float32([3.0] * bands), slope, (90.0, 80.0),
        ))  # fmt: skip
    return grid, found, np.float32([100.0] * bands)


@pytest.mark.parametrize("kind", ["tan", "sip", "tpv"])
@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
@pytest.mark.parametrize("rule", [
    stack.Rule(), stack.Rule("kappa_sigma"), stack.Rule("kappa_mad"), stack.Rule("winsorised"), stack.Rule(combine="median"), stack.Rule("kappa_sigma", combine="median"),
], ids=lambda r: f"{r.rejection}-{r.combine}")  # fmt: skip
def test_arrays_make_what_the_loops_make(kind, kernel, rule):
    compared(kind, kernel, rule, np)


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
@pytest.mark.parametrize("rejection", ["none", "kappa_sigma", "winsorised"])
def test_a_gpu_makes_what_the_loops_make(kernel, rejection):
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("no GPU is here")
    compared("sip", kernel, stack.Rule(rejection), cupy)


def compared(kind, kernel, rule, xp):
    grid, found, sky = sources(kind)
    settings = coadd.Settings(kernel, rule, feather_pix=20.0)
    one = coadd.of(grid, grid.window, found, sky, settings)
    other = arrays.coadd(grid, grid.window, found, sky, settings, xp, (70, 130))
    np.testing.assert_array_equal(np.isnan(one.science), np.isnan(other.science))
    np.testing.assert_array_equal(one.coverage, other.coverage)
    same = one.rejected == other.rejected
    assert same.mean() >= 0.999
    there = np.isfinite(one.science) & same
    assert there.sum() > 60_000 and (rule.rejection == "none" or one.rejected.sum() > 300)
    # a sample at its limit to the last bit may fall on either side: another one is rejected, or one less
    near = np.isclose(one.science[there], other.science[there], rtol=1e-4, atol=1e-3)
    assert near.mean() >= 0.9999
    assert np.isclose(one.weight[same], other.weight[same], rtol=1e-4, atol=1e-9).mean() >= 0.9999


class Failing:
    """NumPy that runs out of memory, or breaks, at a call for a large array."""

    def __init__(self, at: int, error=MemoryError):
        self.at, self.error, self.calls, self.__name__ = at, error, 0, "failing"

    def __getattr__(self, name):
        return getattr(np, name)

    def full(self, *args):
        self.calls += 1
        if self.calls >= self.at:
            raise self.error("out of memory")
        return np.full(*args)


@pytest.mark.parametrize("at", [1, 2, 3])
@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_a_device_that_gives_out_leaves_a_cpu_run_bit_for_bit(at, error, monkeypatch, caplog):
    """At the first block, in the middle and at the last: one warning, and no GPU after it."""
    monkeypatch.setattr(arrays, "BLOCK", (100, 300))
    grid, found, sky = sources()
    settings = coadd.Settings("lanczos3", stack.Rule("kappa_sigma"))
    device = Failing(at, error)
    with caplog.at_level(logging.WARNING):
        made, name = backend.on(grid, grid.window, found, sky, settings, device)
        again, second = backend.on(grid, grid.window, found, sky, settings, np)
    assert name == second == "numba" and "out of memory" in backend.off()
    assert len([r for r in caplog.records if "GPU is not used any more" in r.message]) == 1
    expected = coadd.of(grid, grid.window, found, sky, settings)
    for field in ("science", "weight", "coverage", "rejected"):
        np.testing.assert_array_equal(getattr(made, field), getattr(expected, field))
        np.testing.assert_array_equal(getattr(again, field), getattr(expected, field))


def test_smaller_blocks_are_tried_before_it_is_given_up(monkeypatch):
    monkeypatch.setattr(arrays, "BLOCK", (128, 300))
    grid, found, sky = sources(number=2)
    tried = []

    class Small(Failing):
        def full(self, shape, *args):
            tried.append(shape[2])
            if shape[2] > 32:
                raise MemoryError("out of memory")
            return np.full(shape, *args)

    made, name = backend.on(grid, grid.window, found, sky, coadd.Settings(), Small(0))
    assert name == "failing" and not backend.off() and tried[:3] == [128, 64, 32]
    assert np.isfinite(made.science).any()


def test_without_a_device_the_loops_are_used():
    grid, found, sky = sources(number=1)
    made, name = backend.coadd(grid, grid.window, found, sky, coadd.Settings(), None)
    assert name == "numba" and np.isfinite(made.science).any() and not backend.off()
    assert lattice.pixel_arcsec(grid.wcs) == pytest.approx(1.0)
