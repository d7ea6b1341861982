"""Survey roots: the public layout in a folder, on a web server or in an S3 bucket, read by paths relative to it.

``read`` gives the bytes of a file, ``names`` what a folder holds, ``reach`` says at once if the root cannot be reached at all.
What goes wrong is ``Absent`` (it is not there), ``Refused`` (asking again will not help) or ``Interrupted`` (it may).
"""

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import Request, urlopen

from lib import __version__, place, store
from lib.errors import ConfigError, Denied, InputError, Unreachable
from lib.place import Place

AGENT = f"arcmill/{__version__} (copies of survey bricks)"
CHUNK = 1 << 22
LONGEST_S = 1800.0  # for one file: a server that sends a byte now and then keeps every socket's timeout
NOT_THERE = (404, 410)
TRY_AGAIN = (408, 425, 429, 500, 502, 503, 504)


class RootError(Exception):
    """Why a file of a survey root could not be had."""


class Absent(RootError):
    """The root does not have it."""


class Refused(RootError):
    """It cannot be had, and asking again will not help."""


class Interrupted(RootError):
    """It may be had by asking again, ``wait_s`` from now at the earliest."""

    def __init__(self, message: str, wait_s: float = 0.0):
        super().__init__(message)
        self.wait_s = wait_s


@contextmanager
def _told():
    """The errors of files, sockets and servers as those of a root."""
    try:
        yield
    except HTTPError as error:
        error.close()
        raise _answered(error) from None
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise Absent("no such file") from error
    except PermissionError as error:
        raise Refused("permission denied") from error
    except Denied as error:
        raise Refused(str(error)) from error
    except (Unreachable, InputError) as error:  # or it has changed while it was read
        raise Interrupted(str(error)) from error
    except (OSError, HTTPException) as error:
        raise Interrupted(f"{type(error).__name__}: {error}") from error


def _answered(error: HTTPError) -> RootError:
    said = f"HTTP {error.code} {error.reason}".strip()
    if error.code in NOT_THERE:
        return Absent(said)
    return Interrupted(said, retry_after(error.headers.get("Retry-After"))) if error.code in TRY_AGAIN else Refused(said)


@dataclass(frozen=True)
class Folder:
    path: Path

    def __str__(self):
        return str(self.path)

    def reach(self) -> None:
        if not self.path.is_dir():
            raise InputError(f"no such survey folder: {self.path}")

    def read(self, name: str) -> Generator[bytes]:
        with _told(), open(self.path / name, "rb") as file:
            yield from iter(partial(file.read, CHUNK), b"")

    def names(self, folder: str) -> list[str]:
        with _told():
            return sorted(p.name for p in (self.path / folder).iterdir())


@dataclass(frozen=True)
class Web:
    url: str
    timeout_s: float

    def __str__(self):
        return self.url

    def reach(self) -> None:
        try:
            self._open("").close()
        except (Absent, Refused):
            pass  # a server that lists no folders still has files
        except Interrupted as error:
            if not str(error).startswith("HTTP"):
                raise InputError(f"cannot reach {self}: {error}") from error

    def _open(self, name: str):
        request = Request(f"{self.url}/{quote(name)}", headers={"User-Agent": AGENT})
        with _told():
            return urlopen(request, timeout=self.timeout_s)

    def read(self, name: str) -> Generator[bytes]:
        end = time.monotonic() + LONGEST_S
        with self._open(name) as answer, _told():
            size, got = answer.length, 0
            while chunk := answer.read1(CHUNK):
                got += len(chunk)
                yield chunk
                if time.monotonic() > end:
                    raise Interrupted(f"{got} bytes in {LONGEST_S:.0f} s, too slow")
            if size is not None and got != size:
                raise Interrupted(f"{got} of {size} bytes came")

    def names(self, folder: str) -> list[str]:
        """What the folder's page links to."""
        page = b"".join(self.read(f"{folder}/")).decode(errors="replace")
        links = (unquote(link).rstrip("/") for link in re.findall(r'href="([^"?#]+)"', page))
        return sorted({link.rsplit("/", 1)[-1] for link in links} - {"", ".", ".."})


@dataclass(frozen=True)
class Bucket:
    """A prefix of an S3 bucket; who copies from it tries again by itself, so the place does not."""

    place: Place

    def __str__(self):
        return str(self.place)

    def reach(self) -> None:
        try:
            self.place.names()
        except Unreachable as error:
            raise InputError(f"cannot reach {self}: {error}") from error
        except (FileNotFoundError, Denied):
            pass  # one may read a bucket that one may not list

    def read(self, name: str) -> Generator[bytes]:
        with _told():
            yield from self.place.chunks(name)

    def names(self, folder: str) -> list[str]:
        with _told():
            return self.place.names(folder)


Root = Folder | Web | Bucket


def at(address: str, timeout_s: float = 60.0) -> Root:
    """The survey root of a path, a ``file:``, ``http(s):`` or ``s3:`` address; one that holds a secret is refused."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https", "s3", "s3a"):
        return Folder(store.local(address))
    if parts.scheme.startswith("s3"):
        return Bucket(place.at(address, place.Patience(retry_s=timeout_s, silent_s=timeout_s, attempts=1)))
    if "@" in parts.netloc:
        raise ConfigError(f"{parts.scheme}://{parts.hostname}: {place.SECRET}")
    if not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{parts.scheme}://{parts.netloc}: a survey root is http(s)://host/folder, with no ? or #")
    return Web(address.rstrip("/"), timeout_s)


def retry_after(text: str | None) -> float:
    """Seconds to wait that a Retry-After header, a number or a date, asks for.

    >>> retry_after("120"), retry_after(None), retry_after("Wed, 21 Oct 2015 07:28:00 GMT")
    (120.0, 0.0, 0.0)
    """
    if not text:
        return 0.0
    if text.strip().isdigit():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
