"""The renderer over whole arrays, which runs on a GPU too, against the renderer of loops."""

import numpy as np
import pytest

from lib.imaging import device, psf
from lib.lensing import batched, columns, raster, render
from tests.physics.scenes import PIXEL, SIDE, draw, one

CLOSE = 2e-5  # of the peak, and of the flux
RANGE = {"n": (0.5, 4.0), "r_eff": (0.04, 0.5), "theta_e": (0.2, 2.5)}


def kernel():
    """A PSF's image without any symmetry."""
    y, x = np.indices((23, 25)) - np.array([11.0, 12.0])[:, None, None]
    return psf.Pixelised(np.exp(-0.2 * np.hypot(x - 0.7, 1.4 * y + 0.3 * x)) + 0.1 * np.exp(-0.5 * np.hypot(x - 4, y + 3) ** 2))


PSFS = [psf.Moffat(1.1, 3.0), psf.Moffat(0.8, 2.5, with_pixel=True), psf.Gaussian(1.3), kernel()]


def bands(count, every=PSFS):
    """Two PSFs a task, in turn."""
    return [[every[k % len(every)], every[(k + 1) % len(every)]] for k in range(count)]


def both(scene, psfs, side=SIDE, fluxes=None, xp=np, **options):
    """(stamps, magnifications) of the loops, and of the arrays."""
    count = len(scene.arrays()["x_pix"])
    fluxes = np.random.default_rng(count).uniform(0.1, 2.0, (count, 2)) if fluxes is None else fluxes
    arrays = batched.draw(scene, fluxes, psfs, side, PIXEL, chunk=16, xp=xp, **options)
    return render.draw(scene, fluxes, psfs, side, PIXEL, **options), tuple(device.host(v) for v in arrays)


def difference(loops, arrays):
    """The largest of any pixel, over its band's peak, and of any magnification."""
    (stamps, flux), (ours, our_flux) = loops, arrays
    assert ours.shape == stamps.shape and ours.dtype == stamps.dtype
    pixel = np.abs(ours - stamps).max(axis=(2, 3)) / stamps.max(axis=(2, 3))
    return max(pixel.max(), np.abs(our_flux / flux - 1.0).max())


@pytest.mark.parametrize("seed, side, slope", [(1, 64, 2.0), (2, 33, 2.0), (3, 40, 1.7), (4, 65, 2.3)])
def test_stamps_and_magnifications_are_those_of_the_loops(seed, side, slope):
    scene = draw(48, seed, **RANGE)
    off = (side - SIDE) // 2
    scene = one(scene, np.arange(48), x_pix=scene.x_pix + off, y_pix=scene.y_pix + off, lens_slope=np.full(48, slope))
    assert difference(*both(scene, bands(48), side)) < CLOSE


def test_kinds_of_lenses_pixels_and_unlensed_sources_mix_in_a_batch():
    scene = draw(24, 5, **RANGE)
    slope, theta_e = np.resize([2.0, 1.7, 2.3], 24), scene.theta_e_arcsec.copy()
    theta_e[::5] = 0.0
    scene = one(scene, np.arange(24), lens_slope=slope, theta_e_arcsec=theta_e, shear=np.where(theta_e > 0.0, scene.shear, 0.0))
    fluxes, pixels = np.ones((24, 2)), np.resize([0.2, 0.262, 0.35], 24)
    loops = render.draw(scene, fluxes, bands(24), SIDE, pixels)
    assert difference(loops, batched.draw(scene, fluxes, bands(24), SIDE, pixels)) < CLOSE


def test_tasks_of_one_two_and_three_components_are_those_of_the_loops():
    scene = draw(18, 6, **RANGE)
    assert difference(*both(scene, bands(9), sources=[2, 1, 3, 2, 2, 1, 2, 2, 3])) < CLOSE


