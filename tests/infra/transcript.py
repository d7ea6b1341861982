"""``python -m tests.infra.transcript > docs/transcript.md``: a first user's commands, run against moto's server, and what they printed."""

import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from infra import aws
from infra.package import ROOT

HEAD = """# A first user's sequence, as it was printed

On {date}, by `python -m tests.infra.transcript`, with moto's server in the place of AWS (no account was at hand): requests, refusals and clean-up are the tool's own, what EMR answers is moto's. Moto's Serverless does not know
Spark 8's label, which the sixth command shows; the debug tier is then sent to EMR on EC2, with `debug-ec2.toml`, a copy of `infra/cluster/train.toml` under another name and with `clean = false`. Moto runs no step. What an account has to show: [runbook](runbook.md).
"""
RUN = "--dataset first --root s3://{bucket}/sets"
SKY = "--survey s3://sky/dr10/south"
EC2 = "--cluster debug-ec2.toml"
COMMANDS = (  # and the exit code of each
    (0, "plan --tier debug --bricks 20"),
    (2, f"submit --tier debug --dataset first --root s3://b/sets {SKY} --bricks 20 --budget 5"),
    (0, "deploy --parameter SurveyBucket=sky --parameter SurveyPrefix=dr10/south --parameter Email=me@example.org "
        "--parameter Vpc={vpc} --parameter Subnets={subnet} --parameter RouteTables={table}"),
    (0, f"steps --tier debug {RUN} {SKY}"),
    (2, f"submit --tier debug {RUN} {SKY} --bricks 20 --budget 0.001"),
    (3, f"submit --tier debug {RUN} {SKY} --bricks 20 --budget 5"),
    (0, f"submit --tier debug {RUN} {SKY} --bricks 20 --budget 5 {EC2} --no-wait"),
    (0, f"submit --tier debug {RUN} {SKY} --bricks 20 --budget 5 {EC2} --no-wait"),
    (0, f"status --tier debug {RUN} {EC2}"),
    (3, f"logs --tier debug {RUN} {EC2} --step parent"),
    (2, f"submit --tier train {RUN} {SKY} --bricks 280000 --budget 100"),
    (0, f"teardown --tier debug {RUN} {EC2} --with-stack"),
    (0, f"status --tier debug {RUN} {EC2}"),
)  # fmt: skip


def network() -> dict[str, str]:
    """A network, as an account has one."""
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    return {"vpc": vpc, "subnet": subnet, "table": ec2.create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]}


def main() -> None:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    os.environ |= {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()), "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1", "PYTHONPATH": str(ROOT),
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
    }  # fmt: skip
    print(HEAD.format(date=datetime.date.today()))
    with tempfile.TemporaryDirectory() as folder:
        train = (ROOT / "infra" / "cluster" / "train.toml").read_text()
        own = train.replace('name = "train"', 'name = "debug-ec2"').replace("clean = true", "clean = false")
        (Path(folder) / "debug-ec2.toml").write_text(own)
        names = network() | {"bucket": ""}
        for k, (code, command) in enumerate(COMMANDS):
            command = command.format(**names)
            said = subprocess.run(
                [sys.executable, "-m", "infra", *command.split()], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            for line in [f"$ .venv/bin/python -m infra {command}", *said.stdout.splitlines(), f"[exit code {said.returncode}]"]:
                print(f"    {line}")
            if k + 1 < len(COMMANDS):
                print()
            assert said.returncode == code, said.stdout
            if command.startswith("deploy"):
                names["bucket"] = aws.stack().Bucket
    server.stop()


if __name__ == "__main__":
    main()
