"""Jobs as they are run: their help, their sameness whatever the partitions, their files, their package."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import package, submit_main
from jobs import inject as inject_job
from jobs.__main__ import JOBS
from lib import place, runs, tiers
from lib.injection import inject
from lib.rows import where
from tests import tables
from validation.__main__ import GATES

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tier(tiny_tier):
    return tiers.load(str(tiny_tier))


@pytest.fixture(scope="module")
def manifest(tiny_dataset):
    return runs.read(tiny_dataset, "manifest").sort_by("task_id")


HELP = """
import sys
from importlib import import_module
for job in {jobs}:
    for main, argv in ((import_module("jobs.__main__").main, [job, "--help"]), (import_module("validation.__main__").main, ["--help"])):
        try:
            main(argv)
        except SystemExit as end:
            assert not end.code, (argv, end.code)
        else:
            raise AssertionError(argv)
from pyspark import SparkContext
assert SparkContext._gateway is None, "a JVM was started"
"""


def test_the_help_of_every_job_and_of_validation_ends_well_and_starts_no_spark():
    done = subprocess.run([sys.executable, "-c", HELP.format(jobs=list(JOBS))], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in JOBS:
        assert f"python -m jobs {name}" in done.stdout
    assert "python -m validation" in done.stdout


def test_the_list_of_jobs_is_told():
    done = subprocess.run([sys.executable, "-m", "jobs", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, [name for name in JOBS if name not in done.stdout]) == (0, [])


def test_a_stamp_does_not_depend_on_its_batch_or_its_place_in_it(manifest, tiny_dataset, tiny_survey, tier):
    name, survey = manifest["brickname"][0].as_py(), place.at(tiny_survey)
    mine = where(manifest, brickname=name).slice(0, 5)
    batch = inject(mine, survey, tier)
    alone = [inject(mine.slice(k, 1), survey, tier) for k in (4, 1, 0, 3, 2)]
    for table in ("stamps", "metrics"):
        assert pa.concat_tables(one[table] for one in alone).sort_by("task_id").equals(batch[table])
        by_job = runs.read(tiny_dataset, table)
        by_job = by_job.filter(pa.array([i in set(mine["task_id"].to_pylist()) for i in by_job["task_id"].to_pylist()]))
        assert by_job.sort_by("task_id").equals(batch[table])


def test_a_chunk_s_rows_are_made_brick_by_brick_whatever_their_order(manifest, tiny_survey, tier):
    found = list(inject_job.stamps(manifest.take(np.random.default_rng(1).permutation(120)), place.at(tiny_survey), tier))
    bricks = [set(made["stamps"]["brickname"].to_pylist()) for made, _ in found]
    assert [len(names) for names in bricks] == [1] * len(set(manifest["brickname"].to_pylist()))
    ordered = manifest.sort_by([(name, "ascending") for name in ("brickname", "galaxy_id", "task_id")])
    for table in ("stamps", "metrics"):
        assert pa.concat_tables(made[table] for made, _ in found)["task_id"].to_pylist() == ordered["task_id"].to_pylist()
    assert sum(counts["ok"] for _, counts in found) == 120


def test_duckdb_reads_the_committed_files_by_a_glob(tiny_dataset, manifest):
    duckdb = pytest.importorskip("duckdb")
    for table in ("manifest", "stamps", "metrics"):
        found = duckdb.sql(f"SELECT count(*), count(DISTINCT task_id) FROM '{tiny_dataset.place}/{table}/*/*/*.parquet'")
        assert found.fetchall() == [(120, 120)]
    arcs = duckdb.sql(f"SELECT tier, sum(arc_snr > 0) FROM '{tiny_dataset.place}/metrics/*/*/*.parquet' GROUP BY tier")
    assert arcs.fetchall() == [("tiny", 72)]


def test_every_file_tells_its_tier_code_and_config_and_lies_in_its_run(tiny_dataset):
    for table in ("parent", "manifest", "stamps", "metrics", "runs"):
        for path in tables.folder(tiny_dataset, tiny_dataset.table(table)).rglob("*.parquet"):
            footer = {k.decode(): v.decode() for k, v in pq.read_schema(path).metadata.items()}
            assert path.parent.name.startswith("run_id=")
            assert (footer["tier"], footer["code_version"]) == ("tiny", runs.code_version())
            assert len(footer["config_hash"]) == 16


# package -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return package.build(tmp_path_factory.mktemp("dist") / "arcmill.zip")


def away(**more) -> dict[str, str]:
    """An environment that knows nothing of the checkout."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "ARCMILL_MASTER", "SPARK_HOME")}
    return kept | {"PYSPARK_PYTHON": sys.executable, "PYSPARK_DRIVER_PYTHON": sys.executable} | more


