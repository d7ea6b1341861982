"""Gates on the manifest: the rows that were asked for, their splits, their hosts."""

import json
from collections import Counter

import numpy as np
import pyarrow.compute as pc
from scipy.spatial import cKDTree

from lib import draws, place, runs, sampling, tiers
from lib.errors import InputError
from lib.schemas import SPLITS
from lib.survey import cells, lenses
from validation.data import Data
from validation.result import Note, gate, judged, needed, not_applicable
from validation.tally import Each, Few, distinct, hashed

MARGIN = 1e-5  # mag: cuts were made before the table rounded to float32
KEY = ("galaxy_id", "config_id", "replicate", "role", "pair_id")
PLACE = ("galaxy_id", "ra_deg", "dec_deg", "sky_cell", "split")
TEXTS = ("config_id", "role", "pair_id")


def _by_split_and_role(rows, asked):
    return {"by": Counter(rows.counts("split", "role"))}


def _galaxies(rows, asked):
    return {"galaxies": Each((distinct(rows.take(np.ones(len(rows), bool), PLACE)),))}


COUNTS = Note("by split and role", "manifest", _by_split_and_role)
GALAXIES = Note("galaxies", "manifest", _galaxies)


@gate("manifest_counts", "manifest", "rows by split and role are those of the config", uses=[COUNTS], unit="rows")
def counts(data: Data, facts) -> object:
    found = dict(data.noted(COUNTS)["by"])
    eligible = sampling.count_eligible(data.over("parent"), data.tier)
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


def _experiments(rows, asked):
    return {"by": Counter(rows.counts("tier", "dataset", "experiment_id"))}


@gate("experiments", "manifest", "the rows are of the experiment that the config names, and of no other",
      notes={"manifest": _experiments, "metrics": _experiments}, unit="names")  # fmt: skip
def experiments(data: Data, facts) -> object:
    wanted = (data.tier.name, data.dataset.name, data.tier.experiment_id)
    wrong = [f"{table}: {' / '.join(map(str, found))} ({n} rows)"
             for table, of in facts.items() for found, n in sorted(of["by"].items()) if found != wanted]  # fmt: skip
    wrong += [f"{table}: no row of {wanted[2]}" for table, of in facts.items() if not of["by"].get(wanted)]
    message = "; ".join(wrong) or f"all rows are of tier {wanted[0]}, data set {wanted[1]}, experiment {wanted[2]}"
    return judged(not wrong, message, measured=len(wrong), threshold=0, n=facts["manifest"]["by"].total(), examples=tuple(wrong[:5]))


def _keys(rows, asked):
    numbers = [hashed(rows.column(n)).view(np.int64) if n in TEXTS else rows[n] for n in KEY]
    key = draws.hash64("key", 0, *numbers)
    return {"id": np.stack([rows.ids, rows.ids], axis=1), "key": np.stack([key, rows.ids], axis=1)}


def _doubled(name: str, pairs: np.ndarray) -> dict:
    order = np.argsort(pairs[:, 0], kind="stable")
    key = pairs[order, 0]
    again = np.r_[False, key[1:] == key[:-1]]
    return {"doubled": len(np.unique(key[again])), "which": Few(tuple(pairs[order[again], 1][:5].tolist()))}


def _number(rows, asked):
    return {"n": len(rows)}


@gate("manifest_unique", "manifest", "no task is there twice", notes=_number, keyed=_keys, settle=_doubled, unit="rows")
def unique(data: Data, facts) -> object:
    found = facts.get("doubled", 0)
    examples: tuple = ()
    if found:
        examples = tuple(pc.unique(data.where("manifest", np.array(facts["which"].values, np.uint64), ["task_id"])["task_id"]).to_pylist())
    return judged(found == 0, f"{found} keys (galaxy, config, replicate, role) or ids are there more than once",
                  measured=found, threshold=0, n=facts["n"], examples=examples)  # fmt: skip


@gate("split_by_cell", "manifest", "a sky cell, and a galaxy, is in one split only: the one that the config's hash of the cell says",
      uses=[GALAXIES], unit="cells")  # fmt: skip
