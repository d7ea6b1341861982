"""Gates on magnification, colour, PSF and resolution, and on flux against the Einstein radius (three parts)."""

from collections import Counter

import numpy as np

from lib import cuts, injection
from lib.imaging import photometry, psf
from lib.lensing import magnification, shear, sie
from lib.schemas import BANDS
from validation import samples
from validation.data import Data
from validation.result import Note, gate, judged, needed, not_applicable, too_few
from validation.tally import Least, Most

PROBE_THETA_E = (0.5, 0.75, 1.0, 1.5, 2.0, 2.5)
PROBE_OFFSET = 0.3
PROBE = {
    "role": "injected", "mag_r_observed": 19.0, "src_dmag": 2.0, "src_gr": 0.3, "src_rz": 0.1, "lens_e": 0.25 / 2.25, "lens_phi_rad": 0.4,
    "shear": 0.0, "shear_phi_rad": 0.0, "src_phi_rad": 0.0, "src_n": 1.0, "src_e": 0.0, "src_reff_arcsec": 0.3,
    "src_x_arcsec": PROBE_OFFSET, "src_y_arcsec": 0.0,
}  # fmt: skip
QUANTILES = 6  # bins of theta_e where it is drawn and not of a grid
EXPECTED, EXPECTED_DRAWN = 16, 32  # arcs of a bin whose mean flux is calculated: where all is drawn, sources differ more
RATIOS = np.linspace(-0.05, 0.05, 2002)  # of magnifications, less 1
FRACTIONS = np.linspace(0.0, 1.0, 1001)
PIXEL_ARCSEC, SIDE = 0.05, 256  # on which a PSF's encircled flux is measured


def _magnified(rows, asked):
    mine, mu = rows.arc, rows["magnification"].astype(float)
    with np.errstate(invalid="ignore"):
        below = mine & (rows["n_images"] >= 2) & (mu < 1.0)
        off = np.abs(mu / rows["magnification_expected"] - 1.0)
    known = mine & ~np.isnan(mu)
    return {
        "n": int(mine.sum()), "null": int((mine & np.isnan(mu)).sum()), "below": int(below.sum()), "least": Least(mu[known].min(initial=np.inf)),
        "examples": rows.few(below | (mine & np.isnan(mu))),
        "far": int((mine & ~(off <= asked.tier.gates.magnification_tail)).sum()),
        "off": np.histogram(np.nan_to_num(mu / rows["magnification_expected"] - 1.0, nan=1.0)[mine].clip(-0.05, 0.05), RATIOS)[0],
        "far examples": rows.few(mine & ~(off <= asked.tier.gates.magnification_tail)),
    }  # fmt: skip


MAGNIFIED = Note("magnifications", "metrics", _magnified)


@gate("magnification", "metrics", "known for every arc, and at least 1 for multiply imaged sources", uses=[MAGNIFIED], at_least=True)
def magnified(data: Data, _) -> object:
    facts = data.noted(MAGNIFIED)
    message = f"{facts['null']} arcs without magnification, {facts['below']} multiply imaged ones below 1"
    return judged(facts["null"] == 0 and facts["below"] == 0, message, measured=facts["least"].value, threshold=1.0, n=facts["n"],
                  examples=facts["examples"].values)  # fmt: skip


def lens_and_source(rows: list[dict]):
    """Arguments of ``magnification.of_source`` from METRICS rows: their labels, nothing measured."""
    columns = {k: np.array([r[k] for r in rows], float) for k in injection.SHAPE}
    g1, g2 = shear.components(columns["shear"], columns["shear_phi_rad"])
    return (columns["theta_e_arcsec"], sie.axis_ratio(columns["lens_e"]), columns["lens_phi_rad"], g1, g2,
            columns["src_x_arcsec"], columns["src_y_arcsec"], columns["src_n"], columns["src_reff_arcsec"],
            sie.axis_ratio(columns["src_e"]), columns["src_phi_rad"])  # fmt: skip


def flux_ratio(rows: list[dict]) -> np.ndarray:
    """Lensed flux in r over the source's, the latter from the host's magnitude and ``src_dmag``: labels only."""
    source = photometry.flux([r["mag_r_observed"] + r["src_dmag"] for r in rows])
    return np.array([r["flux_lensed_r"] if r["flux_lensed_r"] is not None else np.nan for r in rows]) / source


