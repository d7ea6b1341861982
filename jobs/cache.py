"""Copy the bricks a manifest needs from a survey root (a folder, http(s), s3) to a survey folder: one row a file in CACHE.

At most ``--concurrency`` files are on their way at once: that many threads in all, shared out among the Spark tasks, one
task a core or fewer, each copying brick after brick, file after file.
"""

import argparse
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs import cli
from lib import config, costs, lease, place, rows, runs, spark, store, tiers
from lib.errors import ConfigError, InputError, TooManyFailed
from lib.schemas import CACHE
from lib.survey import bricks, mirror, roots

BRICKNAME = re.compile(r"\d{4}[mp]\d{3}")  # it becomes a path
TOLD = 12  # files that a message names


def copies(names: list[str], root: roots.Root, target: Path, wanted, tries: mirror.Tries, threads: int):
    """CACHE rows of bricks, and how many of each status."""
    copy = partial(mirror.brick, root, wanted=wanted, target=target, tries=tries)
    pool = ThreadPoolExecutor(threads)
    try:
        made = [row for brick in pool.map(copy, names) for row in brick]
    finally:
        pool.shutdown(cancel_futures=True)  # a full disk ends the others too
    counts = Counter(row["status"] for row in made)
    fetched = sum(row["bytes"] for row in made if row["status"] == mirror.COPIED)
    yield {"cache": rows.table({name: [row[name] for row in made] for name in CACHE.names}, CACHE)}, {**counts, "bytes copied": fetched}


def main(argv: list[str]) -> None:
    parser = cli.parser("cache", __doc__, begins=True)
    parser.add_argument("--source", required=True, help="survey root to copy from: a folder, http(s)://host/folder or s3://bucket/folder")
    parser.add_argument("--survey", required=True, help="survey folder to copy to; what is there and whole is not fetched again")
    parser.add_argument("--concurrency", type=cli.positive, default=8, metavar="N", help="files on their way at once, at most (8)")
    parser.add_argument("--attempts", type=cli.positive, default=5, metavar="N", help="how often a file is asked for, at most (5)")
    parser.add_argument("--backoff", type=seconds, default=1.0, metavar="S", help="pause after a first failure, doubled by each more (1)")
    parser.add_argument("--timeout", type=cli.positive, default=60, metavar="S", help="how long a server may be silent (60)")
    parser.add_argument("--allow-missing", type=int, default=0, metavar="N", help="needed files that may be missing, or files that failed")
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    root, target = roots.at(args.source, args.timeout), store.local(args.survey)
    if root == roots.Folder(target):
        raise ConfigError(f"--source and --survey are the same folder, {target}")
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    skipped = cli.promoted(args, dataset, tier)
    names = sorted(set(runs.read(dataset, "manifest", ["brickname"])["brickname"].to_pylist()))
    if wrong := [name for name in names if not BRICKNAME.fullmatch(name)]:
        raise InputError(f"the manifest has bricks of no brick's name: {', '.join(wrong[:3])}")
    settings = config.plain(tier)
    inputs = {"manifest": runs.committed(dataset, "manifest"), "source": str(root), "survey": str(target)}
    with runs.start(dataset, "cache", ["cache"], settings, inputs, fresh=args.fresh, replace=args.replace, told=skipped) as run:
        if run.reused and _settled(runs.read(dataset, "cache"), target):
            cli.report(run.reused)
            return
        if run.reused:
            run.forget()
        root.reach()
        store.require_space(place.at(target), 0)
        with lease.held(place.at(target), "_lease-cache", f"cache of {dataset.place}"):
            session = spark.session("arcmill cache")
            tasks = min(args.concurrency, session.sparkContext.defaultParallelism, len(names))
            make = partial(
                copies, root=root, target=target, wanted=bricks.wanted(tier.stamp.bands, tier.psf.prefer),
                tries=mirror.Tries(args.attempts, args.backoff), threads=args.concurrency // tasks,
            )  # fmt: skip
            with spark.progress(session, "cache"):
                spark.produce(session, run, [names[k::tasks] for k in range(tasks)], make)
        totals = run.totals
        copied = int(totals.pop("bytes copied"))
        statuses = sorted((f"{k}: {mirror.MEANING[k]}", int(v)) for k, v in totals.items())
        cli.report(run.commit({"statuses": statuses, "bytes copied": copied}))
        cli.log.info("cache: %s copied to %s", costs.size(copied), target)
        _require_whole(runs.read(dataset, "cache"), args.allow_missing)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds, got {text!r}")
    return value


def _lost(made: pa.Table) -> pa.Table:
    return made.filter(pc.is_in(made["status"], pa.array([mirror.MISSING, mirror.FAILED])))


def _settled(made: pa.Table, target: Path) -> bool:
    """Whether every file of a run came, and is there still."""
    if _lost(made).num_rows:
        return False
    kept = made.filter(pc.is_valid(made["bytes"]))
    sizes = ((target / file, size) for file, size in zip(kept["file"].to_pylist(), kept["bytes"].to_pylist(), strict=True))
    return all(path.is_file() and path.stat().st_size == size for path, size in sizes)


def _require_whole(made: pa.Table, allowed: int) -> None:
    """Fail, after writing, if more files were not had than is allowed; they are named."""
    lost = _lost(made).sort_by("file").to_pylist()
    for row in lost[:TOLD]:
        cli.log.error("cache: %s %s: %s", row["status"], row["file"], row["error"])
    if len(lost) > allowed:
        some = ", ".join(row["file"] for row in lost[:TOLD]) + (f", and {len(lost) - TOLD} more" if len(lost) > TOLD else "")
        raise TooManyFailed(f"{len(lost)} of {made.num_rows} files could not be had, {allowed} may; the table cache says why: {some}")
