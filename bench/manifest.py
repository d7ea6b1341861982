"""The train tier's manifest, 10 M rows from 2 M simulated parents in 280,000 bricks: ``make bench NAME=manifest``.

Rows a second and core are of the whole job, from the command's start to its end, Spark's start included, on ``CORES`` cores.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from lib import config, runs, spark, store, tiers
from tests import simulated
from validation import balance, classes, shortcuts
from validation.__main__ import GATES, validate
from validation.data import Data

CORES = 2
CHUNK = 100_000  # galaxies a file
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6


def simulate(dataset: store.Dataset, tier: tiers.Tier, count: int, bricks: int) -> None:
    """A committed parent table."""
    brick, number = simulated.places(count, bricks)
    with runs.start(dataset, "parent", ["parent"], config.plain(tier), {"simulated": count}) as run:
        for k in range(0, count, CHUNK):
            run.write("parent", simulated.galaxies(brick[k : k + CHUNK], number[k : k + CHUNK], tier))
        run.commit({})


def memory_mb(root: int) -> float:
    """Resident memory of a process and its children, shared pages counted once a process."""
    parents, total, family = {}, 0.0, {root}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(")", 1)[1].split()
        except OSError:  # it has ended
            continue
        parents[int(status.parent.name)] = (int(fields[1]), int(fields[21]) * PAGE_MB)
    for _ in range(6):
        family |= {pid for pid, (parent, _) in parents.items() if parent in family}
    total = sum(size for pid, (_, size) in parents.items() if pid in family)
    return total


def timed(arguments: list[str]) -> tuple[float, float]:
    """(seconds, peak MB) of a job."""
    env = os.environ | {"ARCMILL_MASTER": f"local[{CORES}]"}
    began, peak = time.monotonic(), [0.0]
    job = subprocess.Popen([sys.executable, "-m", "jobs", *arguments], env=env)
    done = threading.Event()

    def watch():
        while not done.wait(0.25):
            peak[0] = max(peak[0], memory_mb(job.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    code = job.wait()
    done.set()
    watcher.join()
    if code:
        raise SystemExit(f"manifest: exit code {code}")
    return time.monotonic() - began, peak[0]


def gates(dataset: store.Dataset, tier: tiers.Tier) -> list:
    """The gates that read manifest and parents alone, judged on the whole of it."""
    os.environ["ARCMILL_MASTER"] = f"local[{CORES}]"
    mine = [g for g in GATES if {n.table for n in (*g.notes, *g.uses)} <= {"manifest", "parent"} and g.table in ("manifest", "parent")]
    return validate(Data(spark.session("arcmill bench"), dataset, tier), mine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--galaxies", type=int, default=2_000_000)
    parser.add_argument("--bricks", type=int, default=280_000)
    parser.add_argument("--share", type=float, default=1.0, help="of the train tier's hosts")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        tier = tiers.load("train")
        text = Path(tiers.__file__).with_name("train.toml").read_text()
        hosts = {s: round(n * args.share) for s, n in tier.sample.hosts.items()}
        old = "hosts = { train = 700000, val = 150000, test = 150000 }"
        assert old in text
        path = Path(root) / "train.toml"
        path.write_text(text.replace(old, f"hosts = {{ train = {hosts['train']}, val = {hosts['val']}, test = {hosts['test']} }}"))
        dataset = store.Dataset.at(root, "bench", "train")
        simulate(dataset, tier, args.galaxies, args.bricks)
        where = ["--tier", str(path), "--root", root, "--dataset", "bench", "--unsafe-skip-promotion", "a bench of simulated parents"]
        plain, _ = timed(["manifest", *where, "--controls", "paired"])
        made = json.loads(runs.records(dataset)[-1]["counts"])["rows"]["manifest"]
        matched, peak = timed(["manifest", *where, "--replace"])
        found = {
            "rows": made,
            "rows_per_s_core": round(made / plain / CORES),
            "rows_per_s_core_matched": round(made / matched / CORES),
            "peak_mb": round(peak),
        }
        (note,) = shortcuts.matched.notes
        facts = Data(None, dataset, tier).noted(note)
        both = classes.of(facts)
        found |= {
            "first_rung_share": round(facts["rungs"][1] / facts["n"], 4), "metadata_auc": round(balance.metadata_auc(both), 4),
            "smd_max": round(max(balance.differences(both, tier.controls.tolerance).values()), 4),
        }  # fmt: skip
        judged = gates(dataset, tier)
        for r in judged:
            print(f"{r.gate:20}{r.outcome:16}{'' if r.measured is None else f'{r.measured:.5g}':>12}  {r.message[:110]}")
        found |= {"gates": {r.gate: r.outcome for r in judged}}
        print(json.dumps(found))


if __name__ == "__main__":
    main()
