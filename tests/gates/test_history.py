"""What went wrong in earlier programs of this kind, rebuilt: each failure by its name, and the gate that sees it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lib import injection, runs
from lib.imaging import photometry, psf
from lib.lensing import magnification, sersic, shear, sie
from lib.schemas import BANDS
from tests.gates import pages
from tests.gates.conftest import Broken
from tests.gates.test_gates import SIDE, arc, blob, changed, first, judge, lensed_flux, planes
from validation.__main__ import main
from validation.data import Data
from validation.physics import lens_and_source

FOUND: dict[str, str] = {}  # the page's line of each failure


@dataclass(frozen=True)
class Failure:
    name: str
    gate: str
    plant: Callable[[Broken], None]


FAILURES: list[Failure] = []


def failure(name: str, gate: str):
    def register(plant):
        FAILURES.append(Failure(name, gate, plant))
        return plant

    return register


def metrics(broken: Broken) -> list[dict]:
    return runs.read(broken.dataset, "metrics").to_pylist()


@failure("SIE without sqrt(q)", "magnification_ratio")
def _(broken):
    def without_root(row):
        theta_e, q, *others = lens_and_source([row])
        return float(magnification.of_source(theta_e / np.sqrt(q), q, *others)[0]) / row["magnification"]

    lensed_flux(broken, without_root)


@failure("one sample a pixel: magnifications far below 1 and far above", "magnification_ratio")
def _(broken):
    lensed_flux(broken, lambda row: sampled_once(row) / row["magnification"])


def sampled_once(row: dict) -> float:
    """Lensed flux of a unit source, its brightness taken at the pixels' centres only."""
    pixel = row["pixel_scale_arcsec"]
    y, x = (np.mgrid[:SIDE, :SIDE] - 0.5 * (SIDE - 1)) * pixel
    g1, g2 = shear.components(row["shear"], row["shear_phi_rad"])
    ax, ay = sie.deflection(x, y, row["theta_e_arcsec"], float(sie.axis_ratio(row["lens_e"])), row["lens_phi_rad"])
    bx, by = x - ax - (g1 * x + g2 * y) - row["src_x_arcsec"], y - ay - (g2 * x - g1 * y) - row["src_y_arcsec"]
    c, s, q = np.cos(row["src_phi_rad"]), np.sin(row["src_phi_rad"]), float(sie.axis_ratio(row["src_e"]))
    r = np.sqrt(q * (bx * c + by * s) ** 2 + (by * c - bx * s) ** 2 / q)
    n, r_eff = row["src_n"], row["src_reff_arcsec"]
    light = float(sersic.central_brightness(n, r_eff)) * np.exp(-float(sersic.b_n(n)) * (r / r_eff) ** (1.0 / n))
    return float(light.sum() * pixel**2)


@failure("arcs shifted by the transform's centring", "rerender")
def _(broken):
    broken.column("stamps", "arc", lambda row: blob(np.roll(planes(row, "arc"), (-4, -4), axis=(1, 2))) if arc(row) else row["arc"])


@failure('failures of injections only, where the FWHM is above a limit (1.354" then)', "failure_balance")
def _(broken):
    limit = np.median([row["psfsize_used_r_arcsec"] for row in metrics(broken)])
    wide = {row["task_id"] for row in metrics(broken) if row["role"] == "injected" and row["psfsize_used_r_arcsec"] > limit}
    assert 20 < len(wide) < 52
    broken.column("metrics", "status", lambda row: "no_psf" if row["task_id"] in wide else "ok")


@failure("a PSF of zero width in g", "psf_provenance")
def _(broken):
    broken.column("metrics", "psf_fwhm_used_g_arcsec", lambda row: 0.0)
    broken.column("metrics", "psf_source_g", lambda row: None)


