"""Copies of survey files, from a server that drops, delays, refuses and damages them; the job that makes them."""

import json
import os
import pickle
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from astropy.io import fits

from jobs.__main__ import main
from lib import place, runs
from lib.errors import ConfigError, InputError
from lib.lease import held
from lib.store import Dataset
from lib.survey import bricks, integrity, mirror, roots
from lib.survey.mirror import Tries
from tests import servers, tables, tiny

ROOT = Path(__file__).resolve().parents[2]
NAME = tiny.BRICKS[0]
FOLDER = f"coadd/{NAME[:3]}/{NAME}"
WANTED = bricks.wanted("grz", ("coadd", "map", "brick"))
FILES = {str(bricks.path(Path(), NAME, kind, band)) for kind, band, _ in WANTED if kind != "copsf"}
QUICK = Tries(attempts=3, backoff_s=0.01)
IMAGE = f"{FOLDER}/legacysurvey-{NAME}-image-g.fits.fz"
MASK = f"{FOLDER}/legacysurvey-{NAME}-maskbits.fits.fz"


# a server with faults ------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Files of a folder; ``faults[path]`` are used up one a request, the last of them stays if it is ``forever``."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, folder: Path):
        super().__init__(("127.0.0.1", 0), Answer)
        self.folder, self.faults, self.forever, self.slow_s = folder, {}, False, 0.0
        self.asked: list[tuple[str, float]] = []
        self.agents: set[str] = set()
        self.now = self.most = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, path: str):
        with self.lock:
            left = self.faults.get(path, [])
            return (left[0] if self.forever and len(left) == 1 else left.pop(0)) if left else None

    def times(self, path: str) -> list[float]:
        return [when for asked, when in self.asked if asked == path]

    def handle_error(self, request, client_address):
        pass  # connections that the tests drop


class Answer(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, path = self.server, self.path.strip("/")
        with server.lock:
            server.asked.append((path, time.monotonic()))
            server.agents.add(self.headers["User-Agent"])
            server.now += 1
            server.most = max(server.most, server.now)
        time.sleep(server.slow_s)
        with server.lock:
            server.now -= 1  # before the answer: who has it may ask for the next file at once
        self.give(server.folder / path, server.fault(path))

    def give(self, file: Path, fault):
        code, headers = fault if isinstance(fault, tuple) else (fault, {}) if isinstance(fault, int) else (200, {})
        if code == 200 and not file.exists():
            code = 404
        if code != 200:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            return
        if file.is_dir():
            body = "".join(f'<a href="{p.name}">{p.name}</a>' for p in sorted(file.iterdir())).encode()
        else:
            body = file.read_bytes()
        told, sent = len(body), body
        if fault in ("short", "drop", "stall"):
            sent = body[: len(body) // 2]
        elif fault == "silent":
            told, sent = len(body) // 2, body[: len(body) // 2]
        elif fault == "page":
            told, sent = 12, b"<html></html"
        elif fault == "flip":
            at = len(body) // 2
            sent = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        self.send_response(200)
        self.send_header("Content-Length", str(told))
        self.end_headers()
        self.wfile.write(sent)
        self.wfile.flush()
        if fault == "stall":
            time.sleep(30)
        if fault == "drop":  # a reset, where "short" is an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextmanager
def serve(folder: Path):
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(tiny_survey):
    with serve(tiny_survey) as made:
        yield made


@pytest.fixture(scope="module")
def published(tiny_survey, tmp_path_factory):
    """One brick, with a list of checksums beside it as the pipeline writes them."""
    survey = tmp_path_factory.mktemp("published")
    shutil.copytree(tiny_survey / FOLDER, survey / FOLDER)
    sums = [f"{integrity.sha256(p)} *{p.relative_to(survey)}\n" for p in sorted((survey / FOLDER).iterdir())]
    (survey / FOLDER / f"legacysurvey_dr10_south_{NAME}.sha256sum").write_text("".join(sums))
    return survey


def copy(server, file, target, tries=QUICK, timeout_s=5.0, **how):
    return mirror.copy(roots.at(server.url, timeout_s), file, target, tries, **how)


def brick(root, target, tries=QUICK) -> dict[str, dict]:
    return {row["file"]: row for row in mirror.brick(root, NAME, WANTED, target, tries)}


def same(a: Path, b: Path, files) -> bool:
    return all((a / file).read_bytes() == (b / file).read_bytes() for file in files)


def left(target: Path) -> set[str]:
    return {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}


# one file ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault, says", [
    ("drop", "bytes came|Connection"), ("short", r"\d+ of \d+ bytes came"), ("silent", "bytes, its headers tell of"),
    ("page", "not a FITS file"), (429, "HTTP 429"), (500, "HTTP 500"), (502, "HTTP 502"), (503, "HTTP 503"), (504, "HTTP 504"),
])  # fmt: skip
def test_what_a_second_attempt_may_mend_is_tried_again_and_at_last_told(fault, says, server, tiny_survey, tmp_path):
    server.faults = {IMAGE: [fault, fault]}
    row = copy(server, IMAGE, tmp_path / "once")
    assert (row["status"], row["attempts"], row["bytes"]) == ("copied", 3, (tiny_survey / IMAGE).stat().st_size)
    assert re.search(says, row["error"])
    assert same(tiny_survey, tmp_path / "once", [IMAGE]) and left(tmp_path / "once") == {IMAGE}
    server.faults, server.forever = {IMAGE: [fault]}, True
    row = copy(server, IMAGE, tmp_path / "ever")
    assert (row["status"], row["attempts"], row["bytes"], row["sha256"]) == ("failed", 3, None, None)
    assert re.search(says, row["error"]) and left(tmp_path / "ever") == set()


