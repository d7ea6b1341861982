"""The page of a selection function: curves with their intervals, surfaces, and the numbers behind them."""

import base64
import io
from collections.abc import Iterator

import matplotlib
import numpy as np
import pyarrow as pa
from jinja2 import Template

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from lib.selection.axes import ALL, AXES, SURFACES
from lib.selection.counts import Recovery

COLOURS = ("#d1495b", "#00798c", "#edae49", "#30638e")
STYLE: dict = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
         "svg.hashsalt": "arcmill", "axes.axisbelow": True}  # fmt: skip
REGIONS = 4  # that are drawn: those of most lenses
PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Selection function: {{ dataset }}, tier {{ tier }}</title>
<style>
 body { margin: 0; font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #1c1f24; background: #fbfbfc; }
 main { max-width: 1280px; margin: 0 auto; padding: 24px; } h1 { font-size: 22px; margin: 0; } h2 { font-size: 18px; margin: 30px 0 10px; }
 p { max-width: 820px; color: #5d6673; } .plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)); gap: 16px; }
 figure { margin: 0; background: #fff; border: 1px solid #e3e6ea; border-radius: 6px; padding: 10px; } img { width: 100%; display: block; }
 figcaption { font-size: 13px; color: #5d6673; }
</style></head><body><main>
<h1>Selection function: {{ dataset }}, tier {{ tier }}{% if split %}, split {{ split }}{% endif %}</h1>
<p>The share of injected lenses that is found. Points: bins of enough lenses, with the 95 % interval of Wilson. Band: a smooth fit through all bins, with its
standard error; between the bins' middles it may be interpolated linearly. The numbers are the table <code>selection</code>.</p>
{% for title, told, figures in parts %}<h2>{{ title }}</h2><p>{{ told }}</p>
<div class="plots">{% for caption, uri in figures %}<figure><img alt="{{ caption }}" src="{{ uri }}"><figcaption>{{ caption }}</figcaption></figure>{% endfor %}</div>
{% endfor %}</main></body></html>
""")


def html(made: pa.Table, recoveries: list[Recovery], dataset: str, tier: str, split: str | None) -> bytes:
    rows = made.to_pylist()
    parts = []
    for recovery in recoveries:
        mine = [r for r in rows if (r["recovery"], r["false_positive_rate"]) == (recovery.name, recovery.rate)]
        with plt.rc_context(STYLE):
            parts.append((recovery.title, _told(recovery), [*_curves(mine), *_surfaces(mine)]))
    return PAGE.render(parts=parts, dataset=dataset, tier=tier, split=split).encode()


def _told(recovery: Recovery) -> str:
    if recovery.threshold is None:
        return "No scores were given: this tells which arcs are bright and wide enough to be found, not which a network finds."
    return (f"A stamp counts as a lens from a score of {recovery.threshold:.6g}; {100 * (recovery.reached or 0):.3g} % of the {recovery.n_controls:,} scored "
            "controls reach it.")  # fmt: skip


def _curves(rows: list[dict]) -> Iterator[tuple[str, str]]:
    size = {
        region: sum(r["n"] for r in rows if r["region"] == region and r["x"] == "theta_e_arcsec" and not r["y"])
        for region in {r["region"] for r in rows}
    }
    regions = sorted((r for r in size if r != ALL), key=lambda r: (-size[r], r))[:REGIONS]
    for x, axis in AXES.items():
        figure, axes = plt.subplots(figsize=(4.6, 3.2))
        for region, colour in zip([ALL, *(regions if len(size) > 2 else [])], ("k", *COLOURS)):
            mine = [r for r in rows if r["region"] == region and r["x"] == x and not r["y"]]
            middle = np.array([0.5 * (r["x_low"] + r["x_high"]) for r in mine])
            smooth, error = (np.array([r[k] for r in mine]) for k in ("smooth", "smooth_error"))
            axes.plot(middle, smooth, color=colour, lw=1.2, label=region)
            if region != ALL:
                continue
            axes.fill_between(middle, np.clip(smooth - error, 0, 1), np.clip(smooth + error, 0, 1), color=colour, alpha=0.15, lw=0)
            known = [r for r in mine if r["completeness"] is not None]
            if known:
                at, share, low, high = (np.array([r[k] for r in known]) for k in ("x_low", "completeness", "low", "high"))
                at = 0.5 * (at + np.array([r["x_high"] for r in known]))
                axes.errorbar(at, share, [np.maximum(share - low, 0), np.maximum(high - share, 0)], fmt="o", color=COLOURS[0], capsize=2)
        axes.set(xlabel=axis.label, ylabel="share found", ylim=(-0.03, 1.03))
        if len(size) > 2:
            axes.legend(fontsize=7.5)
        total = sum(r["n"] for r in rows if r["region"] == ALL and r["x"] == x and not r["y"])
        yield f"{total:,} lenses over {axis.label}", _uri(figure)


def _surfaces(rows: list[dict]) -> Iterator[tuple[str, str]]:
    for x, y in SURFACES:
        mine = [r for r in rows if r["x"] == x and r["y"] == y]
        lows = [sorted({r[f"{k}_low"] for r in mine}) for k in "xy"]
        shape = (len(lows[1]), len(lows[0]))
        smooth, n = np.zeros(shape), np.zeros(shape, int)
        for r in mine:
            at = lows[1].index(r["y_low"]), lows[0].index(r["x_low"])
            smooth[at], n[at] = r["smooth"], r["n"]
        edges = [[*low, max(r[f"{k}_high"] for r in mine)] for k, low in zip("xy", lows, strict=True)]
        figure, axes = plt.subplots(figsize=(4.6, 3.4))
        picture = axes.pcolormesh(*edges, np.ma.masked_where(n == 0, smooth), vmin=0, vmax=1, cmap="viridis")
        for (k, j), number in np.ndenumerate(n):
            if number:
                place = 0.5 * (edges[0][j] + edges[0][j + 1]), 0.5 * (edges[1][k] + edges[1][k + 1])
                axes.text(*place, str(number), ha="center", va="center", fontsize=5.5, color="w" if smooth[k, j] < 0.6 else "k")
        figure.colorbar(picture, label="share found, smooth")
        axes.set(xlabel=AXES[x].label, ylabel=AXES[y].label)
        axes.grid(False)
        yield f"{AXES[x].label} and {AXES[y].label}; the numbers are lenses in the bin", _uri(figure)


def _uri(figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
