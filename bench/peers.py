"""What ``bench.render`` compares with: light by brute force, and the other codes, each in its best use.

The truth shares the closed formulas of the lens, the profile and the PSF with ``lib``, not its numerics.  A code is a function
``draw(tasks) -> (stamps (tasks, bands, 64, 64), magnifications)``; its maker raises ImportError where it is not installed.
Best use: rays are shot once for all bands, and where the code can, everything is compiled and batched.
"""

from collections.abc import Callable

import numpy as np
from scipy import fft, ndimage

from lib.imaging import psf
from lib.lensing import sersic, shear, sie

SIDE, PIXEL = 64, 0.262
BANDS, BETA = (1.25, 1.2, 1.15), 3.5  # FWHM in arcsec: three kernels, none can be shared
KERNEL = 63  # px a side of the sampled kernels: all but 1e-4 of the flux
CANVAS, FINE = 128, 8  # px, and cells a pixel, of the truth
CHANGE = 1e-8  # of a source's flux: a cell that a division by nine changes by more is divided on
FAINT = 1e-9  # of a source's flux: cells without a neighbour above this are left at one sample
DEEPEST = 14  # divisions; reached at the singular centre only
BATCH = 256  # samples a pixel that a batch holds, all its tasks together: more or fewer are no faster
BATCHES = (1, 2, 4, 8, 16, 48)
THIRDS = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]).T / 3.0

Draw = Callable[[dict], tuple[np.ndarray, np.ndarray]]


def draw_tasks(count: int, seed: int, n=(1.0, 1.0), theta_e=(0.5, 2.5), r_eff=(0.1, 0.5)) -> dict[str, np.ndarray]:
    """Random lenses by the names of ``render.Scene``: centre within half a pixel of the stamp's, source in the disc of 0.8 theta_e."""
    u: Callable[..., np.ndarray] = np.random.default_rng(seed).uniform
    t = u(*theta_e, count)
    b, a = 0.8 * t * np.sqrt(u(0, 1, count)), u(0, 2 * np.pi, count)
    middle = (SIDE - 1) / 2
    return {
        "x_pix": middle + u(-0.5, 0.5, count), "y_pix": middle + u(-0.5, 0.5, count),
        "theta_e_arcsec": t, "lens_q": u(0.3, 1, count), "lens_phi_rad": u(0, np.pi, count),
        "shear": u(0, 0.1, count), "shear_phi_rad": u(0, np.pi, count),
        "src_x_arcsec": b * np.cos(a), "src_y_arcsec": b * np.sin(a), "src_n": u(*n, count),
        "src_reff_arcsec": u(*r_eff, count), "src_q": u(0.3, 1, count), "src_phi_rad": u(0, np.pi, count),
    }  # fmt: skip


def first(tasks: dict, count: int, start: int = 0) -> dict:
    return {k: v[start : start + count] for k, v in tasks.items()}


def light(t: dict, x, y):
    """Lensed surface brightness of one task at (x, y) arcsec from the lens."""
    ax, ay = sie.deflection(x, y, t["theta_e_arcsec"], t["lens_q"], t["lens_phi_rad"])
    gx, gy = shear.deflection(x, y, *shear.components(t["shear"], t["shear_phi_rad"]))
    dx, dy = x - ax - gx - t["src_x_arcsec"], y - ay - gy - t["src_y_arcsec"]
    return sersic.brightness(dx, dy, t["src_n"], t["src_reff_arcsec"], t["src_q"], t["src_phi_rad"])


def integrals(t: dict, x, y, side: float, which) -> np.ndarray:
    """(3, cells): flux in square cells about (x, y), and its moments in x and y; those of ``which`` are divided until they converge.

    The midpoint rule's error falls by nine at a division of a smooth cell by nine, so an eighth of the last change is still to come.
    """
    middle = light(t, x, y)
    out = np.stack([middle * side**2, np.zeros_like(x), np.zeros_like(x)])
    which = np.flatnonzero(which(middle * side**2))
    x0, y0, x, y, middle = x, y, x[which], y[which], middle[which]
    for _ in range(DEEPEST):
        xs, ys = x[:, None] + side * THIRDS[0], y[:, None] + side * THIRDS[1]
        values = light(t, xs, ys)
        change = (values.mean(axis=1) - middle) * side**2
        on = np.abs(change) > CHANGE
        out[0] += np.bincount(which, np.where(on, change, change * 9 / 8), len(x0))
        whole, share = (values.mean(axis=1) * side**2)[~on], values[~on] * side**2 / 8
        out[1] += np.bincount(which[~on], whole * (x - x0[which])[~on] + share @ THIRDS[0] * side, len(x0))
        out[2] += np.bincount(which[~on], whole * (y - y0[which])[~on] + share @ THIRDS[1] * side, len(x0))
        x, y, middle, which, side = xs[on].ravel(), ys[on].ravel(), values[on].ravel(), np.repeat(which[on], 9), side / 3
    return out


