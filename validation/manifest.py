"""Gates on the manifest: what a network will be taught."""

import json
import math

import numpy as np
from pyspark.sql import functions as F
from scipy.spatial import cKDTree

from lib import place, runs, sampling, spark, tiers
from lib.errors import InputError
from lib.schemas import SPLITS
from lib.survey import lenses
from validation import balance
from validation.result import Data, gate, judged, not_applicable

ROUNDING = 1e-5  # of a ratio of two float32
MARGIN = 1e-5  # mag: cuts were made before the table rounded to float32
KEY = ("galaxy_id", "config_id", "replicate", "role", "pair_id")


@gate("manifest_counts", "manifest", "rows by split and role are those of the config", unit="rows")
def counts(data: Data, facts) -> object:
    found = {(r["split"], r["role"]): r["n"] for r in _by_split_and_role(data)}
    eligible = sampling.count_eligible(spark.Pieces(data.session, data.dataset, "parent"), data.tier)
    wanted = {(s, r): n for s, roles in sampling.expected_counts(data.tier, eligible).items() for r, n in roles.items() if n}
    wanted |= {(s, sampling.HARD): n for s, n in _hard_negatives(data).items() if n}
    wrong = [f"{s}/{r}: {found.get((s, r), 0)} rows, config asks for {wanted.get((s, r), 0)}"
             for s, r in sorted(found.keys() | wanted.keys()) if found.get((s, r), 0) != wanted.get((s, r), 0)]  # fmt: skip
    total, target = sum(found.values()), sum(wanted.values())
    message = "every split and role has the rows its config asks for" if not wrong else "; ".join(wrong)
    return judged(not wrong, message, measured=total, threshold=target, n=total, examples=tuple(wrong[:5]))


def _hard_negatives(data: Data) -> dict[str, int]:
    """Galaxies by split in the table of hard negatives that the manifest was made with; they come on top of the config."""
    made = [r for r in runs.records(data.dataset) if r["command"] == "manifest"]
    return json.loads(made[-1]["counts"]).get("hard negatives", {}) if made else {}


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


@gate("control_fraction", "manifest", "controls as a fraction of the rows without hard negatives, in each split")
def controls(data: Data, facts) -> object:
    target, limit = data.tier.controls.fraction, data.tier.gates.control_fraction_tolerance
    if target == 0:
        return not_applicable(f"tier {data.tier.name} asks for no controls")
    rows = _by_split_and_role(data)
    worst, where, n, passed = 0.0, "", 0, True
    for split in SPLITS:
        here = {r["role"]: r["n"] for r in rows if r["split"] == split and r["role"] != sampling.HARD}
        total = sum(here.values())
        n += total
        if total and (off := abs(1 - here.get("injected", 0) / total - target)) >= worst:
            worst, where = off, split
        passed &= not total or off <= limit + 0.5 / total  # a whole number of controls can be half a row off
    lost = data.frame("manifest").filter(f"role NOT IN ('injected', '{sampling.HARD}')").join(
        data.frame("manifest").filter("role = 'injected'").select(F.col("task_id").alias("pair_id")), "pair_id", how="left_anti"
    ).count()  # fmt: skip
    lost += data.frame("manifest").filter((F.col("role") == sampling.HARD) & (F.col("pair_id") != F.col("task_id"))).count()
    message = f"fraction off by {worst:.4f} at most (in {where}); {lost} controls have no injection as partner, or, as hard negatives, one that is not their own"
    return judged(passed and lost == 0, message, measured=worst, threshold=limit, n=n)


@gate("grid_values", "manifest", "every value of the named grid is used, about equally often", unit="sigma")
def grid(data: Data, facts) -> object:
    if data.tier.resolved is not None:
        return _strata(data, data.tier.resolved)
    expected = tiers.grids()[data.tier.grid]
    frame = data.frame("manifest").filter("role = 'injected'")
    n, worst, where, missing = frame.count(), 0.0, "", []
    if data.tier.gates.small_tier and 0 < n < len(data.tier.configs()):
        return not_applicable(f"{n} injections cannot hold the {len(data.tier.configs())} configs of grid {data.tier.grid}", n=n)
    for name in ("theta_e_arcsec", "src_dmag", "src_reff_arcsec", "src_e", "shear"):
        wanted = getattr(expected, name)
        found = {round(r[0], 6): r[1] for r in frame.groupBy(name).count().collect()}
        fair = n / len(wanted)
        spread = max((fair * (1 - 1 / len(wanted)) * data.tier.sample.replicates) ** 0.5, 1e-9)  # a config's replicates come together
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


