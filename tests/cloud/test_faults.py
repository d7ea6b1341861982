"""A run that is disturbed gives the tables of one that is not, byte for byte: real processes, killed; a real S3 server, failing."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from infra import package, standalone
from jobs import inject as inject_job
from jobs.__main__ import main
from lib import chunks, config, place, runs, tiers
from lib import spark as spark_tables
from lib.errors import Unreachable
from lib.store import Dataset
from tests import servers, tables, tiny

ROOT = Path(__file__).resolve().parents[2]
BRICKS = tuple(f"{ra}{dec}" for dec in ("p022", "p025", "p027", "p030") for ra in ("1501", "1503", "1506", "1508"))
TIER = tiny.TIER.replace('"tiny"', '"wide"').replace("train = 8, val = 2, test = 2", "train = 20, val = 10, test = 5")


@pytest.fixture(scope="module")
def survey(tmp_path_factory) -> Path:
    """Sixteen bricks: as many chunks."""
    return tiny.make(tmp_path_factory.mktemp("wide"), BRICKS)


@pytest.fixture(scope="module")
def tier_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tier") / "wide.toml"
    path.write_text(TIER)
    return path


@pytest.fixture(scope="module")
def ready(spark, survey, tier_file, tmp_path_factory) -> Dataset:
    """Parents and a manifest. Do not change it."""
    root = tmp_path_factory.mktemp("ready")
    where = ["--tier", str(tier_file), "--root", str(root), "--dataset", "set"]
    assert main(["parent", "--survey", str(survey), *where]) == 0
    assert main(["manifest", *where]) == 0
    return Dataset.at(root, "set", "wide")


@pytest.fixture(scope="module")
def whole(spark, ready, survey, tier_file, tmp_path_factory) -> dict[str, str]:
    """The tables of a run that nothing disturbs."""
    root = tmp_path_factory.mktemp("whole")
    here = copied(ready, root)
    assert main(["inject", "--survey", str(survey), *flags(here, tier_file)]) == 0
    return contents(here)


@pytest.fixture
def here(ready, tmp_path) -> Dataset:
    return copied(ready, tmp_path)


def copied(dataset: Dataset, root: Path) -> Dataset:
    shutil.copytree(tables.root(dataset), root / "root")
    return Dataset.at(root / "root", dataset.name, dataset.tier)


def flags(dataset: Dataset, tier: Path) -> list[str]:
    return ["--tier", str(tier), "--root", dataset.root.url(), "--dataset", dataset.name]


def contents(dataset: Dataset) -> dict[str, str]:
    """Digest of every file of stamps and metrics, by its name; what is in the tables' folders and no record names is counted too."""
    names = [f.name for t in ("stamps", "metrics") for f in dataset.place.files(dataset.table(t))]
    assert sorted(names) == sorted(n for t in ("stamps", "metrics") for n in runs.files(dataset, t))
    return {f"{n.split('/')[0]}/{n.split('/')[-1]}": hashlib.sha256(dataset.place.read(n)).hexdigest() for n in names}


def start(*argv: str, master: str = "local[2,4]") -> subprocess.Popen:
    """A job in a process of its own, that leads a group."""
    env = os.environ | {"ARCMILL_MASTER": master, "PYSPARK_PYTHON": sys.executable}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs", *argv],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def done(dataset: Dataset) -> int:
    return sum("/chunk-" in f.name for f in dataset.place.files(dataset.log()))


def wait_for_chunks(dataset: Dataset, process: subprocess.Popen, count: int = 1) -> int:
    """How many chunks are on record, once there are ``count``."""
    until = time.monotonic() + 240
    while (found := done(dataset)) < count:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < until, "no chunk was made"
        time.sleep(0.01)
    return found


