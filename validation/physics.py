"""Gates on magnification, colour, PSF and resolution, and on flux against the Einstein radius (three parts)."""

from collections import Counter

import numpy as np

from lib import cuts, injection, schemas
from lib.imaging import photometry, psf
from lib.lensing import magnification, shear, sie
from lib.schemas import BANDS
from validation import arcs, samples
from validation.data import Data
from validation.result import gate, judged, needed, not_applicable, too_few

PROBE_THETA_E = (0.5, 0.75, 1.0, 1.5, 2.0, 2.5)
PROBE_OFFSET = 0.3
PROBE = {
    "role": "injected", "mag_r_observed": 19.0, "src_dmag": 2.0, "src_gr": 0.3, "src_rz": 0.1, "lens_e": 0.25 / 2.25, "lens_phi_rad": 0.4,
    "shear": 0.0, "shear_phi_rad": 0.0, "src_phi_rad": 0.0, "src_n": 1.0, "src_e": 0.0, "src_reff_arcsec": 0.3,
    "src_x_arcsec": PROBE_OFFSET, "src_y_arcsec": 0.0,
}  # fmt: skip
QUANTILES = 6  # bins of theta_e where it is drawn and not of a grid
EXPECTED, EXPECTED_DRAWN = 16, 32  # arcs of a bin whose mean flux is calculated: where all is drawn, sources differ more
PIXEL_ARCSEC, SIDE = 0.05, 256  # on which a PSF's encircled flux is measured


@gate("magnification", "metrics", "known for every arc, and at least 1 for multiply imaged sources", uses=[arcs.MAGNIFIED], at_least=True)
def magnified(data: Data, _) -> object:
    facts = data.noted(arcs.MAGNIFIED)
    message = f"{facts['null']} arcs without magnification, {facts['below']} multiply imaged ones below 1"
    return judged(facts["null"] == 0 and facts["below"] == 0, message, measured=facts["least"].value, threshold=1.0, n=facts["n"],
                  examples=facts["examples"].values)  # fmt: skip


def lens_and_source(rows: list[dict]):
    """Arguments of ``magnification.of_source`` from METRICS rows: their labels, nothing measured."""
    columns = {k: np.array([r[k] for r in rows], float) for k in schemas.SHAPE}
    g1, g2 = shear.components(columns["shear"], columns["shear_phi_rad"])
    return (columns["theta_e_arcsec"], sie.axis_ratio(columns["lens_e"]), columns["lens_phi_rad"], g1, g2,
            columns["src_x_arcsec"], columns["src_y_arcsec"], columns["src_n"], columns["src_reff_arcsec"],
            sie.axis_ratio(columns["src_e"]), columns["src_phi_rad"])  # fmt: skip


def flux_ratio(rows: list[dict]) -> np.ndarray:
    """Lensed flux in r over the source's, the latter from the host's magnitude and ``src_dmag``: labels only."""
    source = photometry.flux([r["mag_r_observed"] + r["src_dmag"] for r in rows])
    return np.array([r["flux_lensed_r"] if r["flux_lensed_r"] is not None else np.nan for r in rows]) / source


@gate("magnification_ratio", "metrics", "flux against theta_e, part 1: each arc's flux against an independent calculation from its labels",
      uses=[arcs.MAGNIFIED, samples.ARCS])  # fmt: skip
def ratio(data: Data, _) -> object:
    """Calculated here for a sample; for all arcs as the table has it, calculated by the same method when they were made."""
    rows, limits, facts = samples.arcs(data), data.tier.gates, data.noted(arcs.MAGNIFIED)
    if not rows:
        return judged(False, "no arc to judge")
    found = flux_ratio(rows) / magnification.of_source(*lens_and_source(rows))
    found = np.where(np.isfinite(found), found, np.inf)
    middle = 0.5 * (arcs.RATIOS[1:] + arcs.RATIOS[:-1])[np.searchsorted(np.cumsum(facts["off"]), 0.5 * facts["off"].sum())]
    half = 0.5 * (arcs.RATIOS[1] - arcs.RATIOS[0])
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
    drawn, lensed = injection.light(tasks, np.full(n, 32.2), np.full(n, 31.7), 64, [psfs] * n, [fluxes] * n, 0.262)
    return lensed[:, 1], drawn[:, 1].sum(axis=(1, 2), dtype=float)


