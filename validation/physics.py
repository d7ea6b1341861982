"""Gates on magnification, colour, and flux against the Einstein radius (three parts)."""

import numpy as np
from pyspark.sql import functions as F

from lib import injection
from lib.errors import OK
from lib.imaging import photometry, psf
from lib.lensing import magnification, shear, sie
from lib.schemas import BANDS
from validation.result import Data, gate, judged, not_applicable

PROBE_THETA_E = (0.5, 0.75, 1.0, 1.5, 2.0, 2.5)
PROBE_OFFSET = 0.3


def _magnification_facts(tier):
    mine = (F.col("status") == OK) & (F.col("role") == "injected")
    mu = F.col("magnification")
    return {
        "n": F.count_if(mine), "null": F.count_if(mine & (mu.isNull() | F.isnan("magnification"))),
        "below": F.count_if(mine & (F.col("n_images") >= 2) & (mu < 1.0)), "least": F.min(F.when(mine, mu)),
    }  # fmt: skip


@gate("magnification", "metrics", "known for every arc, and at least 1 for multiply imaged sources",
      aggregates=_magnification_facts, at_least=True)  # fmt: skip
def magnified(data: Data, facts) -> object:
    message = f"{facts['null']} arcs without magnification, {facts['below']} multiply imaged ones below 1"
    return judged(facts["null"] == 0 and facts["below"] == 0, message, measured=facts["least"], threshold=1.0, n=facts["n"],
                  examples=data.examples("metrics", "role = 'injected' AND status = 'ok' AND n_images >= 2 AND magnification < 1"))  # fmt: skip


def lens_and_source(rows: list[dict]):
    """Arguments of ``magnification.of_source`` from METRICS rows: their labels, nothing measured."""
    columns = {k: np.array([r[k] for r in rows], float) for k in (
        "theta_e_arcsec", "lens_e", "lens_phi_rad", "shear", "shear_phi_rad", "src_x_arcsec", "src_y_arcsec",
        "src_n", "src_reff_arcsec", "src_e", "src_phi_rad")}  # fmt: skip
    g1, g2 = shear.components(columns["shear"], columns["shear_phi_rad"])
    return (columns["theta_e_arcsec"], sie.axis_ratio(columns["lens_e"]), columns["lens_phi_rad"], g1, g2,
            columns["src_x_arcsec"], columns["src_y_arcsec"], columns["src_n"], columns["src_reff_arcsec"],
            sie.axis_ratio(columns["src_e"]), columns["src_phi_rad"])  # fmt: skip


def flux_ratio(rows: list[dict]) -> np.ndarray:
    """Lensed flux in r over the source's, the latter from the host's magnitude and ``src_dmag``: labels only."""
    source = photometry.flux([r["mag_r_observed"] + r["src_dmag"] for r in rows])
    return np.array([r["flux_lensed_r"] if r["flux_lensed_r"] is not None else np.nan for r in rows]) / source


@gate("magnification_ratio", "metrics", "flux against theta_e, part 1: each arc's flux against an independent calculation from its labels")
def ratio(data: Data, facts) -> object:
    rows, limits = data.sample, data.tier.gates
    if not rows:
        return judged(False, "no arc to judge")
    found = flux_ratio(rows) / magnification.of_source(*lens_and_source(rows))
    found = np.where(np.isfinite(found), found, np.inf)
    median = abs(float(np.median(found)) - 1.0)
    far = np.abs(found - 1.0) > limits.magnification_tail
    passed = median < limits.magnification_median and far.mean() <= limits.magnification_tail_share
    message = (f"median off by {median:.5f} (limit {limits.magnification_median:g}), {far.mean():.4f} of the arcs off by more than "
               f"{limits.magnification_tail:g} (limit {limits.magnification_tail_share:g})")  # fmt: skip
    return judged(passed, message, measured=median, threshold=limits.magnification_median, n=len(rows),
                  examples=tuple(rows[k]["task_id"] for k in np.flatnonzero(far)[:5]))  # fmt: skip


