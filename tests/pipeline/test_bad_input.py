"""Bad input is told by name: a row keeps its status and its neighbours are made, a job stops with one sentence."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from jobs.__main__ import main
from lib import place, reader, runs, schemas, tiers
from lib.errors import ConfigError, InputError
from lib.injection import inject
from lib.lensing import render
from lib.schemas import BANDS
from lib.store import Dataset
from lib.survey import bricks, masks, sweeps
from tests import tables, tiny

SIDE = 64
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tier(tiny_tier):
    return tiers.load(str(tiny_tier))


@pytest.fixture(scope="module")
def all_tasks(tiny_dataset):
    return runs.read(tiny_dataset, "manifest")


@pytest.fixture(scope="module")
def brick(all_tasks):
    """The brick that has the most injections."""
    injected = all_tasks.filter(pc.equal(all_tasks["role"], "injected"))
    return Counter(injected["brickname"].to_pylist()).most_common(1)[0][0]


@pytest.fixture(scope="module")
def tasks(all_tasks, brick):
    """Six tasks of the brick: four injections of as many galaxies, two controls."""
    mine = [t for t in all_tasks.sort_by("task_id").to_pylist() if t["brickname"] == brick]
    lenses = list({t["galaxy_id"]: t for t in mine if t["role"] == "injected"}.values())[:4]
    return [*lenses, *[t for t in mine if t["role"] != "injected"][:2]]


@pytest.fixture
def survey(tiny_survey, brick, tmp_path):
    """A copy of the brick's files, to be broken."""
    folder = bricks.path(tiny_survey, brick, "image", "r").parent
    shutil.copytree(folder, tmp_path / "survey" / folder.relative_to(tiny_survey))
    return tmp_path / "survey"


def table(tasks: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(tasks, schema=schemas.MANIFEST)


def made(tasks: list[dict], survey: Path, tier) -> list[dict]:
    """STAMPS rows with the METRICS of the same task under ``metrics``; both must tell the same."""
    out = inject(table(tasks), place.at(survey), tier)
    stamps, metrics = out["stamps"].to_pylist(), out["metrics"].to_pylist()
    for stamp, metric, task in zip(stamps, metrics, tasks, strict=True):
        assert stamp["task_id"] == metric["task_id"] == task["task_id"]
        assert (stamp["status"], stamp["error"]) == (metric["status"], metric["error"])
        assert (stamp["status"] == "ok") == (stamp["stamp"] is not None) == (metric["psf_fwhm_used_r_arcsec"] is not None)
        stamp["metrics"] = metric
    return stamps


def statuses(rows: list[dict]) -> list[str]:
    return [row["status"] for row in rows]


def position(brick: str, x: float, y: float) -> dict:
    ra, dec = WCS(tiny.header(brick, "image", "r")).all_pix2world(x, y, 0)
    return {"ra_deg": float(ra), "dec_deg": float(dec)}


def corner(brick: str, row: dict) -> tuple[int, int]:
    """First pixel of a stamp in its brick."""
    x, y = WCS(tiny.header(brick, "image", "r")).all_world2pix(row["ra_deg"], row["dec_deg"], 0)
    return int(np.floor(x + 0.5)) - SIDE // 2, int(np.floor(y + 0.5)) - SIDE // 2


# rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change, code, says", [
    ({"theta_e_arcsec": float("nan")}, "bad_row", "theta_e_arcsec=nan"),
    ({"theta_e_arcsec": 50.0}, "bad_row", "theta_e_arcsec=50 not in [0, 10]"),
    ({"src_reff_arcsec": -0.2}, "bad_row", "src_reff_arcsec=-0.2 not in [0.001, 10]"),
    ({"mag_r_observed": None}, "bad_row", "mag_r_observed=None"),
    ({"lens_e": 0.99, "src_n": 9.0}, "bad_row", "src_n=9 not in [0.3, 6], lens_e=0.99 not in [0, 0.9]"),
    ({"theta_e_arcsec": 9.9, "src_x_arcsec": 9.9}, "too_large", "theta_e=9.9 arcsec and its source do not fit"),
    ({"ra_deg": 10.0}, "outside", "is not on the 560 x 560 px of brick"),
    ({"ra_deg": 330.0}, "outside", "is not on the 560 x 560 px of brick"),
    ((-40.0, 300.0), "outside", "the host at x=-40.0, y=300.0 is not on"),
    ((20.0, 300.0), "edge", "the stamp of the host at x=20.0, y=300.0 reaches over the brick's edge"),
    ((300.0, 545.0), "edge", "x=300.0, y=545.0"),
])  # fmt: skip
def test_a_bad_row_says_why_and_its_neighbours_are_made_as_ever(change, code, says, tasks, brick, tiny_survey, tier):
    change = change if isinstance(change, dict) else position(brick, *change)
    good = made([tasks[0], tasks[2]], tiny_survey, tier)
    rows = made([tasks[0], tasks[1] | change, tasks[2]], tiny_survey, tier)
    assert statuses(rows) == ["ok", code, "ok"]
    assert says in rows[1]["error"]
    assert [rows[0], rows[2]] == good


