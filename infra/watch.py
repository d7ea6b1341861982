"""A run under way: started, looked at, stopped, removed, whichever way it goes to EMR."""

import gzip
import re
import sys
import time
from typing import Any

from infra import dag, ec2, serverless
from infra.aws import Asked, State, until
from infra.cluster import Cluster
from lib.errors import ConfigError, InputError
from lib.place import Place

EVERY_S = 20.0
FAILED = ("FAILED", "CANCELLED", "INTERRUPTED", "TERMINATED_WITH_ERRORS")
DONE = ("COMPLETED", "SUCCESS")
WAITING = ("PENDING", "SUBMITTED", "SCHEDULED", "QUEUED")
ENDED = ("TERMINATED", "TERMINATED_WITH_ERRORS")
LINES = 60  # of a log
DRIVER = re.compile(r"/container_(e\d+_)?\d+_\d+_\d+_000001/")  # YARN's first container of an attempt


def way(cluster: Cluster) -> Any:
    """The module that knows this way to EMR: ``submit``, ``latest``, ``status``, ``cancel``, ``end``, ``log_folder``, ``driver_folders``, ``there``."""
    return ec2 if cluster.mode == "ec2" else serverless


def requests(asked: Asked) -> list[dict]:
    """Everything that EMR would be asked for."""
    if asked.cluster.mode == "ec2":
        return [ec2.request(asked)]
    made = [serverless.job_run(asked, "APPLICATION", step) for step in dag.steps(asked.where)]
    return [serverless.application(asked), *made]


def submit(asked: Asked, wait: bool = True) -> int:
    """Start it, or find it; stay until it is over if told so."""
    found = way(asked.cluster).submit(asked)
    say(f"{asked.name}: {found}")
    told: dict[str, str] = {}
    while True:
        states = way(asked.cluster).status(found)
        for s in states:
            if told.get(s.step) != s.state:
                told[s.step] = s.state
                say(line(s))
        mine = [s for s in states[1:] if asked.cluster.mode == "ec2" or s.step.endswith(asked.digest)]
        if any(s.state in FAILED for s in (states[0], *mine)):
            return 1
        if len(mine) == len(dag.steps(asked.where)) and all(s.state in DONE for s in mine):
            return 0
        if not wait:
            return 0
        if states[0].state in ENDED:
            say(f"{found} ended before its steps were done: {states[0].reason}")
            return 1
        if asked.cluster.mode == "serverless":
            serverless.go_on(asked, found)
        time.sleep(EVERY_S)


def line(s: State) -> str:
    return f"  {s.step:40} {s.state:24} {s.id}" + (f"\n    {s.reason}" if s.reason else "")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _found(cluster: Cluster, where: dag.Where) -> str:
    found = way(cluster).latest(cluster, where)
    if not found:
        raise InputError(f"there is no run of {where.tier or where.recipe}, data set {where.dataset}, on cluster {cluster.name} in this "
                         "region: is the --root the same, and the --cluster?")  # fmt: skip
    return found


def status(cluster: Cluster, where: dag.Where) -> int:
    states = way(cluster).status(_found(cluster, where))
    print("\n".join(map(line, states)))
    return 1 if any(s.state in FAILED for s in states) else 0


def logs(cluster: Cluster, where: dag.Where, place: Place, step: str) -> int:
    """Print the end of each log of a step."""
    found = _found(cluster, where)
    steps = [s for s in way(cluster).status(found)[1:] if s.step.startswith(step)]
    if not steps:
        raise InputError(f"{found} has no step {step!r}; it has {', '.join(s.step for s in way(cluster).status(found)[1:]) or 'none yet'}")
    begun = [s for s in steps if s.state not in WAITING]
    one = next((s for s in steps if s.state in FAILED), (begun or steps)[-1])
    read = _logs(place, way(cluster).log_folder(found, one))
    if not read:
        raise InputError(f"{place} has no log of {one.step} yet: EMR puts them there some minutes later")
    for folder in way(cluster).driver_folders(found, "\n".join(read.values())):
        drivers = _logs(place, folder, DRIVER)
        if not drivers:
            say(f"{place}/{folder} has no log of the driver yet: EMR puts it there some minutes later")
        read |= drivers
    for name, text in read.items():
        print(f"== {name}", *text.splitlines()[-LINES:], sep="\n")
    return 0


def _logs(place: Place, folder: str, of: re.Pattern = re.compile("")) -> dict[str, str]:
    """Text of the logs under a folder, by name."""
    names = [f.name for f in place.files(folder) if of.search(f.name) and f.name.rpartition("/")[2].startswith(("stderr", "stdout"))]
    return {n: (gzip.decompress(place.read(n)) if n.endswith(".gz") else place.read(n)).decode(errors="replace") for n in names}


def cancel(cluster: Cluster, where: dag.Where) -> int:
    stopped = way(cluster).cancel(_found(cluster, where))
    say(f"stopped: {', '.join(stopped) or 'nothing was under way'}")
    return 0


def teardown(cluster: Cluster, where: dag.Where, with_stack: bool = False) -> None:
    """Remove what the run started; before the stack goes, nothing of any run may be there."""
    found = way(cluster).latest(cluster, where) if with_stack else _found(cluster, where)
    if with_stack and (others := [f"{name} ({key})" for key, name in ec2.there() + serverless.there() if key != found]):
        raise ConfigError(f"other runs stand on the stack: {', '.join(others)}; tear them down first (a cluster that is ending: wait)")
    if found in dict(way(cluster).there()):
        way(cluster).end(found)
        if with_stack:  # the roles are needed until the last machine is gone
            until(lambda: found not in dict(way(cluster).there()), f"{found} to end")
        say(f"removed: {found}")
    else:
        say(f"removed before: {found}" if found else "there is no such run")
