"""A run in an account, from the stack to nothing left, against moto's server.

What moto does not do is put in its place here, narrowly: ``cancel_steps`` (it answers 500), release labels of EMR Serverless that it does not know
(emr-7.14.0 is asked for), steps that fail (its own never run: their state is set in its backend).
"""

import dataclasses
import gzip
import json

import boto3
import pytest
from moto.emr.models import emr_backends
from moto.emr.responses import ElasticMapReduceResponse
from moto.emrserverless.models import EMRServerlessBackend, emrserverless_backends

from infra import __main__ as infra
from infra import aws, stack, watch
from infra.cluster import load
from tests.infra.conftest import REGION, WHERE
from tests.infra.test_cluster import changed

ACCOUNT = "123456789012"
PARAMETERS = ["SurveyBucket=sky", "SurveyPrefix=dr10/south", "Email=me@example.org", "Vpc=vpc-1", "Subnets=subnet-1", "RouteTables=rtb-1"]
FLAGS = ["--tier", "debug", "--dataset", "mine", "--root", "s3://{bucket}/sets"]
RUN = [*FLAGS, "--survey", "s3://sky/dr10/south", "--budget", "5"]


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The environment's archive takes half a minute to make: another file in its place."""
    archive = tmp_path / "environment-aarch64-0123456789ab.tar.gz"
    archive.write_bytes(b"packages")
    monkeypatch.setattr("infra.environment.build", lambda made, folder=None, interpreter="": archive)


@pytest.fixture
def made(account, small, monkeypatch):
    """The stack, by the template itself; its outputs."""
    vpc = boto3.client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    table = boto3.client("ec2").create_route_table(VpcId=vpc)["RouteTable"]["RouteTableId"]
    parameters = [p.replace("vpc-1", vpc).replace("rtb-1", table) for p in PARAMETERS]
    assert infra.main(["deploy", *(part for p in parameters for part in ("--parameter", p))]) == 0
    monkeypatch.setattr(watch, "EVERY_S", 0.01)
    return aws.stack()


@pytest.fixture
def on_ec2(tmp_path):
    """The debug tier on a cluster of its own."""
    return ["--cluster", changed(tmp_path, "train", ('name = "train"', 'name = "debug-ec2"'), ("clean = true", "clean = false"))]


@pytest.fixture
def serverless(tmp_path, monkeypatch):
    create = EMRServerlessBackend.create_application

    def listed(self, **asked):
        application = create(self, **asked)
        self.job_runs.setdefault(application.id, [])  # else moto says that there is no such application
        return application

    monkeypatch.setattr(EMRServerlessBackend, "create_application", listed)
    return ["--cluster", changed(tmp_path, "debug", ("emr-spark-8.0.0", "emr-7.14.0"))]


def of(made) -> list[str]:
    return [flag.format(bucket=made.Bucket) for flag in FLAGS]


def run(made, *more: str) -> list[str]:
    return [flag.format(bucket=made.Bucket) for flag in RUN] + list(more)


def emr():
    return emr_backends[ACCOUNT][REGION]


def cancel_steps(self):
    """What moto lacks: the steps that are not over are cancelled."""
    cluster = emr().clusters[self._get_param("ClusterId")]
    asked = [self.querystring[k][0] for k in self.querystring if k.startswith("StepIds")] or self._get_param("StepIds")
    for step in cluster.steps:
        if step.id in asked:
            step.state = "CANCELLED"
    return json.dumps({"CancelStepsInfoList": [{"StepId": k, "Status": "SUBMITTED"} for k in asked]})


def test_the_stack_has_what_a_run_needs(made):
    """moto makes buckets, roles, profile, key and security configuration; what it leaves out is in its log: bucket policies, Glue, Athena, the budget."""
    assert boto3.client("s3").head_bucket(Bucket=made.Bucket)
    assert boto3.client("iam").get_instance_profile(InstanceProfileName=made.InstanceProfile)["InstanceProfile"]["Roles"]
    told = boto3.client("emr").describe_security_configuration(Name=made.SecurityConfiguration)["SecurityConfiguration"]
    assert "'MinimumInstanceMetadataServiceVersion': 2" in told, "moto writes what it was given"
    assert made.JobRole.startswith("arn:aws:iam::") and made.Subnets == "subnet-1"
    there = boto3.client("cloudformation").describe_stacks(StackName=aws.STACK)["Stacks"][0]["Parameters"]
    assert stack.deploy(aws.STACK, {p["ParameterKey"]: p["ParameterValue"] for p in there}) in ("unchanged", "updated")


