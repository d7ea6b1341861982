"""Tiles as they are stored -> pixels.  A tile that cannot be decoded is told by its number; its neighbours are."""

import zlib
from dataclasses import dataclass

import numpy as np

from lib.survey.fz import rice
from lib.survey.fz.header import Damaged
from lib.survey.fz.tiling import GZIP, HCOMPRESS, RAW, RICE, SHUFFLED, Tiling

MAGIC = b"\xdd\x99"  # of an HCOMPRESS stream
PLANES = 40  # most bits of an HCOMPRESS coefficient that are believed
SHORT = 100  # bytes of a stream that is worth remembering


@dataclass(frozen=True)
class Stored:
    """Tiles ``numbers`` of an image: ``sizes[k]`` bytes at ``starts[k]`` of ``data``."""

    tiling: Tiling
    numbers: np.ndarray
    data: np.ndarray
    starts: np.ndarray

    @property
    def sizes(self) -> np.ndarray:
        return self.tiling.sizes[self.numbers]

    def shapes(self) -> np.ndarray:
        """(tiles, 2) heights and widths: those at the far edges are smaller."""
        corner = np.stack(np.divmod(self.numbers, self.tiling.grid[1]), axis=1) * self.tiling.tile
        return np.minimum(self.tiling.tile, self.tiling.shape - corner)


def decode(stored: Stored) -> tuple[np.ndarray, dict[int, str]]:
    """((tiles, pixels of a whole tile) of the image's own type, each tile's pixels at the front of its row; what is wrong with a tile)."""
    tiling, shapes = stored.tiling, stored.shapes()
    out = np.empty((len(shapes), tiling.tile[0] * tiling.tile[1]), tiling.dtype)
    counts, own = shapes.prod(axis=1), tiling.which[stored.numbers] == 0
    mine = np.flatnonzero(own)
    if tiling.codecs[0] == RICE:
        faults = _rice(stored, counts, mine, out)
    elif tiling.quantum:
        held = np.empty(out.shape, np.int32)
        faults = _singly(stored, shapes, mine, held)
        fine = np.array([k for k in mine if k not in faults], np.int64)
        rice.unquantised(held, counts, fine, *_quanta(stored), out)  # type: ignore[call-arg]
    else:
        faults = _singly(stored, shapes, mine, out)
    return out, faults | _singly(stored, shapes, np.flatnonzero(~own), out)


def _quanta(stored: Stored) -> tuple:
    """What ``rice`` asks of quantised tiles: rows of their dithers, scales, zeros, blanks."""
    quantum, blank = stored.tiling.quantum, stored.tiling.blank
    assert quantum is not None
    some, blanks = stored.numbers, np.zeros(len(stored.numbers)) if blank is None else blank[stored.numbers]
    rows = some + quantum.seed - 1
    return rows, quantum.scale[some], quantum.zero[some], blanks, blank is not None, quantum.dither, rice.randoms()


def _rice(stored: Stored, counts: np.ndarray, mine: np.ndarray, out: np.ndarray) -> dict[int, str]:
    settings = stored.tiling.settings
    width, block = settings.get("BYTEPIX", 4), settings.get("BLOCKSIZE", 32)
    if width not in (1, 2, 4) or block < 1:
        return dict.fromkeys(mine.tolist(), f"RICE_1 of BYTEPIX {width}, BLOCKSIZE {block}")
    streams = stored.data, stored.starts, stored.sizes, counts, mine, width, block
    if stored.tiling.quantum:
        faults = rice.floats(*streams, *_quanta(stored), out)  # type: ignore[call-arg]
    else:
        held = out if out.dtype == np.int32 else np.empty(out.shape, np.int32)
        faults = rice.integers(*streams, held)
        if held is not out:
            out[mine] = held[mine]
    return {int(k): rice.FAULTS[faults[k]] for k in np.flatnonzero(faults)}