def test_a_file_that_is_not_there_is_asked_for_once_and_missing_only_if_needed(server, tmp_path):
    row = copy(server, f"{FOLDER}/none.fits.fz", tmp_path)
    assert (row["status"], row["attempts"], row["error"]) == ("missing", 1, "HTTP 404 Not Found")
    assert copy(server, f"{FOLDER}/none.fits.fz", tmp_path, needed=False)["status"] == "absent"
    assert len(server.asked) == 2 and left(tmp_path) == set()


@pytest.mark.parametrize("code", [400, 401, 403])
def test_a_refusal_is_final(code, server, tmp_path):
    server.faults, server.forever = {IMAGE: [code]}, True
    row = copy(server, IMAGE, tmp_path)
    assert (row["status"], row["attempts"], len(server.asked)) == ("failed", 1, 1)
    assert str(code) in row["error"]


def test_a_silent_server_is_given_up_after_the_timeout(server, tmp_path):
    server.faults = {IMAGE: ["stall"]}
    began = time.monotonic()
    row = copy(server, IMAGE, tmp_path, timeout_s=0.3)
    assert (row["status"], row["attempts"]) == ("copied", 2) and "timed out" in row["error"]
    assert 0.3 <= time.monotonic() - began < 10


def test_retry_after_is_waited_for_and_else_the_pauses_double(server, tmp_path):
    server.faults = {IMAGE: [(429, {"Retry-After": "1"})]}
    assert copy(server, IMAGE, tmp_path)["attempts"] == 2
    first, second = server.times(IMAGE)
    assert 1.0 <= second - first < 5
    server.faults = {MASK: [503, 503, 503]}
    copy(server, MASK, tmp_path, Tries(attempts=4, backoff_s=0.2))
    times = server.times(MASK)
    gaps = [b - a for a, b in pairwise(times)]
    assert [gap >= least for gap, least in zip(gaps, (0.1, 0.2, 0.4), strict=True)] == [True] * 3


def test_a_pause_has_a_longest_and_is_no_shorter_than_what_is_asked():
    tries = Tries(attempts=50, backoff_s=1.0)
    assert {30.0 <= tries.pause_s(40, 0.0) <= 60.0 for _ in range(100)} == {True}
    assert len({tries.pause_s(3, 0.0) for _ in range(10)}) > 1
    assert tries.pause_s(1, 100.0) == 100.0
    soon = roots.retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))
    assert 80 < soon <= 90
    assert (roots.retry_after("soon"), roots.retry_after("7")) == (0.0, 7.0)


def test_the_server_is_told_who_asks(server, tmp_path):
    copy(server, IMAGE, tmp_path)
    assert {agent.split("/")[0] for agent in server.agents} == {"arcmill"}


def test_a_full_disk_stops_the_copy_at_once(server, tmp_path):
    part = tmp_path / f"{IMAGE}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        copy(server, IMAGE, tmp_path)
    assert len(server.asked) == 1 and left(tmp_path) == set()


# whole or not --------------------------------------------------------------------------------------------------------


