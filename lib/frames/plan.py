"""Which tiles there are, and which images each may be made from: rows of TILES, from the frames' rows and a recipe alone."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lib.errors import OK, InputError
from lib.frames import recipe as recipes
from lib.frames import scan
from lib.frames.recipe import Recipe
from lib.mosaic import lattice
from lib.mosaic.lattice import Lattice, Window

GRID = 256  # cells a side of the map on which batches are counted


@dataclass(frozen=True)
class Item:
    """An image of a level: a frame, or a tile of the level before."""

    name: str
    wcs: WCS
    shape: tuple[int, int]


def judged(rows: list[dict], recipe: Recipe) -> list[dict]:
    """The frames' rows; those whose unit is not the recipe's, or that of most frames of their band, have status wrong_unit."""
    found: list[dict] = []
    counts: dict[str, Counter] = {}
    for row in rows:
        if row["status"] == OK:
            counts.setdefault(row["band"], Counter())[row["unit"]] += 1
    units = {band: sorted(of.items(), key=lambda item: (-item[1], item[0]))[0][0] for band, of in counts.items()}
    for row in rows:
        if row["status"] == OK:
            wanted = recipe.unit or units[row["band"]]
            if row["unit"] != wanted:
                row = row | {
                    "status": "wrong_unit",
                    "error": f"{row['path']}: unit {row['unit'] or 'none'!r}, the others have {wanted or 'none'!r}",
                }
        found.append(row)
    return found


def tiles(frames: list[dict], recipe: Recipe) -> list[dict]:
    """Rows of TILES of all bands and levels, in the order in which they are made."""
    good = [f for f in frames if f["status"] == OK]
    if not good:
        why = sorted({f"{f['status']}: {f['error']}" for f in frames})
        raise InputError(f"none of {len(frames)} frames can be used; {'; '.join(why[:4])}")
    found = []
    for band in sorted({f["band"] for f in good}):
        mine = sorted((f for f in good if f["band"] == band), key=lambda f: f["frame_id"])
        found += _band(band, mine, recipe)
    return sorted(found, key=lambda t: (t["level"], t["tile_id"]))


def canvas(frames: list[dict], recipe: Recipe) -> Lattice:
    """The lattice of a band's mosaic."""
    images = [(scan.wcs_of(f["wcs"]), (f["ny"], f["nx"])) for f in frames]
    try:
        return lattice.around(images, recipe.lattice.pixel_arcsec or None)
    except ValueError as error:
        raise InputError(f"the frames cannot share one lattice: {error}") from error


def _band(band: str, frames: list[dict], recipe: Recipe) -> list[dict]:
    planes = {f["planes"] for f in frames}
    if len(planes) > 1:
        some = ", ".join(f"{n} in {next(f['path'] for f in frames if f['planes'] == n)}" for n in sorted(planes))
        raise InputError(f"frames of band {band or 'none'!r} have different numbers of planes: {some}")
    whole = canvas(frames, recipe)
    items = [Item(f["frame_id"], scan.wcs_of(f["wcs"]), (f["ny"], f["nx"])) for f in frames]
    found: list[dict] = []
    for number, level in enumerate(recipe.level):
        made = [
            _row(band, number, level.name, k, planes.copy().pop(), grid, window, names)
            for k, (grid, window, names) in enumerate(GROUPED[level.group](whole, items, recipe.lattice))
            if names
        ]
        items = [Item(t["tile_id"], lattice_of(t).cut(window_of(t)), (t["ny"], t["nx"])) for t in made]
        found += made
    return found


def _row(band, number, name, k, planes, grid: Lattice, window: Window, names) -> dict:
    ny, nx = window.shape
    return {
        "tile_id": f"{band or 'all'}-{number}-{k:05d}", "level": number, "level_name": name, "band": band, "planes": planes, "y0": window.y0,
        "x0": window.x0, "ny": ny, "nx": nx, "lattice": scan.cards_of(grid.wcs), "lattice_ny": grid.shape[0], "lattice_nx": grid.shape[1],
        "inputs": names,
    }  # fmt: skip


