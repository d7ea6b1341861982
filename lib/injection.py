"""One brick's tasks -> STAMPS and METRICS rows: cut the windows, render the arcs, add, measure.

One row in, one row out of each table: a task that cannot be made keeps its reason in ``status`` and ``error``,
and its neighbours are made.  Anything but a ``RowError`` is a bug and stops the job, with the task named.

Rows are handled by columns, hundreds at a time; what is in a row does not depend on the others.
"""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from lib import cuts, draws, encoding, rows
from lib.errors import OK
from lib.imaging import arcs, noise, photometry, psf
from lib.lensing import magnification, render, shear, sie
from lib.place import Place
from lib.schemas import BANDS, MAGNITUDES, METRICS, SHAPE, STAMPS
from lib.survey import masks
from lib.survey.bricks import Brick
from lib.tiers import Tier

READ, REQUESTS = "bytes read", "requests"
CHUNK_BYTES = 1 << 23  # of a plane of the rows that are made at a time: memory that is used again, not asked for anew
LIGHT_BITS = 15  # of a mantissa: 2**-16 of a pixel, less than the renderer is good to; the lowest byte is 0 and takes no room


def inject(tasks: pa.Table, survey: Place, tier: Tier, read: Counter | None = None) -> dict[str, pa.Table]:
    """STAMPS and METRICS rows of the MANIFEST rows of one brick, in their order; what was read of the survey is added to ``read``."""
    names = set(tasks["brickname"].to_pylist())
    if len(names) != 1:
        raise ValueError(f"tasks of one brick, please, got {sorted(names)}")
    try:
        with Brick(survey, names.pop()) as brick:
            made = _inject(tasks, brick, tier)
            if read is not None:
                read.update({READ: brick.bytes_read, REQUESTS: brick.requests})
            return made
    except Exception as error:  # a bug, not a bad row: made alone, the task at fault names itself
        if tasks.num_rows == 1:
            error.add_note(f"task_id={tasks['task_id'][0].as_py()} brick={tasks['brickname'][0].as_py()}")
        else:
            for k in range(tasks.num_rows):
                inject(tasks.slice(k, 1), survey, tier)
        raise


