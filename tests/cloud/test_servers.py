"""What the tests of clusters and buckets stand on does what it says."""

import os
import zipfile

import boto3
import pytest
from botocore.exceptions import ClientError

from infra.standalone import processes
from tests import servers

SLOW = """
import time
from pyspark.sql import SparkSession

def slowly(batches):
    for batch in batches:
        time.sleep(1.0)
        yield batch

def main(argv):
    spark = SparkSession.builder.getOrCreate()
    print("sum", spark.range(0, 40, 1, 4).mapInArrow(slowly, "id long").agg({"id": "sum"}).first()[0])
"""


@pytest.fixture
def slow_code(tmp_path):
    """A zip with a job of four tasks of a second, as ``submit_main.py`` runs it."""
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as code:
        code.writestr("jobs/__init__.py", "")
        code.writestr("jobs/__main__.py", SLOW)
    return tmp_path / "code.zip"


def test_killed_processes_of_a_cluster_are_gone_and_their_tasks_run_again(cluster, slow_code, tmp_path):
    running = servers.submit(cluster.address, slow_code, [], tmp_path)
    assert servers.kill_python_worker(cluster) not in servers.python_workers(cluster)
    assert servers.kill_executor(cluster) not in servers.executors(cluster)
    assert running.wait(timeout=180) == 0, running.said()
    assert "sum 780" in running.said() and "Lost task" in running.said() and "Lost executor" in running.said()


def test_a_cluster_leaves_nothing_behind():
    with servers.cluster(workers=1) as made:
        ours = {p.pid for p in processes() if p.session in made.workers}
        assert ours and made.folder.is_dir()
    assert not ours & {p.pid for p in processes()} and not made.folder.exists()


def test_the_server_refuses_a_wrong_key_and_a_second_create(s3_server, s3_bucket):
    key = s3_bucket.partition("sky/")[2].partition("?")[0]
    s3_server.client.put_object(Bucket="sky", Key=key, Body=b"1", IfNoneMatch="*")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3_server.client.put_object(Bucket="sky", Key=key, Body=b"2", IfNoneMatch="*")
    wrong = boto3.client(
        "s3", endpoint_url=s3_server.endpoint, aws_access_key_id=servers.KEY, aws_secret_access_key="x", region_name="us-east-1"
    )
    with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
        wrong.get_object(Bucket="sky", Key=key)


def test_the_proxy_changes_nothing_and_counts(s3_server, s3_bucket):
    key = s3_bucket.partition("sky/")[2].partition("?")[0]
    content = os.urandom(200_000)
    with servers.faulty(s3_server.endpoint) as proxy:
        client = servers.bucket.client(proxy.endpoint)
        client.put_object(Bucket="sky", Key=key, Body=content)
        assert client.get_object(Bucket="sky", Key=key)["Body"].read() == content
        assert client.get_object(Bucket="sky", Key=key, Range="bytes=10-19")["Body"].read() == content[10:20]
        assert proxy.methods() == {"PUT": 1, "GET": 2} and [(r.range, r.sent) for r in proxy.ranged()] == [("bytes=10-19", 10)]
        assert proxy.requests[0].received >= 200_000 and proxy.requests[1].sent == 200_000
        proxy.plan = servers.script(["slow"] * 10)
        with pytest.raises(ClientError, match="SlowDown"):
            servers.bucket.client(proxy.endpoint, attempts=1).get_object(Bucket="sky", Key=key)


def test_the_same_requests_of_the_same_seed_fail():
    plans = [servers.share(seed=4, slow=0.2, drop=0.1) for _ in range(2)]
    first, second = ([plan(k, "GET", "/") for k in range(2000)] for plan in plans)
    assert first == second
    assert 0.17 < first.count("slow") / 2000 < 0.23 and 0.08 < first.count("drop") / 2000 < 0.12
