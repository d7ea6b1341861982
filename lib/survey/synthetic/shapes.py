"""Galaxies of more than one part: what a finder would mistake for a lens.

Each function draws one galaxy as rows of ``PART``: offsets from its centre in arcsec (``pa`` and angles in
degrees east of north), and each part's share of the light in g, r, z, which add up to 1.
"""

import numpy as np

PART = np.dtype([(name, float) for name in ("east", "north", "n", "r_eff", "q", "pa")] + [("share", float, 3)])
RED, OLD, BLUE = (0.55, 0.8, 1.0), (0.8, 0.95, 1.0), (1.5, 1.0, 0.65)  # of g, r, z, before normalisation


def _parts(east, north, n, r_eff, q, pa, weight, colour) -> np.ndarray:
    parts = np.empty(np.size(east), PART)
    for name, value in zip(PART.names or (), (east, north, n, r_eff, q, pa), strict=False):
        parts[name] = value
    parts["share"] = np.reshape(weight, (-1, 1)) * np.asarray(colour)
    return parts


def _whole(*groups) -> np.ndarray:
    parts = np.concatenate(groups)
    parts["share"] /= parts["share"].sum(axis=0)
    return parts


def _on_sky(u, v, q, pa):
    """(east, north) of face-on positions, u along the major axis, seen at the axis ratio q."""
    s, c = np.sin(np.deg2rad(pa)), np.cos(np.deg2rad(pa))
    return u * s - q * v * c, u * c + q * v * s


def ring(rng, r_eff: float, q: float, pa: float) -> np.ndarray:
    """A red nucleus in a clumpy blue ring: a lens, but for the physics."""
    q = max(q, 0.55)
    angle = np.linspace(0.0, 2.0 * np.pi, 30, endpoint=False) + rng.normal(0.0, 0.05, 30)
    radius = r_eff * (1.0 + rng.normal(0.0, 0.03, 30))
    east, north = _on_sky(radius * np.cos(angle), radius * np.sin(angle), q, pa)
    clumps = _parts(east, north, 1.0, 0.13 * r_eff, 0.8, pa, rng.lognormal(0.0, 0.6, 30) / 60.0, BLUE)
    nucleus = _parts([0.0], [0.0], 3.0, 0.25 * r_eff, 0.85, pa, [0.5], RED)
    disc = _parts([0.0], [0.0], 1.0, 0.7 * r_eff, q, pa, [0.15], OLD)
    return _whole(nucleus, disc, clumps)


def spiral(rng, r_eff: float, q: float, pa: float) -> np.ndarray:
    """A bulge, a disc, and two arms of star-forming clumps."""
    turn = np.linspace(0.3, 3.6, 26)
    pitch, hand = rng.uniform(0.25, 0.45), rng.choice([-1.0, 1.0])
    groups = []
    for start in (0.0, np.pi):
        angle = hand * turn + start + rng.normal(0.0, 0.06, turn.size)
        radius = 0.55 * r_eff * np.exp(pitch * turn)
        east, north = _on_sky(radius * np.cos(angle), radius * np.sin(angle), q, pa)
        weight = rng.lognormal(0.0, 0.5, turn.size) * np.exp(-0.35 * turn) / 90.0
        groups.append(_parts(east, north, 1.0, 0.16 * r_eff, 0.8, pa, weight, BLUE))
    bulge = _parts([0.0], [0.0], 2.5, 0.25 * r_eff, max(q, 0.6), pa, [0.2], RED)
    disc = _parts([0.0], [0.0], 1.0, r_eff, q, pa, [0.5], OLD)
    return _whole(bulge, disc, *groups)


def edge_on(rng, r_eff: float, q: float, pa: float) -> np.ndarray:
    """A thin disc through a small bulge."""
    del q
    disc = _parts([0.0], [0.0], 0.9, r_eff, rng.uniform(0.1, 0.16), pa, [0.75], OLD)
    bulge = _parts([0.0], [0.0], 2.5, 0.22 * r_eff, 0.7, pa, [0.25], RED)
    return _whole(disc, bulge)


def merger(rng, r_eff: float, q: float, pa: float) -> np.ndarray:
    """Two nuclei 1-3 arcsec apart, each with a disc, and a tidal tail."""
    apart, toward = rng.uniform(1.0, 3.0), np.deg2rad(rng.uniform(0.0, 360.0))
    east, north = np.array([0.0, apart * np.sin(toward)]), np.array([0.0, apart * np.cos(toward)])
    nuclei = _parts(east, north, 2.5, 0.4 * r_eff, q, [pa, pa + 70.0], [0.3, 0.22], RED)
    discs = _parts(east, north, 1.0, r_eff, max(q, 0.4), [pa, pa + 70.0], [0.22, 0.16], OLD)
    along = np.linspace(0.0, 1.6, 14)
    reach = apart + 1.2 * r_eff * along
    tail = _parts(
        reach * np.sin(toward + along), reach * np.cos(toward + along),
        1.0, 0.25 * r_eff, 0.8, pa, 0.02 * np.exp(-along), BLUE,
    )  # fmt: skip
    return _whole(nuclei, discs, tail)


DRAW = {"ring": ring, "spiral": spiral, "edge_on": edge_on, "merger": merger}
