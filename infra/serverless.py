"""EMR Serverless: an application for a cluster's file, a job run for a step; steps are started one after the other from here."""

from infra import dag, line
from infra.aws import NAMED, Asked, State, client, run_name, until
from infra.cluster import Cluster
from lib.errors import ConfigError

GONE = ("TERMINATED",)
STILL = ("CREATED", "STOPPED")  # of an application: it may be removed
OVER = ("SUCCESS", "FAILED", "CANCELLED")
LIVE = ["SUBMITTED", "PENDING", "SCHEDULED", "RUNNING", "QUEUED"]


def application(asked: Asked) -> dict:
    """What EMR Serverless is asked for (CreateApplication)."""
    made = asked.cluster
    assert made.serverless is not None
    most = made.serverless
    return {
        "name": asked.name, "releaseLabel": made.release, "type": "SPARK",
        "architecture": made.architecture.upper(),
        "maximumCapacity": {"cpu": f"{most.cores_max} vCPU", "memory": f"{most.memory_gb_max} GB",
                            "disk": f"{most.disk_gb * max(1, most.cores_max // made.executor.cores)} GB"},
        "autoStartConfiguration": {"enabled": True},
        "autoStopConfiguration": {"enabled": True, "idleTimeoutMinutes": most.idle_minutes}, "tags": asked.tags,
    }  # fmt: skip


def job_run(asked: Asked, application_id: str, step: dag.Step) -> dict:
    """What EMR Serverless is asked for (StartJobRun)."""
    made, args = asked.cluster, asked.argv(step)
    assert made.serverless is not None
    python = {f"spark.{who}.{name}": line.PYTHON for who, name in (("emr-serverless.driverEnv", "PYSPARK_DRIVER_PYTHON"),
              ("emr-serverless.driverEnv", "PYSPARK_PYTHON"), ("executorEnv", "PYSPARK_PYTHON"))}  # fmt: skip
    disk = {f"spark.emr-serverless.{who}.disk": f"{made.serverless.disk_gb}g" for who in ("driver", "executor")}
    more = [part for key, value in (python | disk).items() for part in ("--conf", f"{key}={value}")]
    return {
        "applicationId": application_id, "name": run_of(asked.digest, step.job), "executionRoleArn": asked.stack.JobRole,
        "jobDriver": {"sparkSubmit": {"entryPoint": asked.files.entry, "entryPointArguments": args,
                                      "sparkSubmitParameters": " ".join([*line.flags(made, asked.files), *more])}},
        "configurationOverrides": {"monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": asked.stack.logs}}},
        "executionTimeoutMinutes": 60 * made.timeout_hours, "tags": asked.tags,
    }  # fmt: skip


def run_of(digest: str, job: str) -> str:
    return f"{job}-{digest}"


def job_of(run: str) -> str:
    return run.rpartition("-")[0]


def latest(cluster: Cluster, where: dag.Where) -> str:
    """The application of a run, or the last that was removed and is still listed; '' if there is none."""
    found = []
    for page in client("emr-serverless").get_paginator("list_applications").paginate():
        found += [a for a in page["applications"] if a["name"] == run_name(cluster, where)]
    return max(found, key=lambda a: (a["state"] not in GONE, a["createdAt"]), default={"id": ""})["id"]


def there() -> list[tuple[str, str]]:
    """(id, name) of the applications of all runs that are not removed."""
    pages = client("emr-serverless").get_paginator("list_applications").paginate()
    return [(a["id"], a["name"]) for page in pages for a in page["applications"] if a["name"].startswith(NAMED) and a["state"] not in GONE]


def submit(asked: Asked) -> str:
    """The application's id, with the first step that is not done under way; ``go_on`` starts the others."""
    found = latest(asked.cluster, asked.where)
    found = found if found in dict(there()) else ""
    if found and client("emr-serverless").get_application(applicationId=found)["application"]["releaseLabel"] != asked.cluster.release:
        raise ConfigError(f"application {found} has another release: the verb teardown removes it")
    found = found or client("emr-serverless").create_application(**application(asked))["applicationId"]
    go_on(asked, found)
    return found


def go_on(asked: Asked, application_id: str) -> list[State]:
    """Start the first step that is not done, anew if it failed, unless one is under way; how each is."""
    known = {s.step: s for s in status(application_id)[1:]}
    if other := [s.step for s in known.values() if s.state not in OVER and not s.step.endswith(asked.digest)]:
        raise ConfigError(f"application {application_id} runs {other[0]} with other files or settings: wait, or cancel it")
    for step in dag.steps(asked.where):
        name = run_of(asked.digest, step.job)
        if name in known and known[name].state == "SUCCESS":
            continue
        if name not in known or known[name].state in OVER:
            client("emr-serverless").start_job_run(**job_run(asked, application_id, step))
        break
    return status(application_id)


def job_runs(application_id: str) -> list[dict]:
    """All of an application, the oldest first."""
    pages = client("emr-serverless").get_paginator("list_job_runs").paginate(applicationId=application_id)
    return sorted((run for page in pages for run in page["jobRuns"]), key=lambda run: run["createdAt"])


def status(application_id: str) -> list[State]:
    """The application's state, and that of the newest run of each job, the oldest first."""
    emr = client("emr-serverless")
    whole = emr.get_application(applicationId=application_id)["application"]
    newest = {job_of(run["name"]): run for run in job_runs(application_id)}
    found = [State("application", whole["state"], application_id, whole.get("stateDetails") or "")]
    runs = sorted(newest.values(), key=lambda r: r["createdAt"])
    return found + [State(r["name"], r["state"], r["id"], (r.get("stateDetails") or "") if r["state"] == "FAILED" else "") for r in runs]


def cancel(application_id: str) -> list[str]:
    """Stop the job runs that are not over."""
    waiting = [run["id"] for run in job_runs(application_id) if run["state"] not in OVER]
    for run in waiting:
        client("emr-serverless").cancel_job_run(applicationId=application_id, jobRunId=run)
    return waiting


def end(application_id: str) -> None:
    """Stop the application and remove it: what is under way takes its time to end, and only what stands still can be removed."""
    emr = client("emr-serverless")
    cancel(application_id)
    until(lambda: all(run["state"] in OVER for run in job_runs(application_id)), f"the job runs of application {application_id} to end")
    if not _still(application_id):
        emr.stop_application(applicationId=application_id)
    until(lambda: _still(application_id), f"application {application_id} to stop")
    emr.delete_application(applicationId=application_id)


def _still(application_id: str) -> bool:
    return client("emr-serverless").get_application(applicationId=application_id)["application"]["state"] in STILL


def log_folder(application_id: str, step: State) -> str:
    return f"applications/{application_id}/jobs/{step.id}"


def driver_folders(application_id: str, said: str) -> list[str]:
    """None beside the job run's own, which hold the driver's."""
    return []
