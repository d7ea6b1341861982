"""Places: one set of calls over a folder and a bucket, and what they do when disks and servers fail."""

import dataclasses
import multiprocessing
import os
import pickle
import re
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib import place
from lib.errors import ConfigError, Denied, InputError, Unreachable
from tests import servers

ROOT = Path(__file__).resolve().parents[2]
QUICK = place.Patience(retry_s=1.0, silent_s=0.4, attempts=2)
NAMES = ("a", "run_id=7/part 1.parquet", "ünï/ço dé=1/b.fits", "p%20q", "tilde~[x]{y}", "a+b&c@d:e,f'g")
LARGE = np.random.default_rng(1).bytes(30_000_001)


@pytest.fixture(params=["folder", "bucket"])
def here(request, tmp_path):
    """An empty place: a folder, then a bucket's prefix."""
    return place.at(tmp_path / "folder" if request.param == "folder" else request.getfixturevalue("s3_bucket"))


def listed(at: place.Place, under: str = "") -> list[str]:
    return sorted(f.name for f in at.files(under))


# the same calls ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_read_as_it_was_put_under_its_own_name(name, here):
    here.put(name, b"old")
    here.put(name, b"0123456789")
    assert here.read(name) == b"0123456789" == b"".join(here.chunks(name))
    assert [bytes(b) for b in here.ranges(name, [0, 3, 9], [2, 5, 10])] == [b"01", b"34", b"9"]
    assert listed(here) == [name] == [here.head(name).name]
    assert here.head(name).size == 10 and here.has(name)
    assert listed(here, name.rpartition("/")[0]) == [name]
    here.delete([name, name, "never"])
    assert not here.has(name) and listed(here) == []


@pytest.mark.parametrize("name", ["", "..", "a/../b", "a//b", "./a", "line\nbreak", "back\\slash", "half#12"])
def test_a_name_that_some_place_could_not_keep_is_refused(name, here):
    for call in (here.read, here.head, here.open, lambda n: here.put(n, b""), lambda n: here.create(n, b""), lambda n: here.delete([n])):
        with pytest.raises(InputError, match="cannot be a file's name"):
            call(name)


def test_a_list_has_the_files_under_a_folder_and_no_others(here):
    for name in ("t/a", "t/deep/er/b", "tt/c", "t.d"):
        here.put(name, b"x")
    assert listed(here) == ["t.d", "t/a", "t/deep/er/b", "tt/c"]
    assert listed(here, "t") == ["t/a", "t/deep/er/b"] == listed(here, "/t/")
    assert listed(here / "t") == ["a", "deep/er/b"]
    assert (here.names(), here.names("t"), here.names("none")) == (["t", "t.d", "tt"], ["a", "deep"], [])
    assert listed(here, "none") == [] and here.exists() and not (here / "none").exists()


def test_a_long_list_is_whole(here):
    names = sorted(f"many/{k:04d}" for k in range(1_203))  # a page of S3 has 1,000
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: here.put(name, b""), names))
    assert listed(here) == names and here.names("many") == [n[5:] for n in names]


def test_what_a_write_has_left_half_done_is_not_listed(tmp_path):
    here = place.at(tmp_path)
    here.put("whole", b"x")
    (tmp_path / "whole#1").write_bytes(b"ha")
    assert listed(here) == ["whole"] == here.names()


def test_the_mark_of_an_empty_folder_is_no_file(s3_server, s3_bucket):
    here = place.at(s3_bucket)
    s3_server.client.put_object(Bucket="sky", Key=f"{str(here).removeprefix('s3://sky/')}/", Body=b"")
    assert (listed(here), here.names(), here.exists()) == ([], [], False)


def test_reading_makes_no_folder(tmp_path):
    here = place.at(tmp_path / "none")
    assert not here.has("a") and listed(here) == [] and not here.exists()
    here.delete(["a"])
    assert not (tmp_path / "none").exists()


