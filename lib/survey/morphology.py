"""Galaxies that look like lenses by what they are: lists of places and kinds, and the parents among them.

The embedded survey's own list is its truth (``truth/``); of a real survey it is any catalogue of morphologies.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.spatial import cKDTree

from lib import place, rows
from lib.errors import InputError
from lib.sampling import sources, tasks
from lib.schemas import NEGATIVES
from lib.survey import lenses
from lib.tiers import Tier

LENS_LIKE = ("ring", "spiral", "edge_on", "merger")
SCORED = "scored"  # the kind of a galaxy that is in no list
MATCH_ARCSEC = 1.0
NEEDED = ["galaxy_id", "split", "split_guard", "ra_deg", "dec_deg", "mag_r_observed", *sources.SIZES]  # columns of PARENT
FOUND = pa.schema([NEGATIVES.field(name) for name in ("galaxy_id", "split", "kind")])


@dataclass(frozen=True)
class Lists:
    """Galaxies of the kinds asked for: places in degrees."""

    ra: np.ndarray
    dec: np.ndarray
    kind: np.ndarray


def files(paths) -> list[str]:
    """The files of some lists and folders of lists."""
    found = []
    for path in map(str, paths):
        folder, name = place.split(path)
        if Path(name.removesuffix(".gz")).suffix.lower() in lenses.FORMATS:
            found.append(folder.url(name))
            continue
        whole = place.at(path)
        inside = [whole.url(f.name) for f in whole.files() if Path(f.name.removesuffix(".gz")).suffix.lower() in lenses.FORMATS]
        if not inside:
            raise InputError(f"{path}: neither a list of galaxies nor a folder of such ({', '.join(lenses.FORMATS)})")
        found += sorted(inside)
    return found


def read(paths: list[str], kinds: tuple[str, ...]) -> Lists:
    """The galaxies of some kinds in all lists; a kind that no list has is an error."""
    parts, known = [], set()
    for path in paths:
        columns, ra, dec = lenses.listed(path)
        if "kind" not in columns:
            raise InputError(f"{path}: no column kind; columns there: {', '.join(columns)}")
        kind = np.array([k.decode() if isinstance(k, bytes) else str(k) for k in columns["kind"]], object)
        known |= set(kind)
        use = np.isin(kind, kinds) & np.isfinite(ra) & (np.abs(dec) <= 90.0)
        parts.append((ra[use] % 360.0, dec[use], kind[use]))
    if lost := [kind for kind in kinds if kind not in known]:
        raise InputError(f"no galaxy of the lists is of kind {', '.join(lost)}; kinds there: {', '.join(sorted(known))}")
    return Lists(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def match(piece: pa.Table, lists: Lists, tier: Tier) -> pa.Table:
    """galaxy_id, split and kind of the usable parents within MATCH_ARCSEC of a listed galaxy, of the nearest one's kind."""
    piece = tasks.usable(piece, tier)
    reach = 2.0 * np.sin(np.radians(MATCH_ARCSEC / 3600.0) / 2.0)
    tree = cKDTree(lenses.vectors(lists.ra, lists.dec))
    distance, nearest = tree.query(lenses.vectors(piece["ra_deg"].to_numpy(), piece["dec_deg"].to_numpy()), distance_upper_bound=reach)
    near = np.flatnonzero(np.isfinite(distance))
    some = piece.take(pa.array(near))
    return rows.table({"galaxy_id": some["galaxy_id"], "split": some["split"], "kind": lists.kind[nearest[near]].tolist()}, FOUND)


def joined(scored: pa.Table, listed: pa.Table) -> pa.Table:
    """NEGATIVES rows: those of scores, told what they are, and after them the listed galaxies that are not among them."""
    kinds = dict(zip(listed["galaxy_id"].to_pylist(), listed["kind"].to_pylist(), strict=True))
    told = [kinds.get(galaxy, SCORED) for galaxy in scored["galaxy_id"].to_pylist()]
    first = scored.set_column(NEGATIVES.names.index("kind"), NEGATIVES.field("kind"), pa.array(told, pa.string()))
    more = listed.filter(pc.invert(pc.is_in(listed["galaxy_id"], scored["galaxy_id"]))).sort_by(
        [("kind", "ascending"), ("galaxy_id", "ascending")]
    )
    rank = np.arange(more.num_rows) + 1 + scored.num_rows
    return pa.concat_tables([first, rows.table({"rank": rank} | {name: more[name] for name in FOUND.names}, NEGATIVES)])
