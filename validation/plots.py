"""What a reviewer looks at: plots, as pictures inside the page."""

import base64
import io
import itertools

import matplotlib
import numpy as np

from lib.lensing import magnification, sie
from validation import physics, samples, tables
from validation.data import Data

matplotlib.use("Agg")
import matplotlib.pyplot as plt

CLASSES = {"injected": "#d1495b", "paired_control": "#edae49", "unpaired_control": "#00798c", "hard_negative": "#30638e"}
SPLITS = {"train": "#30638e", "val": "#edae49", "test": "#d1495b"}
POINTS = 4000  # of a scatter plot
CURVE = 9  # values of theta_e at which an analytic curve is calculated
OVERLAID = {
    **{f"psf_fwhm_used_{b}_arcsec": f"PSF FWHM {b} (arcsec)" for b in "grz"}, **{f"psfdepth_{b}_mag": f"depth {b} (mag)" for b in "grz"},
    "mag_r": "host r (mag)", "gr": "host g - r (mag)", "rz": "host r - z (mag)", "shape_r_arcsec": "host size (arcsec)",
    "ebv_mag": "E(B-V) (mag)", "bad_pixel_frac": "masked share",
}  # fmt: skip
DRAWN = {
    "theta_e_arcsec": "Einstein radius (arcsec)", "src_dmag": "source - host r (mag)", "src_reff_arcsec": "source size (arcsec)",
    "src_e": "source ellipticity", "lens_e": "lens ellipticity", "shear": "shear", "src_gr": "source g - r (mag)",
    "src_rz": "source r - z (mag)", "arc_snr": "arc S/N, matched filter", "arc_snr_peak": "arc S/N, peak", "magnification": "magnification",
    "core_flux_fraction": "arc's share within 5 px", "stamp_flux_fraction": "arc's share in the stamp", "wise_brightmask_frac": "under bright-star masks",
}  # fmt: skip
LOGARITHMIC = {"arc_snr", "arc_snr_peak", "magnification"}
plt.rcParams |= {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110, "axes.grid": True, "grid.alpha": 0.25,
    "legend.frameon": False, "svg.hashsalt": "arcmill", "axes.axisbelow": True,
}  # fmt: skip


