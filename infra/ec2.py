"""EMR on EC2: a cluster for a run, which ends with its last step."""

import re

from infra import dag, line
from infra.aws import NAMED, Asked, State, client, run_name
from infra.cluster import Cluster, Ec2, Fleet
from lib.errors import ConfigError

LIVE = ["STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING"]  # one that is ending takes no steps
OVER = ("COMPLETED", "FAILED", "CANCELLED", "INTERRUPTED")
COUNTED: list[dict] = [  # on all machines: YARN counts GPUs
    {"Classification": "yarn-site", "Properties": {"yarn.resource-types": "yarn.io/gpu"}},
    {"Classification": "capacity-scheduler", "Properties": {"yarn.scheduler.capacity.resource-calculator":
        "org.apache.hadoop.yarn.util.resource.DominantResourceCalculator"}},
]  # fmt: skip
GPU: list[dict] = [  # on those that have one: each container is given its own and shown no other; a node without a GPU would not start so
    {"Classification": "yarn-site", "Properties": {"yarn.nodemanager.resource-plugins": "yarn.io/gpu",
        "yarn.nodemanager.resource-plugins.gpu.allowed-gpu-devices": "auto", "yarn.nodemanager.resource-plugins.gpu.path-to-discovery-executables": "/usr/bin",
        "yarn.nodemanager.linux-container-executor.cgroups.mount": "true", "yarn.nodemanager.linux-container-executor.cgroups.mount-path": "/sys/fs/cgroup",
        "yarn.nodemanager.linux-container-executor.cgroups.hierarchy": "yarn",
        "yarn.nodemanager.container-executor.class": "org.apache.hadoop.yarn.server.nodemanager.LinuxContainerExecutor"}},
    {"Classification": "container-executor", "Properties": {}, "Configurations": [
        {"Classification": "gpu", "Properties": {"module.enabled": "true"}},
        {"Classification": "cgroups", "Properties": {"root": "/sys/fs/cgroup", "yarn-hierarchy": "yarn"}}]},
]  # fmt: skip
ON_CORE = {"yarn.node-labels.enabled": "true", "yarn.node-labels.am.default-node-label-expression": "CORE"}  # no driver on spot


def request(asked: Asked) -> dict:
    """What EMR is asked for (RunJobFlow)."""
    made = asked.cluster
    assert made.ec2 is not None
    instances: dict = {"InstanceFleets": _fleets(made, made.ec2), "KeepJobFlowAliveWhenNoSteps": False, "TerminationProtected": False}
    if asked.stack.Subnets:
        instances["Ec2SubnetIds"] = asked.stack.Subnets.split(",")
    return {
        "Name": f"{asked.name}-{asked.digest}", "ReleaseLabel": made.release, "Applications": [{"Name": "Spark"}],
        "LogUri": asked.stack.logs, "Instances": instances, "Configurations": _configurations(made),
        "BootstrapActions": [{"Name": "the environment runs here", "ScriptBootstrapAction": {"Path": asked.files.bootstrap,
            "Args": [asked.files.environment, made.interpreter, "gpu" if made.gpu else "cpu"]}}],
        "Steps": [_step(asked, step) for step in dag.steps(asked.where)], "StepConcurrencyLevel": made.ec2.step_concurrency,
        "ManagedScalingPolicy": {"ComputeLimits": _limits(made.ec2)}, "AutoTerminationPolicy": {"IdleTimeout": 60 * made.ec2.idle_minutes},
        "EbsRootVolumeSize": 50, "SecurityConfiguration": asked.stack.SecurityConfiguration, "ServiceRole": asked.stack.ServiceRole,
        "JobFlowRole": asked.stack.InstanceProfile, "VisibleToAllUsers": True, "ScaleDownBehavior": "TERMINATE_AT_TASK_COMPLETION",
        "Tags": [{"Key": k, "Value": v} for k, v in asked.tags.items()],
    }  # fmt: skip


def _fleets(made: Cluster, ec2: Ec2) -> list[dict]:
    named = {"MASTER": ec2.primary, "CORE": ec2.core} | ({"TASK": ec2.task} if ec2.task else {})
    gpus = "TASK" if ec2.task else "CORE"
    return [_fleet(kind, fleet, made.architecture, ec2, GPU if made.gpu and kind == gpus else []) for kind, fleet in named.items()]


def _fleet(kind: str, fleet: Fleet, architecture: str, ec2: Ec2, settings: list[dict]) -> dict:
    disk = {"VolumeSpecification": {"VolumeType": "gp3", "SizeInGB": ec2.disk_gb}, "VolumesPerInstance": 1}
    out: dict = {
        "Name": kind.lower(), "InstanceFleetType": kind, "TargetOnDemandCapacity": fleet.on_demand, "TargetSpotCapacity": fleet.spot,
        "InstanceTypeConfigs": [{"InstanceType": name, "EbsConfiguration": {"EbsBlockDeviceConfigs": [disk]}}
                                | ({} if kind == "MASTER" else {"WeightedCapacity": 1})
                                | ({"Configurations": settings} if settings else {}) for name in fleet.types[architecture]],
    }  # fmt: skip
    how: dict = {"OnDemandSpecification": {"AllocationStrategy": "lowest-price"}}
    if fleet.spot:
        how["SpotSpecification"] = {"TimeoutDurationMinutes": ec2.spot_timeout_minutes, "TimeoutAction": "SWITCH_TO_ON_DEMAND",
                                    "AllocationStrategy": "price-capacity-optimized"}  # fmt: skip
    return out | {"LaunchSpecifications": how}