def test_the_package_holds_the_code_and_the_recipes_and_is_the_same_twice(archive, tmp_path):
    names = zipfile.ZipFile(archive).namelist()
    wanted = {"jobs/__main__.py", "lib/injection.py", "lib/lensing/sie.py", "validation/__main__.py", "validation/report.html",
              "lib/tiers/demo.toml", "lib/tiers/grids.toml"}  # fmt: skip
    assert wanted - set(names) == set()
    assert [n for n in names if "__pycache__" in n or n.startswith(("tests/", "infra/"))] == []
    again = package.build(tmp_path / "again.zip")
    assert again.read_bytes() == archive.read_bytes()


def test_the_package_is_the_code_it_says_and_its_physics_runs_from_the_archive(archive, tmp_path):
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from lib import runs, tiers; import lib.injection, validation.physics\n"
        "assert lib.__file__.startswith(sys.argv[1]), lib.__file__\n"
        "print(runs.code_version(), tiers.names(), validation.physics.probe()[0].round(2).tolist())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(archive)], cwd=tmp_path, env=away(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{runs.code_version()} {tiers.names()} [13.74, 20.08, ")


def submit(archive: Path, cwd: Path, *argv: str):
    entry = cwd / "submit_main.py"  # alone, as on a cluster: beside the checkout it would find the checkout
    entry.write_text((ROOT / "infra" / "submit_main.py").read_text())
    spark_submit = str(Path(sys.executable).with_name("spark-submit"))
    flags = [
        "--master",
        "local[1]",
        "--conf",
        "spark.ui.enabled=false",
        "--conf",
        "spark.driver.bindAddress=127.0.0.1",
        "--py-files",
        str(archive),
    ]
    return subprocess.run(
        [spark_submit, *flags, str(entry), *argv], cwd=cwd, env=away(SPARK_LOCAL_IP="127.0.0.1"), capture_output=True, text=True
    )


def test_spark_submit_runs_a_job_from_the_package_alone(archive, tiny_survey, tiny_tier, tiny_dataset, tmp_path):
    tables = ["--tier", str(tiny_tier), "--root", str(tmp_path / "root"), "--dataset", "set"]
    done = submit(archive, tmp_path, "parent", "--survey", str(tiny_survey), *tables)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "spark: local[1], 1 cores" in done.stdout + done.stderr  # what spark-submit said, not our laptop's defaults
    made = tiny_dataset.at(str(tmp_path / "root"), "set", "tiny")
    assert runs.read(made, "parent").sort_by("galaxy_id").equals(runs.read(tiny_dataset, "parent").sort_by("galaxy_id"))


def test_spark_submit_ends_with_the_code_of_a_job_that_failed(archive, tmp_path):
    done = submit(archive, tmp_path, "parent", "--tier", "dmo", "--root", str(tmp_path), "--dataset", "set", "--survey", str(tmp_path))
    assert done.returncode == 2
    assert "parent: unknown tier 'dmo'" in done.stdout + done.stderr  # the driver's two streams come out as one


@pytest.mark.parametrize("job", ["manifest", "validation"])
def test_the_entry_of_spark_submit_returns_the_code_of_its_job(job, tmp_path, capsys):
    assert submit_main.main([job, "--tier", "dmo", "--root", str(tmp_path), "--dataset", "set"]) == 2
    assert "unknown tier 'dmo'; known: " in capsys.readouterr().err


def test_make_demo_on_a_survey_folder_runs_whole_and_reuses_what_is_unchanged(tiny_survey, tiny_tier, tmp_path, spark, capsys):
    from infra.demo import main as demo

    argv = ["--survey", str(tiny_survey), "--tier", str(tiny_tier), "--out", str(tmp_path)]
    assert demo(argv) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert first["verdict"] == "GO"
    assert first["rows"] == {"parent": 150, "manifest": 120, "stamps": 120, "metrics": 120, "validation": len(GATES)}
    page = Path(first["report"])
    made = page.stat().st_mtime_ns
    assert demo(argv) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == first
    assert page.stat().st_mtime_ns == made


def test_validation_never_takes_another_sets_report_for_its_own(tiny_dataset, tiny_tier, tmp_path, spark, capsys):
    """Two data sets with one report folder: each time the verdict is the set's own."""
    from validation.__main__ import main as validate

    shutil.copytree(tables.root(tiny_dataset), tmp_path / "root")
    root, report = tmp_path / "root", tmp_path / "report"
    shutil.copytree(root / "set", root / "bad")
    for path in (root / "bad" / "metrics").rglob("*.parquet"):
        table = pq.read_table(path, partitioning=None)
        column = pa.array([-1.0] * table.num_rows, pa.float32())
        names = table.schema.names
        table = table.set_column(names.index("psf_fwhm_used_r_arcsec"), table.schema.field("psf_fwhm_used_r_arcsec"), column)
        pq.write_table(table, path)
    found = []
    for name in ("bad", "set", "bad"):
        found.append(validate(["--tier", str(tiny_tier), "--root", str(root), "--dataset", name, "--report", str(report)]))
    assert found == [1, 0, 1]
