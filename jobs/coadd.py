"""TILES -> COADDS: images measured and compared in parallel, normalised once, and coadded tile by tile, level by level.

The unit is a chunk: some images, some pairs, or a tile.  A run that is stopped keeps the chunks that are made; the same command goes on.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from jobs import cli, tiles
from lib import config, place, runs, schemas, spark, store
from lib.errors import OK, InputError
from lib.frames import engine, plan, recipe
from lib.frames.engine import Input, Where
from lib.frames.recipe import Recipe
from lib.mosaic import coverage

IMAGES, PAIRS = 4, 64  # of one chunk
COVERED = "coverage/"  # names of counts: how many pixels of the last level have so many frames


def folder(dataset: store.Dataset, run_id: str = "") -> str:
    """Where a run's pixels lie in the data set."""
    return f"pixels/tier={dataset.tier}/run_id={run_id}" if run_id else f"pixels/tier={dataset.tier}"


def main(argv: list[str]) -> None:
    args = tiles.parser("coadd", __doc__).parse_args(argv)
    made = recipe.load(args.recipe)
    frames = place.at(args.frames)
    dataset = store.Dataset.at(args.root, args.dataset, made.name)
    planned = runs.read(dataset, "tiles").to_pylist()
    rows = {r["frame_id"]: r for r in runs.read(dataset, "frames").to_pylist() if r["status"] == OK}
    inputs = {"tiles": runs.committed(dataset, "tiles"), "frames": str(frames)}
    tables = ["overlaps", "normalisation", "coadds"]
    session = spark.session("arcmill coadd")
    with runs.start(dataset, "coadd", tables, config.plain(made), inputs, fresh=args.fresh, replace=args.replace, resumes=True) as run:
        if run.reused and _there(dataset):
            cli.report(run.reused)
            return
        if run.reused:
            run.forget()
        where = Where(frames, dataset.place, folder(dataset, run.run_id))
        job = Job(session, run, made, where, planned)
        with spark.progress(session, "coadd"):
            job.levels(rows)
        statuses = job.statuses()
        dataset.place.delete([f.name for f in dataset.place.files(f"{where.pixels}/bins")])
        counts = cli.report(run.commit({"statuses": statuses, "peak_mb": run.peak_mb}))
        drop_others(dataset, run.run_id)
        cli.log.info("coadd: %s; no worker held more than %.0f MB", ", ".join(f"{k} {v}" for k, v in counts["statuses"]), run.peak_mb)


def _there(dataset: store.Dataset) -> bool:
    """Whether all pixels that the committed rows name are there."""
    named = {r["path"] for r in runs.read(dataset, "coadds", ["path"]).to_pylist() if r["path"]}
    return named <= {f.name for f in dataset.place.files(folder(dataset))}


def drop_others(dataset: store.Dataset, run_id: str) -> None:
    """Remove the pixels of other runs, and those that no row of this one names: of attempts that died."""
    rows = runs.read(dataset, "coadds", ["path", "preview"]).to_pylist()
    named = {r[k] for r in rows for k in ("path", "preview")}
    dataset.place.delete([f.name for f in dataset.place.files(folder(dataset)) if f.name not in named])


