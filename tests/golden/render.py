"""Brute-force stamps and magnifications of lensed sources: the reference of the renderer's accuracy, in ``render.npz``.

``python -m tests.golden.render`` (about ten minutes of one core) makes it anew, from a fixed seed, and fails where a task has not
converged.  Everything is float64 and written here again from the formulas, nothing is the renderer's own:

- The lensed surface brightness (Kormann, Schneider & Bartelmann 1994; external shear; Sersic) is integrated over square cells by two
  Gauss-Legendre rules.  A cell is quartered until they agree, and also while its nodes land around the source farther apart than r_eff,
  where both rules might miss it.  Around the canvas of the stamp and 32 px on every side, frames of cells, each twice as wide as the
  last, follow the light to 2,000".
- The nodes are convolved with the effective PSF in real space, its closed form at the distance of every node from every pixel centre:
  ``I = p**2 (S * ePSF)``.  Nodes within one fine sub-pixel share it by its Taylor series, through their moments to the second order.
  The sums over sub-pixels are linear convolutions: there is no period, no cut in frequency, and no edge of the PSF.
- Converged means: twice the sub-pixels, half the cells, higher rules and a tenth of the tolerance leave every pixel within
  ``PIXEL_LIMIT`` of the peak and the flux within ``FLUX_LIMIT``.  The finer of the two is kept.

Then the fluxes are compared with closed forms, with rays from the lens centre (``magnification.of_source``) and with lenstronomy.
A scene's columns are named as in ``lib.lensing.render.Scene``; stamps are of sources of unit unlensed flux.
"""

import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numba
import numpy as np
from scipy import fft, special

TARGET = Path(__file__).with_suffix(".npz")
SEED = 20240607
PIXEL_ARCSEC = 0.262
SIDE_PIX, CANVAS_PIX = 64, 128
FRAMES = 7  # around the canvas: to 2,000", where exp(-b r**(1/4)) of the widest source is below 1e-16
PIXEL_LIMIT, FLUX_LIMIT = 5e-5, 1e-5  # of the peak, of the flux: what finer integration may change
CLOSED_LIMIT, RAYS_LIMIT, LENSTRONOMY_LIMIT = 1e-6, 1e-4, 1e-3
SCENE = (
    "x_pix", "y_pix", "theta_e_arcsec", "lens_q", "lens_phi_rad", "shear", "shear_phi_rad",
    "src_x_arcsec", "src_y_arcsec", "src_n", "src_reff_arcsec", "src_q", "src_phi_rad",
)  # fmt: skip
PSF = ("psf_kind", "psf_fwhm_arcsec", "psf_beta")  # a Moffat of beta = inf is a Gaussian
COMMON = {
    "x_pix": 31.8, "y_pix": 31.4, "theta_e_arcsec": 1.2, "lens_q": 0.7, "lens_phi_rad": 0.7, "shear": 0.0, "shear_phi_rad": 0.3,
    "src_x_arcsec": 0.21, "src_y_arcsec": -0.13, "src_n": 1.0, "src_reff_arcsec": 0.1, "src_q": 0.6, "src_phi_rad": 2.0,
    "psf_kind": "moffat", "psf_fwhm_arcsec": 1.1, "psf_beta": 3.0,
}  # fmt: skip


@dataclass(frozen=True)
class Effort:
    """How finely to integrate: cells and sub-pixels a pixel's side, points an axis of the two rules, their disagreement a cell."""

    cells: int
    subpixels: int
    points: tuple[int, int]
    tolerance: float


COARSE, FINE = Effort(2, 8, (3, 5), 5e-9), Effort(4, 16, (5, 7), 5e-10)


# ---- the tasks ----


def critical_point(theta_e, q, phi, angle, radius=1.0):
    """Source behind the critical curve (at ``radius`` times it), ``angle`` from the major axis: 0 and pi/2 are cusps, between them folds."""
    u, v = radius * theta_e / np.sqrt(q) * np.cos(angle), radius * theta_e * np.sqrt(q) * np.sin(angle)
    psi, f = np.hypot(q * u, v), np.sqrt(1.0 - q * q)
    scale = theta_e * np.sqrt(q) / f
    x, y = u - scale * np.arctan(f * u / psi), v - scale * np.arctanh(f * v / psi)
    return {"src_x_arcsec": np.cos(phi) * x - np.sin(phi) * y, "src_y_arcsec": np.sin(phi) * x + np.cos(phi) * y}


