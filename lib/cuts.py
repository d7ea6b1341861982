"""What tasks of one brick are drawn into: their windows of the survey, masks and PSFs, or what is wrong with them.

The first fault of a task is the one it tells.  Tasks at one place (a host with its many configs and its control) share a *site*: its pixels
are read, checked and masked once.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lib.errors import RowError
from lib.imaging import psf
from lib.schemas import BANDS, METRICS, fact
from lib.survey import masks, wcs
from lib.survey.bricks import Brick, wanted
from lib.tiers import Tier

REACH_PIX = 16  # how far beyond the stamp an arc may reach: its light there still has wings in the stamp
FINITE = [
    "theta_e_arcsec", "src_dmag", "src_reff_arcsec", "src_n", "src_e", "shear", "lens_e", "lens_phi_rad",
    "shear_phi_rad", "src_phi_rad", "src_x_arcsec", "src_y_arcsec", "src_gr", "src_rz", "ra_deg", "dec_deg", "mag_r_observed",
]  # fmt: skip
SIZES = {"brick": "brick_psfsize_{b}_arcsec", "catalogue": "psfsize_{b}_arcsec"}  # a tier's sources of the PSF that are columns


@dataclass
class Cuts:
    """Tasks, ``faults`` their errors or None.  Of those without: the host at ``x, y`` (pixels) of its stamp, the number of its ``site``, and its
    PSFs and where they came from, one object for all tasks whose PSFs are the same.

    ``image``, ``invvar``, ``bad`` (sites, bands, side, side), ``bits`` (sites, side, side) or None.  A pixel is ``scale`` arcsec.
    """

    faults: list[RowError | None]
    x: np.ndarray
    y: np.ndarray
    site: np.ndarray
    psfs: list[tuple]
    sources: list[tuple]
    scale: float
    image: np.ndarray
    invvar: np.ndarray
    bits: np.ndarray | None
    bad: np.ndarray


def column(tasks: pa.Table, name: str) -> np.ndarray:
    """A column of numbers in float64; NaN for null."""
    return tasks[name].to_numpy().astype(float)


def of(tasks: pa.Table, side: int, brick: Brick, tier: Tier) -> Cuts:
    """The cuts of MANIFEST rows whose stamps are ``side`` pixels wide."""
    faults: list[RowError | None] = _unphysical(tasks)
    if len(_open(faults)):
        brick.begin(wanted(BANDS, tier.psf.prefer[:1]))
    x0, y0, x, y = _places(tasks, side, brick, faults)
    fine = _open(faults)
    corners = np.stack([x0, y0, np.rint(x), np.rint(y)], axis=1)[fine].astype(int)
    corners, which = np.unique(corners, axis=0, return_inverse=True)
    site = np.full(len(faults), -1)
    site[fine] = which.ravel()
    image, invvar, bits, wrong = _pixels(corners, side, brick)
    bad = _bad(invvar, bits)
    _check(image, invvar, bad, corners[:, 2:], wrong, tier)
    for k in fine:
        faults[k] = wrong[site[k]]
    psfs, sources = _psfs(tasks, site, corners[:, :2] + corners[:, 2:], brick, tier, faults)
    scale = _scale(tasks, side, brick, faults)
    return Cuts(faults, x, y, site, psfs, sources, scale, image, invvar, bits, bad)


def _open(faults: list) -> np.ndarray:
    return np.array([k for k, fault in enumerate(faults) if fault is None], int)


def _fail(faults: list, rows: Iterable, error: RowError) -> None:
    for k in rows:
        faults[k] = faults[k] or error


def _unphysical(tasks: pa.Table) -> list[RowError | None]:
    values = np.stack([column(tasks, name) for name in FINITE])
    limits = [[float(fact(METRICS.field(name), key) or none) for key, none in (("low", "-inf"), ("high", "inf"))] for name in FINITE]
    low, high = np.array(limits).T[:, :, None]
    finite, within = np.isfinite(values), (values >= low - 1e-6) & (values <= high + 1e-6)
    faults: list[RowError | None] = [None] * tasks.num_rows
    for k in np.flatnonzero(~(finite & within).all(axis=0)):
        wrong = [f"{name}={tasks[name][int(k)].as_py()}" for name, f in zip(FINITE, finite[:, k], strict=True) if not f]
        if not wrong:
            outside = [(name, v, METRICS.field(name)) for name, v, w in zip(FINITE, values[:, k], within[:, k], strict=True) if not w]
            wrong = [f"{name}={v:g} not in [{fact(field, 'low')}, {fact(field, 'high')}]" for name, v, field in outside]
        faults[k] = RowError("bad_row", ", ".join(wrong))
    return faults


def _places(tasks: pa.Table, side: int, brick: Brick, faults: list):
    """(x0, y0) of the stamps' first pixels in the brick, and the hosts' (x, y) in the stamps, sub-pixel."""
    fine, n = _open(faults), len(faults)
    out = np.zeros((4, n))
    try:
        ny, nx = brick.shape if len(fine) else (0, 0)
        if len(fine):
            out[2:, fine] = wcs.to_pixel(brick.wcs, *(column(tasks, name)[fine] for name in ("ra_deg", "dec_deg")))
    except RowError as error:
        _fail(faults, fine, error)
        return out
    x, y = out[2:]
    on = (x >= -0.5) & (x < nx - 0.5) & (y >= -0.5) & (y < ny - 0.5)
    x0, y0 = (np.floor(np.where(on, v, 0.0) + 0.5) - side // 2 for v in (x, y))
    whole = (x0 >= 0) & (y0 >= 0) & (x0 + side <= nx) & (y0 + side <= ny)
    for k in fine[~(on & whole)[fine]]:
        host = f"the host at x={x[k]:.1f}, y={y[k]:.1f}"
        if on[k]:
            faults[k] = RowError("edge", f"the stamp of {host} reaches over the brick's edge")
        else:
            faults[k] = RowError("outside", f"{host} is not on the {nx} x {ny} px of brick {brick.name}")
    return x0, y0, x - x0, y - y0


def _pixels(corners, side: int, brick: Brick):
    """(image, invvar, bits or None, faults) of sites; of no meaning where there is a fault."""
    n = len(corners)
    faults: list[RowError | None] = [None] * n
    image, invvar = np.zeros((2, n, len(BANDS), side, side), np.float32)
    planes = [(kind, band) for kind in ("image", "invvar") for band in BANDS] + ([("maskbits", "")] if brick.has("maskbits") else [])
    bits = np.zeros((n, side, side), np.int32) if len(planes) > 2 * len(BANDS) else None

    def read(plane):
        kind, band = plane
        try:
            return brick.windows(kind, band, corners[:, 0], corners[:, 1], side, side)
        except RowError as error:
            return None, dict.fromkeys(range(n), error)

    for (kind, band), (pixels, wrong) in zip(planes, brick.each(read, planes) if n else (), strict=bool(n)):
        for k, fault in wrong.items():
            faults[k] = faults[k] or fault
        if kind == "maskbits":
            bits = bits if pixels is None else pixels
        elif pixels is not None:
            (image if kind == "image" else invvar)[:, BANDS.index(band)] = pixels
    return image, invvar, bits, faults


def _bad(invvar, bits):
    """(sites, bands, side, side): no weight, or masked in that band."""
    bad = ~(invvar > 0)
    if bits is not None:
        for k, band in enumerate(BANDS):
            bad[:, k] |= (bits & masks.bad_bits(band)) != 0
    return bad


def _check(image, invvar, bad, centre, faults: list, tier: Tier) -> None:
    """Whether there is enough to see, band by band."""
    r = tier.stamp.centre_radius_pix
    lost = (~(np.isfinite(image) & np.isfinite(invvar))).sum(axis=(2, 3))
    share = (invvar > 0).mean(axis=(2, 3))
    for k in _open(faults):
        x, y = centre[k]
        hidden = bad[k, :, y - r : y + r + 1, x - r : x + r + 1].any(axis=(1, 2))
        for b, band in enumerate(BANDS):
            if lost[k, b]:
                faults[k] = RowError("nan", f"band {band} has {lost[k, b]} pixels that are not finite")
            elif share[k, b] < tier.stamp.good_fraction_min:
                faults[k] = RowError("no_coverage", f"band {band} has weight in {share[k, b]:.3f} of the stamp")
            elif hidden[b]:
                faults[k] = RowError("masked_centre", f"band {band} is masked at the host's centre")
            if faults[k]:
                break


def _psfs(tasks: pa.Table, site, hosts, brick: Brick, tier: Tier, faults: list):
    """(PSFs of each task, where they came from): in each band, the first of the tier's preferred sources that has one."""

    def of_band(band: str):
        mine, found, sources = list(faults), np.full(len(faults), None, object), np.full(len(faults), None, object)
        missing = _open(mine)
        for source in tier.psf.prefer:
            if not len(missing):
                break
            try:
                made = _psf(tasks, site, hosts, missing, brick, band, source, tier, mine)
            except RowError as error:
                _fail(mine, missing, error)
                break
            for k, one in zip(missing, made, strict=True):
                found[k], sources[k] = one, source
            missing = missing[[one is None and mine[k] is None for k, one in zip(missing, made, strict=True)]]
        else:
            _fail(mine, missing, RowError("no_psf", f"band {band} has no PSF from {', '.join(tier.psf.prefer)}"))
        return found, sources, mine

    bands = brick.each(of_band, BANDS)
    for _, _, wrong in bands:
        for k, fault in enumerate(wrong):
            faults[k] = faults[k] or fault
    shared: dict[tuple, tuple] = {}
    rows = zip(*(found for found, _, _ in bands), strict=True)
    return [shared.setdefault(tuple(map(id, row)), row) for row in rows], list(zip(*(sources for _, sources, _ in bands), strict=True))