def _strata(data: Data, prior: tiers.Resolved):
    """Quotas of theta_e over the host's PSF, from the values, not from the configs' names."""
    limit = data.tier.gates.grid_sigma
    over = F.col("theta_e_arcsec") / (F.coalesce(*sampling.SIZES) * sampling.unit_fwhm(data.tier))
    begins = {low for low, _, _ in prior.strata}
    ends = [high + (-ROUNDING if high in begins else ROUNDING) for _, high, _ in prior.strata]  # a value on the border is the next one's
    inside = [(over >= low - ROUNDING) & (over < end) for (low, _, _), end in zip(prior.strata, ends, strict=True)]
    counts = data.frame("manifest").filter("role = 'injected'").agg(F.count("*"), *(F.count_if(i) for i in inside)).collect()[0]
    n, found = counts[0], [*counts[1:], counts[0] - sum(counts[1:])]
    names = [*(f"{low:g}-{high:g}" for low, high, _ in prior.strata), "none of the strata"]
    worst, where = 0.0, ""
    for name, count, share in zip(names, found, [*(share for *_, share in prior.strata), 0.0], strict=True):
        off = abs(count - n * share) / max((n * share * (1.0 - share) * data.tier.sample.replicates) ** 0.5, 1.0)
        if off >= worst:
            worst, where = off, f"{count} of {n} have theta_e over the PSF's FWHM in {name}, {n * share:.0f} expected"
    return judged(worst < limit, where, measured=worst, threshold=limit, n=n)


def _needed(spread: float, limit: float) -> int:
    """How many draws of a spread give a mean of which twice the standard error is the limit."""
    return math.ceil((2.0 * spread / limit) ** 2 - 1e-6)


@gate("split_fractions", "manifest", "galaxies fall to the splits in the config's proportions")
def fractions(data: Data, facts) -> object:
    limit, cells = data.tier.gates.split_fraction_tolerance, data.frame("parent").groupBy("sky_cell", "split").count().collect()
    sizes = np.array([r["count"] for r in cells], float)
    total, of = sizes.sum(), {s: sum(r["count"] for r in cells if r["split"] == s) for s in SPLITS}
    off = {s: of[s] / max(total, 1.0) - share for s, share in data.tier.split.fractions.items()}
    worst = max(off, key=lambda s: abs(off[s]))
    # cells fall to the splits, not galaxies: as many draws as there would be cells, were all alike
    error = max((p * (1.0 - p) / max(total**2 / max((sizes**2).sum(), 1.0), 1.0)) ** 0.5 for p in data.tier.split.fractions.values())
    if data.tier.gates.small_tier and 2.0 * error > limit:
        return not_applicable(
            f"the parents lie in {len(cells)} sky cells, each of which goes to one split as a whole: about "
            f"{_needed(max(p * (1.0 - p) for p in data.tier.split.fractions.values()) ** 0.5, limit):,} are needed "
            f"to tell the shares to {100 * limit:g} points",
            n=int(total),
        )
    share = data.tier.split.fractions[worst]
    message = (f"split {worst} has {100 * (share + off[worst]):.2f} % of the parent galaxies and should have {100 * share:g} %: {abs(100 * off[worst]):.2f} points "
               f"off, {100 * limit:g} are allowed; the others are nearer to their shares")  # fmt: skip
    return judged(abs(off[worst]) <= limit, message, measured=abs(off[worst]), threshold=limit, n=int(total))