def test_a_stack_keeps_the_parameters_that_are_not_given(made, monkeypatch):
    cloud, asked = boto3.client("cloudformation"), {}
    monkeypatch.setattr(cloud, "update_stack", lambda **told: asked.update({p["ParameterKey"]: p for p in told["Parameters"]}))
    monkeypatch.setattr(cloud, "get_waiter", lambda name: boto3.client("cloudformation").get_waiter("stack_create_complete"))
    monkeypatch.setattr("infra.stack.client", lambda service: cloud)
    assert stack.deploy(aws.STACK, {"MonthlyDollars": "300"}) == "updated"
    assert asked["MonthlyDollars"] == {"ParameterKey": "MonthlyDollars", "ParameterValue": "300"}
    others = {"SurveyBucket", "SurveyPrefix", "Email", "Vpc", "Subnets", "RouteTables"}
    assert others <= asked.keys() and all(asked[k] == {"ParameterKey": k, "UsePreviousValue": True} for k in others)


def test_without_a_stack_it_is_said_how_to_make_one(account, small, capsys):
    assert infra.main(["submit", *(f.format(bucket="b") for f in RUN)]) == 2
    assert "there is no stack arcmill in this region: the verb deploy" in capsys.readouterr().err


def test_debug_on_ec2_is_asked_for_once_and_ends_without_a_trace(made, on_ec2, capsys, monkeypatch):
    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0
    (cluster,) = emr().clusters.values()
    assert [s.name for s in cluster.steps] == ["parent", "manifest", "inject", "validation", "select"]
    assert cluster.release_label == "emr-spark-8.0.0" and cluster.log_uri == made.logs
    names = {o["Key"] for o in boto3.client("s3").list_objects_v2(Bucket=made.Bucket, Prefix="artifacts/")["Contents"]}
    line = cluster.steps[0].args
    assert line[:3] == ["timeout", "12h", "spark-submit"] and {line[line.index(f) + 1] for f in ("--py-files",)} <= {
        f"s3://{made.Bucket}/{n}" for n in names
    }
    assert len(names) == 4

    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0, "the same again is the same run"
    assert len(emr().clusters) == 1
    cluster.state = "TERMINATING"
    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0
    assert len(emr().clusters) == 2, "one that is ending takes no steps"
    cluster.state, cluster = "TERMINATED", list(emr().clusters.values())[-1]

    cluster.steps[2].state = "FAILED"
    why = {"Reason": "Unknown Error", "Message": "exit code 137", "LogFile": f"{made.logs}x/stderr.gz"}
    monkeypatch.setattr("infra.ec2.client", failing(why))
    capsys.readouterr()
    assert infra.main(["status", *of(made), *on_ec2]) == 1
    said = capsys.readouterr().out
    assert "inject" in said and "exit code 137" in said and "FAILED" in said

    monkeypatch.setattr(ElasticMapReduceResponse, "cancel_steps", lambda self: cancel_steps(self), raising=False)
    assert infra.main(["cancel", *of(made), *on_ec2]) == 0
    assert [s.state for s in cluster.steps] == ["CANCELLED", "CANCELLED", "FAILED", "CANCELLED", "CANCELLED"]

    assert infra.main(["teardown", *of(made), *on_ec2, "--with-stack"]) == 0
    assert not boto3.client("emr").list_clusters(ClusterStates=["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"])["Clusters"]
    assert boto3.client("cloudformation").list_stacks(StackStatusFilter=["CREATE_COMPLETE", "UPDATE_COMPLETE"])["StackSummaries"] == []
    assert infra.main(["teardown", *of(made), *on_ec2]) == 0, "what was removed before is no error"
    assert f"removed before: {cluster.id}" in capsys.readouterr().err


def test_a_stack_stays_while_a_run_is_there_and_a_run_that_is_not_there_is_said(made, on_ec2, capsys):
    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0
    other = [f.replace("mine", "other") for f in of(made)]
    assert infra.main(["teardown", *other, *on_ec2, "--with-stack"]) == 2
    said = capsys.readouterr().err
    assert "other runs stand on the stack: arcmill-debug-ec2-mine-debug-" in said and aws.stack()
    assert infra.main(["teardown", *of(made)]) == 3, "of other machines"
    assert "on cluster debug in this region: is the --root the same, and the --cluster?" in capsys.readouterr().err
    assert infra.main(["teardown", *of(made), *on_ec2]) == 0
    assert infra.main(["teardown", *other, *on_ec2, "--with-stack"]) == 0
    assert "stack arcmill: removed" in capsys.readouterr().err


