"""Where pixels go and what they become: against astropy's WCS, reproject, and scenes in closed form."""

import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from reproject import reproject_exact, reproject_interp

from lib.mosaic import coadd, image, kernels, lattice, mapping, resample, stack
from lib.mosaic.lattice import Lattice, Window
from tests.mosaic import scenes

ONE, NONE = np.ones(1, np.float32), np.zeros(1, np.float32)


def canvas(ny=300, nx=300, arcsec=1.0) -> Lattice:
    return Lattice(WCS(scenes.tangent((nx / 2, ny / 2), arcsec)), (ny, nx))


def turned(kind="tan", deg=3.0, shape=(220, 200), arcsec=1.0, crpix=(90.3, 120.7), bend=2e-4) -> tuple[WCS, tuple[int, int]]:
    header = scenes.frame(scenes.tangent((150.0, 150.0), 1.0), shape, crpix, deg, 0.0 if kind == "tan" else bend, kind, arcsec).header
    return WCS(header), shape


def source(name, pixels, wcs, grid, **facts) -> coadd.Source:
    found, shape = mapping.of(grid, wcs, pixels.shape[-2:]), pixels.shape[-2:]
    assert found is not None

    def load(window):
        cut = pixels[..., window.y0 : window.y1, window.x0 : window.x1]
        return image.of(cut, wcs, full=shape, origin=(window.y0, window.x0))

    return coadd.Source(name, found, shape, load, **{"gain": ONE, "offset": NONE, "sigma": ONE, **facts})


def test_lanczos_weights_are_those_of_the_sinc():
    f = np.linspace(0, 1, 10_001)[:-1]
    away = f + 2 - np.arange(6)[:, None]
    exact = np.sinc(away) * np.sinc(away / 3)
    exact /= exact.sum(axis=0)
    weights = np.array(kernels.lanczos3.py_func(f.astype(np.float32)))
    assert np.abs(weights - exact).max() < 5e-7