def kill(process: subprocess.Popen) -> None:
    """kill -9 of a driver; its JVM and workers end by themselves, as those of a cluster do."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def finish(process: subprocess.Popen) -> str:
    """What a job that ends well said."""
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said[-3000:]
    return said


@pytest.fixture(scope="module")
def killed(ready, survey, tier_file, tmp_path_factory) -> Dataset:
    """What a driver left that was killed when it had made two chunks. Do not change it."""
    here = copied(ready, tmp_path_factory.mktemp("killed"))
    first = start("inject", "--survey", str(survey), *flags(here, tier_file), master="local[1,4]")
    assert wait_for_chunks(here, first, 2) < len(BRICKS)
    kill(first)
    until = time.monotonic() + 60
    while any(p.session == first.pid for p in standalone.processes()):  # its workers end with it
        assert time.monotonic() < until
        time.sleep(0.05)
    return here


def test_a_driver_that_is_killed_loses_no_chunk_that_is_on_record(killed, survey, tier_file, whole, tmp_path):
    here = copied(killed, tmp_path)
    argv, there = ["inject", "--survey", str(survey), *flags(here, tier_file)], done(here)
    (begun,) = [f.name for f in here.place.files(here.log()) if f.name.endswith("begin.json")]
    said = finish(start(*argv))
    assert f"run {begun.split('/')[-2]} goes on, " in said
    assert int(said.split(" of its chunks are there")[0].split()[-1]) == there
    assert contents(here) == whole
    assert done(here) == 0


def test_a_run_that_is_stopped_by_ctrl_c_says_so_and_goes_on(here, survey, tier_file, whole, spark):
    argv = ["inject", "--survey", str(survey), *flags(here, tier_file)]
    first = start(*argv, master="local[1,4]")
    wait_for_chunks(here, first)
    os.kill(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=60)
    assert first.returncode == 130, said[-3000:]
    assert said.splitlines()[-1] == "inject: stopped; what is committed stays, and the same command goes on from there"
    assert "Traceback" not in said
    assert main(argv) == 0
    assert contents(here) == whole


def test_other_settings_are_refused_between_a_kill_and_its_resume(killed, survey, tier_file, whole, tmp_path, spark, capsys):
    argv, here = ["inject", "--survey", str(survey)], copied(killed, tmp_path)
    other = tmp_path / "wide.toml"
    other.write_text(TIER + "[noise]\npoisson = false\n")
    assert main([*argv, *flags(here, other)]) == 2
    said = capsys.readouterr().err
    assert "a part of the table was made by run" in said and "noise.poisson: True -> False" in said and "--replace" in said
    assert main([*argv, *flags(here, tier_file)]) == 0
    assert contents(here) == whole


def test_a_second_run_is_refused_and_told_of_the_first(here, survey, tier_file, whole, spark, capsys):
    """The first goes on as if there were none, and makes one chunk at a time: the files are the same."""
    argv = ["inject", "--survey", str(survey), *flags(here, tier_file)]
    first = start(*argv, master="local[1,4]")
    wait_for_chunks(here, first)
    assert main(argv) == 3
    assert f"is being written by inject of tier wide (process {first.pid} on " in capsys.readouterr().err
    finish(first)
    assert contents(here) == whole


def of_driver(pid: int) -> list[int]:
    """Python workers of a local run that run tasks: those that a JVM has started are daemons, which run none."""
    found = standalone.processes()
    jvms = {p.pid for p in found if "java" in p.command.partition(" ")[0]}
    return [p.pid for p in found if p.session == pid and "pyspark.worker" in p.command and p.parent not in jvms]


def test_a_python_worker_that_is_killed_is_replaced_and_seven_at_once_make_the_same_files(here, survey, tier_file, whole):
    running = start("inject", "--survey", str(survey), *flags(here, tier_file), master="local[7,4]")
    wait_for_chunks(here, running)
    os.kill(random.choice(of_driver(running.pid)), signal.SIGKILL)
    finish(running)
    assert contents(here) == whole


def test_a_cluster_of_two_workers_makes_the_same_files_though_an_executor_is_killed(cluster, here, ready, survey, tier_file, tmp_path):
    """As this machine does from the same zip, whose hash is in the files."""
    code, alone = package.build(tmp_path / "arcmill.zip"), copied(ready, tmp_path / "alone")
    env = os.environ | {"ARCMILL_MASTER": "local[2,4]", "PYSPARK_PYTHON": sys.executable, "PYTHONPATH": str(code)}
    job = [sys.executable, "-m", "jobs", "inject", "--survey", str(survey), *flags(alone, tier_file)]
    subprocess.run(job, cwd=tmp_path, env=env, check=True, capture_output=True)
    running = standalone.submit(cluster.address, code, ["inject", "--survey", str(survey), *flags(here, tier_file)], folder=tmp_path)
    until = time.monotonic() + 240
    while not done(here):
        assert running.poll() is None, running.said()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.01)
    servers.kill_executor(cluster)
    assert running.wait(timeout=400) == 0, running.said()[-3000:]
    assert contents(here) == contents(alone)


# faults that must be planted: the job itself runs as ever ---------------------------------------------------------------


def inject_with(spark, here, survey, tier_file, make):
    """What ``inject`` does, with another ``make``."""
    tier = tiers.load(str(tier_file))
    pieces = spark_tables.Pieces(spark, here, "manifest")
    sizes = {}
    for found in pieces.map(inject_job.sizes, ["brickname"]):
        sizes |= {name: sizes.get(name, 0) + n for name, n in found.items()}
    planned = chunks.of_bricks(sizes)
    with runs.start(here, "inject", ["stamps", "metrics"], config.plain(tier), {"planted": 1}, resumes=True) as run:
        rows = spark_tables.routed(spark, here, "manifest", inject_job.Route(planned), list(range(len(planned))))
        spark_tables.produce(spark, run, planned, partial(make, survey=place.at(survey), tier=tier), routed=rows)
        run.commit({"statuses": sorted(run.totals.items())})


def fails_three_times(rows, survey, tier, folder):
    """``inject_job.stamps``, but the disk of the first brick's chunk fails three times."""
    names = set(rows["brickname"].to_pylist())
    if BRICKS[0] in names:
        tries = len(list(folder.iterdir()))
        (folder / f"try-{tries}").touch()
        if tries < 3:
            yield from list(inject_job.stamps(rows, survey, tier))[:1]
            raise Unreachable("the disk failed")
    yield from inject_job.stamps(rows, survey, tier)


