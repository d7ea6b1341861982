"""Every stamp once an epoch, whoever reads it, and nothing that was not asked for."""

import shutil
import threading
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lib import reader, runs
from lib.errors import ConfigError, InputError
from lib.reader import contract, index, stream
from lib.schemas import TABLES
from lib.store import Dataset


def ids(batches) -> list[str]:
    return [task for batch in batches for task in batch["task_id"]]


@pytest.fixture(scope="module")
def truth(tiny_dataset) -> dict:
    """Rows of METRICS, and stamps as the decoder gives them, by task."""
    stamps = runs.read(tiny_dataset, "stamps")
    pixels = reader.batch(stamps)["stamp"]
    metrics = {row["task_id"]: row for row in runs.read(tiny_dataset, "metrics").to_pylist()}
    return {task: (metrics[task], pixels[k]) for k, task in enumerate(stamps["task_id"].to_pylist())}


@pytest.fixture
def small(tiny_dataset, tmp_path) -> Dataset:
    """A copy whose row groups are of five rows, so that there are many to share."""
    return rewritten(tiny_dataset, tmp_path, rows=5)


def rewritten(dataset: Dataset, where, rows: int = 1 << 20, **change) -> Dataset:
    """A copy whose files of each table in ``change`` are what the function makes of them."""
    copy = Dataset.at(where, "copy", dataset.tier)
    shutil.copytree(dataset.place.local, copy.place.local)
    for table in ("stamps", "metrics"):
        for name in runs.files(copy, table):
            path = copy.place.local / name
            found = pq.read_table(path)
            pq.write_table(change.get(table, lambda t: t)(found), path, row_group_size=rows)
    return copy


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_every_stamp_is_given_once_an_epoch_whatever_the_number_of_workers(small, truth, workers):
    stamps = reader.Stamps(small, batch_size=7, seed=3)
    assert len(stamps) == len(truth)
    orders = []
    for epoch in range(3):
        shares = [ids(stamps.epoch(epoch, worker=w, workers=workers)) for w in range(workers)]
        assert Counter(t for share in shares for t in share) == Counter(list(truth))
        orders.append(shares)
    assert orders[0] != orders[1] != orders[2]


def test_the_order_is_a_function_of_seed_epoch_and_worker(small, truth):
    first = ids(reader.Stamps(small, batch_size=7, seed=3).epoch(1, worker=1, workers=2))
    assert ids(reader.Stamps(small, batch_size=7, seed=3).epoch(1, worker=1, workers=2)) == first
    assert ids(reader.Stamps(small, batch_size=7, seed=4).epoch(1, worker=1, workers=2)) != first
    in_files = [t for name in sorted(runs.files(small, "stamps")) for t in pq.read_table(small.place.local / name)["task_id"].to_pylist()]
    assert ids(reader.Stamps(small, batch_size=7).epoch(shuffle=False)) == in_files
    assert ids(reader.Stamps(small, batch_size=7).epoch()) != in_files


def test_each_batch_holds_the_pixels_and_the_columns_of_its_tasks(small, truth):
    stamps = reader.Stamps(small, batch_size=7, columns=("role", "theta_e_arcsec", "arc_snr"), planes=("stamp", "mask"))
    sizes = []
    for batch in stamps.epoch(5):
        sizes.append(len(batch["task_id"]))
        assert set(batch) == {"stamp", "mask", "task_id", "role", "theta_e_arcsec", "arc_snr"}
        for k, task in enumerate(batch["task_id"]):
            row, pixels = truth[task]
            assert batch["stamp"][k].tobytes() == pixels.tobytes()
            assert batch["role"][k] == row["role"]
            assert np.isclose(batch["theta_e_arcsec"][k], row["theta_e_arcsec"])
            assert np.isnan(batch["arc_snr"][k]) == (row["arc_snr"] is None)
    assert set(sizes[:-1]) == {7}


@pytest.mark.parametrize("asked, passes", [
    ({"split": "test"}, lambda m: m["split"] == "test"),
    ({"roles": ("injected",)}, lambda m: m["role"] == "injected"),
    ({"filters": [("theta_e_over_psf", ">", 0.8)]}, lambda m: (m["theta_e_over_psf"] or 0) > 0.8),
    ({"split": "train", "filters": [[("role", "=", "injected"), ("arc_snr", ">", 30.0)], [("role", "=", "paired_control")]]},
     lambda m: m["split"] == "train" and (m["role"] == "paired_control" or (m["role"] == "injected" and m["arc_snr"] > 30))),
    ({"filters": [("theta_e_over_psf", ">", 1e3)]}, lambda m: False),
])  # fmt: skip
def test_only_what_is_asked_for_is_given(small, truth, asked, passes):
    stamps = reader.Stamps(small, batch_size=7, **asked)
    expected = {task for task, (row, _) in truth.items() if passes(row)}
    assert Counter(ids(stamps.epoch())) == Counter(expected)
    assert len(stamps) == len(expected)
    assert asked.get("filters") == [("theta_e_over_psf", ">", 1e3)] or 0 < len(expected) < len(truth)


def test_row_groups_of_other_splits_are_not_read(tiny_dataset, tmp_path):
    sorted_copy = rewritten(tiny_dataset, tmp_path, rows=5, stamps=lambda t: t.sort_by("split"))
    every, _ = index.groups(sorted_copy, None)
    some, _ = index.groups(sorted_copy, "test")
    assert 0 < len(some) < len(every)


def test_rows_that_were_not_made_are_left_out(tiny_dataset, truth, tmp_path):
    lost = sorted(truth)[::9]

    def spoil(table: pa.Table) -> pa.Table:
        status = pc.if_else(pc.is_in(table["task_id"], pa.array(lost)), "edge", table["status"])
        return table.set_column(table.schema.names.index("status"), table.schema.field("status"), status)

    stamps = reader.Stamps(rewritten(tiny_dataset, tmp_path, stamps=spoil, metrics=spoil))
    assert Counter(ids(stamps.epoch())) == Counter(set(truth) - set(lost))


