"""Hard negatives: from scores to a threshold of a known false-positive rate, one of each galaxy, and through the manifest to stamps."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from jobs.__main__ import main
from lib import draws, reader, runs, sampling, tiers
from lib.errors import InputError
from lib.sampling import tasks
from lib.store import Dataset
from lib.survey import morphology
from lib.survey.synthetic import shapes
from tests import tables
from validation.__main__ import GATES
from validation.data import Data

BY_NAME = {g.name: g for g in GATES}


@pytest.fixture(scope="module")
def tier(tiny_tier):
    return tiers.load(str(tiny_tier))


@pytest.fixture(scope="module")
def manifest(tiny_dataset):
    return runs.read(tiny_dataset, "manifest").to_pandas()


@pytest.fixture(scope="module")
def controls(manifest):
    return manifest[manifest.role.isin(["paired_control", "unpaired_control"])].reset_index(drop=True)


@pytest.fixture
def here(tiny_dataset, tmp_path):
    """A copy of the tiny data set's parents and manifest."""
    copy = Dataset.at(str(tmp_path / "root"), "set", "tiny")
    for table in ("parent", "manifest"):
        for run in runs.committed(tiny_dataset, table):
            for name in (table, "runs"):
                shutil.copytree(tables.folder(tiny_dataset, tiny_dataset.run(name, run)), tables.folder(copy, copy.run(name, run)))
    shutil.copy(tables.folder(tiny_dataset, "_arcmill.json"), tables.folder(copy))
    return copy


def random_scores(rows, seed=1) -> pd.DataFrame:
    """A scorer that looks at nothing: a number for each task."""
    return pd.DataFrame({"task_id": rows.task_id, "score": draws.uniform("score", seed, np.arange(len(rows)))})


@pytest.fixture
def mine(here, tiny_tier, tmp_path, capsys):
    """Run the job on some scores: (its exit code, the table or what it said)."""

    def run(scores: pd.DataFrame, *flags: str, name: str = "scores.parquet"):
        path = tmp_path / name
        if name.endswith(".csv"):
            scores.to_csv(path, index=False)
        elif not path.is_dir():
            scores.to_parquet(path, index=False)
        where = ["--tier", str(tiny_tier), "--root", str(tables.root(here)), "--dataset", "set", "--scores", str(path), "--replace"]
        capsys.readouterr()
        code = main(["negatives", *where, *flags])
        return code, runs.read(here, "negatives").to_pandas() if not code else capsys.readouterr().err

    return run


def told(here) -> dict:

    record = [r for r in runs.records(here) if r["command"] == "negatives"][-1]
    return dict(json.loads(record["counts"])["cuts"])


# threshold and galaxies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.05, 0.25])
def test_a_scorer_that_looks_at_nothing_reaches_the_rate_that_was_asked_for(rate, controls, mine):
    scores = random_scores(controls)
    code, made = mine(scores, "--false-positive-rate", str(rate))
    n = len(controls)
    assert code == 0
    assert (made.false_positive_rate == int(rate * n) / n).all() and rate - 1 / n < made.false_positive_rate[0] <= rate
    assert (made.threshold == np.sort(scores.score)[-int(rate * n)]).all()
    assert (made.n_controls == n).all()


def test_each_galaxy_is_there_once_with_its_highest_score_by_rank(controls, mine, here):
    scores = random_scores(controls, seed=2)
    _, made = mine(scores, "--false-positive-rate", "0.5")
    joined = controls.merge(scores, on="task_id")
    best = joined[joined.score >= made.threshold[0]].sort_values("score", ascending=False).drop_duplicates("galaxy_id")
    assert controls.galaxy_id.duplicated().any()  # paired controls of one galaxy show the same pixels
    for name in ("galaxy_id", "task_id", "score", "role", "split"):
        assert made[name].tolist() == best[name].tolist()
    assert made["rank"].tolist() == list(range(1, len(best) + 1))
    assert told(here)["controls at or above it"] == 24 and told(here)["controls at the threshold"] == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_the_order_and_the_files_of_the_scores_have_no_part_in_it(seed, controls, mine, tmp_path):
    scores = random_scores(controls, seed=3)
    scores.loc[5:15, "score"] = 0.97  # ties
    _, wanted = mine(scores, "--count", "7")
    shuffled = scores.sample(frac=1.0, random_state=seed)
    (tmp_path / "many").mkdir()
    for k, part in enumerate(np.array_split(np.arange(len(shuffled)), 5)):
        shuffled.iloc[part].to_parquet(tmp_path / "many" / f"{k}.parquet", index=False)
    _, made = mine(shuffled, "--count", "7", name="many")
    assert made.equals(wanted) and len(made) == 7


