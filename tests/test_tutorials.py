"""Every command and every piece of Python in the tutorials runs, in its order, on a small data set."""

import contextlib
import io
import os
import re
import shlex
import shutil
from pathlib import Path

import duckdb
import pytest

from jobs.__main__ import main as job
from lib import runs
from lib.errors import ArcmillError
from tests import tables
from validation.__main__ import main as validation

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def steps(text: str) -> list[tuple[str, str]]:
    """(sh or python, what is to be run), in the order of the page."""
    found, code = [], None
    for line in text.splitlines():
        if line.startswith("```"):
            if code is not None:
                found.append(("python", "\n".join(code)))
            code = [] if code is None else None
        elif code is not None:
            code.append(line)
        elif line.startswith("    "):
            found.append(("sh", line.strip()))
    return found


@pytest.fixture(scope="module")
def demo(tiny_dataset, tmp_path_factory):
    """What stands for `make demo`: a copy of the tiny set."""
    root = tmp_path_factory.mktemp("tutorials")
    shutil.copytree(tables.folder(tiny_dataset), root / "set")
    return root


def run(kind: str, text: str, task: str, root: Path, survey: Path, tier: Path) -> None:
    there = {"out/demo/survey": str(survey), "out/demo/demo": f"{root}/set", "out/demo": str(root), "--tier demo": f"--tier {tier}",
             "--dataset demo": "--dataset set", '"demo", "demo")': '"set", "tiny")', "set:demo": "set:tiny"}  # fmt: skip
    for old, new in there.items():
        text = text.replace(old, new)
    if kind == "python":
        if "# needs torch" in text:
            pytest.importorskip("torch", reason="PyTorch, the extra `torch`, is not installed")
        exec(compile(text, "tutorial", "exec"), {})
        return
    words = [task if word == "TASK" else word for word in shlex.split(text)]
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:.*## ", (ROOT / "Makefile").read_text(), re.M), f"no target {words[1]}"
    elif words[0] == "duckdb":
        assert len(duckdb.sql(words[2]).fetchall()) > 0, text
    else:
        assert words[:2] == [".venv/bin/python", "-m"], text
        with contextlib.redirect_stdout(io.StringIO()):
            assert {"jobs": job, "validation": validation}[words[2]](words[3:]) == 0, text


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_runs(page, demo, tiny_dataset, tiny_survey, tiny_tier, spark, monkeypatch):
    monkeypatch.setattr("jobs.select.RATES", (0.25,))  # a false-positive rate of 0.01 is less than one of the tiny set's controls
    task = next(r["task_id"] for r in runs.read(tiny_dataset, "metrics", ["task_id", "role"]).to_pylist() if r["role"] == "injected")
    found = steps(page.read_text())
    assert len(found) >= 4
    for kind, text in found:
        run(kind, text, task, demo, tiny_survey, tiny_tier)


@pytest.mark.parametrize("kind, text", [
    ("sh", ".venv/bin/python -m jobs show nobody --tier demo --root out/demo --dataset demo"),
    ("sh", "duckdb -c \"select 1 from 'out/demo/demo/metrics/*/*/*.parquet' where role = 'lens'\""),
    ("sh", "make everything"),
    ("sh", "rm -rf out"),
    ("python", 'from lib import reader, store\nreader.Stamps(store.Dataset.at("out/demo", "demo", "demo"), split="trian")'),
])  # fmt: skip
def test_a_step_that_does_not_work_is_seen(kind, text, demo, tiny_survey, tiny_tier):
    with pytest.raises((AssertionError, ArcmillError)):
        run(kind, text, "t", demo, tiny_survey, tiny_tier)


def test_there_is_a_page_for_every_user_and_its_links_lead_somewhere():
    assert [p.stem for p in PAGES] == ["analyst", "astronomer", "data_engineer", "reviewer", "trainer"]
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        assert len(page.read_text().splitlines()) < 75, page.name
    assert os.path.isfile(ROOT / "docs" / "study.md")
