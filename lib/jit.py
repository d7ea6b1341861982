"""Compiled loops, and where their machine code is kept.

numba keys its cache by the file a loop stands in, not by the files it calls: a change of ``sersic.py`` would leave ``render.py``'s
old code in use.  So the folder is named after all of ``lib``'s sources: another code, another folder.  Processes of one machine
share it, so one of them compiles and the others load.  ``NUMBA_CACHE_DIR`` in the environment wins.
"""

import functools
import hashlib
import os
import stat
import tempfile
import zipfile
from pathlib import Path

import numba


def _sources() -> bytes:
    """The bytes of lib's modules, the same from the checkout and from the zip that Spark ships."""
    here = Path(__file__).parent
    if here.is_dir():
        files = {p.relative_to(here).as_posix(): p.read_bytes() for p in here.rglob("*.py") if "__pycache__" not in p.parts}
    else:
        with zipfile.ZipFile(next(p for p in here.parents if zipfile.is_zipfile(p))) as archive:
            files = {n.removeprefix("lib/"): archive.read(n) for n in archive.namelist() if n.startswith("lib/") and n.endswith(".py")}
    return b"".join(files[name] for name in sorted(files))


def _folder() -> str:
    """A folder of this user's alone: numba's index files are pickles, and whoever can write them can run code."""
    digest = hashlib.blake2b(_sources(), digest_size=8).hexdigest()
    mine = Path(tempfile.gettempdir()) / f"arcmill-{os.getuid()}"
    mine.mkdir(mode=0o700, exist_ok=True)
    found = mine.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        mine = Path(tempfile.mkdtemp(prefix="arcmill-"))
    return str(mine / digest)


class Locator:
    """Where numba keeps what it compiled from lib, be that a folder or the zip that Spark ships, which numba's own locators put in HOME."""

    def __init__(self, function):
        self._function = function

    @classmethod
    def from_function(cls, function, _file):
        ours = function.__module__.startswith(f"{__package__}.") and "NUMBA_CACHE_DIR" not in os.environ
        return cls(function) if ours else None

    def ensure_cache_path(self) -> None:
        Path(self.get_cache_path()).mkdir(mode=0o700, parents=True, exist_ok=True)

    def get_cache_path(self) -> str:
        return FOLDER

    def get_source_stamp(self) -> str:
        return Path(FOLDER).name

    def get_disambiguator(self) -> str:
        return f"{self._function.__module__}-{self._function.__code__.co_firstlineno}"


FOLDER = _folder()
NUMBAS = "UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator,IPythonCacheLocator,ZipCacheLocator"  # for other code
numba.config.CACHE_LOCATOR_CLASSES = f"{__name__}.Locator,{NUMBAS}"  # type: ignore[attr-defined]

entry = functools.partial(numba.njit, cache=True, error_model="numpy")
"""A loop that Python calls: kept on disk, with all its parts in it."""

plain = functools.partial(numba.njit, error_model="numpy", forceinline=True)
"""A part of a loop, always inlined.

A part that stayed a function would be compiled twice, alone and within its caller; the process that compiles would run the one, processes that load
from disk the other, and they differ in the last bits.
"""

simd = functools.partial(numba.njit, fastmath=True, error_model="numpy", forceinline=True)
"""A part that may be reordered into vector code: for finite numbers only."""

vectorize = functools.partial(numba.guvectorize, cache=True)
