"""Windows of FITS images against astropy's planes, bit for bit; and what damage does."""

import itertools

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import place
from lib.errors import RowError, Unreachable
from lib.survey import wcs
from lib.survey.fz import Image, codecs, rice, source
from tests.conftest import shared

RNG = np.random.default_rng(11)
NOISE = RNG.normal(0, 0.005, (230, 310)).astype("f4")
HOLES = np.where(RNG.random(NOISE.shape) < 0.1, np.float32("nan"), NOISE)
STEPS = np.where(RNG.random(NOISE.shape) < 0.3, 0, NOISE + (np.arange(310) > 200) * np.float32(1e4)).astype("f4")
BITS = np.zeros(NOISE.shape, "i4")
BITS[30:120, 50:250] = 5
DITHER = {"quantize_level": -1e-4, "quantize_method": 2, "dither_seed": 9_999}
PLANES = {
    "rice, as the surveys' images": (NOISE, "RICE_1", (100, 100), DITHER),
    "rice, as the surveys' weights": (NOISE**2, "RICE_1", (100, 100), {"quantize_level": 16.0, "quantize_method": 1, "dither_seed": 5}),
    "rice, exact zeros and jumps": (STEPS, "RICE_1", (100, 100), {"quantize_level": -1e-3, "quantize_method": 2, "dither_seed": 3}),
    "rice, no dither": (NOISE, "RICE_1", (100, 100), {"quantize_level": 4.0, "quantize_method": -1}),
    "rice, NaN": (HOLES, "RICE_1", (100, 100), DITHER),
    "rice, all NaN": (np.full_like(NOISE, np.nan), "RICE_1", (100, 100), DITHER),
    "rice, doubles": (NOISE.astype("f8"), "RICE_1", (64, 100), DITHER),
    "rice, rows": (NOISE, "RICE_1", (1, 310), DITHER),
    "rice, one tile longer than the random numbers": (NOISE, "RICE_1", (230, 310), DITHER | {"dither_seed": 10_000}),
    "rice, tiles of 37 x 53": (NOISE, "RICE_1", (53, 37), DITHER),
    "rice, constant": (np.full_like(NOISE, 3.5), "RICE_1", (100, 100), DITHER),
    "rice, tiles that fall back to gzip": (np.where(np.arange(310) < 150, NOISE, 2.5e9 * NOISE).astype("f4"), "RICE_1", (100, 100), DITHER),
    "rice, 32 bits": (BITS, "RICE_1", (100, 100), {}),
    "rice, 32 bits at random": (RNG.integers(-(2**31), 2**31 - 1, NOISE.shape).astype("i4"), "RICE_1", (100, 100), {}),
    "rice, 16 bits": ((1e5 * NOISE).astype("i2"), "RICE_1", (100, 100), {}),
    "rice, 16 bits at random": (RNG.integers(-(2**15), 2**15, NOISE.shape).astype("i2"), "RICE_1", (100, 100), {}),
    "rice, 8 bits": (RNG.poisson(3, NOISE.shape).astype("u1"), "RICE_1", (100, 100), {}),
    "rice, 8 bits at random": (RNG.integers(0, 256, NOISE.shape).astype("u1"), "RICE_1", (100, 100), {}),
    "rice, unsigned 16 bits": (RNG.integers(0, 1 << 16, NOISE.shape).astype("u2"), "RICE_1", (100, 100), {}),
    "rice, unsigned 32 bits": (RNG.integers(0, 1 << 32, NOISE.shape).astype("u4"), "RICE_1", (100, 100), {}),
    "gzip, floats": (HOLES, "GZIP_1", (100, 100), {"quantize_level": 0.0}),
    "gzip, quantised": (HOLES, "GZIP_1", (100, 100), DITHER),
    "gzip, 16 bits": (BITS.astype("i2"), "GZIP_1", (100, 100), {}),
    "gzip, 64 bits": (BITS.astype("i8") << 40, "GZIP_1", (100, 100), {}),
    "shuffled gzip, floats": (NOISE, "GZIP_2", (100, 100), {"quantize_level": 0.0}),
    "shuffled gzip, quantised": (NOISE, "GZIP_2", (100, 100), DITHER),
    "shuffled gzip, 32 bits": (BITS, "GZIP_2", (100, 100), {}),
    "hcompress, 32 bits": (BITS, "HCOMPRESS_1", (100, 100), {}),
    "hcompress, 16 bits": ((1e4 * NOISE).astype("i2"), "HCOMPRESS_1", (100, 100), {}),
    "hcompress, quantised": (NOISE, "HCOMPRESS_1", (100, 100), DITHER),
    "as it is": (NOISE, "NOCOMPRESS", (100, 100), {"quantize_level": 0.0}),
}  # fmt: skip