def test_a_stamp_that_touches_the_edge_from_inside_is_made(tasks, brick, tiny_survey, tier):
    places = [(32.0, 300.0), (527.0, 300.0), (31.0, 300.0), (529.0, 300.0)]
    rows = made([tasks[0] | position(brick, *place) for place in places], tiny_survey, tier)
    assert statuses(rows) == ["ok", "ok", "edge", "edge"]


def test_a_bug_stops_the_job_and_names_the_task(tasks, tiny_survey, tier, monkeypatch):
    monkeypatch.setattr(render, "draw", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError) as error:
        inject(table(tasks[:1]), place.at(tiny_survey), tier)
    assert f"task_id={tasks[0]['task_id']} brick={tasks[0]['brickname']}" in error.value.__notes__


def test_of_many_tasks_the_one_with_the_bug_is_named(tasks, tiny_survey, tier, monkeypatch):
    shipped, x = render.draw, tasks[2]["src_x_arcsec"]
    monkeypatch.setattr(
        render, "draw", lambda scene, *args, **kwargs: 1 / 0 if x in scene.src_x_arcsec else shipped(scene, *args, **kwargs)
    )
    with pytest.raises(ZeroDivisionError) as error:
        inject(table(tasks), place.at(tiny_survey), tier)
    assert error.value.__notes__ == [f"task_id={tasks[2]['task_id']} brick={tasks[2]['brickname']}"]


def test_tasks_of_many_sides_and_places_are_each_made_as_alone(tasks, brick, tiny_survey, tier, monkeypatch):
    """Mixed sides, two tasks at one site that tell different PSFs, faults of several kinds, and chunks of a few rows."""
    monkeypatch.setattr("lib.injection.CHUNK_BYTES", 3 * 12 * SIDE**2)
    mixed = [
        tasks[0], tasks[1] | {"stamp_side_pix": 48}, tasks[4] | {"src_n": 99.0}, tasks[5], tasks[2] | {"stamp_side_pix": 47}, tasks[3],
        tasks[0] | {"src_x_arcsec": 0.3}, tasks[4], tasks[1] | position(brick, 20.0, 300.0), tasks[5] | {"stamp_side_pix": 48}, tasks[2],
    ]  # fmt: skip
    rows = made(mixed, tiny_survey, tier)
    assert Counter(statuses(rows)) == {"ok": 9, "bad_row": 1, "edge": 1}
    assert rows == [made([task], tiny_survey, tier)[0] for task in mixed]


# files of a brick ----------------------------------------------------------------------------------------------------


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
@pytest.mark.parametrize("kind, band, harm, code", [
    ("image", "r", cut, "unreadable"),
    ("image", "r", lambda path: path.write_bytes(b""), "unreadable"),
    ("invvar", "g", lambda path: path.write_bytes(b"<html>503 Service Unavailable</html>" * 200), "unreadable"),
    ("image", "g", lambda path: fits.PrimaryHDU().writeto(path, overwrite=True), "unreadable"),
    ("psfsize", "z", cut, "unreadable"),
    ("maskbits", "", cut, "unreadable"),
    ("maskbits", "", lambda path: path.write_bytes(path.read_bytes()[:5760] + bytes(path.stat().st_size)), "unreadable"),
    ("image", "z", Path.unlink, "missing_file"),
    ("image", "r", Path.unlink, "missing_file"),
    ("invvar", "r", Path.unlink, "missing_file"),
])  # fmt: skip
def test_a_damaged_or_missing_file_is_named_in_the_status_of_its_tasks(kind, band, harm, code, tasks, brick, survey, tier):
    path = bricks.path(survey, brick, kind, band)
    harm(path)
    rows = made([t | position(brick, 440.0, 440.0) for t in tasks[::3]], survey, tier)
    assert statuses(rows) == [code] * 2
    assert all(str(path) in row["error"] for row in rows)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
@pytest.mark.parametrize("share", [0.3, 0.62, 0.9])
def test_the_rest_of_a_truncated_file_is_read_right_or_not_at_all(share, tasks, brick, tiny_survey, survey, tier):
    places = [tasks[-1] | position(brick, 280.0, y) for y in range(40, 521, 60)]
    whole = made(places, tiny_survey, tier)
    cut(bricks.path(survey, brick, "image", "z"), share)
    rows = made(places, survey, tier)
    assert statuses(whole) == ["ok"] * len(places)
    assert rows[-1]["status"] == "unreadable"
    assert [row["stamp"] for row, good in zip(rows, whole, strict=True) if row["status"] == "ok" and row != good] == []
    assert set(statuses(rows)) <= {"ok", "unreadable"}


