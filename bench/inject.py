"""Injection end to end, bricks to Parquet, on Spark: ``make bench NAME=inject``; the last line is JSON.

Two simulated bricks of 3600 px, every tile full, under the names of many (hard links: the disk's cache is warm).  ``train``: 60 stamps
a brick, each at a host of its own, half of them without an arc; ``debug``: 9 hosts a brick, 100 lenses each.  Rates are of wall time from the
first chunk's plan to the commit, in a Spark of one core, after a run that compiles the loops.  The runs of train (one core and two, one worker and two, in turns),
of debug and of plain processes are made ``RUNS`` times, and the shortest wall of each counts.
"""

import argparse
import cProfile
import dataclasses
import json
import multiprocessing
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits
from astropy.wcs import WCS

from infra import package, standalone
from jobs import inject as job
from jobs import survey as survey_job
from lib import config, costs, place, runs, sampling, store, tiers
from lib.parts import Chunk
from lib.survey import bricks
from lib.survey.bricks import Brick
from lib.survey.synthetic import SurveySpec
from tests import simulated

DENSITIES = (36, 240)  # stamps a brick of which the costs of a brick and of a stamp are told
RUNS = 2
MARGIN = 60  # pixels from a brick's edge to a host
STAGES = {
    "windows and checks": ("of", "cuts.py"), "arcs (render)": ("draw", "render.py"), "expected magnification": ("of_source", "magnification.py"),
    "images": ("images", "magnification.py"), "measures": ("measure", "arcs.py"), "noise": ("_expose", "injection.py"),
    "encoding": ("pixel_columns", "encoding.py"), "tables": ("table", "rows.py"), "Parquet": ("write", "parquet.py"),
    "close, digest, put": ("commit", "parts.py"),
}  # fmt: skip


def clones(source: Path, survey: Path, count: int) -> list[str]:
    """The bricks of a survey under ``count`` names in another."""
    known = sorted(p.name for p in (source / "coadd").glob("*/*"))[:2]
    names = [f"{k:04d}m999" for k in range(count)]
    for k, name in enumerate(names):
        original = known[k % len(known)]
        for path in (source / "coadd" / original[:3] / original).glob("*.fits.fz"):
            copy = survey / "coadd" / name[:3] / name / path.name.replace(original, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, copy)
    return names


def tasks(survey: Path, names: list[str], hosts: int, configs: int, replicates: int, controls: bool) -> tuple[pa.Table, tiers.Tier]:
    """A manifest of ``hosts`` a brick with ``configs`` times ``replicates`` lenses each; with controls every second row has no arc."""
    tier = simulated.tier(hosts={"train": hosts * len(names), "val": 1, "test": 1}, configs_per_host=configs, replicates=replicates)
    tier = dataclasses.replace(tier, grid="resolved", controls=dataclasses.replace(tier.controls, fraction=0.0))
    brick = np.repeat(np.arange(1, len(names) + 1), hosts + 1)
    parents = simulated.galaxies(brick + 300_000, np.tile(np.arange(hosts + 1), len(names)), tier)
    ra, dec, rng = np.empty(len(brick)), np.empty(len(brick)), np.random.default_rng(1)
    for k, name in enumerate(names):
        mine = brick == k + 1
        with fits.open(bricks.path(survey, name, "image", "r")) as hdus:
            header, side = hdus[1].header, hdus[1].shape[0]
        ra[mine], dec[mine] = WCS(header).all_pix2world(*rng.uniform(MARGIN, side - MARGIN, (2, mine.sum())), 0)
    split = np.full(len(brick), "train", object)
    split[[0, hosts + 1]] = "val", "test"  # of the galaxy a brick that is no host
    changes = {
        "ra_deg": ra,
        "dec_deg": dec,
        "brickname": np.array(names)[brick - 1],
        "split": split,
        "split_guard": np.zeros(len(brick), bool),
    }
    for name, values in changes.items():
        at = parents.schema.get_field_index(name)
        parents = parents.set_column(at, parents.schema.field(name), pa.array(values, parents.schema.field(name).type))
    made = sampling.manifest(parents, tier, "bench")
    if controls:
        odd = np.arange(made.num_rows) % 2 == 1
        role = np.where(odd, sampling.UNPAIRED, made["role"].to_numpy(zero_copy_only=False))
        theta_e = np.where(odd, 0.0, made["theta_e_arcsec"].to_numpy())
        for name, values in (("role", role), ("theta_e_arcsec", theta_e)):
            at = made.schema.get_field_index(name)
            made = made.set_column(at, made.schema.field(name), pa.array(values, made.schema.field(name).type))
    return made, tier


