"""What EMR is asked for, to the letter: ``ARCMILL_GOLDEN=write`` writes the files that the requests are compared with."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from infra import dag, line, serverless, watch
from tests.infra.conftest import asked

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "emr"


@pytest.mark.parametrize("name", ["debug", "grid", "train", "mosaic-gpu"])
def test_what_is_asked_for_is_what_was_looked_at(name):
    told = json.loads(json.dumps(watch.requests(asked(name))))
    path = GOLDEN / f"{name}.json"
    if os.environ.get("ARCMILL_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(told, indent=1) + "\n")
    assert told == json.loads(path.read_text())


@pytest.mark.parametrize("name", ["debug", "grid", "train", "mosaic-gpu"])
def test_requests_are_such_as_the_service_takes(name):
    """Names and types of all fields, by the service's own description."""
    import boto3
    from botocore.validate import ParamValidator

    made = asked(name)
    calls = ["CreateApplication", *["StartJobRun"] * 9] if made.cluster.mode == "serverless" else ["RunJobFlow"]
    model = boto3.client("emr" if len(calls) == 1 else "emr-serverless", region_name="us-east-1").meta.service_model
    for call, told in zip(calls, watch.requests(made), strict=False):
        shape = model.operation_model(call).input_shape
        told = told if call == "RunJobFlow" else told | {"clientToken": "x"}  # boto3 fills it in
        report = ParamValidator().validate(told, shape)
        assert not report.has_errors(), report.generate_report()
    assert ParamValidator().validate(told | {"Nmae": 1}, shape).has_errors()


def test_a_cluster_ends_by_itself_and_falls_back_from_spot():
    (told,) = watch.requests(asked("train"))
    assert told["Instances"]["KeepJobFlowAliveWhenNoSteps"] is False and told["AutoTerminationPolicy"] == {"IdleTimeout": 900}
    task = told["Instances"]["InstanceFleets"][2]
    assert task["LaunchSpecifications"]["SpotSpecification"]["TimeoutAction"] == "SWITCH_TO_ON_DEMAND"
    assert task["TargetSpotCapacity"] == 29 and len(task["InstanceTypeConfigs"]) == 5
    primary, core = told["Instances"]["InstanceFleets"][:2]
    assert primary["TargetSpotCapacity"] == core["TargetSpotCapacity"] == 0, "neither the primary node nor the driver's may be taken away"
    limits = told["ManagedScalingPolicy"]["ComputeLimits"]
    assert limits["MaximumCapacityUnits"] == 30 and limits["MaximumCoreCapacityUnits"] == 1


def test_only_machines_with_a_gpu_are_told_to_look_for_one():
    (told,) = watch.requests(asked("mosaic-gpu"))
    *others, task = told["Instances"]["InstanceFleets"]
    assert "resource-plugins" not in json.dumps([told["Configurations"], others])
    assert all("resource-plugins" in json.dumps(kind["Configurations"]) for kind in task["InstanceTypeConfigs"])
    assert "yarn.resource-types" in json.dumps(told["Configurations"]), "the resource manager counts them"


def test_the_line_is_the_same_on_all_clusters_but_for_the_driver():
    made = asked("debug")
    argv = dag.argv(dag.steps(made.where)[0], made.where)
    here = line.spark_submit(made.cluster, made.files, argv, ("--master", "spark://h:1"))
    there = line.spark_submit(made.cluster, made.files, argv)
    assert here[3:] == there[5:] and here[-len(argv) :] == argv
    sent = serverless.job_run(made, "a", dag.steps(made.where)[0])["jobDriver"]["sparkSubmit"]
    assert sent["entryPointArguments"] == argv and sent["sparkSubmitParameters"].startswith(" ".join(line.flags(made.cluster, made.files)))


def test_a_run_that_replaces_is_another_and_its_jobs_are_told_so():
    made = asked("debug")
    anew = dataclasses.replace(made, replace=True)
    assert anew.digest != made.digest
    for kind in ("train", "debug"):
        told = [step for step in dag.steps(asked(kind).where) if step.again]
        plain, replacing = (json.dumps(watch.requests(dataclasses.replace(asked(kind), replace=r))) for r in (False, True))
        assert plain.count('"--replace"') == 0 and replacing.count('"--replace"') == len(told) == 4


def test_equal_runs_have_equal_digests_and_others_have_not():
    assert asked("debug").digest == asked("debug").digest
    assert asked("debug").digest != asked("debug", release="emr-spark-8.1.0").digest
