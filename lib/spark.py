"""The only pyspark in ``lib``: the session, tables as DataFrames, and Parquet written by the workers.

Workers write their rows with pyarrow, under the schemas of ``lib.schemas``, one file a table and task attempt,
and send back only the list of files. A retried or speculative attempt writes other files; only those of the attempts
that Spark reports are kept, so every row is there exactly once.
"""

import json
import logging
import os
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from lib import parquet, rows, schemas
from lib.errors import ArcmillError, InputError
from lib.runs import files
from lib.store import Dataset

log = logging.getLogger(__name__)
PIECE = 65_536  # rows of a table that a worker reads at once
TOLD = "what a piece cost, and its error"  # a key beside those of by_key
MADE = pa.schema([
    pa.field("table", pa.string()), pa.field("path", pa.string()), pa.field("rows", pa.int64()),
    pa.field("counts", pa.string()), pa.field("core_seconds", pa.float64()), pa.field("error", pa.string()),
])  # fmt: skip


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
            "spark.master": os.environ.get("ARCMILL_MASTER", "local[*]"),
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
    log.info("spark: %s, %d cores", spark.sparkContext.master, spark.sparkContext.defaultParallelism)
    return spark


def spark_schema(schema: pa.Schema) -> StructType:
    return from_arrow_schema(pa.schema([pa.field(f.name, f.type, f.nullable) for f in schema]))


def _checked(dataset: Dataset, table: str) -> list[str]:
    """A committed table's files; one with other columns than its schema is an error that names them."""
    paths = files(dataset, table)
    schema = schemas.TABLES[table]
    for path in paths:
        try:
            found = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError(f"{path}: {error}") from error
        if found.remove_metadata() != schema.remove_metadata():
            wrong = sorted(set(found.names) ^ set(schema.names)) or "types"
            raise InputError(f"{path} is not a {table} file of schema version {schemas.VERSION}: {wrong}")
    return paths


def read(spark: SparkSession, dataset: Dataset, table: str) -> DataFrame:
    """A committed table, under its schema."""
    return spark.read.schema(spark_schema(schemas.TABLES[table])).parquet(*_checked(dataset, table))


class Pieces:
    """A committed table in pieces of about ``PIECE`` rows, which the workers read themselves, with pyarrow: ``lib.sampling.decisions.Over``.

    ``core_seconds`` adds up what the workers have spent.
    """

    def __init__(self, spark: SparkSession, dataset: Dataset, table: str):
        self.context, self.core_seconds = spark.sparkContext, 0.0
        self.pieces = list(_pieces(_checked(dataset, table)))
        grows = self.context.getConf().get("spark.dynamicAllocation.enabled", "false") == "true"  # its cores are not known yet
        self.parts = len(self.pieces) if grows else min(len(self.pieces), 4 * self.context.defaultParallelism)
        self.frame = spark.createDataFrame(pa.Table.from_pylist([{"path": p, "groups": g} for p, g in self.pieces])).repartition(self.parts)

    def map(self, function, columns=None) -> list:
        return self._collect(
            self.context.parallelize(self.pieces, self.parts), lambda piece: function(read_piece(piece[0], piece[1], columns))
        )

    def by_key(self, pairs, reduce, columns=None) -> list:
        def cut(piece):
            made, spent, error = _attempt(lambda: list(pairs(read_piece(piece[0], piece[1], columns))))
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


def _attempt(call):
    """(what a call makes, CPU seconds, None), or the error for people as a value: Spark would wrap it in its own traceback."""
    began = time.process_time()
    try:
        return call(), time.process_time() - began, None
    except ArcmillError as error:
        return None, time.process_time() - began, str(error)


def _pieces(paths: list[str]):
    for path in paths:
        meta, groups, rows_here = pq.read_metadata(path), [], 0
        for group in range(meta.num_row_groups):
            groups.append(group)
            rows_here += meta.row_group(group).num_rows
            if rows_here >= PIECE or group == meta.num_row_groups - 1:
                yield path, groups
                groups, rows_here = [], 0