def test_a_missing_file_is_named(here):
    here.put("there/is", b"x")
    calls = (here.read, here.head, here.open, lambda n: here.ranges(n, [0], [1]), lambda n: list(here.chunks(n)))
    for name in ("none", "there/none", "there", "there/is/none"):
        for call in calls:
            with pytest.raises(FileNotFoundError, match=re.escape(f"no such file: {here}/{name}")):
                call(name)


def test_the_etag_changes_with_the_content(here):
    here.put("a", b"one")
    before = here.head("a")
    here.put("a", b"two")
    assert here.head("a").etag != before.etag and here.head("a") == here.head("a") == next(iter(here.files()))


def test_a_file_that_changes_while_it_is_read_is_told(here, monkeypatch):
    monkeypatch.setattr(place, "BLOCK", 1000)
    here.put("a", bytes(2500))
    pieces = here.chunks("a")
    assert next(pieces) == bytes(1000)
    here.put("a", b"1" * 2500)
    with pytest.raises(InputError, match=r"/a changed while it was read"):
        list(pieces)


def test_a_large_file_is_moved_whole_in_parts(here, tmp_path):
    source = tmp_path / "made"
    source.write_bytes(LARGE)
    here.upload(source, "large/file")
    assert not source.exists() and listed(here) == ["large/file"]
    assert here.read("large/file") == LARGE == b"".join(here.chunks("large/file"))
    with pytest.raises(FileNotFoundError):
        here.upload(source, "again")


def test_a_file_of_another_disk_is_moved_too(tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second disk here")
    source = other / f"arcmill-{os.getpid()}"
    source.write_bytes(LARGE)
    try:
        place.at(tmp_path).upload(source, "a/b")
        assert (tmp_path / "a" / "b").read_bytes() == LARGE and not source.exists()
        assert os.listdir(tmp_path / "a") == ["b"]
    finally:
        source.unlink(missing_ok=True)


def table() -> pa.Table:
    rng = np.random.default_rng(2)
    return pa.table({"id": np.arange(4000), "pixels": [rng.bytes(600) for _ in range(4000)], "flag": ["ünï"] * 4000})


def test_pyarrow_reads_columns_and_row_groups_of_an_open_file(here, tmp_path):
    made = table()
    pq.write_table(made, tmp_path / "t.parquet", row_group_size=1000)
    here.upload(tmp_path / "t.parquet", "tier=a/t.parquet")
    with here.open("tier=a/t.parquet") as opened:
        file = pq.ParquetFile(opened)
        assert file.num_row_groups == 4
        assert file.read_row_group(2, columns=["id"]).equals(made.select(["id"]).slice(2000, 1000))
        assert file.read().equals(made)
    with here.open("tier=a/t.parquet") as opened:
        assert [b["flag"][0].as_py() for b in pq.ParquetFile(opened).iter_batches(2000, columns=["flag"])] == ["ünï"] * 2


def test_columns_of_a_bucket_are_read_without_the_rest(s3_server, s3_bucket, tmp_path):
    pq.write_table(table(), tmp_path / "t.parquet", row_group_size=1000, compression="none")
    size = (tmp_path / "t.parquet").stat().st_size
    with servers.faulty(s3_server.endpoint) as proxy:
        here = place.at(s3_bucket.replace(s3_server.endpoint, proxy.endpoint))
        here.upload(tmp_path / "t.parquet", "t")
        proxy.clear()
        pq.ParquetFile(here.open("t")).read(["id"])
        assert sum(r.sent for r in proxy.ranged()) < size / 10 and proxy.methods()["HEAD"] == 1


# one of many wins ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("same", [False, True], ids=["own content", "same content"])
def test_of_many_threads_that_create_a_name_one_succeeds(same, here):
    start = threading.Barrier(8)

    def create(k: int) -> tuple[bool, bytes]:
        content = b"same" if same else b"%d" % k
        start.wait()
        return here.create("log/7", content), content

    with ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            made = list(pool.map(create, range(8)))
            assert [content for won, content in made if won] == [here.read("log/7")]
            assert listed(here) == ["log/7"]
            here.delete(["log/7"])


def _create(at: place.Place, k: int, start, won) -> None:
    start.wait()
    won.put([name for name in map(str, range(40)) if at.create(f"log/{name}", b"%d" % k)])


def test_of_two_processes_that_create_names_each_goes_to_one(here):
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(2), context.Queue()
    running = [context.Process(target=_create, args=(here, k, start, won)) for k in range(2)]
    for process in running:
        process.start()
    names = won.get(timeout=60) + won.get(timeout=60)
    for process in running:
        process.join()
    assert sorted(names, key=int) == list(map(str, range(40)))


def test_a_name_that_is_taken_is_left_as_it_is(here):
    assert here.create("a", b"first") is True
    assert here.create("a", b"first") is False
    assert here.create("a", b"second") is False
    assert here.read("a") == b"first"


# addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address, says", [
    ("s3://key:hunter2@sky/x", "s3://sky: no user or password"),
    ("s3://sky/x?endpoint=http://key:hunter2@host", "s3://sky?endpoint=host: no user or password"),
    ("s3://sky/x?secret=hunter2", "unknown option secret; known: region, endpoint, anonymous"),
    ("s3://sky/x?hunter", "unknown option hunter"),
    ("s3://sky/x?endpoint=127.0.0.1:9", "endpoint must be http"),
    ("s3:///x", "names a bucket"),
    ("https://me:hunter2@host/x", "none of a folder, a file: or an s3: address"),
])  # fmt: skip
def test_an_address_that_will_not_do_is_told_and_no_secret_with_it(address, says):
    with pytest.raises(ConfigError, match=re.escape(says)) as error:
        place.at(address)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("address, text", [
    ("S3://Sky/a b/", "s3://Sky/a b"), ("s3a://sky", "s3://sky"), ("s3://sky/x#y?region=q", "s3://sky/x#y"), ("file:///a/b/", "/a/b"), ("/a=b", "/a=b"),
])  # fmt: skip
def test_an_address_is_kept_as_it_is_meant(address, text):
    assert str(place.at(address)) == text