@gate("magnification_ratio", "metrics", "flux against theta_e, part 1: each arc's flux against an independent calculation from its labels",
      uses=[MAGNIFIED, samples.ARCS])  # fmt: skip
def ratio(data: Data, _) -> object:
    """Calculated here for a sample; for all arcs as the table has it, calculated by the same method when they were made."""
    rows, limits, facts = samples.arcs(data), data.tier.gates, data.noted(MAGNIFIED)
    if not rows:
        return judged(False, "no arc to judge")
    found = flux_ratio(rows) / magnification.of_source(*lens_and_source(rows))
    found = np.where(np.isfinite(found), found, np.inf)
    middle = 0.5 * (RATIOS[1:] + RATIOS[:-1])[np.searchsorted(np.cumsum(facts["off"]), 0.5 * facts["off"].sum())]
    half = 0.5 * (RATIOS[1] - RATIOS[0])
    median = max(abs(float(np.median(found)) - 1.0), abs(float(middle) * 2.0) - half)
    far = np.abs(found - 1.0) > limits.magnification_tail
    tail = max(float(far.mean()), facts["far"] / max(1, facts["n"]))
    passed = median < limits.magnification_median and tail <= limits.magnification_tail_share
    message = (f"median off by {median:.5f} (limit {limits.magnification_median:g}), {tail:.4f} of the arcs off by more than "
               f"{limits.magnification_tail:g} (limit {limits.magnification_tail_share:g}); {len(rows)} calculated here, {facts['n']} compared")  # fmt: skip
    examples = tuple(rows[k]["task_id"] for k in np.flatnonzero(far)[:5]) or facts["far examples"].values
    return judged(passed, message, measured=median, threshold=limits.magnification_median, n=facts["n"], examples=examples)


def bins(data: Data) -> list[dict]:
    """Part 2, for the gate and the plot: mean flux ratio and its analytic expectation by theta_e, its values or, if it is drawn, quantiles."""
    if "flux bins" not in data.kept:
        data.kept["flux bins"] = _bins(samples.arcs(data), data)
    return data.kept["flux bins"]


