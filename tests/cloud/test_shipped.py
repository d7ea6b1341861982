"""The very spark-submit lines of a tier's steps on a cluster of this machine, with what EMR is shipped and with nothing else.

In an empty folder, with no python3 on the path.  What differs from EMR is the driver's place: there it runs on the cluster, here beside the master,
so the archive is unpacked here as YARN does it.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pyspark
import pytest

from infra import cluster as machines
from infra import dag, environment, line, package, ship
from lib import runs, shipped
from lib.store import Dataset
from tests import servers
from tests.cloud.test_pipeline import TABLES, rows

pytestmark = pytest.mark.skipif(
    "ARCMILL_SHIPPED" not in os.environ, reason="each step unpacks a gigabyte: minutes; `make test-shipped` runs it"
)
PYTHON = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
HIDDEN = ("python", "python3", PYTHON.name)


@pytest.fixture(scope="module")
def files():
    """What is shipped for this machine: the release's packages, this Python in the place of the release's, executors of one core."""
    architecture = {"x86_64": "x86_64", "aarch64": "arm64"}[os.uname().machine]
    made = machines.load("debug")
    made = dataclasses.replace(made, architecture=architecture, python=PYTHON.name.removeprefix("python"),
                               executor=dataclasses.replace(made.executor, cores=1, memory_gb=1))  # fmt: skip
    return made, ship.made(made, interpreter=str(PYTHON))


@pytest.fixture(scope="module")
def path_without_python(tmp_path_factory) -> Path:
    """A folder of links to all programs but Python."""
    folder = tmp_path_factory.mktemp("bin")
    for place in ("/usr/bin", "/bin"):
        for program in Path(place).iterdir():
            if not program.name.startswith("python") and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
    java = shutil.which("java")
    assert java and not any(shutil.which(name, path=str(folder)) for name in HIDDEN)
    if not (folder / "java").exists():
        (folder / "java").symlink_to(java)
    return folder


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    """A cluster that one executor fits on, with a folder of its own for temporary files: what is shipped compiles for itself."""
    with servers.cluster(workers=1, cores=1, memory="2g", env={"TMPDIR": str(tmp_path_factory.mktemp("tmp"))}) as made:
        yield made


def submitted(files, argv, master: str, folder: Path, path: Path) -> subprocess.CompletedProcess:
    """One step, as it is, in an empty folder with the archive unpacked."""
    made, sent = files
    if not (folder / "environment").exists():
        with tarfile.open(sent.environment) as archive:
            archive.extractall(folder / "environment")  # ours: no filter, which 3.11.2 does not know
    command = line.spark_submit(made, sent, argv, ("--master", master))
    environ = {
        "PATH": str(path), "HOME": str(folder), "SPARK_HOME": str(Path(pyspark.__file__).parent), "SPARK_LOCAL_IP": "127.0.0.1",
        "JAVA_HOME": os.environ.get("JAVA_HOME", ""), "TMPDIR": str(folder), "AWS_SECRET_ACCESS_KEY": "PLANTEDsecret",
    }  # fmt: skip
    command[0] = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
    return subprocess.run(command, cwd=folder, env={k: v for k, v in environ.items() if v}, capture_output=True, text=True, timeout=1200)


@pytest.fixture(scope="module")
def made_there(files, worker, path_without_python, tmp_path_factory):
    """(data set, what was said, folder): the demo tier, by its lines, from the simulated survey to its GO."""
    folder = tmp_path_factory.mktemp("empty")
    root = tmp_path_factory.mktemp("root")
    where = dag.Where(str(root), "demo", tier="demo", survey=str(root / "survey"), simulated="4")
    said = []
    for step in dag.steps(where):
        done = submitted(files, dag.argv(step, where), worker.address, folder, path_without_python)
        said.append(done.stdout + done.stderr)
        assert done.returncode == 0, said[-1][-3000:]
    return Dataset.at(str(root), "demo", "demo"), said, folder


@pytest.fixture(scope="module")
def made_here(tmp_path_factory) -> Dataset:
    """The demo, as a laptop runs it."""
    root = tmp_path_factory.mktemp("here")
    done = subprocess.run([sys.executable, "-m", "infra.demo", "--out", str(root)], capture_output=True, text=True, cwd=package.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return Dataset.at(str(root), "demo", "demo")


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_the_one_that_is_made_here(table, made_there, made_here):
    assert rows(made_there[0], table).equals(rows(made_here, table))


def test_the_demo_is_a_go(made_there):
    _, said, _ = made_there
    assert any('"verdict": "GO"' in text for text in said)


def others(dataset: Dataset, **hashes: str) -> list[str]:
    """Files of the tables whose footers tell of other files than those whose hashes begin so."""
    found = []
    for name in (n for table in (*TABLES, "validation", "selection") for n in runs.files(dataset, table)):
        footer = pq.read_schema(dataset.place.local / name).metadata
        found += [name] if not all(footer[k.encode()].decode().startswith(v) for k, v in hashes.items()) else []
    return found


def test_every_file_says_what_it_was_made_by(files, made_there):
    """The hashes of the zip and of the archive, and they are those of the files that were shipped."""
    _, sent = files
    dataset, _, folder = made_there
    code = sent.code.rpartition("-")[2].removesuffix(".zip")
    packages = sent.environment.rpartition("-")[2].removesuffix(".tar.gz")
    assert len(code) == len(packages) == 12
    assert others(dataset, code_sha256=code, environment_sha256=packages) == []
    assert others(dataset, code_sha256=packages) and others(dataset, environment_sha256=code), "another's hash is seen"
    assert environment.content(without_mark(folder / "environment")).startswith(packages)


def without_mark(tree: Path) -> Path:
    """The archive's tree as it was before it got its mark and was used."""
    (tree / shipped.MARK).unlink(missing_ok=True)
    for cache in list(tree.rglob("__pycache__")):
        shutil.rmtree(cache)
    return tree


def test_a_secret_of_the_environment_is_in_no_log_and_no_table(made_there, worker):
    dataset, said, _ = made_there
    logs = [p for p in worker.folder.rglob("*") if p.is_file() and p.suffix in ("", ".log")]
    assert logs and "parent" in "".join(said)
    for path in [*logs, *(p for p in dataset.place.local.rglob("*") if p.is_file())]:
        assert b"PLANTEDsecret" not in path.read_bytes(), path
    assert "PLANTEDsecret" not in "".join(said)


def test_without_the_archive_nothing_runs(files, worker, path_without_python, tiny_survey, tiny_tier, tmp_path):
    """The lines stand on the archive: with another file in its place the job ends with an error, on the driver or a worker."""
    made, sent = files
    where = dag.Where(str(tmp_path / "root"), "set", tier=str(tiny_tier), survey=str(tiny_survey))
    with tarfile.open(tmp_path / "empty.tar.gz", "w:gz"):
        pass
    broken = (made, dataclasses.replace(sent, environment=str(tmp_path / "empty.tar.gz")))
    done = submitted(broken, dag.argv(dag.steps(where)[0], where), worker.address, tmp_path, path_without_python)
    assert done.returncode != 0 and "environment/bin/python" in done.stdout + done.stderr
