"""What cameras give: colours behind a filter, weights and masks beside an image, zero points in a table, projections other than TAN."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from lib import place
from lib.errors import RowError
from lib.frames import products, read, scan
from lib.mosaic import stack
from lib.mosaic.lattice import Window
from tests.conftest import shared
from tests.mosaic import scenes

COLOURS = (100.0, 200.0, 300.0)


def bayer(pattern: str, shape=(20, 30)) -> np.ndarray:
    raw = np.zeros(shape, np.uint16)
    for k, letter in enumerate(pattern):
        raw[k // 2 :: 2, k % 2 :: 2] = COLOURS["RGB".index(letter)]
    return raw


@pytest.mark.parametrize("pattern", ["RGGB", "GRBG", "GBRG", "BGGR"])
def test_one_shot_colours_come_out_as_they_went_in(tmp_path, pattern):
    header = scenes.tangent((10.0, 10.0), 2.0)
    header["BAYERPAT"] = pattern
    fits.PrimaryHDU(bayer(pattern), header).writeto(tmp_path / "a.fits")
    folder = place.at(str(tmp_path))
    (row,) = scan.rows(folder, "a.fits")
    assert row["kind"] == "bayer" and row["planes"] == 3 and row["status"] == "ok"
    made = read.frame(folder, row).pixels
    for plane, value in zip(made, COLOURS, strict=True):
        np.testing.assert_array_equal(plane[2:-2, 2:-2], value)


def test_an_unknown_pattern_is_told(tmp_path):
    header = scenes.tangent((10.0, 10.0), 2.0)
    header["BAYERPAT"] = "XYZW"
    fits.PrimaryHDU(bayer("RGGB"), header).writeto(tmp_path / "a.fits")
    folder = place.at(str(tmp_path))
    (row,) = scan.rows(folder, "a.fits")
    with pytest.raises(RowError, match="BAYERPAT is 'XYZW'"):
        read.frame(folder, row)


@pytest.mark.parametrize("ending", ["fits", "fits.gz", "fits.fz"])
def test_a_window_is_a_piece_of_the_whole_whatever_the_file(tmp_path, ending):
    pixels = np.random.default_rng(1).normal(0, 1, (2, 60, 50)).astype(np.float32)
    header, name = scenes.tangent((10.0, 10.0), 2.0), f"a.{ending}"
    if ending == "fits.fz":
        packed = fits.CompImageHDU(pixels, header, compression_type="GZIP_2", quantize_level=0.0)
        fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / name)
    else:
        fits.PrimaryHDU(pixels, header).writeto(tmp_path / name)
    folder = place.at(str(tmp_path))
    (row,) = scan.rows(folder, name)
    part = read.frame(folder, row, Window(7, 9, 31, 40))
    np.testing.assert_array_equal(part.pixels, pixels[:, 7:31, 9:40])
    assert part.origin == (7, 9) and part.full == (60, 50)


def ccd(folder, name="c4d_1_ooi_g_v1.fits"):
    """An image, its weight and mask, and its zero point."""
    pixels = np.full((20, 24), 50.0, np.float32)
    weight, mask = np.full((20, 24), 4.0, np.float32), np.zeros((20, 24), np.int32)
    weight[3, 4], mask[10, 11], weight[15] = 0.0, 7, 8.0
    first = fits.PrimaryHDU()
    first.header["FILTER"] = "g DECam SDSS c0001"
    header = scenes.tangent((10.0, 10.0), 0.262)
    for what, data in (("ooi", pixels), ("oow", weight), ("ood", mask)):
        fits.HDUList([first, fits.ImageHDU(data, header, name="N10")]).writeto(folder / name.replace("ooi", what))
    columns = [
        fits.Column("image_filename", "60A", array=[f"decam/{name}"]), fits.Column("ccdname", "4A", array=["N10"]),
        fits.Column("ccdzpt", "E", array=[25.0]), fits.Column("exptime", "E", array=[10.0]), fits.Column("camera", "8A", array=["decam"]),
    ]  # fmt: skip
    fits.BinTableHDU.from_columns(columns).writeto(folder / "survey-ccds-1.fits")


def test_a_ccd_has_its_weight_its_mask_and_nanomaggies(tmp_path):
    ccd(tmp_path)
    folder = place.at(str(tmp_path))
    assert scan.files(folder) == ["c4d_1_ooi_g_v1.fits"]
    (row,) = scan.rows(folder, "c4d_1_ooi_g_v1.fits", scan.zero_points(folder))
    assert (row["kind"], row["band"], row["unit"]) == ("ccd", "g", "nanomaggy")
    made = read.frame(folder, row)
    good = np.isfinite(made.pixels[0])
    assert not good[3, 4] and not good[10, 11] and good.sum() == 20 * 24 - 2
    np.testing.assert_allclose(made.pixels[0][good], 50.0 / (10.0 * 10.0), rtol=1e-6)  # 25 mag is 10 counts a second a nanomaggy
    assert made.quality is not None
    assert made.quality[3:-3, 3:-3][0, 0] == 1.0 and made.quality[3:-3, 3:-3][15, 0] == 2.0


def test_the_file_of_a_tile_keeps_every_bit(tmp_path, monkeypatch):
    random = np.random.default_rng(2)
    science = random.normal(-900, 30, (3, 70, 300)).astype(np.float32)
    science[:, :9] = np.nan
    block = stack.Block(science, random.random((3, 70, 300)).astype(np.float32), *(np.ones((3, 70, 300), np.uint16) for _ in "ab"))
    counts = random.integers(0, 2000, (70, 300)).astype(np.int32)
    folder = place.at(str(tmp_path))
    facts = products.written(folder, "a/b", block, counts, WCS(scenes.tangent((10.0, 10.0), 2.0)), "nanomaggy", "r1")
    back = read.whole(folder, facts["path"])
    for one, other in zip(back, (science, block.weight, counts, block.rejected), strict=True):
        np.testing.assert_array_equal(one, other)
    monkeypatch.setattr("gzip.time.time", lambda: 2e9)
    again = products.written(folder, "a/b", block, counts, WCS(scenes.tangent((10.0, 10.0), 2.0)), "nanomaggy", "r1")
    assert again == facts  # the same pixels, the same file, whatever the time


def test_2mass_offsets_within_a_scan_are_recovered():
    """Tiles of one scan differ by a constant that is known: 0.595, -2.029, -1.444 and -1.347 DN."""
    from lib.mosaic import image, lattice, mapping, overlaps, solve

    where = shared("mosaics/2mass-m17")
    folder = place.at(str(where))
    known = {("1350080", "1350092"): 0.595, ("1420186", "1420198"): -2.029, ("1430080", "1430092"): -1.444, ("1440186", "1440198"): -1.347}
    for (one, other), offset in known.items():
        frames = [read.frame(folder, scan.rows(folder, f"aK_asky_990502s{n}.fits.gz")[0]) for n in (one, other)]
        grid = lattice.around([(f.wcs, f.full) for f in frames])
        bins = [overlaps.bins(f, mapping.of(grid, f.wcs, f.full), image.noise(f.pixels), image.level(f.pixels)) for f in frames]
        table = solve.table(overlaps.pairs(*bins), np.zeros((2, 2)), 1)
        level = float(np.nanmedian(bins[0].mean))
        x, y = level, level + offset
        assert table.gain[0, 0] * x + table.offset[0, 0] == pytest.approx(table.gain[1, 0] * y + table.offset[1, 0], abs=0.05)


def test_decam_and_mosaic_frames_are_calibrated_and_weighted():
    for name, number, bands in (("ccds/testcase3", 8, {"g", "r", "z"}), ("ccds/mzlsbass", 12, {"g", "bokr", "zd"})):
        folder = place.at(str(shared(name)))
        rows = [r for f in scan.files(folder) for r in scan.rows(folder, f, scan.zero_points(folder))]
        assert len(rows) == number and {r["status"] for r in rows} == {"ok"} and {r["unit"] for r in rows} == {"nanomaggy"}
        assert {r["band"] for r in rows} == bands and {r["kind"] for r in rows} == {"ccd"}
        for row in rows:
            made = read.frame(folder, row).pixels[0]
            assert np.isfinite(made).mean() > 0.5 and 1e-4 < np.nanstd(made) < 20


def test_a_wcs_in_other_words_is_the_same():
    """SIN with a rotation, TPV: as the cards of a row have it."""
    folder = place.at(str(shared("mosaics/2mass-m17")))
    name = "aK_asky_990502s1350080.fits.gz"
    (row,) = scan.rows(folder, name)
    with fits.open(shared("mosaics/2mass-m17") / name) as file:
        theirs = WCS(file[0].header)
    np.testing.assert_allclose(
        scan.wcs_of(row["wcs"]).all_pix2world([0, 500.0], [0, 900.0], 0), theirs.all_pix2world([0, 500.0], [0, 900.0], 0), atol=1e-10
    )
