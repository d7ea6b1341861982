"""``python -m validation.mosaic --frames F --recipe R --root D --dataset S``: judge a mosaic by its files.

What is measured here goes around the code that made the mosaic: positions by astropy's WCS, frames by their nearest pixels, stars by closed forms.
Exit codes: 0 every gate passed, 1 one failed, 2 wrong usage or config, 3 input or output at fault.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from lib import config, place, rows, runs, schemas, store
from lib.errors import OK, ArcmillError
from lib.frames import plan, read, recipe, scan
from lib.frames.engine import Input, Where
from lib.mosaic import coadd, coverage, lattice, mapping, solve
from lib.mosaic.lattice import Window
from validation import mosaic_places, mosaic_seams
from validation.result import ERROR, Gate, Result, gate, judged, not_applicable

STARS, SIDE = 8, 96  # injected ones, each in a window of so many px
SEAM_SIGMA, FLUX, PLACE_PIX, ALIGNED_PIX = 0.1, 0.005, 0.05, 0.1


@dataclass
class Mosaic:
    """A committed mosaic: its tables, its recipe, and where frames and pixels lie."""

    dataset: store.Dataset
    recipe: recipe.Recipe
    frames: place.Place
    facts: dict[str, dict] = field(default_factory=dict)  # as gates expect them; nothing is computed beforehand here
    broken: dict[str, Exception] = field(default_factory=dict)

    def rows(self, table: str) -> list[dict]:
        made = [json.loads(r["counts"])["rows"] for r in runs.records(self.dataset)]
        if any(counts.get(table) == 0 for counts in made):  # a table of no rows has no file
            return []
        return runs.read(self.dataset, table).to_pylist()

    @cached_property
    def coadds(self) -> list[dict]:
        return self.rows("coadds")

    @cached_property
    def tiles(self) -> dict[str, dict]:
        return {t["tile_id"]: t for t in self.rows("tiles")}

    @cached_property
    def corrections(self) -> dict[tuple[int, str], list[dict]]:
        found: dict[tuple[int, str], list[dict]] = {}
        for row in sorted(self.rows("normalisation"), key=lambda r: r["plane"]):
            found.setdefault((row["level"], row["image"]), []).append(row)
        return found

    @property
    def last(self) -> int:
        return len(self.recipe.level) - 1

    @property
    def where(self) -> Where:
        return Where(self.frames, self.dataset.place, "")

    def of_level(self, level: int) -> list[dict]:
        return [r for r in self.coadds if r["level"] == level and r["status"] == OK]

    def sky(self, band: str) -> list[float]:
        """The level of a band's images, corrected, as the coadd took it."""
        named = {n for t in self.tiles.values() if t["level"] == self.last and t["band"] == band for n in t["inputs"]}
        levels = [
            [r["sky"] * np.float32(r["gain"]) + np.float32(r["offset"]) for r in mine]
            for (level, name), mine in self.corrections.items()
            if level == self.last and name in named and mine[0]["healthy"]
        ]
        return [float(v) for v in np.nanmedian(levels, axis=0)]

    @cached_property
    def images(self) -> list[dict[str, Input]]:
        """Each level's images with their corrections, those that took part."""
        return [self._images(level) for level in range(self.last + 1)]

    def _images(self, level: int) -> dict[str, Input]:
        if level == 0:
            known = {f["frame_id"]: (f, False) for f in self.rows("frames") if f["status"] == OK}
        else:
            known = {r["tile_id"]: (self.tiles[r["tile_id"]] | r, True) for r in self.of_level(level - 1)}
        found = {}
        for name, (row, is_tile) in sorted(known.items()):
            mine = self.corrections.get((level, name), [])
            if mine and mine[0]["healthy"]:
                slope = tuple((r["slope_y"], r["slope_x"]) for r in mine)
                gain, offset, sigma = (tuple(r[k] for r in mine) for k in ("gain", "offset", "sigma"))
                found[name] = Input(name, row, is_tile, gain, offset, sigma, slope, (mine[0]["middle_y"], mine[0]["middle_x"]))
        return found