@dataclass
class Job:
    """The chunks of a run, made up as its levels are known; a chunk's number is its place in the list, so a run that goes on finds its own."""

    session: SparkSession
    run: runs.Run
    recipe: Recipe
    where: Where
    tiles: list[dict]

    def __post_init__(self):
        self.chunks: list = []

    def produce(self, chunks: list, make) -> None:
        """Make some more chunks; those before them are there."""
        self.chunks += chunks
        spark.produce(self.session, self.run, self.chunks, make)

    def rows(self, table: str, **equal) -> list[dict]:
        """Rows of a table that this run has made so far."""
        names = [f["path"] for f in self.run.files if f["table"] == table]
        found = [row for name in names for row in pq.read_table(self.where.data.open(name)).to_pylist()]
        return [r for r in found if all(r[k] == v for k, v in equal.items())]

    def statuses(self) -> list[tuple[str, int]]:
        found = [r["status"] for r in self.rows("coadds")]
        return sorted((s, found.count(s)) for s in set(found))

    def levels(self, frames: dict[str, dict]) -> None:
        most = max(Counter(t["band"] for t in self.tiles if t["level"] == len(self.recipe.level) - 1).values(), default=0)
        if most > 1 and (self.recipe.polish.two_pass or self.recipe.polish.equalise_rgb):
            raise InputError(f"polish.two_pass and polish.equalise_rgb need the mosaic in one tile, it has {most}: raise lattice.tile_pix")
        for number in range(len(self.recipe.level)):
            for band in sorted({t["band"] for t in self.tiles}):
                mine = [t for t in self.tiles if t["level"] == number and t["band"] == band]
                if number == 0:
                    images = {n: Input(n, frames[n], False) for t in mine for n in t["inputs"]}
                else:
                    images = self._tiles_of(number - 1, band)
                self._level(number, band, mine, dict(sorted(images.items())))
        self._polish()

    def _tiles_of(self, level: int, band: str) -> dict[str, Input]:
        by_id = {t["tile_id"]: t for t in self.tiles}
        made = self.rows("coadds", level=level, band=band, status=OK)
        return {r["tile_id"]: Input(r["tile_id"], by_id[r["tile_id"]] | r, True) for r in made}

    def _level(self, number: int, band: str, mine: list[dict], images: dict[str, Input]) -> None:
        if not images:
            raise InputError(f"band {band or 'none'!r}: level {self.recipe.level[number].name} has no image to be made from")
        level, planes = self.recipe.level[number], mine[0]["planes"]
        grid = self._canvas(band)
        named, side = list(images), engine.bin_side(list(images.values()))
        self.produce(
            [[images[n] for n in named[k : k + IMAGES]] for k in range(0, len(named), IMAGES)],
            partial(_measured, level=number, grid=(grid.wcs.to_header_string(), grid.shape), where=self.where, side=side),
        )
        known = [_judged(engine.told(self.where, number, n)) for n in named]
        strange = engine.absurd(known)
        for one in known:
            if one["error"]:
                cli.log.warning("%s is left out: %s", one["name"], one["error"])
            if one["name"] in strange:
                cli.log.warning("%s is left out: its level, %g, is no sky beside the others'", one["name"], one["level"])
                one["healthy"] = False
        pairs = engine.meeting(known) if level.normalise else []
        self.produce(
            [pairs[k : k + PAIRS] for k in range(0, len(pairs), PAIRS)], partial(_compared, level=number, where=self.where, side=side)
        )
        table = engine.solved(known, [r for r in self.rows("overlaps", level=number) if r["one"] in images], level, planes)
        self._table(number, known, table)
        for line in table.said:
            cli.log.warning("%s", line)
        fixed = {k["name"]: _corrected(images[k["name"]], k, table, i) for i, k in enumerate(known) if k["healthy"]}
        sky = _sky(known, table, planes)
        last = number == len(self.recipe.level) - 1
        self.produce(
            [(t, [fixed[n] for n in t["inputs"] if n in fixed]) for t in mine],
            partial(_coadded, level=level, sky=sky, where=self.where, run=self.run.run_id, last=last, gpu=self.recipe.gpu),
        )

    def _canvas(self, band: str):
        """The lattice of a band's mosaic: that of its last level's tiles."""
        return plan.lattice_of(next(t for t in self.tiles if t["band"] == band and t["level"] == len(self.recipe.level) - 1))

    def _table(self, number: int, known: list[dict], table) -> None:
        """Put the corrections on record; a run that goes on has them already, and they are the same."""
        self.chunks.append("normalisation")
        if len(self.chunks) - 1 in self.run.done:
            return
        found = []
        for i, one in enumerate(known):
            for plane in range(table.gain.shape[1]):
                anchor = int(table.anchor[i])
                found.append({
                    "level": number, "image": one["name"], "plane": plane, "gain": float(table.gain[i, plane]), "offset": float(table.offset[i, plane]),
                    "slope_y": float(table.slope[i, plane, 0]), "slope_x": float(table.slope[i, plane, 1]), "middle_y": float(table.middle[i, 0]),
                    "middle_x": float(table.middle[i, 1]), "sigma": one["sigma"][plane] if one["sigma"] else 0.0,
                    "sky": one["sky"][plane] if one["sky"] else None, "pairs": int(table.pairs[i, plane]), "n": int(table.bins[i, plane]),
                    "residual": float(table.residual[i, plane]), "clipped": bool(table.clipped[i, plane]), "component": int(table.component[i]),
                    "anchor": known[anchor]["name"] if anchor >= 0 else None, "healthy": bool(one["healthy"]),
                })  # fmt: skip
        self.run.write("normalisation", tiles.table(found, schemas.NORMALISATION))

    def _polish(self) -> None:
        last = len(self.recipe.level) - 1
        chunks = []
        for band in sorted({t["band"] for t in self.tiles}):
            depth = coverage.full_depth(self._histogram(band))
            by_id = {t["tile_id"]: t for t in self.tiles}
            made = self.rows("coadds", level=last, band=band, status=OK)
            cli.log.info("band %s: full depth is %g frames (p95 of covered pixels)", band or "none", depth)
            alone = len(made) == 1
            chunks += [(by_id[r["tile_id"]], r, depth, alone) for r in sorted(made, key=lambda r: r["tile_id"])]
        if not chunks:
            raise InputError("no tile of the mosaic has a pixel: do the frames overlap it, and are they good?")
        self.produce(chunks, partial(_polished, settings=self.recipe.polish, where=self.where, run=self.run.run_id))

    def _histogram(self, band: str) -> dict[int, int]:
        """How many pixels of the last level have so many frames, from the chunks' counts."""
        start = f"{COVERED}{band}/"
        return {int(k.removeprefix(start)): int(v) for k, v in self.run.totals.items() if k.startswith(start)}