def test_a_place_travels_to_another_process_with_its_options(here):
    here.put("a/b", b"x")
    sent = pickle.loads(pickle.dumps(here))
    assert sent == here and hash(sent) == hash(here) and sent.read("a/b") == b"x"
    at, name = place.split((here / "a").url("b"))
    assert (at.options, at.read(name), at / "x") == (here.options, b"x", here / "a" / "x")


def test_the_region_of_the_address_is_what_requests_are_signed_for(s3_bucket):
    here = place.at(s3_bucket.replace("region=us-east-1", "region=eu-west-1"))
    here.put("a", b"x")  # this server takes any: it reads the region from the signature
    assert here.read("a") == b"x" and dict(here.options)["region"] == "eu-west-1"
    assert here._store.config["region"] == "eu-west-1"


def test_a_file_of_any_place_is_had_on_disk_and_told_apart_by_its_fingerprint(here):
    here.put("a/x.csv", b"ra,dec\n")
    address = here.url("a/x.csv")
    with place.fetched(address) as path:
        assert path.name == "x.csv" and path.read_bytes() == b"ra,dec\n"
    assert path.exists() == bool(here.local)
    before = place.fingerprint([address])
    assert list(before) == [f"{here}/a/x.csv"] and before == place.fingerprint([address]) and before[f"{here}/a/x.csv"][0] == 7
    here.put("a/x.csv", b"RA,DEC\n")
    assert place.fingerprint([address]) != before
    with pytest.raises(InputError, match=f"no such file: {here}/none"):
        place.fingerprint([here.url("none")])