def test_a_task_that_fails_three_times_and_then_succeeds_is_there_once(spark, here, survey, tier_file, whole, tmp_path):
    (tmp_path / "tries").mkdir()
    inject_with(spark, here, survey, tier_file, partial(fails_three_times, folder=tmp_path / "tries"))
    assert len(list((tmp_path / "tries").iterdir())) == 4
    assert contents(here) == whole


def test_a_brick_that_vanishes_before_it_is_read_is_told_in_its_rows_and_the_others_are_made(
    spark, here, survey, tier_file, whole, tmp_path
):
    part = tmp_path / "survey"
    shutil.copytree(survey, part, copy_function=os.link)

    def vanishing(rows, survey, tier):
        shutil.rmtree(part / "coadd" / BRICKS[3][:3] / BRICKS[3], ignore_errors=True)
        yield from inject_job.stamps(rows, survey, tier)

    inject_with(spark, here, part, tier_file, vanishing)
    metrics = runs.read(here, "metrics", ["task_id", "brickname", "status"]).to_pylist()
    assert {m["brickname"] for m in metrics if m["status"] == "missing_file"} == {BRICKS[3]}
    assert {m["status"] for m in metrics if m["brickname"] != BRICKS[3]} == {"ok"}
    assert sorted(m["task_id"] for m in metrics) == sorted(runs.read(here, "manifest", ["task_id"])["task_id"].to_pylist())
    made = contents(here)
    assert len(made.keys() - whole.keys()) == 2 and len(made.keys() & whole.keys()) == len(whole) - 2


def test_a_disk_that_is_full_ends_the_run_with_its_name_and_what_is_made_stays(ready, survey, tier_file, whole, tmp_path, spark, caplog):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("a disk of its own needs the right to mount one")
    try:
        here = copied(ready, small)
        argv = ["inject", "--survey", str(survey), *flags(here, tier_file)]
        running = start(*argv, master="local[1,2]")  # each try that fails costs a Python worker: few chunks are left, two tries each
        wait_for_chunks(here, running, 10)
        filler = small / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(100_000))
        _, said = running.communicate(timeout=400)
        assert running.returncode == 3
        assert "No space left on device" in said and str(here.place) in said.splitlines()[-1]
        assert "Traceback" not in said.splitlines()[-1]
        kept = done(here)
        assert 0 < kept < len(BRICKS)
        filler.unlink()
        with caplog.at_level("INFO"):
            assert main(argv) == 0
        assert f"{kept} of its chunks are there" in caplog.text
        assert contents(here) == whole
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


# on S3 -------------------------------------------------------------------------------------------------------------------


def uploaded(folder: Path, server, prefix: str) -> str:
    there = place.at(server.address(prefix))
    for path in folder.rglob("*"):
        if path.is_file():
            there.put(str(path.relative_to(folder)), path.read_bytes())
    return prefix


