"""Stamps of a data set in the order of an epoch, a batch of arrays at a time, read and decoded ahead of their use.

Row groups are drawn in an order of the seed and the epoch, each worker takes every n-th of them, and the rows of some thousand at a time are mixed.
So every stamp is given once an epoch, whatever the number of workers, and the same (seed, epoch, worker, workers) give the same batches.
"""

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing

import numpy as np
import pyarrow as pa

from lib import runs
from lib.errors import ConfigError, InputError
from lib.reader import decode, index
from lib.schemas import ROLES, SPLITS
from lib.store import Dataset

MIXED = 2048  # rows that are held and mixed at a time
AHEAD = 4  # batches that wait for their use


class Stamps:
    """The made stamps of a data set that are of ``split`` and ``roles`` and pass ``filters``, with ``columns`` of METRICS beside their ``planes``.

    ``filters`` are pyarrow's: ``[("theta_e_over_psf", ">", 1.0), ...]``, or a list of such lists of which one must hold; a null passes none.
    """

    def __init__(self, dataset: Dataset, *, split: str | None = None, roles=None, columns=("role",), filters=None, planes=("stamp",),
                 batch_size: int = 256, seed: int = 0):  # fmt: skip
        _require_known("split", [split] if split else [], SPLITS)
        _require_known("role", roles or (), ROLES)
        _require_known("plane", planes, (*decode.PLANES, "mask"))
        if batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset, self.columns, self.planes, self.batch_size, self.seed = dataset, tuple(columns), tuple(planes), batch_size, seed
        asked: list[tuple] = [("split", "=", split)] if split else []
        asked += [("role", "in", list(roles))] if roles else []
        filters = [[*asked, *group] for group in index.terms(filters)]
        self._wanted, told = index.wanted(dataset, self.columns, filters if filters != [[]] else None)
        self._groups, there = index.groups(dataset, split)
        if told != there:
            raise InputError(f"{dataset.place}: {there} stamps, but {told} rows of metrics: they are not of one run")

    def __len__(self) -> int:
        """Stamps in an epoch, of all workers together."""
        return len(self._wanted.keys)

    def epoch(self, number: int = 0, *, worker: int = 0, workers: int = 1, shuffle: bool = True) -> Generator[dict[str, np.ndarray]]:
        """Batches of one worker: ``planes`` (n, bands, side, side), ``task_id`` and ``columns`` (n); the last one is smaller.

        With ``shuffle`` off the stamps come in the order of their files.
        """
        if not 0 <= worker < workers:
            raise ConfigError(f"worker must be from 0 to {workers - 1}, got {worker}")
        order = np.arange(len(self._groups))
        if shuffle:
            np.random.default_rng([self.seed, number]).shuffle(order)
        mine = [self._groups[k] for k in order[worker::workers]]
        rng = np.random.default_rng([self.seed, number, worker, workers]) if shuffle else None
        return ahead(self._batches(mine, rng), AHEAD)

    def _batches(self, groups: list[index.Group], rng) -> Generator[dict[str, np.ndarray]]:
        left: dict[str, np.ndarray] = {}
        for held in self._mixed(groups, rng):
            start, count = 0, len(held["task_id"])
            if left:
                start = min(self.batch_size - len(left["task_id"]), count)
                left = {name: np.concatenate([left[name], values[:start]]) for name, values in held.items()}
                if len(left["task_id"]) < self.batch_size:
                    continue
                yield left
            while start + self.batch_size <= count:
                yield {name: values[start : start + self.batch_size] for name, values in held.items()}
                start += self.batch_size
            left = {name: values[start:] for name, values in held.items()} if start < count else {}
        if left:
            yield left

    def _mixed(self, groups: list[index.Group], rng) -> Iterator[dict[str, np.ndarray]]:
        """The wanted rows of some row groups at a time, mixed."""
        tables: list[pa.Table] = []
        rows: list[np.ndarray] = []
        for k, group in enumerate(groups):
            table, at = self._read(group)
            if len(at):
                tables.append(table)
                rows.append(at)
            if tables and (sum(map(len, rows)) >= MIXED or k == len(groups) - 1):
                order = None if rng is None else rng.permutation(sum(map(len, rows)))
                yield self._arrays(pa.concat_tables(tables), np.concatenate(rows), order)
                tables, rows = [], []

    def _read(self, group: index.Group) -> tuple[pa.Table, np.ndarray]:
        """(the wanted rows of a row group, their places in METRICS)."""
        names = ["task_id", *decode.NEEDED, *self.planes, "stamp_npz"]
        try:
            with runs.open_file(self.dataset, group.file) as file:
                table = file.read_row_group(group.number, columns=names, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{self.dataset.place}/{group.file}: {error}") from error
        at = self._wanted.find(index.keys(table["task_id"]))
        return (table if (at >= 0).all() else table.filter(pa.array(at >= 0))), at[at >= 0]

    def _arrays(self, table: pa.Table, at: np.ndarray, order) -> dict[str, np.ndarray]:
        try:
            found = decode.batch(table, order)
        except ValueError as error:
            raise InputError(f"{self.dataset.place}: {error}") from error
        told = self._wanted.rows.take(pa.array(at if order is None else at[order]))
        out = {name: found[name] for name in self.planes}
        return out | {name: told[name].to_numpy(zero_copy_only=False) for name in dict.fromkeys(["task_id", *self.columns])}


def _require_known(what: str, got, known) -> None:
    if unknown := [str(name) for name in got if name not in known]:
        raise ConfigError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(known)}")


def ahead(items: Generator, depth: int) -> Generator:
    """The same items, made by a thread while those before are in use, ``depth`` at most; what it raises is raised here."""
    made: queue.Queue = queue.Queue(depth)
    stop = threading.Event()

    def put(item) -> bool:
        while not stop.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                pass
        return False

    def work():
        try:
            with closing(items):
                for item in items:
                    if not put((item, None)):
                        return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, daemon=True, name="stamps ahead")
    thread.start()
    try:
        while True:
            item, error = made.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        thread.join()