# servers that fail ---------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(s3_server, s3_bucket):
    """(a place behind a proxy, the proxy)."""
    with servers.faulty(s3_server.endpoint) as proxy:
        yield place.at(s3_bucket.replace(s3_server.endpoint, proxy.endpoint)), proxy


CALLS = {
    "slow": {"slow": 0.2}, "errors": {"error": 0.2}, "dropped": {"drop": 0.2}, "lost answers": {"lost": 0.2}, "half bodies": {"half": 0.3},
    "all of them": {"slow": 0.1, "error": 0.05, "drop": 0.05, "lost": 0.05, "half": 0.05},
}  # fmt: skip


@pytest.mark.parametrize("shares", CALLS.values(), ids=CALLS)
def test_everything_is_done_and_right_whatever_share_of_requests_fails(shares, proxied, tmp_path):
    here, proxy = proxied
    proxy.plan = servers.share(seed=3, **shares)
    content = {f"f/{k}": np.random.default_rng(k).bytes(50_000) for k in range(8)}
    for name, value in content.items():
        here.put(name, value)
    assert {name: here.read(name) for name in content} == content
    assert listed(here, "f") == sorted(content) and here.names("f") == sorted(n[2:] for n in content)
    assert {f.size for f in map(here.head, content)} == {50_000}
    assert [bytes(b) for b in here.ranges("f/3", [5, 40_000], [25, 50_000])] == [content["f/3"][5:25], content["f/3"][40_000:]]
    assert [here.create(f"log/{k}", b"%d" % k) for k in range(8)] == [True] * 8
    assert [here.create(f"log/{k}", b"other") for k in range(8)] == [False] * 8
    (tmp_path / "large").write_bytes(LARGE)
    here.upload(tmp_path / "large", "large")
    assert b"".join(here.chunks("large")) == LARGE == here.read("large")
    here.delete(content)
    assert listed(here, "f") == []
    assert set(proxy.faults()) == set(shares), "the plan was not met with"


@pytest.mark.parametrize("fault", ["slow", "error", "drop", "lost", "half"])
@pytest.mark.parametrize("what", ["put", "read", "head", "list", "names", "ranges", "create", "delete"])
def test_each_call_survives_each_fault(what, fault, proxied):
    here, proxy = proxied
    here.put("a/b", b"0123456789")
    proxy.clear(servers.script([fault, fault]))
    calls = {
        "put": lambda: here.put("a/c", b"x") or here.read("a/c"), "read": lambda: here.read("a/b"), "head": lambda: here.head("a/b").size,
        "list": lambda: listed(here), "names": here.names, "ranges": lambda: bytes(here.ranges("a/b", [2], [4])[0]),
        "create": lambda: here.create("a/c", b"mine"), "delete": lambda: here.delete(["a/b"]) or listed(here),
    }  # fmt: skip
    right = {"put": b"x", "read": b"0123456789", "head": 10, "list": ["a/b"], "names": ["a"], "ranges": b"23", "create": True, "delete": []}
    assert calls[what]() == right[what]
    assert proxy.faults() or (what, fault) == ("head", "half")  # which has no body


def test_a_file_that_was_created_with_its_answer_lost_is_ours_and_anothers_is_not(proxied):
    here, proxy = proxied
    proxy.plan = servers.script(["lost"], method="PUT")
    assert here.create("log/1", b"mine") is True and here.read("log/1") == b"mine"
    assert here.create("log/1", b"mine") is False  # nothing was lost: it was there
    here.put("log/2", b"another's")
    proxy.plan = servers.script(["drop"], method="PUT")
    assert here.create("log/2", b"mine") is False


def test_a_list_that_breaks_between_its_pages_has_each_file_once(proxied, s3_server):
    here, proxy = proxied
    names = sorted(f"{k:04d}" for k in range(1_050))
    direct = place.at(s3_server.address(str(here).partition("sky/")[2]))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: direct.put(name, b""), names))
    proxy.plan = servers.script([None, "half", "half"])
    assert [f.name for f in here.files()] == names
    assert proxy.faults()["half"] == 2