def _judged(told: dict) -> dict:
    return {"healthy": False, "level": None, "middle": [0.0, 0.0]} | told


def _corrected(one: Input, known: dict, table, i: int) -> Input:
    slope = tuple((float(a), float(b)) for a, b in table.slope[i])
    return Input(
        one.name, one.row, one.is_tile, tuple(map(float, table.gain[i])), tuple(map(float, table.offset[i])), tuple(known["sigma"]), slope,
        (float(table.middle[i, 0]), float(table.middle[i, 1])),
    )  # fmt: skip


def _sky(known: list[dict], table, planes: int) -> list[float]:
    """The level of the whole mosaic, (planes,): the median of the images' own, corrected."""
    levels = [np.array(k["sky"]) * table.gain[i] + table.offset[i] for i, k in enumerate(known) if k["healthy"]]
    return [float(v) for v in np.nanmedian(levels, axis=0)] if levels else [0.0] * planes


def _measured(chunk: list[Input], level: int, grid, where: Where, side: int) -> Iterator:
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    from lib.mosaic.lattice import Lattice

    whole = Lattice(WCS(Header.fromstring(grid[0])), tuple(grid[1]))
    for one in chunk:
        yield {}, engine.measure(one, level, whole, where, side)


def _compared(chunk: list[tuple[str, str]], level: int, where: Where, side: int) -> Iterator:
    yield {"overlaps": tiles.table(engine.compare(chunk, level, where, side), schemas.OVERLAPS)}, {}


def _coadded(chunk: tuple, level, sky, where: Where, run: str, last: bool, gpu: bool) -> Iterator:
    from lib.frames import products, read

    tile, inputs = chunk
    row = engine.made(tile, inputs, level, sky, where, run, spark.gpu() if gpu else None)
    counts: dict[str, float] = {row["status"]: 1, "resampled": row["resampled"]}
    if last and row["status"] == OK:
        number = coverage.histogram(read._cut(where.data, row["path"], products.COVERAGE, np.s_[...]))
        counts |= {f"{COVERED}{tile['band']}/{value}": pixels for value, pixels in number.items()}
    yield {"coadds": tiles.table([row], schemas.COADDS)}, counts


def _polished(chunk: tuple, settings, where: Where, run: str) -> Iterator:
    tile, row, depth, alone = chunk
    made = engine.polished(tile, row, settings, depth, where, run, alone)
    yield {"coadds": tiles.table([made], schemas.COADDS)}, {}
