"""The tables of one tier as the gates see them: one pass over each, and rows of it for the asking.

Whatever is looked at is noted piece by piece (``validation.tally``), by Spark's workers, or, of a small table, by this process;
no table is ever in memory as a whole.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark.sql import SparkSession

from lib import runs, schemas, spark
from lib.errors import InputError
from lib.store import Dataset
from lib.tiers import Tier
from validation.result import Asked, Note
from validation.tally import Few, Rows, hashed, merged

SMALL = 131_072  # rows of a table that this process reads itself
BUCKETS = 16  # in which keys from all pieces come together
NOTES, FAULT = "notes", "fault"


@dataclass
class Data:
    """``session`` is started when the first large table (of more than ``small`` rows) is read, if none is given.

    ``passes`` counts the readings of each table.
    """

    session: SparkSession | None
    dataset: Dataset
    tier: Tier
    notes: dict[tuple[str, str], dict] = field(default_factory=dict)
    broken: dict[tuple[str, str], Exception] = field(default_factory=dict)
    passes: Counter = field(default_factory=Counter)
    kept: dict = field(default_factory=dict)  # what gates and the report share
    small: int = SMALL

    def files(self, table: str) -> list[str]:
        return runs.files(self.dataset, table)

    def rows(self, table: str) -> int:
        """As the record of the run that made it says."""
        named = {f["path"]: f["rows"] for r in runs.records(self.dataset) for f in r["files"]}
        return sum(named[path] for path in self.files(table))

    def large(self, table: str, cost: float = 1.0) -> bool:
        return self.rows(table) * cost > self.small

    def over(self, table: str, cost: float = 1.0):
        """Its pieces, where they are best read; ``cost`` is that of a row, in those of a row without pixels."""
        self.passes[table] += 1
        if not self.large(table, cost):
            return spark.Here(self.dataset, table)
        self.session = self.session or spark.session("arcmill validation")
        return spark.Pieces(self.session, self.dataset, table)

    def prepare(self, notes: Iterable[Note]) -> None:
        """Take notes, of each table all that are not taken yet in one pass."""
        wanted = [n for n in notes if (n.name, n.table) not in self.notes]
        for table in schemas.TABLES:
            if mine := [n for n in wanted if n.table == table]:
                try:
                    found = self._pass(table, mine)
                except Exception as error:  # of the table: each gate that reads it tells so
                    self.broken |= {(n.name, table): error for n in mine}
                    continue
                for note in mine:
                    self.notes[note.name, table] = found.get(note.name, {})
                    if said := self.notes[note.name, table].get(FAULT):
                        self.broken[note.name, table] = ValueError(said.values[0])

    def noted(self, note: Note) -> dict:
        if (key := (note.name, note.table)) not in self.notes and key not in self.broken:
            self.prepare([note])
        if key in self.broken:
            raise self.broken[key]
        return self.notes[key]

    def _pass(self, table: str, notes: list[Note]) -> dict[str, dict]:
        asked, by_name = Asked(self.tier, self.rows(table)), {n.name: n for n in notes}
        empty = Rows(schemas.TABLES[table].empty_table())
        none = {n.name: _noted(n, empty, asked) for n in notes}  # which columns are looked at, and what is noted of no rows
        empty.asked |= {"task_id"}  # of examples, which are looked up where something is wrong
        columns = [name for name in schemas.TABLES[table].names if name in empty.asked]
        found = self.over(table).by_key(partial(_piece, notes=notes, asked=asked), partial(_together, notes=by_name), columns)
        return {name: merged([none[name], *(of[name] for of in found if name in of)]) for name in by_name}

    def where(self, table: str, ids: np.ndarray, columns: list[str], key: str = "task_id") -> pa.Table:
        """Rows of some tasks, by the numbers of their ids (``tally.hashed``), in the order of these."""
        wanted = np.unique(ids)
        found = self.over(table).map(partial(_chosen, wanted=wanted, key=key, columns=columns), list(dict.fromkeys([key, *columns])))
        rows = pa.concat_tables(found)
        return rows.take(pa.array(np.argsort(hashed(rows[key]), kind="stable"))) if rows.num_rows else rows

    def stamps(self, ids: Iterable[str]) -> dict[str, dict]:
        """Rows of STAMPS by their ids; of a file only the row groups that hold them are read."""
        held = self.kept.setdefault("stamps", {})
        if lost := sorted({i for i in ids if i not in held}):
            over = self.over("stamps")
            for rows in over.each(partial(_stamps, self.dataset, lost), over.pieces):
                held |= {r["task_id"]: r for r in rows.to_pylist()}
        return {i: held[i] for i in ids if i in held}


def _noted(note: Note, rows: Rows, asked: Asked) -> dict:
    """What is noted of some rows; what went wrong, if anything, is told by the note's own gate."""
    try:
        if note.keyed:
            note.keyed(rows, asked) if not len(rows) else None
        return note.take(rows, asked) if note.take else {}
    except Exception as error:
        return {FAULT: Few((f"{type(error).__name__}: {error}",))}


def _piece(table: pa.Table, notes: list[Note], asked: Asked):
    rows = Rows(table)
    yield NOTES, {n.name: _noted(n, rows, asked) for n in notes}
    for note in notes:
        for name, pairs in (note.keyed(rows, asked) if note.keyed else {}).items():
            bucket = pairs[:, 0] >> np.uint64(60)
            for k in range(BUCKETS):
                if (mine := bucket == np.uint64(k)).any():
                    yield (note.name, name, k), pairs[mine]


def _together(key, values, notes: dict[str, Note]) -> dict[str, dict]:
    """Notes by gate, of all pieces."""
    if key == NOTES:
        return {name: merged(v[name] for v in values) for name in notes}
    note = notes[key[0]]
    assert note.settle is not None
    return {note.name: note.settle(key[1], np.concatenate(values))}


def _chosen(table: pa.Table, wanted: np.ndarray, key: str, columns: list[str]) -> pa.Table:
    return table.filter(pa.array(np.isin(hashed(table[key]), wanted))).select(columns)


def _stamps(dataset: Dataset, ids: list[str], piece) -> pa.Table:
    path, groups = piece
    wanted, found = pa.array(ids), [schemas.STAMPS.empty_table()]
    for group in groups:
        rows = spark.read_piece(dataset, path, [group], ["task_id"])
        if (mine := np.isin(hashed(rows["task_id"]), hashed(wanted))).any():
            found.append(spark.read_piece(dataset, path, [group]).replace_schema_metadata().filter(pa.array(mine)))
    return pa.concat_tables([t.cast(schemas.STAMPS) for t in found])


def require(rows: int, what: str) -> None:
    if not rows:
        raise InputError(f"no {what}")