@pytest.mark.parametrize("fault", ["slow", "drop", "silent"])
def test_a_server_that_never_answers_is_given_up_in_bounded_time_and_named(fault, proxied):
    here, proxy = proxied
    here = dataclasses.replace(here, patience=QUICK)
    proxy.plan = lambda *_: fault
    calls = (lambda: here.read("a"), lambda: here.put("a", b"x"), lambda: here.create("a", b"x"), lambda: list(here.files()))
    began = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        for waiting in [pool.submit(call) for call in calls]:
            with pytest.raises(Unreachable, match=re.escape(str(here))) as error:
                waiting.result()
            assert proxy.endpoint in str(error.value)
    assert time.monotonic() - began < 8.0


def test_no_server_at_all_is_told_with_its_address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match=f"s3://sky/x/a: .*127.0.0.1:{port}"):
        place.at(f"s3://sky/x?endpoint=http://127.0.0.1:{port}", QUICK).read("a")


def test_a_wrong_key_and_a_missing_bucket_are_told_at_once(s3_bucket, s3_server, monkeypatch):
    here = place.at(s3_bucket)
    here.put("a", b"x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    wrong = place.at(s3_bucket)
    for call in (
        lambda: wrong.read("a"),
        lambda: list(wrong.files()),
        lambda: wrong.names(),
        lambda: wrong.create("b", b""),
        lambda: wrong.put("a", b""),
    ):
        with pytest.raises(Denied, match=f"{re.escape(str(wrong))}.*: access denied, wrong credentials") as error:
            call()
        assert "hunter2" not in str(error.value)
    monkeypatch.undo()
    assert here.read("a") == b"x"
    nowhere = place.at(s3_bucket.replace("s3://sky/", "s3://none/"))
    with pytest.raises(FileNotFoundError, match="no such bucket: s3://none"):
        list(nowhere.files())


# disks that fail -----------------------------------------------------------------------------------------------------

WRITE = """
import resource, signal, sys
from pathlib import Path
from lib import errors, place
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder, what, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
here = place.at(folder)
here.put("log", b"before")
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if what == "upload":
        here.upload(Path(sys.argv[4]), "log")
    else:
        getattr(here, what)("log" if what == "put" else "new", bytes(3_000_000))
except errors.Unreachable as error:
    print(error)
else:
    sys.exit("nothing was told")
"""


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB, where one may be mounted."""
    (tmp_path / "disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path / "disk")], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no disk may be mounted here: {mounted.stderr.strip()}")
    yield tmp_path / "disk"
    subprocess.run(["umount", str(tmp_path / "disk")], check=True)


def written(folder: Path, what: str, limit: int, source: Path) -> str:
    source.write_bytes(bytes(3_000_000))
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(folder), what, str(limit), str(source)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    left = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert left == {"log": b"before"}, "half a file, or less than was there"
    return done.stdout


@pytest.mark.parametrize("what", ["put", "create", "upload"])
def test_a_full_disk_is_told_and_what_was_there_stays(what, small_disk, tmp_path):
    said = written(small_disk, what, 0, tmp_path / "source")
    assert f"{small_disk}/{'new' if what == 'create' else 'log'}: " in said and "No space left on device" in said


@pytest.mark.parametrize("what", ["put", "create"])
def test_a_write_that_stops_half_way_is_told_and_what_was_there_stays(what, tmp_path):
    (tmp_path / "disk").mkdir()
    assert "File too large" in written(tmp_path / "disk", what, 1_000_000, tmp_path / "source")


@pytest.mark.parametrize("what", ["put", "create"])
def test_a_folder_that_may_not_be_written_is_told(what, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(Denied, match="access denied"):
        getattr(place.at(tmp_path), what)("a", b"x")