def test_a_brick_that_is_not_there_is_told_by_each_of_its_tasks(tasks, tmp_path, tier):
    rows = made(tasks, tmp_path, tier)
    assert statuses(rows) == ["missing_file"] * len(tasks)


def test_an_image_without_a_wcs_is_unreadable(tasks, brick, survey, tier):
    path = bricks.path(survey, brick, "image", "r")
    hdus = fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.ones((tiny.SIDE, tiny.SIDE), "f4"))])
    hdus.writeto(path, overwrite=True)
    rows = made(tasks[:2], survey, tier)
    assert statuses(rows) == ["unreadable"] * 2
    assert rows[0]["error"] == "the image has no celestial WCS"


def test_an_unknown_projection_is_unreadable(tasks, brick, survey, tier):
    path = bricks.path(survey, brick, "image", "r")
    header = tiny.header(brick, "image", "r")
    header["CTYPE1"], header["CTYPE2"] = "RA---XXX", "DEC--XXX"
    fits.PrimaryHDU(np.ones((tiny.SIDE, tiny.SIDE), "f4"), header).writeto(path, overwrite=True)
    rows = made(tasks[:2], survey, tier)
    assert statuses(rows) == ["unreadable"] * 2
    assert "the image's WCS: " in rows[0]["error"] and "XXX" in rows[0]["error"]


def test_mask_bits_that_are_not_integers_are_unreadable(tasks, brick, survey, tier):
    path = tiny.write_plane(survey, brick, "maskbits", "", np.zeros((tiny.SIDE, tiny.SIDE), "f4"))
    rows = made(tasks[:2], survey, tier)
    assert statuses(rows) == ["unreadable"] * 2
    assert rows[0]["error"] == f"{path}: bits must be integers, got float32"


@pytest.mark.parametrize("kind", ["image", "invvar"])
def test_only_stamps_that_hold_nan_are_refused_for_it(kind, tasks, brick, survey, tier):
    pixels = np.random.default_rng(5).normal(1.0, 0.01, (tiny.SIDE, tiny.SIDE)).astype("f4")
    x0, y0 = corner(brick, tasks[0])
    pixels[y0 + 2 : y0 + 5, x0 + 60] = np.nan
    path = tiny.write_plane(survey, brick, kind, "z", pixels)
    with fits.open(path) as hdus:
        read = hdus[1].data
    assert np.isnan(read).sum() == 3, "the file must hold the NaN"
    rows = made(tasks, survey, tier)
    expected = []
    for task in tasks:
        x, y = corner(brick, task)
        expected.append("ok" if np.isfinite(read[y : y + SIDE, x : x + SIDE]).all() else "nan")
    assert statuses(rows) == expected
    assert set(expected) == {"ok", "nan"}
    assert "band z has 3 pixels that are not finite" in rows[0]["error"]


def test_a_brick_without_exposures_in_a_band_has_no_coverage(tasks, brick, survey, tier):
    tiny.write_plane(survey, brick, "invvar", "g", np.zeros((tiny.SIDE, tiny.SIDE), "f4"))
    rows = made(tasks, survey, tier)
    assert statuses(rows) == ["no_coverage"] * len(tasks)
    assert rows[0]["error"] == "band g has weight in 0.000 of the stamp"