def write(path, data, codec, tile, how):
    hdu = fits.CompImageHDU(data, compression_type=codec, tile_shape=tile, **how)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def image(path) -> Image:
    return Image(place.at(path.parent), path.name)


def bits(pixels):
    """Native numbers as integers, so that NaN equals itself and 0 is not -0."""
    native = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))
    return native.view(f"u{native.itemsize}")


def plane(path):
    """astropy's, native."""
    with fits.open(path) as hdus:
        data = next(h.data for h in hdus if h.is_image and len(h.shape) == 2)
    return data.astype(data.dtype.newbyteorder("="))


def assert_as_astropy(path, side=61):
    whole = plane(path)
    ny, nx = whole.shape
    x0 = np.array([0, nx - side, 0, nx - side, *RNG.integers(0, nx - side + 1, 12)])
    y0 = np.array([0, 0, ny - side + 7, ny - side + 7, *RNG.integers(0, ny - side + 8, 12)])
    found, faults = image(path).windows(x0, y0, side, side - 7)
    assert not faults
    assert found.dtype == whole.dtype and found.dtype.isnative
    assert np.array_equal(bits(found), bits(np.stack([whole[y : y + side - 7, x : x + side] for x, y in zip(x0, y0, strict=True)])))
    found, faults = image(path).windows([0], [0], nx, ny)
    assert not faults and np.array_equal(bits(found[0]), bits(whole))


@pytest.mark.filterwarnings("ignore:.*doesn't support 64:astropy.utils.exceptions.AstropyUserWarning")
@pytest.mark.parametrize("name", PLANES)
def test_windows_are_astropys_pixels_bit_for_bit(name, tmp_path):
    path = write(tmp_path / "a.fits.fz", *PLANES[name])
    if "fall back" in name:
        with fits.open(path, disable_image_compression=True) as hdus:
            assert 0 < np.count_nonzero(np.asarray(hdus[1].data)["GZIP_COMPRESSED_DATA"][:, 0]) < len(hdus[1].data)
    assert_as_astropy(path)


@pytest.mark.parametrize("kind", ["image", "invvar", "nexp"])
@pytest.mark.parametrize("band", "gz")
def test_windows_of_a_real_brick_are_astropys_pixels_bit_for_bit(kind, band):
    folder = shared("legacysurvey-dr6-brick-0959p805") / "coadd/095/0959p805"
    assert_as_astropy(folder / f"legacysurvey-0959p805-{kind}-{band}.fits.fz", side=200)


def test_a_real_brick_s_header_and_table_come_with_the_first_request():
    folder = shared("legacysurvey-dr6-brick-0959p805") / "coadd/095/0959p805"
    for path in folder.glob("*.fits.fz"):
        some = image(path)
        assert some.shape == (3600, 3600)
        assert some.source.requests == 1
        with fits.open(path) as hdus:
            ours, theirs = wcs.from_header(some.header()), wcs.from_header(hdus[1].header)
        assert np.array_equal(ours.wcs.cd, theirs.wcs.cd) and np.array_equal(ours.wcs.crval, theirs.wcs.crval)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "f4", "f8", "u2"])
def test_windows_of_a_plain_image_read_its_rows_alone(dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(source, "HEAD", 2880)
    data = RNG.integers(0, 100, (300, 200)).astype(dtype)
    for k, hdus in enumerate(([fits.PrimaryHDU(data)], [fits.PrimaryHDU(np.zeros((2, 3, 4))), fits.ImageHDU(data)])):
        path = tmp_path / f"{k}.fits"
        fits.HDUList(hdus).writeto(path)
        assert_as_astropy(path)
        some = image(path)
        before = some.shape and some.source.bytes_read
        some.windows([20], [200], 30, 40)
        assert some.source.bytes_read - before <= 40 * 200 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("cards", [{"BSCALE": 0.5, "BZERO": 3.0}, {"BSCALE": 2.0, "BLANK": 7}, {"BLANK": 7}, {"BZERO": -128}])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4"])
def test_scaled_and_blank_pixels_are_astropys(cards, dtype, tmp_path):
    data = RNG.integers(0, 100, (90, 120)).astype(dtype)
    if dtype == "f4":
        cards = {k: v for k, v in cards.items() if k != "BLANK"}
    plain, packed = fits.PrimaryHDU(data), fits.CompImageHDU(data, tile_shape=(50, 50), quantize_level=0, compression_type="GZIP_1")
    plain.writeto(tmp_path / "plain.fits")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "packed.fits.fz")
    for name, number in (("plain.fits", 0), ("packed.fits.fz", 1)):
        with fits.open(tmp_path / name, mode="update", disable_image_compression=True, do_not_scale_image_data=True) as hdus:
            hdus[number].header.update(cards)
        assert_as_astropy(tmp_path / name)


