"""Another galaxy for every unpaired control: closest pairs first, of each row's nearest at a time, each galaxy once.

The distance of two galaxies is the largest of their differences, each in units of its tolerance.  Galaxies are matched in blocks of a
hash, which may lie on different machines, up to the ladder's first rung; what is left of all blocks is matched together.
"""

import numpy as np
from scipy.spatial import cKDTree

from lib import jit
from lib.sampling.sides import Matches, Side

NEAREST = 16  # galaxies that a lens may choose from before it asks again


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
