"""One run of one job: found again if nothing changed, refused if its config did, recorded when it ends."""

import hashlib
import json
import logging
import secrets
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq

from lib import __version__, config, rows, schemas, shipped, tiers
from lib.errors import ConfigError, InputError
from lib.lease import Lease
from lib.parts import Chunk
from lib.store import Dataset

log = logging.getLogger(__name__)
TOLD = 12  # differences that a refusal names
SKIPPED = "promotion skipped"  # among a run's counts: why it was begun though the tier before was not promoted
NOT_DATA = (
    "picture.py",
    "costs.py",
    "shipped.py",
    "page.py",
    "sheet.py",
)  # sources that no table depends on; a tier's values are in the config


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@cache
def code_version(*packages: str) -> str:
    """Version and hash of the sources, of ``lib`` and ``jobs`` unless named: other code, other data."""
    digest = hashlib.blake2b(digest_size=6)
    for package in packages or ("lib", "jobs"):
        for path in sorted(_sources(resources.files(package)), key=lambda p: str(p)):
            if path.name not in NOT_DATA and (path.name.endswith(".py") or path.name == "grids.toml"):
                digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"{__version__}+{digest.hexdigest()}"


def _sources(folder):
    for path in folder.iterdir():
        if path.is_dir():
            yield from _sources(path)
        else:
            yield path


def committed(dataset: Dataset, table: str) -> list[str]:
    """Ids of the runs whose files are the table: the newest, should a kill have left the one it replaces as well."""
    return [r["run_id"] for r in _of(dataset, table)]


def _of(dataset: Dataset, table: str) -> list[dict]:
    """The record that a table's files are named by, if they are all there."""
    found = [r for r in records(dataset) if table in json.loads(r["counts"])["rows"]]
    return [r for r in found[-1:] if not _lost(dataset, r, table)]


def _lost(dataset: Dataset, record: dict, table: str) -> list[str]:
    """Files of a table that a record names and somebody has removed."""
    there = {f.name for f in dataset.place.files(dataset.table(table))}
    return [f["path"] for f in record["files"] if f["table"] == table and f["path"] not in there]


def records(dataset: Dataset) -> list[dict]:
    """The tier's rows of the table of runs, oldest first."""
    found = []
    for file in dataset.place.files(dataset.table("runs")):
        if file.name.endswith(".parquet"):
            found += pq.ParquetFile(pa.BufferReader(dataset.place.read(file.name))).read().to_pylist()
    return sorted(found, key=lambda r: (r["started"], r["run_id"]))


def files(dataset: Dataset, table: str) -> list[str]:
    """Parquet files of a table, by their names in the data set; an error names a table that has none."""
    found = [f["path"] for record in _of(dataset, table) for f in record["files"] if f["table"] == table]
    if not found:
        job = {"stamps": "inject", "metrics": "inject", "selection": "select"}.get(table, table)
        raise InputError(f"no {table} table of tier {dataset.tier} in {dataset.place}: run the job {job} first")
    return found


def fingerprint(dataset: Dataset, table: str) -> dict:
    """Size and version of each of a table's files: changes when somebody changes them."""
    known = set(files(dataset, table))
    return {f.name: [f.size, f.etag] for f in dataset.place.files(dataset.table(table)) if f.name in known}


def read(dataset: Dataset, table: str, columns=None) -> pa.Table:
    """A whole table, for those small enough to be one."""
    return pa.concat_tables(open_file(dataset, name).read(columns=columns) for name in files(dataset, table))


