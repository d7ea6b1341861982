"""What is on the sky: the stars and galaxies of each brick's unique area, before the telescope.

``objects`` gives one row an object, ``parts`` the Sersic profiles that draw the galaxies.  Positions are exact,
fluxes are as observed (behind the dust), ``r_eff`` is circularised, ``pa`` is in degrees east of north.
"""

from dataclasses import dataclass

import numpy as np

from lib.survey.geometry import BrickGeometry, by_name
from lib.survey.synthetic import shapes
from lib.survey.synthetic.spec import EXTINCTION, SurveySpec, ebv, rng

SHAPE = [(name, float) for name in ("ra", "dec", "n", "r_eff", "q", "pa")] + [("flux", float, 3)]
OBJECT = np.dtype([("objid", np.int32), ("kind", "U10"), ("mag_r", float), ("ebv", float), *SHAPE])
ODD_SIZE = {"ring": 3.4, "spiral": 2.8, "edge_on": 1.6, "merger": 1.9}  # arcsec at r = 18.5
PART = np.dtype([("objid", np.int32), *SHAPE])


@dataclass(frozen=True)
class Sky:
    """One brick's objects, brightest first (``objid`` 0, 1, ...), and the parts its galaxies are drawn with."""

    objects: np.ndarray
    parts: np.ndarray


def _magnitudes(random, size, brightest, faintest, slope):
    """Apparent magnitudes with counts that grow as 10**(slope mag)."""
    span = 10.0 ** (slope * (faintest - brightest)) - 1.0
    return brightest + np.log10(1.0 + random.random(size) * span) / slope


def _objects(kind, ra, dec, mag_r, g_r, r_z, n=0.0, r_eff=0.0, q=1.0, pa=0.0) -> np.ndarray:
    objects = np.zeros(len(ra), OBJECT)
    values = {"kind": kind, "ra": ra, "dec": dec, "mag_r": mag_r, "n": n, "r_eff": r_eff, "q": q, "pa": pa}
    for name, value in values.items():
        objects[name] = value
    mags = np.stack([mag_r + g_r, mag_r, mag_r - r_z], axis=-1)
    objects["flux"] = 10.0 ** (-0.4 * (mags - 22.5))
    return objects


def _scattered(random, brick: BrickGeometry, per_deg2: float):
    """(ra, dec) uniform over the unique area."""
    size = random.poisson(per_deg2 * brick.area_deg2)
    ra = random.uniform(brick.ra1, brick.ra2, size)
    lo, hi = np.sin(np.deg2rad([brick.dec1, brick.dec2]))
    return ra, np.rad2deg(np.arcsin(random.uniform(lo, hi, size)))


def _red_size(random, mag_r):
    """Arcsec: 0.6 at r = 21 to 2.5 at r = 17, a tenth of a dex of scatter."""
    return np.clip(0.6 * 10.0 ** (0.155 * (21.0 - mag_r) + random.normal(0.0, 0.1, len(mag_r))), 0.15, 6.0)


def _lrgs(random, brick, spec):
    ra, dec = _scattered(random, brick, spec.lrg_per_deg2)
    size = len(ra)
    mag = _magnitudes(random, size, 17.0, 20.9, 0.45)
    g_r = np.clip(1.25 + 0.12 * (mag - 19.0) + random.normal(0.0, 0.12, size), 0.95, 1.85)
    r_z = np.clip(0.65 + 0.06 * (mag - 19.0) + random.normal(0.0, 0.08, size), 0.45, 1.05)
    n = np.clip(random.normal(4.0, 0.6, size), 2.5, 5.5)
    q, pa = np.clip(random.beta(5.0, 2.0, size), 0.35, 1.0), random.uniform(0.0, 180.0, size)
    return _objects("lrg", ra, dec, mag, g_r, r_z, n, _red_size(random, mag), q, pa)


def _satellites(random, brick, spec, hosts):
    """Red neighbours 5-20 arcsec from some of the hosts; those over the brick's edge are left out."""
    counts = random.poisson(4.0, len(hosts)) * (random.random(len(hosts)) < spec.group_fraction)
    host = np.repeat(np.arange(len(hosts)), counts)
    size = len(host)
    radius, angle = random.uniform(5.0, 20.0, size) / 3600.0, random.uniform(0.0, 2.0 * np.pi, size)
    dec = hosts["dec"][host] + radius * np.cos(angle)
    ra = hosts["ra"][host] + radius * np.sin(angle) / np.cos(np.deg2rad(dec))
    mag = hosts["mag_r"][host] + 0.5 + random.exponential(1.8, size)
    colours = -2.5 * np.diff(-np.log10(hosts["flux"][host]), axis=1)
    g_r, r_z = (colours + random.normal(0.0, 0.06, (size, 2)) - 0.02 * (mag - hosts["mag_r"][host])[:, None]).T
    q, pa = random.uniform(0.4, 1.0, size), random.uniform(0.0, 180.0, size)
    n = random.uniform(1.5, 4.5, size)
    found = _objects("satellite", ra, dec, mag, g_r, r_z, n, 0.85 * _red_size(random, mag), q, pa)
    inside = (ra >= brick.ra1) & (ra < brick.ra2) & (dec >= brick.dec1) & (dec < brick.dec2)
    return found[inside & (mag < 24.0)]