@pytest.fixture(scope="module")
def bricks(survey, s3_server) -> str:
    """The bricks' place in the bucket. Do not change it."""
    return uploaded(survey, s3_server, f"bricks-{random.Random().getrandbits(40):x}")


@pytest.fixture
def bucket(ready, bricks, s3_server) -> tuple[str, str]:
    """(root, survey) in the bucket: a copy of what is ready, and the bricks."""
    return uploaded(tables.root(ready), s3_server, f"faults-{random.Random().getrandbits(40):x}"), bricks


def argv_on(server, bucket, tier_file, endpoint="") -> list[str]:
    root, survey = (server.address(name, endpoint) for name in bucket)
    return ["inject", "--survey", survey, "--tier", str(tier_file), "--root", root, "--dataset", "set"]


def test_a_bucket_that_fails_every_fifth_request_holds_the_same_tables(bucket, s3_server, tier_file, whole, spark):
    with servers.faulty(s3_server.endpoint, servers.share(seed=3, slow=0.15, error=0.03, drop=0.02)) as proxy:
        assert main(argv_on(s3_server, bucket, tier_file, proxy.endpoint)) == 0
        assert proxy.faults()["slow"] > 20
    assert contents(Dataset.at(s3_server.address(bucket[0]), "set", "wide")) == whole


def test_a_driver_that_is_killed_goes_on_in_a_bucket_as_on_a_disk(bucket, s3_server, tier_file, whole, spark, caplog):
    here = Dataset.at(s3_server.address(bucket[0]), "set", "wide")
    first = start(*argv_on(s3_server, bucket, tier_file), master="local[1,4]")
    wait_for_chunks(here, first, 2)
    kill(first)
    with caplog.at_level("INFO"):
        assert main(argv_on(s3_server, bucket, tier_file)) == 0
    assert " of its chunks are there" in caplog.text
    assert contents(here) == whole


@pytest.fixture
def dense(spark, survey, tmp_path) -> tuple[Dataset, list[str], dict[str, str]]:
    """(data set with a manifest, flags, tables of a run that nothing disturbs) of chunks that take some tenths of a second each."""
    (tmp_path / "wide.toml").write_text(
        TIER.replace("configs_per_host = 6", "configs_per_host = 48\nreplicates = 2").replace("paired = 0.5", "paired = 1.0")
    )
    made = Dataset.at(tmp_path / "calm", "set", "wide")
    argv = flags(made, tmp_path / "wide.toml")
    assert main(["parent", "--survey", str(survey), *argv]) == 0 and main(["manifest", *argv]) == 0
    here = copied(made, tmp_path)
    assert main(["inject", "--survey", str(survey), *argv]) == 0
    return here, flags(here, tmp_path / "wide.toml"), contents(made)


def test_twenty_kills_lose_and_double_nothing(dense, survey):
    """The Python worker when it is at its next chunk, then once or twice while another starts, and every seventh time the driver."""
    here, more, calm = dense
    argv, random_ = ["inject", "--survey", str(survey), *more], random.Random(5)
    begin = partial(start, *argv, master="local[1,8]")
    running, kills, drivers, again = begin(), 0, 0, 0
    until = time.monotonic() + 500
    while kills < 20 and time.monotonic() < until and running.poll() != 0:
        if running.returncode is not None:  # it gave up: a chunk was killed eight times
            running = begin()
        if again:
            time.sleep(random_.uniform(0.1, 1.0))
        else:
            seen = done(here)
            while done(here) <= seen and running.poll() is None:
                time.sleep(0.005)
            time.sleep(random_.uniform(0.0, 0.1))
        if kills % 7 == 6:
            kill(running)
            kills, drivers, again, running = kills + 1, drivers + 1, 0, begin()
        elif workers := of_driver(running.pid):
            os.kill(random_.choice(workers), signal.SIGKILL)
            kills, again = kills + 1, again - 1 if again else random_.choice((1, 2))
    if running.poll() != 0:
        running.communicate()
        assert main(argv) == 0
    assert kills == 20 and drivers == 2
    assert contents(here) == calm
    (record,) = [r for r in runs.records(here) if r["command"] == "inject"]
    assert set(json.loads(record["counts"])["rows"].values()) == {5600}
