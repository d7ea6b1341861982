"""The whole lens side on a cluster: a standalone master and workers of this machine, each job by its own spark-submit.

The steps of a tier (``infra/dag.py``); what each printed last is shown, and everything is stopped at the end.
"""

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from infra import dag, package
from infra.standalone import Cluster, cluster, stop, submit

NOISE = re.compile(r"^(\d\d/\d\d/\d\d |WARNING: |Using (Spark's|incubator)|Setting default|To adjust|\s*$)")  # Spark's, not the jobs'
TELL_S, QUIET_S = 5.0, 30.0  # at most, and at least, between two lines of progress


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m infra.cluster_demo", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--tier", default="demo")
    parser.add_argument("--out", default="out/cluster-demo")
    parser.add_argument("--bricks", type=int, default=4, help="bricks to simulate")
    parser.add_argument("--workers", type=int, default=2, help="workers of one core each")
    args = parser.parse_args(argv)
    out, tier = Path(args.out).absolute(), str(Path(args.tier).absolute()) if args.tier.endswith(".toml") else args.tier
    where = dag.Where(str(out), "demo", tier, str(out / "survey"), simulated=str(args.bricks))
    with tempfile.TemporaryDirectory(prefix="arcmill-demo-") as made:
        code = package.build(Path(made) / "arcmill.zip")
        print(f"cluster: starting a master and {args.workers} workers", flush=True)
        with cluster(args.workers) as running:
            print(f"cluster: {running.address}", flush=True)
            for step in dag.steps(where):
                if failed := run(running, code, dag.argv(step, where, replace=True), Path(made)):
                    return failed
    return 0


def run(on: Cluster, code: Path, step: list[str], folder: Path) -> int:
    """One job; its exit code."""
    began, told, line, job = time.monotonic(), 0.0, "", submit(on.address, code, step, folder)
    try:
        print(f"{step[0]}: submitted", flush=True)
        while job.poll() is None:
            time.sleep(0.2)
            now, spent = (last(job.said(), 1) or ["starting Spark"])[0], time.monotonic() - began
            if spent > told + (TELL_S if now != line else QUIET_S):
                told, line = spent, now
                print(f"  {spent:4.0f} s  {line[:110]}", flush=True)
        print(f"{step[0]}: {'done' if not job.returncode else f'exit code {job.returncode}'} in {time.monotonic() - began:.0f} s")
        print("\n".join(f"    {line}" for line in last(job.said(), 40 if job.returncode else 4)), flush=True)
        return job.returncode
    finally:
        stop(job)


def last(said: str, count: int) -> list[str]:
    """The last lines that are a job's own."""
    return [line for line in re.split(r"[\r\n]+", said) if not NOISE.match(line)][-count:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
