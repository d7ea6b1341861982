"""What a gate notes of some rows of a table, and how notes of different rows are put together: ``+``, in any order.

Numbers, arrays and counters add up; ``Least``, ``Most``, ``Few``, ``First`` and ``Each`` are for what does not.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib import draws
from lib.errors import OK

FEW = 5  # examples that a gate names
ID_BYTES = 32  # of a task's id


class Rows:
    """Columns of some rows as arrays, null as NaN (or None in ``texts``); ``asked`` are the names of those that were looked at."""

    def __init__(self, table: pa.Table):
        self.table, self.asked = table, set[str]()

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> pa.ChunkedArray:
        self.asked.add(name)
        return self.table[name]

    def __getitem__(self, name: str) -> np.ndarray:
        found = self.column(name).to_numpy()
        return found if found.dtype != object else found.astype(float)  # integers and booleans with nulls

    def texts(self, name: str) -> np.ndarray:
        return self.column(name).to_numpy()

    def null(self, name: str) -> np.ndarray:
        return self.column(name).is_null().to_numpy()

    def isin(self, name: str, values: Iterable[str]) -> np.ndarray:
        """Whether a text is one of some; a null is none."""
        return pc.is_in(self.column(name), pa.array(list(values), pa.string())).to_numpy()

    @cached_property
    def made(self) -> np.ndarray:
        return self.isin("status", [OK])

    @cached_property
    def injected(self) -> np.ndarray:
        return self.isin("role", ["injected"])

    @cached_property
    def arc(self) -> np.ndarray:
        """Injections that were made."""
        return self.made & self.injected

    @cached_property
    def ids(self) -> np.ndarray:
        """A number for each task."""
        return hashed(self.column("task_id"))

    def few(self, mask, name: str = "task_id") -> "Few":
        return Few(tuple(self.column(name).filter(pa.array(mask)).slice(0, FEW).to_pylist()))

    def counts(self, *names: str) -> dict[tuple, int]:
        """How many rows of each combination of values."""
        if not len(self):
            for name in names:
                self.column(name)
            return {}
        found = pa.table({n: self.column(n) for n in names}).group_by(list(names)).aggregate([([], "count_all")])
        return {tuple(r[n] for n in names): r["count_all"] for r in found.to_pylist()}

    def take(self, mask, names: Iterable[str]) -> pa.Table:
        return pa.table({name: self.column(name) for name in names}).filter(pa.array(mask))


def hashed(column) -> np.ndarray:
    """A 64-bit number for each text: of ids of ``ID_BYTES`` digits without a loop."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not len(column):
        return np.empty(0, np.uint64)
    sizes = pc.binary_length(column).to_numpy(zero_copy_only=False)
    out = np.zeros(len(column), np.uint64)
    if (whole := sizes == ID_BYTES).all():
        _, offsets, data = column.buffers()
        first = np.frombuffer(offsets, np.int32)[column.offset]
        return _mixed(np.frombuffer(data, np.uint8)[first : first + ID_BYTES * len(column)])
    if whole.any():
        out[whole] = hashed(column.filter(pa.array(whole)))
    if not whole.all():
        other = column.filter(pa.array(~whole)).dictionary_encode()
        words = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) for text in other.dictionary.to_pylist()]
        out[~whole] = np.array(words, np.uint64)[other.indices.to_numpy()]
    return out


def _mixed(digits: np.ndarray) -> np.ndarray:
    return draws.hash64("task", 0, *digits.reshape(-1, ID_BYTES).view(np.int64).T)


def sampled(ids: np.ndarray, share: float) -> np.ndarray:
    """Rows of a sample: always the same ones, as an id's hash decides."""
    return np.ones(len(ids), bool) if share >= 1 else ids < np.uint64(int(share * 2**64))


@dataclass(frozen=True)
class Least:
    value: float = np.inf

    def __add__(self, other: "Least") -> "Least":
        return Least(min(self.value, other.value))


@dataclass(frozen=True)
class Most:
    value: float = -np.inf

    def __add__(self, other: "Most") -> "Most":
        return Most(max(self.value, other.value))


@dataclass(frozen=True)
class Few:
    """Some examples, the same few whatever the order."""

    values: tuple = ()

    def __add__(self, other: "Few") -> "Few":
        return Few(tuple(sorted({*self.values, *other.values}, key=str)[:FEW]))


@dataclass(frozen=True)
class First:
    """The ``most`` rows with the smallest values of a column (of ``task_id`` if they are equal)."""

    parts: tuple[pa.Table, ...]
    by: str
    most: int
    descending: bool = False

    def __add__(self, other: "First") -> "First":
        """Sorted now and then only: most of what is added up is put away again."""
        found = First(self.parts + other.parts, self.by, self.most, self.descending)
        return found if sum(t.num_rows for t in found.parts) < 8 * self.most else found.cut()

    def cut(self) -> "First":
        return First((self.rows,), self.by, self.most, self.descending)

    @cached_property
    def rows(self) -> pa.Table:
        order = [(self.by, "descending" if self.descending else "ascending"), ("task_id", "ascending")]
        return pa.concat_tables(self.parts).sort_by(order).slice(0, self.most).combine_chunks()


@dataclass(frozen=True)
class Each:
    """Rows that differ, equal ones once."""

    parts: tuple[pa.Table, ...]

    def __add__(self, other: "Each") -> "Each":
        return Each(self.parts + other.parts)

    @cached_property
    def rows(self) -> pa.Table:
        return distinct(pa.concat_tables(self.parts))


def distinct(rows: pa.Table) -> pa.Table:
    """Equal rows once."""
    return rows.group_by(rows.column_names).aggregate([]).select(rows.column_names).combine_chunks()


def merged(notes: Iterable[dict]) -> dict:
    """Notes of all rows of those of some."""

    def both(a: dict, b: dict) -> dict:
        return {k: a[k] + b[k] if k in a and k in b else a.get(k, b.get(k)) for k in a.keys() | b.keys()}

    return reduce(both, notes, {})
