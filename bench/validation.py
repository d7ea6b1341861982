"""All gates on tables over ten million rows of metrics, without pixels: ``make bench NAME=validation``.

Rows a second and core are of the whole judgement, from the start of Spark to the last gate, on ``CORES`` cores; memory is of the driver,
the JVM and the workers together.  The rows are those of ``BASE`` tasks again and again, under other ids: what is measured does not
depend on the values, but for dictionaries, which are of as many galaxies as a tenth of the rows.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from typing import Any

import numpy as np
import pyarrow as pa

from bench.manifest import CORES, memory_mb
from lib import config, draws, runs, sampling, store, tiers
from tests import simulated

BASE = 100_000  # tasks that are simulated
FILE = 500_000  # rows of a file
GALAXIES = 21_000


def base() -> tuple[tiers.Tier, pa.Table]:
    """(the train tier, METRICS rows)."""
    tier = simulated.tier(hosts={"train": 7000, "val": 1500, "test": 1500})
    manifest = sampling.manifest(simulated.parents(GALAXIES, tier), tier, "bench")
    return tier, simulated.metrics(manifest, tier)


def again(rows: pa.Table, turn: int) -> pa.Table:
    """The same rows under other ids."""
    number = np.arange(rows.num_rows)
    halves = (draws.hash64(f"bench {half}", turn, number).tolist() for half in "ab")
    ids = [f"{a:016x}{b:016x}" for a, b in zip(*halves, strict=True)]
    return rows.set_column(0, rows.schema.field(0), pa.array(ids))


def write(dataset: store.Dataset, tier: tiers.Tier, rows: pa.Table, count: int) -> None:
    with runs.start(dataset, "inject", ["metrics"], config.plain(tier), {"simulated": count}) as run:
        for first in range(0, count, FILE):
            turns = range(first // rows.num_rows, (first + min(FILE, count - first)) // rows.num_rows)
            run.write("metrics", pa.concat_tables([again(rows, turn) for turn in turns]).combine_chunks())
        run.commit({})


def watched(call) -> tuple[Any, float, float]:
    """(what it returns, seconds, the most memory of this process and its children in MB)."""
    done, peak = threading.Event(), [0.0]

    def watch():
        while not done.wait(0.25):
            peak[0] = max(peak[0], memory_mb(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.monotonic()
    try:
        found = call()
        return found, time.monotonic() - began, peak[0]
    finally:
        done.set()
        watcher.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--root", help="keep the table here, and use the one that is there")
    args = parser.parse_args()
    os.environ["ARCMILL_MASTER"] = f"local[{CORES}]"
    from lib import spark  # after the environment is set
    from validation import samples
    from validation.__main__ import GATES, validate
    from validation.data import Data

    with tempfile.TemporaryDirectory() as scratch:
        dataset = store.Dataset.at(args.root or scratch, f"bench{args.rows}", "train")
        tier = simulated.tier()
        if not runs.committed(dataset, "metrics"):
            tier, rows = base()
            write(dataset, tier, rows, args.rows)
        mine = [g for g in GATES if g.table == "metrics" and {n.table for n in (*g.notes, *g.uses)} == {"metrics"}]
        data = Data(None, dataset, tier)
        data.session, start, _ = watched(lambda: spark.session("arcmill bench"))
        notes = [n for g in mine for n in (*g.notes, *g.uses)] + list(samples.ALL)
        _, passing, most = watched(lambda: data.prepare(notes))
        results, judging, peak = watched(lambda: validate(data, mine))
        seconds = start + passing + judging
        for r in results:
            print(f"{r.gate:22}{r.outcome:16}{'' if r.measured is None else f'{r.measured:.5g}':>12}  {r.message[:110]}")
        print(json.dumps({
            "rows": args.rows, "gates": len(mine), "passed": sum(r.outcome == "pass" for r in results), "seconds": round(seconds, 1),
            "rows_per_s_core": round(args.rows / seconds / CORES), "rows_per_s_core_pass": round(args.rows / passing / CORES),
            "seconds_spark_start": round(start, 1), "seconds_pass": round(passing, 1), "seconds_judging": round(judging, 1), "passes": data.passes["metrics"], "peak_mb": round(max(peak, most)),
        }))  # fmt: skip


if __name__ == "__main__":
    main()