@pytest.mark.parametrize("flag, address, says", [
    ("--root", "s3://{bucket}/other", "is out of the roles' reach: they reach s3://{bucket}/sets\n"),
    ("--root", "s3://{bucket}/sets2", "is out of the roles' reach: they reach s3://{bucket}/sets\n"),
    ("--root", "s3://{bucket}/sets?endpoint=https://h:1", "the data sets lie in the stack's own bucket"),
    ("--survey", "s3://sky/dr9", "they reach s3://sky/dr10/south and s3://{bucket}/sets (SurveyBucket and SurveyPrefix of deploy)"),
    ("--survey", "s3://other/dr10/south?region=eu-west-1", "is out of the roles' reach"),
])  # fmt: skip
def test_a_place_that_the_roles_do_not_reach_is_refused_before_machines_are_paid_for(flag, address, says, made, on_ec2, capsys):
    flags = run(made, "--no-wait")
    flags[flags.index(flag) + 1] = address.format(bucket=made.Bucket)
    assert infra.main(["submit", *flags, *on_ec2]) == 2
    assert says.format(bucket=made.Bucket) in capsys.readouterr().err and not emr().clusters


@pytest.mark.parametrize("survey", ["s3://{bucket}/sets/sky", "s3://sky/dr10/south/a?region=eu-west-1", "s3://public/dr10?anonymous=true",
                                    "s3://theirs/dr10?endpoint=https://h:1"])  # fmt: skip
def test_a_place_that_the_roles_reach_or_that_asks_for_no_role_is_taken(survey, made, on_ec2):
    flags = run(made, "--no-wait")
    flags[flags.index("--survey") + 1] = survey.format(bucket=made.Bucket)
    assert infra.main(["submit", *flags, *on_ec2]) == 0 and len(emr().clusters) == 1


def test_a_stack_goes_when_the_last_machine_is_gone_and_no_sooner(made, on_ec2, monkeypatch, capsys):
    """moto's clusters end at once; EMR's take minutes, and need their roles until then."""
    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0
    (cluster,) = emr().clusters.values()
    asked = []

    def pause(_):
        asked.append(aws.stack())
        cluster.state = "TERMINATED" if len(asked) == 3 else cluster.state

    monkeypatch.setattr(emr(), "terminate_job_flows", lambda ids: [setattr(cluster, "state", "TERMINATING"), cluster][1:])
    monkeypatch.setattr("infra.watch.time.sleep", pause)
    assert infra.main(["teardown", *of(made), *on_ec2, "--with-stack"]) == 0
    assert len(asked) == 3 and "stack arcmill: removed" in capsys.readouterr().err


def test_machines_of_ec2_want_a_network(account, small, on_ec2, capsys):
    assert infra.main(["deploy", *(part for p in PARAMETERS[:3] for part in ("--parameter", p))]) == 0
    assert infra.main(["submit", *run(aws.stack(), "--no-wait"), *on_ec2]) == 2
    assert "the stack has no network: give deploy Vpc, Subnets and RouteTables" in capsys.readouterr().err and not emr().clusters


def test_a_parameter_that_the_stack_does_not_have_is_named(account, capsys):
    assert infra.main(["deploy", "--parameter", "SurvyBucket=x"]) == 2
    assert "the stack has no parameter SurvyBucket (did you mean SurveyBucket?); it has SurveyBucket, " in capsys.readouterr().err


def test_a_dry_run_says_what_would_be_refused(made, small, capsys, monkeypatch):
    monkeypatch.setattr("infra.package.require_clean", lambda root=None: None)
    flags = [f.replace("debug", "grid") if f == "debug" else "100" if f == "5" else f for f in run(made, "--dry-run")]
    assert infra.main(["submit", *flags]) == 0
    said = capsys.readouterr()
    assert "without --dry-run this is refused: tier grid comes after debug" in said.err and json.loads(said.out)
    assert "--unsafe-skip-promotion" not in said.err, "submit has no such flag"


def failing(details: dict):
    """EMR's client, whose failed steps have a reason: moto's have none."""

    def made(service):
        client = aws.client(service)
        find = client.get_paginator

        def paginator(name):
            pages = find(name)

            class Paginator:
                def paginate(self, **asked):
                    for page in pages.paginate(**asked):
                        for step in page.get("Steps", []):
                            if step["Status"]["State"] == "FAILED":
                                step["Status"]["FailureDetails"] = details
                        yield page

            return Paginator()

        client.get_paginator = paginator
        return client

    return made


