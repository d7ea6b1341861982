"""The manifest: exact counts, the same bytes from anywhere, quotas, matches."""

import dataclasses
import shutil
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import package
from jobs import __main__ as jobs
from jobs import manifest as manifest_job
from lib import config, draws, runs, sampling, tiers
from lib import spark as spark_tables
from lib.errors import ConfigError, InputError
from lib.sampling import choose, match, sides, tasks
from tests import servers, simulated, tables
from validation import __main__ as validation
from validation.data import Data


@pytest.fixture(scope="module")
def tier(tiny_tier):
    return tiers.load(str(tiny_tier))


@pytest.fixture(scope="module")
def parents(tiny_dataset):
    return runs.read(tiny_dataset, "parent")


@pytest.fixture(scope="module")
def manifest(tiny_dataset):
    return runs.read(tiny_dataset, "manifest").sort_by("task_id")


def in_pieces(parents, count, seed):
    """The parents in another order and in pieces."""
    rng = np.random.default_rng(seed)
    return sampling.InMemory(parents.take(pa.array(part)) for part in np.array_split(rng.permutation(parents.num_rows), count))


def made(over, tier):
    plan = sampling.plan(over, tier)
    return pa.concat_tables(t for piece in over.pieces for t in tasks.made(piece, plan, tier, "set")).sort_by("task_id")


# the same from anywhere ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7])
def test_the_manifest_is_the_same_from_any_pieces_in_any_order(count, parents, manifest, tier):
    assert made(in_pieces(parents, count, count), tier).equals(manifest)


@pytest.mark.parametrize("count", [1, 7])
def test_the_manifest_is_the_same_from_any_files_on_spark(count, spark, parents, manifest, tier, tiny_dataset, tmp_path, monkeypatch):
    paths, there = [], type(tiny_dataset).at(str(tmp_path), "set", "tiny")
    (tmp_path / "set").mkdir()
    for k, piece in enumerate(in_pieces(parents, count, 10 + count).pieces):
        paths.append(f"{k}.parquet")
        pq.write_table(piece, tmp_path / "set" / paths[-1], row_group_size=5)
    monkeypatch.setattr(spark_tables, "files", lambda *_: paths)
    monkeypatch.setattr(spark_tables, "PIECE", 10)
    over = spark_tables.Pieces(spark, there, "parent")
    assert len(over.pieces) > count  # of a file
    assert max(len(groups) for _, groups in over.pieces) == 2
    sent = spark.sparkContext.broadcast(sampling.plan(over, tier))
    here = type(tiny_dataset).at(str(tmp_path), "made", "tiny")
    with runs.start(here, "manifest", ["manifest"], config.plain(tier), {}) as run:
        rows = partial(manifest_job.rows, plan=sent, tier=tier, dataset=there)
        spark_tables.produce(spark, run, over.pieces, rows)
        assert run.rows == {"manifest": 120}
        run.commit({})
    read = runs.read(here, "manifest")
    assert read.sort_by("task_id").equals(manifest)


@pytest.mark.parametrize("todo", [[0, 1, 2, 3, 4], [1, 3], [4]])
def test_rows_come_to_the_chunks_that_are_not_made_and_to_no_other(todo, spark, manifest, tiny_dataset, tmp_path, monkeypatch):
    """Also where the last chunks of a run were made before it was stopped."""
    pq.write_table(manifest, tmp_path / "rows.parquet", row_group_size=7)
    monkeypatch.setattr(spark_tables, "files", lambda *_: ["rows.parquet"])
    monkeypatch.setattr(spark_tables, "PIECE", 14)
    there = type(tiny_dataset).at(str(tmp_path.parent), tmp_path.name, "tiny")
    found = spark_tables.routed(spark, there, "manifest", fifths, todo).collect()
    number = fifths(manifest)
    assert [n for n, _ in found] == todo
    for n, rows in found:
        assert rows.schema == manifest.schema.remove_metadata()
        assert rows.sort_by("task_id").equals(manifest.filter(pa.array(number == n)).replace_schema_metadata().sort_by("task_id"))


def fifths(rows) -> np.ndarray:
    """Each row's chunk of five; that of some rows is not known."""
    number = np.array([int(task[:4], 16) % 6 for task in rows["task_id"].to_pylist()])
    return np.where(number == 5, -1, number)


def test_the_manifest_is_the_same_from_a_cluster_of_two_workers(cluster, manifest, tiny_dataset, tiny_tier, tmp_path):
    shutil.copytree(tables.folder(tiny_dataset), tmp_path / "set")
    here = type(tiny_dataset).at(str(tmp_path), "set", "tiny")
    before = runs.committed(here, "manifest")
    job = ["manifest", "--tier", str(tiny_tier), "--root", str(tmp_path), "--dataset", "set", "--fresh"]
    done = servers.submit(cluster.address, package.build(tmp_path / "arcmill.zip"), job, tmp_path)
    assert done.wait() == 0, done.said()
    assert cluster.address in done.said()
    assert runs.committed(here, "manifest") != before
    assert runs.read(here, "manifest").sort_by("task_id").equals(manifest)