def lattice_of(tile: dict) -> Lattice:
    return Lattice(scan.wcs_of(tile["lattice"]), (tile["lattice_ny"], tile["lattice_nx"]))


def window_of(tile: dict) -> Window:
    return Window(tile["y0"], tile["x0"], tile["y0"] + tile["ny"], tile["x0"] + tile["nx"])


def _footprints(whole: Lattice, items: list[Item]) -> list[Window]:
    return [lattice.footprint(whole, item.wcs, item.shape) for item in items]


def _meeting(windows: list[Window], items: list[Item], footprints: list[Window]) -> list[list[str]]:
    return [[item.name for item, print_ in zip(items, footprints, strict=True) if not (print_ & w).empty] for w in windows]


def _canvas(whole: Lattice, items: list[Item], settings: recipes.Lattice):
    windows = whole.windows(settings.tile_pix)
    for window, names in zip(windows, _meeting(windows, items, _footprints(whole, items)), strict=True):
        yield whole, window, names


def _cell(whole: Lattice, items: list[Item], settings: recipes.Lattice):
    """Squares that overlap; the last of a row or column ends with the lattice, so that none is a sliver."""
    side, step = settings.cell_pix, max(1, int(settings.cell_pix * (1.0 - settings.cell_overlap)))
    corners = [sorted({min(at, max(n - side, 0)) for at in range(0, max(n - side, 0) + step, step)}) for n in whole.shape]
    windows = [Window(y, x, y + side, x + side) & whole.window for y in corners[0] for x in corners[1]]
    for window, names in zip(windows, _meeting(windows, items, _footprints(whole, items)), strict=True):
        yield whole, window, names


def _field(whole: Lattice, items: list[Item], settings: recipes.Lattice):
    """Frames whose centres are within ``field_deg`` of another of their field, on a lattice around them."""
    middles = np.array([np.ravel(lattice.sky_of(i.wcs, (i.shape[1] - 1) / 2, (i.shape[0] - 1) / 2)) for i in items])
    vectors = lattice._vectors(*middles.T).T
    near = cKDTree(vectors).query_pairs(2.0 * np.sin(np.radians(settings.field_deg) / 2.0), output_type="ndarray")
    links = sparse.coo_matrix((np.ones(len(near)), (near[:, 0], near[:, 1])), (len(items), len(items)))
    _, label = connected_components(links, directed=False)
    for group in range(label.max() + 1):
        mine = [item for item, g in zip(items, label, strict=True) if g == group]
        own = lattice.around([(i.wcs, i.shape) for i in mine], whole.pixel_arcsec)
        yield own, own.window, [i.name for i in mine]


def _batch(whole: Lattice, items: list[Item], settings: recipes.Lattice):
    """Frames in the order of their names; a batch is full at so many, or earlier if it covers what all of them cover."""
    prints = _footprints(whole, items)
    step = [max(1, -(-n // GRID)) for n in whole.shape]

    def covers(numbers) -> np.ndarray:
        seen = np.zeros([-(-n // s) for n, s in zip(whole.shape, step, strict=True)], bool)
        for k in numbers:
            w = prints[k]
            seen[w.y0 // step[0] : -(-w.y1 // step[0]), w.x0 // step[1] : -(-w.x1 // step[1])] = True
        return seen

    everything = max(1, int(covers(range(len(items))).sum()))
    batches: list[list[int]] = [[]]
    for k in range(len(items)):
        batches[-1].append(k)
        size = len(batches[-1])
        if size >= settings.batch_most or (
            size >= settings.batch_least and covers(batches[-1]).sum() >= settings.batch_covered * everything
        ):
            batches.append([])
    if len(batches) > 1 and len(batches[-1]) < settings.batch_least:
        short = batches.pop()
        batches[-1] += short
    for batch in batches:
        y0, x0 = min(prints[k].y0 for k in batch), min(prints[k].x0 for k in batch)
        y1, x1 = max(prints[k].y1 for k in batch), max(prints[k].x1 for k in batch)
        yield whole, Window(y0, x0, y1, x1), [items[k].name for k in batch]


GROUPED = {recipes.CANVAS: _canvas, recipes.CELL: _cell, recipes.FIELD: _field, recipes.BATCH: _batch}
