"""Catalogues, brick summaries and lists of lenses in a bucket: the same parents as from a folder, and what is wrong is named."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from jobs.__main__ import main
from lib import place, runs
from lib.errors import InputError
from lib.store import Dataset
from lib.survey import sweeps
from tests import servers, tiny

A, B = "sweep-150p000-151p005", "sweep-151p000-152p005"


def parquet(path: Path, columns: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({name: list(values) if values.dtype.kind == "U" else values for name, values in columns.items()}), path)


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A survey folder: a sweep in FITS, one in Parquet, files beside them, a brick summary, a list of lenses."""
    folder = tmp_path_factory.mktemp("sky")
    rows = [tiny.sweep_rows(name, 25) for name in tiny.BRICKS[:2]]
    tiny.write_sweep(folder / "sweep" / "10.1" / f"{A}.fits", rows[0])
    parquet(folder / "sweep" / "10.1" / f"{B}.parquet", rows[1])
    (folder / "sweep" / "10.1-photo-z").mkdir()
    (folder / "sweep" / "10.1-photo-z" / f"{A}-pz.fits").write_bytes(b"not for us")
    (folder / "coadd").mkdir()
    (folder / "coadd" / "other").write_bytes(b"millions of these")
    columns = [fits.Column(name="brickname", array=np.array(tiny.BRICKS), format="8A")]
    columns += [fits.Column(name=f"psfsize_{b}", array=np.full(len(tiny.BRICKS), 1.3 + k / 10), format="E") for k, b in enumerate("grz")]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(folder / "survey-bricks-dr10.fits.gz")
    (folder / "lists").mkdir()
    (folder / "lists" / "lenses.csv").write_text(f"ra,dec\n{rows[0]['RA'][3]},{rows[0]['DEC'][3]}\n")
    return folder


@pytest.fixture
def bucket(sky, s3_bucket) -> str:
    """The same survey in a bucket."""
    there = place.at(s3_bucket)
    for path in sky.rglob("*"):
        if path.is_file():
            there.put(str(path.relative_to(sky)), path.read_bytes())
    return s3_bucket


def under(address: str, path: str) -> str:
    folder, _, options = address.partition("?")
    return f"{folder}/{path}" + (f"?{options}" if options else "")


@pytest.fixture
def parent(tmp_path, spark):
    """The job with flags: (exit code, the bytes of PARENT's files)."""
    tier = tmp_path / "tiny.toml"
    tier.write_text(tiny.TIER)

    def run(survey: str, *more: str):
        shutil.rmtree(tmp_path / "root", ignore_errors=True)
        code = main(["parent", "--survey", str(survey), "--tier", str(tier), "--root", str(tmp_path / "root"), "--dataset", "set", *more])
        dataset = Dataset.at(str(tmp_path / "root"), "set", "tiny")
        if code or not runs.records(dataset):
            return code, None
        return code, runs.read(dataset, "parent").sort_by("galaxy_id")

    return run


def test_the_parents_from_a_bucket_are_those_from_the_folder(parent, sky, bucket, tmp_path):
    (code, local), (code_s3, made) = (parent(s, "--known-lenses", under(str(s), "lists/lenses.csv")) for s in (sky, bucket))
    assert (code, code_s3, made.num_rows) == (0, 0, 49)
    assert made.equals(local) and made["brick_psfsize_g_arcsec"].null_count == 0
    by_name = parent(bucket, *(f for name in (f"{A}.fits", f"{B}.parquet") for f in ("--catalogue", under(bucket, f"sweep/10.1/{name}"))))
    assert by_name[1].num_rows == 50


def test_another_content_under_the_same_name_is_another_input(sky, bucket, tmp_path, spark, capsys):
    tier = tmp_path / "tiny.toml"
    tier.write_text(tiny.TIER)
    flags = ["parent", "--survey", bucket, "--tier", str(tier), "--root", str(tmp_path / "root"), "--dataset", "set"]
    assert main(flags) == 0
    run = runs.committed(dataset := Dataset.at(str(tmp_path / "root"), "set", "tiny"), "parent")
    assert main(flags) == 0 and runs.committed(dataset, "parent") == run
    there = place.at(bucket)
    there.put(f"sweep/10.1/{A}.fits", (sky / "sweep" / "10.1" / f"{A}.fits").read_bytes() + bytes(2880))
    assert main(flags) == 2
    assert f"{there}/sweep/10.1/{A}.fits" in capsys.readouterr().err


