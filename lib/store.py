"""Where the tables of a data set lie, in a folder or a bucket alike.

A table is ``{root}/{dataset}/{table}/tier={tier}/run_id={id}/*.parquet``.  A run puts its files there one by one, whole; its
record in the table of runs, put last, names them and makes them the table.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lib import lease
from lib.errors import ConfigError, OutputError, Unreachable
from lib.place import Place, at

MARK = "_arcmill.json"
NAME = re.compile(r"[A-Za-z0-9-][A-Za-z0-9._-]*")  # a part of a path, of an address and of a shell's line, and never more


def local(uri: str | Path) -> Path:
    """The path of a ``file:`` URI or plain path; a bucket is refused."""
    place = at(uri)
    if place.local is None:
        raise ConfigError(f"{uri}: this must be a local folder or file")
    return place.local


def require_space(place: Place, need_bytes: int) -> None:
    """Raise unless files can be written to the place, and its disk has the room."""
    probe = f".probe-{os.getpid()}"
    try:
        place.put(probe, b"x")
        place.delete([probe])
    except Unreachable as error:
        raise OutputError(f"cannot write to {place}: {error}") from error
    if place.local:
        place.local.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(place.local).free
        if free < need_bytes:
            raise OutputError(f"{place} has {free / 1e9:.1f} GB free, this run may need {need_bytes / 1e9:.1f} GB: free some space")


def write_json(path: Path, value) -> None:
    """Write by a rename: readers never see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
    os.replace(part, path)


@dataclass(frozen=True)
class Dataset:
    """The tables of one tier of one data set; names are relative to ``place``, the data set's folder."""

    root: Place
    name: str
    tier: str

    @classmethod
    def at(cls, root: str | Path, name: str, tier: str) -> "Dataset":
        for what, text in (("dataset", name), ("tier", tier)):
            if not NAME.fullmatch(text) or ".." in text:
                raise ConfigError(f"{what} name must be ASCII letters, digits, - _ . without .. and not start with . or _, got {text!r}")
        return cls(at(root), name, tier)

    @property
    def place(self) -> Place:
        return self.root / self.name

    def table(self, table: str) -> str:
        """Folder of a table."""
        return f"{table}/tier={self.tier}"

    def run(self, table: str, run_id: str) -> str:
        """Folder of a run's files of a table."""
        return f"{self.table(table)}/run_id={run_id}"

    def log(self, run_id: str = "") -> str:
        """Folder of the records of a run's chunks."""
        return f"_log/tier={self.tier}/{run_id}".rstrip("/")

    def scratch(self) -> Path:
        """A folder of this machine's disk for files on their way to their table."""
        disk = self.place.local or Path(tempfile.gettempdir()) / "arcmill"
        return disk / "_scratch" / f"tier={self.tier}"

    def claim(self) -> None:
        """Make the folder ours; refuse one that holds other data."""
        if self.place.has(MARK):
            return
        there = sorted({f.name.split("/")[0] for f in self.place.files()})
        if there:
            raise OutputError(
                f"{self.place} holds other data ({', '.join(there[:3])}) and is left as it is: "
                f"give another --dataset, a folder of its own in {self.root}"
            )
        require_space(self.place, 0)
        self.place.create(MARK, json.dumps({"arcmill": "data set", "dataset": self.name}).encode())

    def drop(self, table: str, run_id: str) -> None:
        """Remove a run's files of a table."""
        self.drop_names(f.name for f in self.place.files(self.run(table, run_id)))

    def drop_names(self, names: Iterable[str]) -> None:
        self.place.delete(list(names))

    def writer(self, what: str):
        """Hold the tier for one writer."""
        return lease.held(self.place, f"_lease/tier={self.tier}", f"{what} of tier {self.tier}")