def test_controls_that_tie_are_all_taken_and_the_rate_says_so(controls, mine, here):
    _, made = mine(random_scores(controls).assign(score=0.5), "--false-positive-rate", "0.1")
    assert set(made.galaxy_id) == set(controls.galaxy_id)
    assert (made.false_positive_rate == 1.0).all()
    assert told(here)["controls at the threshold"] == len(controls)


def test_a_threshold_is_kept_and_csv_is_read_as_parquet_is(controls, mine):
    scores = random_scores(controls)
    _, made = mine(scores, "--threshold", "0.8", name="scores.csv")
    _, again = mine(scores, "--threshold", "0.8")
    assert made.equals(again)
    assert made.false_positive_rate[0] == (scores.score >= 0.8).mean()
    assert made.score.min() >= 0.8


def test_scores_of_injections_and_of_unknown_tasks_are_counted_and_left_out(manifest, controls, mine, here):
    strangers = pd.DataFrame({"task_id": ["nobody", "no one"], "score": [9.0, 9.0]})
    scores = pd.concat([random_scores(manifest).assign(score=lambda t: np.where(manifest.role == "injected", 5.0, t.score)), strangers])
    _, made = mine(scores, "--count", "3")
    assert set(made.task_id) <= set(controls.task_id)
    assert {k: v for k, v in told(here).items() if k.startswith(("scores", "of "))} == {
        "scores": 122, "of tasks that are not in the manifest": 2, "of injections and hard negatives": 72, "of controls": 48,
    }  # fmt: skip


FAULTS = {
    "NaN": (lambda s: s.assign(score=s.score.where(s.index != 3)), r"1 tasks have a score that is no finite number: "),
    "infinite": (lambda s: s.assign(score=s.score.replace(s.score[3], np.inf)), r"1 tasks have a score that is no finite number: "),
    "no number": (lambda s: s.assign(score=s.score.astype(str).replace(str(s.score[3]), "high")), r"1 tasks have a score that is no"),
    "doubled": (lambda s: pd.concat([s, s[:2]]), r"2 tasks are there more than once: "),
    "nameless": (lambda s: s.assign(task_id=s.task_id.where(s.index > 0)), r"rows without a task_id"),
    "none": (lambda s: s[:0], r"there are none"),
    "of others": (
        lambda s: s.assign(task_id="x" + s.task_id),
        r"no score is of a control of the manifest: of 48 scores 0 are of its injections or hard negatives, 48 of tasks",
    ),
    "without scores": (lambda s: s[["task_id"]], r"has no column score; it has task_id"),
    "too few": (lambda s: s[:5], r"a false-positive rate of 0.01 is less than one of 5 scored controls"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_scores_at_fault_are_named_and_nothing_is_written(name, controls, mine, here):

    change, sentence = FAULTS[name]
    code, said = mine(change(random_scores(controls)))
    assert code == 3
    assert re.search(sentence, said), said
    assert not tables.folder(here, here.table("negatives")).exists()


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--threshold", "2"], "no galaxy scores 2 or more, the 48 scored controls are of "),
        (["--count", "999"], "--count 999 is more galaxies than"),
    ],
)
def test_too_few_galaxies_are_an_error(flags, sentence, controls, mine):
    code, said = mine(random_scores(controls), *flags)
    assert (code, sentence in said) == (3, True)


