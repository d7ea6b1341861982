"""Which galaxies are hosts, which injections have controls, and who the unpaired ones are: decided over all pieces of the parent table.

The pieces' number and order, and the machines they are on, have no part in it.
"""

from collections import Counter
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib import draws
from lib.errors import InputError
from lib.sampling import choose, sources, tasks
from lib.sampling.counts import PAIRED, UNPAIRED, expected_counts, lens_hosts
from lib.sampling.sides import Matches, Side, rungs, variables
from lib.schemas import MANIFEST, SPLITS
from lib.tiers import Tier

BLOCK = 50_000  # unpaired controls that are matched together at first
KEYED = ["galaxy_id", "split", "split_guard", "mag_r_observed", *sources.SIZES]
Negatives = dict[str, np.ndarray]  # galaxies by split
TOLD = 5  # galaxies that a message names
BUCKETS = 16  # galaxies are looked through for doubles in as many parts


class Over(Protocol):
    """The pieces of a parent table, wherever they are.  Functions get a table of the named columns, all if there are none."""

    def map(self, function, columns: list[str] | None = None) -> list:
        """``function`` of every piece."""

    def by_key(self, pairs, reduce, columns: list[str] | None = None) -> list:
        """``reduce(key, values)`` of what ``pairs`` yields for every piece, as (key, value)."""

    def each(self, function, items: list) -> list:
        """``function`` of every item."""


class InMemory:
    """Pieces at hand."""

    def __init__(self, pieces):
        self.pieces = list(pieces)

    def map(self, function, columns=None):
        return [function(p.select(columns) if columns else p) for p in self.pieces]

    def by_key(self, pairs, reduce, columns=None):
        found: dict[Any, list] = {}
        for some in self.map(lambda piece: list(pairs(piece)), columns):
            for key, value in some:
                found.setdefault(key, []).append(value)
        return [reduce(key, values) for key, values in sorted(found.items())]

    def each(self, function, items):
        return [function(item) for item in items]


@dataclass(frozen=True)
class Plan:
    """The last keys of what is chosen, by split, the hard negatives, and the unpaired controls, sorted by the galaxy that each is of."""

    eligible: dict[str, int]
    hosts: dict[str, int] = field(default_factory=dict)
    paired: dict[str, int] = field(default_factory=dict)
    negatives: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    partner: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    lens: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    config: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    replicate: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    rung: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))
    distance: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


def plan(over: Over, tier: Tier, eligible: dict[str, int] | None = None, negatives: Negatives | None = None) -> Plan:
    """Decide everything that needs more than one galaxy to be looked at; ``eligible`` are their counts, if they have been counted."""
    eligible = count_eligible(over, tier) if eligible is None else eligible
    hard = require_there(over, negatives, tier) if negatives else np.empty(0, np.int64)
    wanted = expected_counts(tier, eligible)
    for split in SPLITS:
        _enough(split, eligible.get(split, 0), wanted[split], tier)
    hosts = choose.last_keys(
        partial(over.map, columns=KEYED), partial(_host_keys, tier=tier), {s: lens_hosts(tier, s, eligible.get(s, 0)) for s in SPLITS}
    )
    numbers = {f"{role} {s}": wanted[s][role] for s in SPLITS for role in (PAIRED, UNPAIRED)}
    last = {}
    if any(numbers.values()):
        last = choose.last_keys(partial(over.map, columns=KEYED), partial(_control_keys, hosts=hosts, tier=tier), numbers)
    paired, unpaired = ({s: last[f"{role} {s}"] for s in SPLITS if f"{role} {s}" in last} for role in (PAIRED, UNPAIRED))
    if not unpaired:
        return Plan(eligible, hosts, paired, hard)
    blocks = {s: max(1, round(wanted[s][UNPAIRED] / BLOCK)) for s in unpaired}
    found = over.by_key(
        partial(_sides, hosts=hosts, unpaired=unpaired, blocks=blocks, tier=tier), partial(_first_rung, ladder=tier.controls.ladder)
    )
    left = over.each(_rest, [[f[1:] for f in found if f[1] == s] for s in sorted(unpaired)])
    matches = [f[0] for f in found] + left
    lens, partner = Side.joined(m.lens for m in matches), np.concatenate([m.partner for m in matches])
    distance = np.concatenate([m.distance for m in matches])
    order = np.argsort(partner)
    columns = (partner, lens.galaxy, lens.config, lens.replicate, rungs(distance, tier.controls.ladder).astype(np.int32), distance)
    names = [f.name for f in fields(Plan)][4:]
    return Plan(eligible, hosts, paired, hard, **{name: c[order] for name, c in zip(names, columns, strict=True)})


def count_eligible(over: Over, tier: Tier) -> dict[str, int]:
    """Usable galaxies of each split; one that is there twice is an error."""
    counted = over.by_key(partial(_buckets, tier=tier), _count, KEYED)
    if doubled := sum(d for _, d in counted):
        raise InputError(f"{doubled} galaxies are in the parent table more than once")
    return dict(sum((c for c, _ in counted), Counter()))


def bricks(over: Over, chosen: Plan, tier: Tier) -> int:
    """How many bricks a plan's galaxies lie in."""
    return len(set().union(*over.map(partial(_bricks, chosen=chosen, tier=tier), [*KEYED, "brickname"])))


def _bricks(piece: pa.Table, chosen: Plan, tier: Tier) -> set[str]:
    piece = tasks.usable(piece, tier)
    mine = tasks.hosts(piece, chosen, tier) | np.isin(piece["galaxy_id"].to_numpy(), np.r_[chosen.partner, chosen.negatives])
    return set(pc.unique(piece["brickname"].filter(pa.array(mine))).to_pylist())


