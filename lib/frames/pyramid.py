"""A mosaic for a browser: PNG tiles of 256 px at every power of two, and one page that pans and zooms them, without a server or a library.

One stretch serves the whole mosaic.  Full resolution is made tile file by tile file, each level above from the four PNGs below: memory does
not grow with the mosaic.
"""

import io
import json
from importlib import resources
from pathlib import Path

import numpy as np
from matplotlib.image import imread, imsave

from lib.frames import read
from lib.mosaic.lattice import Window
from lib.place import Place

SIDE = 256
STRETCH = (-2.0, 200.0)  # of the noise, from the sky
SOFT = 4.0


def written(data: Place, rows: list[dict], folder: Path, title: str) -> Path:
    """The page of a band's polished tiles (rows of COADDS, on one lattice); its path."""
    y0, x0 = min(r["y0"] for r in rows), min(r["x0"] for r in rows)
    y1, x1 = max(r["y0"] + r["ny"] for r in rows), max(r["x0"] + r["nx"] for r in rows)
    noise = float(np.median([r["noise"] for r in rows])) or 1.0
    levels = max(0, int(np.ceil(np.log2(max(y1 - y0, x1 - x0) / SIDE))))
    for row in rows:
        science = read.whole(data, row["path"])[0]
        sky = np.array([np.nanmedian(p) for p in science]) if len(rows) == 1 else np.full(len(science), np.median([r["sky"] for r in rows]))
        picture = _picture(science, sky, noise)
        # rows of the picture run down: the lattice's last row is the first
        top, left = y1 - (row["y0"] + row["ny"]), row["x0"] - x0
        _paste(folder, levels, picture, Window(top, left, top + row["ny"], left + row["nx"]))
    for level in range(levels - 1, -1, -1):
        _above(folder, level)
    facts = {"levels": levels, "side": SIDE, "width": x1 - x0, "height": y1 - y0, "title": title}
    text = (resources.files(__package__) / "viewer.html").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "index.html"
    page.write_text(text.replace("{{facts}}", json.dumps(facts)))
    return page


def _picture(science, sky, noise: float) -> np.ndarray:
    """(ny, nx, 4) uint8, north up; transparent where nothing is."""
    there = np.isfinite(science).all(axis=0)
    planes = []
    for plane, middle in zip(science, sky, strict=True):
        x = np.clip((np.nan_to_num(plane) - middle) / noise, *STRETCH) - STRETCH[0]
        planes.append(np.arcsinh(x / SOFT) / np.arcsinh((STRETCH[1] - STRETCH[0]) / SOFT))
    colour = planes if len(planes) == 3 else [planes[0]] * 3
    return (255 * np.stack([*colour, there.astype(float)], axis=-1)[::-1]).astype(np.uint8)


def _name(folder: Path, level: int, row: int, column: int) -> Path:
    return folder / f"{level}" / f"{row}-{column}.png"


def _read(path: Path) -> np.ndarray:
    return (imread(path) * 255).astype(np.uint8) if path.is_file() else np.zeros((SIDE, SIDE, 4), np.uint8)


def _write(path: Path, picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    imsave(packed, np.ascontiguousarray(picture), format="png")
    path.write_bytes(packed.getvalue())


def _paste(folder: Path, level: int, picture, window: Window) -> None:
    """Lay a picture over the tiles it meets; those of a neighbour are kept."""
    for row in range(window.y0 // SIDE, -(-window.y1 // SIDE)):
        for column in range(window.x0 // SIDE, -(-window.x1 // SIDE)):
            tile = Window(row * SIDE, column * SIDE, (row + 1) * SIDE, (column + 1) * SIDE)
            common = tile & window
            path = _name(folder, level, row, column)
            there = _read(path)
            part = picture[common.slices(window)]
            there[common.slices(tile)] = np.where(part[..., 3:] > 0, part, there[common.slices(tile)])
            _write(path, there)


def _above(folder: Path, level: int) -> None:
    """A level from the one below it, four tiles to one."""
    names = [tuple(map(int, p.stem.split("-"))) for p in (folder / f"{level + 1}").glob("*.png")]
    for row, column in sorted({(r // 2, c // 2) for r, c in names}):
        four = np.vstack([np.hstack([_read(_name(folder, level + 1, 2 * row + j, 2 * column + i)) for i in (0, 1)]) for j in (0, 1)])
        _write(_name(folder, level, row, column), four.reshape(SIDE, 2, SIDE, 2, 4).mean(axis=(1, 3)).astype(np.uint8))
