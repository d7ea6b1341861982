"""The gates of mosaics: a good one passes, and each planted fault is found by the gate that is there for it."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from jobs import coadd as coadd_job
from lib import place, store
from lib.frames import engine, recipe
from lib.mosaic import solve
from tests.mosaic import files
from validation import mosaic

RECIPE = """
name = "judged"
[[level]]
name = "coadd"
kernel = "lanczos3"
rejection = "kappa_sigma"
feather_pix = 20.0
[polish]
min_coverage_keep = 0.5
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory, spark):
    """(frames, root, recipe) of a mosaic of little S1, one band."""
    root = tmp_path_factory.mktemp("judged")
    frames, path = files.write(root / "frames", files.small(bands=1)), files.written(root / "judged.toml", RECIPE)
    assert files.run(frames, root, path) == 0
    return frames, root, path


DEEP = """
name = "judged"
[lattice]
batch_least = 4
batch_most = 5
[[level]]
name = "mega"
group = "batch"
rejection = "kappa_sigma"
[[level]]
name = "super"
feather_pix = 0.0
"""


def judge(frames, root, path) -> dict[str, str]:
    found = mosaic.validate(mosaic.Mosaic(store.Dataset.at(str(root), "set", "judged"), recipe.load(path), place.at(str(frames))))
    return {r.gate.removeprefix("mosaic_"): r.outcome for r in found}


GOOD = {"seams": "pass", "places": "pass", "stars": "pass", "coverage": "pass", "gains": "pass", "backends": "not_applicable"}


def test_a_good_mosaic_passes(made, capsys):
    frames, root, path = made
    assert judge(*made) == GOOD
    assert mosaic.main(["--frames", str(frames), "--recipe", path, "--root", str(root), "--dataset", "set"]) == 0
    assert '"verdict": "GO"' in capsys.readouterr().out
    assert len(files.table(root, "judged", "validation")) == 6


def planted(made, tmp_path, level, change) -> dict[str, str]:
    """The gates' outcomes after a file of the mosaic was changed by ``change(hdus)``."""
    frames, root, path = made
    copy = shutil.copytree(root / "set", tmp_path / "set").parent
    (row,) = [r for r in files.table(copy, "judged", "coadds") if r["level_name"] == level]
    with fits.open(copy / "set" / row["path"]) as file:
        hdus = {h.name: (np.array(h.data), h.header.copy()) for h in file[1:]}
    change(hdus)
    made_again = [
        fits.CompImageHDU(data, header, name=name, compression_type="GZIP_2", quantize_level=0.0) for name, (data, header) in hdus.items()
    ]
    fits.HDUList([fits.PrimaryHDU(), *made_again]).writeto(copy / "set" / row["path"], overwrite=True)
    return judge(frames, copy, path)


def test_half_a_pixel_in_the_wcs_is_found(made, tmp_path):
    def shift(hdus):
        hdus["SCIENCE"][1]["CRPIX1"] += 0.5

    found = planted(made, tmp_path, "coadd", shift)
    assert found["stars"] == found["places"] == "fail"


def test_a_frame_that_lies_beside_the_others_is_found(made, tmp_path):
    """Its pixels moved by half of one, its WCS as before."""
    folder = shutil.copytree(made[0], tmp_path / "frames")
    with fits.open(folder / "frame-04.fits") as file:
        pixels, header = file[0].data.astype(np.float32), file[0].header.copy()
    fits.PrimaryHDU((pixels + np.roll(pixels, 1, axis=1)) / 2, header).writeto(folder / "frame-04.fits", overwrite=True)
    assert files.run(folder, tmp_path, made[2]) == 0
    assert judge(folder, tmp_path, made[2])["places"] == "fail"


def test_pixels_that_are_not_what_the_frames_give_are_found(made, tmp_path):
    def scale(hdus):
        hdus["SCIENCE"][0][...] *= 1.01

    assert planted(made, tmp_path, "coadd", scale)["stars"] == "fail"


def test_skirts_that_were_kept_are_found(made, tmp_path):
    def keep(hdus):
        science = hdus["SCIENCE"][0]
        science[np.isnan(science)] = 1000.0

    assert planted(made, tmp_path, "polished", keep)["coverage"] == "fail"


def test_coverage_that_was_left_is_found(made, tmp_path):
    def keep(hdus):
        hdus["COVERAGE"][0][...] = np.maximum(hdus["COVERAGE"][0], 1)

    assert planted(made, tmp_path, "polished", keep)["coverage"] == "fail"


def test_gains_that_were_left_in_are_found(made, tmp_path, monkeypatch):
    """The whole mosaic made with gains 1 and offsets 0."""
    frames, _, path = made
    solved = engine.solved
    monkeypatch.setattr(coadd_job.engine, "solved", lambda known, rows, level, planes: solve.identity(len(known), planes))
    assert files.run(frames, tmp_path, path) == 0
    found = judge(frames, tmp_path, path)
    assert found["seams"] == "fail" and found["gains"] == "pass"
    assert engine.solved is not solved


@pytest.mark.parametrize("spoiled", ["", "mega", "super"])
def test_one_image_that_is_off_at_one_level_is_found(made, tmp_path, monkeypatch, spoiled):
    """By two ADU, a fifth of a frame's noise.  Two batches are one pair, and most of their pixels are of one batch alone."""
    solved, frames = engine.solved, made[0]

    def off(known, rows, level, planes):
        table = solved(known, rows, level, planes)
        if level.name == spoiled:
            table.offset[0] += 2.0
        return table

    monkeypatch.setattr(coadd_job.engine, "solved", off)
    path = files.written(tmp_path / "judged.toml", DEEP)
    assert files.run(frames, tmp_path, path) == 0
    assert judge(frames, tmp_path, path)["seams"] == ("fail" if spoiled else "pass")


@pytest.mark.parametrize("key, value", [("gain", float("nan")), ("gain", 3.0), ("offset", float("inf"))])
def test_a_gain_beyond_its_limits_is_found(made, monkeypatch, key, value):
    frames, root, path = made
    data = mosaic.Mosaic(store.Dataset.at(str(root), "set", "judged"), recipe.load(path), place.at(str(frames)))
    rows = data.rows("normalisation")
    monkeypatch.setattr(mosaic.Mosaic, "rows", lambda *_: [rows[0] | {key: value}, *rows[1:]])
    assert mosaic._gains(data, {}).outcome == "fail"


def test_two_backends_without_a_comparison_are_found(made, monkeypatch):
    frames, root, path = made
    data = mosaic.Mosaic(store.Dataset.at(str(root), "set", "judged"), recipe.load(path), place.at(str(frames)))
    rows = data.rows("coadds")
    monkeypatch.setattr(mosaic.Mosaic, "coadds", [rows[0] | {"backend": "cupy"}, *rows[1:]])
    assert mosaic._parity(data, {}).outcome == "fail"
