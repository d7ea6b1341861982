"""The jobs of a tier, declared once."""

from pathlib import Path

import pytest

from infra import dag
from jobs.__main__ import JOBS
from lib.errors import ConfigError

LENS = dag.Where("/out", "mine", tier="debug", survey="/sky")


def jobs(where: dag.Where) -> list[str]:
    return [step.job for step in dag.steps(where)]


def test_a_tier_is_its_jobs_in_an_order_that_they_can_run_in():
    assert jobs(LENS) == ["parent", "manifest", "inject", "validation", "select"]
    assert jobs(dag.Where("/out", "mine", recipe="survey", frames="/frames")) == ["tiles", "coadd", "validation.mosaic"]
    whole = dag.Where("/out", "mine", tier="debug", survey="/sky", simulated="4", bricks="/bricks")
    assert jobs(whole) == ["survey", "parent", "manifest", "cache", "inject", "validation", "select"]
    seen: set[str] = set()
    for step in dag.steps(whole):
        assert set(step.after) <= seen, f"{step.job} would run before what it waits for"
        seen.add(step.job)


def test_a_step_declared_before_what_it_waits_for_waits_for_nothing_and_is_seen():
    """The order of the declaration is the order of the run: a line in the wrong place shows."""
    swapped = tuple(sorted(dag.STEPS, key=lambda step: step.job != "inject"))
    assert [s.after for s in dag.steps(LENS, swapped) if s.job == "inject"] == [()]
    assert [s.after for s in dag.steps(LENS) if s.job == "inject"] == [("manifest",)]


def test_every_step_is_a_job_that_there_is():
    known = {*JOBS, "validation", "validation.mosaic"}
    assert {step.job for step in dag.STEPS} <= known


def test_inject_reads_the_copies_and_parent_the_survey():
    where = dag.Where("/out", "mine", tier="debug", survey="/sky", bricks="/bricks")
    told = {step.job: dag.argv(step, where, replace=True) for step in dag.steps(where)}
    assert told["parent"][1:3] == ["--survey", "/sky"] and told["inject"][1:3] == ["--survey", "/bricks"]
    assert told["cache"][1:5] == ["--source", "/sky", "--survey", "/bricks"]
    assert told["manifest"][-1] == "--replace" and "--replace" not in told["validation"]


def test_a_dry_run_prints_commands_that_a_shell_takes_back():
    import shlex

    where = dag.Where("/out here", "mine", tier="debug", survey="/sky")
    printed = dag.lines(where)[0]
    assert shlex.split(printed)[3:] == dag.argv(dag.steps(where)[0], where)


@pytest.mark.parametrize("where, says", [
    (dag.Where("/out", "mine"), "a tier or a recipe"),
    (dag.Where("/out", "mine", tier="debug"), "wants --survey"),
    (dag.Where("/out", "mine", recipe="survey"), "wants --frames"),
])  # fmt: skip
def test_a_run_that_lacks_something_is_told_so(where, says):
    with pytest.raises(ConfigError, match=says):
        dag.steps(where)


def test_the_order_of_the_jobs_is_written_nowhere_else():
    infra = Path(dag.__file__).parent
    others = [p.name for p in infra.rglob("*.py") if p.name != "dag.py" and ('"manifest"' in p.read_text() or '"inject"' in p.read_text())]
    assert others == []