@pytest.mark.parametrize("table", ["stamps", "metrics"])
def test_columns_that_the_contract_promises_and_a_table_lacks_are_all_named(tiny_dataset, tmp_path, table):
    gone = contract.CONTRACT[table][-2:]
    broken = rewritten(tiny_dataset, tmp_path, **{table: lambda t: t.drop_columns(list(gone)).replace_schema_metadata({})})
    with pytest.raises(InputError, match=f"the {table} table lacks {', '.join(gone)}, code_version") as error:
        reader.Stamps(broken)
    assert error.value.exit_code == 3


def test_the_contract_asks_for_columns_that_the_tables_have():
    assert {t: set(names) - set(TABLES[t].names) for t, names in contract.CONTRACT.items()} == {"stamps": set(), "metrics": set()}


@pytest.mark.parametrize("asked, says", [
    ({"split": "trian"}, "unknown split trian; known: train, val, test"),
    ({"roles": ["lens"]}, "unknown role lens"),
    ({"planes": ["arcs"]}, "unknown plane arcs"),
    ({"columns": ["theta_e"]}, r"theta_e \(did you mean theta_e_"),
    ({"filters": [("arc_snrs", ">", 5)]}, r"arc_snrs \(did you mean arc_snr"),
    ({"filters": [("arc_snr", ">", "five")]}, "filters"),
    ({"batch_size": 0}, "batch_size must be at least 1"),
])  # fmt: skip
def test_a_wrong_request_is_named(tiny_dataset, asked, says):
    with pytest.raises(ConfigError, match=says):
        reader.Stamps(tiny_dataset, **asked)
    with pytest.raises(ConfigError, match="worker must be from 0 to 1, got 2"):
        reader.Stamps(tiny_dataset).epoch(worker=2, workers=2)


def test_stamps_and_metrics_of_different_runs_are_refused(tiny_dataset, tmp_path):
    with pytest.raises(InputError, match="not of one run"):
        reader.Stamps(rewritten(tiny_dataset, tmp_path, metrics=lambda t: t.slice(1)))


def test_a_file_that_is_damaged_after_it_was_opened_is_told_where_batches_are_used(tiny_dataset, tmp_path):
    copy = rewritten(tiny_dataset, tmp_path)
    stamps = reader.Stamps(copy, batch_size=7)
    for name in runs.files(copy, "stamps"):
        (copy.place.local / name).write_bytes(b"PAR1 and no more PAR1")
    with pytest.raises(InputError, match="stamps"):
        list(stamps.epoch())


def test_batches_are_made_ahead_and_a_reader_that_stops_leaves_no_thread(small):
    made = threading.Event()

    def items():
        for k in range(100):
            if k == 3:
                made.set()
            yield k

    some = stream.ahead(items(), depth=4)
    assert next(some) == 0
    assert made.wait(5), "nothing is made while the first is in use"
    some.close()
    batches = reader.Stamps(small, batch_size=1).epoch()
    next(batches)
    batches.close()
    assert not [t for t in threading.enumerate() if t.name == "stamps ahead"]


def test_stamps_of_a_bucket_are_those_of_the_disk(small, truth, s3_bucket):
    far = Dataset.at(s3_bucket, "copy", "tiny")
    for file in small.place.files():
        far.place.put(file.name, small.place.read(file.name))
    here, there = (reader.Stamps(d, batch_size=7, split="train") for d in (small, far))
    for a, b in zip(here.epoch(2), there.epoch(2), strict=True):
        assert list(a["task_id"]) == list(b["task_id"])
        assert a["stamp"].tobytes() == b["stamp"].tobytes()


@pytest.mark.parametrize("loaders", [0, 2])
def test_torch_loaders_share_an_epoch(small, truth, loaders):
    torch_data = pytest.importorskip("torch.utils.data", reason="PyTorch, the extra `torch`, is not installed")
    from lib.reader import tensors

    data = tensors.Batches(reader.Stamps(small, batch_size=7, columns=("role", "arc_snr")))
    parts = [tensors.Batches(data.stamps, rank=rank, ranks=2) for rank in (0, 1)]
    orders = []
    for epoch in (0, 1):
        data.set_epoch(epoch)
        batches = list(torch_data.DataLoader(data, batch_size=None, num_workers=loaders))
        assert tuple(batches[0]["stamp"].shape) == (7, 3, 64, 64)
        orders.append(ids(batches))
        assert Counter(orders[-1]) == Counter(list(truth))
    assert orders[0] != orders[1]
    shared = [t for part in parts for t in ids(torch_data.DataLoader(part, batch_size=None, num_workers=loaders))]
    assert Counter(shared) == Counter(list(truth))


def test_torch_workers_read_a_bucket_unless_they_were_forked(small, truth, s3_bucket):
    torch_data = pytest.importorskip("torch.utils.data", reason="PyTorch, the extra `torch`, is not installed")
    from lib.reader import tensors

    far = Dataset.at(s3_bucket, "copy", "tiny")
    for file in small.place.files():
        far.place.put(file.name, small.place.read(file.name))
    data = tensors.Batches(reader.Stamps(far, batch_size=7))
    how = {"batch_size": None, "num_workers": 2}
    with pytest.raises(ConfigError, match="forkserver"):
        list(torch_data.DataLoader(data, **how, multiprocessing_context="fork"))
    assert Counter(ids(torch_data.DataLoader(data, **how, multiprocessing_context="forkserver"))) == Counter(list(truth))