def test_a_host_on_masked_pixels_is_refused_and_others_keep_the_mask_as_a_plane(tasks, brick, survey, tier):
    bits = np.zeros((tiny.SIDE, tiny.SIDE), "i4")
    x0, y0 = corner(brick, tasks[0])
    bits[y0 + SIDE // 2, x0 + SIDE // 2] = masks.SATUR_R
    x1, y1 = corner(brick, tasks[1])
    bits[y1 + 3, x1 + 4] = masks.ALLMASK_Z
    bits[y1 + 5, x1 + 6] = masks.MEDIUM
    tiny.write_plane(survey, brick, "maskbits", "", bits)
    rows = made(tasks[:2], survey, tier)
    assert statuses(rows) == ["masked_centre", "ok"]
    assert rows[0]["error"] == "band r is masked at the host's centre"
    mask = reader.planes(rows[1])["mask"]
    assert (mask[3, 4], mask[5, 6], np.count_nonzero(mask)) == (1 << BANDS.index("z"), 1 << 7, 2)
    assert rows[1]["metrics"]["bad_pixel_frac"] == pytest.approx(1 / SIDE**2)


def test_a_brick_without_maskbits_is_made_and_its_bright_star_share_is_not_measured(tasks, brick, survey, tier):
    bricks.path(survey, brick, "maskbits").unlink()
    rows = made(tasks[:2], survey, tier)
    assert statuses(rows) == ["ok", "ok"]
    assert [row["metrics"]["wise_brightmask_frac"] for row in rows] == [None, None]


def test_a_band_without_any_psf_is_no_psf(tasks, brick, survey, tier):
    bricks.path(survey, brick, "psfsize", "r").unlink()
    unknown = {"brick_psfsize_r_arcsec": None, "psfsize_r_arcsec": None}
    rows = made([tasks[0] | unknown, tasks[1]], survey, tier)
    assert statuses(rows) == ["no_psf", "ok"]
    assert rows[0]["error"] == "band r has no PSF from coadd, map, brick, catalogue"


@pytest.mark.parametrize("value, source", [(0.0, "map"), (float("nan"), "map"), (1.0, "coadd")])
def test_a_coadd_psf_without_light_gives_way_to_the_map(value, source, tasks, brick, survey, tier):
    kernel = np.zeros((63, 63), "f4")
    kernel[31, 31] = value
    fits.PrimaryHDU(kernel).writeto(bricks.path(survey, brick, "copsf", "r"))
    rows = made(tasks[:2], survey, tier)
    assert statuses(rows) == ["ok"] * 2
    assert {row["metrics"]["psf_source_r"] for row in rows} == {source}


def test_a_psf_map_that_is_zero_at_the_host_gives_way_to_the_brick_then_the_catalogue(tasks, brick, survey, tier):
    tiny.write_plane(survey, brick, "psfsize", "r", np.zeros((tiny.SIDE, tiny.SIDE), "f4"))
    both = {"brick_psfsize_r_arcsec": 1.41, "psfsize_r_arcsec": 1.27}
    rows = made(
        [tasks[0] | both, tasks[0] | both | {"brick_psfsize_r_arcsec": None}, tasks[0] | both | {"psfsize_r_arcsec": None}], survey, tier
    )
    told = [row["metrics"] for row in rows]
    assert [m["psf_source_r"] for m in told] == ["brick", "catalogue", "brick"]
    assert {(m["psf_source_g"], m["psf_source_z"]) for m in told} == {("map", "map")}
    assert [m["psfsize_used_r_arcsec"] for m in told] == pytest.approx([1.41, 1.27, 1.41], rel=1e-3)


def test_a_control_is_the_survey_s_cut_out_bit_for_bit(all_tasks, tiny_survey, tier):
    controls = all_tasks.filter(pc.not_equal(all_tasks["role"], "injected"))
    for name in sorted(set(controls["brickname"].to_pylist())):
        mine = controls.filter(pc.equal(controls["brickname"], name)).slice(0, 4).to_pylist()
        for row, task in zip(made(mine, tiny_survey, tier), mine, strict=True):
            x, y = corner(name, task)
            for kind, column in (("image", "stamp"), ("invvar", "invvar")):
                cubes = []
                for band in BANDS:
                    with fits.open(bricks.path(tiny_survey, name, kind, band)) as hdus:
                        cubes.append(hdus[1].section[y : y + SIDE, x : x + SIDE].astype("<f4"))
                assert reader.planes(row)[column].tobytes() == np.stack(cubes).tobytes()
            assert not any(row["arc"])


def test_every_task_has_one_row_of_stamps_and_one_of_metrics(tiny_dataset, all_tasks):
    ids = {name: sorted(runs.read(tiny_dataset, name, ["task_id"])["task_id"].to_pylist()) for name in ("stamps", "metrics")}
    assert ids["stamps"] == ids["metrics"] == sorted(all_tasks["task_id"].to_pylist())
    assert len(set(ids["stamps"])) == 120


# recipes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old, new, says", [
    ('grid = "small"', 'grid = "smal"', ["grid: unknown grid 'smal'; known: full, medium, showcase, small, sota, v4_sota"]),
    ("configs_per_host = 6", "config_per_host = 6", ["unknown key sample.config_per_host (did you mean configs_per_host?)", "known: at_most"]),
    ("seed = 7", 'seed = "seven"\nsed = 7', ["unknown key sed (did you mean seed?)", "seed must be int, got 'seven'"]),
    ("r_min = 17.0\nr_max = 21.0", "r_mx = 3\nr_min = true", ["unknown key selection.r_mx (did you mean r_m", "missing key selection.r_max", "selection.r_min must be float, got True"]),
    ("nside = 1024", "nside = 1000", ["nside must be a power of 2, got 1000"]),
    ("fraction = 0.4", "fraction = 1.4", ["controls.fraction must be at least 0 and below 1, got 1.4"]),
    ("paired = 0.5", "paired = -0.5", ["controls.paired must be from 0 to 1, got -0.5"]),
    ("train = 0.4,", "train = 0.5,", ["split.fractions must add up to 1, got 0.5 + 0.3 + 0.3 = 1.1"]),
    ("val = 0.3, test = 0.3 }", "valid = 0.6 }", ["split.fractions must give a share for each of train, val, test, got train, valid"]),
    ("train = 0.4, val = 0.3, test", "train = 0.9, val = -0.2, test", ["split.fractions.val must not be negative, got -0.2"]),
    ("configs_per_host = 6", "replicates = 0", ["sample.replicates must be at least 1, got 0"]),
    ("configs_per_host = 6", "configs_per_host = -1", ["sample.configs_per_host must be at least 0, got -1"]),
    ("configs_per_host = 6", "configs_per_host = 600", ["sample.configs_per_host must be at most the grid's 48"]),
    ("psfsize_r_arcsec = 0.05, mag_r = 0.2", "psfsize_r = 0.05, redness = 0.2", [
        "controls.tolerance.psfsize_r (did you mean psfsize_r_arcsec?), tolerance.redness: no such variable; known: gr, rz, ra_deg, "]),
    ("[gates]", "[gates", ["tier "]),
])  # fmt: skip
def test_everything_wrong_in_a_recipe_is_named_at_once(old, new, says, tmp_path):
    recipe = tmp_path / "wrong.toml"
    assert old in tiny.TIER
    recipe.write_text(tiny.TIER.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        tiers.load(str(recipe))
    assert str(recipe) in str(error.value)
    assert [text for text in says if text not in str(error.value)] == []


def test_an_unknown_recipe_is_named_with_the_known_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown tier 'dmo'; known: .*debug.*demo.*, or the path of a .toml file"):
        tiers.load("dmo")
    with pytest.raises(ConfigError, match=r"no such tier file: .*none\.toml"):
        tiers.load(str(tmp_path / "none.toml"))


# jobs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def flags(tiny_tier, tmp_path):
    return ["--tier", str(tiny_tier), "--root", str(tmp_path / "root"), "--dataset", "set"]


@pytest.fixture
def copied(tiny_dataset, tmp_path):
    shutil.copytree(tables.root(tiny_dataset), tmp_path / "root")
    return Dataset.at(str(tmp_path / "root"), "set", "tiny")


@pytest.fixture
def no_work(monkeypatch):
    monkeypatch.setattr("lib.spark.produce", lambda *args, **kwargs: pytest.fail("work was started"))


@pytest.mark.parametrize("argv, says", [
    ([], "usage"), (["injct"], "unknown job 'injct'; known: survey, parent, manifest, negatives, cache, inject"),
])  # fmt: skip
def test_an_unknown_job_is_wrong_usage(argv, says, capsys):
    assert main(argv) == 2
    said = capsys.readouterr()
    assert says in said.err + said.out


def test_an_unknown_or_missing_flag_is_wrong_usage(flags, capsys):
    for argv, says in (
        (["manifest", *flags, "--fast"], "--fast"),
        (["manifest", *flags[2:]], "--tier"),
        (["survey", "--out", "x", "--bricks", "0"], "'0'"),
    ):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 2
        assert says in capsys.readouterr().err


@pytest.mark.parametrize("name", ["../elsewhere", "my set", "..", "", "_staging", "a/b"])
def test_a_data_set_s_name_stays_in_its_folder(name, tiny_tier, tmp_path, capsys):
    assert main(["manifest", "--tier", str(tiny_tier), "--root", str(tmp_path / "root"), "--dataset", name]) == 2
    assert (
        f"dataset name must be ASCII letters, digits, - _ . without .. and not start with . or _, got {name!r}" in capsys.readouterr().err
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_other_data_is_refused_and_left_as_it_is(flags, tiny_survey, tmp_path, no_work, capsys):
    folder = tmp_path / "root" / "set"
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    assert main(["parent", "--survey", str(tiny_survey), *flags]) == 3
    assert f"{folder} holds other data (thesis.tex)" in capsys.readouterr().err
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"thesis.tex": "years of work"}


def test_a_file_in_the_way_of_the_data_set_is_an_error_that_names_it(flags, tiny_survey, tmp_path, no_work, capsys):
    (tmp_path / "root").write_text("a file")
    assert main(["parent", "--survey", str(tiny_survey), *flags]) == 3
    assert str(tmp_path / "root") in capsys.readouterr().err


def test_a_survey_folder_that_is_not_there_or_empty_is_named(flags, tmp_path, no_work, capsys):
    assert main(["parent", "--survey", str(tmp_path / "none"), *flags]) == 3
    assert f"no such survey folder: {tmp_path / 'none'}" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["parent", "--survey", str(tmp_path / "empty"), *flags]) == 3
    assert f"no sweep-*.fits or tractor-*.fits in {tmp_path / 'empty'}" in capsys.readouterr().err


