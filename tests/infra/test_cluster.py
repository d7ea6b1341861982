"""Machines and Spark's settings, of TOML files."""

from pathlib import Path

import pytest

from infra import cluster
from lib.errors import ConfigError

SHIPPED = Path(cluster.__file__).parent


def changed(tmp_path, name: str, *changes: tuple[str, str]) -> str:
    """A shipped cluster's file with some text in the place of other text."""
    text = (SHIPPED / f"{name}.toml").read_text()
    for old, new in changes:
        assert text.count(old) >= 1
        text = text.replace(old, new, 1)
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", cluster.names())
def test_every_shipped_cluster_loads_and_every_setting_has_a_reason(name):
    made = cluster.load(name)
    assert made.name == name and made.cores >= made.executor.cores
    settings = made.settings()
    assert all(len(s.why.split()) >= 2 for s in settings.values())
    assert {"spark.executor.cores", "spark.executor.memoryOverhead", "spark.task.maxFailures", "spark.speculation",
            "spark.excludeOnFailure.enabled", "spark.decommission.enabled"} <= settings.keys()  # fmt: skip


def test_debug_grid_train_and_mosaics_ship():
    assert {"debug", "grid", "train", "mosaic-gpu"} <= set(cluster.names())
    assert [cluster.load(n).clean for n in ("debug", "grid", "train")] == [False, True, True]


def test_graviton_or_x86_by_one_key(tmp_path):
    made = cluster.load(changed(tmp_path, "train", ('architecture = "arm64"', 'architecture = "x86_64"')))
    assert made.architecture == "x86_64" and made.ec2.task.types[made.architecture][0].startswith("m6i")


@pytest.mark.parametrize("name, change, says", [
    ("train", ("machines_max", "machine_max"), r"unknown key ec2.machine_max \(did you mean machines_max\?\)"),
    ("debug", ('mode = "serverless"', 'mode = "kubernetes"'), "mode must be one of ec2, serverless"),
    ("debug", ('architecture = "arm64"', 'architecture = "arm"'), "architecture must be one of"),
    ("debug", ('mode = "serverless"', 'mode = "ec2"'), r"mode ec2 wants a table \[ec2\]"),
    ("debug", ("cores = 4", "cores = 3"), "a worker of EMR Serverless has 1, 2, 4, 8, 16 cores, got 3"),
    ("debug", ("emr-spark-8.0.0", "spark-8"), "label of EMR"),
    ("debug", ("cores = 4", 'cores = "4"'), "executor.cores must be int, got '4'"),
    ("train", ("machines_max = 30", "machines_max = 20"), "at least the 30 machines"),
    ("train", ("spot = 29", "spot = 0"), "one at least, got 0 and 0"),
    ("mosaic-gpu", ('architecture = "x86_64"', 'architecture = "arm64"'), "gpu wants mode ec2 and architecture x86_64"),
    ("mosaic-gpu", ('why = "one on each machine with a GPU"', 'why = " "'), "spark.executor.instances wants a reason"),
    ("mosaic-gpu", ('value = "20%"', 'value = "20 %"'), "would be cut apart"),
    ("train", ("arm64 = [\"m7g.xlarge\"", "arm = [\"m7g.xlarge\""), "unknown architecture arm; known"),
])  # fmt: skip
def test_what_is_wrong_in_a_file_is_named(name, change, says, tmp_path):
    with pytest.raises(ConfigError, match=says):
        cluster.load(changed(tmp_path, name, change))


def test_an_unknown_cluster_is_named_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown cluster 'trian' \(did you mean train\?\); known: debug, grid"):
        cluster.load("trian")
