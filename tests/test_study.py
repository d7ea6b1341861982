"""The study's parts, and the whole of it on a small set: what it measures is what it says."""

import doctest
import json
from dataclasses import replace

import numpy as np
import pytest

from jobs.__main__ import main as job
from lib import runs
from lib.store import Dataset
from study import judge, pixels, real
from study.__main__ import main
from tests.conftest import shared

N = 240


def toy(kind: str, seed: int = 1) -> pixels.Set:
    """Hosts of different brightness: injections with an ``arc`` three arcsec out, or with ``central`` light, paired and unpaired controls."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: pixels.SIDE, : pixels.SIDE] - 0.5 * (pixels.SIDE - 1)
    hosts = np.exp(-0.5 * (x * x + y * y) / 9.0) * rng.uniform(0.1, 0.5, (2 * N, 3, 1, 1))
    turn = rng.uniform(0, 2 * np.pi, N)[:, None, None]
    arc = np.exp(-0.5 * ((x - 11 * np.cos(turn)) ** 2 + (y - 11 * np.sin(turn)) ** 2) / 4.0)[:, None] * 0.05
    if kind == "central":
        arc = np.broadcast_to(np.exp(-0.5 * (x * x + y * y) / 4.0), (N, 1, *x.shape)) * 1.0
    arc = np.repeat(arc, 3, axis=1)
    stamp = np.concatenate([hosts[:N] + arc, hosts[:N], hosts[N:]]) + rng.normal(0, 0.004, (3 * N, 3, *x.shape))
    ids = np.array([f"t{k}" for k in range(3 * N)], object)
    facts = {
        "task_id": ids, "pair_id": np.tile(ids[:N], 3), "role": np.repeat(["injected", "paired_control", "unpaired_control"], N),
        "theta_e_over_psf": np.where(np.arange(3 * N) < N, 2.0, np.nan), "galaxy_id": np.arange(3 * N),
    } | {f"psf_fwhm_used_{b}_arcsec": np.full(3 * N, 1.0) for b in "grz"}  # fmt: skip
    return pixels.Set(stamp.astype(np.float32), np.concatenate([arc, np.zeros((2 * N, *arc.shape[1:]))]).astype(np.float32), facts)


def test_blanking_the_arc_tells_nothing_by_the_blank():
    some = toy("arc")
    blanked = pixels.without_arc(some).stamp == 0
    lens, paired, unpaired = (blanked[some.of(role)] for role in ("injected", "paired_control", "unpaired_control"))
    assert (lens == paired).all() and (lens == unpaired).all()
    assert lens.any(axis=(1, 2, 3)).all() and lens.mean() < 0.1
    gone = some.arc[:N].sum() - some.arc[:N][~lens].sum()
    assert gone > 0.85 * some.arc[:N].sum()


def test_blanking_the_core_takes_the_core_alone():
    some = toy("arc")
    blank = pixels.without_core(some).stamp == 0
    assert blank.sum(axis=(2, 3)).max() == blank.sum(axis=(2, 3)).min() == 80  # pi 5**2, in whole pixels
    assert (pixels.without_core(some).stamp[~blank] == some.stamp[~blank]).all()


def test_central_light_has_the_arcs_flux_and_no_arc():
    some = toy("arc")
    made = pixels.with_central_light(some)
    added = made.stamp - some.stamp[some.of("paired_control")]
    np.testing.assert_allclose(added.sum(axis=(2, 3)), some.arc[:N].sum(axis=(2, 3)), rtol=1e-3)
    y, x = np.mgrid[: pixels.SIDE, : pixels.SIDE] - 0.5 * (pixels.SIDE - 1)
    assert (added * (np.hypot(x, y) > 8)).sum() < 0.05 * added.sum()
    assert len(made) == N and (made.facts["role"] == "paired_control").all()


def test_measures_are_what_their_names_say():
    assert judge.auc(np.arange(10.0) + 10, np.arange(10.0)).value == 1.0
    rng = np.random.default_rng(1)
    chance = [judge.auc(*rng.normal(size=(2, 300))) for _ in range(200)]
    assert np.std([c.value for c in chance]) == pytest.approx(np.mean([c.error for c in chance]), rel=0.15)
    controls = rng.permutation(2000.0 + np.arange(2000))
    assert judge.threshold(controls, 1e-2) == 3980 and judge.threshold(controls, 1e-3) == 3998
    assert np.isnan(judge.threshold(controls[:900], 1e-3)) and np.isnan(judge.share(controls, float("nan")))
    some = toy("arc")
    scores = np.where(some.of("injected"), 1.0, 0.0) + 0.001 * rng.random(len(some))
    found = judge.measures(some, {"plain": scores, "core": scores, "arc": np.zeros(len(some)), "blob": np.zeros(N)})
    assert found["auroc resolved"].value == 1.0 and found["tpr resolved at fpr 0.01"] == 1.0
    assert found["auroc resolved, arc blanked"].value == 0.5 and np.isnan(found["tpr resolved at fpr 0.001"])  # 480 controls


def test_a_network_learns_arcs_and_falls_when_they_are_blanked():
    pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")
    from study import network

    train, test = toy("arc"), toy("arc", seed=2)
    some = train.take(train.of("injected", "unpaired_control"))
    models = [network.train(some.stamp, some.lens, 4, seed=3) for _ in range(2)]
    scores = network.scores(models[0], test.stamp)
    assert (scores == network.scores(models[1], test.stamp)).all()  # by the seed
    found = judge.measures(test, {
        "plain": scores, "core": network.scores(models[0], pixels.without_core(test).stamp), "arc": network.scores(models[0], pixels.without_arc(test).stamp),
        "blob": network.scores(models[0], pixels.with_central_light(test).stamp),
    })  # fmt: skip
    assert found["auroc resolved"].value > 0.97
    assert found["auroc resolved, arc blanked"].value < 0.75 < found["auroc resolved, core blanked"].value
    labels = replace(some, facts=some.facts | {"role": np.random.default_rng(4).permutation(some.facts["role"])})
    by_lot = network.scores(network.train(some.stamp, labels.lens, 4, seed=3), test.stamp)
    assert abs(judge.resolved(test, by_lot).value - 0.5) < 0.2  # what it learned of labels drawn by lot


def test_the_whole_study_runs_on_a_small_set(tiny_dataset, tiny_survey, tiny_tier, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")
    parents = runs.read(tiny_dataset, "parent").filter(~runs.read(tiny_dataset, "parent")["split_guard"].to_numpy()).to_pylist()
    listed = tmp_path / "kinds.csv"
    listed.write_text("ra,dec,kind\n" + "".join(f"{p['ra_deg']},{p['dec_deg']},ring\n" for p in parents[::4]))

    def second(root, scored):
        assert len(scored["task_id"]) == len(scored["score"]) > 20
        where = ["--tier", str(tiny_tier), "--root", str(tmp_path), "--dataset", "hard"]
        for step in (["parent", "--survey", str(tiny_survey)], ["negatives", "--morphology", str(listed), "--kinds", "ring"],
                     ["manifest", "--negatives", str(tmp_path / "hard")], ["inject", "--survey", str(tiny_survey)]):  # fmt: skip
            assert job([*step, *where]) == 0
        return Dataset.at(tmp_path, "hard", "tiny")

    monkeypatch.setattr("study.sky.first", lambda root, bricks, seed: tiny_dataset)
    monkeypatch.setattr("study.sky.second", second)
    monkeypatch.setattr("study.judge.STRATA", judge.STRATA | {"resolved": (0.2, np.inf)})  # a split of few lenses
    assert main(["--out", str(tmp_path), "--epochs", "1"]) == 0
    out = capsys.readouterr().out.splitlines()
    told = json.loads(out[-1])
    assert set(told) == {"auroc_unpaired", "auroc_paired", "auroc_hard", "tpr_at_fpr_1e-3", "metadata_auc", "zero_flux_auc"}
    assert told["tpr_at_fpr_1e-3"] is None  # of some twenty controls
    assert all(0 <= told[k] <= 1 for k in ("auroc_unpaired", "metadata_auc", "zero_flux_auc"))
    assert (tmp_path / "scores.parquet").is_file() and any(line.startswith("| auroc resolved |") for line in out)


def test_real_candidates_are_ranked_among_real_galaxies():
    folder = shared(real.CANDIDATES).parent
    names, stamps = real.candidates(folder)
    among = real.others(folder)
    assert len(names) == 3 and stamps.shape == (3, 3, pixels.SIDE, pixels.SIDE) and among.shape == (46, 3, pixels.SIDE, pixels.SIDE)
    noise = np.median(np.abs(among - np.median(among, axis=(2, 3), keepdims=True)), axis=(0, 2, 3)) * 1.48
    assert (np.abs(np.log(noise / pixels.NOISE[:, 0, 0])) < np.log(1.5)).all()  # the unit is right: DES is as deep as DR10


@pytest.mark.parametrize("module", [judge, real])
def test_examples_in_the_text_hold(module):
    assert doctest.testmod(module).failed == 0 < doctest.testmod(module).attempted


@pytest.mark.parametrize("argv, says", [(["--epochs", "0"], "whole number above 0"), (["--bricks", "x"], "whole number above 0")])
def test_a_wrong_wish_is_named(argv, says, capsys):
    with pytest.raises(SystemExit) as error:
        main(argv)
    assert error.value.code == 2 and says in capsys.readouterr().err
