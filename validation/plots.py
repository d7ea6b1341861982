"""What a reviewer looks at: plots and galleries, as pictures inside the page."""

import base64
import io
from typing import Any

import matplotlib
import numpy as np
from pyspark.sql import functions as F

from lib import reader
from lib.imaging import picture
from validation import physics
from validation.result import Data

matplotlib.use("Agg")
import matplotlib.pyplot as plt

GALLERY = 24
CLASSES = {"injected": "#d1495b", "paired_control": "#edae49", "unpaired_control": "#00798c"}
plt.rcParams |= {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 110,
    "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False, "svg.hashsalt": "arcmill",
}  # fmt: skip


def _uri(figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def figures(data: Data) -> list[tuple[str, str]]:
    """(caption, picture) of every plot; drawn from at most a sample of the rows."""
    names = ("role", "split", "ra_deg", "dec_deg", "mag_r", "mag_r_observed", "mag_g", "mag_z", "psf_fwhm_used_r_arcsec", "psfdepth_r_mag",
             "theta_e_arcsec", "arc_snr", "theta_e_over_psf", "stamp_flux_fraction", "src_gr", "flux_stamp_g", "flux_stamp_r",
             "magnification", "magnification_expected", "src_reff_arcsec", "src_dmag")  # fmt: skip
    rows: Any = data.frame("metrics").filter("status = 'ok'").select(*names).orderBy(F.hash("task_id")).limit(20_000).toPandas()
    arcs = rows[rows.role == "injected"]
    out = []
    if len(arcs):
        out += [_flux(data), _ratio(arcs), _snr(arcs), _resolved(arcs)]
    out += [_overlay(rows), _sky(rows)]
    return out


def _flux(data: Data):
    found = physics.bins(data)
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    x = [b["theta_e"] for b in found]
    axes.errorbar(
        x, [b["measured"] for b in found], [b["error"] for b in found], fmt="o", color=CLASSES["injected"], label="measured, standard error"
    )
    axes.plot(x, [b["expected"] for b in found], "k_", ms=16, mew=2, label="expected for these lenses (area theorem)")
    axes.axhline(4.0 / data.tier.draws.src_disc_theta_e, color="0.5", lw=1, ls="--", label="point source behind a sphere")
    axes.set(xlabel="Einstein radius (arcsec)", ylabel="mean lensed / unlensed flux", ylim=(0, None))
    axes.legend(fontsize=7.5)
    return "Flux against Einstein radius: the mean gain follows the analytic value; it is set by the source's place, not by theta_e.", _uri(
        figure
    )


def _ratio(arcs):
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    off = 1e6 * (arcs.magnification / arcs.magnification_expected - 1.0)
    axes.plot(arcs.magnification, off, ".", color=CLASSES["injected"], ms=4)
    axes.set(xlabel="magnification (rendered)", ylabel="rendered / independent - 1  (1e-6)")
    return "Magnification of every arc against the second method (rays from the lens centre).", _uri(figure)


def _snr(arcs):
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    points = axes.scatter(
        arcs.theta_e_arcsec * (1 + 0.02 * np.sin(np.arange(len(arcs)))),
        arcs.arc_snr,
        c=arcs.mag_r_observed + arcs.src_dmag,
        s=9,
        cmap="viridis_r",
    )
    figure.colorbar(points, label="source r (mag)")
    axes.axhline(5, color="0.5", lw=1, ls="--")
    axes.set(yscale="log", xlabel="Einstein radius (arcsec)", ylabel="arc S/N, matched filter, r")
    return "Signal to noise of the arcs (dashed: 5).", _uri(figure)


def _resolved(arcs):
    figure, axes = plt.subplots(figsize=(4.6, 3.2))
    axes.hist(arcs.theta_e_over_psf, bins=30, color=CLASSES["injected"])
    for edge in (0.5, 1.0):
        axes.axvline(edge, color="k", lw=1, ls="--")
    axes.set(xlabel="Einstein radius / PSF FWHM (r)", ylabel="arcs")
    return "Resolvability (dashed: 0.5 and 1): resolved above 1, unresolved below 0.5.", _uri(figure)


def _overlay(rows):
    rows = rows.assign(gr=rows.mag_g - rows.mag_r, rz=rows.mag_r - rows.mag_z)
    variables = {
        "mag_r": "host r (mag)",
        "gr": "host g - r",
        "rz": "host r - z",
        "psf_fwhm_used_r_arcsec": "PSF FWHM r (arcsec)",
        "psfdepth_r_mag": "depth r (mag)",
    }
    figure, axes = plt.subplots(1, len(variables), figsize=(14, 2.6))
    for ax, (name, label) in zip(axes, variables.items(), strict=True):
        values = rows[name].dropna()
        low, high = np.percentile(values, [0.5, 99.5]) if len(values) else (0.0, 1.0)
        edges = np.linspace(low - 1e-3, high + 1e-3, 21)
        for role, colour in CLASSES.items():
            mine = rows[rows.role == role][name].dropna()
            if mine.between(edges[0], edges[-1]).any():
                ax.hist(
                    mine,
                    bins=edges,
                    density=True,
                    histtype="step",
                    lw=4 if role == "injected" else 1.6,
                    alpha=0.45 if role == "injected" else 1,
                    color=colour,
                    label=role.replace("_", " "),
                )
        ax.set(xlabel=label, yticks=[])
    axes[0].legend(fontsize=7.5)
    return "Hosts of injections and of controls: the curves should lie on each other.", _uri(figure)


def _sky(rows):
    figure, axes = plt.subplots(figsize=(4.6, 4.0))
    for split, colour in zip(("train", "val", "test"), ("#30638e", "#edae49", "#d1495b"), strict=True):
        mine = rows[rows.split == split]
        axes.plot(mine.ra_deg, mine.dec_deg, ".", color=colour, ms=4, label=f"{split} ({len(mine)})")
    axes.invert_xaxis()
    axes.ticklabel_format(useOffset=False)
    axes.tick_params(axis="x", rotation=30)
    axes.set(xlabel="RA (deg)", ylabel="Dec (deg)")
    axes.legend(fontsize=7.5, loc="upper left", bbox_to_anchor=(1, 1))
    return "Splits on the sky.", _uri(figure)


def galleries(data: Data) -> list[tuple[str, list[dict]]]:
    """(title, cards) of stamps a person should look at; a card is a list of pictures and a caption."""
    metrics = data.frame("metrics").filter("status = 'ok'").select(
        "task_id", "pair_id", "role", "theta_e_arcsec", "arc_snr", "mag_r_observed", "src_dmag", "match_rung", "galaxy_id")  # fmt: skip
    arcs = metrics.filter("role = 'injected'").orderBy("task_id").limit(GALLERY).collect()
    faint = metrics.filter("role = 'injected'").orderBy("arc_snr").limit(GALLERY // 3).collect()
    bright = metrics.filter("role = 'injected'").orderBy(F.desc("arc_snr")).limit(GALLERY // 3).collect()
    out = []
    for title, rows in (
        ("Injections: stamp, and the arc alone (host magnitude + how much fainter the source is)", arcs),
        ("Brightest arcs", bright),
        ("Faintest arcs", faint),
    ):
        cubes = _cubes(data, [r["task_id"] for r in rows])
        out.append(
            (
                title,
                [
                    _card(
                        [cubes[r["task_id"]]["stamp"], cubes[r["task_id"]]["arc"]],
                        f"θ_E {r['theta_e_arcsec']:.2f}″, S/N {r['arc_snr']:.0f}, r {r['mag_r_observed']:.1f}+{r['src_dmag']:.1f}",
                    )
                    for r in rows
                ],
            )
        )
    for role, title in (
        ("paired_control", "Paired controls: the injection, and the same galaxy without"),
        (
            "unpaired_control",
            "Unpaired controls: the injection, and its match (magnitude of the match; rung of the tolerance ladder, 1 is the closest)",
        ),
        ("hard_negative", "Hard negatives: galaxies without an arc that a network took for lenses"),
    ):
        rows = metrics.filter(F.col("role") == role).orderBy("task_id").limit(GALLERY // 2).collect()
        cubes = _cubes(data, [i for r in rows for i in (r["task_id"], r["pair_id"])])
        cards = [_card([cubes[i]["stamp"] for i in dict.fromkeys((r["pair_id"], r["task_id"]))], f"r {r['mag_r_observed']:.1f}" + (f", rung {r['match_rung']}" if r["match_rung"] else ""))
                 for r in rows if r["pair_id"] in cubes]  # fmt: skip
        out.append((title, cards))
    return [(title, cards) for title, cards in out if cards]


def _cubes(data: Data, ids: list[str]) -> dict[str, dict]:
    rows = (
        data.frame("stamps", list(dict.fromkeys(["task_id", "status", *reader.NEEDED, "stamp", "arc", "stamp_npz"])))
        .filter(F.col("task_id").isin(ids) & (F.col("status") == "ok"))
        .select("task_id", *reader.NEEDED, "stamp", "arc", "stamp_npz")
        .collect()
    )
    return {r["task_id"]: reader.planes(r.asDict()) for r in rows}


def _card(cubes, caption: str) -> dict:
    return {"pictures": [picture.png_uri(picture.rgb(c)) for c in cubes], "caption": caption}
