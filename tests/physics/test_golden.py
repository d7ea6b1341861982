"""The renderer against the converged reference of ``tests/golden/render.py``, and the planted faults that must turn it red."""

from pathlib import Path

import numpy as np
import pytest

from lib.imaging import psf, spectrum
from lib.lensing import epl, render

GOLDEN = Path(__file__).parents[1] / "golden" / "render.npz"
FLUX, PIXEL = 3e-4, 1e-3  # the accuracy asked for, 99th percentile
RING = "a ring"  # a cuspy point right behind a round lens, mu = 247: a line cusp; of no weight in any draw, and held to its own limit
RING_FLUX, RING_PIXEL = 2.5e-3, 2.5e-3


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as found:
        return dict(found)


def profile(kind: str, fwhm: float, beta: float):
    return psf.Gaussian(fwhm) if str(kind).lower() == "gaussian" else psf.Moffat(fwhm, beta)


def errors(golden, **changes):
    """(flux, pixels over the peak) of each task."""
    names = [name for name in render.Scene.__dataclass_fields__ if name in golden]
    scene = render.Scene(**({name: golden[name] for name in names} | changes))
    psfs = [[profile(*row)] for row in zip(golden["psf_kind"], golden["psf_fwhm_arcsec"], golden["psf_beta"], strict=True)]
    stamps, mu = render.draw(scene, np.ones((len(psfs), 1)), psfs, 64, 0.262)
    truth = golden["stamps"]
    return np.abs(mu / golden["magnification"] - 1), np.abs(stamps[:, 0] - truth).max(axis=(1, 2)) / truth.max(axis=(1, 2))


def test_the_reference_has_converged_and_covers_the_range(golden):
    assert golden["flux_change"].max() < 1e-5
    assert golden["pixel_change"].max() < 5e-5
    assert golden["rays_change"].max() < 1e-4
    assert len(golden["stamps"]) >= 50
    for name, low, high in (("src_n", 0.5, 3.8), ("src_reff_arcsec", 0.04, 0.48), ("theta_e_arcsec", 0.25, 2.4), ("lens_q", 0.32, 0.97)):
        assert golden[name].min() <= low + 1e-9 or name != "src_reff_arcsec"
        assert golden[name].min() < low * 1.6
        assert golden[name].max() > high * 0.95


def test_flux_and_pixels_are_the_references(golden):
    flux, pixels = errors(golden)
    ordinary = golden["title"] != RING
    assert ordinary.sum() == len(flux) - 1
    assert flux[ordinary].max() < FLUX
    assert pixels[ordinary].max() < PIXEL
    assert flux[~ordinary].max() < RING_FLUX
    assert pixels[~ordinary].max() < RING_PIXEL


def test_most_tasks_are_far_better_than_asked(golden):
    flux, pixels = errors(golden)
    assert np.median(flux) < 5e-5
    assert np.median(pixels) < 1.5e-4


def without_root_q(monkeypatch):
    shipped = epl.rows

    def wrong(theta_e, q, phi, slope):
        return shipped(np.asarray(theta_e) / np.sqrt(q), q, phi, slope)

    monkeypatch.setattr(epl, "rows", wrong)


def half_a_pixel(monkeypatch):
    shipped = spectrum.tables

    def wrong(period, count, side, half):
        grid, pixels = (t.copy() for t in shipped(period, count, side, half))
        k, at = 2 * np.pi * np.arange(count) / period, np.arange(half) / spectrum.FINE
        grid[0], grid[1] = np.cos(np.outer(k, at)), np.sin(np.outer(k, at))
        return grid, pixels

    monkeypatch.setattr(spectrum, "tables", wrong)


def renormalised(monkeypatch):
    shipped = render.draw

    def wrong(*args, **options):
        stamps, mu = shipped(*args, **options)
        return stamps / mu[:, None, None, None], mu / mu

    monkeypatch.setattr(render, "draw", wrong)


def spline_left_in(monkeypatch):
    monkeypatch.setattr(spectrum, "FINE", 1e9)
    spectrum.transfer.cache_clear()


@pytest.mark.parametrize("fault", [without_root_q, half_a_pixel, renormalised, spline_left_in])
def test_a_planted_fault_is_seen(golden, monkeypatch, fault):
    fault(monkeypatch)
    try:
        flux, pixels = errors(golden)
    finally:
        spectrum.transfer.cache_clear()
    assert flux.max() > 10 * FLUX or pixels.max() > 3 * PIXEL


def test_a_source_moved_by_a_tenth_of_a_pixel_is_seen(golden):
    _, pixels = errors(golden, x_pix=golden["x_pix"] + 0.1)
    assert np.median(pixels) > 10 * PIXEL
