"""Memory and time of a mosaic against its number of tiles: ``make bench NAME=tiles``.

Frames of 600 px lie on a grid with overlaps; mosaics of 4, 25 and 100 tiles of 512 px are made of them, each in a process of its own that reads
windows of the files, as a worker does.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from lib import place
from lib.frames import plan, read, recipe, scan
from lib.mosaic import coadd, mapping, stack
from tests.mosaic import scenes

SIDE, STEP, TILE = 600, 512, 512
SIZES = (2, 5, 10)


def write(folder: Path, number: int) -> None:
    """``number`` x ``number`` frames of noise, turned by up to a degree."""
    random = np.random.default_rng(1)
    canvas = scenes.tangent((number * STEP / 2, number * STEP / 2), 1.0)
    for j in range(number):
        for i in range(number):
            crpix = (number * STEP / 2 - i * STEP + 44 + random.uniform(-3, 3), number * STEP / 2 - j * STEP + 44 + random.uniform(-3, 3))
            one = scenes.frame(canvas, (SIDE, SIDE), crpix, random.uniform(-1, 1) * 0.3)
            fits.PrimaryHDU(random.normal(100, 5, (SIDE, SIDE)).astype(np.float32), one.header).writeto(folder / f"f-{j:02d}-{i:02d}.fits")


def work(folder: Path) -> None:
    """All tiles, one after the other; what is kept of each is its checksum."""
    frames = place.at(str(folder))
    made = recipe.config.build(
        recipe.Recipe, {"name": "bench", "level": [{"name": "coadd", "rejection": "kappa_sigma"}], "lattice": {"tile_pix": TILE}}
    )
    rows = {r["frame_id"]: r for name in scan.files(frames) for r in scan.rows(frames, name)}
    tiles = plan.tiles(list(rows.values()), made)
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    pixels, total, began, start = 0, 0.0, 0.0, 0.0
    for number, tile in enumerate(tiles):
        if number == 1:  # the first compiles
            began, start, pixels = time.process_time(), time.perf_counter(), 0
        grid, sources = plan.lattice_of(tile), []
        for name in tile["inputs"]:
            row = rows[name]
            wcs, shape = scan.wcs_of(row["wcs"]), (row["ny"], row["nx"])
            found = mapping.of(grid, wcs, shape)
            if found is not None:
                sources.append(
                    coadd.Source(name, found, shape, lambda window, row=row: read.frame(frames, row, window), one, none, 5 * one)
                )
        block = coadd.of(grid, plan.window_of(tile), sources, none, coadd.Settings(rule=stack.Rule("kappa_sigma")))
        total += float(np.nansum(block.science))
        pixels += block.science.size
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps(
            {"tiles": len(tiles), "cpu_s": spent, "ns_a_px": 1e9 * spent / pixels, "peak_mb": peak, "wall_s": time.perf_counter() - start}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.tiles", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--folder", type=Path, help="one mosaic's own process")
    args = parser.parse_args()
    if args.folder:
        work(args.folder)
        return
    found = []
    for number in SIZES:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), number)
            done = subprocess.run([sys.executable, "-m", "bench.tiles", "--folder", name], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            found.append(json.loads(done.stdout.splitlines()[-1]))
            told = found[-1]
            print(
                f"{told['tiles']:4} tiles: {told['cpu_s']:.2f} CPU-s, {told['ns_a_px']:.0f} ns a pixel, peak {told['peak_mb']:.0f} MB",
                flush=True,
            )
    first, last = found[0], found[-1]
    print(json.dumps({
        "tiles": [f["tiles"] for f in found], "peak_mb": [round(f["peak_mb"]) for f in found], "ns_a_px": [round(f["ns_a_px"]) for f in found],
        "ratio_peak": round(last["peak_mb"] / first["peak_mb"], 3), "ratio_ns_a_px": round(last["ns_a_px"] / first["ns_a_px"], 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
