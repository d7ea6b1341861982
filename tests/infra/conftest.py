"""A server that answers as AWS does (moto), a stack, files to ship that are small."""

import dataclasses
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer

from infra import aws, cluster, dag, ship

REGION = "us-east-1"


@pytest.fixture(scope="session")
def aws_server():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def account(aws_server, monkeypatch):
    """An empty account; everything that asks AWS asks this server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    urlopen(Request(f"{aws_server}/moto-api/reset", method="POST"), timeout=10).close()
    return aws_server


STACK = aws.Stack(
    "lenses", "arn:aws:iam::123456789012:role/arcmill-service", "arcmill-machine", "arn:aws:iam::123456789012:role/arcmill-job",
    "arcmill-security", "subnet-1,subnet-2",
)  # fmt: skip
WHERE = dag.Where("s3://lenses/sets", "mine", tier="debug", survey="s3://sky/dr10/south")
FILES = ship.Shipped(*(f"s3://lenses/artifacts/{n}" for n in (
    "arcmill-0123456789ab.zip", "environment-aarch64-0123456789ab.tar.gz", "submit_main-0123456789ab.py", "bootstrap-0123456789ab.sh")))  # fmt: skip


def asked(name: str, **changes) -> aws.Asked:
    """A run on a shipped cluster; ``changes`` are of the cluster."""
    made = dataclasses.replace(cluster.load(name), **changes)
    recipe = dag.Where("s3://lenses/sets", "mine", recipe="survey", frames="s3://sky/frames")
    return aws.Asked(made, recipe if made.gpu else dataclasses.replace(WHERE, tier=name), FILES, STACK)
