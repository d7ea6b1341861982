"""What a manifest will take, before anything is made: rows, bricks, bytes, core-hours and dollars.

Rates and prices are the figures of ``costs.toml``, each with its source and date.  Core-hours are the CPU of the workers' Python:
the start of machines, the JVM and idle cores come on top.
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from lib import config
from lib.sampling.counts import HARD, UNPAIRED
from lib.survey import geometry

EXACT, ESTIMATED, MOST = "exact", "estimated", "at most"
HOUR, GB = 3600.0, 1e9


@dataclass(frozen=True)
class Figure:
    value: float
    unit: str
    source: str
    date: str

    def __post_init__(self):
        if self.value < 0:
            raise ValueError(f"value must be at least 0, got {self.value}")


@dataclass(frozen=True)
class Costs:
    manifest_bytes: Figure
    stamps_bytes: Figure
    metrics_bytes: Figure
    stamp_core_seconds: Figure
    brick_core_seconds: Figure
    memory_per_core: Figure
    core_hour: Figure
    memory_hour: Figure
    storage_month: Figure


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
            "costs_are": MOST if MOST in (self.rows_are, self.bricks_are) else ESTIMATED, "core_hours": round(core_hours, 4),
            "dollars": round(core_hours * an_hour, 4), "storage_dollars_a_month": round(sum(size.values()) / GB * costs.storage_month.value, 4),
        }  # fmt: skip


def most_bricks(rows: dict[str, dict[str, int]], hosts: dict[str, int]) -> int:
    """No more bricks than galaxies, and than there are in the sky."""
    return min(geometry.BRICKS, sum(hosts.values()) + sum(roles[UNPAIRED] + roles.get(HARD, 0) for roles in rows.values()))


def lines(told: dict, costs: Costs) -> list[str]:
    """An estimate as a table for people."""
    roles = list(next(iter(told["rows"].values())))
    out = [f"plan of tier {told['tier']}: rows are {told['rows_are']}, bricks {told['bricks_are']}, costs {told['costs_are']}"]
    out.append(f"  {'':8}{'hosts':>12}" + "".join(f"{role:>18}" for role in roles) + f"{'rows':>14}")
    for split, of in told["rows"].items():
        out.append(f"  {split:8}{told['hosts'][split]:>12,}" + "".join(f"{of[role]:>18,}" for role in roles) + f"{sum(of.values()):>14,}")
    size, price = told["bytes"], costs.core_hour
    figures = {
        "rows": f"{told['total_rows']:,}", "bricks": f"{told['bricks']:,}",
        **{f"{name}, GB": f"{n / GB:,.3f}" for name, n in size.items()},
        "inject, core-hours": f"{told['core_hours']:,.2f}", "inject, dollars": f"{told['dollars']:,.2f}",
        "storage, dollars a month": f"{told['storage_dollars_a_month']:,.2f}",
    }  # fmt: skip
    out += [f"  {name:28}{value:>18}" for name, value in figures.items()]
    return [*out, f"  rates of {costs.stamp_core_seconds.date}, prices of {price.date} ({price.source})"]
