"""PSFs and convolution: flux, centroid, linearity, GalSim's numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.imaging import arcs, psf, spectrum, widths
from tests.physics.scenes import PIXEL, point


def centroid(image):
    y, x = np.indices(image.shape)
    return (image * x).sum() / image.sum(), (image * y).sum() / image.sum()


@pytest.mark.parametrize("p", [psf.Moffat(1.2, 3.5), psf.Moffat(0.9, 2.8), psf.Gaussian(1.3), psf.Moffat(1.0, 4.7, with_pixel=True)])
def test_flux_is_kept_to_1e_4_and_the_centroid_to_002_px(p):
    x, y = 63.3, 64.7
    image = point(x, y, p, 128)
    assert image.sum() == pytest.approx(1.0, abs=1e-4)
    core = image[44:84, 44:84]
    cx, cy = centroid(np.where(core > 0.02 * core.max(), core, 0))
    assert abs(cx + 44 - x) < 0.02
    assert abs(cy + 44 - y) < 0.02


@pytest.mark.parametrize("fwhm, beta", [(1.2, 3.5), (1.5, 2.5)])
def test_an_effective_moffat_is_its_own_profile_at_the_pixel_centres(fwhm, beta):
    p = psf.Moffat(fwhm, beta)
    image = point(64.37, 63.81, p, 128)
    y, x = np.indices(image.shape)
    truth = p.brightness(np.hypot(x - 64.37, y - 63.81) * PIXEL) * PIXEL**2
    assert np.abs(image - truth)[32:96, 32:96].max() < 1e-3 * truth.max()


@pytest.mark.parametrize("beta", [2.5, 2.8, 3.5, 4.765])
def test_moffat_transfer_and_noise_equivalent_area_are_galsims(beta):
    galsim = pytest.importorskip("galsim")
    theirs, ours = galsim.Moffat(beta=beta, fwhm=1.1), psf.Moffat(1.1, beta)
    k = np.linspace(0, 10, 40)  # 1/arcsec
    a = np.array([theirs.kValue(v, 0.0).real for v in k])
    b = ours.otf(0.0, k / (2 * np.pi) * PIXEL, PIXEL)
    assert np.abs(a - b).max() < 2e-4
    image = theirs.drawImage(nx=1601, ny=1601, scale=0.05, method="no_pixel").array / 0.05**2
    assert ours.nea_arcsec2 == pytest.approx(1 / (image**2).sum() / 0.05**2, rel=2e-3)


def test_psfsize_is_not_a_fwhm():
    """The real DR9 field: psfsize 1.37/1.25/1.25 where a Moffat fit has FWHM 1.03/0.92/0.90 and beta 2.97/2.84/2.69."""
    for size, fwhm, beta in ((1.37, 1.03, 2.97), (1.25, 0.92, 2.84), (1.25, 0.90, 2.69)):
        assert psf.moffat_from_psfsize(size, beta).fwhm_arcsec == pytest.approx(fwhm, rel=0.05)
        assert widths.of_nea(psf.moffat_from_psfsize(size, beta).nea_arcsec2) == pytest.approx(size, rel=1e-12)


@given(st.floats(0.7, 2.5), st.floats(2.2, 5.0))
def test_size_converts_there_and_back(size, beta):
    assert psf.size(psf.moffat_from_psfsize(size, beta), PIXEL) == pytest.approx(size, rel=1e-9)


@pytest.mark.parametrize("sides", [(31, 31), (32, 32), (31, 32), (91, 91)])
def test_a_kernel_image_keeps_flux_and_centroid_for_odd_and_even_sides_even_when_wider_than_the_stamp(sides):
    ky, kx = sides
    y, x = np.indices(sides) - np.array([(ky - 1) / 2, (kx - 1) / 2])[:, None, None]
    p = psf.Pixelised(psf.Moffat(1.1, 3.5).brightness(np.hypot(x, y) * PIXEL))
    side = 128
    image = point(side / 2 + 0.2, side / 2 - 0.4, p, side)
    assert image.sum(dtype=float) == pytest.approx(1.0, abs=1e-4)
    c = centroid(np.where(image > 0.02 * image.max(), image, 0))
    assert np.allclose(c, (side / 2 + 0.2, side / 2 - 0.4), atol=0.02)


@settings(max_examples=10, deadline=None)
@given(st.integers(-4, 4), st.integers(-4, 4))
def test_an_off_centre_delta_moves_the_image_by_exactly_its_offset(dy, dx):
    centred, moved = np.zeros((9, 9)), np.zeros((9, 9))
    centred[4, 4], moved[4 + dy, 4 + dx] = 1, 1
    a, b = (point(31.7, 32.6, psf.Pixelised(k)) for k in (centred, moved))
    assert np.abs(np.roll(a, (dy, dx), (0, 1)) - b)[5:-5, 5:-5].max() < 2e-6 * np.abs(a).max()


def test_a_kernel_image_acts_as_the_profile_it_was_sampled_from():
    y, x = np.indices((63, 63)) - 31
    moffat = psf.Moffat(1.1, 3.5)
    kernel = psf.Pixelised(moffat.brightness(np.hypot(x, y) * PIXEL))
    a, b = (point(64.3, 63.6, p, 128) for p in (moffat, kernel))
    assert np.abs(a - b).max() < 2e-3 * a.max()
    assert psf.fwhm(kernel, PIXEL) == pytest.approx(1.1, rel=0.02)
    assert psf.size(kernel, PIXEL) == pytest.approx(psf.size(moffat, PIXEL), rel=0.01)


def test_what_wraps_around_is_nothing_a_stamp_could_show(monkeypatch):
    """A source near the stamp's edge, wide wings: the stamp differs from one made with a period four times as long by 1e-4 of the flux."""
    p = psf.Moffat(1.4, 2.5)
    near = point(60.3, 31.2, p)
    period = spectrum.period
    monkeypatch.setattr(spectrum, "period", lambda *args: 4 * period(*args))
    far = point(60.3, 31.2, p)
    assert np.abs(near - far).sum(dtype=float) < 2e-4
    assert np.abs(near - far).max() < 1e-4 * far.max()


