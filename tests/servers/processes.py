"""The processes of a cluster that may die: executors (a JVM each) and the Python workers that these have forked."""

import os
import signal
import time

from infra.standalone import Cluster, Process, processes

EXECUTOR, DAEMON = "CoarseGrainedExecutorBackend", "pyspark.daemon"


def executors(cluster: Cluster) -> list[int]:
    return [p.pid for p in _of(cluster) if EXECUTOR in p.command]


def python_workers(cluster: Cluster) -> list[int]:
    """Those that run tasks; each is forked from its executor's daemon."""
    found = _of(cluster)
    daemons = {p.pid for p in found if DAEMON in p.command}
    return [p.pid for p in found if p.parent in daemons]


def kill_executor(cluster: Cluster, wait_s: float = 60.0) -> int:
    """kill -9 of an executor, as soon as there is one; its process id."""
    return _kill(lambda: executors(cluster), wait_s, "executor")


def kill_python_worker(cluster: Cluster, wait_s: float = 60.0) -> int:
    """kill -9 of a Python worker, as soon as there is one; its process id."""
    return _kill(lambda: python_workers(cluster), wait_s, "Python worker")


def _of(cluster: Cluster) -> list[Process]:
    return [p for p in processes() if p.session in cluster.workers]


def _kill(find, wait_s: float, what: str) -> int:
    until = time.monotonic() + wait_s
    while not (found := find()):
        if time.monotonic() > until:
            raise TimeoutError(f"no {what} within {wait_s:g} s")
        time.sleep(0.05)
    os.kill(found[0], signal.SIGKILL)
    while found[0] in find():
        time.sleep(0.02)
    return found[0]