def dataset(root: Path, name: str, rows: pa.Table) -> store.Dataset:
    """A data set whose manifest is there; ``inject`` takes the shipped tier train."""
    tier = tiers.load("train")
    found = store.Dataset.at(root, name, tier.name)
    with runs.start(found, "manifest", ["manifest"], config.plain(tier), {"bench": name}) as run:
        run.write("manifest", rows)
        run.commit({})
    return found


def injected(data: store.Dataset, survey: Path, master: str) -> dict:
    """The record of a run of the job, and its wall seconds."""
    argv = ["inject", "--survey", str(survey), "--tier", "train", "--root", str(data.root), "--dataset", data.name, "--fresh"]
    argv += ["--unsafe-skip-promotion", "a bench"]
    if master.startswith("local"):
        done = subprocess.run(
            [sys.executable, "-m", "jobs", *argv], env=os.environ | {"ARCMILL_MASTER": master}, capture_output=True, text=True
        )
        said, code = done.stderr, done.returncode
    else:
        with tempfile.TemporaryDirectory() as name:
            running = standalone.submit(master, package.build(Path(name) / "arcmill.zip"), argv, folder=Path(name))
            code, said = running.wait(), running.said()
    if code:
        sys.exit(said[-3000:])
    record = next(r for r in reversed(runs.records(data)) if r["command"] == "inject")
    counts = json.loads(record["counts"])
    wall = (datetime.fromisoformat(record["ended"]) - datetime.fromisoformat(record["started"])).total_seconds()
    return counts | {
        "wall": wall,
        "core_seconds": record["core_seconds"],
        "stamps": counts["rows"]["stamps"],
        "size": sum(f["bytes"] for f in record["files"]),
    }


def in_process(rows: pa.Table, survey: Path, root: Path, profiled: bool = False) -> tuple[float, pstats.Stats | None]:
    """(CPU seconds, profile) of one chunk made here, without Spark."""
    tier, data = tiers.load("train"), store.Dataset.at(root, "here", "train")
    profile = cProfile.Profile() if profiled else None
    chunk, began = Chunk(data, "run", time.monotonic_ns(), {}), time.process_time()
    if profile:
        profile.enable()
    for made, _ in job.stamps(rows, place.at(survey), tier):
        for table, some in made.items():
            chunk.write(table, some)
    chunk.commit({}, 0.0)
    if profile:
        profile.disable()
    return time.process_time() - began, pstats.Stats(profile) if profile else None


def whole_planes(self, kind, band, x0, y0, width, height):
    """``Brick.windows`` by whole planes, decoded once a brick: the earlier way."""
    if not hasattr(self, "planes"):
        self.planes = {}
    if (kind, band) not in self.planes:
        with fits.open(bricks.path(self.survey.local, self.name, kind, band)) as hdus:
            self.planes[kind, band] = np.ascontiguousarray(next(h for h in hdus if h.is_image and len(h.shape) == 2).data)
    plane = self.planes[kind, band]
    return np.stack([plane[y : y + height, x : x + width] for x, y in zip(x0, y0, strict=True)]), {}


def naive(rows: pa.Table, survey: Path, root: Path) -> float:
    ours = Brick.windows
    Brick.windows = whole_planes  # type: ignore[method-assign, assignment]
    try:
        return in_process(rows, survey, root)[0]
    finally:
        Brick.windows = ours  # type: ignore[method-assign]


def machine(rows: pa.Table, survey: Path, root: Path) -> float:
    """What two cores of this machine make of two, by the same work in plain processes that know nothing of each other."""

    def work(count):
        with multiprocessing.get_context("spawn").Pool(count) as pool:
            pool.map(abs, range(count))
            began = time.monotonic()
            pool.starmap(in_process, [(rows, survey, root / f"alone{k}") for k in range(8 * count)], chunksize=1)
            return time.monotonic() - began

    work(2)
    return min(work(1) for _ in range(RUNS)) / min(work(2) for _ in range(RUNS))