def _singly(stored: Stored, shapes: np.ndarray, some: np.ndarray, out: np.ndarray) -> dict[int, str]:
    """Decode tiles one by one to their rows of ``out``; of short streams that are equal, as empty tiles are, one."""
    tiling, floats, known, faults = stored.tiling, out.dtype.kind == "f", {}, {}  # type: ignore[var-annotated]
    sizes = stored.sizes
    for k in some.tolist():
        raw = stored.data[stored.starts[k] : stored.starts[k] + sizes[k]].tobytes()
        codec, shape = tiling.codecs[tiling.which[stored.numbers[k]]], (int(shapes[k, 0]), int(shapes[k, 1]))
        pixels = known.get((codec, shape, raw))
        try:
            if pixels is None:
                pixels = _one(codec, raw, shape, floats, tiling.settings)
            if len(raw) <= SHORT:
                known[codec, shape, raw] = pixels
            out[k, : len(pixels)] = pixels
        except (Damaged, zlib.error) as error:
            faults[k] = str(error)
    return faults


def _one(codec: str, raw: bytes, shape: tuple[int, int], floats: bool, settings: dict[str, int]) -> np.ndarray:
    count = shape[0] * shape[1]
    if codec == HCOMPRESS:
        return _hcompress(raw, shape, settings)
    if codec == RAW:
        return _numbers(raw, count, floats)
    plain = _inflated(raw, 8 * count)
    if codec == SHUFFLED and len(plain) % count == 0:  # all first bytes, all second bytes, ... (section 10.4.2)
        plain = np.frombuffer(plain, np.uint8).reshape(-1, count).T.tobytes()
    return _numbers(plain, count, floats)


def _inflated(raw: bytes, most: int) -> bytes:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    plain = stream.decompress(raw, most + 1)
    if not stream.eof:
        raise Damaged(f"its {GZIP} stream ends too early or too late")
    return plain


def _numbers(raw: bytes, count: int, floats: bool) -> np.ndarray:
    """Big-endian numbers; of how many bytes each is, their number tells."""
    known = {4: ">f4", 8: ">f8"} if floats else {1: "u1", 2: ">i2", 4: ">i4", 8: ">i8"}
    size, rest = divmod(len(raw), count)
    if rest or size not in known:
        raise Damaged(f"{len(raw)} bytes for {count} pixels")
    return np.frombuffer(raw, known[size])


def _hcompress(raw: bytes, shape: tuple[int, int], settings: dict[str, int]) -> np.ndarray:
    """By astropy's decoder, which believes what it reads: sides and planes are looked at first (FITS 4.0, section 10.4.4), and zeros follow."""
    from astropy.io.fits.hdu.compressed._codecs import HCompress1
    from astropy.io.fits.hdu.compressed._compression import CfitsioException

    sides = int.from_bytes(raw[2:6], "big"), int.from_bytes(raw[6:10], "big")
    if raw[:2] != MAGIC or len(raw) < 25 or sides != shape:
        raise Damaged(f"no {HCOMPRESS} stream of {shape[1]} x {shape[0]} pixels")
    if max(raw[22:25]) > PLANES:
        raise Damaged(f"{max(raw[22:25])} bit planes")
    codec = HCompress1(scale=settings.get("SCALE", 0), smooth=bool(settings.get("SMOOTH", 0)), bytepix=8, nx=shape[0], ny=shape[1])
    try:
        found = np.asarray(codec.decode(np.frombuffer(raw + bytes(_longest(shape, raw[22:25])), np.uint8)))
    except (CfitsioException, ValueError) as error:
        raise Damaged(f"{error}") from error
    return found[: shape[0] * shape[1]]


def _longest(shape: tuple[int, int], planes: bytes) -> int:
    """More bytes than any stream of so many bit planes can ask for: of the four quadrants, 6 bits for 4 coefficients, and half as much again."""
    return (shape[0] + 16) * (shape[1] + 16) // 12 * (planes[0] + 2 * planes[1] + planes[2] + 2)