def test_a_job_without_its_input_table_says_which_is_missing(flags, spark, capsys):
    assert main(["manifest", *flags]) == 3
    assert "no parent table of tier tiny" in capsys.readouterr().err


# catalogues ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def sky(tmp_path):
    """A survey folder of three sweeps: a good one, a truncated one, a web page."""
    folder = tmp_path / "sky" / "sweep" / "10.1"
    columns = tiny.sweep_rows(tiny.BRICKS[0], 25)
    tiny.write_sweep(folder / "sweep-150p000-160p005.fits", columns)
    cut(tiny.write_sweep(folder / "sweep-160p000-170p005.fits", columns))
    (folder / "sweep-170p000-180p005.fits").write_text("<html>404</html>" * 400)
    return tmp_path / "sky"


def test_catalogues_that_cannot_be_read_are_listed_and_may_be_allowed(sky, flags, spark, capsys):
    parent = ["parent", "--survey", str(sky), *flags]
    for allowed in ([], ["--allow-missing", "1"]):
        assert main([*parent, *allowed]) == 3
        said = capsys.readouterr().err
        assert "2 of 3 catalogues could not be read" in said
        assert "sweep-160p000-170p005.fits" in said and "sweep-170p000-180p005.fits" in said
    dataset = Dataset.at(flags[3], "set", "tiny")
    with pytest.raises(InputError):
        runs.files(dataset, "parent")
    assert main([*parent, "--allow-missing", "2"]) == 0
    assert runs.read(dataset, "parent").num_rows == 25
    assert len(json.loads(runs.records(dataset)[0]["counts"])["failed"]) == 2