def stages(stats: pstats.Stats, stamps: int) -> list[tuple[str, float]]:
    """(stage, CPU microseconds a stamp), from the profile's cumulative times, and the rest."""
    found, total = Counter(), stats.total_tt  # type: ignore[attr-defined]
    for (file, _, function), (_, _, _, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        for stage, (name, where) in STAGES.items():
            if function == name and file.endswith(where):
                found[stage] += cumulative
    told = [(stage, 1e6 * found[stage] / stamps) for stage in STAGES]
    return [*told, ("the rest", 1e6 * (total - sum(found.values())) / stamps)]


def share(survey: Path, names: list[str], read: int, tier: tiers.Tier) -> float:
    """Bytes read of all bytes of the files that bricks' stamps are made from."""
    wanted = bricks.wanted(tier.stamp.bands, tier.psf.prefer)
    paths = [bricks.path(survey, name, kind, band) for name in names for kind, band, _ in wanted]
    return read / sum(p.stat().st_size for p in paths if p.is_file())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench.inject", description=__doc__.splitlines()[0])
    parser.add_argument("--bricks", type=int, default=500, help="bricks of the train runs")
    parser.add_argument("--debug-bricks", type=int, default=80)
    parser.add_argument("--survey", help="folder on the same disk that keeps the two bricks from run to run")
    parser.add_argument("--no-workers", action="store_true", help="leave the standalone cluster out")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        root, survey, source = Path(folder), Path(folder) / "survey", Path(args.survey or Path(folder) / "source")
        survey_job.make(SurveySpec(bricks=2, seed=1), str(source))
        names = clones(source, survey, args.bricks)
        train, tier = tasks(survey, names, 60, 1, 1, controls=True)
        debug, _ = tasks(survey, names[: args.debug_bricks], 9, 20, 5, controls=False)
        sets = {"train": dataset(root, "train", train), "debug": dataset(root, "debug", debug)}
        few = train.filter(pc.is_in(train["brickname"], value_set=pa.array(names[:2])))
        injected(dataset(root, "first", few), survey, "local[1,4]")  # compiles
        turns = [{cores: injected(sets["train"], survey, f"local[{cores},4]") for cores in (1, 2)} for _ in range(RUNS)]
        best = {cores: min((t[cores] for t in turns), key=lambda r: r["wall"]) for cores in (1, 2)}
        dense_runs = [injected(sets["debug"], survey, "local[1,4]") for _ in range(RUNS)]
        one, two = {"train": best[1], "debug": min(dense_runs, key=lambda r: r["wall"])}, best[2]
        peak = max(r["peak_mb"] for r in (*dense_runs, *(r for t in turns for r in t.values())))
        in_process(few, survey, root)
        (cpu, _), planes = in_process(few, survey, root), naive(few, survey, root)
        _, profile = in_process(few, survey, root, profiled=True)
        spent = {}
        for hosts in DENSITIES:
            rows, _ = tasks(survey, names[:2], hosts, 1, 1, controls=True)
            spent[hosts] = min(in_process(rows, survey, root)[0] for _ in range(3)) / 2
        stamp = (spent[DENSITIES[1]] - spent[DENSITIES[0]]) / (DENSITIES[1] - DENSITIES[0])
        dense_rows = debug.filter(pc.is_in(debug["brickname"], value_set=pa.array(names[:2])))
        dense, _ = in_process(dense_rows, survey, root)
        _, dense_profile = in_process(dense_rows, survey, root, profiled=True)
        rate = {name: r["stamps"] / r["wall"] for name, r in one.items()}
        efficiency = one["train"]["wall"] / two["wall"] / 2
        limit = machine(few, survey, root)
        workers = 0.0
        if not args.no_workers:
            walls: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(RUNS):
                for count, found in walls.items():
                    with standalone.cluster(workers=count) as made:
                        found.append(injected(sets["train"], survey, made.address)["wall"])
            workers = min(walls[1]) / min(walls[2]) / 2
        part = share(survey, names, one["train"]["bytes read"], tier)
        print(f"{'CPU us a stamp, in one process':34}{'train':>10}{'debug':>10}")
        for (stage, a), (_, b) in zip(stages(profile, few.num_rows), stages(dense_profile, dense_rows.num_rows), strict=True):
            print(f"  {stage:32}{a:10.0f}{b:10.0f}")
        spark = {name: 1e6 * (r["wall"] - r["core_seconds"]) / r["stamps"] for name, r in one.items()}
        print(f"  {'in one process, unprofiled':32}{1e6 * cpu / few.num_rows:10.0f}{1e6 * dense / dense_rows.num_rows:10.0f}")
        print(f"  {'Spark, start of workers':32}{spark['train']:10.0f}{spark['debug']:10.0f}  (wall, less the workers' CPU)")
        for name, r in one.items():
            print(
                f"{name}: {r['stamps']} stamps in {r['wall']:.1f} s of wall, {r['core_seconds']:.1f} s of CPU in workers; {costs.size(r['size'])} written"
            )
        print(
            f"read: {one['train']['bytes read'] / 1e3 / one['train']['stamps']:.1f} kB a stamp, {one['train']['requests'] / len(names):.0f} requests a brick"
        )
        print(json.dumps({
            "stamps_per_s_core_train": round(rate["train"], 1), "stamps_per_s_core_debug": round(rate["debug"], 1),
            "ratio_whole_plane": round(planes / cpu, 1), "worker_peak_mb": peak,
            "bytes_share": round(part, 4), "bytes_per_stamp": round(one["train"]["bytes read"] / one["train"]["stamps"]),
            "efficiency_2_cores": round(efficiency, 3), "efficiency_2_workers": round(workers, 3), "machine_2_cores": round(limit, 3),
            "stamp_core_seconds": round(stamp, 6), "brick_core_seconds": round(spent[DENSITIES[0]] - stamp * DENSITIES[0], 4),
        }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
