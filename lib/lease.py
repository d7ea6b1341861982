"""One writer at a time, on a disk or in a bucket: a lease that ends with its holder, however that dies.

The lease is the highest numbered file of a folder. It is made by a conditional create, so of several that want it one gets
it; its holder writes it anew every ``BEAT_S``.  A holder is dead when its process is gone (seen from the same machine) or has
been silent for ``DEAD_S``; then the next number is up for taking.  One that wakes up after that finds that it has lost.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from lib.errors import OutputError, Unreachable
from lib.place import Place

BEAT_S, DEAD_S = 10.0, 60.0


@dataclass
class Lease:
    """Held until ``free``; ``require`` raises once another has taken it."""

    place: Place
    folder: str
    number: int
    holder: dict
    lost: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        return f"{self.folder}/{self.number:08d}.json"

    def require(self) -> None:
        if self.lost:
            raise OutputError(f"{self.place}: another run took over while this one was silent: {_told(_last(self.place, self.folder)[1])}")

    def beat(self) -> None:
        """Show that we live, every now and then; our own thread."""
        while not self._stop.wait(BEAT_S):
            try:
                number, now = _last(self.place, self.folder)
                if number != self.number or now.get("token") != self.holder["token"]:
                    self.lost = True
                    return
                self.place.put(self.name, _bytes(self.holder | {"beat": time.time()}))
            except Unreachable:
                continue  # silent for now; if for long, somebody else may take over

    def free(self) -> None:
        self._stop.set()
        if not self.lost:
            self.place.put(self.name, _bytes({"free": True}))


@contextmanager
def held(place: Place, folder: str, what: str) -> Iterator[Lease]:
    """Hold ``folder`` of a place for one writer; a second one is refused, and told who is first."""
    number, first = _last(place, folder)
    if number and not first.get("free") and _alive(first):
        raise OutputError(f"{place} is being written by {_told(first)}: wait for it, or stop it")
    holder = _me() | {"what": what, "beat": time.time()}
    mine = Lease(place, folder, number + 1, holder)
    if not place.create(mine.name, _bytes(holder)):
        raise OutputError(f"{place} is being written by {_told(_last(place, folder)[1])}: wait for it, or stop it")
    place.delete([f.name for f in place.files(folder) if f.name < mine.name])
    thread = threading.Thread(target=mine.beat, daemon=True)
    thread.start()
    try:
        yield mine
    finally:
        mine.free()
        thread.join(timeout=BEAT_S)


def _last(place: Place, folder: str) -> tuple[int, dict]:
    """(number, content) of the highest lease; (0, {}) if there never was one."""
    names = sorted(f.name for f in place.files(folder) if f.name.endswith(".json"))
    if not names:
        return 0, {}
    try:
        return int(Path(names[-1]).stem), json.loads(place.read(names[-1]))
    except (FileNotFoundError, ValueError):  # taken over this moment
        return int(Path(names[-1]).stem), {}


def _alive(holder: dict) -> bool:
    here = _me()
    if all(holder.get(k) == here[k] for k in ("host", "boot")):
        return _started(holder["pid"]) == holder["pid_started"]
    return time.time() - holder.get("beat", time.time()) < DEAD_S


def _told(holder: dict) -> str:
    if not holder:
        return "another process"
    return f"{holder['what']} (process {holder['pid']} on {holder['host']}, last seen {max(0.0, time.time() - holder['beat']):.0f} s ago)"


def _me() -> dict:
    return {
        "host": socket.gethostname(),
        "boot": _boot(),
        "pid": os.getpid(),
        "pid_started": _started(os.getpid()),
        "token": os.urandom(8).hex(),
    }


@cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process was started, in the kernel's words; '' if there is none (or it is a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self").exists():
        return ""
    try:  # no /proc: that it lives must do
        os.kill(pid, 0)
    except OSError:
        return ""
    return "alive"


def _bytes(value: dict) -> bytes:
    return json.dumps(value).encode()