def test_a_circular_convolution_would_be_seen(monkeypatch):
    """Planted fault: with the stamp's own side as the period, the source reappears at the other side."""
    p = psf.Moffat(1.4, 2.5)
    monkeypatch.setattr(spectrum, "period", lambda side, bright, *_: np.full(np.shape(bright), 64))
    wrapped = point(62.0, 31.5, p)
    assert wrapped[31, 0] > 100 * p.brightness(62 * PIXEL) * PIXEL**2


def test_a_kernel_off_by_half_a_pixel_would_be_seen():
    """Planted fault: an even-sided kernel taken to be centred on a pixel moves its image by half a pixel, 25 times the tolerance."""
    y, x = np.indices((32, 32)) - 16.0
    wrong = psf.Pixelised(psf.Moffat(1.1, 3.5).brightness(np.hypot(x, y) * PIXEL))
    image = point(31.0, 31.0, wrong)
    assert np.allclose(centroid(np.where(image > 0.02 * image.max(), image, 0)), (31.5, 31.5), atol=0.02)


def test_equal_kernels_have_one_transfer_and_others_their_own():
    kernel = np.outer([1.0, 2.0, 1.0], [1.0, 3.0, 1.0])
    first, again = (spectrum.transfer(psf.Pixelised(k), PIXEL, 80, 40) for k in (kernel, kernel.copy()))
    assert again is first
    for other in (psf.Pixelised(kernel.T), psf.Pixelised(kernel, with_pixel=True)):
        assert not np.array_equal(spectrum.transfer(other, PIXEL, 80, 40), first)


def test_two_bad_kernels_are_refused():
    for kernel, word in ((np.zeros((5, 5)), "positive sum"), (np.full((5, 5), np.nan), "finite")):
        with pytest.raises(ValueError, match=word):
            psf.Pixelised(kernel)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.6, 2.5), st.floats(2.2, 5.0), st.sampled_from([0.2, 0.262, 0.45]))