def test_what_is_drawn_does_not_depend_on_the_galaxies_around(parents, tier):
    """With fewer galaxies, a host that is still chosen has the same rows."""
    whole = made(sampling.InMemory([parents]), tier)
    hosts = whole["galaxy_id"].unique()
    keep = np.isin(parents["galaxy_id"].to_numpy(), hosts.to_numpy())
    unpaired = dataclasses.replace(tier, controls=dataclasses.replace(tier.controls, fraction=0.0))
    some, every = (made(sampling.InMemory([t]), unpaired) for t in (parents.filter(pa.array(keep)), parents))
    assert some.equals(every)


# exactly as many ------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2**32), st.data())
def test_the_last_key_is_that_of_sorting_them_all(sizes, seed, data):
    pieces = [
        draws.hash64("test", seed, np.arange(k * 100, k * 100 + n)) >> np.uint64(data.draw(st.sampled_from([0, 30])))
        for k, n in enumerate(sizes)
    ]
    everything = np.sort(np.concatenate(pieces))
    wanted = data.draw(st.integers(0, len(everything)))
    last = choose.last_keys(lambda f: [f(p) for p in pieces], lambda p: {"a": p}, {"a": wanted})
    chosen = sum(int(choose.chosen(p, last.get("a")).sum()) for p in pieces)
    assert chosen >= wanted
    assert last == ({"a": int(everything[wanted - 1])} if wanted else {})


def test_controls_take_every_galaxy_once_before_any_twice():
    keys = draws.hash64("test", 1, np.arange(300)).reshape(100, 3)
    order = np.argsort(choose.turns(keys).ravel())
    assert sorted(order[:100] // 3) == list(range(100))
    assert sorted(order[100:200] // 3) == list(range(100))


def test_every_injection_of_the_full_cross_is_there_once(parents, tier):
    cross = dataclasses.replace(
        tier,
        sample=dataclasses.replace(tier.sample, configs_per_host=0, replicates=2),
        controls=dataclasses.replace(tier.controls, fraction=0.0),
    )
    rows = made(sampling.InMemory([parents]), cross).to_pandas()
    assert len(rows) == 12 * 48 * 2 == len(rows.drop_duplicates(["galaxy_id", "config_id", "replicate"]))
    assert (rows.groupby("config_id").size() == 24).all()


# matches --------------------------------------------------------------------------------------------------------------


def side(values, first):
    count = len(values)
    return match.Side(np.arange(first, first + count), np.zeros(count, np.int32), np.zeros(count, np.int32), values.astype(np.float32))


def exact(lenses, others):
    """Closest pairs first, by looking at every pair."""
    far = np.abs(lenses.variables[:, None] - others.variables[None]).max(axis=2)
    partner, free = np.full(len(lenses), -1), np.ones(len(others), bool)
    for k in np.argsort(far, axis=None, kind="stable"):
        i, j = divmod(int(k), len(others))
        if partner[i] < 0 and free[j]:
            partner[i], free[j] = j, False
    return others.galaxy[partner]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 14), st.integers(0, 2**32 - 1))
def test_the_nearest_sixteen_are_matched_closest_pairs_first(count, seed):
    rng = np.random.default_rng(seed)
    lenses, others = side(rng.normal(size=(count, 3)), 0), side(rng.normal(size=(16, 3)), 100)
    found, left, _ = match.match(lenses, others)
    assert (len(found.partner), len(left)) == (count, 0)
    assert found.partner[np.argsort(found.lens.galaxy)].tolist() == exact(lenses, others).tolist()


def test_a_galaxy_is_used_once_and_the_limit_is_kept():
    rng = np.random.default_rng(5)
    lenses, others = side(rng.normal(size=(3000, 4)) * 3, 0), side(rng.normal(size=(4000, 4)) * 3, 10_000)
    found, left, free = match.match(lenses, others, 1.0)
    assert len(set(found.partner.tolist())) == len(found.partner) == 3000 - len(left) == 4000 - len(free)
    assert 0.0 <= found.distance.min() <= found.distance.max() <= 1.0
    far = np.abs(left.variables[:, None] - free.variables[None]).max(axis=2)
    assert far.min() > 1.0  # nobody who is left could have been matched
    by_id = dict(zip(others.galaxy.tolist(), others.variables, strict=True))
    apart = np.abs(found.lens.variables - np.array([by_id[g] for g in found.partner.tolist()])).max(axis=1)
    assert np.allclose(apart, found.distance, atol=1e-6)


