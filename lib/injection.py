"""One brick's tasks -> STAMPS and METRICS rows: cut the windows, render the arcs, add, measure.

One row in, one row out of each table: a task that cannot be made keeps its reason in ``status`` and ``error``,
and its neighbours are made.  Anything but a ``RowError`` is a bug and stops the job, with the task named.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lib import draws, encoding, rows
from lib.errors import OK, RowError
from lib.imaging import noise, photometry, psf
from lib.lensing import magnification, render, shear, sie
from lib.place import Place
from lib.schemas import BANDS, METRICS, PLANES, STAMPS
from lib.survey import masks, wcs
from lib.survey.bricks import Brick
from lib.tiers import Tier

REACH_PIX = 16  # how far beyond the stamp an arc may reach: its light there still has wings in the stamp
SHAPE = [
    "theta_e_arcsec", "lens_e", "lens_phi_rad", "shear", "shear_phi_rad", "src_x_arcsec", "src_y_arcsec", "src_n", "src_reff_arcsec",
    "src_e", "src_phi_rad",
]  # fmt: skip
FINITE = [
    "theta_e_arcsec", "src_dmag", "src_reff_arcsec", "src_n", "src_e", "shear", "lens_e", "lens_phi_rad",
    "shear_phi_rad", "src_phi_rad", "src_x_arcsec", "src_y_arcsec", "src_gr", "src_rz", "ra_deg", "dec_deg", "mag_r_observed",
]  # fmt: skip


def inject(tasks: pa.Table, survey: Place, tier: Tier) -> dict[str, pa.Table]:
    """STAMPS and METRICS rows of the MANIFEST rows of one brick, in their order."""
    names = set(tasks["brickname"].to_pylist())
    if len(names) != 1:
        raise ValueError(f"tasks of one brick, please, got {sorted(names)}")
    with Brick(survey, names.pop()) as brick:
        tasks_ = tasks.to_pylist()
        cuts = [_attempt(task, lambda task=task: _cut(task, brick, tier)) for task in tasks_]
        arcs = iter(_arcs([c for c in cuts if isinstance(c, Cut)]))
        rows_ = [_attempt(c.task, lambda c=c: _finish(c, next(arcs), tier)) if isinstance(c, Cut) else c for c in cuts]
    stamps, metrics = zip(*(_rows(task, made, tier) for task, made in zip(tasks_, rows_, strict=True)), strict=True)
    told = {name: [row.get(name) for row in metrics] for name in METRICS.names[len(tasks.column_names) :]}
    carried = {name: tasks[name] for name in tasks.column_names}
    plain = {name: [row.get(name) for row in stamps] for name in STAMPS.names if name not in ("encoding", *PLANES)}
    return {
        "stamps": rows.table(plain | _pixels(stamps, tier), STAMPS),
        "metrics": rows.table(carried | told, METRICS),
    }


def _pixels(stamps, tier: Tier) -> dict[str, pa.Array]:
    """The pixel columns of rows that hold their planes as arrays, or none; rows of one side at a time, in their order."""
    parts = []
    for side, some in itertools.groupby(stamps, key=lambda row: row["stamp_side_pix"]):
        found = list(some)
        stamp, arc, invvar = np.zeros((3, len(found), len(BANDS), side, side), np.float32)
        mask = np.zeros((len(found), side, side), np.uint8)
        for k, row in enumerate(found):
            for plane, name in ((stamp, "stamp"), (arc, "arc"), (invvar, "invvar"), (mask, "mask")):
                plane[k] = row.get(name, 0)
        parts.append(encoding.pixel_columns(stamp, arc, invvar, mask, tier, [row["status"] == OK for row in found]))
    return {name: pa.concat_arrays([part[name] for part in parts]) for name in parts[0]}


def _attempt(task: dict, step):
    """What ``step`` gives, or the fault of the data that stopped it; a bug goes on up, with the task named."""
    try:
        return step()
    except RowError as error:
        return error
    except Exception as error:
        error.add_note(f"task_id={task['task_id']} brick={task['brickname']}")
        raise


def _rows(task: dict, made, tier: Tier) -> tuple[dict, dict]:
    """The STAMPS and METRICS columns of a task, made or not."""
    stamp = {k: task[k] for k in ("task_id", "split", "brickname", "role", "stamp_side_pix")} | {"bands": "".join(tier.stamp.bands)}
    if isinstance(made, RowError):
        told = {"status": made.code, "error": str(made)}
        return stamp | told, told
    pixels, measured = made
    fine = {"status": OK, "error": None}
    return stamp | fine | pixels, fine | measured


@dataclass(frozen=True)
class Cut:
    """A task with its window of the survey: what its arc is drawn into.  ``x, y`` is the host in the stamp, in pixels of ``scale`` arcsec."""

    task: dict
    x: float
    y: float
    scale: float
    image: np.ndarray
    invvar: np.ndarray
    bits: np.ndarray | None
    bad: np.ndarray
    psfs: list
    sources: list[str]
    fluxes: np.ndarray


def _cut(task: dict, brick: Brick, tier: Tier) -> Cut:
    _require_physical(task)
    side = task["stamp_side_pix"]
    x0, y0, x, y = _place(task, brick, side)
    image, invvar = (np.stack([_window(brick, kind, b, x0, y0, side) for b in BANDS]).astype(np.float32) for kind in ("image", "invvar"))
    bits = _window(brick, "maskbits", "", x0, y0, side) if brick.has("maskbits") else None
    bad = _bad(invvar, bits)
    _require_good(image, invvar, bad, round(x), round(y), tier)
    psfs, sources = _psfs(task, brick, x0 + round(x), y0 + round(y), tier)
    reach = abs(task["theta_e_arcsec"]) + np.hypot(task["src_x_arcsec"], task["src_y_arcsec"])
    if reach / brick.pixel_scale_arcsec > side / 2 + REACH_PIX:
        raise RowError("too_large", f"theta_e={task['theta_e_arcsec']:g} arcsec and its source do not fit {side + 2 * REACH_PIX} px")
    return Cut(task, x, y, brick.pixel_scale_arcsec, image, invvar, bits, bad, psfs, sources, source_fluxes(task))


def _window(brick: Brick, kind: str, band: str, x0: int, y0: int, side: int) -> np.ndarray:
    pixels, faults = brick.windows(kind, band, [x0], [y0], side, side)
    if faults:
        raise faults[0]
    return pixels[0]


def _finish(cut: Cut, drawn: tuple, tier: Tier) -> tuple[dict, dict]:
    arc, lensed = drawn
    measured = _measure(cut, arc, lensed)
    measured |= {f"psf_source_{b}": source for b, source in zip(BANDS, cut.sources, strict=True)}
    measured["pixel_scale_arcsec"] = cut.scale
    measured = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in measured.items()}
    seen, weight = expose(cut.task, cut.image, cut.invvar, arc, tier)
    pixels = {
        "x_pix": cut.x, "y_pix": cut.y, "stamp": seen, "arc": arc, "invvar": weight, "mask": _mask(cut.bad, cut.bits),
    }  # fmt: skip
    return pixels, measured


def _require_physical(task: dict) -> None:
    wrong = [f"{k}={task[k]}" for k in FINITE if task[k] is None or not np.isfinite(task[k])]
    if not wrong:
        limits = {f.name: f.metadata for f in METRICS}
        for k in FINITE:
            low, high = limits[k].get(b"low"), limits[k].get(b"high")
            if (low and task[k] < float(low) - 1e-6) or (high and task[k] > float(high) + 1e-6):
                wrong.append(f"{k}={task[k]:g} not in [{low.decode()}, {high.decode()}]")
    if wrong:
        raise RowError("bad_row", ", ".join(wrong))


def _place(task: dict, brick: Brick, side: int) -> tuple[int, int, float, float]:
    """(x0, y0) of the stamp's first pixel in the brick, and the host's (x, y) in the stamp, sub-pixel."""
    x, y = (float(v) for v in wcs.to_pixel(brick.wcs, task["ra_deg"], task["dec_deg"]))
    ny, nx = brick.shape
    if not (-0.5 <= x < nx - 0.5 and -0.5 <= y < ny - 0.5):
        raise RowError("outside", f"the host at x={x:.1f}, y={y:.1f} is not on the {nx} x {ny} px of brick {brick.name}")
    x0, y0 = int(np.floor(x + 0.5)) - side // 2, int(np.floor(y + 0.5)) - side // 2
    if x0 < 0 or y0 < 0 or x0 + side > nx or y0 + side > ny:
        raise RowError("edge", f"the stamp of the host at x={x:.1f}, y={y:.1f} reaches over the brick's edge")
    return x0, y0, x - x0, y - y0


def _bad(invvar, bits):
    """(bands, side, side): no weight, or masked in that band."""
    bad = ~(invvar > 0)
    if bits is not None:
        for k, band in enumerate(BANDS):
            bad[k] |= (bits & masks.bad_bits(band)) != 0
    return bad


def _require_good(image, invvar, bad, x: int, y: int, tier: Tier) -> None:
    r = tier.stamp.centre_radius_pix
    for k, band in enumerate(BANDS):
        if wrong := int((~(np.isfinite(image[k]) & np.isfinite(invvar[k]))).sum()):
            raise RowError("nan", f"band {band} has {wrong} pixels that are not finite")
        share = float((invvar[k] > 0).mean())
        if share < tier.stamp.good_fraction_min:
            raise RowError("no_coverage", f"band {band} has weight in {share:.3f} of the stamp")
        if bad[k, y - r : y + r + 1, x - r : x + r + 1].any():
            raise RowError("masked_centre", f"band {band} is masked at the host's centre")


def _psfs(task: dict, brick: Brick, x: int, y: int, tier: Tier):
    """(PSF of each band, where each came from): the first of the tier's preferred sources that has one."""
    found, sources = [], []
    for band in BANDS:
        for source in tier.psf.prefer:
            made = _psf(task, brick, x, y, band, source, tier)
            if made is not None:
                found.append(made)
                sources.append(source)
                break
        else:
            raise RowError("no_psf", f"band {band} has no PSF from {', '.join(tier.psf.prefer)}")
    return found, sources