def _psf(tasks: pa.Table, site, hosts, mine, brick: Brick, band: str, source: str, tier: Tier, faults: list) -> list:
    """The PSF in a band from one source, or None, of each of the tasks ``mine``; equal ones are one object."""
    if source == "coadd":
        kernel = brick.kernel(band) if brick.has("copsf", band) else np.zeros((1, 1))
        whole = np.isfinite(kernel).all() and kernel.sum() > 0
        return [psf.Pixelised(kernel) if whole else None] * len(mine)
    if source == "map":
        sizes = np.full(len(mine), np.nan)
        if brick.has("psfsize", band):
            asked, which = np.unique(site[mine], return_inverse=True)
            pixels, wrong = brick.windows("psfsize", band, hosts[asked, 0], hosts[asked, 1], 1, 1)
            sizes = pixels[:, 0, 0].astype(float)[which]
            for k in np.flatnonzero(np.isin(which, list(wrong))):
                faults[mine[k]] = wrong[which[k]]
    else:
        sizes = column(tasks, SIZES[source].format(b=band))[mine]
    made: dict[float, psf.Psf | None] = {size: profile(size, band, tier) if 0.2 < size < 20.0 else None for size in set(sizes.tolist())}
    return [made.get(size) for size in sizes.tolist()]


def profile(size: float, band: str, tier: Tier) -> psf.Psf:
    """The PSF of a psfsize, by the tier's profile."""
    if tier.psf.profile == "gaussian":
        return psf.gaussian_from_psfsize(size)
    return psf.moffat_from_psfsize(size, tier.psf.beta[band])


def _scale(tasks: pa.Table, side: int, brick: Brick, faults: list) -> float:
    """The pixels' scale, arcsec; a task whose arc does not fit the canvas is at fault."""
    fine = _open(faults)
    if not len(fine):
        return np.nan
    theta_e, x, y = (column(tasks, name) for name in ("theta_e_arcsec", "src_x_arcsec", "src_y_arcsec"))
    reach = (np.abs(theta_e) + np.hypot(x, y)) / brick.pixel_scale_arcsec
    for k in fine[reach[fine] > side / 2 + REACH_PIX]:
        faults[k] = RowError("too_large", f"theta_e={theta_e[k]:g} arcsec and its source do not fit {side + 2 * REACH_PIX} px")
    return brick.pixel_scale_arcsec
