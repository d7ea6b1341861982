"""The CloudFormation stack that runs stand on: bucket, roles, catalog, limits.  What is in it: ``infra/templates/arcmill.yaml``."""

import re
from pathlib import Path

from botocore.exceptions import ClientError

from infra.aws import client
from lib import config
from lib.errors import ConfigError

TEMPLATE = Path(__file__).parent / "templates" / "arcmill.yaml"
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM"]


def deploy(name: str, parameters: dict[str, str]) -> str:
    """Make the stack, or bring it up to this template, with the parameters that it has and those given; the word for what was done."""
    cloud = client("cloudformation")
    asked: dict = {"StackName": name, "TemplateBody": TEMPLATE.read_text(), "Capabilities": CAPABILITIES,
             "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in sorted(parameters.items())],
             "Tags": [{"Key": "arcmill", "Value": "stack"}]}  # fmt: skip
    try:
        there = cloud.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ValidationError":
            raise
        cloud.create_stack(**asked)
        cloud.get_waiter("stack_create_complete").wait(StackName=name)
        return "made"
    kept = sorted(p["ParameterKey"] for p in there.get("Parameters", []) if p["ParameterKey"] not in parameters)
    asked["Parameters"] += [{"ParameterKey": key, "UsePreviousValue": True} for key in kept]
    try:
        cloud.update_stack(**asked)
    except ClientError as error:
        if "No updates" not in str(error):
            raise
        return "unchanged"
    cloud.get_waiter("stack_update_complete").wait(StackName=name)
    return "updated"


def remove(name: str) -> None:
    """Remove the stack; its buckets are kept, as the template says."""
    cloud = client("cloudformation")
    cloud.delete_stack(StackName=name)
    cloud.get_waiter("stack_delete_complete").wait(StackName=name)


def parameters(given: list[str]) -> dict[str, str]:
    """Of ``KEY=VALUE``.

    >>> parameters(["Email=me@example.org"])
    {'Email': 'me@example.org'}
    """
    pairs = [text.partition("=") for text in given]
    if wrong := [text for text, (key, equal, _) in zip(given, pairs, strict=True) if not key or not equal]:
        raise ConfigError(f"--parameter takes KEY=VALUE, got {', '.join(wrong)}")
    known = re.findall(r"^  (\w+):$", TEMPLATE.read_text().partition("\nParameters:\n")[2].partition("\nConditions:\n")[0], re.MULTILINE)
    if unknown := [key for key, _, _ in pairs if key not in known]:
        raise ConfigError(f"the stack has no parameter {unknown[0]}{config.suggestion(unknown[0], known)}; it has {', '.join(known)}")
    return {key: value for key, _, value in pairs}
