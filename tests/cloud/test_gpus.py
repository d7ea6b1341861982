"""GPUs as Spark gives them out, on a cluster whose workers report addresses of GPUs that are not there."""

import re

import numpy as np
import pytest

from infra import cluster as machines
from infra import package
from tests import servers
from tests.mosaic import files

ADDRESSES = ("0", "3")
JOB = """
import time
from pyspark import TaskContext
from pyspark.sql import SparkSession
from lib import spark

def held(_):
    began = time.time()
    time.sleep(3.0)
    return TaskContext.get().partitionId(), spark.gpu(), began, time.time()

def main(argv):
    for row in SparkSession.builder.getOrCreate().sparkContext.parallelize(range(4), 4).map(held).collect():
        print("held", *row)
"""


@pytest.fixture(scope="module")
def with_gpus():
    with servers.cluster(workers=1, cores=2, memory="3g", gpus=ADDRESSES) as made:
        yield made


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Those of the shipped cluster that speak of GPUs and executors; of a machine of four cores, one is here."""
    shipped = {k: s.value for k, s in machines.load("mosaic-gpu").settings().items() if "gpu" in k.lower()}
    assert shipped["spark.task.resource.gpu.amount"] == "0.25" and shipped["spark.executor.resource.gpu.amount"] == "1"
    return shipped | {"spark.executor.cores": "1", "spark.executor.memory": "1g"}


def test_tasks_at_the_same_time_have_gpus_of_their_own(with_gpus, settings, tmp_path):
    code = package.build(tmp_path / "code.zip", {"probe.py": JOB.encode()})
    entry = tmp_path / "entry"
    entry.mkdir()
    running = servers.submit(with_gpus.address, code, ["probe"], entry, conf=settings, main="import sys, probe\nprobe.main(sys.argv[1:])\n")
    assert running.wait(timeout=240) == 0, running.said()[-3000:]
    held = [(int(k), gpu, float(a), float(b)) for k, gpu, a, b in re.findall(r"^held (\d) (\w+) (\S+) (\S+)$", running.said(), re.M)]
    assert len(held) == 4 and {gpu for _, gpu, _, _ in held} == set(ADDRESSES)
    together = [(one, other) for one in held for other in held if one[0] < other[0] and one[2] < other[3] and other[2] < one[3]]
    assert together and all(one[1] != other[1] for one, other in together)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    return files.write(tmp_path_factory.mktemp("frames"), files.small(bands=1))


def test_coadds_read_their_address_and_are_made_on_the_cpu_where_it_is_none(with_gpus, settings, frames, spark, tmp_path):
    """The executors' logs name the devices that were tried; the pixels are those of a run without GPUs."""
    text = "[lattice]\ntile_pix = 256\n[[level]]\nname = 'mosaic'\ngroup = 'canvas'\n"
    with_gpu = files.written(tmp_path / "fast.toml", f"name = 'fast'\ngpu = true\n{text}")
    plain = files.written(tmp_path / "plain.toml", f"name = 'plain'\n{text}")
    assert files.run(frames, tmp_path, plain) == 0
    flags = ["--frames", str(frames), "--recipe", with_gpu, "--root", str(tmp_path), "--dataset", "set"]
    code = package.build(tmp_path / "code.zip")
    for job in ("tiles", "coadd"):
        running = servers.submit(with_gpus.address, code, [job, *flags], tmp_path, conf=settings)
        assert running.wait(timeout=400) == 0, running.said()[-3000:]
    logs = "".join(p.read_text(errors="replace") for p in with_gpus.folder.rglob("stderr"))
    assert set(re.findall(r"made on the CPU: no device (\w+):", logs)) == set(ADDRESSES)
    here, there = (
        {r["tile_id"]: r for r in files.table(tmp_path, name, "coadds") if r["level_name"] == "polished"} for name in ("plain", "fast")
    )
    assert here.keys() == there.keys() and len(here) > 4
    for tile, row in here.items():
        assert there[tile]["backend"] == "numba"
        np.testing.assert_array_equal(files.pixels(tmp_path, row)["SCIENCE"], files.pixels(tmp_path, there[tile])["SCIENCE"])