# the code itself -------------------------------------------------------------------------------------------------------


def encode(pixels, width: int, block: int) -> bytes:
    """Rice's code, written from the standard's words (FITS 4.0, section 10.4.1), a bit at a time."""
    head, most, whole = {1: (3, 6, 8), 2: (4, 14, 16), 4: (5, 25, 32)}[width]
    size = 1 << whole
    out = f"{int(pixels[0]) % size:0{whole}b}"
    steps = np.diff(pixels.astype(object), prepend=pixels[0])
    folded = [2 * d if d >= 0 else -2 * d - 1 for d in ((int(s) + size // 2) % size - size // 2 for s in steps)]
    for at in range(0, len(folded), block):
        some = folded[at : at + block]
        low = min(range(most + 1), key=lambda n: sum((v >> n) + 1 + n for v in some) if n < most else whole * len(some))
        if not any(some):
            out += "0" * head
        elif low == most:
            out += f"{most + 1:0{head}b}" + "".join(f"{v:0{whole}b}" for v in some)
        else:
            out += f"{low + 1:0{head}b}" + "".join("0" * (v >> low) + "1" + (f"{v % (1 << low):0{low}b}" if low else "") for v in some)
    out += "0" * (-len(out) % 8)
    return int(out, 2).to_bytes(len(out) // 8, "big")


def decoded(stream: bytes, count: int, width: int, block: int):
    data = np.frombuffer(stream + bytes(source.SPARE), np.uint8)
    out = np.zeros((1, count), np.int32)
    one = np.array([0])
    return out[0], rice.integers(data, one, np.array([len(stream)]), np.array([count]), one, width, block, out)[0]


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([1, 2, 4]), st.sampled_from([16, 32]), st.integers(1, 200), st.integers(0, 31), st.integers(0, 2**32 - 1))
def test_the_code_of_any_pixels_is_read(width, block, count, spread, seed):
    """Small steps and large ones, those beyond half the range, outliers whose unary number is longer than a word."""
    kind = {1: np.uint8, 2: np.int16, 4: np.int32}[width]
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 1 << min(spread, 8 * width - 1), count, endpoint=True)
    pixels = np.where(rng.random(count) < 0.02, rng.integers(0, 1 << min(spread + 9, 8 * width - 1), count), pixels)
    pixels = (pixels * rng.choice([1, 1 if width == 1 else -1], count)).astype(kind)
    found, fault = decoded(encode(pixels, width, block), count, width, block)
    assert fault == rice.FINE and np.array_equal(found, pixels.astype(np.int32))


def test_a_stream_that_does_not_end_with_its_tile_is_a_fault():
    pixels = RNG.normal(0, 50, 1000).astype(np.int32)
    stream = encode(pixels, 4, 32)
    assert decoded(stream, 1000, 4, 32)[1] == rice.FINE
    assert [decoded(stream[:k], 1000, 4, 32)[1] for k in (0, 3, 4, 100, len(stream) - 1)] == [rice.ENDS] * 5
    assert decoded(stream + bytes(20), 1000, 4, 32)[1] == rice.LEFT
    assert decoded(b"\0\0\0\0" + b"\xff" * 500, 1000, 4, 32)[1] == rice.WRONG


def test_nothing_beyond_the_spare_bytes_is_looked_at():
    """A pixel more than the stream holds, at every length: what is read past its end never shows."""
    for width, spread in itertools.product((1, 2, 4), (1, 40, 1 << 30)):
        pixels = RNG.integers(0, min(spread, 1 << (8 * width - 1)), 300).astype(np.int64)
        stream = encode(pixels, width, 32)
        for k in range(0, len(stream), 5):
            out = np.zeros((1, 300), np.int32)
            found = [
                rice.integers(
                    np.frombuffer(stream[:k] + bytes([fill]) * 8, np.uint8), np.array([0]), np.array([k]), np.array([300]), np.array([0]),
                    width, 32, out,
                )[0]
                for fill in (0, 255, 85)
            ]  # fmt: skip
            assert all(found)


def test_the_random_numbers_are_the_standards():
    numbers = rice.randoms()
    assert len(numbers) == 10_000 and round(float(numbers[0]) * 2147483647) == pytest.approx(16807, abs=1)
    assert float(numbers[-1]) == np.float32(1043618065 / 2147483647)


# tables of other writers ---------------------------------------------------------------------------------------------


def table(path, columns, cards):
    """A compressed image whose table is made by hand."""
    hdu = fits.BinTableHDU.from_columns([fits.Column(name, form, array=_cells(form, cells)) for name, (form, cells) in columns.items()])
    hdu.header.update({"ZIMAGE": True, "ZNAXIS": 2, "ZNAXIS1": 40, "ZNAXIS2": 30, "ZTILE1": 40, "ZTILE2": 10} | cards)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    return path


def _cells(form, cells):
    if form[0] not in "PQ":
        return cells
    out = np.empty(len(cells), object)
    for k, cell in enumerate(cells):
        out[k] = np.frombuffer(cell, np.uint8) if isinstance(cell, bytes) else cell
    return out


def test_rice_blocks_of_16_wide_descriptors_and_columns_in_another_order(tmp_path):
    pixels = RNG.normal(0, 300, (30, 40)).astype("i4")
    tiles = [encode(t.ravel(), 4, 16) for t in np.split(pixels, 3)]
    cards = {"ZCMPTYPE": "RICE_1", "ZBITPIX": 32, "ZNAME1": "BLOCKSIZE", "ZVAL1": 16, "ZNAME2": "BYTEPIX", "ZVAL2": 4}
    path = table(tmp_path / "a.fits.fz", {"LABEL": ("5A", ["a", "b", "c"]), "COMPRESSED_DATA": ("QB", tiles)}, cards)
    assert np.array_equal(image(path).windows([0], [0], 40, 30)[0][0], pixels)
    assert_as_astropy(path, side=20)


def test_scale_and_zero_may_be_keywords_and_blank_a_column(tmp_path):
    integers = RNG.integers(-99, 99, (30, 40)).astype("i4")
    tiles = [encode(t.ravel(), 4, 32) for t in np.split(integers, 3)]
    cards = {"ZCMPTYPE": "RICE_1", "ZBITPIX": -32, "ZSCALE": 0.125, "ZZERO": 7.0}
    path = table(tmp_path / "a.fits.fz", {"COMPRESSED_DATA": ("PB", tiles), "ZBLANK": ("J", [5, 6, 7])}, cards)
    expected = (7.0 + 0.125 * integers).astype("f4")
    for k, tile in enumerate(np.split(expected, 3)):
        tile[integers[10 * k : 10 * k + 10] == 5 + k] = np.nan
    found = image(path).windows([0], [0], 40, 30)[0][0]
    assert np.isnan(found).any() and np.array_equal(bits(found), bits(expected))


def test_a_tile_may_be_uncompressed_beside_others(tmp_path):
    pixels = RNG.normal(0, 1, (30, 40)).astype("f4")
    integers = np.rint((pixels - 1.0) / 0.01).astype("i4")
    tiles = [encode(integers[:10].ravel(), 4, 32), b"", b""]
    columns = {
        "COMPRESSED_DATA": ("PB", tiles), "UNCOMPRESSED_DATA": ("PE", [np.zeros(0, "f4"), pixels[10:20].ravel(), np.zeros(0, "f4")]),
        "ZSCALE": ("D", [0.01] * 3), "ZZERO": ("D", [1.0] * 3),
    }  # fmt: skip
    path = table(tmp_path / "a.fits.fz", columns, {"ZCMPTYPE": "RICE_1", "ZBITPIX": -32})
    found, faults = image(path).windows([0, 0, 0], [0, 10, 20], 40, 10)
    assert np.array_equal(found[0], (1.0 + 0.01 * integers[:10]).astype("f4")) and np.array_equal(found[1], pixels[10:20])
    assert set(faults) == {2} and faults[2].code == "unreadable" and not found[2].any()


def test_a_codec_that_is_not_read_is_named(tmp_path):
    path = write(tmp_path / "a.fits.fz", BITS, "PLIO_1", (100, 100), {})
    with pytest.raises(RowError, match=r"a\.fits\.fz: its tiles are coded as PLIO_1; known: RICE_1") as caught:
        image(path).windows([0], [0], 5, 5)
    assert caught.value.code == "unreadable"


# what is asked for, and how often --------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path):
    """A plane of 36 tiles that is much longer than a first request."""
    return write(tmp_path / "large.fits.fz", RNG.normal(0, 0.1, (600, 600)).astype("f4"), "RICE_1", (100, 100), DITHER)


def test_overlapping_windows_fetch_and_decode_a_tile_once(large, monkeypatch):
    monkeypatch.setattr(source, "GAP", 0)
    monkeypatch.setattr(source, "HEAD", 2880 * 4)
    seen = []
    decode = codecs.decode
    monkeypatch.setattr(codecs, "decode", lambda stored: seen.append(stored) or decode(stored))
    some = image(large)
    with fits.open(large, disable_image_compression=True) as hdus:
        sizes = np.asarray(hdus[1].data)["COMPRESSED_DATA"][:, 0].reshape(6, 6)
    before = some.shape and some.source.bytes_read
    found, faults = some.windows([350, 351, 380, 460], [250, 250, 280, 250], 64, 64)
    assert not faults and len(found) == 4
    assert [len(s.numbers) for s in seen] == [6]
    assert some.source.bytes_read - before == sizes[2:4, 3:6].sum()
    assert some.source.requests == 1 + 2


def test_ranges_are_joined_over_gaps_and_counted(large, monkeypatch):
    some = image(large)
    requests = []
    ranges = place.Place.ranges
    monkeypatch.setattr(
        place.Place, "ranges", lambda self, name, starts, ends, gap: requests.append(len(starts)) or ranges(self, name, starts, ends, gap)
    )
    whole = plane(large)
    for gap, expected in ((0, 5), (1 << 30, 1)):
        monkeypatch.setattr(source, "GAP", gap)
        requests.clear()
        found, _ = some.windows([110] * 5, [110, 210, 310, 410, 510], 64, 64)
        assert requests == [expected]
        assert np.array_equal(found[4], whole[510:574, 110:174])


def test_a_small_file_is_one_request_and_a_header_beyond_the_first_two(tmp_path, monkeypatch):
    path = write(tmp_path / "a.fits.fz", BITS, "RICE_1", (100, 100), {})
    some = image(path)
    some.windows([0, 100], [0, 100], 64, 64)
    assert (some.source.requests, some.source.bytes_read) == (1, path.stat().st_size)
    with fits.open(path, mode="update", disable_image_compression=True) as hdus:
        for k in range(2000):
            hdus[1].header[f"LONG{k}"] = k
    assert path.stat().st_size > 2 * source.HEAD
    some = image(path)
    assert np.array_equal(some.windows([50], [100], 64, 64)[0][0], BITS[100:164, 50:114])
    assert some.source.requests <= 3


# damage ----------------------------------------------------------------------------------------------------------------


def test_windows_over_the_edge_are_told_and_the_others_made(large):
    x0, y0 = [-1, 536, 537, 10, 2**62, 10], [10, 536, 10, -(2**62), 10, 10]
    found, faults = image(large).windows(x0, y0, 64, 64)
    assert {k: e.code for k, e in faults.items()} == dict.fromkeys([0, 2, 3, 4], "edge")
    assert "window at (537, 10) of 64 x 64 px reaches over the 600 x 600 px" in str(faults[2])
    whole = plane(large)
    assert np.array_equal(found[1], whole[536:, 536:]) and np.array_equal(found[5], whole[10:74, 10:74])
    assert not found[[0, 2, 3, 4]].any()


def descriptor(path, tile: int) -> int:
    """Where a tile's (length, begin) stand in the file."""
    with fits.open(path, disable_image_compression=True) as hdus:
        return hdus[1].fileinfo()["datLoc"] + tile * hdus[1].header["NAXIS1"]


@pytest.mark.parametrize(
    "length, begin", [(-1, 0), (2**31 - 1, 0), (100, 2**31 - 1), (100, -100), (0, 0), (-(2**31), -(2**31)), (5, 10**7)]
)
def test_a_descriptor_out_of_the_heap_harms_the_windows_on_its_tile_alone(length, begin, large):
    whole, raw = plane(large), bytearray(large.read_bytes())
    at = descriptor(large, 7)
    raw[at : at + 8] = length.to_bytes(4, "big", signed=True) + begin.to_bytes(4, "big", signed=True)
    large.write_bytes(raw)
    found, faults = image(large).windows([0, 90, 150, 200], [0, 90, 150, 200], 64, 64)
    assert set(faults) == {1, 2} and {e.code for e in faults.values()} == {"unreadable"}
    assert "large.fits.fz: tile 7: " in str(faults[1])
    assert not found[[1, 2]].any()
    assert np.array_equal(found[0], whole[:64, :64]) and np.array_equal(found[3], whole[200:264, 200:264])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.62, 0.97])