@gate(
    "split_distance",
    "manifest",
    "galaxies of two splits are a stamp's diagonal apart: no pixel is in two splits",
    unit="arcsec",
    at_least=True,
)
def distance(data: Data, facts) -> object:
    galaxies = data.frame("manifest").groupBy("galaxy_id").agg(*(F.first(c).alias(c) for c in ("ra_deg", "dec_deg", "split"))).toArrow()
    ra, dec = (np.radians(galaxies[c].to_numpy()) for c in ("ra_deg", "dec_deg"))
    places, split = (
        np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1),
        galaxies["split"].to_numpy(zero_copy_only=False),
    )
    limit, nearest = data.tier.stamp.side_pix * 2**0.5 * tiers.PIXEL_ARCSEC, np.inf
    where: tuple[int, ...] = ()
    for k, name in enumerate(SPLITS):
        mine, others = (np.flatnonzero(m) for m in (split == name, np.isin(split, SPLITS[k + 1 :])))
        if len(mine) and len(others):
            chord, other = cKDTree(places[others]).query(places[mine])
            at = int(np.argmin(chord))
            if (arcsec := np.degrees(2.0 * np.arcsin(chord[at] / 2.0)) * 3600.0) < nearest:
                nearest, where = arcsec, tuple(int(galaxies["galaxy_id"][int(j)].as_py()) for j in (mine[at], others[other[at]]))
    if not galaxies.num_rows:
        return judged(False, "there are no galaxies")
    if np.isinf(nearest):
        return not_applicable("only one split has galaxies", n=galaxies.num_rows)
    message = (f'the nearest two galaxies of different splits, {where[0]} and {where[1]}, are {nearest:.1f}" apart: '
               f'stamps of {data.tier.stamp.side_pix} px share no pixel from {limit:.1f}" on')  # fmt: skip
    return judged(
        nearest >= limit, message, measured=nearest, threshold=limit, n=galaxies.num_rows, examples=where if nearest < limit else ()
    )


def _unpaired(tier: tiers.Tier) -> bool:
    return tier.controls.fraction > 0 and tier.controls.paired < 1


@gate("unpaired_match", "manifest", "unpaired controls are like their lenses: matched on the first rung, with equal means", at_least=True)
def matched(data: Data, facts) -> object:
    if not _unpaired(data.tier):
        return not_applicable(f"tier {data.tier.name} asks for no unpaired controls")
    found = data.classes
    if not (n := found.controls.num_rows):
        return judged(False, "there are no unpaired controls")
    share, off = found.first_rung_share, balance.differences(found, data.tier.controls.tolerance)
    worst, limits = max(off, key=lambda v: off[v]), data.tier.gates
    if data.tier.gates.small_tier and 2.0 * (2.0 / n) ** 0.5 > limits.match_difference_max:
        return not_applicable(
            f"{n} unpaired controls are too few: {_needed(2.0**0.5, limits.match_difference_max):,} are needed to tell whether the means of lenses "
            f"and controls differ by {limits.match_difference_max:g} standard deviations",
            n=n,
        )
    first = data.tier.controls.ladder[0]
    message = (f"{100 * share:.2f} % of the unpaired controls are within {'the tolerance' if first == 1.0 else f'{first:g} times the tolerance'} of their lens in "
               f"every variable, at least {100 * limits.match_first_rung_min:g} % are wanted; the means of lenses and controls differ most in {worst}, by "
               f"{off[worst]:.4f} standard deviations, less than {limits.match_difference_max:g} is wanted")  # fmt: skip
    return judged(share >= limits.match_first_rung_min and off[worst] < limits.match_difference_max,
                  message, measured=share, threshold=limits.match_first_rung_min, n=n)  # fmt: skip


