"""Sky cells (HEALPix, nested): the split of a position, and whether another split is near.

A cell is the unit square of its own coordinates p (to the north-east) and q (to the north-west).  On the sky they change no
faster than their gradient, which the projection (Gorski et al. 2005) gives in closed form; so a circle around a position
reaches over a cell's side only if p or q is nearer to it than gradient times radius.
"""

import numpy as np
from astropy import units
from astropy_healpix import HEALPix

from lib import draws
from lib.errors import ConfigError
from lib.schemas import SPLITS
from lib.tiers import Split

STEEPEST = np.sqrt(6.0) / np.pi * np.hypot(1.0, np.pi / 2.0)  # gradient of p and q on a cap's border meridian, at its pole


def _healpix(split: Split) -> HEALPix:
    return HEALPix(split.nside, order="nested")


def split_of(cell, split: Split) -> np.ndarray:
    """Index into ``SPLITS`` of cells: a hash of the cell and of nothing else."""
    edges = np.cumsum([split.fractions[name] for name in SPLITS])[:-1]
    return np.searchsorted(edges, draws.uniform("split", split.seed, cell), side="right")


def at(ra_deg, dec_deg, split: Split):
    """(cell, index into ``SPLITS``) of positions."""
    cell = _healpix(split).lonlat_to_healpix(np.asarray(ra_deg) * units.deg, np.asarray(dec_deg) * units.deg)
    return cell, split_of(cell, split)


def gradients(ra_deg, dec_deg):
    """Length of the gradients of p and q in a cell of nside 1, per radian of sky."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    height = np.abs(np.sin(dec))
    with np.errstate(divide="ignore"):
        belt = 2.0 / np.pi * np.hypot(1.0 / np.cos(dec), 3.0 * np.pi / 8.0 * np.cos(dec))
    half = np.sqrt(0.5 * (1.0 + height))  # cosine of half the distance from the pole
    turn = np.where(dec < 0, -1.0, 1.0) * (np.mod(ra, np.pi / 2.0) - np.pi / 4.0)  # from the middle of the cap's quarter
    caps = (np.sqrt(6.0) / np.pi * np.hypot(1.0 / half, half * (np.pi / 4.0 + side * turn)) for side in (-1.0, 1.0))
    p, q = (np.where(height > 2.0 / 3.0, cap, belt) for cap in caps)
    return p, q


def _reach(ra_deg, dec_deg, radius):
    """The most that p and q change within a radius (radians), in cells of nside 1.

    The gradient here, and what it can grow by on the way: at most 1 a radian, and as much again for each radian of azimuth
    around the pole.  Where the belt meets the caps it jumps, and the steepest there is stands in.
    """
    growth = radius * (1.0 + 1.0 / np.maximum(np.cos(np.radians(dec_deg)) - radius, 1e-9))
    jump = np.abs(np.abs(np.sin(np.radians(dec_deg))) - 2.0 / 3.0) <= radius
    return (radius * np.where(jump, STEEPEST, np.minimum(g + growth, STEEPEST)) for g in gradients(ra_deg, dec_deg))


def near_other_split(ra_deg, dec_deg, split: Split, radius_arcsec: float) -> np.ndarray:
    """Whether a cell of another split lies within a radius: none is missed; at a corner one a little farther counts."""
    radius = np.radians(radius_arcsec / 3600.0)
    if split.nside * radius * STEEPEST > 0.5:
        raise ConfigError(f"split.nside {split.nside}: cells too small for a guard of {radius_arcsec:.1f} arcsec around a stamp")
    sky = _healpix(split)
    ra_deg, dec_deg = np.asarray(ra_deg, float), np.asarray(dec_deg, float)
    cell, p, q = sky.lonlat_to_healpix(ra_deg * units.deg, dec_deg * units.deg, return_offsets=True)
    reach_p, reach_q = (split.nside * r + 1e-9 for r in _reach(ra_deg, dec_deg, radius))
    sw, ne, se, nw = p < reach_p, p > 1.0 - reach_p, q < reach_q, q > 1.0 - reach_q
    border = np.flatnonzero(sw | ne | se | nw)
    touched = np.stack([sw, sw & nw, nw, nw & ne, ne, ne & se, se, se & sw])[:, border]
    with np.errstate(invalid="ignore"):
        around = sky.neighbours(cell[border])  # from the south-west clockwise; -1 where three cells meet in a corner
    other = (around >= 0) & (split_of(around, split) != split_of(cell[border], split))
    near = np.zeros(len(cell), bool)
    near[border] = (touched & other).any(axis=0)
    return near
