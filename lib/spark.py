"""The only pyspark in ``lib``: the session, tables as DataFrames, and chunks of a run made by the workers.

Workers read and write Parquet with pyarrow, on disks and in buckets alike, under the schemas of ``lib.schemas``; Spark carries
rows between them and counts tasks.  A task makes one chunk (``lib.parts``) and sends back its record.
"""

import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import pyarrow as pa
from pyspark import RDD, AccumulatorParam, SparkContext, TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from lib import schemas, worker
from lib.errors import OK, STATUSES, ArcmillError, InputError, Unreachable
from lib.parts import Chunk
from lib.runs import Run, files, open_file
from lib.store import Dataset

log = logging.getLogger(__name__)
PIECE = 262_144  # rows of a table that a worker reads at once
TOLD = "what a piece cost, and its error"  # a key beside those of by_key
ROWS = "rows"  # a name beside the statuses
QUIET_S = 20.0  # between lines where there is no terminal
BATCH = {table: 64 if table == "stamps" else 1024 for table in schemas.TABLES}  # rows that travel together


def session(app: str) -> SparkSession:
    """The running session, or a new one; local on all cores unless spark-submit said otherwise."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # a program keeps one process: the threads of numerical libraries would only fight each other
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    builder = SparkSession.builder.appName(app)
    settings = {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "true",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1024",
        "spark.ui.showConsoleProgress": "false",
    }
    if "PYSPARK_GATEWAY_PORT" not in os.environ and SparkSession.getActiveSession() is None:
        settings |= {
            "spark.master": os.environ.get("ARCMILL_MASTER", "local[*,4]"),
            "spark.ui.enabled": "false",
            "spark.driver.memory": "2g",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.sql.shuffle.partitions": "8",
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.log.level": "ERROR",
            "spark.python.worker.faulthandler.enabled": "true",
        }
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    if threading.current_thread() is threading.main_thread():  # Spark's own handler turns Ctrl-C into an error of the call it waits for
        signal.signal(signal.SIGINT, signal.default_int_handler)
    log.info("spark: %s, %d cores", spark.sparkContext.master, spark.sparkContext.defaultParallelism)
    return spark


def load(spark: SparkSession, function) -> None:
    """Have the worker of every core load what ``function`` stands on: one that has no part in the first stage would load it while the others work."""
    cores = spark.sparkContext.defaultParallelism
    spark.sparkContext.parallelize(range(cores), cores).map(lambda _: callable(function)).count()


def abandon() -> None:
    """Stop Spark, if it runs, without its reports of what was cut short."""
    context = SparkContext._active_spark_context
    if context is not None:
        with suppress(Exception):
            context.setLogLevel("OFF")
            context.stop()


def spark_schema(schema: pa.Schema) -> StructType:
    return from_arrow_schema(pa.schema([pa.field(f.name, f.type, f.nullable) for f in schema]))


def read(spark: SparkSession, dataset: Dataset, table: str, columns: list[str] | None = None) -> DataFrame:
    """A committed table, or some of its columns, under its schema; the workers read it, wherever it lies."""
    schema = schemas.TABLES[table]
    schema = schema if columns is None else pa.schema([schema.field(name) for name in columns])

    def rows_of(batches):
        for batch in batches:
            for piece in batch.to_pylist():
                for group in piece["groups"]:
                    yield from read_piece(dataset, piece["path"], [group], schema.names).to_batches(max_chunksize=BATCH[table])
        worker.settle()

    pieces = Pieces(spark, dataset, table)
    listed = spark.createDataFrame(pa.Table.from_pylist([{"path": p, "groups": g} for p, g in pieces.pieces]))
    return listed.repartition(pieces.parts).mapInArrow(rows_of, spark_schema(schema))


class Pieces:
    """A committed table in pieces of about ``PIECE`` rows, which the workers read themselves, with pyarrow: ``lib.sampling.decisions.Over``.

    ``core_seconds`` adds up what the workers have spent.  ``made`` names other files than the committed ones.
    """

    def __init__(self, spark: SparkSession, dataset: Dataset, table: str, made: list[dict] | None = None):
        self.context, self.dataset, self.core_seconds = spark.sparkContext, dataset, 0.0
        self.pieces: list[tuple[str, list[int]]] = _pieces(
            dataset, table, files(dataset, table) if made is None else [f["path"] for f in made]
        )
        grows = self.context.getConf().get("spark.dynamicAllocation.enabled", "false") == "true"  # its cores are not known yet
        self.parts = len(self.pieces) if grows else min(len(self.pieces), 4 * self.context.defaultParallelism)

    def map(self, function, columns=None) -> list:
        dataset = self.dataset
        return self._collect(
            self.context.parallelize(self.pieces, self.parts), lambda piece: function(read_piece(dataset, piece[0], piece[1], columns))
        )

    def by_key(self, pairs, reduce, columns=None) -> list:
        dataset = self.dataset

        def cut(piece):
            made, spent, error = _attempt(lambda: list(pairs(read_piece(dataset, piece[0], piece[1], columns))))
            return [*(made or ()), (TOLD, (spent, error))]

        def joined(found):
            key, values = found[0], list(found[1])
            return (key, values) if key == TOLD else (key, reduce(key, values))

        grouped = self.context.parallelize(self.pieces, self.parts).flatMap(cut).groupByKey(2 * self.context.defaultParallelism)
        found = self._collect(grouped, joined)
        self._tell(next((values for key, values in found if key == TOLD), []))
        return [made for key, made in found if key != TOLD]

    def each(self, function, items: list) -> list:
        return self._collect(self.context.parallelize(items, max(1, len(items))), function)

    def _collect(self, rdd, function) -> list:
        told = rdd.map(lambda item: _attempt(lambda: function(item))).collect()
        self._tell([(spent, error) for _, spent, error in told])
        return [made for made, _, _ in told]

    def _tell(self, told) -> None:
        self.core_seconds += sum(spent for spent, _ in told)
        if errors := sorted({error for _, error in told if error}):
            raise InputError("; ".join(errors))


class Here:
    """A committed table in the same pieces, read one after the other by this process: of a small one, Spark's stages would cost more than the work."""

    def __init__(self, dataset: Dataset, table: str):
        self.dataset, self.pieces = dataset, _pieces(dataset, table, files(dataset, table))

    def map(self, function, columns=None) -> list:
        return [function(read_piece(self.dataset, *piece, columns)) for piece in self.pieces]

    def by_key(self, pairs, reduce, columns=None) -> list:
        found: dict = {}
        for piece in self.pieces:
            for key, value in pairs(read_piece(self.dataset, *piece, columns)):
                found.setdefault(key, []).append(value)
        return [reduce(key, values) for key, values in found.items()]

    def each(self, function, items: list) -> list:
        return [function(item) for item in items]