@failure("one colour for all arcs", "arc_colours")
def _(broken):
    for band, mag in (("g", 0.25), ("z", -0.1)):
        times = float(photometry.flux(22.5 + mag))
        broken.column(
            "metrics", f"flux_stamp_{band}", lambda row, times=times, band=band: row["flux_stamp_r"] * times if arc(row) else None
        )


@failure("controls absent", "control_fraction")
def _(broken):
    broken.rows("manifest", lambda rows: rows.filter(pc.equal(rows["role"], "injected")))


@failure("46 times the rows that were asked for (792,192 for 17,280)", "manifest_counts")
def _(broken):
    broken.rows("manifest", lambda rows: pa.concat_tables([rows] * 46))


@failure("NaN in stamps of status ok", "planes")
def _(broken):
    chosen = first(arc, True, lambda row: False)
    broken.column("stamps", "stamp", lambda row: changed(row, "stamp", np.s_[0, :, :5], np.nan) if chosen(row) else row["stamp"])


@failure("val's rows relabelled into train", "split_by_cell")
def _(broken):
    broken.column("manifest", "split", lambda row: "train" if row["split"] == "val" else row["split"])


@failure("lensed flux summed inside the stamp only", "magnification_ratio")
def _(broken):
    """Of lenses as wide as 5", whose arcs reach out of it."""

    def wide(rows):
        made = rows.to_pylist()
        for row in (r for r in made if arc(r)):
            times = 5.0 / row["theta_e_arcsec"]
            row |= {"theta_e_arcsec": 5.0, "src_x_arcsec": times * row["src_x_arcsec"], "src_y_arcsec": times * row["src_y_arcsec"]}
            psfs = [psf.moffat_from_psfsize(row[f"psfsize_used_{b}_arcsec"], 3.5) for b in BANDS]
            fluxes, middle = injection.source_fluxes(row), [0.5 * (SIDE - 1)]
            (light,), _ = injection.light([row], middle, middle, SIDE, [psfs], [fluxes], row["pixel_scale_arcsec"])
            held = light.sum(axis=(1, 2), dtype=float)
            row |= {f"flux_{kind}_{b}": float(held[k]) for k, b in enumerate(BANDS) for kind in ("stamp", "lensed")}
            row["magnification"] = float(held[1] / fluxes[1])
        return pa.Table.from_pylist(made, schema=rows.schema)

    broken.rows("metrics", wide)


@failure("surface brightness taken for flux (1,111 times too faint)", "magnification_ratio")
def _(broken):
    lensed_flux(broken, lambda row: 1.0 / 1111.0)


@pytest.mark.parametrize("past", FAILURES, ids=lambda f: f.name)
def test_a_failure_of_the_past_is_caught(past, broken, spark, tier):
    past.plant(broken)
    result = judge(past.gate, Data(spark, broken.dataset, tier))
    assert (result.outcome, result.blocks) == ("fail", True), result
    FOUND[past.name] = f"| {past.name} | `{past.gate}` | {result.measured:.2g} | {result.threshold:.2g} |"


def test_a_validator_pointed_at_an_empty_prefix(tiny_tier, tmp_path, capsys):
    assert main(["--tier", str(tiny_tier), "--root", str(tmp_path), "--dataset", "nothing-here"]) == 3
    assert "no parent table of tier tiny" in capsys.readouterr().err


def test_the_page_tells_what_was_measured():
    """Of a failure that was not planted before this test (``pytest -k``) the page's own line is held to its name and gate."""
    told = {line.split(" | ")[0].removeprefix("| "): line for line in pages.block("history")}
    lines = ["| failure | gate | measured | limit |", "| --- | --- | --- | --- |"]
    for past in FAILURES:
        lines.append(FOUND.get(past.name) or told.get(past.name, "no line"))
        assert lines[-1].startswith(f"| {past.name} | `{past.gate}` |")
    lines += ["| a validator pointed at an empty prefix | none: exit code 3, the missing table named | | |"]
    assert pages.kept("history", lines) == pages.block("history")
