"""One run of one job: found again if nothing changed, refused if its config did, recorded when it ends."""

import hashlib
import json
import logging
import secrets
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import resources

import pyarrow as pa
import pyarrow.parquet as pq

from lib import __version__, config, rows, schemas, tiers
from lib.errors import ConfigError, InputError
from lib.store import Dataset

log = logging.getLogger(__name__)
TOLD = 12  # differences that a refusal names
NOT_DATA = ("picture.py", "costs.py")  # sources that no table depends on; a tier's values are in the config


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
    found = [r["run_id"] for r in records(dataset) if table in json.loads(r["counts"])["rows"]]
    return [run_id for run_id in found[-1:] if dataset.run(table, run_id).is_dir()]


def records(dataset: Dataset) -> list[dict]:
    """The tier's rows of the table of runs, oldest first."""
    found = []
    for path in sorted(dataset.table("runs").glob("run_id=*/*.parquet")):
        found += pq.ParquetFile(path).read().to_pylist()
    return sorted(found, key=lambda r: r["started"])


def files(dataset: Dataset, table: str) -> list[str]:
    """Parquet files of a table; an error names a table that has none."""
    found = [str(p) for run in committed(dataset, table) for p in sorted(dataset.run(table, run).glob("*.parquet"))]
    if not found:
        job = {"stamps": "inject", "metrics": "inject"}.get(table, table)
        raise InputError(f"no {table} table of tier {dataset.tier} in {dataset.folder}: run the job {job} first")
    return found


def read(dataset: Dataset, table: str, columns=None) -> pa.Table:
    """A whole table, for those small enough to be one."""
    return pa.concat_tables(pq.ParquetFile(f).read(columns=columns) for f in files(dataset, table))


@dataclass
class Run:
    """A run in progress; ``reused`` if an equal one is there already."""

    dataset: Dataset
    command: str
    tables: tuple[str, ...]
    key: str
    config: dict
    inputs: dict
    run_id: str
    started: str = field(default_factory=now)
    reused: dict | None = None
    replaces: list[str] = field(default_factory=list)

    @property
    def footer(self) -> dict[str, str]:
        """What every file of the run carries."""
        return {
            "run_id": self.run_id, "tier": self.dataset.tier, "code_version": code_version(),
            "config_hash": config.digest(self.config), "schema_version": schemas.VERSION,
        }  # fmt: skip

    def forget(self) -> None:
        """Make the reused run again, under a new id."""
        self.replaces.append(self.run_id)
        self.reused, self.run_id = None, _run_id()

    @property
    def staging(self) -> str:
        return str(self.dataset.staging(self.run_id))

    def commit(self, counts: dict, core_seconds: float) -> dict:
        """Publish the staged tables, record the run, and only then drop what it replaces.

        ``counts`` holds ``rows`` by table, and what else is told of the run.
        """
        self.dataset.publish(self.run_id, list(self.tables))
        row = {
            "run_id": self.run_id, "command": self.command, "tier": self.dataset.tier, "key": self.key,
            "config_hash": config.digest(self.config), "config": json.dumps(self.config, sort_keys=True),
            "code_version": code_version(), "inputs": json.dumps(self.inputs, sort_keys=True),
            "counts": json.dumps(counts, sort_keys=True), "core_seconds": float(core_seconds),
            "started": self.started, "ended": now(), "outcome": "ok",
        }  # fmt: skip
        staged = self.dataset.staging(self.run_id) / "runs"
        staged.mkdir(parents=True)
        table = rows.table({k: [v] for k, v in row.items()}, schemas.RUNS)
        pq.write_table(table.replace_schema_metadata(self.footer), staged / "run.parquet")
        self.dataset.publish(self.run_id, ["runs"])
        for old in self.replaces:
            _drop(self.dataset, self.tables, old)
        return row


@contextmanager
def start(dataset: Dataset, command: str, tables, settings: dict, inputs: dict, *, fresh: bool = False, replace: bool = False):
    """A ``Run`` that writes ``tables``, the dataset held for it; ``settings`` is the whole config.

    An equal run is reused. Another one in these tables is an error that names what changed; ``fresh`` replaces any
    earlier run, ``replace`` one that differs. What is replaced stays until the new run is committed.
    """
    dataset.claim()
    settings = json.loads(json.dumps(settings))  # as it will be read back: tuples are lists
    mine = json.loads(json.dumps(tiers.parts(settings, command)))
    key = config.digest({"command": command, "config": mine, "inputs": inputs, "code": code_version()})
    with dataset.writer(command):
        _sweep(dataset)
        run = Run(dataset, command, tuple(tables), key, settings, inputs, _run_id())
        for old in [r for r in records(dataset) if r["command"] == command]:
            if not all(dataset.run(table, old["run_id"]).is_dir() for table in tables):
                _drop(dataset, run.tables, old["run_id"])  # somebody removed its files
            elif old["key"] == key and not fresh:
                run.reused, run.run_id = old, old["run_id"]
                log.info("%s: unchanged, run %s is reused", command, old["run_id"])
            elif fresh or replace:
                run.replaces.append(old["run_id"])
            else:
                raise ConfigError(_refusal(old, mine, inputs))
        try:
            yield run
        except BaseException:
            shutil.rmtree(run.staging, ignore_errors=True)
            raise


def _run_id() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"


def _refusal(old: dict, settings: dict, inputs: dict) -> str:
    changed = config.differences(json.loads(json.dumps(tiers.parts(json.loads(old["config"]), old["command"]))), settings)
    if old["code_version"] != code_version():
        changed.append(f"code: {old['code_version']} -> {code_version()}")
    changed += _other_inputs(json.loads(old["inputs"]), json.loads(json.dumps(inputs)))
    shown = "; ".join(changed[:TOLD]) + (f"; and {len(changed) - TOLD} more" if len(changed) > TOLD else "")
    return (
        f"the table was made by run {old['run_id']} with other settings ({shown}): "
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
        elif key in schemas.TABLES:
            found.append(f"table {key}: of run {_words(a)} then, of {_words(b)} now")
        elif key == "coadds":
            found.append("the survey's coadd files of these bricks are others, or have changed")
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


def _sweep(dataset: Dataset) -> None:
    """Remove what killed runs left: staged files, runs that a newer one replaced, folders that no record owns."""
    shutil.rmtree(dataset.staging("any").parent, ignore_errors=True)
    newest = {r["command"]: r["run_id"] for r in records(dataset)}
    for record in records(dataset):
        if record["run_id"] != newest[record["command"]]:
            _drop(dataset, json.loads(record["counts"])["rows"], record["run_id"])
    known = set(newest.values())
    for table in schemas.TABLES:
        for folder in dataset.table(table).glob("run_id=*"):
            run_id = folder.name.removeprefix("run_id=")
            if run_id not in known:
                log.warning("%s: run %s was never finished and is removed", table, run_id)
                dataset.drop(table, run_id)
