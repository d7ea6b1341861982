"""Eight real images of four scans: what two of one scan differ by is known, and their stars are the same stars."""

import re

import pytest

from lib import place, store
from lib.frames import recipe
from tests.conftest import shared
from tests.mosaic import files
from validation import mosaic

KNOWN_DN = {("1350080", "1350092"): 0.595, ("1420186", "1420198"): -2.029, ("1430080", "1430092"): -1.444, ("1440186", "1440198"): -1.347}


@pytest.fixture(scope="module")
def made(spark, tmp_path_factory):
    frames, root = shared("mosaics/2mass-m17"), tmp_path_factory.mktemp("m17")
    assert files.run(frames, root, "calibrated") == 0
    return mosaic.Mosaic(store.Dataset.at(str(root), "set", "calibrated"), recipe.load("calibrated"), place.at(str(frames)))


def test_offsets_within_a_scan_are_recovered_to_half_a_dn(made):
    rows = {re.search(r"(\d{7})\.fits", r["image"])[1]: r for r in made.rows("normalisation")}
    middles = {(o["one"], o["other"]): o["middle"] for o in made.rows("overlaps")}
    for (one, other), known in KNOWN_DN.items():
        a, b = rows[one], rows[other]
        y, x = middles[a["image"], b["image"]]
        at = [r["offset"] + r["slope_y"] * (y - r["middle_y"]) + r["slope_x"] * (x - r["middle_x"]) for r in (a, b)]
        assert at[0] - at[1] == pytest.approx(known, abs=0.5)


def test_there_is_no_seam_and_stars_are_aligned_to_a_tenth_of_a_pixel(made):
    seams, places = mosaic._seams(made, {}), mosaic._places(made, {})
    assert seams.outcome == "pass" and seams.n == 13
    assert places.outcome == "pass" and places.measured < 0.1 and places.n > 200
