"""Shared by all tests: the session, a small survey, a small data set made by the jobs themselves."""

import os
import sys
import uuid
from pathlib import Path

os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
os.environ.setdefault("ARCMILL_MASTER", "local[2,4]")

import pytest

from tests import servers, tiny

# Those of the tests' own server, from the start, so that the Python workers of any session have them; never a person's own.
os.environ |= {"AWS_ACCESS_KEY_ID": servers.KEY, "AWS_SECRET_ACCESS_KEY": servers.SECRET, "AWS_REGION": servers.REGION}
os.environ |= {"AWS_EC2_METADATA_DISABLED": "true"}
for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
    os.environ.pop(name, None)

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """A folder of real survey data; the test is skipped with a reason where it is absent."""
    if not (SHARED / name).exists():
        pytest.skip(f"real survey data are not here: {SHARED / name}")
    return SHARED / name


@pytest.fixture(scope="session")
def spark():
    from lib.spark import session

    return session("tests")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running S3 server with an empty bucket, for all tests: ``s3_server.address("folder")``, ``s3_server.client`` (boto3)."""
    with servers.s3(tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture
def s3_bucket(s3_server) -> str:
    """The address of a folder of the bucket that no other test writes to."""
    return s3_server.address(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def cluster():
    """A standalone Spark cluster of two workers. Executors may be killed; who kills a worker starts a cluster of his own."""
    with servers.cluster() as made:
        yield made


@pytest.fixture(scope="session")
def tiny_survey(tmp_path_factory) -> Path:
    """Six bricks of 560 px, 25 hosts each. Do not change it: copy what you break."""
    return tiny.make(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="session")
def tiny_tier(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("tier") / "tiny.toml"
    path.write_text(tiny.TIER)
    return path


@pytest.fixture(scope="session")
def tiny_dataset(spark, tiny_survey, tiny_tier, tmp_path_factory):
    """parent, manifest, stamps and metrics of the tiny tier. Do not change it: copy what you break."""
    from jobs.__main__ import main
    from lib.store import Dataset

    root = tmp_path_factory.mktemp("root")
    tables = ["--tier", str(tiny_tier), "--root", str(root), "--dataset", "set"]
    assert main(["parent", "--survey", str(tiny_survey), *tables]) == 0
    assert main(["manifest", *tables]) == 0
    assert main(["inject", "--survey", str(tiny_survey), *tables]) == 0
    return Dataset.at(str(root), "set", "tiny")
