"""Where bytes lie: a folder of a disk or an S3 prefix, under one set of calls; the only obstore in ``lib``.

Names are relative to the place, with ``/``. What is not there is a ``FileNotFoundError``, what one may not do ``Denied``; a disk
or server that fails is an ``Unreachable``, after the retries that S3 asks for (500, 503 SlowDown, dropped connections).  Nothing
of S3 is renamed: a file is put whole, or ``create``d, which one of several writers succeeds in (``If-None-Match``; locally a link).
"""

import errno
import io
import os
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyarrow as pa

from lib.errors import ConfigError, Denied, InputError, Unreachable

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import LocalStore, S3Store

T = TypeVar("T")
OPTIONS = ("region", "endpoint", "anonymous")  # of an address: s3://bucket/folder?region=eu-west-1
BLOCK = 1 << 23  # most bytes of a file that travel at once
DELETED = 1000  # files of a bucket at once, S3's most
PARTS = 4  # of one upload that are on their way at once
LONGEST_S = 1800.0  # for one request: a server that sends a byte now and then is never silent
SECRET = "no user or password in an address, please: it is kept in the table of runs"
PARTIAL = re.compile(r"#\d+$")  # how a local file that is being written ends


class Patience(NamedTuple):
    """With a server that fails: how long it is asked again, how long it may be silent, and how often a call is begun anew."""

    retry_s: float = 180.0
    silent_s: float = 60.0
    attempts: int = 5


