"""``--plan``: what it counts is what the job then makes; it writes nothing; and the soft limit on rows."""

import json
import os
import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from jobs.__main__ import main
from lib import config, costs, runs, sampling, tiers
from lib.errors import ConfigError
from lib.schemas import SPLITS
from lib.store import Dataset
from tests import simulated, tables, tiny


@pytest.fixture
def parents_only(tiny_dataset, tmp_path):
    """A data set that has parents and nothing else."""
    here = Dataset.at(str(tmp_path / "root"), "set", "tiny")
    for run in runs.committed(tiny_dataset, "parent"):
        for table in ("parent", "runs"):
            shutil.copytree(tables.folder(tiny_dataset, tiny_dataset.run(table, run)), tables.folder(here, here.run(table, run)))
    tables.folder(here, "_arcmill.json").write_text("{}")
    return here


def tier_file(tmp_path, **changes: str) -> str:
    """The tiny tier with lines of it replaced."""
    text = tiny.TIER
    for old, new in changes.items():
        text = "\n".join(new if line.startswith(old) else line for line in text.splitlines())
    path = tmp_path / "changed.toml"
    path.write_text(text)
    return str(path)


def flags(tier, root, name="set") -> list[str]:
    return ["manifest", "--tier", str(tier), "--root", str(root), "--dataset", name]