def random_tasks(count, rng) -> list[dict]:
    """Over the whole range; a fifth are exponentials, a tenth have a Gaussian PSF."""

    def between(lo, hi):
        return float(rng.uniform(lo, hi))

    tasks = []
    for k in range(count):
        theta_e, r, angle = np.exp(between(np.log(0.2), np.log(2.5))), np.sqrt(between(0, 0.64)), between(0, 2 * np.pi)
        tasks.append({
            "title": "random", "x_pix": between(30.5, 32.5), "y_pix": between(30.5, 32.5), "theta_e_arcsec": theta_e,
            "lens_q": between(0.3, 1), "lens_phi_rad": between(0, np.pi), "shear": between(0, 0.1), "shear_phi_rad": between(0, np.pi),
            "src_x_arcsec": theta_e * r * np.cos(angle), "src_y_arcsec": theta_e * r * np.sin(angle),
            "src_n": 1.0 if k % 5 == 0 else between(0.5, 4), "src_reff_arcsec": np.exp(between(np.log(0.04), np.log(0.5))),
            "src_q": between(0.3, 1), "src_phi_rad": between(0, np.pi),
            "psf_fwhm_arcsec": between(0.9, 1.5),
            **({"psf_kind": "gaussian", "psf_beta": np.inf} if k % 10 == 3 else {"psf_kind": "moffat", "psf_beta": between(2.5, 4.765)}),
        })  # fmt: skip
    return tasks


def hard_tasks() -> list[dict]:
    """Where integration is hardest, one difficulty at a time."""
    small = {"src_n": 4.0, "src_reff_arcsec": 0.04}
    behind = {"src_x_arcsec": 0.0, "src_y_arcsec": 0.0}
    flat = {"lens_q": 0.3, "src_q": 0.3}
    changes = [
        {"title": "small and cuspy", **small, "shear": 0.05},
        {"title": "small and cuspy, small lens", **small, "theta_e_arcsec": 0.2, "src_x_arcsec": 0.03, "src_y_arcsec": 0.05},
        {"title": "on a cusp", **critical_point(1.2, 0.7, 0.7, 0.0)},
        {"title": "on a cusp, small and cuspy", **critical_point(1.2, 0.7, 0.7, np.pi / 2), **small},
        {"title": "on a fold", **critical_point(1.2, 0.7, 0.7, 0.8), **small},
        {"title": "an image on the lens centre", **critical_point(1.2, 0.7, 0.7, 0.5, radius=1e-12), "src_n": 2.0},
        {"title": "behind the lens centre", **behind, "shear": 0.08},
        {"title": "behind the lens centre, small and cuspy", **behind, **small},
        {"title": "a ring", **behind, **small, "lens_q": 1.0, "src_q": 1.0},
        {"title": "flat lens, flat source", **flat, "shear": 0.1, "src_n": 2.0, "src_reff_arcsec": 0.2},
        {"title": "flat lens, flat small source", **flat, **small, "theta_e_arcsec": 2.5, "psf_fwhm_arcsec": 0.9},
        {"title": "large and cuspy", "theta_e_arcsec": 2.5, "src_n": 4.0, "src_reff_arcsec": 0.5, "psf_fwhm_arcsec": 1.5, "psf_beta": 2.5},
        {"title": "large behind a small lens", "theta_e_arcsec": 0.2, "src_n": 4.0, "src_reff_arcsec": 0.5},
        {"title": "small and sharp-edged", "theta_e_arcsec": 2.5, "src_n": 0.5, "src_reff_arcsec": 0.04, "psf_fwhm_arcsec": 0.9},
    ]
    return [COMMON | change for change in changes]