def _uri(figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def figures(data: Data) -> list[tuple[str, str, bool]]:
    """(caption, picture, whether it is wide) of every plot; of a sample of the rows."""
    rows = data.noted(samples.LOOK_ROWS)["looks"].rows
    columns = {name: rows[name].to_numpy() for name in rows.column_names}
    columns |= {"gr": columns["mag_g"] - columns["mag_r"], "rz": columns["mag_r"] - columns["mag_z"]}
    arcs = {name: values[columns["role"] == "injected"] for name, values in columns.items()}
    out = []
    if len(arcs["role"]):
        out += [_flux(data), _probe(), _ratio(arcs), _snr(arcs), _resolved(arcs)]
    out += [_sky(columns), _failures(data), _overlay(columns)]
    return out + ([_parameters(columns)] if len(arcs["role"]) else [])


def _flux(data: Data):
    found, draws = physics.bins(data), data.tier.draws
    figure, axes = plt.subplots(figsize=(4.6, 3.3))
    x, low, high = (np.array([b[k] for b in found]) for k in ("theta_e", "low", "high"))
    measured, error = (np.array([b[k] for b in found]) for k in ("measured", "error"))
    axes.errorbar(
        x, measured, error, [x - low, high - x], fmt="o", color=CLASSES["injected"], capsize=2, label="mean measured, standard error"
    )
    typical = {k: float(np.median([r[k] for r in samples.arcs(data)])) for k in ("lens_e", "shear", "src_n", "src_reff_arcsec", "src_e")}
    grid = np.linspace(0.8 * x.min(), 1.1 * x.max(), CURVE)
    q, source = sie.axis_ratio(typical["lens_e"]), (typical["src_n"], typical["src_reff_arcsec"], sie.axis_ratio(typical["src_e"]))
    curve = [magnification.mean_over_disc(t, q, typical["shear"], 0.8, *source, draws.src_disc_theta_e * t) for t in grid.tolist()]
    axes.plot(grid, curve, "k-", lw=1.3, label="analytic, of the median lens and source")
    axes.plot(x, [b["expected"] for b in found], "k_", ms=14, mew=2, label="analytic, of these arcs")
    axes.axhline(4.0 / draws.src_disc_theta_e, color="0.5", lw=1, ls="--", label="point source behind a sphere")
    axes.set(xlabel="Einstein radius (arcsec)", ylabel="mean lensed / unlensed flux", ylim=(0, None))
    axes.legend(fontsize=7.5, loc="lower right")
    return (
        "Flux against Einstein radius: with sources spread over a disc of so many Einstein radii the mean gain stays nearly the same.",
        _uri(figure),
        False,
    )


def _probe():
    figure, axes = plt.subplots(figsize=(4.6, 3.3))
    theta_e = np.array(physics.PROBE_THETA_E)
    lensed, stamp = physics.probe()
    fine = np.linspace(theta_e[0], theta_e[-1], 40)
    q = sie.axis_ratio(physics.PROBE["lens_e"])
    expected = magnification.of_source(fine, q, physics.PROBE["lens_phi_rad"], 0.0, 0.0, physics.PROBE_OFFSET, 0.0, 1.0,
                                       physics.PROBE["src_reff_arcsec"], 1.0, 0.0)  # fmt: skip
    unlensed = lensed[0] / magnification.of_source(theta_e[:1], q, physics.PROBE["lens_phi_rad"], 0.0, 0.0, physics.PROBE_OFFSET, 0.0, 1.0,
                                                   physics.PROBE["src_reff_arcsec"], 1.0, 0.0)[0]  # fmt: skip
    axes.plot(fine, unlensed * expected, "k-", lw=1.3, label="rays from the lens centre (second method)")
    axes.plot(theta_e, lensed, "o", color=CLASSES["injected"], label="rendered, whole plane")
    axes.plot(theta_e, stamp, "x", color=CLASSES["unpaired_control"], label="rendered, inside the stamp")
    axes.set(xlabel="Einstein radius (arcsec)", ylabel="lensed flux (nanomaggy)", ylim=(0, None))
    axes.legend(fontsize=7.5)
    return (
        f'The probe: one source that stays {physics.PROBE_OFFSET}" from the lens gains flux with the Einstein radius.',
        _uri(figure),
        False,
    )


def _ratio(arcs):
    figure, axes = plt.subplots(figsize=(4.6, 3.3))
    mu = arcs["magnification"][:POINTS].astype(float)
    off = 1e6 * (mu / arcs["magnification_expected"][:POINTS] - 1.0)
    axes.plot(mu, off, ".", color=CLASSES["injected"], ms=4, alpha=0.6, rasterized=len(mu) > 1000)
    axes.set(xscale="log", xlabel="magnification, rendered", ylabel="over the second method's, less 1 (1e-6)")
    ticks = [t for t in (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300) if 0.8 * mu.min() < t < 1.25 * mu.max()]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xticks([], minor=True)
    return "Magnification of the arcs against the second method.", _uri(figure), False


def _snr(arcs):
    figure, axes = plt.subplots(figsize=(4.6, 3.3))
    theta_e, snr, peak = (arcs[k][:POINTS].astype(float) for k in ("theta_e_arcsec", "arc_snr", "arc_snr_peak"))
    mag = (arcs["mag_r_observed"] + arcs["src_dmag"])[:POINTS]
    around = theta_e * (1 + 0.02 * np.sin(np.arange(len(theta_e))))
    points = axes.scatter(around, snr, c=mag, s=7, alpha=0.6, cmap="viridis_r", linewidths=0, rasterized=len(mag) > 1000)
    figure.colorbar(points, label="source r (mag)")
    edges = np.unique(np.quantile(theta_e, np.linspace(0, 1, 7)))
    middle = [m for m in (np.flatnonzero((theta_e >= a) & (theta_e <= b)) for a, b in itertools.pairwise(edges)) if len(m)]
    for values, style, name in ((snr, "k-", "matched filter"), (peak, "k:", "peak pixel")):
        axes.plot([np.median(theta_e[m]) for m in middle], [np.nanmedian(values[m]) for m in middle], style, label=f"median, {name}")
    axes.axhline(5, color="0.5", lw=1, ls="--")
    axes.set(yscale="log", xlabel="Einstein radius (arcsec)", ylabel="arc S/N, r")
    axes.legend(fontsize=7.5)
    return (
        "Signal to noise against Einstein radius (dots: matched filter; dashed: 5). The peak may fall as light spreads.",
        _uri(figure),
        False,
    )


def _resolved(arcs):
    figure, axes = plt.subplots(figsize=(4.6, 3.3))
    ratio = arcs["theta_e_over_psf"]
    axes.hist(ratio, bins=np.linspace(0, max(2.0, float(np.nanmax(ratio))), 41).tolist(), color=CLASSES["injected"])
    for (low, high), name in zip(((0, 0.5), (0.5, 1.0), (1.0, np.inf)), ("unresolved", "marginal", "resolved"), strict=True):
        share = float(((ratio >= low) & (ratio < high)).mean())
        axes.axvline(low, color="k", lw=1, ls="--")
        axes.text(low + 0.03, 0.97, f"{name}\n{100 * share:.0f} %", transform=axes.get_xaxis_transform(), va="top", fontsize=8)
    axes.set(xlabel="Einstein radius / PSF FWHM (r)", ylabel="arcs", xlim=(0, None))
    axes.margins(y=0.25)
    return "Resolvability.", _uri(figure), False


def _sky(columns):
    figure, axes = plt.subplots(figsize=(4.6, 3.3))
    for split, colour in SPLITS.items():
        mine = np.flatnonzero(columns["split"] == split)
        shown = mine[:POINTS]
        axes.plot(
            columns["ra_deg"][shown],
            columns["dec_deg"][shown],
            ".",
            color=colour,
            ms=4,
            label=f"{split} ({len(mine)})",
            rasterized=len(shown) > 1000,
        )
    axes.invert_xaxis()
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(axis="x", rotation=30)
    axes.set(xlabel="RA (deg)", ylabel="Dec (deg)")
    axes.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1, 1))
    return "Splits on the sky.", _uri(figure), False


