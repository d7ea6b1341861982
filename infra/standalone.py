"""A Spark cluster of this machine, from the installed pyspark: a master and workers, and ``spark-submit`` to it.

All of it is on the loopback. A worker and all that it starts share a session of processes, by which they are stopped.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyspark

from infra import submit_main

BIN = Path(pyspark.__file__).parent / "bin"
DEPLOY = "org.apache.spark.deploy"
JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
REGISTERED = "Successfully registered with master"
UP_S = 90.0


class Process(NamedTuple):
    pid: int
    parent: int
    session: int
    command: str


@dataclass(frozen=True)
class Cluster:
    """Its master's address, the process ids of its workers, and the folder of its logs and work."""

    address: str
    workers: tuple[int, ...]
    folder: Path

    def logs(self) -> str:
        """The end of what the master and each worker said."""
        return "\n".join(f"{p.name}: {p.read_text()[-1500:]}" for p in sorted(self.folder.glob("*.log")))


@contextmanager
def cluster(workers: int = 2, cores: int = 1, memory: str = "2g", env: Mapping[str, str] | None = None, gpus: Sequence[str] = ()):
    """A running cluster with all its workers registered; whatever runs on it is killed at the end, and its files removed.

    Each worker says that it has GPUs of the addresses ``gpus``: Spark gives them out, whether they are there or not.
    """
    address = f"spark://127.0.0.1:{_free_port()}"
    with tempfile.TemporaryDirectory(prefix="arcmill-cluster-", ignore_cleanup_errors=True) as made:
        folder, running = Path(made), []
        try:
            port = address.rpartition(":")[2]
            master = ["master.Master", "--host", "127.0.0.1", "--port", port, "--webui-port", "0"]
            running.append(_start(folder, "master", master, env))
            found_gpus = _discovery(folder, gpus) if gpus else []
            for k in range(workers):
                work = ["worker.Worker", "--host", "127.0.0.1", "--cores", str(cores), "--memory", memory, "--webui-port", "0", *found_gpus]
                running.append(_start(folder, f"worker-{k}", [*work, "--work-dir", str(folder / f"work-{k}"), address], env))
            found = Cluster(address, tuple(p.pid for p in running[1:]), folder)
            _registered(found, running)
            yield found
        finally:
            for process in running:
                stop(process)


def submit(
    master: str, code: Path, argv: Sequence[str], folder: Path, env: Mapping[str, str] | None = None, conf: Mapping[str, str] | None = None,
    main: str = "",
) -> "Submitted":  # fmt: skip
    """``spark-submit --py-files code submit_main.py *argv``, from an empty folder made in ``folder``: nothing of the
    project can be imported but what is in ``code``.  ``main`` is another program than that of ``submit_main.py``."""
    here = Path(tempfile.mkdtemp(prefix="submit-", dir=folder))
    (here / "submit_main.py").write_text(main or Path(submit_main.__file__).read_text())
    (here / "empty").mkdir()
    settings = {"spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1"}
    settings |= {f"spark.{who}.extraJavaOptions": JVM for who in ("driver", "executor")} | dict(conf or {})
    command = [str(BIN / "spark-submit"), "--master", master, "--py-files", str(code.absolute())]
    command += [part for key, value in settings.items() for part in ("--conf", f"{key}={value}")]
    return Submitted([*command, str(here / "submit_main.py"), *map(str, argv)], here / "empty", _environment(env), here / "log")


class Submitted(subprocess.Popen):
    """A job under way; what it prints is in the file ``log``."""

    def __init__(self, command: list[str], folder: Path, env: dict[str, str], log: Path):
        self.log = log
        with log.open("w") as out:
            super().__init__(
                command, cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")


def stop(process: subprocess.Popen) -> None:
    """Kill a process that leads a session, and all that it has started (Python workers have process groups of their own)."""
    while pids := {p.pid for p in processes() if p.session == process.pid}:  # again for what was just being started
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.poll()
        time.sleep(0.02)
    process.kill()
    process.wait()


def processes() -> list[Process]:
    """Those of this machine that run, as /proc lists them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, _group, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError):
            continue  # it has ended
        if state not in "ZX":  # those have ended, and nobody has asked how
            found.append(Process(int(entry.name), int(parent), int(session), command))
    return found


def _environment(more: Mapping[str, str] | None) -> dict[str, str]:
    """This environment, less what would make the project importable or name another master."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ARCMILL_MASTER", "SPARK_HOME") and not k.startswith("PYSPARK_")}
    return kept | {"PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_DAEMON_MEMORY": "256m"} | dict(more or {})


def _start(folder: Path, name: str, command: list[str], env: Mapping[str, str] | None) -> subprocess.Popen:
    made = _environment(env) | {"SPARK_DAEMON_JAVA_OPTS": JVM, "SPARK_NO_DAEMONIZE": "1"}
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [str(BIN / "spark-class"), f"{DEPLOY}.{command[0]}", *command[1:]],
            cwd=folder, env=made, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def _discovery(folder: Path, gpus: Sequence[str]) -> list[str]:
    """A worker's flags that have it report GPUs, by a script as EMR's machines have one."""
    script, settings = folder / "gpus.sh", folder / "gpus.conf"
    script.write_text(f"#!/bin/sh\necho '{json.dumps({'name': 'gpu', 'addresses': list(gpus)})}'\n")
    script.chmod(0o755)
    settings.write_text(f"spark.worker.resource.gpu.amount {len(gpus)}\nspark.worker.resource.gpu.discoveryScript {script}\n")
    return ["--properties-file", str(settings)]


def _registered(found: Cluster, running: list[subprocess.Popen]) -> None:
    until = time.monotonic() + UP_S
    while sum(REGISTERED in p.read_text() for p in found.folder.glob("worker-*.log")) < len(found.workers):
        if time.monotonic() > until or any(p.poll() is not None for p in running):
            raise RuntimeError(f"the cluster did not start\n{found.logs()}")
        time.sleep(0.1)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