def _limits(ec2: Ec2) -> dict:
    most_core = ec2.core.on_demand + ec2.core.spot  # growth is task machines only
    return {"UnitType": "InstanceFleetUnits", "MinimumCapacityUnits": most_core, "MaximumCapacityUnits": ec2.machines_max,
            "MaximumCoreCapacityUnits": most_core, "MaximumOnDemandCapacityUnits": ec2.machines_max}  # fmt: skip


def _configurations(made: Cluster) -> list[dict]:
    plain: list[dict] = [{"Classification": "yarn-site", "Properties": {}}]
    yarn, *others = COUNTED if made.gpu else plain
    return [yarn | {"Properties": yarn["Properties"] | ON_CORE}, *others]


def _step(asked: Asked, step: dag.Step) -> dict:
    limit = ["timeout", f"{asked.cluster.timeout_hours}h"]  # the step fails then, and the cluster ends with it
    args = [*limit, *line.spark_submit(asked.cluster, asked.files, asked.argv(step))]
    return {"Name": step.job, "ActionOnFailure": "TERMINATE_CLUSTER", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": args}}


def _clusters(cluster: Cluster, where: dag.Where, **asked: object) -> list[tuple[str, str]]:
    """(id, digest) of a run's clusters, newest first."""
    name, found = f"{run_name(cluster, where)}-", []
    for page in client("emr").get_paginator("list_clusters").paginate(**asked):
        found += [c for c in page["Clusters"] if c["Name"].rpartition("-")[0] + "-" == name]
    found.sort(key=lambda c: c["Status"]["Timeline"]["CreationDateTime"], reverse=True)
    return [(c["Id"], c["Name"].removeprefix(name)) for c in found]


def live(cluster: Cluster, where: dag.Where) -> list[tuple[str, str]]:
    """(id, digest) of the clusters of a run that take or do steps, newest first."""
    return _clusters(cluster, where, ClusterStates=LIVE)


def submit(asked: Asked) -> str:
    """The cluster's id: of the one that already runs these very steps, if there is one."""
    for cluster_id, digest in live(asked.cluster, asked.where):
        if digest == asked.digest:
            return cluster_id
        raise ConfigError(f"{cluster_id} runs {asked.name} with other files or settings: wait for it, or cancel it")
    return client("emr").run_job_flow(**request(asked))["JobFlowId"]


def there() -> list[tuple[str, str]]:
    """(id, name) of the clusters of all runs that have not ended."""
    pages = client("emr").get_paginator("list_clusters").paginate(ClusterStates=[*LIVE, "TERMINATING"])
    return [(c["Id"], c["Name"]) for page in pages for c in page["Clusters"] if c["Name"].startswith(NAMED)]


def latest(cluster: Cluster, where: dag.Where) -> str:
    """The cluster of a run that is there, else the newest that ended; '' if there was none."""
    return next((c for c, _ in live(cluster, where) or _clusters(cluster, where)), "")


def status(cluster_id: str) -> list[State]:
    """The cluster's state, and its steps', in their order."""
    emr = client("emr")
    whole = emr.describe_cluster(ClusterId=cluster_id)["Cluster"]["Status"]
    found = [State("cluster", whole["State"], cluster_id, whole.get("StateChangeReason", {}).get("Message", ""))]
    pages = emr.get_paginator("list_steps").paginate(ClusterId=cluster_id)
    for step in reversed([s for page in pages for s in page["Steps"]]):
        failed = step["Status"].get("FailureDetails", {})
        why = ": ".join(failed[k] for k in ("Reason", "Message", "LogFile") if failed.get(k))
        found.append(State(step["Name"], step["Status"]["State"], step["Id"], why))
    return found


def cancel(cluster_id: str) -> list[str]:
    """Stop the steps that are not over; the cluster then ends by itself."""
    waiting = [s.id for s in status(cluster_id)[1:] if s.state not in OVER]
    if waiting:
        client("emr").cancel_steps(ClusterId=cluster_id, StepIds=waiting, StepCancellationOption="TERMINATE_PROCESS")
    return waiting


def end(cluster_id: str) -> None:
    client("emr").terminate_job_flows(JobFlowIds=[cluster_id])


def log_folder(cluster_id: str, step: State) -> str:
    return f"{cluster_id}/steps/{step.id}"


def driver_folders(cluster_id: str, said: str) -> list[str]:
    """Where the logs of the applications' containers lie that a step's log names."""
    numbers = dict.fromkeys(re.findall(r"\bapplication_(\d+_\d+)\b", said))
    return [f"{cluster_id}/containers/application_{n}" for n in numbers]
