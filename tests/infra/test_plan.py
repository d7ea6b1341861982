"""Prices and hours: the arithmetic, by hand once, and what is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from infra import __main__ as infra
from infra import cluster, plan
from jobs.__main__ import main as job
from lib import costs
from lib.errors import ConfigError
from lib.frames import recipe as recipes

ROWS = {"train": {"injected": 36_000, "paired_control": 0, "unpaired_control": 0}}
ESTIMATE = costs.Estimate("train", ROWS, {"train": 1000}, 1000)


def told(argv: list[str], capsys) -> dict:
    assert infra.main(["plan", *argv]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_hours_and_dollars_are_those_of_the_figures():
    c, made = costs.load(), cluster.load("train")
    found = plan.figures(made, ESTIMATE, c)
    cpu = (36_000 * c.stamp_core_seconds.value + 1000 * c.brick_core_seconds.value) / 3600
    assert found["core_hours"] == pytest.approx(2.5 * cpu, rel=0.01)
    writes = found["bytes"] / (300e6 * 30)
    minutes = 8 + ((2.5 * cpu * 3600 + 1000 * 0.3) / 240 + writes) / 60
    assert found["minutes"] == pytest.approx(minutes, rel=0.01)
    hour = 0.1632 * 1.25 + 0.3264 * 1.25 + 29 * 0.3264 * (0.35 + 0.25)
    assert found["dollars_an_hour"] == pytest.approx(hour, abs=0.01)
    assert found["dollars"] == pytest.approx(minutes / 60 * hour + 1000 * 495 / 1e6 * 0.4, rel=0.02)


def test_the_error_bar_holds_the_value_and_is_that_of_the_figures():
    found = plan.figures(cluster.load("train"), ESTIMATE, costs.load())
    for name in ("core_hours", "minutes", "dollars"):
        assert found[f"{name}_from"] < found[name] < found[f"{name}_to"]
    sure = dataclasses.replace(costs.load(), **{
        name: dataclasses.replace(getattr(costs.load(), name), low=None, high=None)
        for name in ("stamp_core_seconds", "vcpu_slower", "brick_wait_seconds", "write_rate", "spot_share", "brick_requests")
    }, start_minutes={k: dataclasses.replace(v, low=None, high=None) for k, v in costs.load().start_minutes.items()})  # fmt: skip
    found = plan.figures(cluster.load("train"), ESTIMATE, sure)
    assert all(found[f"{name}_from"] == found[name] == found[f"{name}_to"] for name in ("core_hours", "minutes", "dollars"))


def test_the_last_line_is_json_with_all_that_is_asked_for(capsys):
    found = told(["--tier", "train"], capsys)
    assert {"rows", "bricks", "bytes", "core_hours", "dollars", "minutes", "prices", "prices_date"} <= found.keys()
    assert found["rows"] == 10_000_000 and found["bricks_are"] == "at most"
    assert told(["--tier", "train", "--bricks", "280000"], capsys)["bricks"] == 280_000


def test_rows_and_bytes_are_those_of_the_manifest_s_own_plan(capsys, tmp_path):
    assert job(["manifest", "--tier", "grid", "--root", str(tmp_path), "--dataset", "x", "--plan"]) == 0
    own = json.loads(capsys.readouterr().out.splitlines()[-1])
    found = told(["--tier", "grid"], capsys)
    assert found["rows"] == own["total_rows"] and found["bytes"] == sum(own["bytes"].values())
    assert found["storage_dollars_a_month"] == own["storage_dollars_a_month"]


def test_graviton_is_a_fifth_cheaper_on_serverless():
    made, c = cluster.load("debug"), costs.load()
    assert plan.priced(made, c) == pytest.approx(0.8 * plan.priced(dataclasses.replace(made, architecture="x86_64"), c))


def test_a_machine_without_a_price_is_named():
    made = cluster.load("train")
    other = dataclasses.replace(made.ec2, task=cluster.Fleet({"arm64": ("m9g.2xlarge",)}, spot=29))
    with pytest.raises(ConfigError, match=r"no price of m9g\.2xlarge in lib/costs\.toml"):
        plan.priced(dataclasses.replace(made, ec2=other), costs.load())


@pytest.mark.parametrize("gpu, name, hours", [("false", "grid", 3 * 6), ("true", "mosaic-gpu", 3 * 12)])
def test_of_a_mosaic_an_hour_is_priced_and_no_time_is_made_up(gpu, name, hours, capsys, tmp_path):
    recipe = (Path(recipes.__file__).parent / "recipes" / "survey.toml").read_text().replace('name = "survey"', 'name = "own"')
    (tmp_path / "own.toml").write_text(f"gpu = {gpu}\n{recipe}")
    found = told(["--recipe", str(tmp_path / "own.toml")], capsys)
    assert found["cluster"] == name and found["hours_to"] == hours
    assert "minutes" not in found and found["dollars_to"] >= hours * found["dollars_an_hour"]


@pytest.mark.parametrize("flags, says", [
    (["--recipe", "nosuch"], "unknown recipe 'nosuch'"),
    (["--recipe", "survey", "--cluster", "mosaic-gpu"], "recipe survey is for CPUs, and cluster mosaic-gpu has GPUs"),
    (["--tier", "debug", "--cluster", "mosaic-gpu"], "cluster mosaic-gpu has GPUs, and tier debug uses none"),
    (["--tier", "nosuch"], "unknown tier 'nosuch'"),
    (["--tier", "demo"], "tier demo has no machines of its own: give --cluster, one of debug, grid"),
])  # fmt: skip
def test_a_plan_is_of_something_that_there_is_on_machines_that_fit(flags, says, capsys):
    assert infra.main(["plan", *flags]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("bricks", ["-4", "0", "x"])
def test_bricks_are_counted_from_one(bricks, capsys):
    with pytest.raises(SystemExit, match="2"):
        infra.main(["plan", "--tier", "debug", "--bricks", bricks])
    assert "must be a whole number above 0" in capsys.readouterr().err


def test_machines_that_scaling_may_add_are_priced():
    made, c = cluster.load("train"), costs.load()
    more = dataclasses.replace(made, ec2=dataclasses.replace(made.ec2, machines_max=40))
    assert plan.priced(more, c) - plan.priced(made, c) == pytest.approx(10 * 0.3264 * (c.spot_share.value + c.emr_share.value))


def test_a_figure_with_one_bound_is_refused():
    with pytest.raises(ValueError, match="low and high are given together"):
        costs.Figure(1.0, "x", "y", "z", low=0.5)
