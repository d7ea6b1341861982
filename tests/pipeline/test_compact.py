"""Fewer files with the same rows: what is published, and what is not."""

import shutil
from collections import Counter

import pyarrow.parquet as pq
import pytest

from jobs import compact
from jobs.__main__ import main
from lib import runs
from lib.errors import InputError, OutputError
from lib.store import Dataset
from tests import tables


@pytest.fixture
def copied(tiny_dataset, tmp_path):
    """The data set, in a root of its own."""
    shutil.copytree(tables.root(tiny_dataset), tmp_path / "root")
    return Dataset.at(str(tmp_path / "root"), "set", "tiny")


@pytest.fixture
def job(copied, tiny_tier):
    flags = ["--tier", str(tiny_tier), "--root", str(tables.root(copied)), "--dataset", "set"]
    return lambda table, *more: main(["compact", "--table", table, *flags, *more])


def by_task(dataset, table):
    return runs.read(dataset, table).sort_by("task_id")


@pytest.mark.parametrize("table", ["stamps", "metrics"])
def test_the_same_rows_lie_in_one_file_of_each_split(spark, table, job, copied):
    before, old, kept = by_task(copied, table), tables.paths(copied, table), runs.committed(copied, table)
    assert len(old) > 3
    assert job(table) == 0
    new = tables.paths(copied, table)
    assert by_task(copied, table).equals(before) and runs.committed(copied, table) == kept
    assert sorted(pq.read_table(path)["split"].unique().to_pylist() for path in new) == [["test"], ["train"], ["val"]]
    assert not any(path.exists() for path in old) and set(new) == set(tables.folder(copied, copied.table(table)).rglob("*.parquet"))
    footers = {pq.read_schema(path).metadata[b"config_hash"] for path in new}
    assert footers == {runs.records(copied)[-1]["config_hash"].encode()}


def test_one_that_gains_nothing_leaves_all_as_it_is(spark, job, copied, caplog):
    before = tables.paths(copied, "manifest")
    with caplog.at_level("INFO"):
        assert job("manifest") == 0
    assert "manifest: 1 files of 0 MB, fewer would be larger than 256 MB" in caplog.text and tables.paths(copied, "manifest") == before


def test_what_was_made_stays_reused_and_the_gates_still_read_it(spark, job, copied, tiny_survey, tiny_tier, caplog):
    assert job("stamps") == 0
    flags = ["--tier", str(tiny_tier), "--root", str(tables.root(copied)), "--dataset", "set"]
    with caplog.at_level("INFO"):
        assert main(["inject", "--survey", str(tiny_survey), *flags]) == 0
    assert "unchanged" in caplog.text


def test_rows_lost_on_the_way_are_not_published(spark, job, copied, monkeypatch, capsys):
    before = tables.paths(copied, "metrics")
    real = compact.plan
    monkeypatch.setattr(compact, "plan", lambda *a: real(*a)[1:])  # a split is forgotten
    assert job("metrics") == 3
    said = capsys.readouterr().err
    assert "compaction would change the table (test: keys" in said and "nothing is published" in said
    assert tables.paths(copied, "metrics") == before and all(path.exists() for path in before)


def test_a_row_for_another_of_the_same_number_is_seen():
    before, after = Counter({("val", "rows"): 2, ("val", "keys"): 30}), Counter({("val", "rows"): 2, ("val", "keys"): 31})
    with pytest.raises(InputError, match="val: keys 30 -> 31"):
        compact.require_same(before, after)


def test_what_a_killed_compaction_left_is_removed_by_the_next(spark, job, copied, monkeypatch):
    """Killed after new files were made, by another plan, before they took the place of the old."""
    before, real = by_task(copied, "metrics"), compact.plan

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    with monkeypatch.context() as planted:
        planted.setattr(compact, "plan", lambda *a: real(*a)[::-1][:1])
        planted.setattr(compact, "require_same", killed)
        with pytest.raises(Killed):
            job("metrics")
    assert len(list(tables.folder(copied, copied.table("metrics")).rglob("*.parquet"))) > len(tables.paths(copied, "metrics"))
    assert by_task(copied, "metrics").equals(before)
    assert job("metrics") == 0
    assert by_task(copied, "metrics").equals(before)
    assert set(tables.paths(copied, "metrics")) == set(tables.folder(copied, copied.table("metrics")).rglob("*.parquet"))


def test_a_tier_that_is_being_written_is_left_alone(spark, job, copied):
    with copied.writer("inject"), pytest.raises(OutputError, match="is being written by"), runs.rewritten(copied, "metrics"):
        pytest.fail("two writers")
    assert spark is not None