PATIENCE = Patience()


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
    patience: Patience = PATIENCE

    def __str__(self):
        return self.address

    def __truediv__(self, name: str) -> "Place":
        return Place(f"{self.address.rstrip('/')}/{name.strip('/')}", self.options, self.patience)

    def __reduce__(self):
        return Place, (self.address, self.options, self.patience)

    @property
    def local(self) -> Path | None:
        """The folder, or None in a bucket."""
        return None if self.address.startswith("s3://") else Path(self.address)

    @cached_property
    def _store(self) -> "LocalStore | S3Store":
        from obstore.store import LocalStore

        folder = self.local
        return LocalStore(folder, mkdir=True) if folder else _bucket(self)

    @property
    def _there(self) -> "LocalStore | S3Store":
        """The store to read from: a folder that does not exist is not made."""
        if self.local and not self.local.is_dir():
            raise FileNotFoundError
        return self._store

    @cached_property
    def _once(self) -> "LocalStore | S3Store":
        """A store that never asks twice of its own accord."""
        return self._store if self.local else _bucket(self, retries=0)

    def url(self, name: str = "") -> str:
        """The address of the place or a file of it, with its options: what ``at`` and ``split`` take."""
        return f"{self}/{name}".rstrip("/") + (f"?{urlencode(self.options, safe=':/')}" if self.options else "")

    def exists(self) -> bool:
        """Whether there is such a folder; a bucket's prefix is there if any file is."""
        return self.local.is_dir() if self.local else next(iter(self.files()), None) is not None

    def files(self, under: str = "") -> Iterable[File]:
        """Files under a folder of the place, at any depth; from a bucket in the order of their names."""
        import obstore

        under = _key(self, under) if under.strip("/") else ""
        if self.local and not (self.local / under).is_dir():
            return
        last, fails = None, 0
        while True:
            try:
                with _told(self, under):
                    for batch in obstore.list(self._there, under or None, offset=last):
                        yield from (File(f["path"], f["size"], f"{f['e_tag']}") for f in batch if f["path"])  # "": an empty folder's mark
                        last = batch[-1]["path"] if len(batch) else last
                return
            except Unreachable:  # a list that broke half-way goes on after the last that came
                fails += 1
                if self.local or fails == self.patience.attempts:
                    raise
                _pause(fails)

    def names(self, under: str = "") -> list[str]:
        """What a folder holds, files and folders, sorted; nothing where there is none."""
        import obstore

        under = _key(self, under) if under.strip("/") else ""
        if self.local:
            with _told(self, under):
                folder = self.local / under
                return sorted(p.name for p in folder.iterdir() if not PARTIAL.search(p.name)) if folder.is_dir() else []
        found = _again(self, under, lambda: obstore.list_with_delimiter(self._store, under or None))
        return sorted({path.rpartition("/")[2] for path in (*found["common_prefixes"], *(f["path"] for f in found["objects"]))} - {""})

    def head(self, name: str) -> File:
        import obstore

        key = _key(self, name)
        f = _again(self, name, lambda: obstore.head(self._there, key))
        return File(f["path"], f["size"], f"{f['e_tag']}")

    def has(self, name: str) -> bool:
        try:
            self.head(name)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> bytes:
        import obstore

        key = _key(self, name)
        return _again(self, name, lambda: bytes(obstore.get(self._there, key).bytes()))

    def chunks(self, name: str) -> Generator[bytes]:
        """A file from its first byte to its last, in pieces; one that changes meanwhile is an ``InputError``."""
        found = self.head(name)
        for start in range(0, found.size, BLOCK):
            piece = (start, min(start + BLOCK, found.size))
            yield _again(self, name, partial(self._piece, name, {"range": piece, "if_match": found.etag}))

    def _piece(self, name: str, which: "GetOptions") -> bytes:
        import obstore

        return bytes(obstore.get(self._there, _key(self, name), options=which).bytes())

    def start(self, name: str, most: int) -> tuple[memoryview, int]:
        """The first bytes of a file, at most so many, and how many it has, in one request."""
        if self.local:
            with _told(self, name):
                (found,) = _pieces(self.local / name, [0], [most])
                return found, (self.local / name).stat().st_size
        import obstore
        from obstore.exceptions import BaseError

        key = _key(self, name)

        def ask():
            try:
                found = obstore.get(self._store, key, options={"range": (0, most)})
            except BaseError:
                if obstore.head(self._store, key)["size"]:
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
        key = _key(self, name)

        def ask():
            return [memoryview(b) for b in obstore.get_ranges(self._store, key, starts=starts, ends=ends, coalesce=gap)]

        return _again(self, name, ask)

    def open(self, name: str) -> pa.NativeFile:
        """A file to read here and there, as pyarrow does."""
        if self.local:
            path = self.local / _key(self, name)
            with _told(self, name):
                if path.is_dir():
                    raise IsADirectoryError
                return pa.OSFile(str(path))
        return pa.PythonFile(_Reader(self, name, self.head(name).size), mode="r")

    def put(self, name: str, content: bytes) -> None:
        """Write a file whole; readers see the old one or the new one."""
        import obstore

        key = _key(self, name)
        _again(self, name, lambda: obstore.put(self._store, key, content, use_multipart=False))

    def create(self, name: str, content: bytes) -> bool:
        """Write a file unless there is one; False, and nothing is changed, if there is.

        Where an answer was lost the file that is there is compared: content that no other writer has tells whose it is.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        key, began, fails, unsure = _key(self, name), time.monotonic(), 0, False
        while True:
            try:
                with _told(self, name):
                    obstore.put(self._once, key, content, mode="create", use_multipart=False)
                return True
            except AlreadyExistsError:
                if self.local:
                    return False
                with suppress(FileNotFoundError):  # somebody has removed it meanwhile
                    if unsure:
                        return self.read(name) == content
                    self.head(name)
                    return False
            except Unreachable:
                unsure = True
                if self.local or time.monotonic() - began > self.patience.retry_s:
                    raise
            fails += 1
            _pause(fails)

    def upload(self, file: Path, name: str) -> None:
        """Move a finished file of this machine's disk to the place."""
        import obstore

        key = _key(self, name)
        if self.local:
            with _told(self, name):
                _move(file, self.local / key)
            return

        def send():
            with open(file, "rb") as content:
                obstore.put(self._store, key, content, chunk_size=BLOCK, max_concurrency=PARTS)

        _again(self, name, send)
        file.unlink()

    def delete(self, names: Iterable[str]) -> None:
        """Remove files; those that are not there are no error. Empty folders of a disk go with their last file."""
        import obstore

        keys = [_key(self, name) for name in names]
        if not self.local:
            for k in range(0, len(keys), DELETED):
                _again(self, keys[k], lambda k=k: obstore.delete(self._store, keys[k : k + DELETED]))  # type: ignore[misc]
            return
        for key in keys:
            with suppress(FileNotFoundError), _told(self, key):
                obstore.delete(self._there, key)
            _prune(self.local / key, self.local)


