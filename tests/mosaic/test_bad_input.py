"""Frames that will not do: told by name, left out, and the rest is made; or an error in words and its exit code."""

import logging

import numpy as np
import pytest
from astropy.io import fits

from tests.mosaic import files, scenes


@pytest.fixture(scope="module")
def scene():
    return files.small(bands=1)


@pytest.fixture
def frames(tmp_path, scene):
    return files.write(tmp_path / "frames", scene)


def change(path, pixels=None, drop=(), **cards):
    with fits.open(path) as file:
        data, header = file[0].data.copy() if pixels is None else pixels, file[0].header.copy()
    for key in drop:
        header.remove(key, ignore_missing=True)
    header.update(cards)
    fits.PrimaryHDU(data, header).writeto(path, overwrite=True)


def made(tmp_path, frames, recipe="survey", code=0):
    assert files.run(frames, tmp_path, recipe) == code
    return files.table(tmp_path, recipe, "frames"), files.table(tmp_path, recipe, "normalisation"), files.table(tmp_path, recipe, "coadds")


WCS_KEYS = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2", "CD2_1", "CD2_2")


def test_frames_that_cannot_be_used_are_counted_by_name_and_the_rest_is_made(spark, tmp_path, frames, caplog):
    """No WCS, a singular one, a truncated file, one that is no FITS, another unit: five frames out, four left."""
    change(frames / "frame-00.fits", drop=WCS_KEYS)
    change(frames / "frame-01.fits", CD1_1=0.0, CD1_2=0.0)
    content = (frames / "frame-02.fits").read_bytes()
    (frames / "frame-02.fits").write_bytes(content[: len(content) // 2])
    (frames / "frame-03.fits").write_bytes(b"this is no FITS file" * 500)
    change(frames / "frame-04.fits", BUNIT="Jy")
    with caplog.at_level(logging.INFO):
        rows, _, coadds = made(tmp_path, frames)
    found = {r["path"]: r["status"] for r in rows}
    assert [found[f"frame-{k:02d}.fits"] for k in range(9)] == ["no_wcs", "no_wcs", "unreadable", "unreadable", "wrong_unit", *["ok"] * 4]
    assert all("frame-0" in r["error"] for r in rows if r["status"] != "ok")
    assert "5 of them left out" in caplog.text and "frame-01.fits" in caplog.text
    assert {r["status"] for r in coadds} == {"ok"} and max(r["inputs"] for r in coadds) == 4


def test_an_absurd_frame_and_an_empty_one_are_left_out_of_the_mosaic(spark, tmp_path, frames, scene, caplog):
    change(frames / "frame-04.fits", pixels=np.full(scene.frames[4].shape, 1e8, np.float32) + np.arange(260, dtype=np.float32))
    change(frames / "frame-08.fits", pixels=np.full(scene.frames[8].shape, np.nan, np.float32))
    with caplog.at_level(logging.INFO):
        _, normalisation, coadds = made(tmp_path, frames)
    healthy = {r["image"]: r["healthy"] for r in normalisation}
    assert not healthy["frame-04.fits[0]"] and not healthy["frame-08.fits[0]"] and sum(healthy.values()) == 7
    assert "frame-04.fits[0] is left out: its level" in caplog.text
    (row,) = [r for r in coadds if r["level_name"] == "polished"]
    assert row["inputs"] == 7 and np.nanmax(files.pixels(tmp_path, row)["SCIENCE"]) < 1e5


def test_frames_that_do_not_overlap_are_each_their_own_group(spark, tmp_path, scene, caplog):
    keep = scenes.Scene(scene.canvas, scene.shape, scene.sky, [scene.frames[k] for k in (0, 2, 6, 8)])
    with caplog.at_level(logging.INFO):
        _, normalisation, coadds = made(tmp_path, files.write(tmp_path / "apart", keep))
    assert len({r["component"] for r in normalisation}) == 4
    assert {r["gain"] for r in normalisation} == {1.0} and {r["offset"] for r in normalisation} == {0.0}
    assert {r["status"] for r in coadds} == {"ok"}


def test_two_groups_are_told(spark, tmp_path, scene, caplog):
    keep = scenes.Scene(scene.canvas, scene.shape, scene.sky, [scene.frames[k] for k in (0, 3, 2, 5)])
    with caplog.at_level(logging.INFO):
        made(tmp_path, files.write(tmp_path / "two", keep))
    assert "2 groups of images do not overlap" in caplog.text


def test_one_frame_is_a_mosaic(spark, tmp_path, scene):
    keep = scenes.Scene(scene.canvas, scene.shape, scene.sky, scene.frames[4:5])
    for recipe in ("survey", "classic", "sds", "grid"):
        _, normalisation, coadds = made(tmp_path, files.write(tmp_path / f"one-{recipe}", keep), recipe)
        assert all(r["gain"] == 1.0 and r["offset"] == 0.0 for r in normalisation)
        assert [r["status"] for r in coadds if r["level_name"] == "polished"] == ["ok"]


def test_mixed_numbers_of_planes_are_refused_by_name(spark, tmp_path, frames, capsys):
    change(frames / "frame-05.fits", pixels=np.zeros((3, 260, 260), np.float32))
    assert files.run(frames, tmp_path, "survey") == 3
    told = capsys.readouterr().err
    assert "different numbers of planes" in told and "frame-05.fits" in told


@pytest.mark.parametrize("key", ["two_pass", "equalise_rgb"])
def test_a_polish_of_the_whole_is_refused_where_there_are_more_tiles_than_one(spark, tmp_path, frames, capsys, key):
    text = f'name = "cut"\n[[level]]\nname = "coadd"\n[lattice]\ntile_pix = 400\n[polish]\n{key} = true\n'
    assert files.run(frames, tmp_path, files.written(tmp_path / "cut.toml", text)) == 3
    assert "need the mosaic in one tile, it has 4: raise lattice.tile_pix" in capsys.readouterr().err


def test_nothing_usable_is_an_error_that_says_why(spark, tmp_path, capsys):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "a.fits").write_bytes(b"x" * 100)
    assert files.run(folder, tmp_path, "survey") == 3
    assert "none of 1 frames can be used; unreadable: a.fits" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert files.run(empty, tmp_path, "survey") == 3
    assert "no FITS images in" in capsys.readouterr().err


def test_frames_on_opposite_sides_of_the_sky_are_refused(spark, tmp_path, frames, capsys):
    for k in range(9):
        if k > 0:
            (frames / f"frame-{k:02d}.fits").unlink()
    content = (frames / "frame-00.fits").read_bytes()
    (frames / "other.fits").write_bytes(content)
    change(frames / "other.fits", CRVAL1=263.6, CRVAL2=-22.0)
    assert files.run(frames, tmp_path, "survey") == 3
    assert capsys.readouterr().err


def test_a_file_that_is_damaged_later_is_told_when_it_is_read(spark, tmp_path, frames, caplog):
    """Between the two jobs: its chunk says so, and the mosaic is made of the others."""
    from jobs.__main__ import main

    flags = ["--frames", str(frames), "--recipe", "survey", "--root", str(tmp_path), "--dataset", "set"]
    assert main(["tiles", *flags]) == 0
    (frames / "frame-04.fits").unlink()
    with caplog.at_level(logging.INFO):
        assert main(["coadd", *flags]) == 0
    assert "frame-04.fits[0] is left out: missing_file" in caplog.text
    assert max(r["inputs"] for r in files.table(tmp_path, "survey", "coadds")) == 8


def test_over_ra_0_and_at_the_pole(spark, tmp_path):
    """The same scene, its reference point moved: the mosaics have the same pixels."""
    found = []
    for centre in ((83.6, 22.0), (0.0, 22.0), (10.0, 89.95)):
        one = files.small(bands=1)
        for frame in one.frames:
            frame.header["CRVAL1"], frame.header["CRVAL2"] = centre
        folder = files.write(tmp_path / f"at-{centre[1]}-{centre[0]}", one)
        assert files.run(folder, tmp_path, "survey", dataset=f"d{len(found)}") == 0
        (row,) = [r for r in files.table(tmp_path, "survey", "coadds", f"d{len(found)}") if r["level_name"] == "polished"]
        found.append(row)
    assert max(r["ny"] for r in found) < 1.5 * 640 and max(r["nx"] for r in found) < 1.5 * 640
    assert {r["coverage_max"] for r in found} == {4}
    assert np.ptp([r["ny"] * r["nx"] * r["covered"] for r in found]) < 0.01 * 620**2