def below_one(rng) -> list[dict]:
    """Random tasks, but of n < 1."""
    return [task | {"title": "n below 1", "src_n": n} for task, n in zip(random_tasks(4, rng), (0.5, 0.6, 0.75, 0.9), strict=True)]


# ---- light on the plane ----


def parameters(task) -> tuple[float, ...]:
    """What ``landing`` and ``integrate`` read."""
    n, r_eff, q = task["src_n"], task["src_reff_arcsec"], task["src_q"]
    b = float(special.gammaincinv(2.0 * n, 0.5))
    peak = b ** (2.0 * n) / (2.0 * np.pi * n * r_eff**2 * special.gamma(2.0 * n))
    values = (
        task["theta_e_arcsec"], task["lens_q"], np.cos(task["lens_phi_rad"]), np.sin(task["lens_phi_rad"]),
        task["shear"] * np.cos(2.0 * task["shear_phi_rad"]), task["shear"] * np.sin(2.0 * task["shear_phi_rad"]),
        task["src_x_arcsec"], task["src_y_arcsec"], np.cos(task["src_phi_rad"]), np.sin(task["src_phi_rad"]),
        np.sqrt(q) / r_eff, 1.0 / (np.sqrt(q) * r_eff), b, 0.5 / n, peak,
    )  # fmt: skip
    return tuple(float(v) for v in values)


@numba.njit
def landing(x, y, p):
    """Where the ray at (x, y) from the lens meets the source: along its axes, the elliptical radius in r_eff."""
    theta_e, q, c, s, g1, g2, x0, y0, cs, ss, major, minor, _, _, _ = p
    u, v, f = c * x + s * y, c * y - s * x, np.sqrt(1.0 - q * q)
    psi = np.sqrt(q * q * u * u + v * v)
    if f > 0.0:
        au, av = theta_e * np.sqrt(q) / f * np.arctan(f * u / psi), theta_e * np.sqrt(q) / f * np.arctanh(f * v / psi)
    else:
        au, av = theta_e * u / psi, theta_e * v / psi
    bx = x - (c * au - s * av) - (g1 * x + g2 * y) - x0
    by = y - (s * au + c * av) - (g2 * x - g1 * y) - y0
    return major * (cs * bx + ss * by), minor * (cs * by - ss * bx)


@numba.njit
def quadrature(x, y, half, p, rule, nodes):
    """Flux of a cell, its nodes (x, y, flux) and whether they land around the source, farther apart than r_eff."""
    t, w = rule
    b, power, peak = p[12:]
    total, k = 0.0, 0
    u_lo, u_hi, v_lo, v_hi = np.inf, -np.inf, np.inf, -np.inf
    for i in range(len(t)):
        for j in range(len(t)):
            nx, ny = x + half * t[j], y + half * t[i]
            u, v = landing(nx, ny, p)
            u_lo, u_hi, v_lo, v_hi = min(u, u_lo), max(u, u_hi), min(v, v_lo), max(v, v_hi)
            flux = w[i] * w[j] * half * half * peak * np.exp(-b * (u * u + v * v) ** power)
            nodes[0, k], nodes[1, k], nodes[2, k] = nx, ny, flux
            total += flux
            k += 1
    wide = max(u_hi - u_lo, v_hi - v_lo)
    astray = wide > 1.0 and u_lo < wide and u_hi > -wide and v_lo < wide and v_hi > -wide
    return total, astray


@numba.njit
def deposit(nodes, moments, left, bottom, step):
    """Add nodes to the moments (1, x, y, x x/2, x y, y y/2) of the light about the centres of sub-pixels, sides ``step``."""
    for x, y, flux in nodes.T:
        j, i = int((x - left) / step), int((y - bottom) / step)
        dx, dy = x - left - (j + 0.5) * step, y - bottom - (i + 0.5) * step
        moments[0, i, j] += flux
        moments[1, i, j] += flux * dx
        moments[2, i, j] += flux * dy
        moments[3, i, j] += flux * dx * dx / 2.0
        moments[4, i, j] += flux * dx * dy
        moments[5, i, j] += flux * dy * dy / 2.0