@pytest.mark.parametrize("given", [
    "", "sweep", "sweep/10.1", "sweep/10.1/*", "sweep/*1/sweep-15*", "**/sweep-*[0-9].*", "sw*/10.1", "sweep/10.1/sweep-15[01]*",
])  # fmt: skip
def test_prefixes_and_globs_find_what_folders_and_globs_do(given, sky, bucket):
    found = [place.split(p)[1] for p in sweeps.named([under(bucket, given)])]
    assert found == [Path(p).name for p in sweeps.named([sky / given])] == [f"{A}.fits", f"{B}.parquet"]


def test_only_what_is_needed_of_a_survey_is_listed(bucket, s3_server):
    with servers.faulty(s3_server.endpoint) as proxy:
        sweeps.find(place.at(bucket.replace(s3_server.endpoint, proxy.endpoint)))
        assert len(proxy.requests) == 1 and "sweep" in proxy.requests[0].path


def test_a_parquet_catalogue_is_read_by_its_columns(s3_server, s3_bucket, tmp_path):
    rows = tiny.sweep_rows(tiny.BRICKS[0], 25) | {f"EXTRA_{k}": np.random.default_rng(k).normal(size=25) for k in range(400)}
    parquet(tmp_path / "t", rows)
    place.at(s3_bucket).put(f"{A}.parquet", (tmp_path / "t").read_bytes())
    with servers.faulty(s3_server.endpoint) as proxy:
        columns, _ = sweeps.read(under(s3_bucket.replace(s3_server.endpoint, proxy.endpoint), f"{A}.parquet"))
        assert np.array_equal(columns["RA"], rows["RA"])
        assert not [r for r in proxy.requests if r.method == "GET" and not r.range]


@pytest.mark.parametrize("flag, path, says", [
    ("--catalogue", "none", "no such file or folder: s3://sky/{prefix}/none"),
    ("--catalogue", "sweep/none/*.fits", "no file matches s3://sky/{prefix}/sweep/none/*.fits"),
    ("--catalogue", "coadd", "no sweep-*.fits or tractor-*.fits in s3://sky/{prefix}/coadd"),
    ("--known-lenses", "lists/none.csv", "no such file: s3://sky/{prefix}/lists/none.csv"),
    ("--survey", "none", "no such survey folder: s3://sky/{prefix}/none"),
])  # fmt: skip
def test_what_is_not_there_is_named(flag, path, says, parent, bucket, capsys):
    assert parent(bucket, flag, under(bucket, path)) == (3, None)
    said = capsys.readouterr().err
    assert says.format(prefix=str(place.at(bucket)).removeprefix("s3://sky/")) in said and "?endpoint" not in said


@pytest.mark.parametrize("name", [f"{A}.fits", f"{B}.parquet"])
def test_a_damaged_catalogue_is_named(name, parent, sky, bucket, capsys):
    there = place.at(bucket)
    content = (sky / "sweep" / "10.1" / name).read_bytes()
    there.put(f"sweep/10.1/{name}", content[: len(content) // 2])
    assert parent(bucket)[0] == 3
    assert f"1 of 2 catalogues could not be read: {there}/sweep/10.1/{name}: " in capsys.readouterr().err
    assert parent(bucket, "--allow-missing", "1")[1].num_rows == 25


def test_a_catalogue_is_read_through_a_server_that_fails(bucket, s3_server, sky, monkeypatch):
    monkeypatch.setattr(place, "BLOCK", 4000)  # many requests a file
    with servers.faulty(s3_server.endpoint, servers.script(["slow", "drop", None, "half", "half", "error", None, "lost"] * 3)) as proxy:
        for name in (f"{A}.fits", f"{B}.parquet"):
            made, _ = sweeps.read(under(bucket.replace(s3_server.endpoint, proxy.endpoint), f"sweep/10.1/{name}"))
            right, _ = sweeps.read(str(sky / "sweep" / "10.1" / name))
            assert made.keys() == right.keys() and all(
                np.array_equal(made[k], right[k], equal_nan=right[k].dtype.kind == "f") for k in right
            )
        assert len(proxy.faults()) == 5


def test_a_missing_prefix_of_the_real_layout_is_told_apart_from_an_empty_one(s3_bucket):
    place.at(s3_bucket).put("readme.txt", b"x")
    with pytest.raises(InputError, match=r"no sweep-\*\.fits or tractor-\*\.fits in s3://sky/"):
        sweeps.find(place.at(s3_bucket))
