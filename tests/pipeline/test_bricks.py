"""Windows of tile-compressed bricks: the pixels of the plane, without the plane."""

import numpy as np
import pytest
from astropy.io import fits

from lib.errors import RowError
from lib.survey import wcs
from lib.survey.bricks import Brick, path
from tests import tiny

NAME = tiny.BRICKS[0]


@pytest.fixture
def survey(tmp_path):
    rng = np.random.default_rng(4)
    tiny.write_plane(tmp_path, NAME, "image", "r", rng.normal(0, 0.005, (560, 560)).astype("f4"))
    return tmp_path


def test_a_window_is_the_planes_own_pixels(survey):
    plane = fits.getdata(path(survey, NAME, "image", "r"), 1)
    with Brick(survey, NAME) as brick:
        for x0, y0 in ((0, 0), (96, 37), (250, 499), (496, 496)):
            window = brick.window("image", "r", x0, y0, 64, 61)
            assert np.array_equal(window, plane[y0 : y0 + 61, x0 : x0 + 64])
            assert window.dtype.isnative


def test_a_damaged_tile_elsewhere_is_never_touched_and_one_inside_is_reported(survey):
    """The proof that planes are not decompressed whole: the last tile is garbage, windows of the others are read."""
    file = path(survey, NAME, "image", "r")
    plane = fits.getdata(file, 1)
    with fits.open(file, disable_image_compression=True) as hdus:
        table = hdus[1]
        start = table.fileinfo()["datLoc"] + table.header["NAXIS1"] * table.header["NAXIS2"]
        size, offset = (int(v) for v in np.asarray(table.data)["COMPRESSED_DATA"][-1])
    data = bytearray(file.read_bytes())
    data[start + offset : start + offset + size] = b"\x00" * 8 + b"\xff" * (size - 8)
    file.write_bytes(bytes(data))
    with Brick(survey, NAME) as brick:
        assert np.array_equal(brick.window("image", "r", 60, 60, 64, 64), plane[60:124, 60:124])
        with pytest.raises(RowError, match="image-r") as caught:
            brick.window("image", "r", 500, 500, 60, 60)
    assert caught.value.code == "unreadable"


def test_a_window_over_the_edge_is_a_status(survey):
    with Brick(survey, NAME) as brick, pytest.raises(RowError, match="reaches over") as caught:
        brick.window("image", "r", 520, 10, 64, 64)
    assert caught.value.code == "edge"


def test_sky_positions_and_angles_are_astropys():
    """north_angle against the direction in which declination grows, through the WCS itself, off the brick's centre too."""
    from astropy.wcs import WCS

    header = tiny.header("0959p805", "image", "r", 3600)
    plane = WCS(header)
    x, y = np.random.default_rng(0).uniform(0, 3600, (2, 50))
    ra, dec = plane.all_pix2world(x, y, 0)
    up = plane.all_world2pix(ra, dec + 1e-4, 0)
    expected = np.arctan2(up[1] - y, up[0] - x)
    found = wcs.north_angle(ra, dec, *plane.wcs.crval)
    assert np.abs(np.angle(np.exp(1j * (found - expected)))).max() < 1e-4
    assert np.ptp(found) > 0.01  # at dec 80 north turns over a brick
    px, py = wcs.to_pixel(plane, ra, dec)
    assert np.allclose([px, py], [x, y], atol=1e-6)


def test_position_angles_run_east_of_north():
    """In a picture with north up and east left, an axis turned anticlockwise from north points east of it."""
    north = np.pi / 2
    assert wcs.position_angle_deg(np.pi / 2, north) == pytest.approx(0)
    assert wcs.position_angle_deg(np.pi, north) == pytest.approx(90)
    assert wcs.position_angle_deg(0.0, north) == pytest.approx(90)


def test_the_pixel_scale_is_read_from_the_wcs(survey):
    with Brick(survey, NAME) as brick:
        assert brick.pixel_scale_arcsec == pytest.approx(0.262, rel=1e-9)