# through the manifest ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_negatives(tiny_dataset, tiny_survey, tiny_tier, controls, tmp_path_factory):
    """(a data set whose manifest and stamps hold hard negatives, the table of negatives)."""
    root = tmp_path_factory.mktemp("hard")
    shutil.copytree(tables.folder(tiny_dataset), root / "set")
    random_scores(controls, seed=4).to_parquet(root / "scores.parquet", index=False)
    where = ["--tier", str(tiny_tier), "--root", str(root), "--dataset", "set"]
    assert main(["negatives", *where, "--scores", str(root / "scores.parquet"), "--count", "9"]) == 0
    assert main(["manifest", *where, "--negatives", str(root / "set"), "--replace"]) == 0
    assert main(["inject", *where, "--survey", str(tiny_survey), "--replace"]) == 0
    here = Dataset.at(str(root), "set", "tiny")
    return here, runs.read(here, "negatives").to_pandas()


def test_hard_negatives_come_on_top_one_a_galaxy_in_its_own_split(with_negatives, manifest):
    here, table = with_negatives
    rows = runs.read(here, "manifest").to_pandas()
    hard = rows[rows.role == "hard_negative"]
    assert dict(zip(hard.galaxy_id, hard.split, strict=True)) == dict(zip(table.galaxy_id, table.split, strict=True))
    assert len(hard) == 9 and (hard.pair_id == hard.task_id).all()
    assert (hard.theta_e_arcsec == 0).all() and (hard.source_model == "none").all()
    others = rows[rows.role != "hard_negative"].sort_values("task_id").reset_index(drop=True)
    assert others.equals(manifest.sort_values("task_id").reset_index(drop=True))


def test_their_stamps_are_made_and_are_bit_for_bit_those_of_the_scored_controls(with_negatives):
    here, table = with_negatives
    stamps = {r["task_id"]: r for r in runs.read(here, "stamps").to_pylist()}
    metrics = runs.read(here, "metrics").to_pandas().set_index("task_id")
    hard = metrics[metrics.role == "hard_negative"].reset_index().set_index("galaxy_id")
    assert (hard.status == "ok").all() and hard.arc_snr.isna().all()
    for galaxy, control in zip(table.galaxy_id, table.task_id, strict=True):
        one, other = stamps[hard.task_id[galaxy]], stamps[control]
        assert all(one[name] == other[name] for name in ("stamp", "invvar", "mask", "arc", "x_pix", "y_pix"))


@pytest.mark.parametrize("gate", ["manifest_counts", "manifest_unique", "control_fraction", "split_by_cell", "critical_nulls", "planes"])
def test_gates_count_hard_negatives_apart(gate, with_negatives, tier, spark):
    found = judged(gate, with_negatives[0], tier, spark)
    assert found.outcome == "pass", found.message


def judged(name, dataset, tier, spark):
    data = Data(spark, dataset, tier)
    return BY_NAME[name].run(data)


@pytest.mark.parametrize("gate, change, sentence", [
    ("manifest_counts", lambda rows, hard: rows.filter(pc.or_(pc.invert(hard), pc.not_equal(rows["split"], "train"))), "/hard_negative: 0 rows"),
    ("manifest_unique", lambda rows, hard: pa.concat_tables([rows, rows.filter(hard)]), "18 keys"),
    ("control_fraction", lambda rows, hard: repaired(rows, hard), "or, as hard negatives, one that is not their own"),
])  # fmt: skip
def test_planted_faults_of_hard_negatives_are_seen(gate, change, sentence, with_negatives, tier, spark, tmp_path):
    shutil.copytree(tables.root(with_negatives[0]), tmp_path / "root")
    broken = Dataset.at(str(tmp_path / "root"), "set", "tiny")
    tables.rewrite(broken, "manifest", lambda rows: change(rows, pc.equal(rows["role"], "hard_negative")))
    found = judged(gate, broken, tier, spark)
    assert found.outcome == "fail" and sentence in found.message, found.message


def repaired(rows, hard):
    """Hard negatives that say they belong to an injection."""
    injection = rows.filter(pc.equal(rows["role"], "injected"))["task_id"][0]
    return rows.set_column(rows.schema.names.index("pair_id"), rows.schema.field("pair_id"), pc.if_else(hard, injection, rows["pair_id"]))