def cells(t: dict) -> tuple[np.ndarray, float]:
    """Flux and moments in the cells of the canvas (FINE a pixel an axis), and the flux all around: to 9 canvas sides."""
    at = (np.arange(CANVAS * FINE) + 0.5) / FINE - 0.5 - (CANVAS - SIDE) // 2
    x, y = (v.ravel() for v in np.meshgrid((at - t["x_pix"]) * PIXEL, (at - t["y_pix"]) * PIXEL))
    side = PIXEL / FINE

    def matter(flux):
        near = ndimage.maximum_filter(flux.reshape(len(at), len(at)), 5).ravel() > FAINT
        return near | (np.maximum(np.abs(x), np.abs(y)) < 2 * side)

    fine = integrals(t, x, y, side, matter).reshape(3, len(at), len(at))
    return fine, fine[0].sum() + _around(t)


def _around(t: dict, blocks: int = 32) -> float:
    """Flux outside of the canvas: in cells of a 32nd of it, over 9 canvas sides."""
    side = CANVAS / blocks
    at = (np.arange(9 * blocks) + 0.5 - 4 * blocks) * side - 0.5 - (CANVAS - SIDE) // 2
    inside = np.abs(np.arange(9 * blocks) + 0.5 - 4.5 * blocks) < blocks / 2
    outside = ~(inside[:, None] & inside[None, :]).ravel()
    x, y = (v.ravel()[outside] for v in np.meshgrid((at - t["x_pix"]) * PIXEL, (at - t["y_pix"]) * PIXEL))
    return integrals(t, x, y, side * PIXEL, np.ones_like)[0].sum()


