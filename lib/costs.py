"""What a manifest will take, before anything is made: rows, bricks, bytes, core-hours and dollars.

Rates and prices are the figures of ``costs.toml``, each with its source and date.  Core-hours are the CPU of the workers' Python:
the start of machines, the JVM and idle cores come on top (``infra/plan.py``, for machines of one's choice).
"""

import math
import tomllib
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import resources
from typing import Any

from lib import config
from lib.sampling.counts import HARD, UNPAIRED
from lib.survey import geometry

EXACT, ESTIMATED, MOST = "exact", "estimated", "at most"
HOUR, GB = 3600.0, 1e9
UNITS = {"GB": GB, "MB": 1e6, "kB": 1e3}


@dataclass(frozen=True)
class Figure:
    """A number with its source; ``low`` and ``high`` are how far off it may be, in the direction of less and of more cost."""

    value: float
    unit: str
    source: str
    date: str
    low: float | None = None
    high: float | None = None

    def __post_init__(self):
        if self.value < 0:
            raise ValueError(f"value must be at least 0, got {self.value}")
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high are given together")

    def at(self, bound: str) -> "Figure":
        """The figure at its ``low`` or ``high``; itself where neither is known."""
        value = getattr(self, bound)
        return self if value is None else replace(self, value=value)


@dataclass(frozen=True)
class Costs:
    manifest_bytes: Figure
    stamps_bytes: Figure
    metrics_bytes: Figure
    stamp_core_seconds: Figure
    brick_core_seconds: Figure
    brick_requests: Figure
    memory_per_core: Figure
    core_hour: Figure
    memory_hour: Figure
    storage_month: Figure
    request_million: Figure
    vcpu_slower: Figure
    brick_wait_seconds: Figure
    write_rate: Figure
    start_minutes: dict[str, Figure]
    graviton_share: Figure
    spot_share: Figure
    emr_share: Figure
    machine_hour: dict[str, Figure]

    def at(self, bound: str) -> "Costs":
        """All figures at their ``low`` or ``high``."""
        found: dict[str, Any] = {}
        for name in (f.name for f in fields(self)):
            of = getattr(self, name)
            found[name] = {k: v.at(bound) for k, v in of.items()} if isinstance(of, dict) else of.at(bound)
        return Costs(**found)


@cache
def load() -> Costs:
    """The shipped figures."""
    return config.build(Costs, tomllib.loads((resources.files(__package__) / "costs.toml").read_text()))


@dataclass(frozen=True)
class Estimate:
    """Rows by split and role, hosts by split, bricks; of each the number itself (``EXACT``) or the most there can be (``MOST``)."""

    tier: str
    rows: dict[str, dict[str, int]]
    hosts: dict[str, int]
    bricks: int
    rows_are: str = EXACT
    bricks_are: str = EXACT

    @property
    def total(self) -> int:
        return sum(sum(roles.values()) for roles in self.rows.values())

    def told(self, costs: Costs) -> dict:
        """Everything as plain values."""
        size = {name: round(self.total * getattr(costs, f"{name}_bytes").value) for name in ("manifest", "stamps", "metrics")}
        core_hours = (self.total * costs.stamp_core_seconds.value + self.bricks * costs.brick_core_seconds.value) / HOUR
        an_hour = costs.core_hour.value + costs.memory_per_core.value * costs.memory_hour.value
        return {
            "tier": self.tier, "rows": self.rows, "total_rows": self.total, "rows_are": self.rows_are, "hosts": self.hosts,
            "bricks": self.bricks, "bricks_are": self.bricks_are, "bytes": size,
            "costs_are": MOST if MOST in (self.rows_are, self.bricks_are) else ESTIMATED, "core_hours": float(f"{core_hours:.6g}"),
            "dollars": float(f"{core_hours * an_hour:.6g}"),
            "request_dollars": float(f"{self.bricks * costs.brick_requests.value / 1e6 * costs.request_million.value:.6g}"),
            "storage_dollars_a_month": float(f"{sum(size.values()) / GB * costs.storage_month.value:.6g}"),
        }  # fmt: skip


def most_bricks(rows: dict[str, dict[str, int]], hosts: dict[str, int]) -> int:
    """No more bricks than galaxies, and than there are in the sky."""
    return min(geometry.BRICKS, sum(hosts.values()) + sum(roles[UNPAIRED] + roles.get(HARD, 0) for roles in rows.values()))


def significant(value: float, digits: int = 2) -> str:
    """So many significant digits, without an exponent.

    >>> [significant(v) for v in (0.0, 0.000417, 0.0996, 7.04, 41500)]
    ['0', '0.00042', '0.10', '7.0', '42,000']
    """
    if not value:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(rounded)))}f}"


def size(n: float) -> str:
    """Bytes in the unit that they are more than one of.

    >>> [size(n) for n in (512, 13772, 12279780, 1023315000000)]
    ['512 B', '13.8 kB', '12.3 MB', '1,023 GB']
    """
    for unit, of in UNITS.items():
        if n >= of:
            return f"{significant(n / of, max(3, len(str(int(n / of)))))} {unit}"
    return f"{n:.0f} B"


def lines(told: dict, costs: Costs) -> list[str]:
    """An estimate as a table for people."""
    roles = list(next(iter(told["rows"].values())))
    out = [f"plan of tier {told['tier']}: rows are {told['rows_are']}, bricks {told['bricks_are']}, costs {told['costs_are']}"]
    out.append(f"  {'':8}{'hosts':>12}" + "".join(f"{role:>18}" for role in roles) + f"{'rows':>14}")
    for split, of in told["rows"].items():
        out.append(f"  {split:8}{told['hosts'][split]:>12,}" + "".join(f"{of[role]:>18,}" for role in roles) + f"{sum(of.values()):>14,}")
    whole_sky = told["bricks_are"] == MOST and told["bricks"] == geometry.BRICKS
    figures = {
        "rows": f"{told['total_rows']:,}", "bricks": "whole sky" if whole_sky else f"{told['bricks']:,}",
        **{name: size(n) for name, n in told["bytes"].items()},
        "inject, core-hours": significant(told["core_hours"]), "inject, dollars": significant(told["dollars"]),
        "requests to a bucket, dollars": significant(told["request_dollars"]),
        "storage, dollars a month": significant(told["storage_dollars_a_month"]),
    }  # fmt: skip
    out += [f"  {name:30}{value:>16}" for name, value in figures.items()]
    return [*out, f"  rates of {costs.stamp_core_seconds.date}, prices of {costs.core_hour.date} ({costs.core_hour.source})"]
