"""What both ways to EMR share: clients, the stack's outputs, names and tags, errors in words.

Credentials are those of the AWS environment, profile or role; they are in no file, line or message of ours.
"""

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

from infra import dag
from infra.cluster import Cluster
from infra.ship import Shipped
from lib import config
from lib.errors import ArcmillError, ConfigError, InputError
from lib.place import at

STACK = "arcmill"
PLAIN = re.compile(r"[A-Za-z0-9._~/:?=&%+,-]*")  # nothing at which EMR or a shell would cut a line apart, were it in quotes
NAMED = "arcmill-"  # what the names of all runs begin with
NAME_MOST = 64  # letters of a Serverless application's name
EVERY_S, PATIENCE_S = 5.0, 1200.0  # of a teardown
TAG = "arcmill"  # the tag by which all that a run started is found


class AwsError(ArcmillError):
    """AWS refused, or could not be reached."""

    exit_code = 3


@dataclass(frozen=True)
class Stack:
    """Outputs of the CloudFormation stack (``infra/templates/arcmill.yaml``)."""

    Bucket: str
    ServiceRole: str
    InstanceProfile: str
    JobRole: str
    SecurityConfiguration: str
    Subnets: str = ""
    survey: str = ""  # the prefix that the jobs may read

    @property
    def artifacts(self) -> str:
        return f"s3://{self.Bucket}/artifacts"

    @property
    def sets(self) -> str:
        """Where the jobs may write."""
        return f"s3://{self.Bucket}/sets"

    @property
    def logs(self) -> str:
        return f"s3://{self.Bucket}/logs/"


@dataclass(frozen=True)
class Asked:
    """A run to start: what of, where, on what, with which files."""

    cluster: Cluster
    where: dag.Where
    files: Shipped
    stack: Stack
    replace: bool = False  # make anew what was made with other settings, or from other inputs

    @property
    def name(self) -> str:
        return run_name(self.cluster, self.where)

    @property
    def digest(self) -> str:
        """Equal runs, equal digests."""
        return config.digest([config.plain(self.cluster), config.plain(self.where), config.plain(self.files), self.replace])

    def argv(self, step: dag.Step) -> list[str]:
        return dag.argv(step, self.where, self.replace)

    @property
    def tags(self) -> dict[str, str]:
        made = self.where.tier or self.where.recipe
        return {
            TAG: "run",
            "tier": made,
            "dataset": self.where.dataset,
            "run": self.digest,
            "for-use-with-amazon-emr-managed-policies": "true",
        }


@dataclass(frozen=True)
class State:
    """How a step is: a word of EMR's, and why, if it failed."""

    step: str
    state: str
    id: str = ""
    reason: str = ""


def run_name(cluster: Cluster, where: dag.Where) -> str:
    """What a run is found by: words for people, and a hash of what it makes and on which machines."""
    made = where.tier or where.recipe
    mark = config.digest([cluster.name, where.root.partition("?")[0].rstrip("/"), where.dataset, made])[:8]
    words = f"{NAMED}{cluster.name}-{where.dataset}-{made}"
    return f"{words[: NAME_MOST - len(mark) - 1]}-{mark}"


def require_plain(where: dag.Where) -> None:
    """Refuse addresses that a shell or EMR could cut apart, or that are of this machine only."""
    for name, value in config.plain(where).items():
        if value.startswith("s3"):
            at(value)  # refuses an address with a user or a password, without saying them
        if not PLAIN.fullmatch(value):
            raise ConfigError(f"{name} may have letters, digits and ._~/:?=&%+,- on a cluster, got {value!r}")
        if name in ("root", "survey", "frames") and value and not value.startswith("s3://"):
            raise ConfigError(f"{name} must be an s3:// address on a cluster, got {value!r}")
    if where.bricks:
        raise ConfigError("--bricks is a folder of one machine: on a cluster the survey is read from its bucket, or copied to yours first")
    if where.simulated:
        raise ConfigError("a simulated survey is written to a folder: simulate it here and copy it to the bucket (docs/runbook.md)")


REACH = dict.fromkeys(("survey", "frames"), " (SurveyBucket and SurveyPrefix of deploy)")


def require_reach(cluster: Cluster, where: dag.Where, found: Stack) -> None:
    """Refuse what the stack's roles would refuse when the machines are there and paid for, and machines of EC2 without a network."""
    readable = [place for place in (found.survey, found.sets) if place]
    for name, places in (("root", [found.sets]), ("survey", readable), ("frames", readable)):
        address = getattr(where, name)
        options = dict(at(address).options) if address else {}
        if name == "root" and options.keys() & {"anonymous", "endpoint"}:
            raise ConfigError("the data sets lie in the stack's own bucket, which has neither endpoint= nor anonymous=")
        asks_nobody = options.get("anonymous") == "true" or "endpoint" in options  # a public bucket, or another's server
        if address and not asks_nobody and not any(f"{at(address)}/".startswith(f"{place}/") for place in places):
            raise ConfigError(f"{name} {address} is out of the roles' reach: they reach {' and '.join(places)}{REACH.get(name, '')}")
    if cluster.mode == "ec2" and not found.Subnets:
        raise ConfigError(
            f"cluster {cluster.name} is on EC2 and the stack has no network: give deploy Vpc, Subnets and RouteTables (docs/runbook.md)"
        )


def client(service: str) -> Any:
    region = os.environ.get("AWS_REGION")  # boto3 itself knows AWS_DEFAULT_REGION and profiles
    return boto3.client(service, region_name=region, config=Config(retries={"mode": "adaptive", "total_max_attempts": 8}))


def told(error: Exception) -> AwsError:
    """An error of AWS in words: what was asked for, the code, the message."""
    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        return AwsError(f"{error.operation_name}: {said.get('Code')}: {said.get('Message')}{_advice(said.get('Code', ''))}")
    if isinstance(error, NoRegionError | NoCredentialsError):
        return AwsError(f"{error} (set AWS_REGION, and credentials or a profile: docs/runbook.md, first run)")
    return AwsError(str(error))


def _advice(code: str) -> str:
    found = {"AccessDenied": "right", "AccessDeniedException": "right", "UnauthorizedOperation": "right", "ExpiredToken": "login",
             "ExpiredTokenException": "login", "UnrecognizedClientException": "login", "InvalidClientTokenId": "login"}.get(code)  # fmt: skip
    return {"right": " (your policy lacks this action: docs/runbook.md, security)", "login": " (log in to AWS again)"}.get(found or "", "")


def until(so: Callable[[], bool], what: str) -> None:
    """Wait for what a teardown has asked for."""
    end = time.monotonic() + PATIENCE_S
    while not so():
        if time.monotonic() > end:
            raise InputError(f"waited {PATIENCE_S:g} s for {what}: teardown again goes on")
        time.sleep(EVERY_S)


ERRORS = (ClientError, BotoCoreError)


def stack(name: str = STACK) -> Stack:
    """The outputs of the stack; an error says how to make it."""
    try:
        found = client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        raise ConfigError(f"there is no stack {name} in this region: the verb deploy makes it (docs/runbook.md)") from error
    outputs = {o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])}
    given = {p["ParameterKey"]: p["ParameterValue"] for p in found.get("Parameters", [])}
    survey = f"s3://{given['SurveyBucket']}/{given['SurveyPrefix']}" if {"SurveyBucket", "SurveyPrefix"} <= given.keys() else ""
    return config.build(Stack, {k: v for k, v in outputs.items() if k in Stack.__dataclass_fields__} | {"survey": survey})
