"""Windows of tile-compressed bricks: the pixels of the plane, without the plane."""

import numpy as np
import pytest
from astropy.io import fits

from lib import place
from lib.errors import RowError
from lib.survey import angles, wcs
from lib.survey.bricks import Brick, path
from lib.survey.fz.source import HEAD
from tests import tiny

NAME = tiny.BRICKS[0]


@pytest.fixture
def survey(tmp_path):
    rng = np.random.default_rng(4)
    tiny.write_plane(tmp_path, NAME, "image", "r", rng.normal(0, 0.005, (560, 560)).astype("f4"))
    return tmp_path


def test_windows_are_the_planes_own_pixels(survey):
    plane = fits.getdata(path(survey, NAME, "image", "r"), 1)
    x0, y0 = np.array([[0, 96, 250, 496], [0, 37, 499, 496]])
    with Brick(place.at(survey), NAME) as brick:
        pixels, faults = brick.windows("image", "r", x0, y0, 64, 61)
    assert not faults and pixels.dtype.isnative
    assert all(np.array_equal(pixels[k], plane[y : y + 61, x : x + 64]) for k, (x, y) in enumerate(zip(x0, y0, strict=True)))


def test_a_damaged_tile_elsewhere_is_never_touched_and_one_inside_is_reported(survey):
    """The last tile is garbage: windows of the others are made, those on it are told."""
    file = path(survey, NAME, "image", "r")
    plane = fits.getdata(file, 1)
    with fits.open(file, disable_image_compression=True) as hdus:
        table = hdus[1]
        start = table.fileinfo()["datLoc"] + table.header["NAXIS1"] * table.header["NAXIS2"]
        size, offset = (int(v) for v in np.asarray(table.data)["COMPRESSED_DATA"][-1])
    data = bytearray(file.read_bytes())
    data[start + offset : start + offset + size] = b"\x00" * 8 + b"\xff" * (size - 8)
    file.write_bytes(bytes(data))
    with Brick(place.at(survey), NAME) as brick:
        pixels, faults = brick.windows("image", "r", [60, 500], [60, 500], 60, 60)
    assert np.array_equal(pixels[0], plane[60:120, 60:120])
    assert list(faults) == [1] and faults[1].code == "unreadable" and str(file) in str(faults[1]) and not pixels[1].any()


def test_a_window_over_the_edge_is_a_fault_of_its_own(survey):
    with Brick(place.at(survey), NAME) as brick:
        _pixels, faults = brick.windows("image", "r", [520, 10], [10, 10], 64, 64)
    assert list(faults) == [0] and faults[0].code == "edge" and "reaches over" in str(faults[0])


def test_a_brick_counts_what_it_reads_and_asks_once_whether_a_file_is_there(survey):
    file = path(survey, NAME, "image", "r")
    with Brick(place.at(survey), NAME) as brick:
        assert [brick.has("image", "r"), brick.has("image", "g"), brick.has("image", "g"), brick.has("maskbits")] == [
            True,
            False,
            False,
            False,
        ]
        assert (brick.requests, brick.bytes_read) == (3, HEAD)
        brick.windows("image", "r", [0], [0], 560, 560)
        assert brick.requests == 4
        assert file.stat().st_size <= brick.bytes_read <= file.stat().st_size + HEAD


def test_the_kernel_is_the_whole_plane(survey):
    kernel = np.random.default_rng(0).random((63, 61)).astype("f4")
    fits.PrimaryHDU(kernel).writeto(path(survey, NAME, "copsf", "g"))
    with Brick(place.at(survey), NAME) as brick:
        assert np.array_equal(brick.kernel("g"), kernel)
        with pytest.raises(RowError, match="no such file") as caught:
            brick.kernel("r")
    assert caught.value.code == "missing_file"


def test_sky_positions_and_angles_are_astropys():
    """north_angle against the direction in which declination grows, through the WCS itself, off the brick's centre too."""
    from astropy.wcs import WCS

    header = tiny.header("0959p805", "image", "r", 3600)
    plane = WCS(header)
    x, y = np.random.default_rng(0).uniform(0, 3600, (2, 50))
    ra, dec = plane.all_pix2world(x, y, 0)
    up = plane.all_world2pix(ra, dec + 1e-4, 0)
    expected = np.arctan2(up[1] - y, up[0] - x)
    found = angles.north_angle(ra, dec, *plane.wcs.crval)
    assert np.abs(np.angle(np.exp(1j * (found - expected)))).max() < 1e-4
    assert np.ptp(found) > 0.01  # at dec 80 north turns over a brick
    px, py = wcs.to_pixel(plane, ra, dec)
    assert np.allclose([px, py], [x, y], atol=1e-6)


def test_position_angles_run_east_of_north():
    """In a picture with north up and east left, an axis turned anticlockwise from north points east of it."""
    north = np.pi / 2
    assert angles.position_angle_deg(np.pi / 2, north) == pytest.approx(0)
    assert angles.position_angle_deg(np.pi, north) == pytest.approx(90)
    assert angles.position_angle_deg(0.0, north) == pytest.approx(90)


def test_the_pixel_scale_is_read_from_the_wcs(survey):
    with Brick(place.at(survey), NAME) as brick:
        assert brick.pixel_scale_arcsec == pytest.approx(0.262, rel=1e-9)
