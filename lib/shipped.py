"""What this process was shipped, by hash: the code's zip and the environment's archive.  In a checkout there is neither."""

import hashlib
import sys
from functools import cache
from pathlib import Path

import lib

MARK = "arcmill-environment"  # a file of the archive: the hash of all others


@cache
def hashes() -> dict[str, str]:
    """``code_sha256`` of the zip that ``lib`` comes from, ``environment_sha256`` of what this Python's packages come from; those there are."""
    found, mark = {}, Path(sys.prefix) / MARK
    code = getattr(lib.__loader__, "archive", None)  # of a zip importer
    if code:
        found["code_sha256"] = hashlib.sha256(Path(code).read_bytes()).hexdigest()
    if mark.is_file():
        found["environment_sha256"] = mark.read_text().strip()
    return found