def pixels(fine: np.ndarray, transfers) -> np.ndarray:
    """(PSFs, 64, 64): the cells convolved with each PSF, at the stamp's pixel centres.

    A cell is taken as a box about its own centroid.  A PSF passes nothing beyond one cycle a pixel, so twice as many points
    as pixels are enough for the way back.
    """
    n, m = CANVAS * FINE, 2 * CANVAS
    ky, kx = fft.fftfreq(m, 1 / m)[:, None], np.arange(m // 2 + 1)[None]
    fy, fx = ky / CANVAS, kx / CANVAS
    flux, right, up = fft.rfft2(fine)[:, ky.ravel().astype(int), : m // 2 + 1]
    spectrum = flux * np.sinc(fy / FINE) * np.sinc(fx / FINE) - 2j * np.pi / PIXEL * (fx * right + fy * up)
    spectrum *= np.exp(1j * np.pi * (ky + kx) * (1 / CANVAS - 1 / n))  # from the middle of the first cell to that of the first pixel
    points = fft.irfft2(spectrum * [p.otf(fy, fx, PIXEL) for p in transfers], s=(m, m)) * (m / n) ** 2 * FINE**2
    cut = slice(CANVAS - SIDE, CANVAS + SIDE, 2)
    return points[:, cut, cut]


def truth(tasks: dict) -> tuple[dict[bool, np.ndarray], np.ndarray]:
    """Stamps by whether the PSFs still get the pixel's response (optical) or hold it (effective), and magnifications."""
    stamps, flux = [], []
    psfs = [psf.Moffat(fwhm, BETA, with_pixel) for with_pixel in (True, False) for fwhm in BANDS]
    for k in range(len(tasks["x_pix"])):
        fine, total = cells({name: float(v[k]) for name, v in tasks.items()})
        stamps.append(pixels(fine, psfs))
        flux.append(total)
    optical, effective = np.split(np.array(stamps), 2, axis=1)
    return {True: optical, False: effective}, np.array(flux)


def kernels(samples: int = 1) -> np.ndarray:
    """(bands, k, k): the optical PSFs at ``samples`` points a pixel, of unit sum and odd side."""
    at = (np.arange(KERNEL * samples // 2 * 2 + 1) - KERNEL * samples // 2) * PIXEL / samples
    r = np.hypot(at[:, None], at[None, :])
    found = np.stack([psf.Moffat(fwhm, BETA).brightness(r) for fwhm in BANDS])
    return found / found.sum(axis=(1, 2), keepdims=True)


def grid(samples: int):
    """Midpoints (x, y) of samples x samples parts of every pixel, arcsec from the stamp's centre, both (64 samples, 64 samples)."""
    at = ((np.arange(SIDE * samples) + 0.5) / samples - SIDE / 2) * PIXEL
    return np.meshgrid(at, at)


def parameters(tasks: dict) -> tuple[dict, dict, dict]:
    """Arrays for lens, shear and source by the names of lenstronomy, whose ``b_n`` is approximate: at this radius the same profile."""
    from lenstronomy.Util.param_util import phi_q2_ellipticity, shear_polar2cartesian

    t, middle = tasks, (SIDE - 1) / 2
    x, y = (t["x_pix"] - middle) * PIXEL, (t["y_pix"] - middle) * PIXEL
    e1, e2 = phi_q2_ellipticity(t["lens_phi_rad"], t["lens_q"])
    g1, g2 = shear_polar2cartesian(t["shear_phi_rad"], t["shear"])
    s1, s2 = phi_q2_ellipticity(t["src_phi_rad"], t["src_q"])
    n, r_eff = t["src_n"], t["src_reff_arcsec"]
    radius = r_eff * ((1.9992 * n - 0.3271) / sersic.b_n(n)) ** n
    source = {
        "amp": sersic.brightness(radius, 0.0, n, r_eff) * PIXEL**2, "R_sersic": radius, "n_sersic": n, "e1": s1, "e2": s2,
        "center_x": x + t["src_x_arcsec"], "center_y": y + t["src_y_arcsec"],
    }  # fmt: skip
    lens = {"theta_E": t["theta_e_arcsec"], "e1": e1, "e2": e2, "center_x": x, "center_y": y}
    return lens, {"gamma1": g1, "gamma2": g2, "ra_0": x, "dec_0": y}, source


def lenstronomy(samples: int, fine: bool = False) -> Draw:
    """``fine``: its convolution on the supersampled grid."""
    from lenstronomy.ImSim.Numerics.convolution import PixelKernelConvolution, SubgridKernelConvolution
    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LightModel.light_model import LightModel
    from lenstronomy.Util.image_util import re_size

    lens, source = LensModel(["SIE", "SHEAR"]), LightModel(["SERSIC_ELLIPSE"])
    x, y = (v.ravel() for v in grid(samples))
    if fine:
        convolutions = [SubgridKernelConvolution(k, samples) for k in kernels(samples)]
    else:
        convolutions = [PixelKernelConvolution(k) for k in kernels()]

    def draw(tasks):
        stamps, flux = np.empty((len(tasks["x_pix"]), len(BANDS), SIDE, SIDE)), np.empty(len(tasks["x_pix"]))
        rows = parameters(tasks)
        for k in range(len(flux)):
            mass, external, light = ({name: v[k] for name, v in row.items()} for row in rows)
            bx, by = lens.ray_shooting(x, y, [mass, external])
            high = source.surface_brightness(bx, by, [light]).reshape(SIDE * samples, -1)
            low = re_size(high, samples)
            flux[k] = low.sum()
            for b, c in enumerate(convolutions):
                stamps[k, b] = c.re_size_convolve(low, high)
        return stamps, flux

    return draw


def batch(samples: int) -> int:
    """Tasks to draw at a time."""
    return max(k for k in BATCHES if k == 1 or k * samples**2 <= BATCH)


def batched(call, prepare, samples: int) -> Draw:
    """``call(*prepare(tasks))`` batch by batch; a last one that is smaller is compiled anew."""

    def draw(tasks):
        found = [call(*prepare(first(tasks, batch(samples), k))) for k in range(0, len(tasks["x_pix"]), batch(samples))]
        return tuple(np.concatenate([np.asarray(v) for v in values]) for values in zip(*found, strict=True))

    return draw


def jaxtronomy(samples: int, fine: bool = False) -> Draw:
    """Compiled and batched; ``fine``: its convolution on the supersampled grid."""
    import jax
    from jaxtronomy.ImSim.Numerics.convolution import PixelKernelConvolution
    from jaxtronomy.LensModel.lens_model import LensModel
    from jaxtronomy.LightModel.light_model import LightModel
    from jaxtronomy.Util.image_util import re_size

    def array(v):
        return jax.numpy.asarray(v, dtype="float32")

    lens, source = LensModel(["SIE", "SHEAR"]), LightModel(["SERSIC_ELLIPSE"])
    x, y = (array(v.ravel()) for v in grid(samples))
    psfs, convolution = array(kernels(samples if fine else 1)), PixelKernelConvolution()

    def one(mass, external, light):
        bx, by = lens.ray_shooting(x, y, [mass, external])
        high = source.surface_brightness(bx, by, [light]).reshape(SIDE * samples, -1)
        low = re_size(high, samples)
        blurred = jax.vmap(lambda k: convolution.convolution2d(high if fine else low, k))(psfs)  # the image is transformed once
        return jax.vmap(lambda v: re_size(v, samples))(blurred) if fine else blurred, low.sum()

    def prepare(tasks):
        return [{name: array(v) for name, v in row.items()} for row in parameters(tasks)]

    return batched(jax.jit(jax.vmap(one)), prepare, samples)


def caustics(samples: int) -> Draw:
    """Its functions over batches in torch, and the simulator's convolution, with one transform of the image for all bands."""
    import torch
    from caustics import func

    torch.set_num_threads(1)
    x, y = (torch.as_tensor(v, dtype=torch.float32) for v in grid(samples))
    size = fft.next_fast_len(SIDE + KERNEL - 1, real=True)
    transfers = torch.fft.rfft2(torch.as_tensor(kernels(), dtype=torch.float32), (size, size))
    cut = slice(KERNEL // 2, KERNEL // 2 + SIDE)

    @torch.no_grad()
    def call(t):
        ax, ay = func.reduced_deflection_angle_sie(t["x"], t["y"], t["lens_q"], t["lens_phi_rad"], t["theta_e_arcsec"], x, y)
        gx, gy = func.reduced_deflection_angle_external_shear(t["x"], t["y"], t["g1"], t["g2"], x, y)
        shape = (t["src_q"], t["src_phi_rad"], t["src_n"], t["radius"], t["amp"])
        high = func.brightness_sersic(t["src_x"], t["src_y"], *shape, x - ax - gx, y - ay - gy, t["b_n"])
        low = torch.nn.functional.avg_pool2d(high[:, None], samples)
        blurred = torch.fft.irfft2(torch.fft.rfft2(low, (size, size)) * transfers, (size, size))
        return blurred[..., cut, cut], low.sum((1, 2, 3))

    def prepare(tasks):
        t, middle = tasks, (SIDE - 1) / 2
        at = {"x": (t["x_pix"] - middle) * PIXEL, "y": (t["y_pix"] - middle) * PIXEL}
        at |= {"src_x": at["x"] + t["src_x_arcsec"], "src_y": at["y"] + t["src_y_arcsec"], "b_n": sersic.b_n(t["src_n"])}
        at |= {"radius": t["src_reff_arcsec"] / np.sqrt(t["src_q"])}  # theirs is along the major axis
        at |= {"amp": sersic.brightness(t["src_reff_arcsec"], 0.0, t["src_n"], t["src_reff_arcsec"]) * PIXEL**2}
        at |= dict(zip(("g1", "g2"), shear.components(t["shear"], t["shear_phi_rad"]), strict=True))
        return [{name: torch.as_tensor(v[:, None, None], dtype=torch.float32) for name, v in (t | at).items()}]

    return batched(call, prepare, samples)


def galsim() -> Draw:
    """No lensing: three convolved Sersic profiles, for its speed at this stamp."""
    import galsim as gs

    psfs = [gs.Moffat(beta=BETA, fwhm=fwhm) for fwhm in BANDS]

    def draw(tasks):
        stamps = np.empty((len(tasks["x_pix"]), len(BANDS), SIDE, SIDE), np.float32)
        for k in range(len(stamps)):
            t, middle = {name: float(v[k]) for name, v in tasks.items()}, (SIDE - 1) / 2
            round_ = gs.Sersic(n=t["src_n"], half_light_radius=t["src_reff_arcsec"])
            galaxy = round_.shear(q=t["src_q"], beta=t["src_phi_rad"] * gs.radians)
            for b, p in enumerate(psfs):
                image = gs.Image(stamps[k, b], scale=PIXEL)
                gs.Convolve(galaxy, p).drawImage(image, offset=(t["x_pix"] - middle, t["y_pix"] - middle))
        return stamps, np.ones(len(stamps))

    return draw