def test_all_columns_that_a_catalogue_lacks_are_named(tmp_path):
    columns = tiny.sweep_rows(tiny.BRICKS[0], 5)
    for name in ("FLUX_R", "MASKBITS", "PSFDEPTH_Z"):
        del columns[name]
    path = tiny.write_sweep(tmp_path / "sweep-thin.fits", columns)
    with pytest.raises(InputError, match=r"sweep-thin\.fits: not a sweep, columns missing: FLUX_R, MASKBITS, PSFDEPTH_Z"):
        sweeps.read(str(path))
    with pytest.raises(InputError, match=r"columns missing: FLUX_R"):
        sweeps.read(str(path), allow_columns_missing=True)


def test_a_catalogue_of_which_no_galaxy_passes_says_where_they_were_lost(tmp_path, flags, spark, capsys):
    columns = tiny.sweep_rows(tiny.BRICKS[0], 5) | {"NOBS_Z": np.zeros(5, "i2")}
    tiny.write_sweep(tmp_path / "sky" / "sweep-150p000-160p005.fits", columns)
    assert main(["parent", "--survey", str(tmp_path / "sky"), *flags]) == 3
    said = capsys.readouterr().err
    assert "of 5 rows no galaxy passes the selection lrg: 5 by nobs >= 1" in said


# runs ----------------------------------------------------------------------------------------------------------------


def run_ids(dataset: Dataset) -> dict[str, list[str]]:
    return {name: runs.committed(dataset, name) for name in ("parent", "manifest", "stamps", "metrics")}


def test_an_unchanged_rerun_reuses_every_run_and_starts_no_work(copied, flags, tiny_survey, spark, no_work, caplog):
    before = run_ids(copied)
    with caplog.at_level(logging.INFO):
        for argv in (["parent", "--survey", str(tiny_survey)], ["manifest"], ["inject", "--survey", str(tiny_survey)]):
            assert main([*argv, *flags]) == 0
    assert run_ids(copied) == before
    assert all(f"unchanged, run {name[0]} is reused" in caplog.text for name in before.values())


def test_a_changed_recipe_is_refused_by_its_keys_and_replaces_on_demand(copied, flags, tmp_path, spark, capsys):
    before = run_ids(copied)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny.TIER.replace("seed = 7", "seed = 8").replace("paired = 0.5", "paired = 0.75"))
    argv = ["manifest", "--tier", str(recipe), *flags[2:]]
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert f"made by run {before['manifest'][0]} with other settings" in said
    assert "seed: 7 -> 8" in said and "controls.paired: 0.5 -> 0.75" in said and "--replace" in said
    assert run_ids(copied) == before
    assert main([*argv, "--replace"]) == 0
    after = run_ids(copied)
    assert after["manifest"] != before["manifest"] and len(after["manifest"]) == 1
    assert not tables.folder(copied, copied.run("manifest", before["manifest"][0])).exists()
    assert Counter(runs.read(copied, "manifest")["role"].to_pylist()) == {"injected": 72, "paired_control": 36, "unpaired_control": 12}