def test_another_run_of_the_same_data_set_is_refused_while_one_is_under_way(made, on_ec2, capsys):
    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0
    other = [f.replace("dr10/south", "dr10/south/north") for f in run(made, "--no-wait")]
    assert infra.main(["submit", *other, *on_ec2]) == 2
    assert "with other files or settings" in capsys.readouterr().err and len(emr().clusters) == 1


def test_two_roots_are_two_runs_of_one_data_set(made, on_ec2, capsys):
    """By the data set's name alone, the one would be taken for the other: refused, watched and torn down in its place."""
    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0
    there = [f.replace("/sets", "/sets/theirs") for f in run(made, "--no-wait")]
    assert infra.main(["submit", *there, *on_ec2]) == 0
    mine, theirs = emr().clusters.values()
    assert infra.main(["teardown", *of(made), *on_ec2]) == 0
    assert "TERMINAT" in mine.state and "TERMINAT" not in theirs.state
    capsys.readouterr()
    assert infra.main(["status", *(f.replace("/sets", "/sets/none") for f in of(made)), *on_ec2]) == 3
    assert "no run of debug" in capsys.readouterr().err
    assert infra.main(["status", *(f.replace("/sets", "/sets/theirs/") for f in of(made)), *on_ec2]) == 0, "a slash more is the same root"
    assert theirs.id in capsys.readouterr().out


def test_a_long_name_is_cut_and_still_its_own():
    where = [dataclasses.replace(WHERE, dataset="d" * 60 + end) for end in ("a", "b")]
    names = {aws.run_name(load("debug"), w) for w in where}
    assert len(names) == 2 and all(len(n) <= 64 for n in names)


def test_debug_on_serverless_goes_step_by_step_and_leaves_nothing(made, serverless, capsys):
    assert infra.main(["submit", *run(made), *serverless]) == 0
    backend = emrserverless_backends[ACCOUNT][REGION]
    (application,) = backend.applications.values()
    runs = backend.job_runs[application.id]
    assert [r.name.split("-")[0] for r in runs] == ["parent", "manifest", "inject", "validation", "select"]
    submitted = runs[0].job_driver["sparkSubmit"]
    assert submitted["entryPointArguments"][:3] == ["parent", "--survey", "s3://sky/dr10/south"]
    assert infra.main(["submit", *run(made), *serverless]) == 0, "the same again starts nothing"
    assert len(runs) == 5

    runs[-1].state, runs[-1].state_details = "FAILED", "Job failed, please check complete logs: OutOfMemory"
    capsys.readouterr()
    assert infra.main(["status", *of(made), *serverless]) == 1
    assert "OutOfMemory" in capsys.readouterr().out
    assert infra.main(["teardown", *of(made), *serverless]) == 0
    left = boto3.client("emr-serverless").list_applications()["applications"]
    assert [a for a in left if a["state"] != "TERMINATED"] == []
    assert infra.main(["teardown", *of(made), *serverless]) == 0 and "removed before" in capsys.readouterr().err
    assert infra.main(["submit", *run(made), *serverless]) == 0
    assert len([a for a in backend.applications.values() if a.state != "TERMINATED"]) == 1, "another, in the place of that"


def test_a_teardown_waits_until_what_runs_has_ended_and_the_application_stands_still(made, serverless, monkeypatch):
    """moto cancels and stops at once; EMR Serverless takes its time, and refuses to stop or remove before."""
    assert infra.main(["submit", *run(made), *serverless]) == 0
    backend = emrserverless_backends[ACCOUNT][REGION]
    (application,) = backend.applications.values()
    runs = backend.job_runs[application.id]
    runs[0].state = "RUNNING"
    listed, found, stop, delete = backend.list_job_runs, backend.get_application, backend.stop_application, backend.delete_application
    asked = {"list": 0, "get": 0}

    def list_job_runs(**how):
        asked["list"] += 1
        if asked["list"] > 4:
            runs[0].state = "CANCELLED"
        return listed(**how)

    def get_application(application_id):
        asked["get"] += 1
        if application.state == "STOPPING" and asked["get"] > 4:
            stop(application_id)
        return found(application_id)

    def stop_application(application_id):
        assert runs[0].state == "CANCELLED", "stopped while a job runs"
        application.state = "STOPPING"

    def delete_application(application_id):
        assert application.state == "STOPPED", "removed while it stops"
        delete(application_id)

    monkeypatch.setattr(backend, "list_job_runs", list_job_runs)
    monkeypatch.setattr(backend, "cancel_job_run", lambda application_id, job_run_id: (application_id, job_run_id))
    monkeypatch.setattr(backend, "get_application", get_application)
    monkeypatch.setattr(backend, "stop_application", stop_application)
    monkeypatch.setattr(backend, "delete_application", delete_application)
    monkeypatch.setattr("infra.aws.EVERY_S", 0.01)
    assert infra.main(["teardown", *of(made), *serverless]) == 0
    assert application.state == "TERMINATED" or application.id not in backend.applications