@pytest.mark.parametrize("count", [1, 4])
def test_hard_negatives_are_the_same_from_any_pieces(count, tiny_dataset, with_negatives, tier):
    here, table = with_negatives
    parents, wanted = runs.read(tiny_dataset, "parent"), runs.read(here, "manifest").sort_by("task_id")
    order = np.random.default_rng(count).permutation(parents.num_rows)
    over = sampling.InMemory(parents.take(pa.array(part)) for part in np.array_split(order, count))
    plan = sampling.plan(over, tier, negatives={s: of.galaxy_id.to_numpy() for s, of in table.groupby("split")})
    made = pa.concat_tables(t for piece in over.pieces for t in tasks.made(piece, plan, tier, "set"))
    assert made.sort_by("task_id").equals(wanted)


@pytest.mark.parametrize("split, of", [("train", "val"), ("val", "train")])
def test_a_galaxy_that_changed_its_split_is_named(split, of, tiny_dataset, tier):
    parents = runs.read(tiny_dataset, "parent")
    galaxy = parents.filter(pc.equal(parents["split"], of))["galaxy_id"][:1].to_numpy()
    with pytest.raises(
        InputError, match=rf"1 hard negatives are not among the parents of their split \(galaxies {galaxy[0]} \({split}\)\)"
    ):
        sampling.plan(sampling.InMemory([parents]), tier, negatives={split: galaxy})


def test_a_galaxy_that_is_no_parent_any_more_is_named_by_the_job(here, tiny_tier, tmp_path, capsys):
    pq.write_table(pa.table({"galaxy_id": [17], "split": ["test"]}), tmp_path / "gone.parquet")
    where = [
        "--tier",
        str(tiny_tier),
        "--root",
        str(tables.root(here)),
        "--dataset",
        "set",
        "--replace",
        "--negatives",
        str(tmp_path / "gone.parquet"),
    ]
    assert main(["manifest", *where]) == 3
    assert "galaxies 17 (test)" in capsys.readouterr().err