def _attempt(call):
    """(what a call makes, CPU seconds, None), or the error for people as a value: Spark would wrap it in its own traceback."""
    began = time.process_time()
    try:
        return call(), time.process_time() - began, None
    except ArcmillError as error:
        return None, time.process_time() - began, str(error)
    finally:
        worker.settle()


def _pieces(dataset: Dataset, table: str, names: list[str]) -> list[tuple[str, list[int]]]:
    """(file, row groups) of each piece; a file with other columns than the table's is an error that names them."""
    schema = schemas.TABLES[table]

    def of_file(name):
        with open_file(dataset, name) as file:
            if file.schema_arrow.remove_metadata() != schema.remove_metadata():
                wrong = sorted(set(file.schema_arrow.names) ^ set(schema.names)) or "types"
                raise InputError(f"{dataset.place}/{name} is not a {table} file of schema version {schemas.VERSION}: {wrong}")
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.metadata.num_row_groups)]
        before = np.cumsum(sizes) - sizes
        return [(name, np.flatnonzero(before // PIECE == k).tolist()) for k in np.unique(before // PIECE)]

    with ThreadPoolExecutor(16) as pool:  # a table has thousands of files, a bucket some ten answers a second
        return [piece for found in pool.map(of_file, names) for piece in found]


def read_piece(dataset: Dataset, name: str, groups: list[int], columns: list[str] | None = None) -> pa.Table:
    """Row groups of a Parquet file of a data set."""
    try:
        return open_file(dataset, name).read_row_groups(groups, columns=columns, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{dataset.place}/{name}: {error}") from error


class _Sum(AccumulatorParam):
    """Counts by name, added up over the tasks that are done."""

    def zero(self, value):
        return {}

    def addInPlace(self, value1, value2):
        return {name: value1.get(name, 0) + value2.get(name, 0) for name in value1.keys() | value2.keys()}


class Told:
    """What a progress line shows: rows made of so many, and how many of each status; a chunk at a time, as chunks are done."""

    def __init__(self, spark: SparkSession, rows: int):
        self.total, self.sum = rows, spark.sparkContext.accumulator({}, _Sum())

    def line(self, seconds: float) -> str:
        """
        Rows, rate, time left, and failures by their codes.
        """
        counts = dict(self.sum.value)
        done = counts.pop(ROWS, 0)
        rate = done / max(seconds, 1e-9)
        left = f", {(self.total - done) / rate:.0f} s left" if done else ""
        failed = "".join(f", {name} {int(n)}" for name, n in sorted(counts.items()) if name != OK and name in STATUSES)
        return f"{done:,} of {self.total:,} rows, {rate:,.0f} rows/s{left}{failed}"


def produce(
    spark: SparkSession,
    run: Run,
    chunks: list,
    make,
    *,
    routed: RDD | None = None,
    told: Told | None = None,
) -> None:
    """Make the chunks of a run that are not there yet, one Spark task each, and keep their records in ``run.done``.

    ``make(chunk)`` yields ``({table: pa.Table}, counts)``, counts a flat dict of numbers.  With ``routed`` rows it
    is ``make(rows)``, those that belong to the chunk, as a table.  An error for people in a chunk does not
    stop the others; all are told at the end.  A disk or server that fails is tried again by Spark, on whichever worker.
    """
    todo = [n for n in range(len(chunks)) if n not in run.done]
    if not todo:
        return
    tries = _tries(spark)
    part = partial(_part, run.dataset, run.run_id, run.footer, tries, told.sum if told else None)
    rows = spark.sparkContext.parallelize([(n, chunks[n]) for n in todo], len(todo)) if routed is None else routed
    made = rows.map(lambda item: part(item[0], lambda: make(item[1]))).collect()
    errors = sorted({r["error"] for r in made if "error" in r})
    run.done |= {r["chunk"]: r for r in made if "error" not in r}
    if errors:
        raise InputError("; ".join(errors))
    if lost := [n for n in todo if n not in run.done]:
        raise InputError(f"{len(lost)} chunks came back without a record, such as {lost[:3]}")


def _part(dataset, run_id, footer, tries, told, number, make) -> dict:
    """One attempt at a chunk: its record, or the error for people that stopped it."""
    began, chunk = time.process_time(), Chunk(dataset, run_id, number, footer)
    counts: dict[str, float] = {}
    try:
        for made, more in make():
            for table, data in made.items():
                chunk.write(table, data)
            for name, count in more.items():
                counts[name] = counts.get(name, 0) + count
        record = chunk.commit(counts, time.process_time() - began)
        if told is not None:
            told.add(record["counts"] | {ROWS: max((f["rows"] for f in record["files"]), default=0)})
        return record
    except ArcmillError as error:
        if isinstance(error, Unreachable) and _task().attemptNumber() + 1 < tries:
            raise
        return {"chunk": number, "error": str(error)}
    finally:
        chunk.abandon()
        worker.settle()


def _task() -> TaskContext:
    context = TaskContext.get()
    assert context is not None, "not in a Spark task"
    return context


def routed(spark: SparkSession, dataset: Dataset, table: str, route, todo: list[int]) -> RDD:
    """(number, rows as a table, in no order) of each of the chunks ``todo``, one a partition; a chunk that gets no rows has an empty table.

    ``route(rows)`` gives the number of each row's chunk.
    """
    schema, pieces = schemas.TABLES[table], Pieces(spark, dataset, table)
    slot = np.full(max(todo) + 2, -1)  # the last is for rows of no chunk
    slot[todo] = np.arange(len(todo))
    sent = spark.sparkContext.broadcast((slot, route))

    def cut(piece):
        slot, route = sent.value
        found = read_piece(dataset, *piece).replace_schema_metadata()
        at = slot[np.minimum(route(found), len(slot) - 1)]
        order = np.argsort(at, kind="stable")
        (batch,) = found.take(pa.array(order[at[order] >= 0])).combine_chunks().to_batches() or [None]
        ends = np.cumsum(np.bincount(at[at >= 0], minlength=len(todo)))
        for k, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
            if end > start:
                yield k, batch.slice(start, end - start).serialize().to_pybytes()
        worker.settle()

    def joined(k, parts):
        return [(todo[k], pa.Table.from_batches([pa.ipc.read_record_batch(pa.py_buffer(part), schema) for _, part in parts], schema))]

    cuts = pieces.context.parallelize(pieces.pieces, pieces.parts).flatMap(cut)
    return cuts.partitionBy(len(todo), int).mapPartitionsWithIndex(joined)


def gpu() -> int | None:
    """The device that Spark gave to this task (``spark.task.resource.gpu.amount``), or None."""
    context = TaskContext.get()
    given = context.resources().get("gpu") if context is not None else None
    return int(given.addresses[0]) if given is not None and given.addresses else None


def _tries(spark: SparkSession) -> int:
    """How often Spark tries a task."""
    master = str(spark.sparkContext.master)
    if master.startswith("local"):
        return int(master.split(",")[1].rstrip("]")) if "," in master else 1
    return int(spark.sparkContext.getConf().get("spark.task.maxFailures", "4"))


@contextmanager
def progress(spark: SparkSession, what: str, rows: int = 0):
    """A bar of what is done while the body runs, of ``rows`` if their number is known (give what it yields to ``produce``), else of
    Spark's tasks; lines now and then where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    told, tracker, stop = Told(spark, rows), spark.sparkContext.statusTracker(), threading.Event()
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    began = time.monotonic()

    def state() -> tuple[float, float, str]:
        """(done, of, in words)."""
        if rows:
            return told.sum.value.get(ROWS, 0), rows, told.line(time.monotonic() - began)
        stages = [info for info in map(tracker.getStageInfo, tracker.getActiveStageIds()) if info]
        done, of = sum(s.numCompletedTasks for s in stages), sum(s.numTasks for s in stages)
        return done, of, f"{done} of {of} tasks" if of else ""

    with Progress(*columns, console=console, transient=False, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, said="")

        def watch():
            last = began
            while not stop.wait(0.5):
                done, of, said = state()
                if not said:
                    continue
                bar.update(task, total=of, completed=done, said=said)
                if not console.is_terminal and time.monotonic() - last > QUIET_S:
                    last = time.monotonic()
                    print(f"{what}: {said}, {last - began:.0f} s", file=sys.stderr, flush=True)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield told
        finally:
            stop.set()
            watcher.join()
            bar.update(task, total=1, completed=1)
    if not console.is_terminal:
        print(
            f"{what}: {told.line(time.monotonic() - began) + ', ' if rows else ''}done in {time.monotonic() - began:.1f} s",
            file=sys.stderr,
            flush=True,
        )
