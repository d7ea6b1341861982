"""Where bytes lie: paths, fingerprints, and the atomic steps that make a folder part of a table.

Local folders (a path or ``file:``) today.  A table is ``{root}/{dataset}/{table}/tier={tier}/run_id={id}/*.parquet``; a run
writes under ``_staging`` and its folders are renamed into place, so a reader sees a run's files whole or not at all.
"""

import fcntl
import json
import os
import shutil
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lib.errors import ConfigError, InputError, OutputError

MARK = "_arcmill.json"


def local(uri: str) -> Path:
    """The path of a ``file:`` URI or plain path."""
    if uri.startswith(("s3:", "s3a:", "http:", "https:")):
        raise ConfigError(f"{uri}: only local folders and file: URIs are supported by this version")
    path = uri.removeprefix("file://").removeprefix("file:")
    return Path(path).absolute()


def fingerprint(paths) -> dict:
    """Name, size and modification time of every file: what a rerun compares its inputs by."""
    found = {}
    for path in sorted(map(str, paths)):
        try:
            stat = os.stat(path)
        except FileNotFoundError as error:
            raise InputError(f"no such file: {path}") from error
        found[path] = [stat.st_size, stat.st_mtime_ns]
    return found


def require_space(folder: Path, need_bytes: int) -> None:
    """Make the folder; raise unless it can be written and has the room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.write_bytes(b"x")
        probe.unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    free = shutil.disk_usage(folder).free
    if free < need_bytes:
        raise OutputError(f"{folder} has {free / 1e9:.1f} GB free, this run may need {need_bytes / 1e9:.1f} GB: free some space")


def write_json(path: Path, value) -> None:
    """Write by a rename: readers never see half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
    os.replace(part, path)


@contextmanager
def held(path: Path, what: str):
    """Hold a folder, by the lock file ``path`` in it, for one writer; a second one is refused, and told who is first.

    The lock is the kernel's (flock): it ends with the process that holds it, however that dies.
    """
    try:
        lock = open(path, "a+")  # noqa: SIM115 (held for the length of the run)
    except OSError as error:
        raise OutputError(f"cannot write to {path.parent}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OutputError(f"{path.parent} is being written by {_first(lock)} (lock {path}): wait for it to end") from None
        lock.seek(0)
        lock.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "what": what}, lock)
        lock.flush()
        yield
        lock.seek(0)
        lock.truncate()


def _first(lock) -> str:
    """Who holds a lock, by what they wrote in it."""
    try:
        lock.seek(0)
        held_by = json.load(lock)
        return f"{held_by['what']}, process {held_by['pid']} on {held_by['host']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


@dataclass(frozen=True)
class Dataset:
    """The tables of one tier of one data set."""

    root: Path
    name: str
    tier: str

    @classmethod
    def at(cls, root: str, name: str, tier: str) -> "Dataset":
        for what, text in (("dataset", name), ("tier", tier)):
            if not text or not all(c.isalnum() or c in "-_." for c in text) or text.startswith((".", "_")):
                raise ConfigError(f"{what} name must be letters, digits, - _ . and not start with . or _, got {text!r}")
        return cls(local(root), name, tier)

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def table(self, table: str) -> Path:
        return self.folder / table / f"tier={self.tier}"

    def run(self, table: str, run_id: str) -> Path:
        return self.table(table) / f"run_id={run_id}"

    def staging(self, run_id: str) -> Path:
        return self.folder / "_staging" / f"tier={self.tier}" / run_id

    def claim(self) -> None:
        """Make the folder ours; refuse one that holds other data."""
        mark = self.folder / MARK
        if mark.is_file():
            return
        if self.folder.exists() and any(self.folder.iterdir()):
            some = ", ".join(sorted(p.name for p in self.folder.iterdir())[:3])
            raise OutputError(
                f"{self.folder} holds other data ({some}) and is left as it is: give another --dataset, a folder of its own in {self.root}"
            )
        require_space(self.folder, 0)
        write_json(mark, {"arcmill": "data set", "dataset": self.name})

    def publish(self, run_id: str, tables: list[str]) -> None:
        """Rename a run's staged folders into their tables."""
        for table in tables:
            final = self.run(table, run_id)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.rename(self.staging(run_id) / table, final)
        shutil.rmtree(self.staging(run_id), ignore_errors=True)

    def drop(self, table: str, run_id: str) -> None:
        """Take a run out of a table: renamed away first, so that no reader sees half of it."""
        folder = self.run(table, run_id)
        if folder.exists():
            gone = self.staging(f"dropped-{run_id}") / table
            gone.parent.mkdir(parents=True, exist_ok=True)
            os.rename(folder, gone)
            shutil.rmtree(gone)

    def writer(self, what: str):
        """Hold the tier for one writer."""
        return held(self.folder / f"_writer-{self.tier}.json", what)