def test_a_manifest_with_hard_negatives_is_another_one_and_the_plan_counts_them(with_negatives, tiny_tier, capsys):

    here, _ = with_negatives
    where = ["manifest", "--tier", str(tiny_tier), "--root", str(tables.root(here)), "--dataset", "set"]
    assert main(where) == 2  # refused: made with hard negatives
    assert "negatives" in capsys.readouterr().err
    assert main([*where, "--plan", "--negatives", str(here.place)]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    rows = runs.read(here, "manifest").to_pandas()
    assert told["total_rows"] == len(rows) == 129
    assert told["bricks"] == rows.brickname.nunique()
    assert sum(roles["hard_negative"] for roles in told["rows"].values()) == 9


# from what galaxies are ----------------------------------------------------------------------------------------------


@pytest.fixture
def listed(here, tmp_path) -> tuple:
    """(a list like the embedded survey's truth, the galaxies that a parent is of, by kind): every third parent 0.5 arcsec off, and strangers."""
    parents = runs.read(here, "parent").to_pandas().sort_values("galaxy_id")
    some = parents[~parents.split_guard][::3].reset_index(drop=True)
    kinds = np.array(["ring", "spiral", "edge_on", "merger", "field"])[np.arange(len(some)) % 5]
    table = Table(
        {"ra": np.r_[some.ra_deg, 10.0], "dec": np.r_[some.dec_deg + 0.5 / 3600, 10.0], "kind": np.r_[kinds, ["ring"]].astype("S10")}
    )
    folder = tmp_path / "truth" / "150"
    folder.mkdir(parents=True)
    table[: len(table) // 2].write(folder / "truth-a.fits")
    table[len(table) // 2 :].write(folder / "truth-b.fits")
    return folder.parent, {g: k for g, k in zip(some.galaxy_id, kinds, strict=True) if k != "field"}


def of_morphology(here, tiny_tier, *flags: str) -> int:
    return main(["negatives", "--tier", str(tiny_tier), "--root", str(tables.root(here)), "--dataset", "set", "--replace", *flags])


def test_galaxies_are_taken_for_what_a_list_says_they_are(here, listed, tiny_tier):
    truth, wanted = listed
    assert of_morphology(here, tiny_tier, "--morphology", str(truth)) == 0
    made = runs.read(here, "negatives").to_pandas()
    assert dict(zip(made.galaxy_id, made.kind, strict=True)) == wanted
    assert made["rank"].tolist() == list(range(1, len(wanted) + 1)) and made.score.isna().all() and made.task_id.isna().all()
    assert of_morphology(here, tiny_tier, "--morphology", str(truth / "150" / "truth-a.fits"), "--kinds", "ring") == 0
    some = runs.read(here, "negatives").to_pandas()
    assert set(some.kind) == {"ring"} and 0 < len(some) < len(made)


def test_a_galaxy_that_is_scored_and_listed_is_there_once(here, listed, controls, tiny_tier, mine):
    truth, wanted = listed
    _, made = mine(random_scores(controls), "--count", "20", "--morphology", str(truth))
    scored = made[made.score.notna()]
    assert made.galaxy_id.is_unique and len(scored) == 20
    assert made["rank"].tolist() == list(range(1, len(made) + 1)) and made.score.notna()[:20].all()
    assert set(made.galaxy_id) == set(wanted) | set(scored.galaxy_id)
    assert scored.kind.tolist() == [wanted.get(g, "scored") for g in scored.galaxy_id]
    assert 0 < scored.galaxy_id.isin(list(wanted)).sum() < 20


def test_lens_like_galaxies_go_through_the_whole_pipeline(tiny_dataset, tiny_survey, tiny_tier, listed, tier, spark, tmp_path):
    truth, wanted = listed
    shutil.copytree(tables.folder(tiny_dataset), tmp_path / "whole" / "set")
    where = ["--tier", str(tiny_tier), "--root", str(tmp_path / "whole"), "--dataset", "set"]
    assert main(["negatives", *where, "--morphology", str(truth)]) == 0
    assert main(["manifest", *where, "--negatives", str(tmp_path / "whole" / "set"), "--replace"]) == 0
    assert main(["inject", *where, "--survey", str(tiny_survey), "--replace"]) == 0
    made = Dataset.at(str(tmp_path / "whole"), "set", "tiny")
    metrics = runs.read(made, "metrics").to_pandas()
    hard = metrics[metrics.role == "hard_negative"]
    assert set(hard.galaxy_id) == set(wanted) and (hard.status == "ok").all() and hard.arc_snr.isna().all()
    batches = list(reader.Stamps(made, roles=["hard_negative"], planes=("stamp", "arc")).epoch())
    assert sum(len(b["task_id"]) for b in batches) == len(wanted) and not any(b["arc"].any() for b in batches)
    assert judged("manifest_counts", made, tier, spark).outcome == "pass"


@pytest.mark.parametrize("flags, change, sentence", [
    (["--kinds", "quasar"], None, "no galaxy of the lists is of kind quasar; kinds there: edge_on, field, merger, ring, spiral"),
    ([], lambda t: Table(t, names=("ra", "dec", "type")), "no column kind; columns there: ra, dec, type"),
    ([], lambda t: t["ra", "kind"], "no column of declination"),
])  # fmt: skip
def test_a_list_at_fault_is_named(flags, change, sentence, here, listed, tiny_tier, capsys):
    truth, _ = listed
    if change:
        path = truth / "150" / "truth-b.fits"
        change(Table.read(path)).write(path, overwrite=True)
    assert of_morphology(here, tiny_tier, "--morphology", str(truth), *flags) == 3
    assert sentence in capsys.readouterr().err


def test_a_folder_without_lists_and_lists_of_no_parent_are_named(here, tiny_tier, tmp_path, capsys):
    assert of_morphology(here, tiny_tier, "--morphology", str(tmp_path / "nowhere")) == 3
    assert "neither a list of galaxies nor a folder of such" in capsys.readouterr().err
    (tmp_path / "far.csv").write_text("ra,dec,kind\n10,10,ring\n")
    assert of_morphology(here, tiny_tier, "--morphology", str(tmp_path / "far.csv"), "--kinds", "ring") == 3
    assert "none of the 1 galaxies of the lists is within 1 arcsec of a parent" in capsys.readouterr().err


def test_the_embedded_survey_has_the_kinds_that_are_taken():
    assert set(morphology.LENS_LIKE) == set(shapes.DRAW)