def _psf(task: dict, brick: Brick, x: int, y: int, band: str, source: str, tier: Tier):
    if source == "coadd":
        kernel = brick.kernel(band) if brick.has("copsf", band) else np.zeros((1, 1))
        return psf.Pixelised(kernel) if np.isfinite(kernel).all() and kernel.sum() > 0 else None
    if source == "map":
        size = float(_window(brick, "psfsize", band, x, y, 1)[0, 0]) if brick.has("psfsize", band) else None
    else:
        size = task[f"brick_psfsize_{band}_arcsec" if source == "brick" else f"psfsize_{band}_arcsec"]
    if size is None or not 0.2 < size < 20.0:
        return None
    if tier.psf.profile == "gaussian":
        return psf.gaussian_from_psfsize(size)
    return psf.moffat_from_psfsize(size, tier.psf.beta[band])


def source_fluxes(task: dict) -> np.ndarray:
    """Unlensed flux of the source in g, r, z: ``src_dmag`` fainter than the host's r, its own colours; 0 for a control.

    The host's magnitude as observed: the survey's pixels are not corrected for extinction either.
    """
    if task["role"] != "injected":
        return np.zeros(len(BANDS))
    r = task["mag_r_observed"] + task["src_dmag"]
    return photometry.flux([r + task["src_gr"], r, r - task["src_rz"]])


