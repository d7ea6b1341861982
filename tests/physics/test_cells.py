"""Splits of the sky: their shares, and that no stamp of one reaches into another."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from lib import tiers
from lib.errors import ConfigError
from lib.schemas import SPLITS
from lib.survey import cells, lenses
from lib.tiers import Split

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
FINE = Split(1024, 13, SHARES)
RADIUS = tiers.load("debug").guard_arcsec
# Where the projection is smooth, where it bends, where three cells meet, where RA wraps, and both poles.
PLACES = {
    "equator": (37.0, 0.3), "RA 0": (0.0, 20.0), "belt meets cap": (77.0, 41.8103), "belt meets southern cap": (200.0, -41.8103),
    "corner of three facets": (90.0, 41.8103), "corner on the equator": (45.0, 0.0), "border of a cap's quarters": (180.0, 75.0),
    "Dec -87": (159.7, -87.0), "near the pole": (10.0, 89.95), "pole": (0.0, 90.0), "southern pole": (123.0, -90.0),
}  # fmt: skip


def patch(ra, dec, count, size_arcsec, seed=0):
    """Positions spread over a disc around a place."""
    rng = np.random.default_rng(seed)
    step = np.radians(size_arcsec / 3600.0) * np.sqrt(rng.uniform(0, 1, count))
    return moved(np.full(count, ra), np.full(count, dec), step, rng.uniform(0, 2 * np.pi, count))


def moved(ra, dec, step, turn):
    """Positions a step (radians) away along great circles that start at an angle from east."""
    ra, dec = np.radians(ra), np.radians(dec)
    here = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    there = here * np.cos(step) + (east * np.cos(turn) + np.cross(here, east, axis=0) * np.sin(turn)) * np.sin(step)
    return np.degrees(np.arctan2(there[1], there[0])) % 360.0, np.degrees(np.arcsin(np.clip(there[2], -1, 1)))


def seen(ra, dec, split, radius_arcsec):
    """Whether any of 48 rays of 8 steps, the last at the radius, meets another split: misses some, invents none."""
    own, found = cells.at(ra, dec, split)[1], np.zeros(len(ra), bool)
    for turn in np.arange(48) * np.pi / 24:
        for part in np.linspace(1 / 8, 1.0, 8):
            found |= cells.at(*moved(ra, dec, np.radians(radius_arcsec / 3600.0) * part, turn), split)[1] != own
    return found


@pytest.mark.parametrize("place", PLACES)
def test_unguarded_galaxies_of_two_splits_are_a_stamps_diagonal_apart(place):
    ra, dec = patch(*PLACES[place], 60_000, 500.0)
    part = cells.at(ra, dec, FINE)[1]
    guard = cells.near_other_split(ra, dec, FINE, RADIUS)
    diagonal = 2.0 * RADIUS
    assert diagonal > 64 * 2**0.5 * 0.262

    def crossing(use):
        tree = cKDTree(lenses.vectors(ra[use], dec[use]))
        pairs = tree.query_pairs(2.0 * np.sin(np.radians(diagonal / 3600.0) / 2.0) * (1 - 1e-9), output_type="ndarray")
        return int((part[use][pairs[:, 0]] != part[use][pairs[:, 1]]).sum())

    assert len(set(part)) > 1 and crossing(np.ones(len(ra), bool)) > 1000, "the patch must hold borders"
    assert crossing(~guard) == 0


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("nside", [512, 2048])
def test_no_other_split_within_the_radius_is_missed_and_few_are_invented(place, nside):
    split = Split(nside, 13, SHARES)
    ra, dec = patch(*PLACES[place], 1500, 400.0 * 1024 / nside, seed=nside)
    guard = cells.near_other_split(ra, dec, split, RADIUS)
    truth = seen(ra, dec, split, RADIUS)
    assert truth.sum() > 15
    assert not (truth & ~guard).any()
    invented = ~seen(ra[guard], dec[guard], split, 1.05 * RADIUS)
    assert invented.sum() < 0.05 * len(ra)


def test_the_gradients_of_the_cells_coordinates_are_those_of_the_pixels():
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    step = np.radians(0.01 / 3600.0)
    sky = cells._healpix(FINE)

    def place(ra, dec):
        cell, p, q = sky.lonlat_to_healpix(*(np.asarray(a) * cells.units.deg for a in (ra, dec)), return_offsets=True)
        return cell, np.array([p, q])

    change = []
    for turn in (0.0, np.pi / 2):
        (a, ahead), (b, behind) = place(*moved(ra, dec, step, turn)), place(*moved(ra, dec, step, turn + np.pi))
        change.append(np.where(a == b, (ahead - behind) / (2 * step) / FINE.nside, np.nan))
    measured = np.hypot(*change)
    good = np.isfinite(measured).all(axis=0)
    good &= (np.abs(np.abs(np.sin(np.radians(dec))) - 2 / 3) > 1e-4) & (np.abs(dec) < 89)
    assert good.mean() > 0.95
    for found, expected in zip(cells.gradients(ra, dec), measured, strict=True):
        assert found[good] == pytest.approx(expected[good], rel=2e-3)
    assert np.max(cells.gradients(ra, dec)) <= cells.STEEPEST


@pytest.mark.parametrize("tier", ["debug"])
def test_the_splits_of_a_survey_have_their_shares_by_galaxies(tier):
    """200,000 galaxies over 18,000 square degrees: within a point as they are, within two once the guard is left out."""
    tier = tiers.load(tier)
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0, 360, 200_000), np.degrees(np.arcsin(rng.uniform(-0.93, 0.53, 200_000)))
    use = (np.abs(np.sin(np.radians(ra - 20.0))) > 0.2) & (dec > -68)
    ra, dec = ra[use], dec[use]
    part = cells.at(ra, dec, tier.split)[1]
    free = ~cells.near_other_split(ra, dec, tier.split, tier.guard_arcsec)
    for galaxies, points in ((np.ones(len(ra), bool), 0.01), (free, 0.02)):
        share = np.bincount(part[galaxies], minlength=3) / galaxies.sum()
        assert dict(zip(SPLITS, share, strict=True)) == pytest.approx(tier.split.fractions, abs=points)
    assert 0.03 < 1 - free.mean() < 0.08


def test_a_galaxys_split_depends_on_its_cell_and_on_the_seed_only():
    ra, dec = patch(150.0, 2.0, 2000, 2000.0)
    cell, part = cells.at(ra, dec, FINE)
    assert len(set(zip(cell.tolist(), part.tolist(), strict=True))) == len(set(cell.tolist())) > 100
    alone = np.array([cells.at(a, d, FINE)[1] for a, d in zip(ra[:50], dec[:50], strict=True)])
    assert (alone == part[:50]).all()
    assert (cells.at(ra, dec, Split(1024, 14, SHARES))[1] != part).any()


def test_ra_wraps_at_360_in_cells_too():
    near = [cells.at([ra], [20.0], FINE) for ra in (0.0, 360.0)]
    assert near[0] == near[1]


def test_cells_smaller_than_a_stamp_are_refused():
    with pytest.raises(ConfigError, match=r"split.nside 8192: cells too small for a guard of 12\.2 arcsec"):
        cells.near_other_split(np.array([1.0]), np.array([2.0]), Split(8192, 13, SHARES), RADIUS)
