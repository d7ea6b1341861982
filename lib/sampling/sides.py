"""What unpaired controls are matched by: rows on either side, in units of each variable's tolerance, and what came of it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lib.tiers import COLOURS

UNKNOWN = 1e6  # of a value that is not known: near to no known one


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


def rungs(distance, ladder) -> np.ndarray:
    """Number of the first rung of the ladder that holds a distance, from 1; the one after the last holds the rest."""
    return np.searchsorted(np.asarray(ladder, np.float32), distance) + 1
