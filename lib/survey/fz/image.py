"""An image of a FITS file, by windows."""

import functools

import numpy as np
from astropy.io import fits

from lib import jit
from lib.errors import RowError
from lib.place import Place
from lib.survey.fz import codecs, tiling
from lib.survey.fz.header import Damaged, Header
from lib.survey.fz.source import Source

UNSIGNED = {(8, -128): "i1", (16, 1 << 15): "u2", (32, 1 << 31): "u4", (64, 1 << 63): "u8"}  # by BZERO (table 11)
OF_TABLES = ("XTENSION", "BITPIX", "NAXIS", "PCOUNT", "GCOUNT", "TFIELDS", "TTYPE", "TFORM", "THEAP", "Z")


class Image:
    """The first image of two axes of a file.  Nothing is read before it is asked for; a fault of the file is told at every question."""

    def __init__(self, place: Place, name: str):
        self.source = Source(place, name)
        self._found: tuple[Header, tiling.Tiling] | None = None
        self._fault: tuple[str, str] | None = None

    def __str__(self):
        return f"{self.source.place}/{self.source.name}"

    @property
    def missing(self) -> bool:
        """Whether there is no such file; one that cannot be read is there."""
        try:
            self._open()
        except RowError as error:
            return error.code == "missing_file"
        return False

    @property
    def shape(self) -> tuple[int, int]:
        return self._open()[1].shape

    @property
    def dtype(self) -> np.dtype:
        """Of the pixels as ``windows`` gives them."""
        header, tiles = self._open()
        return _scaling(header, tiles)[0]

    def header(self) -> fits.Header:
        """The image's own cards, without those of the table that holds its tiles."""
        text = self._open()[0].text
        cards = [text[k : k + 80] for k in range(0, len(text), 80)]
        return fits.Header.fromstring("".join(card for card in cards if not card.startswith(OF_TABLES)))

    def _open(self) -> tuple[Header, tiling.Tiling]:
        if self._found is None and self._fault is None:
            try:
                self.source.open()
                self._found = tiling.find(self.source)
                _scaling(*self._found)
            except FileNotFoundError as error:
                self._fault = "missing_file", str(error)
            except Damaged as error:
                self._fault = "unreadable", f"{self}: {error}"
        if self._fault:
            raise RowError(*self._fault)
        assert self._found is not None
        return self._found

    def windows(self, x0, y0, width: int, height: int) -> tuple[np.ndarray, dict[int, RowError]]:
        """Pixels [y0, y0 + height) x [x0, x0 + width) of each pair (x0, y0), native byte order; why a window has none, and is 0."""
        header, tiles = self._open()
        x0, y0 = (np.asarray(v, np.int64) for v in (x0, y0))
        (ny, nx), (tile_h, tile_w) = tiles.shape, tiles.tile
        inside = (x0 >= 0) & (y0 >= 0) & (x0 <= nx - width) & (y0 <= ny - height)
        faults = {
            int(k): RowError("edge", f"window at ({x0[k]}, {y0[k]}) of {width} x {height} px reaches over the {nx} x {ny} px brick")
            for k in np.flatnonzero(~inside)
        }
        some = np.flatnonzero(inside)
        spans = y0[some] // tile_h, (y0[some] + height - 1) // tile_h, x0[some] // tile_w, (x0[some] + width - 1) // tile_w
        touched = _covered(tiles.grid, *spans)
        slot, pixels, wrong = self._decoded(tiles, np.flatnonzero(touched))
        bad = (touched & (slot < 0)).reshape(tiles.grid)
        for k, span in zip(some.tolist(), np.stack(spans, axis=1).tolist(), strict=True) if bad.any() else ():
            if (found := np.argwhere(bad[span[0] : span[1] + 1, span[2] : span[3] + 1])).size:
                number = int((found[0][0] + span[0]) * tiles.grid[1] + found[0][1] + span[2])
                faults[k] = RowError("unreadable", f"{self}: tile {number}: {wrong.get(number, 'its bytes are not all in the file')}")
        good = np.array([k for k in some.tolist() if k not in faults], np.int64)
        dtype, scaled = _scaling(header, tiles)
        raw = np.zeros((len(x0), height, width), tiles.dtype)
        plain = f"u{tiles.dtype.itemsize}"
        _cut(pixels.view(plain), slot.reshape(tiles.grid), tile_h, tile_w, nx, x0, y0, good, raw.view(plain))
        out = scaled(raw)
        if out is not raw and faults:
            out[list(faults)] = 0
        return out.astype(dtype, copy=False), faults

    def _decoded(self, tiles: tiling.Tiling, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
        """(row of each tile in the pixels, -1 of those that are not there; their pixels; what is wrong with a tile)."""
        held = numbers[tiles.which[numbers] >= 0]
        try:
            data, starts = self.source.gather(tiles.starts[held], tiles.sizes[held])
        except FileNotFoundError as error:
            raise RowError("missing_file", str(error)) from error
        except Damaged as error:
            raise RowError("unreadable", f"{self}: {error}") from error
        pixels, faults = codecs.decode(codecs.Stored(tiles, held, data, starts))
        slot = np.full(tiles.grid[0] * tiles.grid[1], -1)
        slot[held] = np.arange(len(held))
        wrong = {int(held[k]): why for k, why in faults.items()}
        slot[list(wrong)] = -1
        return slot, pixels, wrong


def _covered(grid: tuple[int, int], top, bottom, left, right) -> np.ndarray:
    """Which tiles of the grid lie in any of the spans, flat."""
    edges = np.zeros((grid[0] + 1, grid[1] + 1), np.int64)
    for rows, columns, sign in ((top, left, 1), (bottom + 1, right + 1, 1), (top, right + 1, -1), (bottom + 1, left, -1)):
        np.add.at(edges, (rows, columns), sign)
    return (edges.cumsum(axis=0).cumsum(axis=1)[:-1, :-1] > 0).ravel()


@jit.entry(nogil=True)
def _cut(pixels, slot, tile_h, tile_w, nx, x0, y0, some, out):
    """Copy the windows ``some`` out of the tiles that they touch."""
    height, width = out.shape[1], out.shape[2]
    for k in some:
        for row in range(height):
            y = y0[k] + row
            down, x, end = y // tile_h, x0[k], x0[k] + width
            while x < end:
                across = x // tile_w
                left = across * tile_w
                stop = min(end, left + tile_w)
                stride = min(tile_w, nx - left)
                begin = (y - down * tile_h) * stride - left
                tile = pixels[slot[down, across]]
                out[k, row, x - x0[k] : stop - x0[k]] = tile[begin + x : begin + stop]
                x = stop


def _scaling(header: Header, tiles: tiling.Tiling):
    """(the type of the pixels, their stored numbers -> physical values): BSCALE, BZERO and BLANK (FITS 4.0, section 4.4.2)."""
    scale, zero = header.number("BSCALE", 1.0), header.number("BZERO", 0.0)
    floats = tiles.dtype.kind == "f"
    blank = None if floats or "BLANK" not in header else header.whole("BLANK", least=-(1 << 63), most=1 << 63)
    if scale == 1.0 and zero == 0.0 and blank is None:
        return tiles.dtype, _same
    if (unsigned := UNSIGNED.get((8 * tiles.dtype.itemsize, int(zero) if zero.is_integer() else 0))) and scale == 1.0 and not floats:
        return np.dtype(unsigned), functools.partial(_unsigned, dtype=np.dtype(unsigned))
    dtype = tiles.dtype if floats else np.dtype("f4" if tiles.dtype.itemsize < 4 else "f8")
    return dtype, functools.partial(_physical, dtype=dtype, scale=scale, zero=zero, blank=blank)


def _same(raw: np.ndarray) -> np.ndarray:
    return raw


def _unsigned(raw: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Half the range added: the highest bit turned."""
    plain = np.dtype(f"u{dtype.itemsize}")
    return (raw.view(plain) ^ plain.type(1 << (8 * dtype.itemsize - 1))).view(dtype)


def _physical(raw: np.ndarray, dtype: np.dtype, scale: float, zero: float, blank: int | None) -> np.ndarray:
    out = raw.astype(dtype)
    if scale != 1.0:
        out *= scale
    if zero != 0.0:
        out += zero
    if blank is not None:
        out[raw == blank] = np.nan
    return out
