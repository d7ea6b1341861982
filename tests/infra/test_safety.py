"""What must not get out, and what must not get in: secrets, names that are more than names, rights that nobody uses, resources that are open."""

import ast
import json
import logging
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
import yaml
from botocore.exceptions import ClientError

from infra import __main__ as infra
from infra import aws, dag, package, stack, watch
from lib import place, promotion, store
from lib.errors import ArcmillError, ConfigError, Unreachable
from tests.infra.conftest import asked

ROOT = package.ROOT
SECRET = "wJalrPLANTEDsecret0123456789bPxRfiCY"
CALLS = {  # of obstore, and what S3 asks a role to be allowed
    "get": {"s3:GetObject"}, "get_ranges": {"s3:GetObject"}, "head": {"s3:GetObject"}, "put": {"s3:PutObject", "s3:AbortMultipartUpload"},
    "delete": {"s3:DeleteObject"}, "list": {"s3:ListBucket"}, "list_with_delimiter": {"s3:ListBucket"},
}  # fmt: skip


class Loader(yaml.SafeLoader):
    """CloudFormation's short forms as plain values."""


Loader.add_multi_constructor(
    "!", lambda loader, tag, node: {tag: loader.construct_object(node) if isinstance(node, yaml.MappingNode) else node.value}
)
TEMPLATE = yaml.load(stack.TEMPLATE.read_text(), Loader)["Resources"]


def statements(name: str) -> list[dict]:
    return TEMPLATE[name]["Properties"]["PolicyDocument"]["Statement"]


def actions(found: list[dict]) -> set[str]:
    return {a for s in found for a in ([s["Action"]] if isinstance(s["Action"], str) else s["Action"])}


def called(source: str, module: str) -> set[str]:
    """Names of a module's functions that a source calls."""
    found = [n.func for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    return {f.attr for f in found if isinstance(f, ast.Attribute) and isinstance(f.value, ast.Name) and f.value.id == module}


def needed(source: str) -> set[str]:
    return set().union(*(CALLS[name] for name in called(source, "obstore")))


def test_the_jobs_may_do_what_their_calls_are_and_nothing_else():
    source = (ROOT / "lib" / "place.py").read_text()
    assert actions(statements("JobPolicy")) == needed(source)
    data = [s for s in statements("JobPolicy") if s["Sid"] == "Survey"]
    assert actions(data) == {"s3:GetObject"}, "the survey is read, never written"


def test_a_call_that_is_new_or_gone_shows_in_the_policy():
    source = (ROOT / "lib" / "place.py").read_text()
    assert needed(source.replace("obstore.delete(", "obstore.head(")) != actions(statements("JobPolicy"))
    with pytest.raises(KeyError, match="copy"):
        needed(source + "\nobstore.copy(store, a, b)\n")


def api_actions() -> set[str]:
    """What infra asks AWS for, by the methods' names in its sources."""
    found = set()
    for service, prefix, modules in (
        ("emr", "elasticmapreduce", ["ec2"]),
        ("emr-serverless", "emr-serverless", ["serverless"]),
        ("cloudformation", "cloudformation", ["aws"]),
        ("glue", "glue", ["catalog"]),
    ):
        methods = boto3.client(service, region_name="us-east-1").meta.method_to_api_mapping
        for name in modules:
            tree = ast.parse((ROOT / "infra" / f"{name}.py").read_text())
            used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
            used |= {n.args[0].value for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "attr", "") == "get_paginator"}
            found |= {f"{prefix}:{methods[m]}" for m in used & methods.keys()}
    return found


def test_people_who_submit_may_do_what_infra_asks_for_and_nothing_else():
    created = {"elasticmapreduce:AddTags", "emr-serverless:TagResource"}  # asked of those who create something with tags
    created |= {
        f"elasticmapreduce:Put{key}"
        for key in watch.requests(asked("train"))[0]
        if key in ("AutoTerminationPolicy", "ManagedScalingPolicy")
    }
    granted = {a for a in actions(statements("SubmitterPolicy")) if a.partition(":")[0] not in ("s3", "iam")}
    assert granted == api_actions() | created


def test_people_who_submit_may_write_a_promotion_and_no_other_part_of_a_data_set():
    written = [json.dumps(s["Resource"]) for s in statements("SubmitterPolicy") if "s3:PutObject" in actions([s])]
    assert [w for w in written if "sets" in w] == ['{"Sub": "${Data.Arn}/sets/*/_promotion/*"}']
    assert promotion.name("debug", "grid").startswith("_promotion/")


def test_no_statement_allows_everything():
    for name in ("JobPolicy", "SubmitterPolicy", "ServiceRoleMachines"):
        for s in statements(name):
            assert not any("*" in a for a in actions([s])), s["Sid"]
            if s["Resource"] == "*":
                verbs = ("Run", "List", "Create", "Describe", "AddTags", "TagResource")
                assert all(a.partition(":")[2].startswith(verbs) for a in actions([s])), s["Sid"]


def lint(path) -> subprocess.CompletedProcess:
    return subprocess.run([str(Path(sys.executable).parent / "cfn-lint"), str(path)], capture_output=True, text=True)


def test_the_template_is_clean_and_a_typo_in_it_is_seen(tmp_path):
    done = lint(stack.TEMPLATE)
    assert done.returncode == 0, done.stdout
    broken = tmp_path / "arcmill.yaml"
    broken.write_text(stack.TEMPLATE.read_text().replace("BlockPublicAcls", "BlockPublicAlcs", 1))
    assert "BlockPublicAlcs" in lint(broken).stdout


CHECKOV = ROOT / ".venv-checkov" / "bin" / "checkov"


