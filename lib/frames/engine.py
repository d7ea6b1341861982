"""The steps of a level, each a function of one chunk: measure an image, compare two, coadd a tile.  What they need comes in, rows go out."""

import hashlib
import io
import json
import time
from dataclasses import asdict, dataclass

import numpy as np

from lib.errors import OK, RowError
from lib.frames import plan, products, read, scan
from lib.frames.recipe import Level
from lib.mosaic import backend, coadd, coverage, image, mapping, overlaps, polish, resample, solve, stack
from lib.mosaic.image import Image
from lib.mosaic.lattice import Lattice, Window
from lib.place import Place

MANY_BINS = 400  # in the smallest image of a level
LEAST_QUALITY = 0.2  # of a tile's typical weight: shallower parts are not compared


@dataclass(frozen=True)
class Where:
    """The folder of frames, and the data set's folder with this run's pixels."""

    frames: Place
    data: Place
    pixels: str

    def sidecar(self, level: int, name: str, ending: str) -> str:
        return f"{self.pixels}/bins/{level}-{hashlib.blake2b(name.encode(), digest_size=10).hexdigest()}.{ending}"


@dataclass(frozen=True)
class Input:
    """An image of a level, as its row says, and the correction of its pixels."""

    name: str
    row: dict
    is_tile: bool
    gain: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    sigma: tuple[float, ...] = ()
    slope: tuple[tuple[float, float], ...] = ()
    middle: tuple[float, float] = (0.0, 0.0)

    @property
    def shape(self) -> tuple[int, int]:
        return self.row["ny"], self.row["nx"]

    @property
    def wcs(self):
        return plan.lattice_of(self.row).cut(plan.window_of(self.row)) if self.is_tile else scan.wcs_of(self.row["wcs"])

    def load(self, where: Where, window: Window | None = None) -> Image:
        if self.is_tile:
            return read.tile(where.data, self.row, self.wcs, window)
        return read.frame(where.frames, self.row, window)


def bin_side(images: list[Input]) -> int:
    """Px a side of the bins of a level: 8, less where its smallest image would have too few of them."""
    least = min(one.shape[0] * one.shape[1] for one in images)
    return next((side for side in (8, 4, 2) if least / side**2 >= MANY_BINS), 1)


def measure(one: Input, level: int, grid: Lattice, where: Where, side: int = overlaps.BIN_PIX) -> dict[str, float]:
    """Put an image's bins beside the pixels, with what is known of its noise and level; counts of what could not be read."""
    told: dict = {"name": one.name, "window": [0, 0, 0, 0], "share": 0.0, "sigma": [], "sky": [], "error": None}
    try:
        pixels = one.load(where)
        found = mapping.of(grid, one.wcs, one.shape)
        share = float(np.isfinite(pixels.pixels[0]).mean())
        if found is not None and share > 0.0:
            sigma, sky = image.noise(pixels.pixels), image.level(pixels.pixels)
            bins = overlaps.bins(pixels, found, sigma, sky, side, share=share, least=LEAST_QUALITY if pixels.quality is not None else 0.0)
            told |= {"window": list(asdict(bins.window).values()), "share": share, "sigma": sigma.tolist(), "sky": [float(v) for v in sky]}
            told["healthy"] = overlaps.healthy([bins]).tolist()[0]
            told["middle"] = [(found.window.y0 + found.window.y1) / 2, (found.window.x0 + found.window.x1) / 2]
            told["level"] = float(np.nanmedian(bins.mean[0])) if np.isfinite(bins.mean[0]).any() else None
            packed = io.BytesIO()
            np.savez(packed, at=bins.at, mean=bins.mean, sigma=bins.sigma, sky=bins.sky, share=share)
            where.data.put(where.sidecar(level, one.name, "npz"), packed.getvalue())
    except RowError as error:
        told["error"] = f"{error.code}: {error}"
    where.data.put(where.sidecar(level, one.name, "json"), json.dumps(told).encode())
    return {"unreadable": float(told["error"] is not None)}


def told(where: Where, level: int, name: str) -> dict:
    """What ``measure`` put on record of an image."""
    return json.loads(where.data.read(where.sidecar(level, name, "json")))


def _bins(where: Where, level: int, name: str) -> overlaps.Bins:
    with np.load(io.BytesIO(where.data.read(where.sidecar(level, name, "npz")))) as kept:
        return overlaps.Bins((int(kept["at"][0]), int(kept["at"][1])), kept["mean"], kept["sigma"], kept["sky"], float(kept["share"]))