def test_images_as_sources_are_those_of_the_loops():
    y, x = np.indices((41, 37)) - np.array([20.0, 18.0])[:, None, None]
    arms = np.exp(-0.03 * (x * x + 1.5 * y * y)) * (1.2 + np.sin(0.6 * x + 0.9 * y))
    image = raster.Raster(arms / arms.sum(), 6.0)
    scene = draw(12, 7, r_eff=(0.1, 0.5))
    scene = one(scene, np.arange(12), image=np.resize([0.0, -1.0, 0.0], 12), lens_slope=np.resize([2.0, 2.2], 12))
    assert difference(*both(scene, bands(12), images=[image])) < CLOSE


def test_a_source_without_flux_leaves_exact_zeros():
    fluxes = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0]])
    stamps, flux = batched.draw(draw(3, 8), fluxes, bands(3), SIDE, PIXEL)
    assert (stamps.any(axis=(2, 3)) == (fluxes > 0.0)).all()
    assert (flux > 0.0).all()


def test_a_source_off_the_canvas_has_its_flux_and_no_pixels():
    scene = one(draw(1, 3), src_x_arcsec=60.0, theta_e_arcsec=0.0, shear=0.0)
    stamps, flux = batched.draw(scene, np.ones((1, 1)), [PSFS[:1]], SIDE, PIXEL)
    assert not stamps.any()
    assert flux == pytest.approx(1.0, abs=1e-4)


def test_a_task_is_the_same_alone_and_in_any_batch_but_for_rounding():
    scene, psfs, fluxes = draw(20, 9, **RANGE), bands(20), np.ones((20, 2))
    every, flux = batched.draw(scene, fluxes, psfs, SIDE, PIXEL)
    for some in ([7], [19, 0, 12], list(range(5, 16))):
        part = batched.draw(one(scene, np.array(some)), fluxes[some], [psfs[k] for k in some], SIDE, PIXEL, chunk=3)
        assert difference((every[some], flux[some]), part) < 2e-6


@pytest.mark.parametrize("module, name, fault", [
    (batched, "_weights", lambda right: lambda z: right(0.97 * z)),  # the spline's middle
    (batched, "_multiply", lambda right: lambda s, t: right(s, t[:, :, :1])),  # a kernel taken for a symmetric one
    (batched, "_spill", lambda right: lambda cells: right(cells)[:-1]),  # wide cells forgotten
    (columns, "bend", lambda right: lambda kind, c, at, x, y: right(kind, c, at, 1.0005 * x, y)),  # a place
    (columns, "spread", lambda right: lambda *cell: 0.2 * right(*cell)),  # too few nodes
])  # fmt: skip
def test_a_planted_fault_is_seen(module, name, fault, monkeypatch):
    scene = draw(8, 10, n=(3.0, 4.0), r_eff=(0.3, 0.5))
    assert difference(*both(scene, bands(8))) < CLOSE
    monkeypatch.setattr(module, name, fault(getattr(module, name)))
    assert difference(*both(scene, bands(8))) > 5 * CLOSE


def test_a_scene_that_makes_no_sense_is_refused_as_by_the_loops():
    scene = draw(2, 2)
    with pytest.raises(ValueError, match="finite: src_n"):
        both(one(scene, np.arange(2), src_n=np.array([1.0, np.nan])), bands(2))
    with pytest.raises(ValueError, match="2 sources in the scene, 2 rows of fluxes, 3 sources in 3 tasks"):
        both(scene, bands(3))


class OnGpu(np.ndarray):
    """As strict as CuPy's arrays: none meets an array of the host, or a function of numpy, or ``where=``."""

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        arrays = [v for v in (*inputs, *options.get("out", ())) if isinstance(v, np.ndarray) and v.ndim]
        if any(type(v) is not OnGpu for v in arrays) or options.get("where", True) is not True:
            raise TypeError(f"CuPy refuses {ufunc.__name__} of {[type(v).__name__ for v in arrays]} with {sorted(options)}")
        plain = options | {"out": tuple(map(device.host, options["out"]))} if "out" in options else options
        return up(getattr(ufunc, method)(*map(down, inputs), **plain))

    def __array_function__(self, function, types, args, options):
        raise TypeError(f"numpy's {function.__name__} of an array on the GPU")

    def __getitem__(self, key):
        if any(type(v) is np.ndarray for v in (key if isinstance(key, tuple) else (key,))):
            raise TypeError("an array on the GPU, indexed by one of the host")
        return super().__getitem__(key)

    def __array__(self, *args, **options):
        raise TypeError("an array on the GPU is no array of the host")

    def get(self):
        return self.view(np.ndarray)