@pytest.mark.skipif(
    not CHECKOV.is_file(), reason="checkov wants another boto3 than the jobs have: `make templates` installs it beside them"
)
def test_checkov_finds_nothing_and_sees_what_is_open(tmp_path):
    def failed(path):
        done = subprocess.run(
            [str(CHECKOV), "--skip-download", "--compact", "-o", "json", "-f", str(path)], capture_output=True, text=True, cwd=tmp_path
        )
        return {c["check_id"] for c in json.loads(done.stdout)["results"]["failed_checks"]}

    assert failed(stack.TEMPLATE) == set()
    broken = tmp_path / "arcmill.yaml"
    broken.write_text(
        stack.TEMPLATE.read_text()
        .replace("BlockPublicAcls: true", "BlockPublicAcls: false")
        .replace("EnableKeyRotation: true", "EnableKeyRotation: false")
    )
    assert failed(broken) == {"CKV_AWS_53", "CKV_AWS_7"}


NAMES = ["..", "a..b", "../up", "a b", "ü", "日本", "a;rm -rf", "$(x)", "a'b", 'a"b', "a|b", "a\nb", "`x`", "", "_x", ".x", "a/b", "*"]


@pytest.mark.parametrize("name", NAMES)
def test_a_data_set_has_a_name_that_is_nothing_but_a_name(name, tmp_path):
    with pytest.raises(ConfigError, match="dataset name must be ASCII"):
        store.Dataset.at(str(tmp_path), name, "debug")
    assert (
        infra.main(["submit", "--tier", "debug", "--dataset", name, "--root", "s3://b/sets", "--survey", "s3://s/x", "--budget", "1"]) == 2
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field, value", [
    ("root", "s3://b/a b"), ("root", "s3://b/$(x)"), ("survey", "s3://b/;x"), ("survey", "s3://b/é"), ("root", "/local"), ("survey", "/data"),
])  # fmt: skip
def test_an_address_that_a_line_would_be_cut_apart_by_is_refused_on_a_cluster(field, value):
    flags = {"root": "s3://b/sets", "survey": "s3://s/x"} | {field: value}
    with pytest.raises(ConfigError, match=field):
        aws.require_plain(dag.Where(dataset="mine", tier="debug", **flags))
    aws.require_plain(dag.Where("s3://b/sets?region=eu-west-1&endpoint=https://h:1", "mine", tier="debug", survey="s3://s/x"))


@pytest.mark.parametrize("verb", ["steps", "status", "teardown"])
@pytest.mark.parametrize(
    "flag, value", [("--dataset", ".."), ("--dataset", "my set"), ("--root", "s3://b/../sets"), ("--root", f"s3://k:{SECRET}@b/x")]
)
def test_every_verb_refuses_names_and_addresses_that_are_none(verb, flag, value, capsys):
    flags = {"--dataset": "mine", "--root": "s3://b/sets", "--survey": "s3://s/x"} | {flag: value}
    assert infra.main([verb, "--tier", "debug", *(part for pair in flags.items() for part in pair)]) == 2
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err and "Traceback" not in said.err


def test_a_name_that_passed_is_one_word_of_a_shell():
    import shlex

    where = dag.Where("/out here", "mine-1.2_x", tier="debug", survey="/a;b")
    for text, step in zip(dag.lines(where), dag.steps(where), strict=True):
        assert shlex.split(text)[-len(dag.argv(step, where)) :] == dag.argv(step, where)


@pytest.fixture
def planted(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", SECRET + "token")
    return SECRET


def test_a_secret_is_in_no_request_plan_or_error(planted, capsys, caplog, monkeypatch, tmp_path):
    caplog.set_level(logging.DEBUG, logger="lib")
    for name in ("debug", "train", "mosaic-gpu"):
        print(json.dumps(watch.requests(asked(name))))
    infra.main(["plan", "--tier", "debug"])
    infra.main(["steps", "--tier", "debug", "--survey", "s3://s/x", "--root", "s3://b/sets", "--dataset", "mine"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    once = aws.Config(retries={"total_max_attempts": 1})
    monkeypatch.setattr("infra.serverless.client", lambda service: boto3.client(service, config=once, region_name="us-east-1"))
    assert infra.main(["status", "--tier", "debug", "--dataset", "mine", "--root", "s3://b/sets"]) == 3
    hasty = place.at("s3://b/x", place.Patience(0.1, 0.5, 1))
    with pytest.raises((Unreachable, ArcmillError)) as failed:
        hasty.read("y")
    out, err = capsys.readouterr()
    said = out + err + caplog.text + str(failed.value)
    assert "Could not connect" in err and planted not in said


@pytest.mark.parametrize("address", [f"s3://key:{SECRET}@bucket/x", f"s3://b/x?endpoint=http://key:{SECRET}@host:1"])
def test_an_address_with_a_secret_is_refused_without_saying_it(address):
    with pytest.raises(ConfigError) as refused:
        place.at(address)
    assert SECRET not in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        aws.require_plain(dag.Where(address, "mine", tier="debug", survey="s3://s/x"))
    assert SECRET not in str(refused.value)


def test_an_error_of_aws_says_what_was_asked_and_why():
    error = ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "RunJobFlow")
    assert str(aws.told(error)) == "RunJobFlow: AccessDenied: no (your policy lacks this action: docs/runbook.md, security)"


def test_grid_and_train_want_a_commit(tmp_path):
    with pytest.raises(ConfigError, match="no git checkout"):
        package.require_clean(tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "a.py").write_text("1")
    with pytest.raises(ConfigError, match=r"code of a commit only \(clean = true\); not committed: a\.py"):
        package.require_clean(tmp_path)
    subprocess.run([*git, "add", "a.py"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    package.require_clean(tmp_path)
    assert Path(tmp_path / "a.py").is_file()