def open_file(dataset: Dataset, name: str) -> pq.ParquetFile:
    """A Parquet file of a data set, footer read; an error names it."""
    try:
        return pq.ParquetFile(dataset.place.open(name), pre_buffer=dataset.place.local is None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{dataset.place}/{name}: {error}") from error


@dataclass
class Run:
    """A run in progress; ``reused`` if an equal one is there already, ``done`` the chunks that an earlier session of it committed."""

    dataset: Dataset
    command: str
    tables: tuple[str, ...]
    key: str
    config: dict
    inputs: dict
    lease: Lease
    run_id: str = field(default_factory=lambda: _run_id())
    started: str = field(default_factory=now)
    reused: dict | None = None
    replaces: list[str] = field(default_factory=list)
    done: dict[int, dict] = field(default_factory=dict)
    committed: bool = False
    told: dict = field(default_factory=dict)  # goes into the record's counts

    @property
    def footer(self) -> dict[str, str]:
        """What every file of the run carries: nothing that differs between equal runs of what was shipped."""
        return {
            "tier": self.dataset.tier, "code_version": code_version(), "config_hash": config.digest(self.config),
            "schema_version": schemas.VERSION, **shipped.hashes(),
        }  # fmt: skip

    @property
    def settled(self) -> bool:
        """Whether its files are the tables, whatever comes next."""
        return self.committed or self.reused is not None

    def forget(self) -> None:
        """Make the reused run again, under a new id."""
        self.replaces.append(self.run_id)
        self.reused, self.run_id = None, _run_id()

    def chunk(self, number: int) -> Chunk:
        return Chunk(self.dataset, self.run_id, number, self.footer)

    def write(self, table: str, data: pa.Table) -> None:
        """Write a small table whole, from the driver."""
        chunk = self.chunk(len(self.done))
        chunk.write(table, data)
        self.done[len(self.done)] = chunk.commit({}, 0.0)

    def begin(self) -> None:
        """Put the run on record, so that it can be gone on with."""
        said = {"run_id": self.run_id, "command": self.command, "key": self.key, "config": self.config, "inputs": self.inputs,
                "code_version": code_version(), "started": self.started, "told": self.told}  # fmt: skip
        self.dataset.place.create(f"{self.dataset.log(self.run_id)}/begin.json", json.dumps(said).encode())

    @property
    def files(self) -> list[dict]:
        """The files that the chunks made, in the order of their names."""
        return sorted((f for record in self.done.values() for f in record["files"]), key=lambda f: (f["table"], f["path"]))

    @property
    def rows(self) -> dict[str, int]:
        """Rows of each table that are committed."""
        found = dict.fromkeys(self.tables, 0)
        for record in self.done.values():
            for f in record["files"]:
                found[f["table"]] += f["rows"]
        return found

    @property
    def totals(self) -> dict[str, float]:
        """The counts of all chunks, added up."""
        found: dict[str, float] = {}
        for record in self.done.values():
            for name, number in record["counts"].items():
                found[name] = found.get(name, 0) + number
        return found

    @property
    def peak_mb(self) -> float:
        """The most memory that a worker held."""
        return max((record["peak_mb"] for record in self.done.values()), default=0.0)

    @property
    def core_seconds(self) -> float:
        return sum(record["core_seconds"] for record in self.done.values())

    def commit(self, counts: dict, core_seconds: float = 0.0) -> dict:
        """Record the run: from now on its files are the tables. Only then is what it replaces dropped.

        ``counts`` is what is told of the run beside the ``rows`` by table; ``core_seconds`` are the driver's own, on top of the chunks'.
        """
        self.lease.require()
        made = self.files
        row = {
            "run_id": self.run_id, "command": self.command, "tier": self.dataset.tier, "key": self.key,
            "config_hash": config.digest(self.config), "config": json.dumps(self.config, sort_keys=True),
            "code_version": code_version(), "inputs": json.dumps(self.inputs, sort_keys=True),
            "counts": json.dumps(counts | self.told | {"rows": self.rows}, sort_keys=True), "files": made,
            "core_seconds": self.core_seconds + core_seconds, "started": self.started, "ended": now(), "outcome": "ok",
        }  # fmt: skip
        _put(self.dataset, row, self.footer)
        self.committed = True
        for old in self.replaces:
            _drop(self.dataset, self.tables, old)
        _tidy(self.dataset, self.tables, self.run_id, made)
        return row

    def recommit(self, record: dict) -> dict:
        """Give a committed run the files made here in place of those it had of these tables; readers see the old ones or the new ones."""
        self.lease.require()
        row = record | {"files": [f for f in record["files"] if f["table"] not in self.tables] + self.files}
        _put(self.dataset, row, self.footer)
        _tidy(self.dataset, self.tables, self.run_id, row["files"])
        return row


@contextmanager
def start(
    dataset: Dataset, command: str, tables, settings: dict, inputs: dict,
    *, fresh: bool = False, replace: bool = False, resumes: bool = False, told: dict | None = None,
):  # fmt: skip
    """A ``Run`` that writes ``tables``, the tier held for it; ``settings`` is the whole config.

    An equal run is reused, or gone on with if it was stopped (``resumes``). Another one in these tables is an error that names what
    changed; ``fresh`` replaces any earlier run, ``replace`` one that differs. What is replaced stays until the new run is committed.
    ``told`` is kept in the run's counts and changes nothing else.
    """
    dataset.claim()
    settings = json.loads(json.dumps(settings))  # as it will be read back: tuples are lists
    mine = json.loads(json.dumps(tiers.parts(settings, command)))
    key = config.digest({"command": command, "config": mine, "inputs": inputs, "code": code_version()})
    with dataset.writer(command) as held:
        _sweep(dataset)
        run = Run(dataset, command, tuple(tables), key, settings, inputs, held, told=told or {})
        for old in [r for r in records(dataset) if r["command"] == command]:
            if any(_lost(dataset, old, table) for table in tables):
                _drop(dataset, run.tables, old["run_id"])  # somebody removed its files
            elif old["key"] == key and not fresh:
                run.reused, run.run_id = old, old["run_id"]
                log.info("%s: unchanged, run %s is reused", command, old["run_id"])
            elif fresh or replace:
                run.replaces.append(old["run_id"])
            else:
                raise ConfigError(_refusal(old, mine, inputs))
        for old in [b for b in _begun(dataset) if b["command"] == command and run.reused is None]:
            if old["key"] == key and resumes and not fresh:
                run.run_id, run.started, run.done = old["run_id"], old["started"], chunks(dataset, old["run_id"])
                run.told = old["told"] | run.told
                log.info("%s: run %s goes on, %d of its chunks are there", command, run.run_id, len(run.done))
            elif fresh or replace or not chunks(dataset, old["run_id"]):
                _drop(dataset, run.tables, old["run_id"])
            else:
                raise ConfigError(_refusal(old, mine, inputs))
        if resumes and run.reused is None:
            run.begin()
        try:
            yield run
            shutil.rmtree(dataset.scratch(), ignore_errors=True)
        except BaseException:
            if not run.settled and not (resumes and chunks(dataset, run.run_id)):
                _drop(dataset, run.tables, run.run_id)
            raise


@contextmanager
def rewritten(dataset: Dataset, table: str):
    """(record, ``Run``) of a committed table whose files are to be made anew with the same rows, the tier held for it."""
    with dataset.writer(f"compact {table}") as held:
        _sweep(dataset)
        files(dataset, table)  # or an error that names the table
        (record,) = _of(dataset, table)
        _tidy(dataset, [table], record["run_id"], record["files"])  # what a killed compaction left
        run = Run(
            dataset,
            record["command"],
            (table,),
            record["key"],
            json.loads(record["config"]),
            json.loads(record["inputs"]),
            held,
            record["run_id"],
        )
        yield record, run


def _put(dataset: Dataset, row: dict, footer: dict) -> None:
    """Write a run's record: the one step that makes its files the tables."""
    sink = pa.BufferOutputStream()
    pq.write_table(rows.table({k: [v] for k, v in row.items()}, schemas.RUNS).replace_schema_metadata(footer), sink)
    dataset.place.put(f"{dataset.run('runs', row['run_id'])}/run.parquet", sink.getvalue().to_pybytes())


def _tidy(dataset: Dataset, tables, run_id: str, kept: list[dict]) -> None:
    """Remove a run's files that its record does not name: of attempts that lost, or died; and the records of its chunks."""
    named = {f["path"] for f in kept}
    for table in tables:
        dataset.drop_names(f.name for f in dataset.place.files(dataset.run(table, run_id)) if f.name not in named)
    dataset.drop_names(f.name for f in dataset.place.files(dataset.log(run_id)))


def chunks(dataset: Dataset, run_id: str) -> dict[int, dict]:
    """The records of a run's chunks, by their numbers."""
    names = [f.name for f in dataset.place.files(dataset.log(run_id)) if "/chunk-" in f.name]
    with ThreadPoolExecutor(16) as pool:
        found = [json.loads(text) for text in pool.map(dataset.place.read, names)]
    return {record["chunk"]: record for record in found}


def _begun(dataset: Dataset) -> list[dict]:
    """Runs that were begun and not finished, oldest first."""
    finished = {r["run_id"] for r in records(dataset)}
    names = [f.name for f in dataset.place.files(dataset.log()) if f.name.endswith("/begin.json")]
    found = [json.loads(dataset.place.read(name)) for name in names if name.split("/")[-2] not in finished]
    return sorted(found, key=lambda b: (b["started"], b["run_id"]))


def _run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def _refusal(old: dict, settings: dict, inputs: dict) -> str:
    before, there = (json.loads(v) if isinstance(v, str) else v for v in (old["config"], old["inputs"]))
    changed = config.differences(json.loads(json.dumps(tiers.parts(before, old["command"]))), settings)
    if old["code_version"] != code_version():
        changed.append(f"code: {old['code_version']} -> {code_version()}")
    changed += _other_inputs(there, json.loads(json.dumps(inputs)))
    shown = "; ".join(changed[:TOLD]) + (f"; and {len(changed) - TOLD} more" if len(changed) > TOLD else "")
    what = "the table" if "files" in old else "a part of the table"
    return (
        f"{what} was made by run {old['run_id']} with other settings ({shown}): "
        "give --replace to make it anew, or another --dataset to keep this one"
    )


def _other_inputs(before: dict, now: dict) -> list[str]:
    """What a run read that differs, in words, single files last."""
    found, files_ = [], []
    for key in sorted(before.keys() | now.keys()):
        a, b = before.get(key), now.get(key)
        if a == b:
            continue
        if isinstance(a or b, dict):
            files_ += _other_inputs(a or {}, b or {})
        elif key.startswith("/"):
            files_.append(f"file {key} {'is new' if a is None else 'is not read any more' if b is None else 'has changed'}")
        elif key == "coadds":
            found.append("the survey's coadd files of these bricks are others, or have changed")
        elif key in schemas.TABLES:
            found.append(f"table {key}: of run {_words(a)} then, of {_words(b)} now")
        else:
            found.append(f"{key}: {_words(a)} -> {_words(b)}")
    return found + files_


def _words(value) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "not given" if value is None else "yes" if value is True else "no" if value is False else str(value)


def _drop(dataset: Dataset, tables, run_id: str) -> None:
    """Drop a run: its record first, so that what a kill leaves of it is nobody's, and swept away."""
    for table in ("runs", *tables):
        dataset.drop(table, run_id)
    dataset.drop_names(f.name for f in dataset.place.files(dataset.log(run_id)))


def _sweep(dataset: Dataset) -> None:
    """Remove what killed runs left: files on their way, runs that a newer one replaced, files that no run owns."""
    shutil.rmtree(dataset.scratch(), ignore_errors=True)
    newest = {r["command"]: r["run_id"] for r in records(dataset)}
    for record in records(dataset):
        if record["run_id"] != newest[record["command"]]:
            _drop(dataset, json.loads(record["counts"])["rows"], record["run_id"])
    known = {*newest.values(), *(b["run_id"] for b in _begun(dataset))}
    for table in schemas.TABLES:
        for run_id in sorted({owner(f.name) for f in dataset.place.files(dataset.table(table))} - known - {""}):
            log.warning("%s: run %s was never finished and is removed", table, run_id)
            dataset.drop(table, run_id)
    for run_id in sorted({f.name.split("/")[-2] for f in dataset.place.files(dataset.log())} - known):
        dataset.drop_names(f.name for f in dataset.place.files(dataset.log(run_id)))


def owner(name: str) -> str:
    """The run that a file belongs to, by its path; '' if none."""
    return next((part.removeprefix("run_id=") for part in name.split("/") if part.startswith("run_id=")), "")
