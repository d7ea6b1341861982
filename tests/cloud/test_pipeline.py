"""The whole lens pipeline with its survey and its tables in a bucket, against the same on a disk."""

import json
import shutil
import uuid

import pyarrow.compute as pc
import pytest

from jobs.__main__ import main
from lib import place, runs, tiers
from lib.injection import inject
from lib.store import Dataset
from lib.survey import bricks
from tests import tables, tiny
from validation.__main__ import main as validation

TABLES = ("parent", "manifest", "stamps", "metrics")


@pytest.fixture(scope="module")
def bucket(spark, s3_server, tiny_survey, tiny_tier):
    """(data set, survey, flags): every table made in a bucket from a survey in it."""
    name = f"whole-{uuid.uuid4().hex[:8]}"
    for path in (p for p in tiny_survey.rglob("*") if p.is_file()):
        s3_server.client.upload_file(str(path), s3_server.bucket, f"{name}/survey/{path.relative_to(tiny_survey)}")
    root, survey = s3_server.address(f"{name}/root"), s3_server.address(f"{name}/survey")
    flags = ["--tier", str(tiny_tier), "--root", root, "--dataset", "set"]
    assert main(["parent", "--survey", survey, *flags]) == 0
    assert main(["manifest", *flags]) == 0
    assert main(["inject", "--survey", survey, *flags]) == 0
    return Dataset.at(root, "set", "tiny"), survey, flags


def rows(dataset: Dataset, table: str):
    key = "galaxy_id" if table == "parent" else "task_id"
    return runs.read(dataset, table).sort_by(key).replace_schema_metadata()


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_the_one_that_a_disk_holds(table, bucket, tiny_dataset):
    assert rows(bucket[0], table).equals(rows(tiny_dataset, table))


def test_a_second_run_reads_no_pixel(bucket, caplog):
    _, survey, flags = bucket
    with caplog.at_level("INFO"):
        assert main(["inject", "--survey", survey, *flags]) == 0
    assert "unchanged" in caplog.text and "of the survey read" not in caplog.text


def test_files_at_fault_are_told_alike(tiny_dataset, tiny_survey, s3_server, tmp_path):
    """Files of a bucket are read by threads: the first fault of a row is the same."""
    manifest = runs.read(tiny_dataset, "manifest")
    names = sorted(set(manifest["brickname"].to_pylist()))[:2]
    survey, prefix = tmp_path / "survey", f"faults-{uuid.uuid4().hex[:8]}"
    shutil.copytree(tiny_survey, survey)
    for name in names:
        whole = bricks.path(survey, name, "invvar", "r")
        whole.write_bytes(whole.read_bytes()[: -whole.stat().st_size // 3])  # its last tiles
    bricks.path(survey, names[0], "psfsize", "z").unlink()
    bricks.path(survey, names[0], "maskbits").write_bytes(b"SIMPLE" * 1000)
    bricks.path(survey, names[1], "image", "z").unlink()
    for path in (p for p in survey.rglob("*") if p.is_file()):
        s3_server.client.upload_file(str(path), s3_server.bucket, f"{prefix}/{path.relative_to(survey)}")
    tier = tiers.load(tier_file(tmp_path))
    for name in names:
        rows = manifest.filter(pc.equal(manifest["brickname"], name))
        here, there = (inject(rows, place.at(at), tier)["metrics"] for at in (str(survey), s3_server.address(prefix)))
        told = [set(zip(made["status"].to_pylist(), (said.split("/")[-1] if said else None for said in made["error"].to_pylist()), strict=True))
                for made in (here, there)]  # fmt: skip
        assert told[0] == told[1] and ("ok", None) not in told[0]
        assert here.drop_columns(["error"]).equals(there.drop_columns(["error"]))


def tier_file(folder) -> str:
    path = folder / "tiny.toml"
    path.write_text(tiny.TIER)
    return str(path)


def judged(flags, capsys) -> tuple[int, dict]:
    """Exit code, and rows by table."""
    code = validation(flags)
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]


def outcomes(dataset: Dataset) -> dict:
    return {g["gate"]: (g["outcome"], g["measured"]) for g in runs.read(dataset, "validation").to_pylist()}


def test_compacted_or_not_it_is_judged_as_on_a_disk(bucket, tiny_dataset, tiny_tier, tmp_path, capsys):
    dataset, _, flags = bucket
    shutil.copytree(tables.root(tiny_dataset), tmp_path / "root")
    here = Dataset.at(tmp_path / "root", "set", "tiny")
    wanted = judged(["--tier", str(tiny_tier), "--root", str(tmp_path / "root"), "--dataset", "set"], capsys)
    first = judged(flags, capsys)
    assert first == wanted and outcomes(dataset) == outcomes(here)
    assert dataset.place.read("report/tiny/report.html").lstrip().lower().startswith(b"<!doctype html")
    for table in ("stamps", "metrics"):
        assert main(["compact", "--table", table, *flags]) == 0
    again = judged(flags, capsys)
    assert again == wanted
    assert {gate: outcome for gate, (outcome, _) in outcomes(dataset).items()} == {
        gate: outcome for gate, (outcome, _) in outcomes(here).items()
    }
