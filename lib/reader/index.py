"""Which stamps are asked for: their rows of METRICS by task, and the row groups of STAMPS that may hold them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lib import runs
from lib.config import suggestion
from lib.errors import OK, ConfigError, InputError
from lib.reader import contract
from lib.schemas import METRICS
from lib.store import Dataset

THREADS = 16  # a table has thousands of files, a bucket some ten answers a second


@dataclass(frozen=True)
class Group:
    """A row group of a file of STAMPS."""

    file: str
    number: int
    rows: int


@dataclass(frozen=True)
class Wanted:
    """Rows of METRICS that pass, by the key of their task, which rises."""

    keys: np.ndarray
    rows: pa.Table

    def find(self, keys: np.ndarray) -> np.ndarray:
        """The row of each key, -1 where it is not wanted."""
        if not len(self.keys):
            return np.full(len(keys), -1)
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return np.where(self.keys[at] == keys, at, -1)


def keys(ids) -> np.ndarray:
    """The first 16 hexadecimal digits of task ids, as numbers.

    >>> keys(pa.array(["00000000000000ff" + 16 * "0"]))
    array([255], dtype=uint64)
    """
    text = np.asarray(ids.to_numpy(zero_copy_only=False), dtype="S32").view(np.uint8).reshape(-1, 32)[:, :16]
    digits = np.where(text >= ord("a"), text - (ord("a") - 10), text - ord("0"))
    return (digits[:, ::2] << 4 | digits[:, 1::2]).astype(np.uint8).copy().view(">u8")[:, 0].astype(np.uint64)


def terms(filters) -> list[list[tuple]]:
    """Filters as pyarrow has them, always as groups of which one must hold: ``[[(column, comparison, value), ...], ...]``."""
    if not filters:
        return [[]]
    return [list(group) for group in filters] if isinstance(filters[0], list) else [list(filters)]


def require_known(names) -> None:
    if unknown := [f"{name}{suggestion(name, METRICS.names)}" for name in names if name not in METRICS.names]:
        raise ConfigError(f"no such column of the metrics table: {', '.join(unknown)}")


def wanted(dataset: Dataset, columns: tuple[str, ...], filters) -> tuple[Wanted, int]:
    """(the rows that were made and pass the filters, rows there are)."""
    groups = terms(filters)
    used = {name for group in groups for name, _, _ in group}
    require_known([*columns, *sorted(used)])
    passing = pq.filters_to_expression([[("status", "=", OK), *group] for group in groups])
    asked = list(dict.fromkeys(["task_id", "status", *columns, *sorted(used)]))

    def of_file(name: str) -> tuple[pa.Table, int]:
        with runs.open_file(dataset, name) as file:
            contract.require("metrics", file.schema_arrow, f"{dataset.place}/{name}")
            try:
                return file.read(columns=asked).filter(passing).select(list(dict.fromkeys(["task_id", *columns]))), file.metadata.num_rows
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TypeError) as error:
                raise ConfigError(f"filters {filters}: {error}") from error

    with ThreadPoolExecutor(THREADS) as pool:
        tables, counts = zip(*pool.map(of_file, runs.files(dataset, "metrics")), strict=True)
    table = pa.concat_tables(tables)
    found = keys(table["task_id"])
    order = np.argsort(found, kind="stable")
    if len(twice := np.flatnonzero(np.diff(found[order].view(np.int64)) == 0)):
        raise InputError(f"{dataset.place}: the metrics table has task {table['task_id'][int(order[twice[0]])]} more than once")
    return Wanted(found[order], table.take(pa.array(order))), sum(counts)


def groups(dataset: Dataset, split: str | None) -> tuple[list[Group], int]:
    """(row groups that may hold rows of the split, rows there are)."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(partial(_of_file, dataset, split), sorted(runs.files(dataset, "stamps"))))
    return [group for groups, _ in found for group in groups], sum(rows for _, rows in found)


def _of_file(dataset: Dataset, split: str | None, name: str) -> tuple[list[Group], int]:
    with runs.open_file(dataset, name) as file:
        contract.require("stamps", file.schema_arrow, f"{dataset.place}/{name}")
        facts, at = file.metadata, file.schema_arrow.names.index("split")
        leaf = next(k for k in range(facts.num_columns) if facts.schema.column(k).path == file.schema_arrow.names[at])
        made = []
        for number in range(facts.num_row_groups):
            group = facts.row_group(number)
            told = group.column(leaf).statistics
            if split is None or told is None or not told.has_min_max or told.min <= split <= told.max:
                made.append(Group(name, number, group.num_rows))
        return made, facts.num_rows
