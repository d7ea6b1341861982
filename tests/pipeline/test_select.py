"""The selection function: which lenses are found, how well that is known, and what a scorer that looks at nothing finds."""

import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from jobs.__main__ import main
from lib import draws, rows, runs, tiers
from lib.errors import ConfigError
from lib.schemas import SELECTION
from lib.selection import axes, counts, curves, table
from lib.selection.counts import Recovery


def lenses(n: int, seed: int = 1) -> dict:
    """Columns of injections, as from a tier of drawn Einstein radii."""
    at = np.arange(n)

    def u(purpose, low, high):
        return draws.uniform(purpose, seed, at, low=low, high=high)

    theta_e, psf = u("theta", 0.2, 2.4), u("psf", 0.8, 1.3)
    return {
        "theta_e_arcsec": theta_e.astype(np.float32), "src_dmag": u("dmag", 1, 5).astype(np.float32), "mag_r_observed": u("mag", 18, 20).astype(np.float32),
        "src_reff_arcsec": u("size", 0.05, 0.6), "psf_fwhm_used_r_arcsec": psf, "psfdepth_r_mag": u("depth", 23.5, 24.8),
        "theta_e_over_psf": theta_e / psf, "arc_snr": u("snr", 0, 40), "sky_cell": (at % 3) << 14, "score": draws.uniform("score", seed, at),
    }  # fmt: skip


def selection(columns: dict, recoveries: list[Recovery], least: int = 20) -> pd.DataFrame:
    parts = [
        counts.of(pa.table({k: v[part] for k, v in columns.items()}), recoveries, 14)
        for part in np.array_split(np.arange(len(columns["score"])), 3)
    ]
    keys = ["recovery", "region", "x", "y", "i", "j"]
    frame = pd.concat([p.to_pandas() for p in parts]).fillna({"y": ""}).groupby(keys, as_index=False)[["n", "found"]].sum()
    counted = [r | {"y": r["y"] or None} for r in frame.to_dict("records")]
    return table.of(counted, recoveries, least, 8).to_pandas()


def over(found: pd.DataFrame, x: str, y: str | None = None, region: str = "all") -> pd.DataFrame:
    return found[(found.x == x) & (found.region == region) & (found.y.isna() if y is None else found.y == y)]


def test_the_interval_is_wilsons():
    # R: prop.test(8, 10, correct=FALSE), prop.test(0, 20, ...), prop.test(15, 15, ...)
    low, high = curves.wilson([8, 0, 15], [10, 20, 15])
    np.testing.assert_allclose(low, [0.4901625, 0.0, 0.7961168], atol=1e-6)
    np.testing.assert_allclose(high, [0.9433178, 0.1611252, 1.0], atol=1e-6)


@pytest.mark.parametrize("rate", [0.1, 0.01])
def test_a_scorer_that_looks_at_nothing_finds_the_false_positive_rate_in_every_bin(rate):
    found = selection(lenses(60_000), [Recovery(1 - rate, rate, rate, 10_000)])
    for x, y in axes.SURFACES:  # the cells of one surface hold different lenses
        told = over(found, x, y).dropna(subset=["completeness"])
        assert len(told) > 30 and ((told.low <= rate) & (rate <= told.high)).mean() > 0.85  # 95 % intervals
    for name in axes.AXES:
        mine = over(found, name)
        assert abs(mine.n_recovered.sum() / 60_000 - rate) < 4 * np.sqrt(rate / 60_000)
        assert abs(np.average(mine.smooth, weights=mine.n) - rate) < 4 * np.sqrt(rate / 60_000)


