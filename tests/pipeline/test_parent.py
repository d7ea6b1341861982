"""The job parent as it is run: which catalogues, which lenses, what its report says, what readers find."""

import json

import numpy as np
import pyarrow.compute as pc
import pytest

from jobs.__main__ import main
from lib import runs
from lib import spark as spark_tables
from lib.store import Dataset
from tests import tiny
from tests.conftest import shared

FLAG = """
[[flags]]
name = "bright"
r_min = 17.0
r_max = 19.25
gr_min = 0.5
rz_min = 0.2
"""
DIRTY = {"FLUX_G": -1.0, "FLUX_R": np.nan, "RA": 500.0, "TYPE": "PSF "}


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A survey folder with two sweeps of 25 galaxies; in the second four rows are dirty, each in its way."""
    folder = tmp_path_factory.mktemp("sky")
    tiny.write_sweep(folder / "sweep" / "sweep-150p000-151p005.fits", tiny.sweep_rows(tiny.BRICKS[0], 25))
    rows = tiny.sweep_rows(tiny.BRICKS[1], 25)
    for k, (name, value) in enumerate(DIRTY.items()):
        rows[name][k] = value
    tiny.write_sweep(folder / "sweep" / "sweep-151p000-152p005.fits", rows)
    return folder


@pytest.fixture
def job(sky, tmp_path, spark):
    """Run the job with flags more; (exit code, PARENT or None, the record's counts)."""
    tier = tmp_path / "tiny.toml"
    tier.write_text(tiny.TIER + FLAG)

    def run(*more, text=tiny.TIER + FLAG):
        tier.write_text(text)
        code = main(["parent", "--survey", str(sky), "--tier", str(tier), "--root", str(tmp_path), "--dataset", "set", *map(str, more)])
        dataset = Dataset.at(str(tmp_path), "set", "tiny")
        records = runs.records(dataset)
        return code, runs.read(dataset, "parent") if records else None, json.loads(records[-1]["counts"]) if records else {}

    return run


def test_the_report_tells_each_reason_in_order_and_adds_up(job, caplog):
    caplog.set_level("INFO")
    code, table, counts = job()
    assert (code, table.num_rows) == (0, 46)
    steps = counts["steps"]
    assert steps[0] == ["rows", 0, 50] and steps[-1][2] == 46
    lost = [(name, n, left) for name, n, left in steps[1:] if n]
    assert lost == [
        ("dirty: no place on the sky", 1, 49), ("dirty: FLUX is not a number in g, r or z", 1, 48),
        ("dirty: FLUX <= 0 in g, r or z", 1, 47), ("type is not PSF", 1, 46),
    ]  # fmt: skip
    assert steps[-1][0] == "no known lens within 10 arcsec (not applied: no list given)"
    said = " ".join(caplog.text.split())
    assert " dirty: FLUX <= 0 in g, r or z 1 out 47 left " in said


@pytest.mark.parametrize("given, rows", [
    ([""], 46), (["sweep"], 46), (["sweep/sweep-150*"], 25), (["sweep/*.fits", "sweep/sweep-150p000-151p005.fits"], 46),
])  # fmt: skip
def test_catalogues_are_named_by_files_folders_and_globs(given, rows, job, sky):
    code, table, _ = job(*(flag for path in given for flag in ("--catalogue", sky / path)))
    assert (code, table.num_rows) == (0, rows)
    assert len(set(table["galaxy_id"].to_pylist())) == rows


def test_galaxies_at_known_lenses_are_left_out_and_another_list_is_another_table(job, tmp_path, capsys):
    _, everyone, _ = job()
    lenses = tmp_path / "lenses.csv"
    three = everyone.slice(0, 3)
    places = zip(three["ra_deg"].to_pylist(), three["dec_deg"].to_pylist(), strict=True)
    lenses.write_text("name,RA,Dec\n" + "".join(f"x,{ra},{dec + 5 / 3600}\n" for ra, dec in places) + "nowhere,,\n")
    assert job("--known-lenses", lenses)[0] == 2
    said = capsys.readouterr().err
    assert f"known lenses: none -> {lenses}" in said and f"file {lenses} is new" in said
    code, table, counts = job("--known-lenses", lenses, "--replace")
    assert code == 0
    assert set(everyone["galaxy_id"].to_pylist()) - set(table["galaxy_id"].to_pylist()) == set(three["galaxy_id"].to_pylist())
    assert counts["steps"][-1] == ["no known lens within 10 arcsec", 3, 43]
    assert counts["cuts"] == [["known lenses in the lists", 3], ["their rows without a place", 1]]
    lenses.write_text(lenses.read_text() + "one more,10,10\n")
    assert job("--known-lenses", lenses)[0] == 2  # the same name, another content
    assert f"file {lenses} has changed" in capsys.readouterr().err
    assert job("--known-lenses", lenses, text=tiny.TIER + "[known_lenses]\nradius_arcsec = 1.0\n")[0] == 2
    said = capsys.readouterr().err
    assert "known_lenses.radius_arcsec: 10.0 -> 1.0" in said and "[flags] is gone" in said


def test_the_real_lists_are_taken_together(job):
    folder = shared("lens-catalogues")
    code, table, counts = job("--known-lenses", folder / "desi_candidates.csv", "--known-lenses", folder / "new_lenses.tsv")
    assert (code, table.num_rows) == (0, 46)
    assert counts["cuts"] == [["known lenses in the lists", 6296], ["their rows without a place", 0]]


@pytest.mark.parametrize("more, text, says", [
    (["--known-lenses", "none.csv"], None, "no such file: "),
    (["--known-lenses", "{sky}/sweep/sweep-150p000-151p005.fits"], "[known_lenses]\nradius_arcsec = 0.0\n", "keeps no distance from known lenses"),
    (["--catalogue", "{sky}/9*"], None, "no file matches "),
    (["--catalogue", "https://host/sweep"], None, "https:// is none of a folder, a file: or an s3: address"),
    ([], "[known_lenses]\nradius_arcsec = -1.0\n", "radius_arcsec must be in [0, 3600], got -1.0"),
])  # fmt: skip
def test_what_cannot_be_used_is_told_before_any_catalogue_is_read(more, text, says, job, sky, monkeypatch, capsys):
    monkeypatch.setattr("lib.spark.session", lambda *_: pytest.fail("Spark was started"))
    code, table, _ = job(*(flag.format(sky=sky) for flag in more), text=tiny.TIER + (text or ""))
    assert code in (2, 3) and table is None
    assert says in capsys.readouterr().err


def test_every_reader_finds_the_named_selections(job, tmp_path, spark):
    duckdb = pytest.importorskip("duckdb")
    _, table, _ = job()
    bright = pc.sum(pc.less(table["mag_r"], 19.25)).as_py()
    assert 5 < bright < 41
    dataset = Dataset.at(str(tmp_path), "set", "tiny")
    found = duckdb.sql(f"SELECT count(*), sum(list_contains(selections, 'bright')::int) FROM '{dataset.place}/parent/*/*/*.parquet'")
    assert found.fetchall() == [(46, bright)]
    frame = spark_tables.read(spark, dataset, "parent")
    assert frame.filter("array_contains(selections, 'bright')").count() == bright
    assert frame.filter("selections[0] = 'lrg'").count() == 46
    assert frame.toArrow().sort_by("galaxy_id")["selections"].to_pylist() == table.sort_by("galaxy_id")["selections"].to_pylist()
