"""Gates on the manifest that need thousands of rows: they pass on a simulated train tier, and each is seen to fail."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lib import config, place, runs, sampling
from lib.store import Dataset
from tests import simulated
from tests.gates.conftest import put
from validation import balance
from validation.__main__ import GATES
from validation.data import Data

PLANTED: dict[str, list[str]] = {}
OF_TABLES = [
    g
    for g in GATES
    if g.table in ("parent", "manifest") or g.name in ("metadata_auc", "label_shuffle", "resolvability", "flux_theta_e_bins")
]


def fault(*names):
    """Of a test that sees gates fail; its name says when."""

    def register(test):
        for name in names:
            PLANTED.setdefault(name, []).append(
                test.__name__.removeprefix("test_").removesuffix("_is_seen").removesuffix("_are_seen").replace("_", " ")
            )
        return test

    return register


@pytest.fixture(scope="module")
def tier():
    """A hundredth of the train tier; with fewer galaxies to choose from, wider tolerances."""
    train = simulated.tier(hosts={"train": 7000, "val": 1500, "test": 1500})
    wide = {name: 2.5 * width for name, width in train.controls.tolerance.items()}
    controls, split = dataclasses.replace(train.controls, tolerance=wide, paired=0.86), dataclasses.replace(train.split, nside=256)
    return dataclasses.replace(train, controls=controls, split=split)


@pytest.fixture(scope="module")
def parents(tier):
    return simulated.parents(21_000, tier)


@pytest.fixture(scope="module")
def manifest(parents, tier):
    return sampling.manifest(parents, tier, "set")


@pytest.fixture(scope="module")
def metrics(manifest, tier):
    return simulated.metrics(manifest, tier)


@pytest.fixture
def judge(spark, parents, manifest, metrics, tier, tmp_path):
    """The outcome of gates on the data set, or on other tables in the place of its own; ``lists`` of known lenses."""

    def run(*names, lists=(), **other):
        dataset = Dataset.at(str(tmp_path / f"root{len(list(tmp_path.iterdir()))}"), "set", tier.name)
        for table, rows in ({"parent": parents, "manifest": manifest, "metrics": metrics} | other).items():
            inputs = {"known lenses": list(map(str, lists)), **place.fingerprint(lists)} if table == "parent" else {}
            with runs.start(dataset, table, [table], config.plain(tier), inputs) as run:
                run.write(table, rows)
                run.commit({})
        data = Data(spark, dataset, tier)
        return {g.name: g.run(data) for g in OF_TABLES if g.name in names or not names}

    return run


def unpaired(rows):
    return np.array(rows["role"].to_pylist()) == "unpaired_control"


def test_every_gate_passes_on_the_manifest_that_is_made(judge, parents, tmp_path):
    far = tmp_path / "lenses.csv"
    far.write_text("ra,dec\n1.0,88.0\n")
    found = judge(lists=[far])
    assert {name: (r.outcome, r.message) for name, r in found.items() if r.outcome != "pass"} == {}
    assert found["unpaired_match"].measured > 0.95
    assert found["metadata_auc"].measured < 0.52


@fault("split_fractions")
def test_a_giant_region_hashed_to_test_is_seen(judge, parents):
    south = pc.less(parents["dec_deg"], -40.0)
    result = judge("split_fractions", parent=put(parents, "split", pc.if_else(south, "test", parents["split"])))["split_fractions"]
    assert (result.outcome, result.measured > 0.1) == ("fail", True)
    says = r"^split test has \d\d\.\d\d % of the parent galaxies and should have 15 %: \d\d\.\d\d points off, 2 are allowed"
    assert re.search(says, result.message)


@fault("unpaired_match")
def test_an_offset_of_the_magnitudes_of_a_class_is_seen(judge, manifest):
    shift = np.where(unpaired(manifest), 0.3, 0.0)
    for band in "grz":
        manifest = put(manifest, f"mag_{band}", manifest[f"mag_{band}"].to_numpy() + shift)
    result = judge("unpaired_match", manifest=manifest)["unpaired_match"]
    assert result.outcome == "fail"
    assert "the means of lenses and controls differ most in mag_r, by 0.3" in result.message


@fault("metadata_auc", "unpaired_match")
def test_controls_that_were_not_matched_are_seen(judge, manifest, parents, tier):
    """Galaxies of the best seeing in the place of the matched ones, and the same rows without their rungs."""
    rng = np.random.default_rng(1)
    table, rows = manifest.to_pandas(), unpaired(manifest)
    pool = parents.to_pandas().sort_values("psfsize_r_arcsec").iloc[: 2 * rows.sum()].sample(rows.sum(), random_state=rng.integers(1 << 30))
    for name in ("galaxy_id", *(f"{k}_{b}{u}" for b in "grz" for k, u in (("mag", ""), ("psfsize", "_arcsec"), ("psfdepth", "_mag")))):
        values = table[name].to_numpy().copy()
        values[rows] = pool[name].to_numpy()
        manifest = put(manifest, name, values)
    result = judge("metadata_auc", metrics=simulated.metrics(manifest, tier))["metadata_auc"]
    assert (result.outcome, result.measured > 0.6) == ("fail", True)
    later = judge("unpaired_match", manifest=put(manifest, "match_rung", np.where(rows, 3, None)))["unpaired_match"]
    assert (later.outcome, later.measured) == ("fail", 0.0)


@fault("label_shuffle")
def test_a_label_that_leaks_into_a_feature_is_seen(judge, monkeypatch):
    known = balance.metadata
    monkeypatch.setattr(balance, "metadata", lambda rows: np.c_[known(rows), rows["role"].to_numpy() == "injected"])
    result = judge("label_shuffle")["label_shuffle"]
    assert (result.outcome, result.measured > 0.4) == ("fail", True)


@fault("label_shuffle")
def test_folds_that_share_galaxies_are_seen(judge, monkeypatch):
    monkeypatch.setattr(balance, "_folds", lambda y, groups, seed: np.random.default_rng(seed).integers(0, balance.FOLDS, len(y)))
    result = judge("label_shuffle")["label_shuffle"]
    assert (result.outcome, result.measured > 0.05) == ("fail", True)


@fault("known_lenses")
def test_a_known_lens_at_2_arcsec_is_seen(judge, manifest, tmp_path):
    host = manifest.slice(7, 1).to_pylist()[0]
    near = tmp_path / "near.csv"
    near.write_text(f"ra,dec\n10.0,88.0\n{host['ra_deg']},{host['dec_deg'] + 2 / 3600}\n")
    result = judge("known_lenses", lists=[near])["known_lenses"]
    assert (result.outcome, result.measured, result.examples) == ("fail", 1, (host["galaxy_id"],))


@fault("grid_values")
def test_a_missing_stratum_is_seen(judge, manifest):
    small = np.minimum(manifest["theta_e_arcsec"].to_numpy(), 0.6)
    result = judge("grid_values", manifest=put(manifest, "theta_e_arcsec", small))["grid_values"]
    assert result.outcome == "fail"
    assert "theta_e over the PSF's FWHM in" in result.message


def test_a_set_too_small_to_tell_fails_where_the_tier_is_not_called_small(judge, manifest, tier):
    few = manifest.filter(pa.array(~unpaired(manifest) | (np.arange(manifest.num_rows) % 50 == 0)))
    assert judge("unpaired_match", manifest=few)["unpaired_match"].outcome == "fail"