def cut(path: Path, to: int, target: Path) -> Path:
    target.write_bytes(path.read_bytes()[:to])
    return target


@pytest.mark.parametrize("to", [0, 100, 2880, 2880 + 1440, 8640, -2880, -1])
def test_a_file_cut_anywhere_is_not_whole(to, tiny_survey, tmp_path):
    path = cut(tiny_survey / IMAGE, to, tmp_path / "cut.fits.fz")
    with pytest.raises(integrity.Damaged):
        integrity.check(path, path.name, integrity.sha256(path))


def test_a_file_cut_in_a_later_header_is_not_whole(tiny_survey, tmp_path):
    data = (tiny_survey / IMAGE).read_bytes()
    path = tmp_path / "cut.fits.fz"
    path.write_bytes(data + data[2880 : 2880 + 1440])
    with pytest.raises(integrity.Damaged, match="its headers tell of"):
        integrity.check(path, path.name, integrity.sha256(path))


def test_a_file_with_a_hole_is_not_whole(tiny_survey, tmp_path):
    """Right length, zeros where data should be: what some file systems leave of a copy that broke off."""
    data = bytearray((tiny_survey / IMAGE).read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    path = tmp_path / "hole.fits.fz"
    path.write_bytes(data)
    with pytest.raises(integrity.Damaged, match="not a FITS file"):
        integrity.check(path, path.name, integrity.sha256(path))


def with_datasum(path: Path, target: Path) -> Path:
    with fits.open(path, disable_image_compression=True) as hdus:
        hdus.writeto(target, checksum=True)
    return target


def test_one_wrong_bit_is_found_by_the_files_own_sum(tiny_survey, tmp_path):
    good = with_datasum(tiny_survey / IMAGE, tmp_path / "good.fits.fz")
    assert integrity.check(good, good.name, integrity.sha256(good)) == "datasum"
    data = bytearray(good.read_bytes())
    data[len(data) // 2] ^= 1
    good.write_bytes(data)
    with pytest.raises(integrity.Damaged, match="DATASUM"):
        integrity.check(good, good.name, integrity.sha256(good))


def test_a_list_of_checksums_is_read_as_sha256sum_and_the_pipeline_write_it(tmp_path):
    path = tmp_path / "a.sha256sum"
    one, two = ("1" * 64, "2" * 64)
    path.write_text(f"{one}  a.fits\n{two} *coadd/095/0959p805/b.fits.fz\nnot a line\n")
    assert integrity.published(path) == {"a.fits": one, "b.fits.fz": two}
    path.write_text("<html>not found</html>")
    with pytest.raises(integrity.Damaged, match="no list of checksums"):
        integrity.check(path, path.name, integrity.sha256(path))


# one brick -----------------------------------------------------------------------------------------------------------


def test_a_brick_without_checksums_is_copied_and_every_file_has_its_row(server, tiny_survey, tmp_path):
    rows = brick(roots.at(server.url), tmp_path)
    assert {file for file, row in rows.items() if row["status"] == "copied"} == FILES == left(tmp_path)
    assert Counter(row["status"] for row in rows.values()) == {"copied": 10, "absent": 4}  # three copsf, no list of checksums
    assert {row["check"] for file, row in rows.items() if file in FILES} == {"fits"}
    assert same(tiny_survey, tmp_path, FILES)
    assert {row["sha256"] for file, row in rows.items() if file in FILES} == {integrity.sha256(tmp_path / f) for f in FILES}
    again = brick(roots.at(server.url), tmp_path)
    assert {(again[f]["status"], again[f]["attempts"]) for f in FILES} == {("present", 0)}
    assert {len(server.times(f)) for f in FILES} == {1}


def test_the_checksums_that_the_survey_publishes_are_held_to(published, tmp_path):
    with serve(published) as server:
        server.faults = {IMAGE: ["flip"], MASK: ["silent"]}
        rows = brick(roots.at(server.url), tmp_path)
        assert {(rows[f]["status"], rows[f]["check"]) for f in FILES} == {("copied", "sha256")}
        assert (rows[IMAGE]["attempts"], rows[MASK]["attempts"]) == (2, 2) and "the survey says" in rows[IMAGE]["error"]
        before = len(server.asked)
        assert {row["status"] for row in brick(roots.at(server.url), tmp_path).values()} == {"present", "absent"}
        assert {path for path, _ in server.asked[before:]} == {str(bricks.path(Path(), NAME, "copsf", b)) for b in "grz"}
    assert same(published, tmp_path, FILES)


def test_a_wrong_published_checksum_fails_its_file_and_no_other(published, tmp_path):
    survey = tmp_path / "survey"
    shutil.copytree(published, survey)
    (sums,) = (survey / FOLDER).glob("*.sha256sum")
    true = integrity.sha256(survey / IMAGE)
    sums.write_text(sums.read_text().replace(true, "0" * 64))
    rows = brick(roots.Folder(survey), tmp_path / "copy")
    assert rows[IMAGE]["status"] == "failed" and true in rows[IMAGE]["error"] and "0" * 64 in rows[IMAGE]["error"]
    assert {rows[f]["status"] for f in FILES - {IMAGE}} == {"copied"}
    assert IMAGE not in left(tmp_path / "copy")


def test_a_damaged_copy_is_set_aside_and_fetched_anew(server, tiny_survey, tmp_path):
    brick(roots.at(server.url), tmp_path)
    cut(tmp_path / IMAGE, -2880, tmp_path / IMAGE)
    rows = brick(roots.at(server.url), tmp_path)
    assert (rows[IMAGE]["status"], rows[IMAGE]["attempts"]) == ("copied", 1) and "damaged" in rows[IMAGE]["error"]
    assert same(tiny_survey, tmp_path, FILES) and left(tmp_path) == FILES | {f"{IMAGE}.damaged"}


def test_a_server_that_lists_no_folders_still_gives_its_files(server, tmp_path):
    server.faults, server.forever = {FOLDER: [403]}, True
    rows = brick(roots.at(server.url), tmp_path)
    listed = rows[f"{FOLDER}/*.sha256sum"]
    assert (listed["status"], listed["attempts"]) == ("absent", 1) and "HTTP 403" in listed["error"]
    server.faults = {FOLDER: [500]}
    listed = brick(roots.at(server.url), tmp_path)[f"{FOLDER}/*.sha256sum"]
    assert (listed["status"], listed["attempts"]) == ("failed", 3)
    assert left(tmp_path) == FILES


def test_a_copy_that_was_killed_goes_on_where_it_stopped(server, tiny_survey, tmp_path):
    stopped = str(bricks.path(Path(), NAME, "invvar", "r"))
    server.faults = {stopped: ["stall"]}
    code = (
        "import sys; from pathlib import Path; from lib.survey import bricks, mirror, roots\n"
        "mirror.brick(roots.at(sys.argv[1]), sys.argv[2], bricks.wanted('grz', ('coadd', 'map', 'brick')), Path(sys.argv[3]), mirror.Tries())"
    )
    died = subprocess.Popen([sys.executable, "-c", code, server.url, NAME, str(tmp_path)], cwd=ROOT)
    part, end = tmp_path / f"{stopped}.part", time.monotonic() + 60
    while not part.is_file() and time.monotonic() < end:
        time.sleep(0.02)
    os.kill(died.pid, signal.SIGKILL)
    assert died.wait() == -signal.SIGKILL
    came = left(tmp_path) - {f"{stopped}.part"}
    assert part.is_file() and len(came) == 4 and stopped not in came
    rows = brick(roots.at(server.url), tmp_path)
    assert {f: rows[f]["status"] for f in FILES} == {f: "present" if f in came else "copied" for f in FILES}
    assert left(tmp_path) == FILES and same(tiny_survey, tmp_path, FILES)


def test_an_address_may_hold_no_secret_and_none_is_told(tmp_path):
    for address in ("https://me:hunter2@host/dr10", "s3://key:hunter2@bucket/dr10", "https://host/dr10?token=hunter2"):
        with pytest.raises(ConfigError) as error:
            roots.at(address)
        assert "hunter2" not in str(error.value) and ("host" in str(error.value) or "bucket" in str(error.value))
    with pytest.raises(ConfigError, match="unknown option key"):
        roots.at("s3://bucket/dr10?key=hunter2")


def test_a_root_that_cannot_be_reached_is_told_at_once(tmp_path):
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(InputError, match=f"cannot reach {address}"):
        roots.at(address).reach()
    with pytest.raises(InputError, match="cannot reach s3://sky/dr10"):
        roots.at(f"s3://sky/dr10?endpoint={address}", timeout_s=2.0).reach()
    with pytest.raises(InputError, match="no such survey folder"):
        roots.at(str(tmp_path / "none")).reach()


@pytest.fixture
def bucket(published, s3_bucket):
    """The published brick in a bucket."""
    for path in published.rglob("*"):
        if path.is_file():
            place.at(s3_bucket).put(str(path.relative_to(published)), path.read_bytes())
    return s3_bucket


def test_a_brick_is_copied_from_a_bucket(bucket, published, tmp_path):
    root = pickle.loads(pickle.dumps(roots.at(bucket)))  # as it comes to a worker
    root.reach()
    rows = brick(root, tmp_path / "copy")
    assert {(rows[f]["status"], rows[f]["check"]) for f in FILES} == {("copied", "sha256")}
    assert Counter(row["status"] for row in rows.values()) == {"copied": 11, "absent": 3}
    assert same(published, tmp_path / "copy", FILES)


def test_a_bucket_that_fails_is_asked_again_and_one_that_refuses_is_not(bucket, s3_server, published, tmp_path, monkeypatch):
    with servers.faulty(s3_server.endpoint, servers.share(seed=2, slow=0.1, error=0.1, drop=0.1, half=0.25)) as proxy:
        rows = brick(roots.at(bucket.replace(s3_server.endpoint, proxy.endpoint)), tmp_path / "copy")
        assert {(rows[f]["status"], rows[f]["check"]) for f in FILES} == {("copied", "sha256")} and len(proxy.faults()) == 4
    assert same(published, tmp_path / "copy", FILES)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    row = mirror.copy(roots.at(bucket), IMAGE, tmp_path / "refused", QUICK)
    assert (row["status"], row["attempts"]) == ("failed", 1) and "access denied" in row["error"]


# the job -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def copied(tiny_dataset, tmp_path):
    """The data set, in a root of its own."""
    shutil.copytree(tables.root(tiny_dataset), tmp_path / "root")
    return Dataset.at(str(tmp_path / "root"), "set", "tiny")


@pytest.fixture
def job(copied, tiny_tier, tmp_path):
    """``cache`` with more flags; its exit code."""
    flags = ["--tier", str(tiny_tier), "--root", str(tables.root(copied)), "--dataset", "set", "--survey", str(tmp_path / "copy")]
    return lambda source, *more: main(["cache", "--source", source, *flags, "--backoff", "0.01", "--attempts", "3", *more])


def cache(dataset: Dataset) -> list[dict]:
    return runs.read(dataset, "cache").to_pylist()


def test_stamps_from_the_copy_are_those_from_the_survey(spark, server, job, copied, tiny_tier, tmp_path, caplog):
    server.faults = {IMAGE: ["drop"], MASK: [500, "short"]}
    with caplog.at_level("INFO"):
        assert job(server.url) == 0
    assert "absent: optional files, which the survey lacks (PSFs, masks, checksums)" in caplog.text
    rows = cache(copied)
    names = sorted(set(runs.read(copied, "manifest")["brickname"].to_pylist()))
    assert Counter(row["brickname"] for row in rows) == dict.fromkeys(names, 14)
    assert Counter(row["status"] for row in rows) == {"copied": 10 * len(names), "absent": 4 * len(names)}
    told = {row["file"]: row for row in rows}
    assert (told[IMAGE]["attempts"], told[MASK]["attempts"]) == (2, 3)
    flags = ["--tier", str(tiny_tier), "--root", str(tables.root(copied)), "--dataset", "set"]
    before = {table: runs.read(copied, table).sort_by("task_id") for table in ("stamps", "metrics")}
    assert main(["inject", "--survey", str(tmp_path / "copy"), *flags, "--replace"]) == 0
    for table, rows_before in before.items():
        assert runs.read(copied, table).sort_by("task_id").equals(rows_before)
    record = next(r for r in runs.records(copied) if r["command"] == "cache")
    size = sum(f.stat().st_size for f in (tmp_path / "copy" / "coadd").rglob("*.fz"))
    assert json.loads(record["counts"])["bytes copied"] == size


def test_a_run_that_is_whole_is_reused_and_one_that_lost_a_file_fetches_that_file(spark, server, job, copied, tmp_path):
    assert job(server.url) == 0
    before, run = len(server.asked), runs.committed(copied, "cache")
    assert job(server.url) == 0
    assert (len(server.asked), runs.committed(copied, "cache")) == (before, run)
    (tmp_path / "copy" / IMAGE).unlink()
    assert job(server.url) == 0
    assert {path for path, _ in server.asked[before:] if (server.folder / path).is_file()} == {IMAGE}
    assert runs.committed(copied, "cache") != run
    assert {row["file"] for row in cache(copied) if row["status"] == "copied"} == {IMAGE}


def test_missing_and_failed_files_are_named_at_the_end_and_had_by_the_next_run(spark, server, job, copied, capsys):
    server.faults, server.forever = {IMAGE: [404], MASK: [500]}, True
    assert job(server.url) == 1
    said = capsys.readouterr().err
    assert IMAGE in said and MASK in said and "2 of" in said
    rows = {row["file"]: row for row in cache(copied)}
    assert (rows[IMAGE]["status"], rows[MASK]["status"]) == ("missing", "failed")  # an optional file must be there or not be there
    assert Counter(row["status"] for row in rows.values() if row["needed"])["copied"] == sum(row["needed"] for row in rows.values()) - 1
    assert job(server.url, "--allow-missing", "1") == 1
    assert job(server.url, "--allow-missing", "2") == 0
    server.faults = {}
    assert job(server.url) == 0
    assert {row["file"] for row in cache(copied) if row["status"] == "copied"} == {IMAGE, MASK}
    assert Counter(row["status"] for row in cache(copied))["failed"] == 0


@pytest.mark.parametrize("most, slow_s", [(1, 0.01), (4, 0.05)])
def test_no_more_files_than_allowed_are_on_their_way_at_once(most, slow_s, spark, server, job):
    server.slow_s = slow_s
    assert job(server.url, "--concurrency", str(most)) == 0
    assert server.most == most


def test_a_folder_is_a_source_too_and_never_its_own_copy(spark, tiny_survey, job, tmp_path, capsys):
    assert job(str(tiny_survey)) == 0
    assert same(tiny_survey, tmp_path / "copy", FILES)
    assert job(str(tmp_path / "copy")) == 2
    assert "same folder" in capsys.readouterr().err


def test_a_full_disk_is_told_and_nothing_is_published(spark, server, job, copied, tmp_path, capsys):
    """Every file of two bricks meets a full disk, so that none of Spark's tries finds room."""
    tables.rewrite(copied, "manifest", lambda rows: rows.filter([name in tiny.BRICKS[:2] for name in rows["brickname"].to_pylist()]))
    for name in tiny.BRICKS[:2]:
        for kind, band, _ in WANTED:
            part = tmp_path / "copy" / f"{bricks.path(Path(), name, kind, band)}.part"
            part.parent.mkdir(parents=True, exist_ok=True)
            part.symlink_to("/dev/full")
    assert job(server.url) == 3
    assert "cache: the disk is full: free some space and run the same command again" in capsys.readouterr().err
    assert runs.committed(copied, "cache") == []
    for part in (tmp_path / "copy").rglob("*.part"):
        part.unlink()
    assert job(server.url) == 0
    assert same(server.folder, tmp_path / "copy", FILES)


def test_a_disk_that_was_full_is_tried_again(spark, server, job, copied, tmp_path):
    part = tmp_path / "copy" / f"{IMAGE}.part"
    part.parent.mkdir(parents=True)
    part.symlink_to("/dev/full")
    assert job(server.url) == 0
    assert not part.is_symlink() and len(runs.committed(copied, "cache")) == 1


def test_a_target_in_use_or_a_source_out_of_reach_is_told_before_any_work(spark, server, job, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lib.spark.produce", lambda *_, **__: pytest.fail("work was started"))
    (tmp_path / "copy").mkdir()
    with held(place.at(tmp_path / "copy"), "_lease-cache", "another cache"):
        assert job(server.url) == 3
    assert "is being written by another cache (process" in capsys.readouterr().err
    assert job("http://127.0.0.1:9") == 3
    assert "cannot reach http://127.0.0.1:9" in capsys.readouterr().err
    assert job("https://me:hunter2@host/dr10") == 2
    assert "hunter2" not in capsys.readouterr().err


def test_what_is_copied_follows_the_tiers_sources_of_the_psf():
    def kinds(*sources):
        return {(kind, needed) for kind, _, needed in bricks.wanted("grz", sources)}

    base = {("image", True), ("invvar", True), ("maskbits", False)}
    assert kinds("brick", "catalogue") == base
    assert kinds("coadd", "map", "brick") == base | {("copsf", False), ("psfsize", False)}
    assert kinds("map") == base | {("psfsize", True)}