@gate("metadata_auc", "manifest", "a classifier that sees no pixels cannot tell lenses from unpaired controls", unit="AUC")
def metadata(data: Data, facts) -> object:
    if not _unpaired(data.tier):
        return not_applicable(f"tier {data.tier.name} asks for no unpaired controls")
    found = data.classes
    if not (n := min(found.controls.num_rows, balance.SAMPLE)):
        return judged(False, "there are no unpaired controls")
    galaxies = min(len(t["galaxy_id"].slice(0, balance.SAMPLE).unique()) for t in (found.lenses, found.controls))
    limit, error = data.tier.gates.metadata_auc_max, (1.0 / (6.0 * galaxies)) ** 0.5
    if data.tier.gates.small_tier and 2.0 * error > limit - 0.5:
        return not_applicable(
            f"{galaxies} different galaxies are too few: {_needed(6.0**-0.5, limit - 0.5):,} galaxies with lenses and as many unpaired controls are needed "
            f"to tell an AUC of {limit:g} from 0.5, which is guessing",
            n=n,
        )
    auc = balance.metadata_auc(found)
    message = (f"a classifier that knows seeing, depth, brightness, shape, dust and place, but no pixels, tells lenses from unpaired controls with an AUC of "
               f"{auc:.4f} +- {error:.4f}: 0.5 is guessing, less than {limit:g} is wanted")  # fmt: skip
    return judged(auc < limit, message, measured=auc, threshold=limit, n=2 * n)


def _limits(tier) -> dict:
    """Rows that break each rule of the selection; a value that is not known breaks none."""
    cuts = tier.selection
    bad = sum(1 << bit for bit in cuts.exclude_maskbits)
    rules = {
        f"{cuts.r_min:g} < r < {cuts.r_max:g}": f"mag_r <= {cuts.r_min - MARGIN} OR mag_r >= {cuts.r_max + MARGIN}",
        f"g - r > {cuts.gr_min:g}": f"mag_g - mag_r <= {cuts.gr_min - MARGIN}",
        f"r - z > {cuts.rz_min:g}": f"mag_r - mag_z <= {cuts.rz_min - MARGIN}",
        f"nobs >= {cuts.nobs_min}": f"least(nobs_g, nobs_r, nobs_z) < {cuts.nobs_min}",
        f"fracmasked_g < {cuts.fracmasked_g_max:g}": f"fracmasked_g >= {cuts.fracmasked_g_max}",
        f"dec < {cuts.dec_max_deg:g}": f"dec_deg >= {cuts.dec_max_deg}",
        "no excluded mask bit": f"(maskbits & {bad}) != 0",
        "type is not PSF": "type = 'PSF'" if cuts.not_psf else "false",
    }
    return {rule: F.count_if(F.expr(broken)) for rule, broken in rules.items()} | {"n": F.count("*")}


@gate("host_limits", "manifest", "every host is within the selection's limits", aggregates=_limits, unit="rows")
def hosts(data: Data, facts) -> object:
    broken = {rule: count for rule, count in facts.items() if rule != "n" and count}
    message = (
        "; ".join(f"{count} rows break {rule}" for rule, count in broken.items()) or f"all are in selection {data.tier.selection.name}"
    )
    return judged(not broken, message, measured=sum(broken.values()), threshold=0, n=facts["n"])


@gate("known_lenses", "manifest", "no host is near a known lens", unit="hosts")
def known(data: Data, facts) -> object:
    made = next(r for r in reversed(runs.records(data.dataset)) if r["command"] == "parent")
    lists, radius = json.loads(made["inputs"]).get("known lenses", []), data.tier.known_lenses.radius_arcsec
    if not lists:
        return not_applicable("the parents were made without a list of known lenses")
    then = json.loads(made["inputs"])
    if changed := [path for path, print_ in place.fingerprint(lists).items() if then.get(path) != print_]:
        raise InputError(f"{changed[0]} is not the list that the parents were made with")
    ra, dec, _ = lenses.read(lists)
    hosts = data.frame("manifest").groupBy("galaxy_id").agg(F.first("ra_deg").alias("ra"), F.first("dec_deg").alias("dec")).toArrow()
    near = lenses.near(hosts["ra"].to_numpy(), hosts["dec"].to_numpy(), (ra, dec), radius)
    examples = tuple(hosts["galaxy_id"].to_numpy()[near][:5].tolist())
    return judged(not near.any(), f'{near.sum()} hosts are within {radius:g}" of one of {len(ra)} known lenses',
                  measured=near.sum(), threshold=0, n=hosts.num_rows, examples=examples)  # fmt: skip


GATES = (counts, unique, splits, fractions, distance, controls, matched, metadata, hosts, known, grid)