def test_shares_are_counted_by_hand_in_bins_and_regions():
    columns = lenses(3000)
    found = selection(columns, [Recovery()])
    hit = (columns["arc_snr"] >= 5) & (columns["theta_e_over_psf"] >= 0.8)
    row = over(found, "theta_e_arcsec")[lambda t: t.x_low == 1.0].iloc[0]
    mine = (columns["theta_e_arcsec"] >= 1.0) & (columns["theta_e_arcsec"] < 1.25)
    assert (row.n, row.n_recovered) == (mine.sum(), hit[mine].sum()) and row.completeness == hit[mine].mean()
    regional = over(found, "theta_e_arcsec", region="nside8-2")[lambda t: t.x_low == 1.0].iloc[0]
    mine &= np.arange(3000) % 3 == 2
    assert (regional.n, regional.n_recovered) == (mine.sum(), hit[mine].sum())
    cell = over(found, "theta_e_arcsec", "src_mag_r")[lambda t: (t.x_low == 1.0) & (t.y_low == 22.0)].iloc[0]
    mag = columns["mag_r_observed"].astype(float) + columns["src_dmag"]
    mine = (columns["theta_e_arcsec"] >= 1.0) & (columns["theta_e_arcsec"] < 1.25) & (mag >= 22.0) & (mag < 22.5)
    assert (cell.n, cell.n_recovered) == (mine.sum(), hit[mine].sum())
    assert found.recovery.unique().tolist() == ["proxy"] and found.threshold.isna().all()
    for name in axes.AXES:
        assert over(found, name).n.sum() == 3000


def test_values_of_a_grid_fall_into_their_own_bins_and_what_is_beyond_into_the_last():
    of = axes.AXES["theta_e_arcsec"].bins({"theta_e_arcsec": np.float32([0.25, 0.5, 0.75, 2.99, 3.0, 9.0, np.nan])})
    assert of.tolist() == [1, 2, 3, 11, 11, 11, -1]
    seeing = axes.AXES["psf_fwhm_used_r_arcsec"]  # as float32 these lie below their edges
    assert seeing.bins({"psf_fwhm_used_r_arcsec": np.float32([0.7, 0.9, 1.3])}).tolist() == [1, 3, 7]
    assert axes.AXES["src_reff_arcsec"].bins({"src_reff_arcsec": np.float32([0.3, 0.7999, 0.6])}).tolist() == [6, 9, 9]


def test_bins_of_too_few_lenses_tell_no_share_but_their_counts():
    found = over(selection(lenses(300), [Recovery()], least=30), "theta_e_arcsec")
    few = found.n < 30
    assert 0 < few.sum() < len(found)
    assert (found.completeness.isna() == few).all() and (found.low.isna() == few).all()
    assert found.smooth.between(0, 1).all()


def test_the_smooth_surface_has_the_error_that_it_claims():
    x, y = np.meshgrid(np.linspace(-1, 1, 10), np.linspace(-1, 1, 8), indexing="ij")
    truth = 1 / (1 + np.exp(-(0.5 + 2.5 * x - 1.5 * y * y)))
    rng, off, plain = np.random.default_rng(4), [], []
    for _ in range(40):
        n = rng.poisson(25, truth.shape)
        found = rng.binomial(n, truth)
        share, error = curves.smooth(found, n)
        off.append((share - truth) / error)
        plain.append(np.nanmean((found / np.where(n > 0, n, np.nan) - truth) ** 2) / np.mean((share - truth) ** 2))
    off = np.array(off)
    assert 0.55 < (np.abs(off) < 1).mean() < 0.82
    assert (np.abs(off) < 2).mean() > 0.88
    assert np.median(plain) > 3  # nearer to the truth than the bins are


def test_a_bin_without_lenses_is_bridged_with_a_wider_error():
    n = np.array([200, 200, 0, 0, 0, 200, 200])
    share, error = curves.smooth(np.array([20, 60, 0, 0, 0, 160, 190]), n)
    assert (np.diff(share) > 0).all()
    assert error[3] > 1.3 * error[1]


# the job -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def selected(tiny_dataset, tiny_tier, tmp_path, capsys):
    """Run the job on some scores or none: (exit code, what it said, the table)."""

    def run(scores: pd.DataFrame | None = None, *flags: str):
        where = ["--tier", str(tiny_tier), "--root", str(tiny_dataset.root), "--dataset", "set", "--replace"]
        if scores is not None:
            scores.to_parquet(tmp_path / "scores.parquet", index=False)
            flags = ("--scores", str(tmp_path / "scores.parquet"), *flags)
        capsys.readouterr()
        code = main(["select", *where, *flags])
        return code, capsys.readouterr().err, None if code else runs.read(tiny_dataset, "selection").to_pandas()

    return run


@pytest.fixture(scope="module")
def metrics(tiny_dataset):
    return runs.read(tiny_dataset, "metrics").to_pandas()


def counted(dataset) -> dict:
    return dict(json.loads([r for r in runs.records(dataset) if r["command"] == "select"][-1]["counts"])["cuts"])