def _bins(rows: list[dict], data: Data) -> list[dict]:
    theta_e, found = np.array([r["theta_e_arcsec"] for r in rows]), flux_ratio(rows)
    if data.tier.resolved is None:
        value = np.round(theta_e, 4)
        parts = [np.flatnonzero(value == v) for v in np.unique(value)]
    else:
        parts = np.array_split(np.argsort(theta_e, kind="stable"), QUANTILES)
    out, some = [], EXPECTED if data.tier.resolved is None else EXPECTED_DRAWN
    for mine in parts:
        expected = np.array([_expected(rows[k], data) for k in mine[:: max(1, len(mine) // some)]])
        few = len(mine) < 2
        error = np.inf if few else np.hypot(found[mine].std(ddof=1) / np.sqrt(len(mine)), expected.std() / np.sqrt(len(expected)))
        out.append({"theta_e": float(np.mean(theta_e[mine])), "low": float(theta_e[mine].min()), "high": float(theta_e[mine].max()),
                    "n": len(mine), "measured": float(found[mine].mean()), "expected": float(expected.mean()), "error": float(error)})  # fmt: skip
    return out


def _expected(r: dict, data: Data) -> float:
    """Mean magnification over all places of the source, by the area theorem: of this lens and this source."""
    disc = data.tier.draws.src_disc_theta_e * r["theta_e_arcsec"]
    lens = (r["theta_e_arcsec"], sie.axis_ratio(r["lens_e"]), r["shear"], r["shear_phi_rad"] - r["lens_phi_rad"])
    return magnification.mean_over_disc(*lens, r["src_n"], r["src_reff_arcsec"], sie.axis_ratio(r["src_e"]), disc)


@gate("flux_theta_e_bins", "metrics", "flux against theta_e, part 2: mean flux ratio by theta_e against the analytic curve",
      uses=[samples.ARCS], unit="sigma")  # fmt: skip
def flux_bins(data: Data, facts) -> object:
    limits = data.tier.gates
    if not samples.arcs(data):
        return judged(False, "no arc to judge")
    if thin := [b for b in _sizes(data) if b[1] < limits.flux_bin_rows_min]:
        told = ", ".join(f"{n} rows at theta_e {t:g}" for t, n in thin[:5])
        return too_few(data.tier, f"{told}; {limits.flux_bin_rows_min} are needed", n=len(samples.arcs(data)))
    found = bins(data)
    off = [abs(b["measured"] - b["expected"]) / b["error"] for b in found]
    off = [x if np.isfinite(x) else np.inf for x in off]
    told = ", ".join(f"{b['theta_e']:.3g}: {b['measured']:.2f} (expected {b['expected']:.2f} +- {b['error']:.2f})" for b in found)
    return judged(max(off) < limits.flux_bin_sigma, f"mean flux ratio at theta_e {told}", measured=max(off),
                  threshold=limits.flux_bin_sigma, n=sum(b["n"] for b in found))  # fmt: skip


def _sizes(data: Data) -> list[tuple[float, int]]:
    """(theta_e, arcs) of each bin."""
    theta_e = [r["theta_e_arcsec"] for r in samples.arcs(data)]
    if data.tier.resolved is not None:
        return [(float(np.mean(part)), len(part)) for part in np.array_split(np.sort(theta_e), QUANTILES) if len(part)]
    return sorted(Counter(np.round(theta_e, 4).tolist()).items())


def probe() -> tuple[np.ndarray, np.ndarray]:
    """Part 3: one host, one source at a fixed offset, rising theta_e, through the shipped injection: (lensed flux, flux in stamp)."""
    psfs = [psf.Moffat(1.1, 2.8)] * len(BANDS)
    fluxes = injection.source_fluxes(PROBE)
    tasks = [PROBE | {"theta_e_arcsec": theta_e} for theta_e in PROBE_THETA_E]
    n = len(tasks)
    arcs, lensed = injection.light(tasks, np.full(n, 32.2), np.full(n, 31.7), 64, [psfs] * n, [fluxes] * n, 0.262)
    return lensed[:, 1], arcs[:, 1].sum(axis=(1, 2), dtype=float)


@gate("flux_theta_e_probe", "metrics", "flux against theta_e, part 3: a fixed source gains flux with theta_e, strictly",
      unit="least step", at_least=True)  # fmt: skip
def flux_probe(data: Data, facts) -> object:
    lensed, stamp = probe()
    rise = float(min(np.diff(lensed).min() / lensed[0], np.diff(stamp).min() / stamp[0]))
    told = ", ".join(f"{t:g}: {f:.3f}" for t, f in zip(PROBE_THETA_E, lensed, strict=True))
    return judged(rise > 0, f"lensed flux (nanomaggy) at theta_e {told}", measured=rise, threshold=0.0, n=len(lensed))


def _colours(rows, asked):
    mine = rows.arc
    out: dict = {"n": int(mine.sum())}
    for name, (a, b) in {"src_gr": ("g", "r"), "src_rz": ("r", "z")}.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = -2.5 * np.log10(rows[f"flux_stamp_{a}"][mine].astype(float) / rows[f"flux_stamp_{b}"][mine])
        off = np.abs(seen - rows[name][mine])
        good = seen[np.isfinite(seen)]
        out |= {f"{name} off": Most(np.where(np.isfinite(off), off, np.inf).max(initial=-np.inf)),
                f"{name} moments": np.array([len(good), good.sum(), (good**2).sum()])}  # fmt: skip
        out[f"{name} examples"] = rows.few(_spread(mine, ~(off <= 2.5 * np.log10(1.0 + asked.tier.gates.colour_tolerance))))
    return out


def _spread(mask: np.ndarray, of_mask: np.ndarray) -> np.ndarray:
    out = np.zeros(len(mask), bool)
    out[mask] = of_mask
    return out


@gate("arc_colours", "metrics", "each arc has its task's colours, and not all have one", notes=_colours, unit="mag")
def colours(data: Data, facts) -> object:
    worst, spreads = max(facts["src_gr off"].value, facts["src_rz off"].value), []
    for name in ("src_gr", "src_rz"):
        n, total, squares = facts[f"{name} moments"]
        spreads.append(max(0.0, squares / max(n, 1) - (total / max(n, 1)) ** 2) ** 0.5)
    spread = min(spreads)
    limit = 2.5 * np.log10(1.0 + data.tier.gates.colour_tolerance)
    wide = max(data.tier.draws.src_gr[1], data.tier.draws.src_rz[1]) == 0 or spread > data.tier.gates.colour_spread_min_mag
    message = f"colours off by {worst:.5f} at most, their spread is {spread:.3f}"
    return judged(worst <= limit and wide, message, measured=worst, threshold=limit, n=facts["n"],
                  examples=(facts["src_gr examples"] + facts["src_rz examples"]).values)  # fmt: skip


def _resolution(rows, asked):
    ratio = rows["theta_e_over_psf"][rows.arc]
    with np.errstate(invalid="ignore"):
        return {"n": int(rows.arc.sum()), "below": int((ratio < 0.5).sum()), "above": int((ratio > 1.0).sum()), "null": int(np.isnan(ratio).sum()),
                "examples": rows.few(rows.arc & (rows["theta_e_over_psf"] < 0.5))}  # fmt: skip


@gate(
    "resolvability",
    "metrics",
    "so many arcs as the tier wants are wider than the PSF, and so few are lost in it",
    notes=_resolution,
    at_least=True,
)
def resolvability(data: Data, facts) -> object:
    n, limits = facts["n"], data.tier.gates
    if not n:
        return judged(False, "no arc to judge")
    above, below = facts["above"] / n, facts["below"] / n
    told = (f"theta_e over the PSF's FWHM in r is above 1 for {100 * above:.1f} % of the arcs, 0.5 to 1 for {100 * (1 - above - below):.1f} %, "
            f"below 0.5 for {100 * below:.1f} %")  # fmt: skip
    if limits.resolved_share_min == 0 and limits.unresolved_share_max == 1:
        return not_applicable(f"tier {data.tier.name} asks for no quota; {told}", n=n)
    wanted = (
        f"at least {100 * limits.resolved_share_min:g} % above 1 and at most {100 * limits.unresolved_share_max:g} % below 0.5 are wanted"
    )
    error = 0.5 / n**0.5
    passed = facts["null"] == 0 and above >= limits.resolved_share_min and below <= limits.unresolved_share_max
    close = abs(above - limits.resolved_share_min) < 2 * error or abs(below - limits.unresolved_share_max) < 2 * error
    if close and n < needed(0.5, 0.1):
        return too_few(data.tier, f"{n} arcs give shares to {100 * error:.1f} points; {told}; {wanted}", n=n)
    return judged(passed, f"{told}; {wanted}", measured=above, threshold=limits.resolved_share_min, n=n, examples=facts["examples"].values)


def _held(rows, asked):
    share, least = rows["stamp_flux_fraction"], asked.tier.gates.stamp_flux_fraction_min
    with np.errstate(invalid="ignore"):
        low = rows.arc & ~(share >= least)
    counts = np.histogram(np.nan_to_num(share[rows.arc], nan=0.0).clip(0, 1), FRACTIONS)[0]
    return {"n": int(rows.arc.sum()), "low": int(low.sum()), "counts": counts, "examples": rows.few(low)}


@gate(
    "stamp_flux",
    "metrics",
    "arcs lie inside their stamps: the share of the flux that the worst twentieth holds",
    notes=_held,
    at_least=True,
)
def stamp_flux(data: Data, facts) -> object:
    n, least = facts["n"], data.tier.gates.stamp_flux_fraction_min
    if not n:
        return judged(False, "no arc to judge")
    twentieth = float(FRACTIONS[np.searchsorted(np.cumsum(facts["counts"]), 0.05 * n)])
    message = f"95 % of the arcs have {100 * twentieth:.1f} % of their flux inside the stamp or more; {facts['low']} of {n} have less than {100 * least:g} %"
    if n < 3 * 20:
        return too_few(data.tier, f"{message}: {3 * 20} arcs are needed to tell of a twentieth", n=n)
    return judged(facts["low"] <= 0.05 * n, message, measured=twentieth, threshold=least, n=n, examples=facts["examples"].values)


def encircled(profile: str, size: float, beta: float, radius_fwhm: float) -> tuple[float, float]:
    """(FWHM, share of the flux within so many of them) of the profile with a noise-equivalent size, both in closed form.

    A Moffat's area is ``pi a**2 (2 beta - 1) / (beta - 1)**2`` and its FWHM ``2 a sqrt(2**(1/beta) - 1)``; psfsize is 0.6643 times the area's root.

    >>> [round(v, 3) for v in encircled("gaussian", 1.0, 0.0, 1.0)], [round(v, 3) for v in encircled("moffat", 1.35, 2.8, 1.0)]
    ([1.0, 0.938], [1.002, 0.742])
    """
    if profile == "gaussian":
        return size, 1.0 - 2.0 ** (-4.0 * radius_fwhm**2)
    area = (size * 2.0 * np.sqrt(np.pi) / (2.0 * np.sqrt(2.0 * np.log(2.0)))) ** 2
    scale = np.sqrt(area / np.pi * (beta - 1.0) ** 2 / (2.0 * beta - 1.0))
    fwhm = 2.0 * scale * np.sqrt(2.0 ** (1.0 / beta) - 1.0)
    return float(fwhm), float(1.0 - (1.0 + (radius_fwhm * fwhm / scale) ** 2) ** (1.0 - beta))


def _widths(rows, asked):
    out: dict = {"n": int(rows.made.sum())}
    for b in BANDS:
        of_size = rows.made & ~rows.isin(f"psf_source_{b}", ["coadd"])
        size, fwhm = rows[f"psfsize_used_{b}_arcsec"].astype(float), rows[f"psf_fwhm_used_{b}_arcsec"].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = fwhm / size / encircled(asked.tier.psf.profile, 1.0, asked.tier.psf.beta[b], 1.0)[0] - 1.0
        off = np.where(np.isfinite(off), np.abs(off), np.inf)
        out |= {f"{b} off": Most(off[of_size].max(initial=0.0)), f"{b} sizes": np.array([of_size.sum(), np.nansum(size[of_size])]),
                "examples": rows.few(of_size & (off > asked.tier.gates.psf_profile_tolerance)) + out.get("examples", rows.few(of_size & False))}  # fmt: skip
    return out


@gate("psf_profile", "metrics", "PSFs have the configured profile: the flux that the renderer puts within 1 and 2 FWHM of a point, and the widths in the table",
      notes=_widths)  # fmt: skip
def psf_profile(data: Data, facts) -> object:
    limit, worst, told = data.tier.gates.psf_profile_tolerance, 0.0, []
    for k, b in enumerate(BANDS):
        n, total = facts[f"{b} sizes"]
        size = total / n if n else 1.35  # of coadd images only: the profile is proved all the same
        drawn = _drawn(size, b, data)
        off = {f"{r} FWHM": abs(drawn[k](r * encircled(data.tier.psf.profile, size, data.tier.psf.beta[b], r)[0])
                                - encircled(data.tier.psf.profile, size, data.tier.psf.beta[b], r)[1]) for r in (1, 2)}  # fmt: skip
        off["FWHM in the table"] = facts[f"{b} off"].value
        worst = max(worst, *off.values())
        told.append(f"{b} " + ", ".join(f"{v:.5f} ({name})" for name, v in off.items()))
    return judged(worst <= limit, f"off from a {data.tier.psf.profile} by {'; '.join(told)}", measured=worst, threshold=limit,
                  n=facts["n"], examples=facts["examples"].values)  # fmt: skip


def _drawn(size: float, band: str, data: Data):
    """For each band, the share of a point's flux within a radius (arcsec), of the image that the shipped injection draws."""
    task = dict.fromkeys(injection.SHAPE, 0.0) | {"role": "injected", "mag_r_observed": 19.0, "src_dmag": 2.0, "src_gr": 0.0, "src_rz": 0.0}
    task |= {"src_n": 1.0, "src_reff_arcsec": 0.01}
    middle, fluxes = 0.5 * (SIDE - 1), injection.source_fluxes(task)
    psfs = [cuts.profile(size, b, data.tier) for b in BANDS]
    (image,), (total,) = injection.light([task], [middle], [middle], SIDE, [psfs], [fluxes], PIXEL_ARCSEC)
    y, x = np.mgrid[:SIDE, :SIDE] - middle
    r = np.hypot(x, y) * PIXEL_ARCSEC

    def within(k: int):
        return lambda radius: float((image[k] * np.clip((radius - r) / PIXEL_ARCSEC + 0.5, 0.0, 1.0)).sum(dtype=float) / total[k])

    return [within(k) for k in range(len(BANDS))]


GATES = (magnified, ratio, flux_bins, flux_probe, colours, resolvability, stamp_flux, psf_profile)
