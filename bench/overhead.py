"""What Spark itself costs: ``make bench NAME=overhead``.  Ratios are against the same work in one plain Python process.

Seconds differ from machine to machine: read the ratios, and the milliseconds as this machine's.
"""

import json
import time

import numpy as np
import pyarrow as pa

from lib import spark

TASKS = 64


def busy(milliseconds: float) -> float:
    """CPU work of about that long: the unit of work of a task."""
    end, total = time.perf_counter() + milliseconds / 1e3, 0.0
    while time.perf_counter() < end:
        total += float(np.sqrt(np.arange(100.0)).sum())
    return total


def work(milliseconds):
    def run(batches):
        for batch in batches:
            busy(milliseconds)
            yield batch

    return run


def seconds(call, repeats: int = 5) -> float:
    """The least of a few runs."""
    best = np.inf
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    began = time.perf_counter()
    session = spark.session("bench overhead")
    start = time.perf_counter() - began
    cores = session.sparkContext.defaultParallelism
    frame = session.createDataFrame(pa.table({"x": list(range(TASKS))})).repartition(TASKS).cache()
    began = time.perf_counter()
    frame.count()
    first = time.perf_counter() - began
    began = time.perf_counter()
    frame.mapInArrow(work(0), "x long").count()
    first_python = time.perf_counter() - began
    jvm = seconds(lambda: frame.selectExpr("sum(x)").collect())
    empty = seconds(lambda: frame.mapInArrow(work(0), "x long").count())
    loaded = seconds(lambda: frame.mapInArrow(work(100), "x long").count(), repeats=2)
    alone = seconds(lambda: [busy(100) for _ in range(TASKS)], repeats=1)
    print(f"session {start:.1f} s, first job {first:.1f} s, first Python stage {first_python:.1f} s, {cores} cores, {TASKS} tasks")
    print(f"per task: JVM only {1e3 * jvm * cores / TASKS:.1f} ms, mapInArrow {1e3 * empty * cores / TASKS:.1f} ms of a core")
    print(f"{TASKS} tasks of 100 ms: {alone:.2f} s in one process, {loaded:.2f} s on {cores} cores of Spark")
    print(json.dumps({
        "session_s": round(start, 2), "first_python_stage_s": round(first_python, 2), "cores": cores,
        "jvm_ms_per_task": round(1e3 * jvm * cores / TASKS, 2), "python_ms_per_task": round(1e3 * empty * cores / TASKS, 2),
        "ratio_python_to_jvm_task": round(empty / jvm, 2), "efficiency_100ms_tasks": round(alone / (loaded * cores), 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