def _seams(data: Mosaic, _facts: dict) -> Result:
    """Images that overlap, corrected, at the same points of their tile; level by level, since one pair of a late level may hold the whole seam."""
    measured: dict[str, float] = {}
    number, worst = 0, []
    for level, settings in enumerate(data.recipe.level):
        images = data.images[level]
        steps: dict[tuple, float] = {}
        for row in data.of_level(level):
            tile = data.tiles[row["tile_id"]]
            mine = [images[n] for n in sorted(tile["inputs"]) if n in images]
            if len(mine) > 1:
                science = read.whole(data.dataset.place, row["path"])[0]
                steps |= {(row["tile_id"], *key): step for key, step in mosaic_seams.apart(tile, science, mine, data.where).items()}
        if steps:
            measured[settings.name] = float(np.quantile(list(steps.values()), 0.95))
            number += len(steps)
            worst += sorted(((step, *key) for key, step in steps.items()), reverse=True)[:3]
    if not measured:
        return not_applicable("no two images overlap in enough pixels")
    told = ", ".join(f"{name} {value:.3f}" for name, value in measured.items())
    return judged(
        max(measured.values()) < SEAM_SIGMA, f"95 % of the steps between overlapping images, over the noise of a pixel: {told}",
        measured=max(measured.values()), threshold=SEAM_SIGMA, n=number,
        examples=tuple(f"{tile}: {one} | {other}, plane {plane}: {step:.3f}" for step, tile, one, other, plane in sorted(worst, reverse=True)[:5]),
    )  # fmt: skip


def _places(data: Mosaic, _facts: dict) -> Result:
    """Stars of the frames, by their own WCS, against the mosaic; a whole image that lies beside the others is what is looked for."""
    frames = data.images[0]
    found: dict[tuple[str, str], tuple[float, int]] = {}
    for row in data.of_level(data.last):
        tile = data.tiles[row["tile_id"]]
        names = set(tile["inputs"])
        for level in range(data.last - 1, -1, -1):  # tiles of tiles: down to the frames
            names = {n for t in data.tiles.values() if t["level"] == level and t["tile_id"] in names for n in t["inputs"]}
        with scan.opened(data.dataset.place, row["path"]) as file:
            wcs = scan.wcs_of(scan.cards_of(scan.headers.from_header(file[1].header)))
        science, _, counts, _ = read.whole(data.dataset.place, row["path"])
        mine = [frames[n] for n in sorted(names) if n in frames]
        found |= {(row["tile_id"], name): told for name, told in mosaic_places.apart(science, counts, wcs, mine, data.where).items()}
    if not found:
        return not_applicable("no frame has enough bright stars")
    worst = sorted(found, key=lambda k: -found[k][0])[:5]
    return judged(
        found[worst[0]][0] < ALIGNED_PIX, "median shift of a frame's stars in the mosaic, the worst of the frames", measured=found[worst[0]][0],
        threshold=ALIGNED_PIX, n=sum(n for _, n in found.values()), examples=tuple(f"{k[0]}: {k[1]}: {found[k][0]:.3f} px" for k in worst),
    )  # fmt: skip


