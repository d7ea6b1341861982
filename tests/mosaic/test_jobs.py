"""The jobs as they are run: four recipes over the same frames, judged by the truth; sameness; what is stopped goes on."""

import logging

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from lib.errors import InputError
from lib.frames import recipe as recipes
from tests.mosaic import files, seams

RECIPES = ("survey", "classic", "sds", "grid")


@pytest.fixture(scope="module")
def scene():
    return files.small()


@pytest.fixture(scope="module")
def frames(tmp_path_factory, scene):
    return files.write(tmp_path_factory.mktemp("frames"), scene)


@pytest.fixture(scope="module")
def root(tmp_path_factory, frames, spark):
    """Mosaics by all four recipes."""
    where = tmp_path_factory.mktemp("mosaics")
    for name in RECIPES:
        assert files.run(frames, where, name) == 0
    return where


def on_canvas(scene, root, name):
    """The mosaic on the scene's own canvas, by nearest pixel: values (bands, ny, nx)."""
    (row,) = [r for r in files.table(root, name, "coadds") if r["level_name"] == "polished"]
    made = files.pixels(root, row)
    wcs, canvas = WCS(made["header"]).celestial, WCS(scene.canvas)
    ny, nx = scene.shape
    y, x = np.mgrid[:ny, :nx].astype(float)
    px, py = wcs.all_world2pix(*canvas.all_pix2world(x, y, 0), 0)
    i, j = np.round(px).astype(int), np.round(py).astype(int)
    inside = (i >= 0) & (i < made["SCIENCE"].shape[2]) & (j >= 0) & (j < made["SCIENCE"].shape[1])
    out = np.full((3, ny, nx), np.nan)
    out[:, inside] = made["SCIENCE"][:, j[inside], i[inside]]
    return out, row, made


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_the_truth_without_seams(name, root, scene):
    made, row, layers = on_canvas(scene, root, name)
    truth, sets = scene.sky.seen(scene.shape), seams.covered_by(scene)
    left = seams.residual(made, truth, np.where(np.isfinite(made[0]), sets, 0))
    steps = seams.steps(left, np.where(np.isfinite(made[0]), sets, 0), least=700)
    assert len(steps) >= 6
    # rings hold a few thousand pixels of noise 5: their medians differ by 0.2, and a twentieth of the gains left in would be 20
    assert np.median(steps) < 0.5 and np.quantile(steps, 0.95) < 1.6
    assert row["status"] == "ok" and row["covered"] > (0.4 if name == "sds" else 0.9)  # there, places with one frame are too shallow
    assert layers["SCIENCE"].dtype.newbyteorder("=") == np.float32
    there = np.isfinite(layers["SCIENCE"][0])
    np.testing.assert_array_equal(there, layers["COVERAGE"][0] > 0)
    np.testing.assert_array_equal(there, layers["ALPHA"][0] > 0)
    assert layers["COVERAGE"].max() == row["coverage_max"] == 4


def test_gains_are_tabled_and_close_to_the_truth(root, scene):
    rows = [r for r in files.table(root, "survey", "normalisation") if r["level"] == 0]
    assert len(rows) == 27
    gain = np.array([r["gain"] for r in rows]).reshape(9, 3)
    off = np.log(gain / np.array([one.truth["gain"] for one in scene.frames]))
    assert (off - off.mean(axis=0)).std() < 0.006  # a twelfth of S1's sky
    assert all(r["healthy"] and r["component"] == 0 for r in rows)


def test_after_the_first_level_nothing_is_resampled_in_sds_and_grid(root):
    for name in ("sds", "grid"):
        rows = files.table(root, name, "coadds")
        assert {r["level_name"]: 0 for r in rows if r["level"] > 0} and sum(r["resampled"] for r in rows if r["level"] > 0) == 0
        assert sum(r["resampled"] for r in rows if r["level"] == 0) > 0
    assert sum(r["resampled"] for r in files.table(root, "classic", "coadds") if r["level"] == 1) > 0