@numba.njit
def integrate(cells, p, low, high, tolerance, moments, left, bottom, step):
    """Flux in ``cells`` (n, 3: centre from the lens, half-width), added to ``moments`` if there are any."""
    total = 0.0
    stack, nodes, spare = np.empty((400, 3)), np.empty((3, len(high[0]) ** 2)), np.empty((3, len(low[0]) ** 2))
    for cell in cells:
        stack[0], top = cell, 1
        while top > 0:
            top -= 1
            x, y, half = stack[top]
            rough, _ = quadrature(x, y, half, p, low, spare)
            flux, astray = quadrature(x, y, half, p, high, nodes)
            # a cell that cannot hold more than the tolerance is good as it is
            if (astray or abs(flux - rough) > tolerance) and 4.0 * half * half * p[14] > tolerance:
                for k in range(4):
                    stack[top] = x + (k % 2 - 0.5) * half, y + (k // 2 - 0.5) * half, 0.5 * half
                    top += 1
                continue
            total += flux
            if moments.size > 0:
                deposit(nodes, moments, left, bottom, step)
    return total


def squares(left, bottom, side, count, hollow=False) -> np.ndarray:
    """(n, 3): the count x count cells of a square, without its middle half if ``hollow``."""
    half = 0.5 * side / count
    i, j = np.indices((count, count)).reshape(2, -1)
    cells = np.stack([left + (2 * j + 1) * half, bottom + (2 * i + 1) * half, np.full(i.size, half)], axis=1)
    outer = np.maximum(abs(2 * i + 1 - count), abs(2 * j + 1 - count)) > count // 2
    return cells[outer] if hollow else cells


def light(task, effort, canvas_pix=CANVAS_PIX):
    """Moments (6, n, n) of the light in the sub-pixels of the canvas, and its flux on the whole plane."""
    p, pixel = parameters(task), PIXEL_ARCSEC
    low, high = (np.polynomial.legendre.leggauss(m) for m in effort.points)
    edge = (canvas_pix - SIDE_PIX) / 2 + 0.5
    left, bottom, side = (-edge - task["x_pix"]) * pixel, (-edge - task["y_pix"]) * pixel, canvas_pix * pixel
    moments, step = np.zeros((6, canvas_pix * effort.subpixels, canvas_pix * effort.subpixels)), pixel / effort.subpixels
    cells = squares(left, bottom, side, canvas_pix * effort.cells)
    flux = integrate(cells, p, low, high, effort.tolerance, moments, left, bottom, step)
    for k in range(FRAMES):
        shift, wide = (2**k - 0.5) * side, 2 ** (k + 1) * side
        frame = squares(left - shift, bottom - shift, wide, 16, hollow=True)
        flux += integrate(frame, p, low, high, effort.tolerance, np.zeros((6, 0, 0)), 0.0, 0.0, 1.0)
    return moments, flux


# ---- and through the PSF ----


def profile(task, s):
    """The PSF at the squared radius s (arcsec**2), per arcsec**2, and its first two derivatives by s."""
    fwhm, beta = task["psf_fwhm_arcsec"], task["psf_beta"]
    if task["psf_kind"] == "gaussian":
        fall = 4.0 * np.log(2.0) / fwhm**2
        value = fall / np.pi * np.exp(-fall * s)
        return value, -fall * value, fall**2 * value
    alpha2 = fwhm**2 / (4.0 * (2.0 ** (1.0 / beta) - 1.0))
    base = 1.0 / (1.0 + s / alpha2)
    value = (beta - 1.0) / (np.pi * alpha2) * base**beta
    first = -beta / alpha2 * base * value
    return value, first, -(beta + 1.0) / alpha2 * base * first


def convolved(task, moments, canvas_pix=CANVAS_PIX) -> np.ndarray:
    """The stamp: for every sub-pixel of a pixel, a linear convolution of its moments with the PSF's derivatives at its place."""
    subpixels = moments.shape[1] // canvas_pix
    n = canvas_pix + SIDE_PIX  # no distance between a pixel of the stamp and one of the canvas appears twice
    phase = (np.arange(subpixels) + 0.5) / subpixels - 0.5
    away = (fft.fftfreq(n, 1.0 / n) - phase[:, None]) * PIXEL_ARCSEC
    x, y = away[None, :, None, :], away[:, None, :, None]
    value, first, second = profile(task, x * x + y * y)
    spectrum = np.zeros((n, n // 2 + 1), complex)
    for k, kernel in enumerate((
        lambda: value, lambda: -2.0 * x * first, lambda: -2.0 * y * first,
        lambda: 2.0 * first + 4.0 * x * x * second, lambda: 4.0 * x * y * second, lambda: 2.0 * first + 4.0 * y * y * second,
    )):  # fmt: skip
        phases = moments[k].reshape(canvas_pix, subpixels, canvas_pix, subpixels).transpose(1, 3, 0, 2)
        spectrum += np.einsum("abij,abij->ij", fft.rfft2(phases, s=(n, n)), fft.rfft2(kernel()))
    cut = slice((canvas_pix - SIDE_PIX) // 2, (canvas_pix + SIDE_PIX) // 2)
    return fft.irfft2(spectrum, s=(n, n))[cut, cut] * PIXEL_ARCSEC**2


def stamp(task, effort, canvas_pix=CANVAS_PIX):
    """Pixels of a source of unit unlensed flux, and its magnification."""
    moments, flux = light(task, effort, canvas_pix)
    return convolved(task, moments, canvas_pix), flux


# ---- what others say ----


def closed_form(task) -> float:
    """Magnification of a round source on the axis of a sphere; of an exponential, ``2 theta_e/h + exp(-theta_e/h)``, h = r_eff/b."""
    n, r_eff, theta_e, b = task["src_n"], task["src_reff_arcsec"], task["theta_e_arcsec"], parameters(task)[12]
    z = b * (theta_e / r_eff) ** (1.0 / n)
    line = special.gamma(n) / special.gamma(2.0 * n) * b**n / r_eff  # 2 pi times the brightness along a radius
    return float(theta_e * line * (1.0 + special.gammainc(n, z)) + special.gammaincc(2.0 * n, z))


def closed_form_changes() -> np.ndarray:
    """Relative errors of the flux of exponentials on the axis of a sphere."""
    axis = COMMON | {"lens_q": 1.0, "src_q": 1.0, "src_x_arcsec": 0.0, "src_y_arcsec": 0.0}
    sizes = product((0.2, 1.0, 2.5), (0.04, 0.15, 0.5))
    tasks = [axis | {"theta_e_arcsec": theta_e, "src_reff_arcsec": r_eff} for theta_e, r_eff in sizes]
    return np.array([light(task, FINE)[1] / closed_form(task) - 1.0 for task in tasks])


def of_rays(task) -> float:
    """Magnification by ``lib.lensing.magnification``, whose rays share nothing with pixels."""
    from lib.lensing import magnification, shear

    columns = {name: task[name] for name in SCENE}
    g1, g2 = shear.components(columns.pop("shear"), columns.pop("shear_phi_rad"))
    theta_e, q, phi, *source = list(columns.values())[2:]
    return float(magnification.of_source(theta_e, q, phi, g1, g2, *source)[0])


def of_lenstronomy(task, samples=25) -> float:
    """Flux of an exponential in 64 x 64 px by lenstronomy, ``samples`` rays a pixel's side."""
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.Profiles.sersic import SersicElliptic
    from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian

    at = (np.arange(SIDE_PIX * samples) + 0.5) / samples - 0.5
    x, y = np.meshgrid((at - task["x_pix"]) * PIXEL_ARCSEC, (at - task["y_pix"]) * PIXEL_ARCSEC)
    e1, e2 = phi_q2_ellipticity(task["lens_phi_rad"], task["lens_q"])
    g1, g2 = shear_polar2cartesian(task["shear_phi_rad"], task["shear"])
    lens = [{"theta_E": task["theta_e_arcsec"], "e1": e1, "e2": e2}, {"gamma1": g1, "gamma2": g2}]
    bx, by = LensModel(["SIE", "SHEAR"]).ray_shooting(x.ravel(), y.ravel(), lens)
    b, r_eff = 1.67834699, task["src_reff_arcsec"]
    # their b is approximate: an exponential of the same scale and peak is theirs of this radius and amplitude
    radius = r_eff * (1.9992 - 0.3271) / b
    amplitude = b**2 / (2.0 * np.pi * r_eff**2) * np.exp(-(1.9992 - 0.3271))
    e1, e2 = phi_q2_ellipticity(task["src_phi_rad"], task["src_q"])
    source = SersicElliptic(sersic_major_axis=False)
    brightness = source.function(bx, by, amplitude, radius, 1.0, e1, e2, task["src_x_arcsec"], task["src_y_arcsec"])
    return float(brightness.sum() * (PIXEL_ARCSEC / samples) ** 2)


# ---- all of it ----


def converged(task) -> dict:
    """A task's reference, with what finer integration changed and what rays say."""
    start = time.perf_counter()
    rough, rough_flux = stamp(task, COARSE)
    pixels, flux = stamp(task, FINE)
    made = {
        "stamps": pixels,
        "magnification": flux,
        "pixel_change": np.abs(pixels - rough).max() / pixels.max(),
        "flux_change": abs(rough_flux / flux - 1.0),
        "rays_change": of_rays(task) / flux - 1.0,
    }
    print(
        f"{task['title']:40s} n {task['src_n']:.2f} mu {flux:9.5f}  change: pixels {made['pixel_change']:.1e} flux {made['flux_change']:.1e}"
        f"  rays {made['rays_change']:+.1e}  {time.perf_counter() - start:.1f} s",
        flush=True,
    )
    return made


def main() -> None:
    rng = np.random.default_rng(SEED)
    tasks = random_tasks(40, rng) + hard_tasks() + below_one(rng)
    made = [converged(task) for task in tasks]
    columns: dict[str, Any] = {name: np.array([m[name] for m in made]) for name in made[0]}
    columns |= {name: np.array([task[name] for task in tasks]) for name in ("title", *SCENE, *PSF)}
    widest = max(range(len(tasks)), key=lambda k: tasks[k]["theta_e_arcsec"] * tasks[k]["src_reff_arcsec"] * tasks[k]["src_n"])
    rough, doubled = (stamp(tasks[widest], COARSE, canvas)[0] for canvas in (CANVAS_PIX, 2 * CANVAS_PIX))
    columns["canvas_change"] = np.abs(doubled - rough).max() / doubled.max()
    columns["closed_form_change"] = closed_form_changes()
    ring = next(k for k, task in enumerate(tasks) if task["title"] == "a ring")
    columns["ring_change"] = made[ring]["magnification"] / closed_form(tasks[ring]) - 1.0
    exponentials = sorted((k for k in range(40) if tasks[k]["src_n"] == 1.0), key=lambda k: -tasks[k]["src_reff_arcsec"])[:2]
    columns["lenstronomy_change"] = np.array([of_lenstronomy(tasks[k]) / made[k]["magnification"] - 1.0 for k in exponentials])
    for name in ("canvas_change", "closed_form_change", "ring_change", "lenstronomy_change"):
        print(name, columns[name])
    limits = {
        "pixel_change": PIXEL_LIMIT, "flux_change": FLUX_LIMIT, "rays_change": RAYS_LIMIT, "canvas_change": PIXEL_LIMIT,
        "closed_form_change": CLOSED_LIMIT, "ring_change": FLUX_LIMIT, "lenstronomy_change": LENSTRONOMY_LIMIT,
    }  # fmt: skip
    worst = {name: float(np.abs(columns[name]).max()) for name in limits}
    print("largest:", "  ".join(f"{name} {worst[name]:.1e} (limit {limits[name]:.0e})" for name in limits))
    missed = [f"{name} {worst[name]:.2e} exceeds {limits[name]:.0e}" for name in limits if not worst[name] < limits[name]]
    if missed:
        raise SystemExit("not converged: " + "; ".join(missed))
    columns["stamps"] = columns["stamps"].astype(np.float32)
    np.savez_compressed(TARGET, **columns)
    print(f"{TARGET.name}: {len(tasks)} tasks, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
