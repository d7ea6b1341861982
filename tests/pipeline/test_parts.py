"""Two attempts at one chunk, as Spark makes them when it gives a worker up that goes on all the same; one writer at a time."""

import json
import time

import pytest

from lib import lease, place, rows, schemas
from lib.errors import OutputError
from lib.lease import held
from lib.parts import Chunk
from lib.store import Dataset


@pytest.fixture(params=["folder", "bucket"])
def dataset(request, tmp_path):
    root = str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3_bucket")
    made = Dataset.at(root, "set", "tiny")
    made.claim()
    return made


def negatives(score: float):
    values = {
        "rank": [1, 2], "galaxy_id": [5, 6], "split": ["train", "val"], "task_id": ["a", "b"], "role": ["paired_control"] * 2,
        "score": [score, score], "threshold": [0.5] * 2, "false_positive_rate": [0.01] * 2, "n_controls": [200] * 2, "kind": ["scored"] * 2,
    }  # fmt: skip
    return rows.table(values, schemas.NEGATIVES)


def attempt(dataset, score=0.9) -> Chunk:
    chunk = Chunk(dataset, "run", 3, {})
    chunk.write("negatives", negatives(score))
    return chunk


def there(dataset) -> list[str]:
    return sorted(f.name for f in dataset.place.files(dataset.run("negatives", "run")))


def test_attempts_that_make_the_same_make_one_file_and_one_record(dataset):
    first, second = attempt(dataset), attempt(dataset)
    a, b = first.commit({"rows": 2}, 1.0), second.commit({"rows": 2}, 5.0)
    assert a == b and a["core_seconds"] == 1.0  # the record that was there first
    assert there(dataset) == [f["path"] for f in a["files"]]


def test_an_attempt_that_makes_something_else_loses_to_the_first_and_leaves_nothing(dataset):
    first, second = attempt(dataset), attempt(dataset, 0.8)
    a, b = second.commit({}, 1.0), first.commit({}, 2.0)
    assert a == b and json.loads(dataset.place.read(f"{dataset.log('run')}/chunk-000003.json")) == a
    assert there(dataset) == [f["path"] for f in a["files"]]
    assert not dataset.scratch().exists() or not any(dataset.scratch().iterdir())


def test_an_attempt_that_is_given_up_leaves_nothing(dataset):
    chunk = attempt(dataset)
    chunk.abandon()
    assert there(dataset) == [] and not any(dataset.scratch().iterdir())


# one writer ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def somewhere(dataset):
    return dataset.place


def foreign(somewhere, silent_s: float) -> None:
    holder = lease._me() | {"host": "elsewhere", "what": "inject", "beat": time.time() - silent_s}
    assert somewhere.create("_lease/00000007.json", json.dumps(holder).encode())


def test_a_writer_on_another_machine_holds_while_it_beats(somewhere):
    foreign(somewhere, lease.DEAD_S - 10)
    with (
        pytest.raises(OutputError, match=r"is being written by inject \(process \d+ on elsewhere, last seen 5\d s ago\)"),
        held(somewhere, "_lease", "me"),
    ):
        pytest.fail("two writers")


def test_one_that_has_been_silent_for_long_is_dead(somewhere):
    foreign(somewhere, lease.DEAD_S + 10)
    with held(somewhere, "_lease", "me") as mine:
        assert mine.number == 8
        mine.require()
    with held(somewhere, "_lease", "again"):  # it was given back
        pass


def test_a_writer_that_wakes_up_after_another_took_over_finds_that_it_has_lost(somewhere, monkeypatch):
    monkeypatch.setattr(lease, "BEAT_S", 0.05)
    with held(somewhere, "_lease", "me") as mine:
        mine.require()
        other = lease._me() | {"host": "elsewhere", "what": "inject", "beat": time.time()}
        somewhere.create(f"_lease/{mine.number + 1:08d}.json", json.dumps(other).encode())
        end = time.monotonic() + 20
        while not mine.lost and time.monotonic() < end:
            time.sleep(0.05)
        with pytest.raises(OutputError, match="another run took over while this one was silent: inject"):
            mine.require()
    name, held_now = lease._last(somewhere, "_lease")
    assert (name, held_now["what"]) == (mine.number + 1, "inject")  # not given back: it is the other's


def test_of_two_that_take_the_same_number_one_gets_it(somewhere, monkeypatch):
    """Both saw no holder; the other was a moment faster."""
    monkeypatch.setattr(lease, "_last", lambda *_: (0, {}))
    assert somewhere.create("_lease/00000001.json", json.dumps(lease._me() | {"what": "first", "beat": time.time()}).encode())
    with (
        pytest.raises(OutputError, match="is being written by"),
        held(place.at(str(somewhere)) if somewhere.local else somewhere, "_lease", "me"),
    ):
        pytest.fail("two writers")
