"""A step as spark-submit takes it: the same line for YARN, for EMR Serverless and for a standalone cluster, but for where the driver runs."""

from collections.abc import Sequence

from infra.cluster import Cluster
from infra.ship import Shipped

PYTHON = "./environment/bin/python"  # where Spark unpacks the archive, beside each process
YARN = ("--master", "yarn", "--deploy-mode", "cluster")


def settings(cluster: Cluster) -> dict[str, str]:
    """Spark's settings, with the Python that driver and workers run."""
    return {key: setting.value for key, setting in cluster.settings().items()} | {"spark.pyspark.python": PYTHON}


def flags(cluster: Cluster, files: Shipped) -> list[str]:
    """What comes before the entry."""
    conf = [part for key, value in settings(cluster).items() for part in ("--conf", f"{key}={value}")]
    return [*conf, "--py-files", files.code, "--archives", f"{files.environment}#environment"]


def spark_submit(cluster: Cluster, files: Shipped, argv: Sequence[str], driver: Sequence[str] = YARN) -> list[str]:
    """The whole line; ``argv`` is the job and its flags."""
    return ["spark-submit", *driver, "--name", f"arcmill-{argv[0]}", *flags(cluster, files), files.entry, *argv]