def _inject(tasks: pa.Table, brick: Brick, tier: Tier) -> dict[str, pa.Table]:
    sides, made, order = tasks["stamp_side_pix"].to_numpy(), [], []
    for side in np.unique(sides).tolist():
        mine = np.flatnonzero(sides == side)
        some = tasks if len(mine) == len(sides) else tasks.take(mine)
        cut = cuts.of(some, side, brick, tier)
        step = max(1, CHUNK_BYTES // (4 * len(BANDS) * side * side))
        made += [_tables(some, cut, first, min(first + step, len(mine)), tier) for first in range(0, len(mine), step)]
        order.append(mine)
    stamps, metrics = (pa.concat_tables(tables) for tables in zip(*made, strict=True))
    if len(order) > 1:
        back = np.argsort(np.concatenate(order))
        stamps, metrics = stamps.take(back), metrics.take(back)
    return {"stamps": stamps, "metrics": metrics}


def _tables(tasks: pa.Table, cut: cuts.Cuts, first: int, last: int, tier: Tier) -> tuple[pa.Table, pa.Table]:
    """STAMPS and METRICS of the tasks [first, last) of one side."""
    some, faults = tasks.slice(first, last - first), cut.faults[first:last]
    fine = np.flatnonzero([fault is None for fault in faults])
    site = cut.site[first + fine]
    stamp, invvar = cut.image[site], cut.invvar[site]
    arc = np.zeros_like(stamp)
    told = {k: _placed(v, fine, len(faults)) for k, v in _seen(cut, first + fine).items()}
    told |= {f"psf_source_{b}": [cut.sources[first + k][i] for k in range(len(faults))] for i, b in enumerate(BANDS)}
    mine = np.flatnonzero(some["role"].take(fine).to_numpy() == "injected")
    if len(mine):
        arc[mine], measured = _arcs(some.take(fine[mine]), cut, first + fine[mine])
        told |= {k: _placed(v, fine[mine], len(faults)) for k, v in measured.items()}
        _expose(some["seed"].to_numpy()[fine], stamp, invvar, arc, tier, mine)
    status = {
        "status": [fault.code if fault else OK for fault in faults],
        "error": [str(fault) if fault else None for fault in faults],
    }
    planes = {"stamp": stamp, "arc": arc, "invvar": invvar, "mask": _mask(cut)[site]}
    stamps = {k: some[k] for k in ("task_id", "split", "brickname", "role", "stamp_side_pix")} | status
    stamps |= {"bands": ["".join(tier.stamp.bands)] * len(faults)}
    stamps |= {k: _placed(v[first + fine], fine, len(faults)) for k, v in (("x_pix", cut.x), ("y_pix", cut.y))}
    made = np.isin(np.arange(len(faults)), fine)
    stamps |= encoding.pixel_columns(**{k: _spread(v, fine, len(faults)) for k, v in planes.items()}, tier=tier, made=made)
    return rows.table(stamps, STAMPS), rows.table({k: some[k] for k in some.column_names} | status | told, METRICS)


def _spread(values, at, count: int) -> np.ndarray:
    """(count, ...) with ``values`` in the rows ``at``, 0 elsewhere."""
    if len(at) == count:
        return values
    out = np.zeros((count, *values.shape[1:]), values.dtype)
    out[at] = values
    return out


def _placed(values, at, count: int) -> pa.Array:
    """A column of ``count`` rows with ``values`` in the rows ``at``; null elsewhere and where not a number."""
    out, missing = np.zeros(count, values.dtype), np.ones(count, bool)
    out[at], missing[at] = values, values != values
    return pa.array(out, mask=missing)


def _seen(cut: cuts.Cuts, at) -> dict[str, np.ndarray]:
    """METRICS columns of the survey at the tasks ``at``: masks and PSFs.  Null is not measured."""
    site, psfs = cut.site[at], [cut.psfs[k] for k in at]
    known = {id(row): [f(p, cut.scale) for f in (psf.fwhm, psf.size) for p in row] for row in {id(row): row for row in psfs}.values()}
    looks = np.array([known[id(row)] for row in psfs]).reshape(len(psfs), 2 * len(BANDS))
    names = [f"{kind}_used_{b}_arcsec" for kind in ("psf_fwhm", "psfsize") for b in BANDS]
    star = np.full(len(cut.bad), np.nan) if cut.bits is None else ((cut.bits & masks.WISE) != 0).mean(axis=(1, 2))
    out = {"bad_pixel_frac": cut.bad.any(axis=1).mean(axis=(1, 2))[site], "wise_brightmask_frac": star[site]}
    return out | dict(zip(names, looks.T, strict=True)) | {"pixel_scale_arcsec": np.full(len(at), cut.scale)}


def _arcs(tasks: pa.Table, cut: cuts.Cuts, at) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(light (tasks, bands, side, side), METRICS columns) of the injections ``tasks``, the cuts' rows ``at``."""
    task = {k: cuts.column(tasks, k) for k in (*SHAPE, *MAGNITUDES)}
    site, psfs, fluxes = cut.site[at], [cut.psfs[k] for k in at], _fluxes(task)
    made, lensed = light(task, cut.x[at], cut.y[at], cut.image.shape[-1], psfs, fluxes, cut.scale)
    r = BANDS.index("r")
    held, told = arcs.measure(made, cut.invvar, cut.bad, site, cut.x[at], cut.y[at], r)
    theta_e, r_eff, mu, total = task["theta_e_arcsec"], task["src_reff_arcsec"], lensed[:, r] / fluxes[:, r], held[:, r]
    g1, g2 = shear.components(task["shear"], task["shear_phi_rad"])
    lens = (theta_e, sie.axis_ratio(task["lens_e"]), task["lens_phi_rad"], g1, g2)
    place = (task["src_x_arcsec"], task["src_y_arcsec"])
    source = (task["src_n"], r_eff, sie.axis_ratio(task["src_e"]), task["src_phi_rad"])
    width = np.array([psf.fwhm(row[r], cut.scale) for row in psfs])
    out = {
        f"flux_{kind}_{b}": f[:, k] for kind, f in (("unlensed", fluxes), ("lensed", lensed), ("stamp", held)) for k, b in enumerate(BANDS)
    }
    return made, out | {k: v for k, v in told.items() if k in METRICS.names} | {
        "magnification": mu,
        "magnification_expected": magnification.of_source(*lens, *place, *source),
        "n_images": magnification.images(*lens, *place),
        "stamp_flux_fraction": total / lensed[:, r],
        "theta_e_over_psf": theta_e / width,
        "detectable": photometry.detectable(theta_e, r_eff, width, mu, told["arc_snr"]),
        "arc_bad_pixel_frac": told["bad_flux"] / total,
        "core_flux_fraction": np.where(total > 0, told["core_flux"] / total, np.nan),
    }  # fmt: skip


def _fluxes(task: Mapping) -> np.ndarray:
    r = task["mag_r_observed"] + task["src_dmag"]
    return photometry.flux(np.stack([r + task["src_gr"], r, r - task["src_rz"]], axis=-1))


def source_fluxes(task: Mapping) -> np.ndarray:
    """Unlensed flux of the source in g, r, z: ``src_dmag`` fainter than the host's r, its own colours; 0 for a control.

    The host's magnitude as observed: the survey's pixels are not corrected for extinction either.
    """
    return _fluxes(task) if task["role"] == "injected" else np.zeros(len(BANDS))


def scene(task: Mapping, x, y) -> render.Scene:
    """The lenses and sources of columns of MANIFEST, the lenses at (x, y) of their stamps."""
    theta_e, lens_e, phi, g, g_phi, src_x, src_y, n, r_eff, src_e, src_phi = (task[k] for k in SHAPE)
    lens, source = (theta_e, sie.axis_ratio(lens_e), phi, g, g_phi), (n, r_eff, sie.axis_ratio(src_e), src_phi)
    return render.Scene(x, y, *lens, src_x, src_y, *source)


def light(tasks: Mapping | list[dict], x, y, side: int, psfs, fluxes, pixel_arcsec):
    """(light added to each pixel (tasks, bands, side, side) float32, lensed flux (tasks, bands)) of MANIFEST rows or columns.

    The hosts are at (x, y) of their stamps; ``psfs`` and ``fluxes`` a row of bands a task.  Zero flux goes the same way.  Each pixel is
    rounded to ``LIGHT_BITS``.
    """
    task = tasks if isinstance(tasks, Mapping) else {k: np.array([t[k] for t in tasks], float) for k in SHAPE}
    fluxes = np.asarray(fluxes, float)
    drawn, mu = render.draw(scene(task, np.asarray(x), np.asarray(y)), fluxes, psfs, side, pixel_arcsec, reach_pix=cuts.REACH_PIX)
    encoding.round_bits(drawn, LIGHT_BITS)
    return drawn, mu[:, None] * fluxes


def expose(task: Mapping, image, invvar, arc, tier: Tier):
    """(stamp, invvar) (bands, side, side) float32 of a row with its arc and, if the tier asks for it, the noise of its own electrons."""
    stamp, weight = (np.array(plane, np.float32)[None] for plane in (image, invvar))
    _expose([task["seed"]], stamp, weight, np.asarray(arc, np.float32)[None], tier, [0])
    return stamp[0], weight[0]


def _expose(seed, stamp, invvar, arc, tier: Tier, mine) -> None:
    """``expose`` of the rows ``mine``, in place; ``seed`` of every row is the task's own."""
    if not tier.noise.poisson:
        stamp[mine] += arc[mine]
        return
    gain = [tier.noise.gain[b] for b in BANDS]
    noise.expose(stamp, invvar, arc, gain, draws.hash64("arc electrons", 0, seed), mine)


def _mask(cut: cuts.Cuts) -> np.ndarray:
    """(sites, side, side): bit b where band b is bad, bit 7 under the masks of bright stars."""
    out = np.zeros((len(cut.bad), *cut.bad.shape[2:]), np.uint8)
    for k in range(len(BANDS)):
        out |= cut.bad[:, k].astype(np.uint8) << k
    if cut.bits is not None:
        out |= ((cut.bits & (masks.WISE | masks.BRIGHT_STAR)) != 0).astype(np.uint8) << 7
    return out