def planned(argv, capsys) -> dict:
    capsys.readouterr()
    assert main([*argv, "--plan"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def files(folder) -> dict:
    return {str(p): p.lstat().st_mtime_ns for p in sorted(folder.rglob("*"))}


def test_the_plan_counts_what_the_job_made(tiny_dataset, tiny_tier, capsys):
    told = planned(flags(tiny_tier, tables.root(tiny_dataset)), capsys)
    rows = runs.read(tiny_dataset, "manifest").to_pandas()
    made = Counter(zip(rows.split, rows.role, strict=True))
    assert {(s, r): n for s, roles in told["rows"].items() for r, n in roles.items()} == {
        (s, r): made[s, r] for s in SPLITS for r in told["rows"][s]
    }
    assert (told["total_rows"], told["rows_are"], told["bricks_are"]) == (len(rows), "exact", "exact")
    assert told["hosts"] == rows[rows.role == "injected"].groupby("split").galaxy_id.nunique().to_dict()
    assert told["bricks"] == rows.brickname.nunique()


@pytest.mark.parametrize("count", [1, 5])
def test_the_bricks_of_a_plan_are_those_of_the_rows_whatever_the_pieces(count):
    tier = simulated.tier(hosts={"train": 60, "val": 12, "test": 12})
    parents = simulated.parents(3000, tier)
    order = np.random.default_rng(count).permutation(parents.num_rows)
    over = sampling.InMemory(parents.take(pa.array(part)) for part in np.array_split(order, count))
    bricks = sampling.bricks(over, sampling.plan(over, tier), tier)
    made = sampling.manifest(parents, tier, "set")
    assert bricks == len(made["brickname"].unique()) < len(parents["brickname"].unique())


def test_a_plan_writes_nothing_and_the_table_is_on_stderr(parents_only, tiny_tier, capsys, caplog):
    before = files(tables.root(parents_only))
    caplog.set_level("INFO")
    planned(flags(tiny_tier, tables.root(parents_only)), capsys)
    assert files(tables.root(parents_only)) == before
    assert "plan of tier tiny: rows are exact, bricks exact, costs estimated" in caplog.text


def test_a_plan_without_parents_is_of_the_config_alone(tiny_tier, tmp_path, capsys):
    told = planned(flags(tiny_tier, tmp_path / "none"), capsys)
    assert (told["total_rows"], told["rows_are"], told["bricks_are"]) == (120, "exact", "at most")
    assert told["costs_are"] == "at most"
    assert told["bricks"] == 12 + 24  # as many as hosts and unpaired controls
    assert not (tmp_path / "none").exists()


def test_a_plan_without_parents_of_what_there_is_says_at_most(tmp_path, capsys):
    told = planned(flags("train", tmp_path / "none"), capsys)
    assert (told["total_rows"], told["rows_are"]) == (10_000_000, "at most")
    assert told["hosts"] == {"train": 700_000, "val": 150_000, "test": 150_000}
    assert told["bricks"] <= 662_174


def test_more_galaxies_never_make_fewer_rows_than_the_most():
    tier = tiers.load("train")
    most = sampling.total(sampling.most_counts(tier))
    for eligible in (0, 1, 10_000, 1_000_000, 10**9):
        assert sampling.total(sampling.expected_counts(tier, dict.fromkeys(SPLITS, eligible))) <= most


def test_bytes_hours_and_dollars_are_the_figures_times_the_rows():
    figures = costs.load()
    rows = {s: {"injected": 500_000, "paired_control": 0, "unpaired_control": 0} for s in SPLITS}
    told = costs.Estimate("t", rows, dict.fromkeys(SPLITS, 1), 3600).told(figures)
    assert told["bytes"]["stamps"] == round(1_500_000 * figures.stamps_bytes.value)
    hours = (1_500_000 * figures.stamp_core_seconds.value) / 3600 + figures.brick_core_seconds.value
    assert told["core_hours"] == pytest.approx(hours, rel=1e-5)
    assert told["dollars"] == pytest.approx(hours * (figures.core_hour.value + 4 * figures.memory_hour.value), rel=1e-5)
    assert told["request_dollars"] == pytest.approx(3600 * figures.brick_requests.value * figures.request_million.value / 1e6, rel=1e-5)


@pytest.mark.parametrize("rows, hosts, bricks, says", [
    (40, 4, 36, ["bricks 36", "manifest 16.5 kB", "stamps 8.21 MB", "metrics 39.1 kB", "core-hours 0.00028", "inject, dollars 0.000022", "bucket, dollars 0.0071", "a month 0.00019"]),
    (3_333_333, 10**6, 662_174, ["bricks whole sky", "manifest 1.38 GB", "stamps 684 GB", "core-hours 7.6", "inject, dollars 0.57", "bucket, dollars 130", "a month 16"]),
])  # fmt: skip
def test_the_table_of_a_plan_has_digits_that_tell_whatever_its_size(rows, hosts, bricks, says):
    of = {s: {"injected": rows, "paired_control": 0, "unpaired_control": 0} for s in SPLITS}
    told = costs.Estimate("t", of, dict.fromkeys(SPLITS, hosts), bricks, costs.MOST, costs.MOST).told(costs.load())
    table = " ".join(" ".join(costs.lines(told, costs.load())).split())
    assert [text for text in says if text not in table] == []
    assert "whole sky" not in " ".join(costs.lines(told | {"bricks_are": costs.EXACT}, costs.load()))


def test_every_figure_says_where_it_comes_from_and_when():
    found = vars(costs.load()).values()
    for figure in (f for one in found for f in (one.values() if isinstance(one, dict) else [one])):
        assert figure.value > 0 and figure.unit and len(figure.source) > 10 and figure.date.startswith("20")


def test_a_figure_without_its_source_is_refused():
    values = config.plain(costs.load())
    del values["stamps_bytes"]["source"]
    with pytest.raises(ConfigError, match=r"missing key stamps_bytes\.source"):
        config.build(costs.Costs, values)


def test_a_stamp_takes_about_the_bytes_that_the_figures_say(tiny_dataset):
    for table in ("stamps", "metrics", "manifest"):
        size = sum(os.path.getsize(f) for f in tables.paths(tiny_dataset, table)) / 120
        assert (
            0.5 < size / getattr(costs.load(), f"{table}_bytes").value < (1.6 if table == "stamps" else 20)
        )  # small files are mostly footer


# the soft limit ------------------------------------------------------------------------------------------------------


def test_more_rows_than_the_tier_allows_are_refused_before_anything_is_decided(parents_only, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sampling, "plan", lambda *_: pytest.fail("decided"))
    limited = tier_file(tmp_path, **{"seed = 7": "seed = 7\nrows_max = 119"})
    assert main(flags(limited, tables.root(parents_only))) == 2
    assert "120 rows are more than tier tiny allows (rows_max = 119): --allow-rows 120" in capsys.readouterr().err
    assert main([*flags(limited, tables.root(parents_only)), "--allow-rows", "119"]) == 2
    assert not tables.folder(parents_only, parents_only.table("manifest")).exists()


@pytest.mark.parametrize("limit, more", [(119, ["--allow-rows", "120"]), (120, [])])
def test_as_many_rows_as_are_allowed_are_made(limit, more, parents_only, tmp_path, monkeypatch):
    limited = tier_file(tmp_path, **{"seed = 7": f"seed = 7\nrows_max = {limit}"})
    assert main([*flags(limited, tables.root(parents_only)), *more]) == 0
    assert runs.read(parents_only, "manifest").num_rows == 120


def test_a_plan_beyond_the_limit_is_told_and_says_so(tmp_path, capsys, caplog):
    caplog.set_level("INFO")
    limited = tier_file(tmp_path, **{"seed = 7": "seed = 7\nrows_max = 100"})
    told = planned(flags(limited, tmp_path / "none"), capsys)
    assert (told["total_rows"], told["rows_max"]) == (120, 100)
    assert "the job wants --allow-rows 120" in caplog.text


def test_the_limit_is_no_part_of_what_the_table_is(tiny_tier):
    tier = tiers.load(str(tiny_tier))
    one, other = (tiers.parts(config.plain(replace(tier, rows_max=n)), "manifest") for n in (1, 2))
    assert one == other