def test_status_tells_the_newest_run_of_each_job_only(made, serverless, capsys):
    assert infra.main(["submit", *run(made), *serverless]) == 0
    (application,) = emrserverless_backends[ACCOUNT][REGION].applications.values()
    runs = emrserverless_backends[ACCOUNT][REGION].job_runs[application.id]
    other = [f.replace("dr10/south", "dr10/south/north") for f in run(made)]
    for r in runs[3:]:
        r.state = "FAILED"
    assert infra.main(["submit", *other, *serverless]) == 0
    capsys.readouterr()
    assert len(runs) == 10 and infra.main(["status", *of(made), *serverless]) == 0
    said = capsys.readouterr().out
    assert "FAILED" not in said and len(said.splitlines()) == 6


def test_the_end_of_a_failed_steps_log_is_shown(made, on_ec2, capsys):
    assert infra.main(["submit", *run(made, "--no-wait"), *on_ec2]) == 0
    (cluster,) = emr().clusters.values()
    cluster.steps[1].state = "FAILED"
    bucket = boto3.client("s3")

    def log(name: str, text: str) -> None:
        bucket.put_object(Bucket=made.Bucket, Key=f"logs/{cluster.id}/{name}", Body=gzip.compress(text.encode()))

    log(f"steps/{cluster.steps[1].id}/stderr.gz", "Submitted application application_17_0002\nfinal status: FAILED (application_17_0002)")
    capsys.readouterr()
    assert infra.main(["logs", *of(made), *on_ec2]) == 0
    said = capsys.readouterr()
    assert "final status: FAILED" in said.out and "application_17_0002 has no log of the driver yet" in said.err
    told = "\n".join(f"line {k}" for k in range(100)) + "\nmanifest: no parent table"
    log("containers/application_17_0002/container_17_0002_01_000001/stderr.gz", told)
    log("containers/application_17_0002/container_17_0002_01_000002/stderr.gz", "an executor's")
    log("containers/application_17_0001/container_17_0001_01_000001/stderr.gz", "another step's")
    assert infra.main(["logs", *of(made), *on_ec2]) == 0
    said = capsys.readouterr().out
    assert "manifest: no parent table" in said and "line 10\n" not in said and said.count("== ") == 2
    assert "executor's" not in said and "another step's" not in said
    assert infra.main(["logs", *of(made), *on_ec2, "--step", "parent"]) == 3
    assert infra.main(["logs", *of(made), *on_ec2, "--step", "injct"]) == 3
    assert "has no step 'injct'; it has parent, manifest, inject, validation, select" in capsys.readouterr().err
    cluster.steps[0].state, cluster.steps[1].state = "COMPLETED", "RUNNING"
    assert infra.main(["logs", *of(made), *on_ec2]) == 0
    assert "manifest: no parent table" in capsys.readouterr().out, "of the step that has begun, not of those that wait"


@pytest.mark.parametrize("budget", ["0.01", "nan"])
def test_nothing_starts_above_the_budget(made, on_ec2, capsys, budget):
    flags = [f if f != "5" else budget for f in run(made)]
    assert infra.main(["submit", *flags, *on_ec2]) == 2
    assert "nothing is started" in capsys.readouterr().err and not emr().clusters


def test_a_tier_whose_gate_is_not_passed_is_not_started(made, small, capsys, monkeypatch):
    monkeypatch.setattr("infra.package.require_clean", lambda root=None: None)
    flags = [f.replace("debug", "grid") if f == "debug" else "100" if f == "5" else f for f in run(made)]
    assert infra.main(["submit", *flags]) == 2
    said = capsys.readouterr().err
    assert "tier grid comes after debug" in said and "promote" in said and not emrserverless_backends[ACCOUNT][REGION].applications


def test_an_error_of_aws_is_told_in_a_sentence(made, capsys):
    """moto knows no release label of Spark 8, as an account of another region may not."""
    assert infra.main(["submit", *run(made)]) == 3
    said = capsys.readouterr().err
    assert "CreateApplication: ValidationException" in said and "emr-spark-8.0.0" in said and "Traceback" not in said