def test_sds_masks_by_coverage(root):
    """NaN exactly where coverage is below the share of its p95, and coverage 0 there."""
    rows = files.table(root, "sds", "coadds")
    (before,), (after,) = ([r for r in rows if r["level_name"] == n] for n in ("super", "polished"))
    raw, kept = files.pixels(root, before), files.pixels(root, after)
    counts = raw["COVERAGE"][0]
    full = np.sort(counts[counts > 0])[int(np.ceil(0.95 * (counts > 0).sum())) - 1]
    y, x = after["y0"] - before["y0"], after["x0"] - before["x0"]
    expected = (counts >= 0.4 * full)[y : y + after["ny"], x : x + after["nx"]]
    np.testing.assert_array_equal(np.isfinite(kept["SCIENCE"][0]), expected)
    np.testing.assert_array_equal(kept["COVERAGE"][0] > 0, expected)
    assert (counts >= 0.4 * full).sum() == expected.sum() < (counts > 0).sum()


def test_pixels_are_those_of_any_cut_into_tiles(tmp_path, frames, root):
    text = (recipes.resources.files("lib.frames") / "recipes" / "survey.toml").read_text()
    other = files.written(tmp_path / "cut.toml", text.replace('"survey"', '"cut"') + "\n[lattice]\ntile_pix = 300\n")
    assert files.run(frames, tmp_path, other) == 0
    (whole,) = [r for r in files.table(root, "survey", "coadds") if r["level"] == 0]
    one = files.pixels(root, whole)
    parts = [r for r in files.table(tmp_path, "cut", "coadds") if r["level"] == 0]
    assert len(parts) == 9
    for row in parts:
        window = np.s_[..., row["y0"] : row["y0"] + row["ny"], row["x0"] : row["x0"] + row["nx"]]
        made = files.pixels(tmp_path, row)
        for layer in ("SCIENCE", "WEIGHT", "COVERAGE", "REJECTED"):
            np.testing.assert_array_equal(made[layer], one[layer][window])


def test_a_second_run_reuses_and_lost_pixels_are_made_again(frames, root, caplog):
    with caplog.at_level(logging.INFO):
        assert files.run(frames, root, "survey") == 0
    assert caplog.text.count("is reused") == 2
    rows = files.table(root, "survey", "coadds")
    (root / "set" / rows[0]["path"]).unlink()
    assert files.run(frames, root, "survey") == 0
    again = files.table(root, "survey", "coadds")
    assert {r["sha256"] for r in again} == {r["sha256"] for r in rows} or len(again) == len(rows)
    assert all((root / "set" / r["path"]).is_file() for r in again)


def test_a_run_that_is_stopped_goes_on(tmp_path, frames, monkeypatch, caplog):
    """Killed between two levels' chunks: what was made is not made again, and the mosaic is the same."""
    from jobs import coadd
    from jobs.__main__ import main

    flags = ["--frames", str(frames), "--recipe", "grid", "--root", str(tmp_path), "--dataset", "set"]
    assert main(["tiles", *flags]) == 0
    table = coadd.Job._table
    with monkeypatch.context() as patch:
        patch.setattr(coadd.Job, "_table", lambda job, number, *rest: _stop() if number == 1 else table(job, number, *rest))
        assert main(["coadd", *flags]) == 3
    with caplog.at_level(logging.INFO):
        assert main(["coadd", *flags]) == 0
    assert "goes on" in caplog.text
    assert not list((tmp_path / "set").glob("pixels/*/*/bins/*"))
    assert files.table(tmp_path, "grid", "normalisation")


def _stop():
    raise InputError("stopped")


