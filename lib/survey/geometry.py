"""The Legacy Surveys' bricks: rows of 0.25 deg in dec, each cut into an even number of bricks of equal RA.

Row ``r`` is centred on dec -90 + 0.25 r, column 0 starts at RA 0, and brick ids count from 1, row by row from
the south.  A row has just enough bricks that none is wider than 0.25 deg; the two poles are one brick each.
"""

from dataclasses import dataclass

import numpy as np

SIDE_DEG = 0.25
ROWS = 721


def _columns() -> np.ndarray:
    """Number of bricks in each row."""
    dec = -90.0 + SIDE_DEG * np.arange(ROWS)
    widest = np.maximum(np.abs(dec) - SIDE_DEG / 2.0, 0.0)  # the edge nearest to the equator
    columns = np.ceil(360.0 / SIDE_DEG * np.cos(np.deg2rad(widest))).astype(np.int64)
    columns += columns % 2
    columns[[0, -1]] = 1
    return columns


COLUMNS = _columns()
FIRST = 1 + np.concatenate([[0], np.cumsum(COLUMNS)])  # brick id of each row's column 0, and one past the last
BRICKS = int(FIRST[-1]) - 1


@dataclass(frozen=True)
class BrickGeometry:
    """One brick: its centre and the edges of its unique area, degrees."""

    name: str
    brickid: int
    row: int
    col: int
    ra: float
    dec: float
    ra1: float
    ra2: float
    dec1: float
    dec2: float

    @property
    def area_deg2(self) -> float:
        """Of the unique area, on the sphere."""
        sines = np.sin(np.deg2rad(self.dec2)) - np.sin(np.deg2rad(self.dec1))
        return float(np.rad2deg(sines) * (self.ra2 - self.ra1))


def _name(ra: float, dec: float) -> str:
    return f"{int(ra * 10):04d}{'m' if dec < 0 else 'p'}{int(abs(dec) * 10):03d}"


def _brick(row: int, col: int) -> BrickGeometry:
    count = float(COLUMNS[row])
    ra, dec = (col + 0.5) * 360.0 / count, -90.0 + SIDE_DEG * row  # divided last: 49.5 is then 49.5, and named so
    south, north = max(-90.0, dec - SIDE_DEG / 2.0), min(90.0, dec + SIDE_DEG / 2.0)
    ra1, ra2 = col * 360.0 / count, (col + 1) * 360.0 / count
    return BrickGeometry(_name(ra, dec), int(FIRST[row]) + col, row, col, ra, dec, ra1, ra2, south, north)


def _cells(ra, dec):
    """(row, column) of each position; RA may be any angle."""
    ra, dec = np.broadcast_arrays(np.asarray(ra, float), np.asarray(dec, float))
    wrong = ~(np.isfinite(ra) & (np.abs(dec) <= 90.0))
    if wrong.any():
        raise ValueError(f"no position on the sky: ra {ra[wrong][0]}, dec {dec[wrong][0]}")
    row = np.clip(np.floor((dec + 90.0) / SIDE_DEG + 0.5).astype(np.int64), 0, ROWS - 1)
    col = np.floor(np.mod(ra, 360.0) * COLUMNS[row] / 360.0).astype(np.int64)
    return row, np.minimum(col, COLUMNS[row] - 1)  # mod(-1e-20, 360) is 360


def brickids(ra, dec) -> np.ndarray:
    """Id of the brick whose unique area holds each position (degrees, arrays); its west and south edges are its own."""
    row, col = _cells(ra, dec)
    return FIRST[row] + col


def brick_at(ra: float, dec: float) -> BrickGeometry:
    """The brick whose unique area holds a position, degrees.

    >>> brick_at(352.1, 0.2).name
    '3521p002'
    """
    row, col = _cells(ra, dec)
    return _brick(int(row), int(col))


def _places(brickids):
    """(row, column) of each id."""
    ids = np.asarray(brickids, np.int64)
    wrong = (ids < 1) | (ids > BRICKS)
    if wrong.any():
        raise ValueError(f"brickid must be 1..{BRICKS}, got {ids[wrong][0]}")
    row = np.searchsorted(FIRST, ids, side="right") - 1
    return row, ids - FIRST[row]


def by_id(brickid: int) -> BrickGeometry:
    """The brick of an id, 1 to ``BRICKS``."""
    row, col = _places(brickid)
    return _brick(int(row), int(col))


def centres(brickids) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec) of the centres of many bricks, by id, degrees."""
    row, col = _places(brickids)
    return (col + 0.5) * 360.0 / COLUMNS[row], -90.0 + SIDE_DEG * row


def names(brickids) -> np.ndarray:
    """Names of many bricks, by id, as bytes."""
    ra, dec = centres(brickids)
    tenths = zip((ra * 10).astype(int).tolist(), (dec < 0).tolist(), (np.abs(dec) * 10).astype(int).tolist(), strict=True)
    return np.array([f"{a:04d}{'m' if south else 'p'}{d:03d}" for a, south, d in tenths], "S8")


def by_name(name: str) -> BrickGeometry:
    """The brick of a name: RA and |dec| of its centre in tenths of a degree, cut off and not rounded.

    >>> by_name("2447p120").brickid
    400014
    """
    digits = name[:4] + name[5:]
    if len(name) == 8 and name[4] in "mp" and digits.isascii() and digits.isdigit():
        sign = -1.0 if name[4] == "m" else 1.0
        rows = np.round((sign * (int(name[5:]) / 10.0 + np.array([0.0, 0.05])) + 90.0) / SIDE_DEG)
        for row in (int(r) for r in rows if 0 <= r < ROWS):
            guess = int(int(name[:4]) / 3600.0 * COLUMNS[row])
            for col in range(max(0, guess - 1), min(int(COLUMNS[row]), guess + 2)):
                brick = _brick(row, col)
                if brick.name == name:
                    return brick
    raise ValueError(f"no brick is named {name!r}")


def neighbours(brick: BrickGeometry, reach_deg: float = 0.02) -> list[BrickGeometry]:
    """The other bricks with area within ``reach_deg`` of this one's unique area, by id."""
    found: set[tuple[int, int]] = set()
    for row in range(brick.row - 1, brick.row + 2):
        if not 0 <= row < ROWS:
            continue
        count = int(COLUMNS[row])
        margin = reach_deg / max(np.cos(np.deg2rad(min(89.9, abs(brick.dec) + SIDE_DEG))), 1e-3)
        lo = int(np.floor((brick.ra1 - margin) * count / 360.0))
        hi = int(np.ceil((brick.ra2 + margin) * count / 360.0))
        found.update((row, col % count) for col in range(lo, min(hi, lo + count)))
    found.discard((brick.row, brick.col))
    return [_brick(row, col) for row, col in sorted(found)]
