"""Mosaics of frames in a bucket, and into a bucket: the same pixels as from a folder."""

import numpy as np
from astropy.io import fits

from jobs.__main__ import main
from lib import place
from tests.mosaic import files


def test_frames_in_a_bucket_make_the_mosaic_that_a_folder_makes(spark, s3_bucket, tmp_path):
    folder = files.write(tmp_path / "frames", files.small(bands=1))
    there = place.at(s3_bucket)
    for path in folder.iterdir():
        there.put(path.name, path.read_bytes())
    assert files.run(folder, tmp_path / "local", "sds") == 0
    assert files.run(s3_bucket, tmp_path / "from", "sds") == 0
    tables = [files.table(tmp_path / root, "sds", "coadds") for root in ("local", "from")]
    for one, other in zip(*(sorted(t, key=lambda r: r["tile_id"]) for t in tables), strict=True):
        assert one["status"] == other["status"] == "ok" and one["tile_id"] == other["tile_id"]
        mine, theirs = files.pixels(tmp_path / "local", one), files.pixels(tmp_path / "from", other)
        for layer in ("SCIENCE", "WEIGHT", "COVERAGE", "REJECTED"):
            np.testing.assert_array_equal(mine[layer], theirs[layer])


def test_a_frame_that_is_gone_from_the_bucket_is_told_and_the_rest_is_made(spark, s3_bucket, tmp_path, caplog):
    folder = files.write(tmp_path / "frames", files.small(bands=1))
    there = place.at(s3_bucket)
    for path in folder.iterdir():
        there.put(path.name, path.read_bytes())
    flags = ["--frames", s3_bucket, "--recipe", "survey", "--root", str(tmp_path), "--dataset", "set"]
    assert main(["tiles", *flags]) == 0
    there.delete(["frame-04.fits"])
    assert main(["coadd", *flags]) == 0
    assert "frame-04.fits[0] is left out: missing_file" in caplog.text
    (row,) = [r for r in files.table(tmp_path, "survey", "coadds") if r["level_name"] == "polished"]
    assert row["inputs"] == 8
    with fits.open(tmp_path / "set" / row["path"]) as file:
        assert np.isfinite(file["SCIENCE"].data).any()
