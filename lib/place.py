"""Where bytes lie: a folder of a disk or an S3 prefix, under one set of calls; the only obstore in ``lib``.

Names are relative to the place, with ``/``. What is not there is a ``FileNotFoundError``; a disk or server that fails is an
``Unreachable``, after the retries that S3 asks for (500, 503 SlowDown, dropped connections).  Nothing of S3 is renamed: a file
is put whole, or ``create``d, which at most one of several writers succeeds in (``If-None-Match``; locally a hard link).
"""

import io
import os
import re
import time
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa

from lib.errors import ConfigError, InputError, Unreachable

OPTIONS = ("region", "endpoint", "anonymous")  # of an address: s3://bucket/folder?region=eu-west-1
RETRIES = {
    "max_retries": 12, "retry_timeout": timedelta(minutes=3),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}  # fmt: skip
ATTEMPTS = 4  # at a read whose connection broke half-way through
BLOCK = 1 << 23  # most bytes of a file that one part of an upload holds


class File(NamedTuple):
    """A file of a place: its name, bytes, and what changes when it does."""

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class Place:
    """A folder, or a bucket's prefix.  Small and picklable: the connection is made where it is first used."""

    address: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self):
        return self.address

    def __truediv__(self, name: str) -> "Place":
        return Place(f"{self.address.rstrip('/')}/{name.strip('/')}", self.options)

    def __reduce__(self):
        return Place, (self.address, self.options)

    @property
    def local(self) -> Path | None:
        """The folder, or None in a bucket."""
        return None if self.address.startswith("s3://") else Path(self.address)

    @cached_property
    def _store(self):
        from obstore.store import LocalStore

        folder = self.local
        return LocalStore(folder, mkdir=True) if folder else _bucket(self.address, dict(self.options))

    def exists(self) -> bool:
        """Whether there is such a folder; a bucket's prefix is there if any file is."""
        return self.local.is_dir() if self.local else next(iter(self.files()), None) is not None

    def files(self, under: str = "") -> Iterable[File]:
        """Files under a folder of the place, at any depth, in no order."""
        import obstore

        if self.local and not (self.local / under).is_dir():
            return
        with _told(self, under):
            for batch in obstore.list(self._store, under.strip("/") or None):
                for f in batch:
                    yield File(f["path"], f["size"], f"{f['e_tag']}")

    def head(self, name: str) -> File:
        import obstore

        with _told(self, name):
            f = obstore.head(self._store, name)
        return File(f["path"], f["size"], f"{f['e_tag']}")

    def has(self, name: str) -> bool:
        try:
            self.head(name)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        import obstore

        return _again(self, name, lambda: bytes(obstore.get(self._store, name).bytes()))

    def start(self, name: str, most: int) -> tuple[memoryview, int]:
        """The first bytes of a file, at most so many, and how many it has, in one request."""
        if self.local:
            with _told(self, name):
                (found,) = _pieces(self.local / name, [0], [most])
                return found, (self.local / name).stat().st_size
        import obstore
        from obstore.exceptions import BaseError

        def ask():
            try:
                found = obstore.get(self._store, name, options={"range": (0, most)})
            except BaseError:
                if obstore.head(self._store, name)["size"]:
                    raise
                return memoryview(b""), 0  # an empty file has no first byte: servers say that the range is wrong
            return memoryview(found.bytes()), found.meta["size"]

        return _again(self, name, ask)

    def ranges(self, name: str, starts: list[int], ends: list[int], gap: int = 1 << 20) -> list[memoryview]:
        """Bytes [start, end) of a file, each; ranges of a bucket that are less than ``gap`` bytes apart travel in one request."""
        if self.local:
            with _told(self, name):
                return _pieces(self.local / name, starts, ends)
        import obstore

        if not starts:
            return []

        def ask():
            return [memoryview(b) for b in obstore.get_ranges(self._store, name, starts=starts, ends=ends, coalesce=gap)]

        return _again(self, name, ask)

    def open(self, name: str) -> pa.NativeFile:
        """A file to read here and there, as pyarrow does."""
        if self.local:
            return pa.OSFile(str(self.local / name))
        return pa.PythonFile(_Reader(self, name, self.head(name).size), mode="r")

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole; readers see the old one or the new one."""
        import obstore

        with _told(self, name):
            obstore.put(self._store, name, content, use_multipart=False)

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one; False, and nothing is changed, if there is another."""
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with _told(self, name):
            try:
                obstore.put(self._store, name, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return self.read(name) == content  # our own, if the answer to a first attempt was lost
        return True

    def upload(self, file: Path, name: str) -> None:
        """Move a finished file of this machine's disk to the place."""
        import obstore

        with _told(self, name):
            if self.local:
                target = self.local / name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
            else:
                with open(file, "rb") as content:
                    obstore.put(self._store, name, content, chunk_size=BLOCK)
                file.unlink()

    def delete(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are no error. Empty folders of a disk go with their last file."""
        import obstore

        for name in names:
            try:
                with _told(self, name):
                    obstore.delete(self._store, name)
            except FileNotFoundError:
                pass
            if self.local:
                _prune(self.local / name, self.local)


def _pieces(path: Path, starts: list[int], ends: list[int]) -> list[memoryview]:
    """Ranges of a local file, shorter where it ends: a system call each, a tenth of what the store's threads cost."""
    try:
        with open(path, "rb", buffering=0) as file:
            return [memoryview(os.pread(file.fileno(), end - start, start)) for start, end in zip(starts, ends, strict=True)]
    except NotADirectoryError as error:
        raise FileNotFoundError from error


def _prune(path: Path, top: Path) -> None:
    for folder in path.parents:
        if folder == top or top not in folder.parents:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def at(address: str | Path) -> Place:
    """The place of a path, a ``file:`` or an ``s3:`` address; options of a bucket: ``?region=``, ``endpoint=``, ``anonymous=true``.

    Credentials are those of the AWS environment, profile or instance role, never of the address.

    >>> at("s3://bucket/sky/?region=eu-west-1"), str(at("/data/sky/") / "coadd")
    (Place(address='s3://bucket/sky', options=(('region', 'eu-west-1'),)), '/data/sky/coadd')
    """
    text = str(address)
    scheme = urlsplit(text).scheme if re.match(r"[a-z0-9]+://", text) else ""
    if scheme in ("", "file") or text.startswith("file:"):
        return Place(str(Path(re.sub(r"^file:(//)?", "", text)).absolute()))
    if scheme not in ("s3", "s3a"):
        raise ConfigError(f"{text}: a folder, a file: or an s3: address, please")
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ConfigError(f"s3://{parts.hostname}: no user or password in an address, please: it is kept in the table of runs")
    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise ConfigError(f"s3://{parts.netloc}: unknown option {', '.join(unknown)}; known: {', '.join(OPTIONS)}")
    return Place(f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/"), tuple(sorted(options.items())))


def _bucket(address: str, options: dict[str, str]):
    from obstore.store import S3Store

    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region:
        region = "us-east-1" if endpoint else _region(bucket)
    given: dict = {"region": region}
    if endpoint:
        given |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if options.get("anonymous") == "true":
        given["skip_signature"] = True
    elif "AWS_ACCESS_KEY_ID" not in os.environ:
        given["credential_provider"] = _profile()
    client = {
        "allow_http": bool(endpoint and endpoint.startswith("http://")),
        "timeout": timedelta(minutes=5),
        "connect_timeout": timedelta(seconds=10),
    }
    made = {k: v for k, v in given.items() if v is not None}
    return S3Store(bucket, prefix=prefix or None, client_options=client, retry_config=RETRIES, **made)


def _profile():
    """Credentials of an AWS profile; None where there is none: an instance role then."""
    if not (
        os.environ.get("AWS_PROFILE") or (Path.home() / ".aws" / "credentials").is_file() or (Path.home() / ".aws" / "config").is_file()
    ):
        return None
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    session = boto3.Session()
    return Boto3CredentialProvider(session) if session.get_credentials() else None


def _region(bucket: str) -> str:
    from pyarrow import fs

    try:
        return fs.resolve_s3_region(bucket)
    except OSError as error:
        raise InputError(f"cannot find the region of s3://{bucket}, give it with ?region=: {error}") from error


@contextmanager
def _told(place: Place, name: str):
    """The errors of disks and servers as ours, with the file's name."""
    from obstore.exceptions import BaseError

    where = f"{place}/{name}".rstrip("/")
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"no such file: {where}") from None
    except (OSError, BaseError) as error:
        said = str(error).split("\n\nDebug source:")[0]
        if "os error 20)" in said:  # a folder's name is a file's
            raise FileNotFoundError(f"no such file: {where}") from None
        raise Unreachable(f"{where}: {said}") from error


def _again(place: Place, name: str, call):
    """What a read gives; one that broke half-way is tried again."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _told(place, name):
                return call()
        except Unreachable:
            if place.local or attempt == ATTEMPTS:
                raise
            time.sleep(0.2 * 2**attempt)


class _Reader(io.RawIOBase):
    """A file of a bucket as pyarrow reads it: one request a read."""

    def __init__(self, place: Place, name: str, size: int):
        self.place, self.name_, self.size, self.at = place, name, size, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, offset, whence=io.SEEK_SET):
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.size}[whence]
        return self.at

    def tell(self):
        return self.at

    def read(self, size=-1):
        end = self.size if size is None or size < 0 else min(self.size, self.at + size)
        if end <= self.at:
            return b""
        (found,) = self.place.ranges(self.name_, [self.at], [end])
        self.at = end
        return bytes(found)