def compare(pairs: list[tuple[str, str]], level: int, where: Where, side: int = overlaps.BIN_PIX) -> list[dict]:
    """Rows of OVERLAPS of pairs of images, sorted by their first."""
    found: list[dict] = []
    held: dict[str, overlaps.Bins] = {}
    for one, other in pairs:
        held = {name: held[name] for name in (one,) if name in held}
        for name in (one, other):
            if name not in held:
                held[name] = _bins(where, level, name)
        for pair in overlaps.pairs(held[one], held[other], side=side):
            row = asdict(pair)
            row = {k: row[k] for k in row if k not in ("i", "j", "band")}
            lists = {k: list(row[k]) for k in ("middle", "tilt_x", "tilt_y", "normal")}
            found.append(row | lists | {"level": level, "one": one, "other": other, "plane": pair.band})
    return found


def meeting(known: list[dict]) -> list[tuple[str, str]]:
    """Pairs of healthy images whose bins' windows overlap, by a sweep along y: no image is compared with all others."""
    order = sorted((k for k in known if k["healthy"]), key=lambda k: (k["window"][0], k["name"]))
    active: list[dict] = []
    found = []
    for one in order:
        window = Window(*one["window"])
        active = [a for a in active if a["window"][2] > window.y0]
        for a in active:
            common = window & Window(*a["window"])
            if not common.empty and common.shape[0] * common.shape[1] >= overlaps.LEAST_BINS:
                found.append(tuple(sorted((a["name"], one["name"]))))
        active.append(one)
    return sorted(found)


def absurd(known: list[dict]) -> set[str]:
    """Images whose level is no sky beside the others': by the rule of ``overlaps.healthy``."""
    seen = [k for k in known if k["healthy"] and k["level"] is not None]
    stand_ins = [
        overlaps.Bins((0, 0), _array([[[k["level"], k["level"] + 1]]]), _array(k["sigma"][:1]), _array(k["sky"][:1])) for k in seen
    ]
    return {k["name"] for k, ok in zip(seen, overlaps.healthy(stand_ins), strict=True) if not ok}


def _array(values) -> np.ndarray:
    return np.array(values, np.float32)


def solved(known: list[dict], rows: list[dict], level: Level, planes: int) -> solve.Table:
    """The corrections of a level's images, in the order of ``known``."""
    number = {k["name"]: i for i, k in enumerate(known)}
    pairs = [
        overlaps.Pair(
            number[r["one"]], number[r["other"]], r["plane"], r["n"], r["slope"], r["intercept"], r["information"], r["x"], r["y"], r["residual"],
            r["sigma_x"], r["sigma_y"], tuple(r["middle"]), tuple(r["tilt_x"]), tuple(r["tilt_y"]), tuple(r["normal"]),
        )
        for r in sorted(rows, key=lambda r: (r["one"], r["other"], r["plane"]))
    ]  # fmt: skip
    middles = np.array([k.get("middle", [0.0, 0.0]) for k in known])
    healthy = [bool(k["healthy"]) for k in known]
    return solve.table(pairs, middles, planes, healthy=healthy, anchored=level.anchored, tilts=level.tilts, gains=level.gains)


def made(tile: dict, inputs: list[Input], level: Level, sky, where: Where, run: str, gpu: int | None = None) -> dict:
    """A tile's row of COADDS; its pixels are in the data set when it is there. ``gpu`` is the device to try."""
    began = time.process_time()
    grid, window = plan.lattice_of(tile), plan.window_of(tile)
    sources, depth, resampled = [], [], 0
    for one in inputs:
        found = mapping.of(grid, one.wcs, one.shape)
        if found is None or (found.window & window).empty:
            continue
        resampled += found.shift is None
        slope = np.array(one.slope) if any(v for pair in one.slope for v in pair) else None
        sources.append(coadd.Source(
            one.name, found, one.shape, _loader(one, where), _array(one.gain), _array(one.offset),
            _array(one.sigma) * _array(one.gain), slope, one.middle,
        ))  # fmt: skip
        depth.append(one)
    base = {k: tile[k] for k in ("tile_id", "level", "level_name", "band", "y0", "x0", "ny", "nx")}
    unit = inputs[0].row["unit"] if inputs else ""
    base |= {"inputs": len(sources), "resampled": resampled, "unit": unit, "backend": "numba", "rejected": 0.0, "covered": 0.0}
    if not sources:
        return base | {"status": "no_coverage", "error": "no image meets the tile", "seconds": time.process_time() - began}
    try:
        block, base["backend"] = backend.coadd(grid, window, sources, np.asarray(sky, np.float32), level.settings, gpu)
    except RowError as error:  # an image that was read before has been damaged meanwhile
        return base | {"status": error.code, "error": str(error), "seconds": time.process_time() - began}
    if level.equalise_rgb and tile["planes"] == 3:
        gains, _ = polish.rgb_gains(block.science)
        block.science[...] *= gains[:, None, None]
    counts = block.coverage.max(axis=0)
    if inputs[0].is_tile:
        counts = _frames(grid, window, sources, depth, where)
    there = np.isfinite(block.science[0])
    if not there.any():
        return base | {"status": "no_coverage", "error": "its images have no good pixel there", "seconds": time.process_time() - began}
    counts = np.where(there, np.maximum(counts, 1), 0).astype(np.int32)
    facts = products.written(where.data, f"{where.pixels}/{tile['tile_id']}", block, counts, grid.cut(window), unit, run)
    samples = int(block.coverage.sum())
    return base | facts | {
        "status": OK, "error": None, "covered": float(there.mean()), "coverage_median": float(np.median(counts[there])),
        "coverage_max": int(counts.max()), "rejected": float(block.rejected.sum()) / max(samples, 1),
        "sky": float(np.median(block.science[0][there])), "noise": float(image.noise(block.science[:1])[0]),
        "seconds": time.process_time() - began,
    }  # fmt: skip