def test_of_a_cut_file_windows_are_right_or_told(share, large):
    whole, raw = plane(large), large.read_bytes()
    large.write_bytes(raw[: int(share * len(raw))])
    x0, y0 = (v.ravel() for v in np.meshgrid(np.arange(0, 536, 67), np.arange(0, 536, 67)))
    if share < 0.02:
        with pytest.raises(RowError, match=r"large\.fits\.fz: ") as caught:
            image(large).windows(x0, y0, 64, 64)
        assert caught.value.code == "unreadable"
        return
    found, faults = image(large).windows(x0, y0, 64, 64)
    assert 0 < len(faults) < len(x0) + (share < 0.1) and {e.code for e in faults.values()} == {"unreadable"}
    for k, (x, y) in enumerate(zip(x0, y0, strict=True)):
        assert np.array_equal(found[k], 0 * whole[:64, :64] if k in faults else whole[y : y + 64, x : x + 64])


@pytest.mark.parametrize("content", [b"", b"<html>503</html>" * 900, bytes(9000), b"SIMPLE  =" + b" " * 9000])
def test_what_is_no_fits_file_is_unreadable_by_name(content, tmp_path):
    (tmp_path / "a.fits.fz").write_bytes(content)
    some = image(tmp_path / "a.fits.fz")
    for _ in range(2):
        with pytest.raises(RowError, match=r"a\.fits\.fz: ") as caught:
            some.windows([0], [0], 5, 5)
        assert caught.value.code == "unreadable"
    assert some.source.requests == 1 and not some.missing