def _key(place: Place, name: str) -> str:
    """A file's name as all places can keep it; one that some could not is refused."""
    key = name.strip("/")
    if any(part in ("", ".", "..") for part in key.split("/")) or not key.isprintable() or "\\" in key or PARTIAL.search(key):
        raise InputError(
            f"{place}: {name!r} cannot be a file's name: no empty part, . or .., no control character or \\, no # and number last"
        )
    return key


def _move(file: Path, target: Path) -> None:
    """Readers see it whole or not at all, from another disk too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = target.with_name(f"{target.name}#{os.getpid()}")
        try:
            shutil.copyfile(file, part)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        file.unlink()


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


def at(address: str | Path, patience: Patience = PATIENCE) -> Place:
    """The place of a path, a ``file:`` or an ``s3:`` address; options of a bucket: ``?region=``, ``endpoint=``, ``anonymous=true``.

    Credentials are those of the AWS environment, profile or instance role, never of the address.

    >>> at("s3://bucket/sky/?region=eu-west-1").options, str(at("/data/sky/") / "coadd")
    ((('region', 'eu-west-1'),), '/data/sky/coadd')
    """
    text = str(address)
    scheme, _, rest = text.partition("://") if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) else ("", "", "")
    if scheme.lower() in ("", "file"):
        return Place(str(Path(re.sub(r"^file:(//)?", "", text)).absolute()), patience=patience)
    if scheme.lower() not in ("s3", "s3a"):
        raise ConfigError(f"{scheme}:// is none of a folder, a file: or an s3: address")
    path, _, query = rest.partition("?")
    bucket, _, prefix = path.partition("/")
    if "@" in bucket:
        raise ConfigError(f"s3://{bucket.rpartition('@')[2]}: {SECRET}")
    if not bucket:
        raise ConfigError(f"{text}: an s3: address names a bucket: s3://bucket/folder")
    if {".", ".."} & set(prefix.split("/")):
        raise ConfigError(f"s3://{bucket}/{prefix}: a folder of a bucket has no . or .. in its address")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if unknown := sorted(options.keys() - set(OPTIONS)):
        raise ConfigError(f"s3://{bucket}: unknown option {', '.join(unknown)}; known: {', '.join(OPTIONS)}")
    if endpoint := options.get("endpoint"):
        parts = urlsplit(endpoint)
        if "@" in parts.netloc:
            raise ConfigError(f"s3://{bucket}?endpoint={parts.hostname}: {SECRET}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(f"s3://{bucket}: endpoint must be http(s)://host:port, got {endpoint!r}")
    return Place(f"s3://{bucket}/{prefix.strip('/')}".rstrip("/"), tuple(sorted(options.items())), patience)


def split(address: str | Path, patience: Patience = PATIENCE) -> tuple[Place, str]:
    """The place and the name of one file.

    >>> place, name = split("s3://bucket/sky/sweep.fits?region=eu-west-1")
    >>> str(place), name
    ('s3://bucket/sky', 'sweep.fits')
    """
    whole = at(address, patience)
    folder, _, name = whole.address.rpartition("/")
    if whole.address.count("/") < (1 if whole.local else 3):
        raise ConfigError(f"{whole}: a bucket, not a file")
    return Place(folder or "/", whole.options, patience), name


@contextmanager
def fetched(address: str | Path):
    """A file as one of this machine's disk: itself, or a copy that is there as long as it is needed."""
    place, name = split(address)
    if place.local:
        yield place.local / name
        return
    with tempfile.TemporaryDirectory(prefix="arcmill-") as made:
        copy = Path(made) / name
        with copy.open("wb") as out:
            for chunk in place.chunks(name):
                out.write(chunk)
        yield copy