def scene(tasks: list[dict], x, y) -> render.Scene:
    """The lenses and sources of MANIFEST rows, the lenses at (x, y) of their stamps."""
    theta_e, lens_e, phi, g, g_phi, src_x, src_y, n, r_eff, src_e, src_phi = (np.array([t[k] for t in tasks], float) for k in SHAPE)
    lens, source = (theta_e, sie.axis_ratio(lens_e), phi, g, g_phi), (n, r_eff, sie.axis_ratio(src_e), src_phi)
    return render.Scene(x, y, *lens, src_x, src_y, *source)


def light(tasks: list[dict], x, y, side: int, psfs, fluxes, pixel_arcsec):
    """(light added to each pixel (tasks, bands, side, side) float32, lensed flux (tasks, bands)) of MANIFEST rows.

    The hosts are at (x, y) of their stamps; ``psfs`` and ``fluxes`` a row of bands a task.  Zero flux goes the same way.
    """
    fluxes = np.asarray(fluxes, float)
    arcs, mu = render.draw(scene(tasks, np.asarray(x), np.asarray(y)), fluxes, psfs, side, pixel_arcsec, reach_pix=REACH_PIX)
    return arcs, mu[:, None] * fluxes


def _arcs(cuts: list[Cut]) -> list:
    """``light`` of every cut, in order; stamps of one side are drawn together."""
    made: list = [None] * len(cuts)
    sides = np.array([c.task["stamp_side_pix"] for c in cuts])
    for side in np.unique(sides):
        mine = np.flatnonzero(sides == side)
        try:
            drawn = _drawn([cuts[k] for k in mine])
        except Exception:  # a bug, raised again below: drawn alone, the task at fault names itself
            for k in mine:
                _attempt(cuts[k].task, lambda k=k: _drawn([cuts[k]]))
            raise
        for k, arc, lensed in zip(mine, *drawn, strict=True):
            made[k] = arc, lensed
    return made


