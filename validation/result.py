"""What a gate is, and what it says."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

from pyspark.sql import Column, DataFrame, SparkSession

from lib import schemas, spark
from lib.runs import files
from lib.store import Dataset
from lib.tiers import Tier

PASS, FAIL, ERROR, NOT_APPLICABLE = "pass", "fail", "error", "not_applicable"


@dataclass(frozen=True)
class Result:
    """One gate's verdict: what was measured, the limit it is held to, the rows judged, a few offending keys."""

    outcome: str
    message: str
    measured: float | None = None
    threshold: float | None = None
    n: int = 0
    examples: tuple = ()
    gate: str = ""
    table: str = ""
    severity: str = "block"
    unit: str = ""

    @property
    def blocks(self) -> bool:
        return self.outcome in (FAIL, ERROR) and self.severity == "block"

    def row(self, tier: str, run_id: str) -> dict:
        return {
            "gate": self.gate, "table": self.table, "tier": tier, "outcome": self.outcome, "severity": self.severity,
            "measured": None if self.measured is None else float(self.measured),
            "threshold": None if self.threshold is None else float(self.threshold),
            "unit": self.unit, "n": int(self.n), "message": self.message,
            "examples": json.dumps(list(self.examples)), "run_id": run_id,
        }  # fmt: skip


def judged(passed: bool, message: str, **facts) -> Result:
    return Result(PASS if passed else FAIL, message, **facts)


def not_applicable(reason: str, **facts) -> Result:
    return Result(NOT_APPLICABLE, reason, **facts)


@dataclass
class Data:
    """The tables of one tier, and the aggregates of the gates, one Spark pass a table."""

    session: SparkSession
    dataset: Dataset
    tier: Tier
    frames: dict[str, DataFrame] = field(default_factory=dict)
    facts: dict[str, dict] = field(default_factory=dict)
    broken: dict[str, Exception] = field(default_factory=dict)  # gates whose aggregates could not be computed

    def frame(self, table: str, columns: list[str] | None = None) -> DataFrame:
        """A table, kept by Spark once read; or some columns of it, read anew: of stamps those without need of the pixels."""
        if columns is not None:
            return spark.read(self.session, self.dataset, table, columns)
        if table not in self.frames:
            self.frames[table] = spark.read(self.session, self.dataset, table).persist()
        return self.frames[table]

    def close(self) -> None:
        for frame in self.frames.values():
            frame.unpersist()
        self.frames.clear()

    @cached_property
    def classes(self):
        """Lenses and unpaired controls of the manifest, as ``validation.balance`` compares them."""
        from validation import balance

        return balance.classes(self.frame("manifest"))

    def files(self, table: str) -> list[str]:
        return files(self.dataset, table)

    @cached_property
    def sample(self) -> list[dict]:
        """Injected rows that were made, in an order of their ids (which are hashes), as many as the tier asks for."""
        made = self.frame("metrics").filter("status = 'ok' AND role = 'injected'")
        rows = made.orderBy("task_id").limit(self.tier.gates.magnification_sample).collect()
        return [row.asDict() for row in rows]

    def examples(self, table: str, condition: str, key: str = "task_id") -> tuple:
        return tuple(r[0] for r in self.frame(table).filter(condition).select(key).limit(5).collect())


@dataclass(frozen=True)
class Gate:
    """A named check: ``judge(data, facts) -> Result``; ``aggregates(tier)`` are computed for it beforehand."""

    name: str
    table: str
    about: str
    judge: Callable[[Data, dict], Result]
    aggregates: Callable[[Tier], dict[str, Column]] | None = None
    severity: str = "block"
    unit: str = ""
    at_least: bool = False  # the limit is the least that may be measured, not the most

    def run(self, data: Data) -> Result:
        try:
            if self.name in data.broken:
                raise data.broken[self.name]
            result = self.judge(data, data.facts.get(self.name, {}))
        except Exception as error:  # a check that cannot be computed has not been passed
            lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            text = lines[-1 if "Traceback" in str(error) else 0].strip()
            result = Result(ERROR, f"{type(error).__name__}: {text[:300]}")
        if result.n == 0 and result.outcome in (PASS, FAIL):
            result = replace(result, outcome=ERROR, message=f"no rows read; {result.message}")
        return replace(result, gate=self.name, table=self.table, severity=self.severity, unit=result.unit or self.unit)


def gate(name: str, table: str, about: str, *, aggregates=None, severity: str = "block", unit: str = "", at_least: bool = False):
    """Make a gate of a function ``(data, facts) -> Result``."""
    return lambda judge: Gate(name, table, about, judge, aggregates, severity, unit, at_least)


def compute_facts(data: Data, gates: list[Gate]) -> None:
    """All aggregates of all gates: one pass over each table."""
    for table in schemas.TABLES:
        mine = [g for g in gates if g.table == table]
        wanted = {(g.name, key): column for g in mine if g.aggregates for key, column in g.aggregates(data.tier).items()}
        if not wanted:
            continue
        try:
            columns = [column.alias(f"a{k}") for k, column in enumerate(wanted.values())]
            named = [name for name in schemas.TABLES[table].names if any(re.search(rf"\b{name}\b", str(c)) for c in columns)]
            frame = data.frame(table, named) if table == "stamps" else data.frame(table)
            row = frame.agg(*columns).collect()[0]
        except Exception as error:
            data.broken |= dict.fromkeys({name for name, _ in wanted}, error)
            continue
        for k, (name, key) in enumerate(wanted):
            data.facts.setdefault(name, {})[key] = row[k]