def _failures(data: Data):
    figure, axes = plt.subplots(figsize=(4.6, 3.3))
    counts = data.noted(tables.failures.notes[0])["r"]
    edges = tables.WIDTHS[::10]
    for k, (name, colour) in enumerate((("injected", CLASSES["injected"]), ("controls", CLASSES["unpaired_control"]))):
        made, bad = (np.add.reduceat(counts[k, j, 1:], np.arange(0, len(tables.WIDTHS) - 1, 10)) for j in (0, 1))
        n = made + bad
        shown = n > 0
        p = bad[shown] / n[shown]
        error = np.sqrt((bad[shown] + 0.5) / (n[shown] + 1) * (1 - (bad[shown] + 0.5) / (n[shown] + 1)) / n[shown])
        axes.errorbar((edges[:-1] + 0.05 + 0.008 * (2 * k - 1))[shown], 100 * p, 100 * error, fmt="o", ms=4, color=colour, label=name)
    axes.set(xlabel="PSF size of the catalogue, r (arcsec)", ylabel="not made (%)", ylim=(0, None))
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5 * (low + high) - 0.25), max(high, 0.5 * (low + high) + 0.25))
    if not counts[:, 1].any():
        axes.text(0.5, 0.6, "every row was made", transform=axes.transAxes, ha="center", color="0.4")
    axes.legend(fontsize=7.5)
    return "Rows that could not be made, by class: the points should lie on each other.", _uri(figure), False


def _panels(columns, variables: dict[str, str], across: int, roles):
    down = -(-len(variables) // across)
    figure, axes = plt.subplots(down, across, figsize=(1.85 * across, 1.65 * down), squeeze=False, layout="constrained")
    for ax, (name, label) in zip(axes.flat, variables.items(), strict=False):
        values = columns[name].astype(float)
        if name in LOGARITHMIC:
            with np.errstate(invalid="ignore", divide="ignore"):
                values, label = np.log10(values), f"log {label}"
        known = values[np.isfinite(values)]
        low, high = np.percentile(known, [0.5, 99.5]) if len(known) else (0.0, 1.0)
        edges = np.linspace(low - 1e-3, high + 1e-3, 25).tolist()
        for role in roles:
            mine = values[(columns["role"] == role) & np.isfinite(values)]
            if ((mine >= edges[0]) & (mine <= edges[-1])).any():
                first = role == roles[0] and len(roles) > 1
                ax.hist(
                    mine, bins=edges, density=True, histtype="step", lw=4 if first else 1.6, alpha=0.45 if first else 1, color=CLASSES[role]
                )
        ax.set_xlabel(label, fontsize=8)
        ax.set_yticks([])
        ax.tick_params(labelsize=7.5)
    for ax in list(axes.flat)[len(variables) :]:
        ax.set_visible(False)
    shown = [r for r in roles if (columns["role"] == r).any()]
    handles = [plt.Line2D([], [], color=CLASSES[r], lw=3, label=r.replace("_", " ")) for r in shown]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(shown), fontsize=8)
    return _uri(figure)


def _overlay(columns):
    picture = _panels(columns, OVERLAID, 6, list(CLASSES))
    return (
        "PSFs, depths and hosts of injections and of controls: the curves should lie on each other (hard negatives are what a network took for lenses).",
        picture,
        True,
    )


def _parameters(columns):
    return "What lenses and sources were drawn with, and what came out, of injections.", _panels(columns, DRAWN, 7, ["injected"]), True