def _drawn(cuts: list[Cut]):
    x, y, fluxes = (np.array([getattr(c, name) for c in cuts]) for name in ("x", "y", "fluxes"))
    return light([c.task for c in cuts], x, y, cuts[0].task["stamp_side_pix"], [c.psfs for c in cuts], fluxes, cuts[0].scale)


def expose(task, image, invvar, arc, tier: Tier):
    """(stamp, invvar) float32 with the arc and, if the tier asks for it, the noise of its own electrons, seeded by the row."""
    if not arc.any():
        return image, invvar
    seen, weight = image.astype(float) + arc, invvar.astype(float)
    if tier.noise.poisson:
        gain = np.array([tier.noise.gain[b] for b in BANDS])[:, None, None]
        seen += noise.poisson(arc, gain, draws.rng(task["seed"], task["task_id"], "arc electrons"))
        weight = noise.raise_variance(weight, arc, gain)
    return seen.astype(np.float32), weight.astype(np.float32)


def _mask(bad, bits):
    out = np.zeros(bad.shape[1:], np.uint8)
    for k in range(len(BANDS)):
        out |= (bad[k] << k).astype(np.uint8)
    if bits is not None:
        out |= (((bits & (masks.WISE | masks.BRIGHT_STAR)) != 0) << 7).astype(np.uint8)
    return out


def _measure(cut: Cut, arc, lensed) -> dict:
    """METRICS columns.  Null is not measured: a control has no arc, and a measured zero is a zero."""
    task, fluxes, invvar, bad, bits, psfs = cut.task, cut.fluxes, cut.invvar, cut.bad, cut.bits, cut.psfs
    out: dict = {
        "bad_pixel_frac": float(bad.any(axis=0).mean()),
        "wise_brightmask_frac": None if bits is None else float(((bits & masks.WISE) != 0).mean()),
    }
    for k, band in enumerate(BANDS):
        out[f"psf_fwhm_used_{band}_arcsec"] = psf.fwhm(psfs[k], cut.scale)
        out[f"psfsize_used_{band}_arcsec"] = psf.size(psfs[k], cut.scale)
    if task["role"] != "injected":
        return out
    r = BANDS.index("r")
    stamp_flux = arc.sum(axis=(1, 2), dtype=float)
    for k, band in enumerate(BANDS):
        out |= {
            f"flux_unlensed_{band}": fluxes[k], f"flux_lensed_{band}": lensed[k], f"flux_stamp_{band}": stamp_flux[k],
        }  # fmt: skip
    g1, g2 = shear.components(task["shear"], task["shear_phi_rad"])
    lens = (task["theta_e_arcsec"], sie.axis_ratio(task["lens_e"]), task["lens_phi_rad"], g1, g2)
    place = (task["src_x_arcsec"], task["src_y_arcsec"])
    source = (task["src_n"], task["src_reff_arcsec"], sie.axis_ratio(task["src_e"]), task["src_phi_rad"])
    snr = photometry.signal_to_noise(arc[r], np.where(bad[r], 0.0, invvar[r]))
    total, mu, width = stamp_flux[r], lensed[r] / fluxes[r], out["psf_fwhm_used_r_arcsec"]
    return out | {
        "magnification": mu,
        "magnification_expected": float(magnification.of_source(*lens, *place, *source)[0]),
        "n_images": int(magnification.images(*lens, *place)[0]),
        "stamp_flux_fraction": total / lensed[r],
        "arc_snr": snr[0], "arc_snr_total": snr[1], "arc_snr_peak": snr[2],
        "theta_e_over_psf": task["theta_e_arcsec"] / width,
        "detectable": photometry.detectable(task["theta_e_arcsec"], task["src_reff_arcsec"], width, mu, snr[0]),
        "arc_bad_pixel_frac": float(arc[r][bad[r]].sum()) / total,
        "core_flux_fraction": photometry.core_fraction(arc[r], cut.x, cut.y),
    }  # fmt: skip
