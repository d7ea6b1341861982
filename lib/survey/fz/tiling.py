"""Where the tiles of an image lie in its file and how they are coded (FITS 4.0, section 10.1): all that decoding must know.

A plain image is one whose tiles are its rows, stored as they are.
"""

import re
from dataclasses import dataclass, field

import numpy as np

from lib.survey.fz.header import Damaged, Header, read
from lib.survey.fz.source import Source

MOST_PIXELS = 1 << 28  # of a plane that is believed
WIDTHS = {"L": 1, "X": 0, "A": 1, "B": 1, "I": 2, "J": 4, "K": 8, "E": 4, "D": 8, "C": 8, "M": 16, "P": 8, "Q": 16}  # table 18
TYPES = {"B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
PIXELS = {8: "u1", 16: "i2", 32: "i4", 64: "i8", -32: "f4", -64: "f8"}
DITHERS = {"": 0, "NONE": 0, "NO_DITHER": 0, "SUBTRACTIVE_DITHER_1": 1, "SUBTRACTIVE_DITHER_2": 2}
RICE, GZIP, SHUFFLED, RAW, HCOMPRESS = CODECS = ("RICE_1", "GZIP_1", "GZIP_2", "NOCOMPRESS", "HCOMPRESS_1")
OTHER_NAMES = {"RICE_ONE": RICE}
COLUMNS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA")  # the latter of tiles that did not compress (section 10.1.3)


@dataclass(frozen=True)
class Quantum:
    """pixel = zero + scale * (integer - dither): one scale and zero a tile (section 10.2)."""

    scale: np.ndarray
    zero: np.ndarray
    dither: int
    seed: int


@dataclass(frozen=True)
class Tiling:
    """Tile k of a plane of ``shape`` pixels is ``sizes[k]`` bytes at ``starts[k]`` of the file, coded as ``codecs[which[k]]`` says.

    ``codecs[0]`` is the image's own, of integers where the pixels are floats in units of a ``quantum``; the others hold the pixels.
    A tile that has no bytes, or whose bytes are not all in the file, has ``which`` -1.
    """

    shape: tuple[int, int]
    tile: tuple[int, int]
    dtype: np.dtype
    starts: np.ndarray
    sizes: np.ndarray
    which: np.ndarray
    codecs: tuple[str, ...]
    quantum: Quantum | None = None
    blank: np.ndarray | None = None
    settings: dict[str, int] = field(default_factory=dict)

    @property
    def grid(self) -> tuple[int, int]:
        return -(-self.shape[0] // self.tile[0]), -(-self.shape[1] // self.tile[1])


def find(source: Source) -> tuple[Header, Tiling]:
    """The file's first image of two axes: its header, its tiles."""
    start = 0
    while start < source.size:
        header, data = read(source, start)
        if header.true("ZIMAGE") and header.word("XTENSION") == "BINTABLE":
            if header.whole("ZNAXIS", most=999) == 2:
                return header, _compressed(source, header, data)
        elif header.word("XTENSION", "IMAGE") == "IMAGE" and header.whole("NAXIS", most=999) == 2:
            return header, _plain(source, header, data)
        start = data + header.data_bytes()
    raise Damaged("no image in it" if source.size else "an empty file")


def _shape(header: Header, key: str) -> tuple[int, int]:
    ny, nx = header.whole(f"{key}2", least=1), header.whole(f"{key}1", least=1)
    if ny * nx > MOST_PIXELS:
        raise Damaged(f"{nx} x {ny} pixels are too many")
    return ny, nx


def _dtype(header: Header, key: str) -> np.dtype:
    bits = header.whole(key, least=-64, most=64)
    if bits not in PIXELS:
        raise Damaged(f"{key} must be one of {', '.join(map(str, PIXELS))}, got {bits}")
    return np.dtype(PIXELS[bits])


def _plain(source: Source, header: Header, data: int) -> Tiling:
    ny, nx = _shape(header, "NAXIS")
    dtype = _dtype(header, "BITPIX")
    row = nx * dtype.itemsize
    starts = data + row * np.arange(ny)
    which = np.where(starts + row <= source.size, 0, -1)
    return Tiling((ny, nx), (1, nx), dtype, starts, np.full(ny, row), which, (RAW,))


def _compressed(source: Source, header: Header, data: int) -> Tiling:
    shape, dtype = _shape(header, "ZNAXIS"), _dtype(header, "ZBITPIX")
    ny, nx = shape
    tile = min(ny, header.whole("ZTILE2", 1, least=1)), min(nx, header.whole("ZTILE1", nx, least=1))
    count = -(-ny // tile[0]) * -(-nx // tile[1])
    rows, arrays, numbers = _table(source, header, data)
    if rows < count:
        raise Damaged(f"{rows} tiles in the table, the image has {count}")
    own = OTHER_NAMES.get(header.word("ZCMPTYPE"), header.word("ZCMPTYPE"))
    if own not in CODECS:
        raise Damaged(f"its tiles are coded as {own}; known: {', '.join(CODECS)}")
    heap = data + header.whole("THEAP", header.whole("NAXIS1") * rows)
    end = min(source.size, data + header.whole("NAXIS1") * rows + header.whole("PCOUNT"))
    starts, sizes, which = np.zeros(count, np.int64), np.zeros(count, np.int64), np.full(count, -1)
    for k, name in enumerate(COLUMNS):
        if name in arrays:
            length, begin, width = arrays[name]
            here = (sizes == 0) & (length[:count] > 0)
            starts[here], sizes[here], which[here] = heap + begin[:count][here], width * length[:count][here], k
    which[(starts < heap) | (starts > end) | (sizes > end - starts)] = -1
    return Tiling(
        shape, tile, dtype, starts, sizes, which, (own, GZIP, RAW),
        _quantum(header, numbers, count), _blank(header, numbers, count), _settings(header),
    )  # fmt: skip


def _table(source: Source, header: Header, data: int) -> tuple[int, dict, dict]:
    """(rows, (lengths, begins, bytes of an element) of columns of arrays, columns of numbers) of a binary table, both by name."""
    width, rows = header.whole("NAXIS1"), header.whole("NAXIS2", most=MOST_PIXELS)
    raw = np.frombuffer(source.read(data, data + width * rows), np.uint8)
    if len(raw) < width * rows:
        raise Damaged("the file ends in the table of its tiles")
    table, at = raw.reshape(rows, width), 0
    arrays, numbers = {}, {}
    for k in range(1, header.whole("TFIELDS", most=999) + 1):
        form = re.match(r"(\d*)([A-Z])([A-Z]?)", header.word(f"TFORM{k}"))
        if form is None or form[2] not in WIDTHS:
            raise Damaged(f"TFORM{k} is {header.word(f'TFORM{k}')!r}")
        repeat = int(form[1] or 1)
        size = -(-repeat // 8) if form[2] == "X" else repeat * WIDTHS[form[2]]
        if at + size > width:
            raise Damaged(f"the columns of the table are wider than its {width} bytes")
        name, cell = header.word(f"TTYPE{k}").upper(), table[:, at : at + size]
        if form[2] in "PQ" and repeat == 1:
            pair = np.ascontiguousarray(cell).view(">i4" if form[2] == "P" else ">i8").astype(np.int64)
            arrays[name] = np.clip(pair[:, 0], -1, 1 << 48), np.clip(pair[:, 1], -1, 1 << 48), WIDTHS.get(form[3], 1)
        elif form[2] in TYPES and repeat == 1:
            numbers[name] = np.ascontiguousarray(cell).view(TYPES[form[2]])[:, 0]
        at += size
    return rows, arrays, numbers


def _each(header: Header, numbers: dict, name: str, count: int) -> np.ndarray | None:
    """A value for each tile, from the column or the keyword of that name (section 10.1.2)."""
    if name in numbers:
        return numbers[name][:count].astype(float)
    return np.full(count, header.number(name, 0.0)) if name in header else None


def _quantum(header: Header, numbers: dict, count: int) -> Quantum | None:
    scale, zero = _each(header, numbers, "ZSCALE", count), _each(header, numbers, "ZZERO", count)
    if scale is None or header.whole("ZBITPIX", least=-64) > 0:
        return None
    method = header.word("ZQUANTIZ")
    if method not in DITHERS:
        raise Damaged(f"ZQUANTIZ must be one of {', '.join(filter(None, DITHERS))}, got {method!r}")
    return Quantum(scale, np.zeros(count) if zero is None else zero, DITHERS[method], header.whole("ZDITHER0", 1))


def _blank(header: Header, numbers: dict, count: int) -> np.ndarray | None:
    """The integer of each tile that stands for no value."""
    found = _each(header, numbers, "ZBLANK", count)
    return found if found is not None else _each(header, {}, "BLANK", count)


def _settings(header: Header) -> dict[str, int]:
    """The codec's parameters, ZNAMEi and ZVALi; those that are no whole numbers are not for the decoder."""
    found = {}
    for k in range(1, 100):
        if f"ZNAME{k}" not in header:
            break
        value = header.number(f"ZVAL{k}", 0.0) if header.word(f"ZVAL{k}") not in ("T", "F") else float(header.true(f"ZVAL{k}"))
        if value.is_integer():
            found[header.word(f"ZNAME{k}").upper()] = int(value)
    return found
