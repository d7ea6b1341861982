"""What a run will take on its machines: rows, bricks, bytes, core-hours, minutes, dollars, each with how far off it may be.

Rows and core-hours are those of ``jobs manifest --plan``; rates and prices those of ``lib/costs.toml``.  On top come what those leave out: another
core than the one that was measured, waiting for a bucket, writing, the start of machines, machines that are paid while they wait.
"""

import math
from dataclasses import replace

from infra.cluster import Cluster, Ec2, Fleet
from lib.costs import HOUR, Costs, Estimate, size
from lib.errors import ConfigError

PER_MACHINE = 8  # cores that the rate of writing is for
BOUNDS = ("low", "value", "high")


def priced(cluster: Cluster, costs: Costs) -> float:
    """Dollars an hour with all machines there."""
    if cluster.mode == "serverless":
        share = costs.graviton_share.value if cluster.architecture == "arm64" else 1.0
        memory = (cluster.executor.memory_gb + cluster.executor.overhead_gb) / cluster.executor.cores
        return cluster.cores * share * (costs.core_hour.value + memory * costs.memory_hour.value)
    assert cluster.ec2 is not None
    return sum(_fleet(fleet, cluster, costs) for fleet in _fleets(cluster.ec2))


def _fleets(ec2: Ec2) -> tuple[Fleet, ...]:
    """Those of the cluster when it has grown to ``machines_max``: by task machines, spot where there are such."""
    more = ec2.machines_max - ec2.machines
    if not ec2.task or not more:
        return (ec2.primary, *ec2.fleets)
    kind = "spot" if ec2.task.spot else "on_demand"
    return (ec2.primary, ec2.core, replace(ec2.task, **{kind: getattr(ec2.task, kind) + more}))


def _fleet(fleet: Fleet, cluster: Cluster, costs: Costs) -> float:
    name = fleet.types[cluster.architecture][0]
    if name not in costs.machine_hour:
        raise ConfigError(
            f"no price of {name} in lib/costs.toml: add [machine_hour.{name!r}] with its source; known: {', '.join(costs.machine_hour)}"
        )
    share = fleet.on_demand + fleet.spot * costs.spot_share.value + (fleet.on_demand + fleet.spot) * costs.emr_share.value
    return costs.machine_hour[name].value * share


def taken(cluster: Cluster, estimate: Estimate, costs: Costs) -> dict[str, float]:
    """Core-hours of the machines, minutes, dollars."""
    told = estimate.told(costs)
    work = told["core_hours"] * costs.vcpu_slower.value
    waits = estimate.bricks * costs.brick_wait_seconds.value / HOUR
    writes = sum(told["bytes"].values()) / (costs.write_rate.value * 1e6 * cluster.cores / PER_MACHINE) / HOUR
    hours = (work + waits) / cluster.cores + writes
    start = costs.start_minutes[cluster.mode].value
    paid = hours + (start / 60 if cluster.mode == "ec2" else 0.0)  # Serverless is paid from the first task on
    return {"core_hours": work, "minutes": start + 60 * hours, "dollars": paid * priced(cluster, costs) + told["request_dollars"]}


def with_bricks(estimate: Estimate, bricks: int) -> Estimate:
    """The estimate for a survey of so many bricks; 0 is not known."""
    return replace(estimate, bricks=min(bricks, estimate.bricks)) if bricks else estimate


def figures(cluster: Cluster, estimate: Estimate, costs: Costs) -> dict:
    """The plan as plain values, the last line that is printed."""
    three = [taken(cluster, estimate, costs if b == "value" else costs.at(b)) for b in BOUNDS]
    told = estimate.told(costs)
    out: dict = {"tier": estimate.tier, "cluster": cluster.name, "rows": estimate.total, "rows_are": estimate.rows_are,
                 "bricks": estimate.bricks, "bricks_are": estimate.bricks_are, "bytes": sum(told["bytes"].values())}  # fmt: skip
    for name in three[0]:
        low, value, high = (float(f"{t[name]:.3g}") for t in three)
        out |= {name: value, f"{name}_from": low, f"{name}_to": high}
    storage = {"storage_dollars_a_month": told["storage_dollars_a_month"], "request_dollars": told["request_dollars"]}
    return (
        out
        | storage
        | {"dollars_an_hour": round(priced(cluster, costs), 2), "prices": "lib/costs.toml", "prices_date": costs.core_hour.date}
    )


def only_hours(cluster: Cluster, name: str, steps: int, costs: Costs) -> dict:
    """Of a mosaic, whose rates on these machines nobody has measured: the price of an hour, and of the hours after which its steps are ended."""
    an_hour, hours = priced(cluster, costs), steps * cluster.timeout_hours
    return {"recipe": name, "cluster": cluster.name, "dollars_an_hour": round(an_hour, 2), "hours_to": hours,
            "dollars_to": math.ceil(priced(cluster, costs.at("high")) * hours), "prices": "lib/costs.toml",
            "prices_date": costs.core_hour.date}  # fmt: skip


def lines(told: dict) -> list[str]:
    """For people."""
    if "recipe" in told:
        return [
            f"plan of recipe {told['recipe']} on {told['cluster']}: {told['dollars_an_hour']} dollars an hour with all machines",
            f"  how long it takes nobody has measured; its steps are ended after {told['hours_to']} hours together: {told['dollars_to']} dollars at most",
        ]
    out = [f"plan of tier {told['tier']} on {told['cluster']} ({told['dollars_an_hour']} dollars an hour with all machines)"]
    out += [f"  {'rows':12}{told['rows']:>14,}  {told['rows_are']}", f"  {'bricks':12}{told['bricks']:>14,}  {told['bricks_are']}"]
    out += [f"  {'bytes':12}{size(told['bytes']):>14}"]
    for name, unit in (
        ("core_hours", "of these machines"),
        ("minutes", "in all"),
        ("dollars", f"of which requests {told['request_dollars']:g}"),
    ):
        out.append(f"  {name:12}{told[name]:>14,g}  {told[f'{name}_from']:,g} to {told[f'{name}_to']:,g}, {unit}")
    out.append(
        f"  storage {told['storage_dollars_a_month']:,g} dollars a month; rates and prices of {told['prices']}, {told['prices_date']}"
    )
    return [*out, "  most prices were not read at the source: compare them with your account's before you spend"]