def bins(data: Data) -> list[dict]:
    """Part 2, for the gate and the plot: mean flux ratio and its analytic expectation by theta_e."""
    rows = data.sample
    found = flux_ratio(rows)
    memo: dict[tuple, float] = {}
    expected = np.empty(len(rows))
    for k, r in enumerate(rows):
        angle = round((r["shear_phi_rad"] - r["lens_phi_rad"]) % np.pi, 1) if r["shear"] else 0.0
        theta_e = r["theta_e_arcsec"]
        disc = data.tier.draws.src_disc_theta_e * theta_e
        key = (
            theta_e,
            round(sie.axis_ratio(r["lens_e"]), 2),
            r["shear"],
            angle,
            r["src_n"],
            r["src_reff_arcsec"],
            sie.axis_ratio(r["src_e"]),
            disc,
        )
        if key not in memo:
            memo[key] = magnification.mean_over_disc(*key)
        expected[k] = memo[key]
    out = []
    for theta_e in sorted({round(r["theta_e_arcsec"], 4) for r in rows}):
        mine = np.array([abs(r["theta_e_arcsec"] - theta_e) < 1e-3 for r in rows])
        off = found[mine] - expected[mine]
        out.append({"theta_e": theta_e, "n": int(mine.sum()), "measured": float(found[mine].mean()),
                    "expected": float(expected[mine].mean()),
                    "error": float(off.std(ddof=1) / np.sqrt(mine.sum())) if mine.sum() > 1 else np.inf})  # fmt: skip
    return out


@gate("flux_theta_e_bins", "metrics", "flux against theta_e, part 2: mean flux ratio by theta_e against the analytic curve", unit="sigma")
def flux_bins(data: Data, facts) -> object:
    limits = data.tier.gates
    found = bins(data) if data.sample else []
    thin = [b for b in found if b["n"] < limits.flux_bin_rows_min]
    if thin and limits.small_tier:
        return not_applicable(f"{thin[0]['n']} rows at theta_e {thin[0]['theta_e']}, {limits.flux_bin_rows_min} are needed to judge")
    if thin or not found:
        told = ", ".join(f"{b['n']} at theta_e {b['theta_e']:g}" for b in thin) or "there are none"
        return judged(False, f"too few rows to judge, {limits.flux_bin_rows_min} are needed: {told}", n=sum(b["n"] for b in found))
    off = [abs(b["measured"] - b["expected"]) / b["error"] for b in found]
    off = [x if np.isfinite(x) else np.inf for x in off]
    told = ", ".join(f"{b['theta_e']:g}: {b['measured']:.2f} (expected {b['expected']:.2f} +- {b['error']:.2f})" for b in found)
    return judged(max(off) < limits.flux_bin_sigma, f"mean flux ratio at theta_e {told}", measured=max(off),
                  threshold=limits.flux_bin_sigma, n=sum(b["n"] for b in found))  # fmt: skip


def probe() -> tuple[np.ndarray, np.ndarray]:
    """Part 3: one host, one source at a fixed offset, rising theta_e, through the shipped injection: (lensed flux, flux in stamp)."""
    task = {"role": "injected", "mag_r_observed": 19.0, "src_dmag": 2.0, "src_gr": 0.3, "src_rz": 0.1, "lens_e": 0.25 / 2.25,
            "lens_phi_rad": 0.4, "shear": 0.0, "shear_phi_rad": 0.0, "src_phi_rad": 0.0, "src_n": 1.0, "src_e": 0.0,
            "src_reff_arcsec": 0.3, "src_x_arcsec": PROBE_OFFSET, "src_y_arcsec": 0.0}  # fmt: skip
    psfs = [psf.Moffat(1.1, 2.8)] * len(BANDS)
    fluxes = injection.source_fluxes(task)
    tasks = [task | {"theta_e_arcsec": theta_e} for theta_e in PROBE_THETA_E]
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


def _colour_facts(tier):
    mine = (F.col("status") == OK) & (F.col("role") == "injected")
    out = {"n": F.count_if(mine)}
    for name, (a, b) in {"src_gr": ("g", "r"), "src_rz": ("r", "z")}.items():
        seen = -2.5 * F.log10(F.try_divide(F.col(f"flux_stamp_{a}"), F.col(f"flux_stamp_{b}")))
        out[f"{name} off"] = F.max(F.when(mine, F.abs(seen - F.col(name))))
        out[f"{name} spread"] = F.stddev(F.when(mine, seen))
    return out


@gate("arc_colours", "metrics", "each arc has its task's colours, and not all have one", aggregates=_colour_facts, unit="mag")
def colours(data: Data, facts) -> object:
    worst = max(facts["src_gr off"] or 0.0, facts["src_rz off"] or 0.0)
    spread = min(facts["src_gr spread"] or 0.0, facts["src_rz spread"] or 0.0)
    limit = 2.5 * np.log10(1.0 + data.tier.gates.colour_tolerance)
    wide = max(data.tier.draws.src_gr[1], data.tier.draws.src_rz[1]) == 0 or spread > data.tier.gates.colour_spread_min_mag
    message = f"colours off by {worst:.5f} at most, their spread is {spread:.3f}"
    return judged(worst <= limit and wide, message, measured=worst, threshold=limit, n=facts["n"])


GATES = (magnified, ratio, flux_bins, flux_probe, colours)