def test_the_period_holds_the_wings_and_the_modes_the_core(fwhm, beta, pixel):
    p = psf.Moffat(fwhm, beta)
    wing, cut = spectrum.limits([p], pixel)
    assert 1 - p.flux_within(wing * pixel) == pytest.approx(spectrum.WRAP, rel=1e-6)
    k = np.linspace(0, 6, 6001)
    passed = np.cumsum(p.otf(0.0, k, pixel) * k)
    beyond = 1 - passed[np.searchsorted(k, cut)] / passed[-1]
    assert beyond < 1.2 * spectrum.CUT or cut == spectrum.FASTEST
    assert spectrum.period(64, 10.0, 20.0, wing) >= 42 + wing


def signal_to_noise(arc, invvar):
    """The definitions that ``arcs.measure`` is held to."""
    good = invvar > 0
    s, w = arc[good].astype(float), invvar[good].astype(float)
    if not s.size:
        return np.nan, np.nan, np.nan
    order = np.argsort(-s, kind="stable")
    grown = np.cumsum(s[order])
    bright = order[: int(np.searchsorted(grown, 0.95 * grown[-1])) + 1]
    return np.sqrt((s * s * w).sum()), s[bright].sum() / np.sqrt((1.0 / w[bright]).sum()), (s * np.sqrt(w)).max()


def measured(arc, invvar, x=3.5, y=3.5, bad=None):
    """One plane, as the second of two at the second of two sites."""
    planes = np.stack([np.ones_like(arc), arc]).astype("f4")[None]
    weights = np.stack([np.ones_like(arc), invvar]).astype("f4")
    weights, hidden = np.stack([0 * weights, weights]), np.zeros((2, *planes.shape[1:]), bool)
    hidden[1, 1] = (invvar <= 0) if bad is None else bad
    fluxes, told = arcs.measure(planes, weights, hidden, np.array([1]), [x], [y], 1)
    return fluxes[0], {k: v[0] for k, v in told.items()}


def test_matched_filter_total_and_peak_signal_to_noise():
    arc, invvar = np.zeros((8, 8)), np.full((8, 8), 4.0)
    arc[2, 2], arc[3, 3] = 3.0, 4.0
    fluxes, told = measured(arc, invvar)
    assert (told["arc_snr"], told["arc_snr_peak"]) == (pytest.approx(10.0), pytest.approx(8.0))
    assert told["arc_snr_total"] == pytest.approx(7.0 / np.sqrt(2 * 0.25))
    assert fluxes.tolist() == [64.0, 7.0]
    invvar[3, 3] = 0.0
    fluxes, told = measured(arc, invvar)
    assert told["arc_snr"] == pytest.approx(6.0)
    assert (told["bad_flux"], fluxes[1]) == (4.0, 7.0)
    assert np.isnan([v for k, v in measured(arc, np.zeros((8, 8)))[1].items() if k.startswith("arc_snr")]).all()


@pytest.mark.parametrize("kind", ["smooth", "ties", "faint", "wide range"])
def test_what_is_measured_on_an_arc_is_what_is_defined(kind):
    rng = np.random.default_rng(11)
    yy, xx = np.mgrid[:64, :64]
    for _ in range(20):
        x, y = rng.uniform(25, 39, 2)
        arc = np.exp(-0.5 * ((np.hypot(xx - x, yy - y) - 7.0) / 2.0) ** 2) + rng.normal(0, 1e-4, (64, 64))
        if kind == "ties":
            arc = np.round(arc, 1)
        if kind == "faint":
            arc[20:50, 20:50] *= 1e-3
        if kind == "wide range":
            arc = np.exp(rng.normal(-8, 6, (64, 64)))
        arc, invvar = arc.astype("f4"), rng.choice([0.0, 1.0, 7.0], (64, 64), p=[0.1, 0.5, 0.4]).astype("f4")
        bad = (invvar == 0) | (rng.uniform(0, 1, (64, 64)) < 0.1)
        fluxes, told = measured(arc, invvar, x, y, bad)
        near = np.hypot(xx - x, yy - y) < 5.0
        expected = {
            **dict(zip(("arc_snr", "arc_snr_total", "arc_snr_peak"), signal_to_noise(arc, np.where(bad, 0.0, invvar)), strict=True)),
            "bad_flux": arc[bad].sum(dtype=float), "core_flux": arc[near].sum(dtype=float),
        }  # fmt: skip
        assert told == pytest.approx(expected, rel=1e-9)
        assert fluxes[1] == pytest.approx(arc.sum(dtype=float), rel=1e-9)
