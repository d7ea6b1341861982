"""Another galaxy for every unpaired control: closest pairs first, of each row's nearest at a time, each galaxy once.

The distance of two galaxies is the largest of their differences, each in units of its tolerance.  Galaxies are matched in blocks of a
hash, which may lie on different machines, up to the ladder's first rung; what is left of all blocks is matched together.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from lib import jit
from lib.tiers import COLOURS

UNKNOWN = 1e6  # of a value that is not known: near to no known one
NEAREST = 16  # galaxies that a lens may choose from before it asks again


@dataclass(frozen=True)
class Side:
    """Rows that want a partner, or galaxies that may be one: ids, what else names a row, and variables in tolerances."""

    galaxy: np.ndarray  # (n,) int64
    config: np.ndarray  # (n,) int32; of a galaxy that may be a partner -1
    replicate: np.ndarray  # (n,) int32
    variables: np.ndarray  # (n, variables) float32

    def __len__(self):
        return len(self.galaxy)

    def take(self, rows) -> "Side":
        return Side(self.galaxy[rows], self.config[rows], self.replicate[rows], self.variables[rows])

    def sorted(self) -> "Side":
        """In an order that the place of the rows has no part in."""
        return self.take(np.lexsort((self.replicate, self.config, self.galaxy)))

    @staticmethod
    def joined(sides) -> "Side":
        sides = list(sides)
        return Side(*(np.concatenate([getattr(s, k) for s in sides]) for k in ("galaxy", "config", "replicate", "variables")))


@dataclass(frozen=True)
class Matches:
    """Rows and their partners: an unpaired control each."""

    lens: Side
    partner: np.ndarray  # (n,) int64, galaxy ids
    distance: np.ndarray  # (n,) float32, in tolerances


def variables(hosts: pa.Table, tolerance: dict[str, float]) -> np.ndarray:
    """Matching variables in units of their tolerance (hosts, variables)."""
    columns = []
    for name, width in tolerance.items():
        values = [hosts[part].to_numpy(zero_copy_only=False).astype(float) for part in COLOURS.get(name, (name,))]
        columns.append((values[0] - values[1] if len(values) == 2 else values[0]) / width)
    return np.nan_to_num(np.stack(columns, axis=1), nan=UNKNOWN).astype(np.float32)


@jit.entry()
def _greedy(order, lens, other, partner, free):
    """Give pairs their partners in the given order, as long as both are free; places in the order of those that came about."""
    made = np.empty(min(len(partner), len(order)), np.int64)
    n = 0
    for k in order:
        if partner[lens[k]] < 0 and free[other[k]]:
            partner[lens[k]], free[other[k]] = other[k], False
            made[n] = k
            n += 1
    return made[:n]


def match(lenses: Side, others: Side, limit: float = np.inf) -> tuple[Matches, Side, Side]:
    """(matches no farther than ``limit``, lenses without one, galaxies left over)."""
    lenses, others = lenses.sorted(), others.sorted()
    partner, distance = np.full(len(lenses), -1), np.full(len(lenses), np.inf, np.float32)
    free, waiting = np.ones(len(others), bool), np.arange(len(lenses))
    while len(waiting) and free.any():
        candidates = np.flatnonzero(free)
        near = min(NEAREST, len(candidates))
        tree = cKDTree(others.variables[candidates], balanced_tree=False, compact_nodes=False)
        bound = np.inf if np.isinf(limit) else np.nextafter(limit, np.inf)
        far, index = tree.query(lenses.variables[waiting], k=np.arange(1, near + 1), p=np.inf, distance_upper_bound=bound)
        there = np.isfinite(far)
        lens, other, far = np.repeat(waiting, near).reshape(far.shape)[there], candidates[index[there]], far[there]
        made = _greedy(np.argsort(far, kind="stable"), lens, other, partner, free)
        distance[lens[made]] = far[made]
        waiting = waiting[(partner[waiting] < 0) & there.any(axis=1)]
    found = partner >= 0
    return (
        Matches(lenses.take(found), others.galaxy[partner[found]], distance[found]),
        lenses.take(~found),
        others.take(free),
    )


def rungs(distance, ladder) -> np.ndarray:
    """Number of the first rung of the ladder that holds a distance, from 1; the one after the last holds the rest."""
    return np.searchsorted(np.asarray(ladder, np.float32), distance) + 1