def test_each_filter_is_a_mosaic_of_its_own(tmp_path, scene):
    """Frames of two filters in one folder, their overlaps and depths apart: each gets the gains that it gets alone."""
    from tests.mosaic import scenes

    one = [scenes.Frame(f.pixels[:1], f.header, f.shape, f.origin, f.turn) for f in scene.frames]
    folder = tmp_path / "frames"
    files.write(folder, scenes.Scene(scene.canvas, scene.shape, scene.sky, one), FILTER="g")
    for path in sorted(folder.glob("frame-0*.fits"))[:4]:
        with fits.open(path) as file:
            file[0].header["FILTER"] = "r"
            file.writeto(folder / f"red-{path.name}")
    assert files.run(folder, tmp_path, "survey") == 0
    made = {r["band"]: r for r in files.table(tmp_path, "survey", "coadds") if r["level_name"] == "polished"}
    assert {b: r["inputs"] for b, r in made.items()} == {"g": 9, "r": 4}
    found = {r["image"]: r["gain"] for r in files.table(tmp_path, "survey", "normalisation")}
    assert len(found) == 13 and all(0.7 < g < 1.4 for g in found.values())


def test_the_plan_is_printed_and_nothing_is_written(tmp_path, frames, caplog):
    from jobs.__main__ import main

    with caplog.at_level(logging.INFO):
        assert main(["tiles", "--frames", str(frames), "--recipe", "sds", "--root", str(tmp_path), "--dataset", "set", "--plan"]) == 0
    assert "level 0 (mega): 1 tiles" in caplog.text and "level 1 (super): 1 tiles" in caplog.text and "9 inputs" in caplog.text
    assert not (tmp_path / "set").exists()


def test_keys_of_another_mode_do_not_change_a_result(tmp_path, frames, root):
    text = (recipes.resources.files("lib.frames") / "recipes" / "survey.toml").read_text()
    other = files.written(tmp_path / "survey.toml", text + "\n[lattice]\nbatch_most = 7\nbatch_covered = 0.5\ncell_pix = 200\n")
    assert files.run(frames, tmp_path, other) == 0
    one, two = (sorted(r["tile_id"] for r in files.table(w, "survey", "coadds")) for w in (root, tmp_path))
    assert one == two
    for a, b in zip(*(sorted(files.table(w, "survey", "coadds"), key=lambda r: r["tile_id"]) for w in (root, tmp_path)), strict=True):
        first, second = files.pixels(root, a), files.pixels(tmp_path, b)
        for layer in ("SCIENCE", "WEIGHT", "COVERAGE"):
            np.testing.assert_array_equal(first[layer], second[layer])


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_loads(name):
    assert recipes.load(name).name == name


@pytest.mark.parametrize("text, says", [
    ('name = "a"\n[[level]]\nname = "x"\nkernal = "bilinear"', "unknown key level"),
    ('name = "a"\n[[level]]\nname = "x"\nkernel = "nearest"', "kernel must be one of"),
    ('name = "a"\n[[level]]\nname = "x"\ngroup = "cell"', "cells overlap"),
    ('name = "a"\n[[level]]\nname = "x"\n[polish]\nmin_coverage_keep = 2.0', "min_coverage_keep must be in [0, 1], got 2.0"),
    ('name = "a"\nlevel = []', "the last must have group canvas"),
    ("name = ", "recipe"),
])  # fmt: skip
def test_a_wrong_recipe_is_told(text, says, tmp_path, capsys):
    from jobs.__main__ import main

    path = files.written(tmp_path / "a.toml", text)
    assert main(["tiles", "--frames", str(tmp_path), "--recipe", path, "--root", str(tmp_path), "--dataset", "set"]) == 2
    assert says in capsys.readouterr().err


def test_files_are_read_by_any_fits_reader(root):
    (row,) = [r for r in files.table(root, "survey", "coadds") if r["level_name"] == "polished"]
    fitsio = pytest.importorskip("fitsio")
    theirs = fitsio.read(str(root / "set" / row["path"]), ext="SCIENCE")
    np.testing.assert_array_equal(theirs, fits.getdata(root / "set" / row["path"], "SCIENCE"))
    assert (root / "set" / row["preview"]).read_bytes()[:4] == b"\x89PNG"