@pytest.mark.parametrize("count", [1, 4])
def test_what_blocks_have_left_is_matched_together_whatever_the_pieces(count, monkeypatch):
    tier = simulated.tier(hosts={"train": 300, "val": 60, "test": 60})
    monkeypatch.setattr("lib.sampling.decisions.BLOCK", 60)
    plan = sampling.plan(in_pieces(simulated.parents(4000, tier), count, count), tier)
    assert len(set(plan.partner.tolist())) == len(plan.partner) == 378
    assert (plan.rung > 1).any() and (plan.rung == 1).any()
    assert plan.partner.sum() == sampling.plan(in_pieces(simulated.parents(4000, tier), 1, 9), tier).partner.sum()


def test_matches_are_nearly_as_close_as_those_of_looking_at_every_pair():
    rng = np.random.default_rng(3)
    lenses, others = side(rng.normal(size=(300, 3)), 0), side(rng.normal(size=(330, 3)), 1000)
    found, *_ = match.match(lenses, others)
    far = np.abs(lenses.variables[:, None] - others.variables[None]).max(axis=2)
    best = far[np.arange(300), exact(lenses, others) - 1000]
    assert found.distance.mean() == pytest.approx(best.mean(), rel=0.02)


def test_a_damaged_parent_file_is_named(spark, parents, tier, tiny_dataset, tmp_path, monkeypatch):
    there = type(tiny_dataset).at(str(tmp_path), "set", "tiny")
    path = tmp_path / "set" / "parent.parquet"
    path.parent.mkdir()
    pq.write_table(parents, path)
    monkeypatch.setattr(spark_tables, "files", lambda *_: [path.name])
    over = spark_tables.Pieces(spark, there, "parent")
    path.write_bytes(path.read_bytes()[:4000] + bytes(4000) + path.read_bytes()[8000:])
    with pytest.raises(InputError, match=r"parent\.parquet: "):
        sampling.plan(over, tier)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"parent\.parquet: "):
        spark_tables.Pieces(spark, there, "parent")


def test_an_unknown_value_is_near_to_no_known_one():
    hosts = pa.table({"mag_g": pa.array([20.0, None]), "mag_r": pa.array([19.0, 19.0])})
    values = sides.variables(hosts, {"gr": 0.5, "mag_r": 1.0})
    assert values[0].tolist() == [2.0, 19.0]
    assert values[1].tolist() == [sides.UNKNOWN, 19.0]


def test_unpaired_controls_are_other_galaxies_of_the_same_split_with_their_distance():
    tier = simulated.tier(hosts={"train": 300, "val": 60, "test": 60})
    parents = simulated.parents(4000, tier)
    rows = made(in_pieces(parents, 3, 1), tier).to_pandas()
    controls, injected = rows[rows.role == "unpaired_control"], rows[rows.role == "injected"].set_index("task_id")
    assert len(controls) == 0.9 * 420  # 5 injections a host, as many controls, 18 % of them unpaired
    assert controls.galaxy_id.is_unique
    assert not set(controls.galaxy_id) & set(injected.galaxy_id)
    lenses = injected.loc[controls.pair_id]
    assert (lenses.split.to_numpy() == controls.split.to_numpy()).all()
    off = [np.abs(lenses[c].to_numpy() - controls[c].to_numpy()) / w for c, w in tier.controls.tolerance.items() if c not in tiers.COLOURS]
    for name, parts in tiers.COLOURS.items():
        a, b = (t[parts[0]].to_numpy() - t[parts[1]].to_numpy() for t in (lenses, controls))
        off.append(np.abs(a - b) / tier.controls.tolerance[name])
    assert np.allclose(np.max(off, axis=0), controls.match_distance, rtol=1e-3, atol=1e-3)
    rung = np.searchsorted(tier.controls.ladder, controls.match_distance) + 1
    assert (rung == controls.match_rung).all()


# resolved -------------------------------------------------------------------------------------------------------------