def test_a_brick_that_lost_a_file_is_refused_then_injected_with_its_tasks_told(
    copied, flags, tiny_survey, brick, all_tasks, tmp_path, spark, capsys
):
    survey = tmp_path / "survey"
    shutil.copytree(tiny_survey, survey)
    bricks.path(survey, brick, "image", "z").unlink()
    argv = ["inject", "--survey", str(survey), *flags]
    assert main(argv) == 2
    assert "the survey's coadd files of these bricks are others, or have changed" in capsys.readouterr().err
    assert main([*argv, "--replace"]) == 1  # written, but fewer tasks were made than the tier accepts
    assert "missing_file" in capsys.readouterr().err
    metrics = runs.read(copied, "metrics", ["task_id", "brickname", "status"]).to_pylist()
    lost = {m["task_id"] for m in metrics if m["status"] == "missing_file"}
    assert lost == {t["task_id"] for t in all_tasks.select(["task_id", "brickname"]).to_pylist() if t["brickname"] == brick}
    assert {m["status"] for m in metrics} == {"ok", "missing_file"}
    assert sorted(m["task_id"] for m in metrics) == sorted(all_tasks["task_id"].to_pylist())
    counted = {r["command"]: json.loads(r["counts"]) for r in runs.records(copied)}["inject"]["statuses"]
    assert dict(counted) == {"missing_file": len(lost), "ok": 120 - len(lost)}


def test_a_second_writer_is_refused_and_told_of_the_first(copied, flags, no_work, capsys):
    with copied.writer("inject"):
        assert main(["manifest", *flags]) == 3
        said = capsys.readouterr().err
    assert f"{copied.place} is being written by inject of tier tiny (process {os.getpid()} on " in said
    assert main(["manifest", *flags]) == 0