def read_piece(path: str, groups: list[int], columns: list[str] | None = None) -> pa.Table:
    """Row groups of a Parquet file."""
    try:
        return pq.ParquetFile(path).read_row_groups(groups, columns=columns, use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: {error}") from error


def produce(frame: DataFrame, make, staging: str, tables: tuple[str, ...], footer: dict, reads: str = ""):
    """Run ``make`` in the workers and keep what it makes as Parquet under ``staging``.

    ``make`` takes an iterator of record batches and yields ``({table: pa.Table}, counts)``, counts a flat dict of
    numbers; ``reads`` names the table that the batches are rows of.  Returns (rows by table, counts added up, CPU seconds of the workers).
    """

    def work(batches):
        parts: dict[str, parquet.Writer] = {}
        totals: dict[str, float] = {}
        attempt = uuid.uuid4().hex[:12]
        began = time.process_time()
        error = None
        for made, counts in _until_error(make(rows.conform(b, schemas.TABLES[reads]) for b in batches) if reads else make(batches)):
            if isinstance(made, ArcmillError):
                error = str(made)
                break
            for table, data in made.items():
                rows.check(data, schemas.TABLES[table])
                if table not in parts:
                    path = Path(staging) / table / f"part-{attempt}.parquet"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    parts[table] = parquet.Writer(path, table, footer)
                parts[table].write(data)
            for name, number in counts.items():
                totals[name] = totals.get(name, 0) + number
        for writer in parts.values():
            writer.close()
        spent = time.process_time() - began
        told: list[tuple] = [(t, f"part-{attempt}.parquet", w.rows, "{}", 0.0, None) for t, w in parts.items()]
        told.append((None, None, 0, json.dumps(totals), spent, error))
        yield pa.RecordBatch.from_pylist([dict(zip(MADE.names, row, strict=True)) for row in told], schema=MADE)

    sums: dict[str, int] = dict.fromkeys(tables, 0)
    totals: dict[str, float] = {}
    core_seconds, kept = 0.0, set()
    told = frame.mapInArrow(work, spark_schema(MADE)).collect()
    errors = sorted({row["error"] for row in told if row["error"]})
    if errors:
        raise InputError("; ".join(errors))
    for row in told:
        core_seconds += row["core_seconds"]
        for name, number in json.loads(row["counts"]).items():
            totals[name] = totals.get(name, 0) + number
        if row["table"]:
            sums[row["table"]] += row["rows"]
            kept.add((row["table"], row["path"]))
    lost = [path for table, path in sorted(kept) if not (Path(staging) / table / path).is_file()]
    if lost:
        raise InputError(
            f"{len(lost)} files that the workers wrote are not in {staging}: {lost[0]} ...; is the folder shared by all workers?"
        )
    for table in tables:
        folder = Path(staging) / table
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if (table, path.name) not in kept:
                path.unlink()
    return sums, totals, core_seconds


def _until_error(made):
    """What ``made`` yields; an error for people comes last, as a value: Spark would wrap it in its own traceback."""
    try:
        yield from made
    except ArcmillError as error:
        yield error, {}


@contextmanager
def progress(spark: SparkSession, what: str):
    """A bar of Spark's finished tasks while the body runs; a line at the end where there is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    tracker = spark.sparkContext.statusTracker()
    stop = threading.Event()
    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TextColumn("tasks"),
               TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    began = time.monotonic()
    with Progress(*columns, console=console, transient=False, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def watch():
            last = began
            while not stop.wait(0.5):
                for stage in tracker.getActiveStageIds():
                    info = tracker.getStageInfo(stage)
                    if info:
                        bar.update(task, total=info.numTasks, completed=info.numCompletedTasks)
                        if not console.is_terminal and time.monotonic() - last > 20:
                            last = time.monotonic()
                            done = f"{info.numCompletedTasks} of {info.numTasks} tasks"
                            print(f"{what}: {done}, {last - began:.0f} s", file=sys.stderr, flush=True)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            bar.update(task, total=1, completed=1)
    if not console.is_terminal:
        print(f"{what}: done in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