@gate("flux_theta_e_probe", "metrics", "flux against theta_e, part 3: a fixed source gains flux with theta_e, strictly",
      unit="least step", at_least=True)  # fmt: skip
def flux_probe(data: Data, facts) -> object:
    lensed, stamp = probe()
    rise = float(min(np.diff(lensed).min() / lensed[0], np.diff(stamp).min() / stamp[0]))
    told = ", ".join(f"{t:g}: {f:.3f}" for t, f in zip(PROBE_THETA_E, lensed, strict=True))
    return judged(rise > 0, f"lensed flux (nanomaggy) at theta_e {told}", measured=rise, threshold=0.0, n=len(lensed))


@gate("arc_colours", "metrics", "each arc has its task's colours, and not all have one", notes=arcs.colours, unit="mag")
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


@gate(
    "resolvability",
    "metrics",
    "so many arcs as the tier wants are wider than the PSF, and so few are lost in it",
    notes=arcs.resolution,
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


@gate(
    "stamp_flux",
    "metrics",
    "arcs lie inside their stamps: the share of the flux that the worst twentieth holds",
    notes=arcs.held,
    at_least=True,
)
def stamp_flux(data: Data, facts) -> object:
    n, least = facts["n"], data.tier.gates.stamp_flux_fraction_min
    if not n:
        return judged(False, "no arc to judge")
    twentieth = float(arcs.FRACTIONS[np.searchsorted(np.cumsum(facts["counts"]), 0.05 * n)])
    message = f"95 % of the arcs have {100 * twentieth:.1f} % of their flux inside the stamp or more; {facts['low']} of {n} have less than {100 * least:g} %"
    if n < 3 * 20:
        return too_few(data.tier, f"{message}: {3 * 20} arcs are needed to tell of a twentieth", n=n)
    return judged(facts["low"] <= 0.05 * n, message, measured=twentieth, threshold=least, n=n, examples=facts["examples"].values)


@gate("psf_profile", "metrics", "PSFs have the configured profile: the flux that the renderer puts within 1 and 2 FWHM of a point, and the widths in the table",
      notes=arcs.widths)  # fmt: skip
def psf_profile(data: Data, facts) -> object:
    limit, worst, told = data.tier.gates.psf_profile_tolerance, 0.0, []
    for k, b in enumerate(BANDS):
        n, total = facts[f"{b} sizes"]
        size = total / n if n else 1.35  # of coadd images only: the profile is proved all the same
        drawn = _drawn(size, b, data)
        off = {f"{r} FWHM": abs(drawn[k](r * arcs.encircled(data.tier.psf.profile, size, data.tier.psf.beta[b], r)[0])
                                - arcs.encircled(data.tier.psf.profile, size, data.tier.psf.beta[b], r)[1]) for r in (1, 2)}  # fmt: skip
        off["FWHM in the table"] = facts[f"{b} off"].value
        worst = max(worst, *off.values())
        told.append(f"{b} " + ", ".join(f"{v:.5f} ({name})" for name, v in off.items()))
    return judged(worst <= limit, f"off from a {data.tier.psf.profile} by {'; '.join(told)}", measured=worst, threshold=limit,
                  n=facts["n"], examples=facts["examples"].values)  # fmt: skip


def _drawn(size: float, band: str, data: Data):
    """For each band, the share of a point's flux within a radius (arcsec), of the image that the shipped injection draws."""
    task = dict.fromkeys(schemas.SHAPE, 0.0) | {"role": "injected", "mag_r_observed": 19.0, "src_dmag": 2.0, "src_gr": 0.0, "src_rz": 0.0}
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