@pytest.mark.parametrize("kind", ["tan", "sip", "tpv"])
def test_positions_are_those_of_the_wcs_in_every_pixel(kind):
    grid, (wcs, shape) = canvas(), turned(kind)
    found = mapping.of(grid, wcs, shape)
    y, x = np.mgrid[found.window.y0 : found.window.y1, found.window.x0 : found.window.x1].astype(float)
    exact = scenes.exact(grid.wcs, WCS(wcs.to_header(relax=True)))(x, y)
    inside = (exact[0] > -0.5) & (exact[0] < shape[1] - 0.5) & (exact[1] > -0.5) & (exact[1] < shape[0] - 0.5)
    made = [np.zeros_like(x), np.zeros_like(x)]
    rows, columns = (y // found.step).astype(int) - found.row0, (x // found.step).astype(int) - found.col0
    for axis, nodes in enumerate((found.x, found.y)):
        made[axis] = mapping._between(nodes, rows, columns, y / found.step % 1, x / found.step % 1)
    assert inside.sum() > 35_000
    assert max(np.abs(m - e)[inside].max() for m, e in zip(made, exact, strict=True)) < mapping.TOLERANCE_PIX


def test_a_distortion_that_is_too_wild_for_the_grid_is_seen_and_gets_a_finer_one():
    header = scenes.frame(scenes.tangent((150.0, 150.0), 1.0), (220, 200), (90.3, 120.7), 3.0, 1e-6, "sip").header
    header["A_ORDER"], header["A_5_0"] = 5, 2e-9
    grid, wcs = canvas(), WCS(header)
    window = lattice.footprint(grid, wcs, (220, 200))
    assert mapping._nodes(grid, wcs, (220, 200), window, 64).error_pix > 1e-3
    found = mapping.of(grid, wcs, (220, 200))
    assert found.step < 64 and found.error_pix <= mapping.TOLERANCE_PIX


@pytest.mark.parametrize("kind", ["tan", "sip", "tpv"])
def test_bilinear_samples_are_reprojects(kind):
    random, grid, (wcs, shape) = np.random.default_rng(1), canvas(), turned(kind)
    pixels = random.normal(size=shape).astype(np.float32)
    found = mapping.of(grid, wcs, shape)
    made = resample.onto(image.of(pixels, wcs), found, found.window)
    theirs, _ = reproject_interp((pixels.astype(float), wcs), grid.cut(found.window), shape_out=found.window.shape, roundtrip_coords=False)
    both = np.isfinite(theirs) & np.isfinite(made.values[0])
    assert (np.isfinite(theirs) ^ np.isfinite(made.values[0])).sum() <= 4  # a tie at the edge
    y, x = np.mgrid[: both.shape[0], : both.shape[1]]
    at = mapping.positions(grid, wcs, x + float(found.window.x0), y + float(found.window.y0))
    inner = both & (at[0] > 0) & (at[0] < shape[1] - 1) & (at[1] > 0) & (at[1] < shape[0] - 1)
    assert np.abs(made.values[0] - theirs)[inner].max() < 5e-4  # white noise: a hundredth of a thousandth of a px is that much
    assert inner.sum() > 40_000


def test_the_exact_kernel_is_reprojects_and_keeps_flux():
    random, grid, (wcs, shape) = np.random.default_rng(1), canvas(120, 120, 2.0), turned(shape=(80, 70), crpix=(40.0, 30.0))
    pixels = random.normal(100.0, 1.0, shape).astype(np.float32)
    made = resample.exact(image.of(pixels, wcs), grid, grid.window)
    theirs, _ = reproject_exact((pixels, wcs), grid.wcs, shape_out=grid.shape)
    np.testing.assert_allclose(made.values[0], theirs, rtol=1e-6)


@pytest.mark.parametrize("arcsec", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
def test_flux_is_kept_per_pixel_where_it_is_asked_for(kernel, arcsec):
    """A star of 1000 counts in pixels of half, the same and twice the lattice's size."""
    grid, shape = canvas(120, 120), (int(100 / arcsec), int(100 / arcsec))
    wcs, _ = turned(shape=shape, arcsec=arcsec, crpix=(shape[1] / 2, shape[0] / 2), deg=20.0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    s = 4.0 / arcsec
    star = 1000.0 * np.exp(-((x - shape[1] / 2 + 3.3) ** 2 + (y - shape[0] / 2 - 2.6) ** 2) / (2 * s * s)) / (2 * np.pi * s * s)
    found = mapping.of(grid, wcs, shape)
    made = resample.onto(image.of(star.astype(np.float32), wcs), found, found.window, kernel, flux=True)
    assert np.nansum(made.values) == pytest.approx(1000.0, rel=1e-4)


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
def test_a_bad_pixel_spoils_no_more_than_itself(kernel):
    grid, (wcs, shape) = canvas(), turned()
    pixels = np.full(shape, 7.0, np.float32)
    pixels[100, 100] = np.nan
    pixels[50:53, 40:43] = np.inf
    found = mapping.of(grid, wcs, shape)
    whole = resample.onto(image.of(np.full(shape, 7.0), wcs), found, found.window, kernel).values[0]
    made = resample.onto(image.of(pixels, wcs), found, found.window, kernel).values[0]
    lost = np.isfinite(whole) & ~np.isfinite(made)
    assert 5 <= lost.sum() <= 14  # one pixel and nine, turned
    np.testing.assert_allclose(made[np.isfinite(made)], 7.0, rtol=1e-6)


def test_masked_pixels_have_no_weight():
    grid, (wcs, shape) = canvas(), turned()
    quality = np.ones(shape, np.float32)
    quality[100:110, 50:60] = 0.0
    pixels = np.zeros(shape, np.float32)
    pixels[100:110, 50:60] = 1e6
    found = mapping.of(grid, wcs, shape)
    made = resample.onto(image.of(pixels, wcs, quality), found, found.window)
    assert np.nanmax(made.values) == 0.0
    assert (np.isnan(made.values[0]) & (made.good == 0)).sum() > 80
    assert made.good.max() == pytest.approx(1.0)


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
@given(y=st.integers(0, 250), x=st.integers(0, 250), h=st.integers(1, 90), w=st.integers(1, 90))
@settings(max_examples=20, deadline=None)
def test_any_window_holds_the_same_pixels(kernel, y, x, h, w):
    """Read from the pixels that it needs alone: bit for bit."""
    random, grid, (wcs, shape) = np.random.default_rng(5), canvas(), turned("sip")
    pixels = random.normal(size=(2, *shape)).astype(np.float32)
    found = mapping.of(grid, wcs, shape)
    window = Window(y, x, y + h, x + w) & found.window
    if window.empty:
        return
    whole = resample.onto(image.of(pixels, wcs), found, found.window, kernel, feather=30.0)
    near = resample.needed(found, window, shape)
    cut = image.of(pixels[:, near.y0 : near.y1, near.x0 : near.x1], wcs, full=shape, origin=(near.y0, near.x0))
    rows, columns = window.slices(found.window)
    for one, other in zip(whole, resample.onto(cut, found, window, kernel, feather=30.0), strict=True):
        np.testing.assert_array_equal(one[..., rows, columns], other)


@pytest.mark.parametrize("kernel", ["bilinear", "lanczos3"])
def test_an_image_cut_into_tiles_comes_back(kernel):
    random, grid = np.random.default_rng(3), canvas(300, 260)
    truth = random.normal(1000.0, 30.0, (1, 300, 260)).astype(np.float32)
    parts = [Window(y, x, min(y + 110, 300), min(x + 100, 260)) for y in (0, 95, 190) for x in (0, 80, 160)]
    sources = [source(f"{k}", truth[:, p.y0 : p.y1, p.x0 : p.x1], grid.cut(p), grid) for k, p in enumerate(parts)]
    assert all(s.mapping.shift is not None for s in sources)
    made = coadd.of(grid, grid.window, sources, NONE, coadd.Settings(kernel, feather_pix=20.0))
    np.testing.assert_allclose(made.science, truth, rtol=1e-6)
    assert made.coverage.min() == 1 and made.coverage.max() == 4
    unaligned = [source(f"{k}", truth[:, p.y0 : p.y1, p.x0 : p.x1], moved(grid.cut(p), 1e-4), grid) for k, p in enumerate(parts)]
    assert all(s.mapping.shift is None for s in unaligned)
    again = coadd.of(grid, grid.window, unaligned, NONE, coadd.Settings(kernel, feather_pix=20.0))
    assert np.abs(again.science / truth - 1).max() < 5e-5  # a ten thousandth of a px of white noise


def moved(wcs: WCS, pix: float) -> WCS:
    wcs.wcs.crpix = wcs.wcs.crpix + pix
    wcs.wcs.set()
    return wcs


@pytest.mark.parametrize("rejection", ["none", "kappa_sigma"])
def test_a_mosaic_does_not_depend_on_how_it_is_cut_or_ordered(rejection):
    random, grid = np.random.default_rng(4), canvas(200, 200)
    sources = []
    for k in range(5):
        wcs, shape = turned(deg=40.0 * k, shape=(150, 150), crpix=(75 + 9.3 * k, 80 - 7.7 * k))
        sources.append(source(f"{k}", random.normal(10.0, 1.0, (1, *shape)).astype(np.float32), wcs, grid, sigma=np.float32([1 + 0.1 * k])))
    rule = coadd.Settings("lanczos3", stack.Rule(rejection), feather_pix=25.0)
    whole = coadd.of(grid, grid.window, sources, NONE, rule)
    assert whole.coverage.max() == 5 and (rejection == "none" or whole.rejected.sum() > 0)
    for window in (Window(0, 0, 97, 200), Window(97, 0, 200, 113), Window(97, 113, 200, 200), Window(60, 40, 161, 142)):
        part = coadd.of(grid, window, sources[::-1], NONE, rule)
        rows, columns = window.slices(grid.window)
        for name in ("science", "weight", "coverage", "rejected"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:, rows, columns])


@pytest.mark.parametrize("ra, dec", [(0.0, 10.0), (359.9999, -30.0), (123.0, 89.99), (10.0, -90.0), (200.0, 70.0)])
def test_a_lattice_around_images_is_no_larger_than_their_sky(ra, dec):
    """Over RA 0, at the poles, and at high declination, where a degree of RA is short."""
    images = []
    for dy, dx in ((-60, -60), (-60, 60), (60, -60), (60, 60)):
        wcs = lattice.tangent(ra, dec, 2.0)
        wcs.wcs.crpix = [50.5 - dx, 50.5 - dy]
        wcs.wcs.set()
        images.append((wcs, (100, 100)))
    grid = lattice.around(images)
    assert max(grid.shape) < 1.5 * 220 + 8 and min(grid.shape) >= 220
    assert grid.pixel_arcsec == pytest.approx(2.0)
    pixels = np.ones((1, 100, 100), np.float32)
    made = coadd.of(grid, grid.window, [source(f"{k}", pixels, w, grid) for k, (w, _) in enumerate(images)], NONE, coadd.Settings())
    assert float(made.coverage.sum()) == pytest.approx(40_000, rel=0.03)
    np.testing.assert_allclose(made.science[made.coverage > 0], 1.0, rtol=1e-6)


def test_an_image_elsewhere_on_the_sky_does_not_meet_the_lattice():
    assert mapping.of(canvas(), lattice.tangent(83.6, -22.0, 1.0), (100, 100)) is None
    opposite = lattice.tangent(263.6, -22.0, 1.0)  # the far side: its tangent plane has the same pixels
    assert mapping.of(canvas(), opposite, (100, 100)) is None
    with pytest.raises(ValueError, match="85 degrees"):
        lattice.spanning([(lattice.tangent(263.6, -22.0, 1.0), (10, 10))], canvas().wcs)


def test_no_wcs_is_changed():
    grid, (wcs, shape) = canvas(), turned("sip")
    before = [w.to_header(relax=True).tostring() for w in (grid.wcs, wcs)]
    made = coadd.of(grid, grid.window, [source("a", np.ones((1, *shape), np.float32), wcs, grid)], NONE, coadd.Settings("lanczos3"))
    grid.cut(Window(3, 4, 10, 10))
    assert np.isfinite(made.science).any()
    assert [w.to_header(relax=True).tostring() for w in (grid.wcs, wcs)] == before


def test_a_star_keeps_its_place_and_flux():
    """Turned, bent and off by parts of a pixel: against the closed form.

    A single image's kernel shifts a windowed centroid by up to 0.01 px an axis, whichever kernel it is (the formulas in one dimension give as
    much); in a coadd it averages out.  Lanczos-3 does not reproduce slopes, so its flux is good to 0.1 % only where a distortion stretches it.
    """
    random = np.random.default_rng(8)
    sky = scenes.stars(random, 60, (300, 300), 1.9, faint=300.0, bright=3000.0, level=(50.0,), apart=26.0)
    header = scenes.tangent((150.5, 150.5), 1.0)
    one = scenes.bent(sky, header, (290, 290), (146.3, 144.6), 3.0, 3e-5, "sip")
    grid = Lattice(WCS(header), (300, 300))
    for kernel in ("bilinear", "lanczos3"):
        made = coadd.of(grid, grid.window, [source("a", one.pixels, one.wcs, grid)], NONE, coadd.Settings(kernel)).science[0] - 50.0
        off, flux = [], []
        for x, y, peak in zip(sky.x, sky.y, sky.peak[0], strict=True):
            i, j = round(x), round(y)
            cut = made[j - 14 : j + 15, i - 14 : i + 15]
            if cut.shape != (29, 29) or not np.isfinite(cut).all():
                continue
            flux.append(cut.sum() / (2 * np.pi * 1.9**2 * peak) - 1.0)
            u, v = scenes.windowed_centroid(cut, 1.9)
            off.append(np.hypot(u - 14 + i - x, v - 14 + j - y))
        assert np.sqrt(np.mean(np.square(flux))) < (1e-3 if kernel == "lanczos3" else 1e-4)
        assert len(off) > 12 and np.sqrt(np.mean(np.square(off))) < 0.015


def test_headers_of_the_scenes_are_what_they_are_drawn_by():
    """The distortion's closed form, as SIP and as TPV, against astropy."""
    header = scenes.tangent((100.0, 100.0), 1.0)
    assert isinstance(header, Header)
    x, y = np.array([3.0, 50.0]), np.array([40.0, 10.0])
    for kind in ("sip", "tpv"):
        one = scenes.frame(header, (50, 60), (30.0, 20.0), 10.0, 1e-3, kind)
        np.testing.assert_allclose(one.to_canvas(x, y), scenes.exact(one.wcs, WCS(header))(x, y), atol=1e-6)
