"""Frames -> FRAMES and TILES: every header read once, and which tiles there will be, each with the images that meet it."""

from collections import Counter
from functools import partial

import pyarrow as pa

from jobs import cli
from lib import config, place, rows, runs, schemas, spark, store
from lib.errors import OK
from lib.frames import plan, recipe, scan

FILES = 64  # of one chunk


def parser(name: str, about: str):
    out = cli.parser(name, about, tables=False)
    out.add_argument("--frames", required=True, help="folder of FITS images, or s3:// prefix")
    out.add_argument("--recipe", required=True, help=f"{', '.join(recipe.names())}, or a .toml file")
    out.add_argument("--root", required=True, help="folder that holds the data sets")
    out.add_argument("--dataset", required=True, help="name of the data set under the root")
    again = out.add_mutually_exclusive_group()
    again.add_argument("--replace", action="store_true", help="replace what was made here with other settings, code or inputs")
    again.add_argument("--fresh", action="store_true", help="make it anew, even if nothing changed")
    return out


def table(found: list[dict], schema) -> pa.Table:
    """Rows as a table of their schema."""
    return rows.table({name: [row.get(name) for row in found] for name in schema.names}, schema)


def planned(frames: place.Place, made: recipe.Recipe, session) -> tuple[list[dict], list[dict]]:
    """(frames, tiles): all rows, from the headers."""
    names = scan.files(frames)
    zero = scan.zero_points(frames) if made.calibrate else {}
    groups = [names[k : k + FILES] for k in range(0, len(names), FILES)]
    work = partial(_rows, frames=frames, zero=zero)
    found = [row for group in session.sparkContext.parallelize(groups, len(groups)).map(work).collect() for row in group]
    judged = plan.judged(found, made)
    return judged, plan.tiles(judged, made)


def _rows(names: list[str], frames: place.Place, zero: dict) -> list[dict]:
    return [row for name in names for row in scan.rows(frames, name, zero)]


def main(argv: list[str]) -> None:
    flags = parser("tiles", __doc__)
    flags.add_argument("--plan", action="store_true", help="print the plan and write nothing")
    args = flags.parse_args(argv)
    made = recipe.load(args.recipe)
    frames = place.at(args.frames)
    session = spark.session("arcmill tiles")
    if args.plan:
        told(*planned(frames, made, session))
        return
    dataset = store.Dataset.at(args.root, args.dataset, made.name)
    inputs = {"frames": str(frames), "files": config.digest({f.name: [f.size, f.etag] for f in frames.files()})}
    settings = config.plain(made)
    with runs.start(dataset, "tiles", ["frames", "tiles"], settings, inputs, fresh=args.fresh, replace=args.replace) as run:
        if run.reused:
            cli.report(run.reused)
            return
        found, tiles = planned(frames, made, session)
        told(found, tiles)
        run.write("frames", table(found, schemas.FRAMES))
        run.write("tiles", table(tiles, schemas.TILES))
        cli.report(run.commit({"statuses": sorted(Counter(row["status"] for row in found).items())}))


def told(frames: list[dict], tiles: list[dict]) -> None:
    """The plan in words: frames left out by name, and the tiles of each level."""
    out = cli.log.info
    left = [f for f in frames if f["status"] != OK]
    out("frames: %d, %d of them left out", len(frames), len(left))
    for row in left[:20]:
        out("  %s: %s", row["status"], row["error"])
    for key in dict.fromkeys((t["band"], t["level"], t["level_name"]) for t in tiles):
        mine = [t for t in tiles if (t["band"], t["level"], t["level_name"]) == key]
        deep = [len(t["inputs"]) for t in mine]
        size = sum(t["ny"] * t["nx"] for t in mine) / 1e6
        out(
            "band %s, level %d (%s): %d tiles, %.1f Mpx, %d to %d inputs each",
            key[0] or "none",
            key[1],
            key[2],
            len(mine),
            size,
            min(deep),
            max(deep),
        )
    for t in tiles[:200]:
        out("  %s  %5d x %-5d at (%d, %d)  %d inputs", t["tile_id"], t["ny"], t["nx"], t["y0"], t["x0"], len(t["inputs"]))