def splits(data: Data, facts) -> object:
    rows = data.noted(GALAXIES)["galaxies"].rows
    found, n, examples = 0, 0, list[str]()
    for key in ("sky_cell", "galaxy_id"):
        of = rows.group_by(key).aggregate([("split", "count_distinct")])
        bad = of.filter(pc.greater(of["split_count_distinct"], 1))[key].to_pylist()
        n, found = n + of.num_rows, found + len(bad)
        examples += [f"{key}={v}" for v in bad[:3]]
    cell, part = cells.at(rows["ra_deg"].to_numpy(), rows["dec_deg"].to_numpy(), data.tier.split)
    there = (rows["sky_cell"].to_numpy() == cell) & (rows["split"].to_numpy() == np.array(SPLITS, object)[part])
    examples += [f"galaxy_id={v}" for v in rows["galaxy_id"].to_numpy()[~there][:3].tolist()]
    wrong = int((~there).sum())
    message = f"{found} cells or galaxies have rows in two splits; {wrong} galaxies are not in the cell and split of their place"
    return judged(found + wrong == 0, message, measured=found + wrong, threshold=0, n=n, examples=tuple(examples))


def _cells(rows, asked):
    code = np.select([rows.isin("split", [s]) for s in SPLITS], range(len(SPLITS)), len(SPLITS))
    return {"cell": np.stack([draws.hash64("cell", 0, rows["sky_cell"]), code.astype(np.uint64)], axis=1)}


def _sizes(name: str, pairs: np.ndarray) -> dict:
    size = np.unique(pairs[:, 0], return_counts=True)[1].astype(float)
    return {"cells": len(size), "squares": (size**2).sum(), "galaxies": np.bincount(pairs[:, 1].astype(int), minlength=len(SPLITS) + 1)}


@gate("split_fractions", "parent", "galaxies fall to the splits in the config's proportions", keyed=_cells, settle=_sizes)
def fractions(data: Data, facts) -> object:
    limit, target = data.tier.gates.split_fraction_tolerance, data.tier.split.fractions
    total = float(facts["galaxies"].sum()) if facts else 0.0
    if not total:
        return judged(False, "there are no parents")
    off = {s: facts["galaxies"][k] / total - target[s] for k, s in enumerate(SPLITS)}
    worst = max(off, key=lambda s: abs(off[s]))
    # cells fall to the splits, not galaxies: as many draws as there would be cells, were all alike
    error = max((p * (1.0 - p) / max(total**2 / facts["squares"], 1.0)) ** 0.5 for p in target.values())
    if data.tier.gates.small_tier and 2.0 * error > limit:
        return not_applicable(
            f"the parents lie in {facts['cells']} sky cells, each of which goes to one split as a whole: about "
            f"{needed(max(p * (1.0 - p) for p in target.values()) ** 0.5, limit):,} are needed to tell the shares to {100 * limit:g} points",
            n=int(total),
        )
    message = (f"split {worst} has {100 * (target[worst] + off[worst]):.2f} % of the parent galaxies and should have {100 * target[worst]:g} %: "
               f"{abs(100 * off[worst]):.2f} points off, {100 * limit:g} are allowed; the others are nearer to their shares")  # fmt: skip
    return judged(abs(off[worst]) <= limit, message, measured=abs(off[worst]), threshold=limit, n=int(total))


@gate("split_distance", "manifest", "galaxies of two splits are a stamp's diagonal apart: no pixel is in two splits",
      uses=[GALAXIES], unit="arcsec", at_least=True)  # fmt: skip
def distance(data: Data, facts) -> object:
    galaxies = data.noted(GALAXIES)["galaxies"].rows
    places = lenses.vectors(galaxies["ra_deg"].to_numpy(), galaxies["dec_deg"].to_numpy())
    split = galaxies["split"].to_numpy()
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


def _partners(rows, asked):
    """(id, 0) of injections, (id of the partner, 1) of controls."""
    control = ~rows.injected & ~rows.isin("role", [sampling.HARD])
    pair, one = hashed(rows.column("pair_id")), np.ones(len(rows), np.uint64)
    return {"pair": np.concatenate([np.stack([rows.ids, 0 * one], 1)[rows.injected], np.stack([pair, one], 1)[control]])}


def _lost(name: str, pairs: np.ndarray) -> dict:
    control = pairs[:, 1] == 1
    return {"lost": int((~np.isin(pairs[control, 0], pairs[~control, 0])).sum())}


def _strangers(rows, asked):
    """Hard negatives that belong to another's injection."""
    return {"strangers": int((rows.isin("role", [sampling.HARD]) & (hashed(rows.column("pair_id")) != rows.ids)).sum())}


@gate("control_fraction", "manifest", "controls as a fraction of the rows without hard negatives, in each split",
      notes=_strangers, keyed=_partners, settle=_lost, uses=[COUNTS])  # fmt: skip