def fingerprint(addresses: Iterable[str | Path]) -> dict:
    """Size, and modification time or etag, of every file: what a rerun compares its inputs by."""
    found: dict[str, list] = {}
    for place, name in map(split, sorted(map(str, addresses))):
        try:
            if place.local:
                stat = os.stat(place.local / name)
                found[str(place.local / name)] = [stat.st_size, stat.st_mtime_ns]
            else:
                found[f"{place}/{name}"] = list(place.head(name)[1:])
        except FileNotFoundError as error:
            raise InputError(f"no such file: {place}/{name}") from error
    return found


def _bucket(place: Place, retries: int = 12) -> "S3Store":
    from obstore.store import S3Store

    options, patience = dict(place.options), place.patience
    bucket, _, prefix = place.address.removeprefix("s3://").partition("/")
    endpoint = options.get("endpoint") or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = options.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    given: dict = {"region": region or ("us-east-1" if endpoint else _region(bucket))}
    if endpoint:
        given |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if options.get("anonymous") == "true":
        given["skip_signature"] = True
    elif "AWS_ACCESS_KEY_ID" not in os.environ and (profile := _profile()):
        given["credential_provider"] = profile
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "timeout": timedelta(seconds=LONGEST_S),
            "read_timeout": timedelta(seconds=patience.silent_s),
            "connect_timeout": timedelta(seconds=min(10.0, patience.silent_s)),
        },
        retry_config={
            "max_retries": retries,
            "retry_timeout": timedelta(seconds=patience.retry_s),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
        },
        **given,
    )


def _profile():
    """Credentials of an AWS profile; None where there is none: an instance role then."""
    kept = Path.home() / ".aws"
    if not (os.environ.get("AWS_PROFILE") or (kept / "credentials").is_file() or (kept / "config").is_file()):
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
    from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError

    where = f"{place}/{name}".rstrip("/")
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FileNotFoundError(f"no such file: {where}") from None
    except AlreadyExistsError:
        raise
    except PreconditionError as error:
        raise InputError(f"{where} changed while it was read") from error
    except (OSError, BaseError) as error:
        said = str(error).split("\n\nDebug source:")[0]
        status = re.search(r"status code: (\d+)", said)
        code = int(status[1]) if status else 0
        if re.search(r"os error (20|21)\)", said):  # a folder's name is a file's, or a file's a folder's
            raise FileNotFoundError(f"no such file: {where}") from None
        if "<Code>NoSuchBucket" in said:
            raise FileNotFoundError(f"no such bucket: {where}") from None
        if (
            isinstance(error, (PermissionError, PermissionDeniedError, UnauthenticatedError))
            or code in (401, 403)
            or "os error 13)" in said
        ):
            raise Denied(f"{where}: access denied, wrong credentials or a missing right: {said}") from error
        raise Unreachable(f"{where}: {said}") from error


def _again(place: Place, name: str, call: Callable[[], T]) -> T:
    """What a call gives that may be made twice; one that broke, in its body too, is made again."""
    began, fails = time.monotonic(), 0
    while True:
        try:
            with _told(place, name):
                return call()
        except Unreachable:
            fails += 1
            if place.local or fails == place.patience.attempts or time.monotonic() - began > place.patience.retry_s:
                raise
            _pause(fails)


def _pause(fails: int) -> None:
    time.sleep(min(0.1 * 2**fails, 10.0) * random.uniform(0.5, 1.0))


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