def test_a_file_that_is_not_there_is_asked_for_once(tmp_path):
    some = image(tmp_path / "a.fits.fz")
    assert some.missing and some.missing
    with pytest.raises(RowError, match=r"no such file: .*a\.fits\.fz") as caught:
        _ = some.shape
    assert caught.value.code == "missing_file" and some.source.requests == 1


def test_the_world_at_fault_is_no_fault_of_the_data(large, monkeypatch):
    some = image(large)
    _ = some.shape

    def fail(*_args, **_kwargs):
        raise Unreachable("the disk is on fire")

    monkeypatch.setattr(place.Place, "ranges", fail)
    with pytest.raises(Unreachable):
        some.windows([300], [300], 64, 64)
    monkeypatch.setattr(place.Place, "start", fail)
    with pytest.raises(Unreachable):
        _ = image(large).missing


@pytest.mark.parametrize("name", [
    "rice, as the surveys' images", "rice, 16 bits", "rice, 8 bits", "gzip, floats", "shuffled gzip, floats", "hcompress, 32 bits",
    "hcompress, quantised", "as it is", "plain",
])  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_any_bytes_give_pixels_or_faults(name, tmp_path):
    """Bytes turned at random, in headers, tables and tiles; files cut anywhere."""
    path, rng = tmp_path / "a.fits.fz", np.random.default_rng(len(name))
    if name == "plain":
        fits.PrimaryHDU(NOISE[:70, :90]).writeto(path)
    else:
        data, codec, _tile, how = PLANES[name]
        write(path, data[:70, :90], codec, (30, 40), how)
    good = path.read_bytes()
    x0, y0 = rng.integers(-3, 75, 9), rng.integers(-3, 60, 9)
    told = []
    for k in range(150):
        raw = bytearray(good)
        low, high = ((0, len(raw)), (2880, 9000), (8000, len(raw)))[k % 3]
        for at in rng.integers(low, min(high, len(raw)), rng.choice([1, 3, 100])):
            raw[at] = rng.integers(256)
        path.write_bytes(raw[: len(raw) if k % 10 else rng.integers(len(raw))])
        try:
            found, faults = image(path).windows(x0, y0, 20, 21)
            assert found.shape == (9, 21, 20) and {e.code for e in faults.values()} <= {"edge", "unreadable"}
            told.append("faults" if len(faults) == 9 else "pixels")
        except RowError as error:
            told.append(error.code)
    assert {"pixels", "unreadable"} <= set(told) <= {"pixels", "faults", "unreadable"}