def test_without_scores_the_proxy_is_used_and_named(selected, metrics, tiny_dataset):
    code, _, found = selected(None, "--min-count", "5")
    lens = metrics[metrics.role == "injected"]
    hit = (lens.arc_snr >= 5) & (lens.theta_e_over_psf >= 0.8)
    assert code == 0 and set(found.recovery) == {"proxy"} and found.false_positive_rate.isna().all()
    assert over(found, "theta_e_arcsec").n_recovered.sum() == hit.sum() and 0 < hit.sum() < len(lens)
    assert counted(tiny_dataset) == {"lenses": len(lens), "found by proxy": int(hit.sum())}
    page = tiny_dataset.place.read("report/tiny/selection.html").decode()
    assert "proxy: arc S/N &gt;= 5" in page or "proxy: arc S/N >= 5" in page
    assert page.count("<img") == len(axes.AXES) + len(axes.SURFACES)


def test_scores_are_held_to_the_rate_of_the_controls_and_rates_that_are_too_fine_are_left_out(selected, metrics, tiny_dataset, monkeypatch):
    monkeypatch.setattr("jobs.select.RATES", (0.25, 0.125, 1e-3))
    scores = pd.DataFrame(
        {
            "task_id": metrics.task_id,
            "score": np.where(metrics.role == "injected", 0.6, 0.0) + draws.uniform("s", 1, np.arange(len(metrics))),
        }
    )
    code, _, found = selected(scores)
    assert code == 0 and set(found.recovery) == {"scores"} and set(found.false_positive_rate) == {0.25, 0.125}
    controls = scores.score[metrics.role.isin(["paired_control", "unpaired_control"])].sort_values(ascending=False)
    for rate, k in ((0.25, 12), (0.125, 6)):
        mine = found[found.false_positive_rate == rate]
        assert (
            (mine.threshold == controls.iloc[k - 1]).all()
            and (mine.n_controls == 48).all()
            and (mine.false_positive_rate_reached == k / 48).all()
        )
        assert over(mine, "theta_e_arcsec").n_recovered.sum() == (scores.score[metrics.role == "injected"] >= controls.iloc[k - 1]).sum()
    assert counted(tiny_dataset)["scored controls; a false-positive rate of 0.001 needs 1,000 and is left out"] == 48


def test_one_split_is_judged_on_its_own_lenses_and_controls(selected, metrics, monkeypatch):
    monkeypatch.setattr("jobs.select.RATES", (0.25,))
    scores = pd.DataFrame({"task_id": metrics.task_id, "score": draws.uniform("s", 2, np.arange(len(metrics)))})
    code, _, found = selected(scores, "--split", "train")
    train = metrics[metrics.split == "train"]
    assert code == 0 and over(found, "theta_e_arcsec").n.sum() == (train.role == "injected").sum()
    assert (found.n_controls == train.role.str.endswith("control").sum()).all()


@pytest.mark.parametrize("change, flags, sentence", [
    (lambda s, m: s[m.role == "injected"], [], "no score is of a control"),
    (lambda s, m: s[m.role != "injected"], [], "no score is of an injection"),
    (lambda s, m: s, [], "48 scored controls are too few for a false-positive rate of 0.01"),
    (lambda s, m: s.assign(score=np.nan), [], "no finite number"),
])  # fmt: skip
def test_scores_that_tell_nothing_are_named(change, flags, sentence, selected, metrics, monkeypatch):
    if "too few" not in sentence:
        monkeypatch.setattr("jobs.select.RATES", (0.25,))
    scores = pd.DataFrame({"task_id": metrics.task_id, "score": draws.uniform("s", 3, np.arange(len(metrics)))})
    code, said, _ = selected(change(scores, metrics), *flags)
    assert code == 3 and re.search(sentence, said), said


def test_regions_must_be_cells_of_the_tier():
    with pytest.raises(ConfigError, match="nside that is a power of 2 up to the tier's 1024, got 12"):
        axes.region_shift(tiers.load("demo"), 12)
    assert axes.region_shift(tiers.load("demo"), 8) == 14


def test_rows_are_of_the_schema():
    rows.check(pa.Table.from_pandas(selection(lenses(100), [Recovery()]), schema=SELECTION, preserve_index=False), SELECTION)
