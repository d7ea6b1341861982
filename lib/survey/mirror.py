"""Copies of a brick's files from one survey root in another: fetched, checked, tried again, renamed into place.

A file is written as ``name.part`` and renamed when it has passed ``integrity.check``; one that is there already and passes
is not fetched.  Every file gives a row, whatever happened.
"""

import hashlib
import os
import random
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lib.survey import bricks, integrity
from lib.survey.roots import Absent, Interrupted, Refused, Root, RootError

COPIED, PRESENT, ABSENT, MISSING, FAILED = "copied", "present", "absent", "missing", "failed"
MEANING = {
    COPIED: "fetched, checked and in its place",
    PRESENT: "whole already, not fetched",
    ABSENT: "optional files, which the survey lacks (PSFs, masks, checksums)",
    MISSING: "needed files, which the survey lacks",
    FAILED: "not to be had, whatever was tried",
}
LONGEST_PAUSE_S, LONGEST_WAIT_S = 60.0, 3600.0  # of our own accord, and when the server asks for it


@dataclass(frozen=True)
class Tries:
    """How often a file is asked for, and the pause after the first failure; it doubles with each."""

    attempts: int = 5
    backoff_s: float = 1.0

    def pause_s(self, attempt: int, asked_s: float) -> float:
        """Half of it or more by chance, so that those who failed together do not come back together."""
        own = min(self.backoff_s * 2.0 ** (attempt - 1), LONGEST_PAUSE_S) * random.uniform(0.5, 1.0)
        return max(own, min(asked_s, LONGEST_WAIT_S))


def brick(root: Root, name: str, wanted: list[tuple[str, str, bool]], target: Path, tries: Tries) -> list[dict]:
    """Copy one brick: a CACHE row for each file (kind, band, needed) of ``wanted`` and each list of checksums."""
    sums, rows = checksums(root, str(bricks.path(Path(), name, "image").parent), target, tries)
    for kind, band, needed in wanted:
        file = bricks.path(Path(), name, kind, band)
        rows.append(copy(root, str(file), target, tries, needed, sums.get(file.name)))
    return [{"brickname": name} | row for row in rows]


def checksums(root: Root, folder: str, target: Path, tries: Tries) -> tuple[dict[str, str], list[dict]]:
    """(file name -> sha256 that the survey publishes in a folder, a row for each list that it has, or one that says it has none)."""
    names = sorted(p.name for p in (target / folder).glob(f"*{integrity.LIST}"))
    if not names:
        row = _row(f"{folder}/*{integrity.LIST}", needed=False)
        began = time.monotonic()
        try:
            names = [n for n in _again(lambda: root.names(folder), tries, row) if n.endswith(integrity.LIST)]
            row["status"] = ABSENT
        except (Absent, Refused) as error:
            row |= {"status": ABSENT, "error": f"the folder is not listed: {error}"}
        except RootError as error:
            row |= {"status": FAILED, "error": f"the folder is not listed: {error}"}
        if not names:
            return {}, [row | {"seconds": time.monotonic() - began}]
    rows = [copy(root, f"{folder}/{name}", target, tries, needed=False) for name in names]
    found: dict[str, str] = {}
    for row in rows:
        if row["status"] in (COPIED, PRESENT):
            found |= integrity.published(target / row["file"])
    return found, rows


def copy(root: Root, file: str, target: Path, tries: Tries, needed: bool = True, wanted: str | None = None) -> dict:
    """Copy one file, of sha256 ``wanted`` if that is known; its CACHE row, less the brick."""
    path, row, began = target / file, _row(file, needed), time.monotonic()
    try:
        row |= _present(path, wanted, row) or _again(lambda: _fetch(root, file, path, wanted), tries, row)
    except Absent as error:
        row |= {"status": MISSING if needed else ABSENT, "error": str(error)}
    except RootError as error:
        row |= {"status": FAILED, "error": str(error)}
    return row | {"seconds": time.monotonic() - began}


def _row(file: str, needed: bool) -> dict:
    return {"file": file, "needed": needed, "bytes": None, "sha256": None, "check": None, "attempts": 0, "error": None}


def _again(step, tries: Tries, row: dict):
    """What ``step`` gives, tried again while it is interrupted; attempts and the last fault go to ``row``."""
    while True:
        row["attempts"] += 1
        try:
            return step()
        except Interrupted as error:
            row["error"] = str(error)
            if row["attempts"] >= tries.attempts:
                raise
            time.sleep(tries.pause_s(row["attempts"], error.wait_s))


def _present(path: Path, wanted: str | None, row: dict) -> dict | None:
    """What is told of a copy that is there and whole; one that is damaged is set aside, not removed: it may be somebody's own."""
    if not path.is_file():
        return None
    digest = integrity.sha256(path)
    try:
        held = integrity.check(path, path.name, digest, wanted)
    except integrity.Damaged as error:
        row["error"] = f"the copy that was there, now *.damaged: {error}"
        os.replace(path, path.with_name(f"{path.name}.damaged"))
        return None
    return {"status": PRESENT, "bytes": path.stat().st_size, "sha256": digest, "check": held}


def _fetch(root: Root, file: str, path: Path, wanted: str | None) -> dict:
    """Faults of the root are a ``RootError``; those of our own disk go on up, and stop the job."""
    part, digest, size = path.with_name(f"{path.name}.part"), hashlib.sha256(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(root.read(file)) as chunks, open(part, "wb") as out:
            for chunk in chunks:
                out.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        held = integrity.check(part, path.name, digest.hexdigest(), wanted)
        os.replace(part, path)
    except integrity.Damaged as error:
        raise Interrupted(str(error)) from error
    finally:
        part.unlink(missing_ok=True)
    return {"status": COPIED, "bytes": size, "sha256": digest.hexdigest(), "check": held}