def test_a_writer_that_is_killed_leaves_no_lock(copied, flags, no_work):
    """The lease of a dead process of this machine is free at once, whatever its file still says."""
    code = f"""
import os, signal
from lib.store import Dataset
with Dataset.at({str(tables.root(copied))!r}, "set", "tiny").writer("inject"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", code], cwd=ROOT)
    assert died.returncode == -signal.SIGKILL
    assert "inject" in next(tables.folder(copied, "_lease").rglob("*.json")).read_text()
    assert main(["manifest", *flags]) == 0


def test_what_a_killed_run_left_is_never_read_and_is_swept_away(copied, flags, no_work):
    before = runs.read(copied, "manifest")
    ghost, staged = tables.folder(copied, copied.run("manifest", "ghost")), copied.scratch() / "some"
    for folder in (ghost, staged):
        folder.mkdir(parents=True)
        pq.write_table(before, folder / "part-0.parquet")
    assert runs.read(copied, "manifest").equals(before)
    assert main(["manifest", *flags]) == 0
    assert not ghost.exists() and not staged.exists()
    assert runs.read(copied, "manifest").equals(before)


@pytest.mark.parametrize("error", [RuntimeError("Answer from Java side is empty"), ConnectionRefusedError("the JVM is gone")])
def test_a_ctrl_c_is_told_as_such_though_leaving_spark_fails_too(error, monkeypatch, capsys):
    def stopped(argv):
        try:
            raise KeyboardInterrupt
        finally:
            raise error

    monkeypatch.setattr("lib.spark.abandon", lambda: None)
    monkeypatch.setattr("jobs.manifest.main", stopped)
    assert main(["manifest"]) == 130
    assert "manifest: stopped;" in capsys.readouterr().err


def test_a_run_that_fails_leaves_neither_files_nor_lock_and_can_be_repeated(flags, tiny_survey, spark, monkeypatch, capsys):
    def full(path, **settings):
        raise OSError(errno.ENOSPC, "No space left on device")
        yield

    argv = ["parent", "--survey", str(tiny_survey), *flags]
    with monkeypatch.context() as patch:
        patch.setattr("jobs.parent.galaxies", full)
        assert main(argv) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "parent: the disk is full: free some space and run the same command again"
    assert not any("Traceback" in line for line in said)
    left = tables.files(tables.folder(Dataset.at(flags[3], "set", "tiny")))
    assert left == ["_arcmill.json", "_lease/tier=tiny/00000001.json"]
    assert main(argv) == 0


def test_a_replacement_that_fails_leaves_what_it_would_have_replaced(copied, flags, monkeypatch, capsys):
    before = runs.committed(copied, "manifest")

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("lib.spark.produce", fail)
        assert main(["manifest", *flags, "--fresh"]) == 3
    assert runs.committed(copied, "manifest") == before
    assert runs.read(copied, "manifest").num_rows == 120


def test_a_table_whose_files_were_removed_is_made_again(copied, flags, spark):
    shutil.rmtree(tables.folder(copied, copied.run("manifest", runs.committed(copied, "manifest")[0])))
    assert runs.committed(copied, "manifest") == []
    assert main(["manifest", *flags]) == 0
    assert runs.read(copied, "manifest").num_rows == 120


def test_a_kill_between_a_new_run_and_the_drop_of_the_old_leaves_one_table(copied, monkeypatch):
    """Both runs are recorded: readers take the newer, and the next run sweeps the older away."""
    settings = json.loads(runs.records(copied)[0]["config"])
    old = runs.committed(copied, "parent")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_drop", lambda *_: None)
        with runs.start(copied, "parent", ["parent"], settings, {"other": 1}, replace=True) as run:
            run.write("parent", runs.read(copied, "parent"))
            run.commit({})
    assert tables.folder(copied, copied.run("parent", old[0])).is_dir()
    assert runs.committed(copied, "parent") == [run.run_id]
    with runs.start(copied, "parent", ["parent"], settings, {"other": 1}) as again:
        assert again.reused
    assert not tables.folder(copied, copied.run("parent", old[0])).exists()


def test_two_tiers_of_a_data_set_do_not_sweep_each_other(tmp_path):
    a, b = (Dataset.at(str(tmp_path), "set", t) for t in ("one", "two"))
    settings = {}
    with runs.start(a, "job", ["parent"], settings, {}) as first:
        chunk = first.chunk(0)
        chunk.write("parent", schemas.PARENT.empty_table())
        with runs.start(b, "job", ["parent"], settings, {}):
            assert chunk.folder.is_dir()
        chunk.abandon()


def test_a_flag_that_changes_the_table_is_part_of_its_key(tmp_path, tiny_survey, tiny_tier, spark, capsys):
    """A catalogue without columns passes with --allow-columns-missing; the same call without it must not reuse that."""
    rows = tiny.sweep_rows(tiny.BRICKS[0], 25)
    path = tiny.write_sweep(tmp_path / "bare.fits", {k: v for k, v in rows.items() if not k.startswith("NOBS")})
    argv = [
        "parent",
        "--survey",
        str(tiny_survey),
        "--catalogue",
        str(path),
        "--tier",
        str(tiny_tier),
        "--root",
        str(tmp_path),
        "--dataset",
        "d",
    ]
    assert main([*argv, "--allow-columns-missing"]) == 0
    assert main(argv) == 2
    assert "--allow-columns-missing: yes -> no" in capsys.readouterr().err


def test_sweeps_of_two_versions_are_refused_and_files_beside_them_are_left_alone(tmp_path):
    rows = tiny.sweep_rows(tiny.BRICKS[0], 5)
    tiny.write_sweep(tmp_path / "sweep" / "10.1" / "sweep-150p000-160p005.fits", rows)
    tiny.write_sweep(tmp_path / "sweep" / "10.1-photo-z" / "sweep-150p000-160p005-pz.fits", rows)
    assert [Path(p).name for p in sweeps.find(tmp_path)] == ["sweep-150p000-160p005.fits"]
    tiny.write_sweep(tmp_path / "sweep" / "10.0" / "sweep-150p000-160p005.fits", rows)
    with pytest.raises(InputError, match=r"every galaxy twice.*--catalogue"):
        sweeps.find(tmp_path)


def test_a_galaxy_that_is_in_the_parents_twice_stops_the_manifest(tiny_dataset, tier):
    from lib import sampling

    parents = runs.read(tiny_dataset, "parent")
    usable = parents.filter(pc.invert(parents["split_guard"]))
    with pytest.raises(InputError, match="1 galaxies are in the parent table more than once"):
        sampling.manifest(pa.concat_tables([parents, usable.slice(0, 1)]), tier, "set")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("[noise]\ngain = { g = 1.0, R = 1.0, z = 1.0 }", "gain must be above 0 for each of"),
        ("[gates]\npsf_fallback_max = { g = 0.1 }", "psf_fallback_max must give a share"),
        ("[controls]\nfraction = 0.4", "unpaired controls match on"),
        ("[controls]\nfraction = 0.4\nladder = [8.0, 1.0]\ntolerance = { mag_r = 0.2 }", "ladder must rise"),
    ],
)
def test_a_wrong_value_inside_a_table_of_a_tier_is_told_at_load(change, says, tmp_path):
    text = tiny.TIER[: tiny.TIER.index("[controls]")] + change
    (tmp_path / "t.toml").write_text(text)
    with pytest.raises(ConfigError, match=says):
        tiers.load(str(tmp_path / "t.toml"))