def _field(random, brick, spec):
    ra, dec = _scattered(random, brick, spec.field_per_deg2)
    size = len(ra)
    mag = _magnitudes(random, size, 16.5, 24.0, 0.36)
    g_r = np.clip(0.38 - 0.03 * (mag - 21.0) + random.normal(0.0, 0.18, size), -0.2, 1.5)
    r_z = np.clip(0.22 + 0.5 * (g_r - 0.4) + random.normal(0.0, 0.16, size), -0.3, 1.3)
    r_eff = np.clip(0.45 * 10.0 ** (0.12 * (23.0 - mag) + random.normal(0.0, 0.17, size)), 0.12, 5.0)
    n, q = np.clip(random.normal(1.1, 0.25, size), 0.6, 2.0), random.uniform(0.25, 1.0, size)
    return _objects("field", ra, dec, mag, g_r, r_z, n, r_eff, q, random.uniform(0.0, 180.0, size))


def _stars(random, brick, spec):
    ra, dec = _scattered(random, brick, spec.star_per_deg2)
    size = len(ra)
    mag = _magnitudes(random, size, 11.5, 23.0, 0.15)
    dwarf = random.random(size) < np.clip(0.1 + 0.08 * (mag - 14.0), 0.1, 0.7)  # M dwarfs: the faint and red
    g_r = np.where(dwarf, random.normal(1.38, 0.08, size), random.uniform(0.25, 1.1, size))
    r_z = np.where(dwarf, random.uniform(0.8, 1.9, size), 0.55 * g_r - 0.05) + random.normal(0.0, 0.03, size)
    return _objects("star", ra, dec, mag, g_r, r_z)


def _odd(random, brick, per_deg2, kind):
    ra, dec = _scattered(random, brick, per_deg2)
    size = len(ra)
    mag = _magnitudes(random, size, 16.8, 20.2, 0.4)
    g_r, r_z = random.normal(0.7, 0.12, size), random.normal(0.4, 0.1, size)
    r_eff = ODD_SIZE[kind] * np.clip(10.0 ** (0.10 * (18.5 - mag) + random.normal(0.0, 0.08, size)), 0.6, 1.7)
    q = 0.13 if kind == "edge_on" else random.uniform(0.45, 1.0, size)
    return _objects(kind, ra, dec, mag, g_r, r_z, 1.0, r_eff, q, random.uniform(0.0, 180.0, size))


def _parts(random, objects) -> np.ndarray:
    """The profiles of all galaxies; those of one part are their own."""
    plain = objects[(objects["kind"] != "star") & ~np.isin(objects["kind"], list(shapes.DRAW))]
    found = [np.zeros(len(plain), PART)]
    for name in PART.names or ():
        found[0][name] = plain[name]
    for row in objects[np.isin(objects["kind"], list(shapes.DRAW))]:
        drawn = shapes.DRAW[row["kind"]](random, row["r_eff"], row["q"], row["pa"])
        parts = np.zeros(len(drawn), PART)
        parts["objid"] = row["objid"]
        parts["dec"] = row["dec"] + drawn["north"] / 3600.0
        parts["ra"] = row["ra"] + drawn["east"] / 3600.0 / np.cos(np.deg2rad(row["dec"]))
        for name in ("n", "r_eff", "q", "pa"):
            parts[name] = drawn[name]
        parts["flux"] = drawn["share"] * row["flux"]
        found.append(parts)
    return np.concatenate(found)


def of_brick(spec: SurveySpec, name: str) -> Sky:
    """The sky of one brick, the same whichever brick's image it is drawn into."""
    brick = by_name(name)
    lrgs = _lrgs(rng(spec, name, "lrg"), brick, spec)
    groups = [
        lrgs,
        _satellites(rng(spec, name, "satellite"), brick, spec, lrgs),
        _field(rng(spec, name, "field"), brick, spec),
        _stars(rng(spec, name, "star"), brick, spec),
        *(_odd(rng(spec, name, kind), brick, getattr(spec, f"{kind}_per_deg2"), kind) for kind in shapes.DRAW),
    ]
    objects = np.concatenate(groups)
    objects = objects[np.argsort(objects["mag_r"], kind="stable")]
    objects["objid"] = np.arange(len(objects))
    objects["ebv"] = ebv(spec, objects["ra"], objects["dec"])
    objects["flux"] *= 10.0 ** (-0.4 * EXTINCTION * objects["ebv"][:, None])
    return Sky(objects, _parts(rng(spec, name, "parts"), objects))
