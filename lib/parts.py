"""A chunk of a run: its files written by one attempt on this machine's disk, put in their tables, and committed by one record.

A file is named by its chunk and its content, so that a second attempt that makes the same makes no second file.  What of a run
counts is what its records name: a record is made by a conditional create, so of several attempts at a chunk one wins.
"""

import hashlib
import io
import json
import resource
import shutil
import sys
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from lib import parquet, rows, schemas
from lib.errors import Unreachable
from lib.store import Dataset


def peak_mb() -> float:
    """The most memory that this process has held."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(most / (1024 if sys.platform != "darwin" else 1 << 20), 1)


class Digested(io.FileIO):
    """A new file, and the hash of what was written to it."""

    def __init__(self, path: Path):
        super().__init__(path, "wb")
        self.path, self.size, self.sha256 = path, 0, hashlib.sha256()

    def write(self, data) -> int:
        """All of it: a disk that takes only a part gives its error for the rest."""
        view = memoryview(data).cast("B")
        while len(view):
            taken = super().write(view)
            self.sha256.update(view[:taken])
            self.size += taken
            view = view[taken:]
        return len(data)


@dataclass
class Chunk:
    """The files of one attempt at chunk ``number`` of a run; ``footer`` goes into each."""

    dataset: Dataset
    run_id: str
    number: int
    footer: dict
    files: dict[str, tuple[Digested, parquet.Writer]] = field(default_factory=dict)
    folder: Path | None = None

    def write(self, table: str, data: pa.Table) -> None:
        """Append rows to the chunk's file of a table."""
        rows.check(data, schemas.TABLES[table])
        with self._disk(table):
            if table not in self.files:
                if self.folder is None:
                    self.folder = self.dataset.scratch() / uuid.uuid4().hex
                    self.folder.mkdir(parents=True)
                file = Digested(self.folder / f"{table}.parquet")
                self.files[table] = file, parquet.Writer(file, table, self.footer)
            self.files[table][1].write(data)

    @contextmanager
    def _disk(self, table: str):
        try:
            yield
        except OSError as error:
            raise Unreachable(f"cannot write {table} on {self.folder}: {error}") from error

    def commit(self, counts: dict, core_seconds: float) -> dict:
        """Put the files in their tables and the chunk on record; the record that counts, ours or an earlier attempt's."""
        place, log = self.dataset.place, f"{self.dataset.log(self.run_id)}/chunk-{self.number:06d}.json"
        found: list[dict] = []
        for table, (file, writer) in self.files.items():
            with self._disk(table):
                writer.close()
                file.close()
            digest = file.sha256.hexdigest()
            name = f"{self.dataset.run(table, self.run_id)}/part-{self.number:06d}-{digest[:12]}.parquet"
            place.upload(file.path, name)
            found.append({"table": table, "path": name, "rows": writer.rows, "bytes": file.size, "sha256": digest})
        mine = {
            "chunk": self.number,
            "files": found,
            "counts": counts,
            "core_seconds": core_seconds,
            "peak_mb": peak_mb(),
            "ended": time.time(),
        }
        self.abandon()
        if place.create(log, json.dumps(mine).encode()):
            return mine
        first = json.loads(place.read(log))
        kept = {f["path"] for f in first["files"]}
        place.delete([f["path"] for f in found if f["path"] not in kept])
        return first

    def abandon(self) -> None:
        """Forget what is not committed."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