def controls(data: Data, facts) -> object:
    target, limit = data.tier.controls.fraction, data.tier.gates.control_fraction_tolerance
    if target == 0:
        return not_applicable(f"tier {data.tier.name} asks for no controls")
    worst, where, n, passed = 0.0, "", 0, True
    for split in SPLITS:
        here = {r: number for (s, r), number in data.noted(COUNTS)["by"].items() if s == split and r != sampling.HARD}
        total = sum(here.values())
        n += total
        if total and (off := abs(1 - here.get("injected", 0) / total - target)) >= worst:
            worst, where = off, split
        passed &= not total or off <= limit + 0.5 / total  # a whole number of controls can be half a row off
    lost = facts.get("lost", 0) + facts["strangers"]
    message = f"fraction off by {worst:.4f} at most (in {where}); {lost} controls have no injection as partner, or, as hard negatives, one that is not their own"
    return judged(passed and lost == 0, message, measured=worst, threshold=limit, n=n)


def _limits(rows, asked):
    """Rows that break each rule of the selection; a value that is not known breaks none."""
    cuts = asked.tier.selection
    g, r, z = (rows[f"mag_{b}"] for b in "grz")
    excluded = sum(1 << bit for bit in cuts.exclude_maskbits)
    nobs = np.fmin(np.fmin(rows["nobs_g"], rows["nobs_r"]), rows["nobs_z"])
    with np.errstate(invalid="ignore"):
        broken = {
            f"{cuts.r_min:g} < r < {cuts.r_max:g}": (r <= cuts.r_min - MARGIN) | (r >= cuts.r_max + MARGIN),
            f"g - r > {cuts.gr_min:g}": g.astype(float) - r <= cuts.gr_min - MARGIN,
            f"r - z > {cuts.rz_min:g}": r.astype(float) - z <= cuts.rz_min - MARGIN,
            f"nobs >= {cuts.nobs_min}": nobs < cuts.nobs_min,
            f"fracmasked_g < {cuts.fracmasked_g_max:g}": rows["fracmasked_g"] >= cuts.fracmasked_g_max + MARGIN,
            f"dec < {cuts.dec_max_deg:g}": rows["dec_deg"] >= cuts.dec_max_deg,
            "no excluded mask bit": (rows["maskbits"].astype(np.int64) & excluded) != 0,
            "type is not PSF": rows.isin("type", ["PSF"]) & cuts.not_psf,
        }
    worst = np.any(list(broken.values()), axis=0)
    return {"n": len(rows), "broken": Counter({rule: int(bad.sum()) for rule, bad in broken.items()}), "examples": rows.few(worst)}


@gate("host_limits", "manifest", "every host is within the selection's limits", notes=_limits, unit="rows")
def hosts(data: Data, facts) -> object:
    broken = {rule: count for rule, count in facts["broken"].items() if count}
    message = (
        "; ".join(f"{count} rows break {rule}" for rule, count in broken.items()) or f"all are in selection {data.tier.selection.name}"
    )
    return judged(not broken, message, measured=sum(broken.values()), threshold=0, n=facts["n"], examples=facts["examples"].values)


@gate("known_lenses", "manifest", "no host is near a known lens", uses=[GALAXIES], unit="hosts")
def known(data: Data, facts) -> object:
    made = next(r for r in reversed(runs.records(data.dataset)) if r["command"] == "parent")
    lists, radius = json.loads(made["inputs"]).get("known lenses", []), data.tier.known_lenses.radius_arcsec
    if not lists:
        return not_applicable("the parents were made without a list of known lenses")
    then = json.loads(made["inputs"])
    if changed := [path for path, print_ in place.fingerprint(lists).items() if then.get(path) != print_]:
        raise InputError(f"{changed[0]} is not the list that the parents were made with")
    ra, dec, _ = lenses.read(lists)
    galaxies = data.noted(GALAXIES)["galaxies"].rows
    near = lenses.near(galaxies["ra_deg"].to_numpy(), galaxies["dec_deg"].to_numpy(), (ra, dec), radius)
    examples = tuple(galaxies["galaxy_id"].to_numpy()[near][:5].tolist())
    return judged(not near.any(), f'{near.sum()} hosts are within {radius:g}" of one of {len(ra)} known lenses',
                  measured=near.sum(), threshold=0, n=galaxies.num_rows, examples=examples)  # fmt: skip


GATES = (counts, experiments, unique, splits, fractions, distance, controls, hosts, known)
