"""Gates on the manifest: what a network will be taught."""

from pyspark.sql import functions as F

from lib import sampling
from lib.schemas import SPLITS
from validation.result import Data, gate, judged, not_applicable

KEY = ("galaxy_id", "config_id", "replicate", "role", "pair_id")


@gate("manifest_counts", "manifest", "rows by split and role are those of the config", unit="rows")
def counts(data: Data, facts) -> object:
    found = {(r["split"], r["role"]): r["n"] for r in _by_split_and_role(data)}
    free = data.frame("parent").filter("NOT split_guard").groupBy("split").count().collect()
    eligible = {r["split"]: r["count"] for r in free}
    wanted = {(s, r): n for s, roles in sampling.expected_counts(data.tier, eligible).items() for r, n in roles.items() if n}
    wrong = [f"{s}/{r}: {found.get((s, r), 0)} rows, config asks for {wanted.get((s, r), 0)}"
             for s, r in sorted(found.keys() | wanted.keys()) if found.get((s, r), 0) != wanted.get((s, r), 0)]  # fmt: skip
    total, target = sum(found.values()), sum(wanted.values())
    message = "every split and role has the rows its config asks for" if not wrong else "; ".join(wrong)
    return judged(not wrong, message, measured=total, threshold=target, n=total, examples=tuple(wrong[:5]))


def _by_split_and_role(data: Data):
    return data.frame("manifest").groupBy("split", "role").agg(F.count("*").alias("n")).collect()


@gate("manifest_unique", "manifest", "no task is there twice", unit="rows")
def unique(data: Data, facts) -> object:
    frame = data.frame("manifest")
    n = frame.count()
    doubled = frame.groupBy(*KEY).agg(F.count("*").alias("n"), F.min("task_id").alias("task_id")).filter("n > 1")
    same_id = frame.groupBy("task_id").agg(F.count("*").alias("n")).filter("n > 1").select("task_id")
    bad = doubled.select("task_id").union(same_id)
    found = bad.count()
    examples = tuple(r[0] for r in bad.limit(5).collect())
    return judged(found == 0, f"{found} keys (galaxy, config, replicate, role) or ids are there more than once",
                  measured=found, threshold=0, n=n, examples=examples)  # fmt: skip


@gate("split_by_cell", "manifest", "a sky cell, and a galaxy, is in one split only", unit="cells")
def splits(data: Data, facts) -> object:
    frame = data.frame("manifest")
    found, n = 0, 0
    examples: list = []
    for key in ("sky_cell", "galaxy_id"):
        grouped = frame.groupBy(key).agg(F.countDistinct("split").alias("splits"))
        n += grouped.count()
        bad = grouped.filter("splits > 1")
        found += bad.count()
        examples += [f"{key}={r[0]}" for r in bad.limit(3).collect()]
    return judged(found == 0, f"{found} cells or galaxies have rows in two splits",
                  measured=found, threshold=0, n=n, examples=tuple(examples))  # fmt: skip


@gate("control_fraction", "manifest", "controls as a fraction of the rows, in each split")
def controls(data: Data, facts) -> object:
    target, limit = data.tier.controls.fraction, data.tier.gates.control_fraction_tolerance
    if target == 0:
        return not_applicable(f"tier {data.tier.name} asks for no controls")
    rows = _by_split_and_role(data)
    worst, where, n, passed = 0.0, "", 0, True
    for split in SPLITS:
        here = {r["role"]: r["n"] for r in rows if r["split"] == split}
        total = sum(here.values())
        n += total
        if total and (off := abs(1 - here.get("injected", 0) / total - target)) >= worst:
            worst, where = off, split
        passed &= not total or off <= limit + 0.5 / total  # a whole number of controls can be half a row off
    lost = data.frame("manifest").filter("role != 'injected'").join(
        data.frame("manifest").filter("role = 'injected'").select(F.col("task_id").alias("pair_id")), "pair_id", how="left_anti"
    ).count()  # fmt: skip
    rungs = data.frame("manifest").filter("role = 'unpaired_control'").agg(F.count_if(F.col("match_rung") == 1), F.count("*")).collect()[0]
    message = (f"fraction off by {worst:.4f} at most (in {where}); {lost} controls have no injection as partner; "
               f"{rungs[0]} of {rungs[1]} unpaired ones matched on the first rung")  # fmt: skip
    return judged(passed and lost == 0, message, measured=worst, threshold=limit, n=n)


@gate("grid_values", "manifest", "every value of the named grid is used, about equally often", unit="sigma")
def grid(data: Data, facts) -> object:
    from lib.tiers import grids

    expected = grids()[data.tier.grid]
    frame = data.frame("manifest").filter("role = 'injected'")
    n, worst, where, missing = frame.count(), 0.0, "", []
    if data.tier.gates.small_tier and 0 < n < len(data.tier.configs()):
        return not_applicable(f"{n} injections cannot hold the {len(data.tier.configs())} configs of grid {data.tier.grid}", n=n)
    for name in ("theta_e_arcsec", "src_dmag", "src_reff_arcsec", "src_e", "shear"):
        wanted = getattr(expected, name)
        found = {round(r[0], 6): r[1] for r in frame.groupBy(name).count().collect()}
        fair = n / len(wanted)
        spread = max((fair * (1 - 1 / len(wanted))) ** 0.5, 1e-9)
        for value in wanted:
            count = found.pop(round(value, 6), 0)
            if (off := abs(count - fair) / spread) >= worst:
                worst, where = off, f"{name}={value} has {count} rows, {fair:.0f} expected"
            if not count:
                missing.append(f"{name}={value} is missing")
        missing += [f"{name}={value} is not in the grid" for value in found]
    message = "; ".join(missing[:5]) if missing else f"all values of grid {data.tier.grid} are used; {where}"
    return judged(
        not missing and worst < data.tier.gates.grid_sigma,
        message,
        measured=worst,
        threshold=data.tier.gates.grid_sigma,
        n=n,
        examples=tuple(missing[:5]),
    )


GATES = (counts, unique, splits, controls, grid)