def up(value):
    if isinstance(value, tuple):
        return tuple(map(up, value))
    return value.view(OnGpu) if isinstance(value, np.ndarray) else value


def down(value):
    if isinstance(value, (list, tuple)):
        return type(value)(map(down, value))
    return value.get() if isinstance(value, OnGpu) else value


class Strict:
    """The functions of cupy 13 that may be used, all with numpy's meaning: docs.cupy.dev, "Routines" and "Universal functions"."""

    known = {"arange", "asarray", "concatenate", "empty", "nonzero", "ones_like", "stack", "where", "zeros", "zeros_like"}
    ufuncs = {"abs", "add", "exp2", "floor", "log2", "maximum", "minimum", "sqrt"}
    options = {"axis", "dtype"}

    float32 = np.float32

    def __getattr__(self, name):
        if name in self.ufuncs:
            return getattr(np, name)
        if name not in self.known:
            raise AttributeError(f"{name} is not among the functions known to be CuPy's")
        return lambda *args, **options: self._call(name, args, options)

    def _call(self, name, args, options):
        flat = [v for a in args for v in (a if isinstance(a, (list, tuple)) else [a])]
        if not set(options) <= self.options or (name != "asarray" and any(type(v) is np.ndarray for v in flat)):
            raise TypeError(f"CuPy's {name} takes neither arrays of the host nor {sorted(set(options) - self.options)}")
        return up(getattr(np, name)(*down(args), **options))


def test_it_asks_for_nothing_that_cupy_lacks_and_never_mixes_memories(monkeypatch):
    monkeypatch.setattr(device, "namespace", lambda *arrays: Strict() if any(isinstance(v, OnGpu) for v in arrays) else np)
    scene = draw(6, 11, **RANGE)
    scene = one(scene, np.arange(6), lens_slope=np.resize([2.0, 1.7], 6), image=np.array([-1, -1, -1, -1, 0, 0]))
    image = raster.Raster(np.outer(np.hanning(15), np.hanning(12)) / (7.0 * 5.5), 3.0)
    assert difference(*both(scene, bands(6), images=[image], xp=Strict())) < CLOSE


@pytest.mark.parametrize("wrong", [
    lambda xp, a: xp.divide(a, a),
    lambda xp, a: np.add(a, np.ones(3)),
    lambda xp, a: np.sqrt(a, where=a > 0),
    lambda xp, a: np.concatenate([a, a]),
    lambda xp, a: xp.concatenate([a, np.ones(3)]),
    lambda xp, a: a[np.array([1])],
    lambda xp, a: np.outer(a, a),
])  # fmt: skip
def test_what_cupy_would_refuse_is_refused_here(wrong):
    with pytest.raises((TypeError, AttributeError)):
        wrong(Strict(), Strict().asarray(np.ones(3)))


def test_on_a_gpu_stamps_and_magnifications_are_those_of_the_loops():
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("cupy is installed, but there is no GPU")
    scene = draw(64, 12, **RANGE)
    scene = one(scene, np.arange(64), lens_slope=np.resize([2.0, 2.0, 1.7, 2.3], 64))
    loops, arrays = both(scene, bands(64), xp=cupy)
    assert difference(loops, arrays) < CLOSE
    stamps, _ = batched.draw(scene, np.ones((64, 2)), bands(64), SIDE, PIXEL, xp=cupy)
    assert device.namespace(stamps) is cupy