def test_resolved_injections_have_their_quotas_of_the_hosts_own_psf():
    tier = simulated.tier(hosts={"train": 900, "val": 100, "test": 100})
    rows = made(sampling.InMemory([simulated.parents(6000, tier)]), tier).to_pandas()
    arcs = rows[rows.role == "injected"]
    over = arcs.theta_e_arcsec / (arcs.psfsize_r_arcsec * sampling.unit_fwhm(tier))
    for low, high, share in tier.resolved.strata:
        assert ((over > low - 1e-5) & (over < high + 1e-5)).mean() == pytest.approx(share, abs=0.02)
    assert arcs.theta_e_arcsec.max() <= tier.resolved.theta_e_max_arcsec + 1e-6
    mag = arcs.src_dmag + arcs.mag_r_observed
    bright, faint = tier.resolved.mag_r
    assert bright - 1e-4 <= mag.min() < mag.max() <= faint + 1e-4
    # counts of slope s: the share brighter than m is (10**sm - 10**sb) / (10**sf - 10**sb)
    s, middle = tier.resolved.counts_slope, 24.0
    wanted = (10 ** (s * middle) - 10 ** (s * bright)) / (10 ** (s * faint) - 10 ** (s * bright))
    assert (mag < middle).mean() == pytest.approx(wanted, abs=0.025)
    assert arcs.src_reff_arcsec.between(*tier.resolved.reff_range_arcsec).all()
    median = np.log10(arcs.src_reff_arcsec / tier.resolved.reff_arcsec) - tier.resolved.reff_slope_dex * (mag - tier.resolved.reff_mag_r)
    assert median.median() == pytest.approx(0.0, abs=0.02)


def test_a_host_of_unknown_psf_gets_no_resolved_injection():
    tier = simulated.tier(hosts={"train": 50, "val": 10, "test": 10})
    parents = simulated.parents(1500, tier)
    for name in sampling.SIZES:
        known = pa.array(parents[name].to_numpy(), pa.float32(), mask=np.arange(parents.num_rows) % 2 == 0)
        parents = parents.set_column(parents.schema.names.index(name), parents.schema.field(name), known)
    rows = made(sampling.InMemory([parents]), tier)
    assert rows.num_rows and rows["psfsize_r_arcsec"].null_count == 0


def test_one_kind_of_controls_can_be_asked_for_and_validation_judges_by_it(spark, tiny_dataset, tiny_tier, tmp_path):
    shutil.copytree(tables.folder(tiny_dataset), tmp_path / "set")
    flags = ["--tier", str(tiny_tier), "--root", str(tmp_path), "--dataset", "set"]
    assert jobs.main(["manifest", *flags, "--controls", "paired"]) == 2  # other settings, the key named, nothing lost
    assert jobs.main(["manifest", *flags, "--controls", "paired", "--replace"]) == 0
    here = type(tiny_dataset).at(str(tmp_path), "set", "tiny")
    assert set(runs.read(here, "manifest")["role"].to_pylist()) == {"injected", "paired_control"}
    tier = validation.as_made(tiers.load(str(tiny_tier)), here)
    by_name = {g.name: g for g in validation.GATES}
    assert [by_name[n].run(Data(spark, here, tier)).outcome for n in ("manifest_counts", "control_fraction")] == ["pass", "pass"]
    assert by_name["manifest_counts"].run(Data(spark, here, tiers.load(str(tiny_tier)))).outcome == "fail"


@pytest.mark.parametrize("kinds, paired", [("paired", 1.0), ("unpaired", 0.0), ("both", 0.5)])
def test_the_kinds_of_controls(kinds, paired, tier):
    assert tiers.with_controls(tier, kinds).controls.paired == paired


@pytest.mark.parametrize("change, says", [
    ({"fraction": 0.7}, "no kind of controls may be more than the injections"),
    ({"paired": 1.0, "tolerance": {}}, "tolerance must give a width"),
])  # fmt: skip
def test_controls_that_cannot_be_are_told(change, says, tier):
    with pytest.raises((ConfigError, ValueError), match=says):
        tiers.with_controls(dataclasses.replace(tier, controls=dataclasses.replace(tier.controls, **change)), "unpaired")


@pytest.mark.parametrize("change, says", [
    ({"strata": ((0.5, 1.2, 0.5), (1.0, 2.0, 0.5))}, "strata must not overlap"),
    ({"strata": ((0.5, 1.0, 0.33), (1.0, 2.0, 0.67))}, r"shares of strata must be multiples of 0\.05 above 0, got 0\.33"),
    ({"strata": ((0.5, 1.0, 0.3), (1.0, 2.0, 0.6))}, r"shares of strata must add up to 1, got 0\.3 \+ 0\.6 = 0\.9"),
    ({"strata": ()}, "shares of strata must add up to 1, got none"),
    ({"strata": ((1.0, 0.5, 1.0),)}, "strata must be .* with 0 < low < high"),
    ({"theta_e_max_arcsec": 0.0}, r"theta_e_max_arcsec must be above 0, got 0\.0"),
    ({"counts_slope": -0.3}, r"counts_slope must be above 0, got -0\.3"),
    ({"mag_r": (25.0, 21.5)}, "mag_r must rise, got"),
])  # fmt: skip
def test_a_prior_that_cannot_be_is_refused_by_its_key(change, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(simulated.tier().resolved, **change)