def require_there(over: Over, negatives: Negatives, tier: Tier) -> np.ndarray:
    """The hard negatives' galaxies; one that is no eligible galaxy of its split any more is an error."""
    found = over.map(partial(_there, negatives=negatives, tier=tier), KEYED)
    lost = {s: np.setdiff1d(wanted, np.concatenate([f[s] for f in found])) for s, wanted in negatives.items()}
    if number := sum(map(len, lost.values())):
        some = [f"{galaxy} ({split})" for split, of in lost.items() for galaxy in of.tolist()][:TOLD]
        raise InputError(
            f"{number} hard negatives are not among the parents of their split (galaxies {', '.join(some)}): "
            "run the job negatives with this data set and tier"
        )
    return np.sort(np.concatenate(list(negatives.values())))


def _there(piece: pa.Table, negatives: Negatives, tier: Tier) -> Negatives:
    mine = {split: galaxies["galaxy_id"].to_numpy() for split, galaxies in _by_split(piece, tier)}
    return {s: np.intersect1d(mine.get(s, np.empty(0, np.int64)), wanted) for s, wanted in negatives.items()}


def _enough(split: str, eligible: int, wanted: dict[str, int], tier: Tier) -> None:
    hosts = lens_hosts(tier, split, eligible)
    if hosts > eligible:
        raise InputError(
            f"split {split} has {eligible} eligible hosts, tier {tier.name} asks for {hosts}: give more bricks or ask for fewer hosts"
        )
    if wanted[UNPAIRED] > eligible - hosts:
        raise InputError(
            f"split {split} has {eligible - hosts} galaxies left for {wanted[UNPAIRED]} unpaired controls: "
            "give more bricks, or ask for fewer hosts or controls"
        )


def _buckets(piece: pa.Table, tier: Tier):
    """(bucket, (split, galaxies)) of a piece: a galaxy that is there twice is in one bucket twice."""
    for split, mine in _by_split(piece, tier):
        galaxy = mine["galaxy_id"].to_numpy()
        bucket = draws.hash64("bucket", 0, galaxy) % np.uint64(BUCKETS)
        for k in np.unique(bucket).tolist():
            yield k, (split, galaxy[bucket == k])


def _count(_bucket, some) -> tuple[Counter, int]:
    """(galaxies of each split, how many are there more than once)."""
    found: Counter = Counter()
    galaxy = np.concatenate([g for _, g in some])
    for split, mine in some:
        found[split] += len(mine)
    return found, len(galaxy) - len(np.unique(galaxy))


def _by_split(piece: pa.Table, tier: Tier):
    """(split, the piece's usable galaxies in it)."""
    piece = tasks.usable(piece, tier)
    for split in pc.unique(piece["split"]).to_pylist():
        yield split, piece.filter(pc.equal(piece["split"], split))


def _host_keys(piece: pa.Table, tier: Tier) -> choose.Keys:
    return {split: tasks.host_keys(mine["galaxy_id"].to_numpy(), tier) for split, mine in _by_split(piece, tier)}


def _control_keys(piece: pa.Table, hosts: dict[str, int], tier: Tier) -> choose.Keys:
    found = {}
    for split, mine in _by_split(piece, tier):
        galaxy = mine["galaxy_id"].to_numpy()
        galaxy = galaxy[choose.chosen(tasks.host_keys(galaxy, tier), hosts.get(split))]
        for role in (PAIRED, UNPAIRED):
            found[f"{role} {split}"] = tasks.control_keys(galaxy, role, tier).ravel()
    return found


def _sides(piece: pa.Table, hosts, unpaired, blocks, tier: Tier):
    """((split, block), (lenses, galaxies that may be partners)) of a piece."""
    for split, mine in _by_split(piece, tier):
        if split not in unpaired:
            continue
        galaxy, values = mine["galaxy_id"].to_numpy(), variables(mine, tier.controls.tolerance)
        host = choose.chosen(tasks.host_keys(galaxy, tier), hosts.get(split))
        lens, at = np.nonzero(choose.chosen(tasks.control_keys(galaxy[host], UNPAIRED, tier), unpaired[split]))
        lens = np.flatnonzero(host)[lens]
        config, replicate = tasks.injections(galaxy[lens], at, tier)
        none = np.full((~host).sum(), -1, np.int32)
        lenses = Side(galaxy[lens], config.astype(np.int32), replicate.astype(np.int32), values[lens])
        others = Side(galaxy[~host], none, none, values[~host])
        here, there = (draws.hash64("match block", tier.seed, s.galaxy) % np.uint64(blocks[split]) for s in (lenses, others))
        for block in range(blocks[split]):
            yield (split, block), (lenses.take(here == np.uint64(block)), others.take(there == np.uint64(block)))


def _first_rung(key, sides, ladder):
    """(matches on the first rung, split, lenses left, galaxies left) of a block."""
    from lib.sampling.match import match  # compiled code: only those who match load it

    lenses, others = (Side.joined(side) for side in zip(*sides, strict=True))
    made, *left = match(lenses, others, ladder[0])
    return made, key[0], *left


def _rest(left) -> Matches:
    """Matches of what a split's blocks have left."""
    from lib.sampling.match import match

    return match(Side.joined(lenses for _, lenses, _ in left), Side.joined(others for _, _, others in left))[0]


def manifest(parents: pa.Table, tier: Tier, dataset: str) -> pa.Table:
    """All tasks of the PARENT rows at hand, in any order."""
    made = list(tasks.made(parents, plan(InMemory([parents]), tier), tier, dataset))
    return pa.concat_tables(made) if made else MANIFEST.empty_table()
