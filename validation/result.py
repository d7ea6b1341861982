"""What a gate is, and what it says."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lib.tiers import Tier
from validation.tally import Rows

if TYPE_CHECKING:
    from validation.data import Data

PASS, FAIL, ERROR, NOT_APPLICABLE = "pass", "fail", "error", "not_applicable"
UNKNOWN = "no rows read"


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


def too_few(tier: Tier, reason: str, **facts) -> Result:
    """A sample too small to tell: not applicable in a small tier, elsewhere a failure."""
    return not_applicable(reason, **facts) if tier.gates.small_tier else judged(False, f"too few to judge: {reason}", **facts)


@dataclass(frozen=True)
class Asked:
    """For whom notes are taken: the tier, and how many rows the table has."""

    tier: Tier
    total: int

    def share(self, rows: int, of: float = 1.0) -> float:
        """Of a sample of about ``rows`` rows, if a part ``of`` the table is looked at."""
        return rows / max(1.0, self.total * of)


@dataclass(frozen=True)
class Note:
    """What is noted of a table, in the one pass over it: ``take(rows, asked)`` of each piece, put together with ``+``.

    ``keyed(rows, asked)`` gives arrays (n, 2) by name, a key and what goes with it; ``settle(name, all)`` notes of those with equal
    keys, which come together from all pieces.
    """

    name: str
    table: str
    take: Callable[[Rows, Asked], dict] | None = None
    keyed: Callable[[Rows, Asked], dict] | None = None
    settle: Callable[[str, object], dict] | None = None


@dataclass(frozen=True)
class Gate:
    """A named check: ``judge(data, facts) -> Result``; ``facts`` are its notes, by table if there are several."""

    name: str
    table: str
    about: str
    judge: Callable[["Data", dict], Result]
    notes: tuple[Note, ...] = ()
    uses: tuple[Note, ...] = ()  # notes that several gates look at
    severity: str = "block"
    unit: str = ""
    at_least: bool = False  # the limit is the least that may be measured, not the most

    def run(self, data: "Data") -> Result:
        try:
            found = {note.table: data.noted(note) for note in self.notes}
            result = self.judge(data, found if len(found) > 1 else next(iter(found.values()), {}))
        except Exception as error:  # a check that cannot be computed has not been passed
            lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
            text = lines[-1 if "Traceback" in str(error) else 0].strip()
            result = Result(ERROR, f"{type(error).__name__}: {text[:300]}")
        if result.n == 0 and result.outcome in (PASS, FAIL):
            result = replace(result, outcome=ERROR, message=f"{UNKNOWN}; {result.message}")
        return replace(result, gate=self.name, table=self.table, severity=self.severity, unit=result.unit or self.unit)


def gate(name: str, table: str, about: str, *, notes=None, keyed=None, settle=None, uses=(), severity="block", unit="", at_least=False):
    """Make a gate of a function ``(data, facts) -> Result``; ``notes`` are of its table, or by table."""
    takes = notes if isinstance(notes, dict) else {table: notes} if notes or keyed else {}
    noted = tuple(Note(name, t, take, *((keyed, settle) if t == table else ())) for t, take in takes.items())
    return lambda judge: Gate(name, table, about, judge, noted, tuple(uses), severity, unit, at_least)


def needed(spread: float, limit: float) -> int:
    """How many draws of a spread give a mean of which twice the standard error is the limit."""
    return math.ceil((2.0 * spread / limit) ** 2 - 1e-6)
