"""RICE_1 tiles and quantised floats, many tiles in one compiled call.

The code (FITS 4.0, section 10.4.1; Rice, Yeh & Miller 1993): the first pixel as it is, then blocks of differences of neighbours, each block led by
the number of low bits that its differences keep, plus 1.  0 says that all differences are 0, the largest number that they are stored whole.  Others
are folded to be positive and written as a unary number, ended by a 1, and the low bits.

Nothing is believed of the bytes: a stream that does not end where its tile ends is a fault.  What is looked at lies at most 8 bytes
beyond the tile's, which must be there.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lib import jit

FINE, ENDS, WRONG, LEFT = 0, 1, 2, 3
FAULTS = {ENDS: "its bytes end too early", WRONG: "a block is of no kind", LEFT: "bytes are left over"}
PADDING = 8  # bytes at the end that a writer may have added
SEEN = 57  # bits that a look at 8 bytes shows at least
SHORT = 10  # low bits up to which four differences are mostly shorter than that
ZERO = -2147483646  # of SUBTRACTIVE_DITHER_2: a pixel of exactly 0 (section 10.2.3)
RANDOMS = 10_000
U = np.uint64


@cache
def randoms() -> np.ndarray:
    """The numbers that all writers and readers dither with (FITS 4.0, appendix I; Park & Miller 1988).

    >>> round(float(randoms()[-1]) * 2147483647 / 1e6)  # of the seed 1043618065 that the standard asks for
    1044
    """
    seed, found = 1, []
    for _ in range(RANDOMS):
        seed = 16807 * seed % 2147483647
        found.append(seed / 2147483647)
    if seed != 1043618065:
        raise AssertionError(f"the last seed is {seed}")
    return np.array(found, np.float32)


def _leading(_context, word):
    """How many of a word's leading bits are 0: 64 if all are."""

    def codegen(_target, builder, _signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


_zeros: Any = intrinsic(_leading)


@jit.plain()
def _look(data, bit):
    """The bits that follow, the first of them highest: ``SEEN`` of them are right."""
    at, word = bit >> U(3), U(0)
    for k in range(8):
        word = (word << U(8)) | U(data[at + U(k)])
    return word << (bit & U(7))


@jit.plain()
def _next(last, folded):
    """The pixel after ``last``: the difference is folded as 0, -1, 1, -2, ..."""
    return last + ((folded >> U(1)) ^ (U(0) - (folded & U(1))))


@jit.plain()
def _tile(data, start, size, count, width, block, out):
    """Decode a tile of ``count`` pixels of ``width`` bytes to ``out``; the fault found, if any."""
    head, most, whole = (5, 25, 32) if width == 4 else ((4, 14, 16) if width == 2 else (3, 6, 8))
    if size < width:
        return ENDS
    bit, end = U(start) * U(8), U(start + size) * U(8)
    last = _look(data, bit) >> U(64 - 8 * width)
    bit += U(8 * width)
    at = 0
    while at < count:
        stop = min(count, at + block)
        if bit > end:
            return ENDS
        low = np.int64(_look(data, bit) >> U(64 - head)) - 1
        bit += U(head)
        if low > most:
            return WRONG
        if low == most:
            if bit + U((stop - at) * whole) > end:
                return ENDS
            for k in range(at, stop):
                last = _next(last, _look(data, bit) >> U(64 - whole))
                bit += U(whole)
                out[k] = np.int32(last)
        elif low < 0:
            for k in range(at, stop):
                out[k] = np.int32(last)
        else:
            n, one, rest = U(low), U(1) << U(low), U(63 - low)
            k = at
            while k < stop:
                if bit > end:
                    return ENDS
                word = _look(data, bit)
                if low <= SHORT and k + 4 <= stop:  # four at once from one look, if they are all in it
                    a = _zeros(word)
                    word <<= a & U(63)
                    va = (word >> rest) - one + (a << n)
                    word <<= n + U(1)
                    b = _zeros(word)
                    word <<= b & U(63)
                    vb = (word >> rest) - one + (b << n)
                    word <<= n + U(1)
                    c = _zeros(word)
                    word <<= c & U(63)
                    vc = (word >> rest) - one + (c << n)
                    word <<= n + U(1)
                    d = _zeros(word)
                    word <<= d & U(63)
                    vd = (word >> rest) - one + (d << n)
                    used = a + b + c + d + U(4) * (n + U(1))
                    if used <= U(SEEN):
                        last = _next(last, va)
                        out[k] = np.int32(last)
                        last = _next(last, vb)
                        out[k + 1] = np.int32(last)
                        last = _next(last, vc)
                        out[k + 2] = np.int32(last)
                        last = _next(last, vd)
                        out[k + 3] = np.int32(last)
                        bit += used
                        k += 4
                        continue
                    word = _look(data, bit)
                unary, more = U(0), _zeros(word)
                while more >= U(SEEN):  # no 1 among the bits seen
                    unary += U(SEEN)
                    bit += U(SEEN)
                    if bit > end:
                        return ENDS
                    more = _zeros(_look(data, bit))
                bit += more + U(1)
                if bit > end:
                    return ENDS
                kept = _look(data, bit) >> (U(64) - n) if low else U(0)
                bit += n
                last = _next(last, ((unary + more) << n) | kept)
                out[k] = np.int32(last)
                k += 1
        at = stop
    if bit > end:
        return ENDS
    if width == 2:
        for k in range(count):
            out[k] = np.int16(out[k])
    elif width == 1:
        for k in range(count):
            out[k] = np.uint8(out[k])
    return LEFT if end - bit >= U(8 * PADDING) else FINE


@jit.plain()
def _floats(integers, count, row, scale, zero, blank, blanks, dither, random, out):
    """zero + scale * (integer - random + 0.5), in the order of appendix I; without a dither, zero + scale * integer."""
    if dither == 0:
        for k in range(count):
            out[k] = integers[k] * scale + zero
    else:
        seed = row % RANDOMS
        at, step = 0, int(random[seed] * 500)
        while at < count:
            many = min(count - at, RANDOMS - step)
            some, noise, made = integers[at : at + many], random[step : step + many], out[at : at + many]
            for k in range(many):
                made[k] = (some[k] - float(noise[k]) + 0.5) * scale + zero
            if dither == 2:
                for k in range(many):
                    if some[k] == ZERO:
                        made[k] = 0.0
            at += many
            seed = (seed + 1) % RANDOMS
            step = int(random[seed] * 500)
    if blanks:
        for k in range(count):
            if integers[k] == blank:
                out[k] = np.nan


@jit.entry(nogil=True)
def integers(data, starts, sizes, counts, which, width, block, out):
    """Decode the tiles ``which`` to their rows of ``out`` (tiles, pixels), int32; the fault of each tile."""
    faults = np.zeros(len(starts), np.int64)
    for k in which:
        faults[k] = _tile(data, starts[k], sizes[k], counts[k], width, block, out[k])
    return faults


@jit.entry(nogil=True)
def floats(data, starts, sizes, counts, which, width, block, rows, scale, zero, blank, blanks, dither, random, out):
    """As ``integers``, of quantised floats: ``rows`` begin the tiles' dithers, ``out`` is float32 or float64."""
    faults = np.zeros(len(starts), np.int64)
    scratch = np.empty(out.shape[1], np.int32)
    for k in which:
        faults[k] = _tile(data, starts[k], sizes[k], counts[k], width, block, scratch)
        if faults[k] == FINE:
            _floats(scratch, counts[k], rows[k], scale[k], zero[k], blank[k], blanks, dither, random, out[k])
    return faults


@jit.entry(nogil=True)
def unquantised(integers_, counts, which, rows, scale, zero, blank, blanks, dither, random, out):
    """The floats of tiles whose integers another codec gave."""
    for k in which:
        _floats(integers_[k], counts[k], rows[k], scale[k], zero[k], blank[k], blanks, dither, random, out[k])
