"""Random lenses for the tests of the renderer, and brute force."""

import numpy as np
from scipy import fft

from lib.lensing import epl, render, sersic, shear, sie

PIXEL = 0.262
SIDE = 64


def draw(count, seed, n=(1.0, 1.0), r_eff=(0.1, 0.5), theta_e=(0.5, 2.5), q=(0.3, 1.0)):
    """Random lenses, the lens near the middle of the stamp, the source in the disc of 0.8 theta_e."""
    u = np.random.default_rng(seed).uniform
    t = u(*theta_e, count)
    b, a = 0.8 * t * np.sqrt(u(0, 1, count)), u(0, 2 * np.pi, count)
    return render.Scene(
        SIDE / 2 + u(-0.5, 0.5, count), SIDE / 2 + u(-0.5, 0.5, count), t, u(*q, count), u(0, np.pi, count), u(0, 0.1, count),
        u(0, np.pi, count), b * np.cos(a), b * np.sin(a), u(*n, count), u(*r_eff, count), u(0.3, 1, count), u(0, np.pi, count),
    )  # fmt: skip


def one(scene, k=0, **changes):
    """Source ``k`` of a scene alone, with changes."""
    return render.Scene(**({name: v[k] for name, v in scene.arrays().items()} | changes))


def images(scene, p, side=SIDE, **options):
    """Stamps (tasks, side, side) and magnifications of unit sources, all through one PSF."""
    count = len(scene.arrays()["x_pix"])
    stamps, mu = render.draw(scene, np.ones((count, 1)), [[p]] * count, side, PIXEL, **options)
    return stamps[:, 0], mu


def point(x, y, p, side=SIDE):
    """A point source's image."""
    return images(render.Scene(x, y, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1e-3, 1.0, 0.0), p, side)[0][0]


def brute_force(scene, p, samples=20, canvas=128):
    """Brightness at samples x samples points a pixel, convolved on the fine grid, read at the pixel centres: (stamp, flux)."""
    n, shift = canvas * samples, (canvas - SIDE) // 2
    at = (np.arange(n) + 0.5) / samples - 0.5 - shift
    x, y = np.meshgrid((at - scene.x_pix) * PIXEL, (at - scene.y_pix) * PIXEL)
    lens = (scene.theta_e_arcsec, scene.lens_q, scene.lens_phi_rad)
    ax, ay = sie.deflection(x, y, *lens) if scene.lens_slope == 2.0 else epl.deflection(x, y, *lens, scene.lens_slope)
    gx, gy = shear.deflection(x, y, *shear.components(scene.shear, scene.shear_phi_rad))
    bx, by = x - ax - gx - scene.src_x_arcsec, y - ay - gy - scene.src_y_arcsec
    light = sersic.brightness(bx, by, scene.src_n, scene.src_reff_arcsec, scene.src_q, scene.src_phi_rad) * (PIXEL / samples) ** 2
    fy, fx = fft.fftfreq(n)[:, None] * samples, fft.rfftfreq(n)[None] * samples
    # samples is even: the pixel centre lies half a sample before index samples // 2
    moved = np.exp(-1j * np.pi * (fy + fx) / samples) if samples % 2 == 0 else 1.0
    fine = fft.irfft2(fft.rfft2(light) * p.otf(fy, fx, PIXEL) * moved, s=light.shape) * samples**2
    return fine[samples // 2 :: samples, samples // 2 :: samples][shift : shift + SIDE, shift : shift + SIDE], light.sum()


def magnified(scene):
    """The scene's arguments of ``magnification.of_source``."""
    s = scene.arrays()
    g1, g2 = shear.components(s["shear"], s["shear_phi_rad"])
    lens = (s["theta_e_arcsec"], s["lens_q"], s["lens_phi_rad"], g1, g2)
    return *lens, s["src_x_arcsec"], s["src_y_arcsec"], s["src_n"], s["src_reff_arcsec"], s["src_q"], s["src_phi_rad"]
