"""Shared by all tests: the session, a small survey, a small data set made by the jobs themselves."""

import os
import sys
from pathlib import Path

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("ARCMILL_MASTER", "local[2]")

import pytest

from tests import tiny

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """A folder of real survey data; the test is skipped with a reason where it is absent."""
    if not (SHARED / name).exists():
        pytest.skip(f"real survey data are not here: {SHARED / name}")
    return SHARED / name


@pytest.fixture(scope="session")
def spark():
    from lib.spark import session

    return session("tests")


@pytest.fixture(scope="session")
def tiny_survey(tmp_path_factory) -> Path:
    """Six bricks of 560 px, 25 hosts each. Do not change it: copy what you break."""
    return tiny.make(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="session")
def tiny_tier(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tier") / "tiny.toml"
    path.write_text(tiny.TIER)
    return path


@pytest.fixture(scope="session")
def tiny_dataset(spark, tiny_survey, tiny_tier, tmp_path_factory):
    """parent, manifest, stamps and metrics of the tiny tier. Do not change it: copy what you break."""
    from jobs.__main__ import main
    from lib.store import Dataset

    root = tmp_path_factory.mktemp("root")
    tables = ["--tier", str(tiny_tier), "--root", str(root), "--dataset", "set"]
    assert main(["parent", "--survey", str(tiny_survey), *tables]) == 0
    assert main(["manifest", *tables]) == 0
    assert main(["inject", "--survey", str(tiny_survey), *tables]) == 0
    return Dataset.at(str(root), "set", "tiny")
