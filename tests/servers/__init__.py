"""What the pipeline runs against, for real and on this machine: an S3 server, one that fails, a Spark cluster."""

from infra.standalone import cluster, submit
from tests.servers.bucket import KEY, REGION, S3, SECRET, s3
from tests.servers.faulty import Faulty, faulty, script, share
from tests.servers.processes import executors, kill_executor, kill_python_worker, python_workers

__all__ = [
    "KEY", "REGION", "S3", "SECRET", "Faulty", "cluster", "executors", "faulty", "kill_executor", "kill_python_worker", "python_workers",
    "s3", "script", "share", "submit",
]  # fmt: skip