def _loader(one: Input, where: Where):
    return lambda window: one.load(where, window)


def _frames(grid, window: Window, sources, inputs: list[Input], where: Where) -> np.ndarray:
    """(h, w) how many frames are in each pixel: the sum of the tiles' own counts."""
    total = np.zeros(window.shape, np.float32)
    for source, one in zip(sources, inputs, strict=True):
        meet = source.mapping.window & window
        near = resample.needed(source.mapping, meet, source.full)
        counts = read.counts(where.data, one.row, near)
        layer = image.of(counts.astype(np.float32), one.wcs, full=one.shape, origin=(near.y0, near.x0))
        rows, columns = meet.slices(window)
        total[rows, columns] += np.nan_to_num(resample.onto(layer, source.mapping, meet).values[0])
    return np.rint(total).astype(np.int32)


def polished(tile: dict, row: dict, settings, depth: float, where: Where, run: str, alone: bool) -> dict:
    """The mosaic's own row of COADDS for a last tile: masked by coverage, its colours, cropped, written with alpha and a preview.

    No pixel is resampled here.  ``alone`` tells that the mosaic is one tile.
    """
    began = time.process_time()
    science, weight, counts, rejected = read.whole(where.data, row["path"])
    keep = coverage.kept(counts, depth, settings.min_coverage_keep)
    science = np.where(keep, science, np.float32(np.nan))
    counts = np.where(keep, counts, 0).astype(np.int32)
    if settings.two_pass and alone:
        science = polish.two_pass(science, counts)
    if settings.equalise_rgb and alone and len(science) == 3:
        gains, _ = polish.rgb_gains(science)
        science = science * gains[:, None, None]
    there = np.isfinite(science[0])
    rows, columns = coverage.box(there) if settings.crop else (slice(0, there.shape[0]), slice(0, there.shape[1]))
    cut = Window(tile["y0"] + rows.start, tile["x0"] + columns.start, tile["y0"] + rows.stop, tile["x0"] + columns.stop)
    base = {k: row[k] for k in ("inputs", "resampled", "unit", "backend", "rejected", "band")}
    base |= {
        "tile_id": f"{row['tile_id']}-polished", "level": row["level"] + 1, "level_name": "polished", "y0": cut.y0, "x0": cut.x0, "ny": cut.shape[0],
        "nx": cut.shape[1], "covered": 0.0, "resampled": 0,
    }  # fmt: skip
    if not there.any():
        return base | {"status": "no_coverage", "error": "coverage is too low everywhere", "seconds": time.process_time() - began}
    block = stack.Block(*(np.ascontiguousarray(a[:, rows, columns]) for a in (science, np.where(keep, weight, 0), rejected, rejected)))
    there, counts = there[rows, columns], counts[rows, columns]
    wcs = plan.lattice_of(tile).cut(cut)
    name = f"{where.pixels}/{base['tile_id']}"
    facts = products.written(where.data, name, block, counts, wcs, row["unit"], run, alpha=coverage.alpha(counts, depth))
    facts["preview"] = products.preview(where.data, f"{name}.png", block.science)
    return base | facts | {
        "status": OK, "error": None, "covered": float(there.mean()), "coverage_median": float(np.median(counts[there])),
        "coverage_max": int(counts.max()), "sky": float(np.median(block.science[0][there])),
        "noise": float(image.noise(block.science[:1])[0]), "seconds": time.process_time() - began,
    }  # fmt: skip