def _stars(data: Mosaic, _facts: dict) -> Result:
    """Stars of known flux and place added to the images, the windows around them made again: what they add to the mosaic on disk."""
    random, flux, off, examples = np.random.default_rng(2), [], [], []
    deep = sorted(data.of_level(data.last), key=lambda r: r["tile_id"])
    level = data.recipe.level[data.last]
    for k in range(STARS):
        row = deep[k % len(deep)]
        tile = data.tiles[row["tile_id"]]
        science, _, counts, _ = read.whole(data.dataset.place, row["path"])
        good = np.argwhere(coverage.kept(counts, row["coverage_median"], 0.5))
        good = good[((good >= SIDE // 2) & (good < np.array(counts.shape) - SIDE // 2)).all(axis=1)]
        if not len(good):
            continue
        j, i = good[random.integers(len(good))]
        window = Window(tile["y0"] + j - SIDE // 2, tile["x0"] + i - SIDE // 2, tile["y0"] + j + SIDE // 2, tile["x0"] + i + SIDE // 2)
        grid = plan.lattice_of(tile)
        with scan.opened(data.dataset.place, row["path"]) as file:
            said = scan.wcs_of(scan.cards_of(scan.headers.from_header(file[1].header)))  # where the file says its pixels are
        px, py = i + random.uniform(-0.5, 0.5), j + random.uniform(-0.5, 0.5)
        ra, dec = (float(v) for v in said.all_pix2world(px, py, 0))
        inputs = [data.images[data.last][n] for n in tile["inputs"] if n in data.images[data.last]]
        peak, sigma = 30.0 * max(row["noise"], 1e-6), 2.0
        pair = [
            _made_again(inputs, grid, window, level.settings, ra, dec, p, sigma, data.where, data.sky(tile["band"])) for p in (0.0, peak)
        ]
        star = pair[1] - pair[0]
        cut = star[0, SIDE // 2 - 20 : SIDE // 2 + 21, SIDE // 2 - 20 : SIDE // 2 + 21].astype(float)
        if not np.isfinite(cut).all():
            continue
        if np.nanmax(np.abs(pair[0] - science[:, j - SIDE // 2 : j + SIDE // 2, i - SIDE // 2 : i + SIDE // 2])) > 1e-3 * row["noise"]:
            return judged(
                False, "a window made again is not the mosaic on disk", measured=1.0, threshold=0.0, n=1, examples=(row["tile_id"],)
            )
        x, y = np.meshgrid(np.arange(-20, 21), np.arange(-20, 21))
        total = cut.sum()
        flux.append(abs(total / (2 * np.pi * sigma**2 * peak) - 1.0))
        off.append(float(np.hypot((cut * x).sum() / total - (px - i), (cut * y).sum() / total - (py - j))))
        examples.append(f"{row['tile_id']} ({px:.1f}, {py:.1f}): flux {flux[-1]:.4f}, place {off[-1]:.3f} px")
    if not flux:
        return not_applicable("no window of the mosaic is deep enough for a star")
    measured = max(float(np.median(flux)) / FLUX, float(np.median(off)) / PLACE_PIX)
    message = f"injected stars: flux {np.median(flux):.4f} (limit {FLUX}), place {np.median(off):.3f} px (limit {PLACE_PIX}); the larger over its limit"
    return judged(measured <= 1.0, message, measured=measured, threshold=1.0, n=len(flux), examples=tuple(examples[:5]))


def _made_again(inputs, grid, window, settings, ra, dec, peak, sigma, where, sky) -> np.ndarray:
    """A window of the mosaic from its images, a Gaussian of the lattice's ``sigma`` px added to each at a place of the sky."""
    sources = []
    for one in inputs:
        found = mapping.of(grid, one.wcs, one.shape)
        if found is None or (found.window & window).empty:
            continue
        scale = grid.pixel_arcsec / lattice.pixel_arcsec(one.wcs)
        x, y = lattice.pixel_of(one.wcs, ra, dec)

        def load(near, one=one, x=x, y=y, scale=scale):
            pixels = one.load(where, near)
            if peak and np.isfinite(x):
                gy, gx = np.mgrid[: pixels.pixels.shape[1], : pixels.pixels.shape[2]]
                star = np.exp(-((gx + near.x0 - x) ** 2 + (gy + near.y0 - y) ** 2) / (2 * (sigma * scale) ** 2))
                pixels.pixels[...] += (peak / np.array(one.gain, np.float32))[:, None, None] * star.astype(np.float32)
            return pixels

        sources.append(coadd.Source(
            one.name, found, one.shape, load, np.float32(one.gain), np.float32(one.offset), np.float32(one.sigma) * np.float32(one.gain),  # type: ignore[arg-type]
            np.array(one.slope) if np.any(one.slope) else None, one.middle,
        ))  # fmt: skip
    return coadd.of(grid, window, sources, np.float32(sky), settings).science  # type: ignore[arg-type]


def _coverage(data: Mosaic, _facts: dict) -> Result:
    """Pixels of the mosaic are NaN exactly where its coverage is 0, and that is where the depth is below the share that is kept."""
    wrong, seen, examples = 0, 0, []
    last = data.of_level(data.last)
    for band in sorted({r["band"] for r in last}):
        mine = [r for r in last if r["band"] == band]
        counts = {r["tile_id"]: read.whole(data.dataset.place, r["path"])[2] for r in mine}
        total: dict[int, int] = {}
        for map_ in counts.values():
            for value, number in zip(*np.unique(map_, return_counts=True), strict=True):
                total[int(value)] = total.get(int(value), 0) + int(number)
        every = np.repeat(*np.array([(v, n) for v, n in sorted(total.items()) if v > 0]).T)
        depth = every[min(len(every) - 1, int(np.ceil(0.95 * len(every))) - 1)]
        for row in mine:
            expected = np.zeros_like(counts[row["tile_id"]], bool)
            made = next((r for r in data.coadds if r["tile_id"] == f"{row['tile_id']}-polished"), None)
            keep = (counts[row["tile_id"]] > 0) & (counts[row["tile_id"]] >= data.recipe.polish.min_coverage_keep * depth)
            if made is not None and made["status"] == OK:
                science, _, told, _ = read.whole(data.dataset.place, made["path"])
                at = np.s_[
                    made["y0"] - row["y0"] : made["y0"] - row["y0"] + made["ny"],
                    made["x0"] - row["x0"] : made["x0"] - row["x0"] + made["nx"],
                ]
                expected[at] = True
                bad = int((np.isfinite(science) != (told > 0)).any(axis=0).sum() + ((told > 0) != keep[at]).sum())
            else:
                bad = 0
            bad += int((keep & ~expected).sum())
            wrong, seen = wrong + bad, seen + keep.size
            examples += [f"{row['tile_id']}: {bad} px"] if bad else []
    return judged(
        wrong == 0, "pixels whose value, coverage and depth disagree", measured=wrong, threshold=0, n=seen, examples=tuple(examples[:5])
    )


def _gains(data: Mosaic, _facts: dict) -> Result:
    rows_ = data.rows("normalisation")
    low, high = solve.LIMITS
    bad = [r["image"] for r in rows_ if not (np.isfinite([r["gain"], r["offset"]]).all() and low - 1e-6 <= r["gain"] <= high + 1e-6)]
    return judged(
        not bad,
        "gains and offsets that are not finite, or gains beyond the limits",
        measured=len(bad),
        threshold=0,
        n=len(rows_),
        examples=tuple(bad[:5]),
    )


def _parity(data: Mosaic, _facts: dict) -> Result:
    if {r["backend"] for r in data.coadds} <= {"numba"}:
        return not_applicable("no tile was made on a GPU")
    return judged(False, "tiles were made by two backends, and none by both", n=len(data.coadds))


def _gate(name: str, about: str, judge: Callable, unit: str = "") -> Gate:
    return gate(name, "coadds", about, unit=unit)(judge)


GATES = (
    _gate("mosaic_seams", "overlapping images agree with the mosaic to a tenth of the noise", _seams, "sigma"),
    _gate("mosaic_places", "stars of the frames lie in the mosaic where the frames have them", _places, "px"),
    _gate("mosaic_stars", "injected stars keep their flux and place", _stars),
    _gate("mosaic_coverage", "NaN exactly where coverage is too low", _coverage, "pixel"),
    _gate("mosaic_gains", "gains and offsets are finite and within their limits", _gains),
    _gate("mosaic_backends", "CPU and GPU agree where both ran", _parity),
)


def validate(data: Mosaic) -> list[Result]:
    """Every gate's result; none is left out because another failed."""
    return [g.run(data) for g in GATES]  # type: ignore[arg-type]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m validation.mosaic", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--frames", required=True, help="the folder of frames that it was made from")
    parser.add_argument("--recipe", required=True, help=f"{', '.join(recipe.names())}, or a .toml file")
    parser.add_argument("--root", required=True, help="folder that holds the data sets")
    parser.add_argument("--dataset", required=True, help="name of the data set under the root")
    args = parser.parse_args(argv)
    try:
        made = recipe.load(args.recipe)
        dataset = store.Dataset.at(args.root, args.dataset, made.name)
        inputs = {"coadds": runs.committed(dataset, "coadds"), "validation": runs.code_version("lib", "validation")}
        with runs.start(dataset, "validation", ["validation"], config.plain(made), inputs, fresh=True) as run:
            results = validate(Mosaic(dataset, made, place.at(args.frames)))
            found = [r.row(made.name, run.run_id) for r in results]
            run.write("validation", rows.table({k: [m[k] for m in found] for k in schemas.VALIDATION.names}, schemas.VALIDATION))
            run.commit({})
    except ArcmillError as error:
        print(f"validation: {error}", file=sys.stderr)
        return error.exit_code
    for r in results:
        value = "" if r.measured is None else f" {r.measured:.3g} (limit {r.threshold:.3g})"
        print(f"  {r.outcome:15} {r.gate:18}{value}  {r.message}", file=sys.stderr)
    verdict = "NO-GO" if any(r.blocks or r.outcome == ERROR for r in results) else "GO"
    print(json.dumps({"verdict": verdict, "gates": {r.gate: [r.outcome, r.measured] for r in results}}), flush=True)
    return 0 if verdict == "GO" else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
