"""Planes of pixels as columns of STAMPS, and back, a batch at a time.

``split`` keeps every bit: of each plane first the lowest bytes of all its float32 numbers, then the second, third and highest ones, so that the
exponents, which hardly differ, lie together and Parquet's zstd finds them.  NumPy alone undoes it for a row:
``np.frombuffer(row["stamp"], np.uint8).reshape(4, -1).T.copy().view("<f4").reshape(3, 64, 64)``.  ``rounded`` is the same of rounded numbers,
a third of the size.  ``npz`` is one archive a row, for those who read such.  Masks are plain bytes.
"""

import io

import numpy as np
import pyarrow as pa

from lib import jit
from lib.schemas import ENCODINGS

NOISE_STEPS = 8  # rounded: a step of a stamp is at most this part of the noise
ARC_BITS = 13  # rounded: bits of an arc's mantissa; 2**-14 of a pixel is within what the gates allow
INVVAR_BITS = 8
BYTES_MAX = 2**31 - 1  # of one Arrow array of binaries


def pixel_columns(stamp, arc, invvar, mask, tier, made=None) -> dict[str, pa.Array]:
    """The columns of STAMPS that hold pixels, in the tier's encoding.

    ``stamp``, ``arc``, ``invvar`` (n, bands, side, side) float32, ``mask`` (n, side, side) uint8; rows that are not ``made`` (n) are null.
    """
    kind = tier.output.pixels
    made = np.ones(len(stamp), bool) if made is None else np.asarray(made, bool)
    planes = {"stamp": stamp, "arc": arc, "invvar": invvar, "mask": mask}
    none = pa.nulls(len(made), pa.binary())
    told = {"encoding": pa.array([kind] * len(made), pa.string())}
    if kind == "npz":
        archives = [_archive({name: p[k] for name, p in planes.items()}) if made[k] else None for k in range(len(made))]
        return told | dict.fromkeys(planes, none) | {"stamp_npz": pa.array(archives, pa.binary())}
    if kind == "rounded":
        planes["stamp"], planes["arc"], planes["invvar"] = rounded(stamp, arc, invvar)
    return told | {name: encode(p, made) for name, p in planes.items()} | {"stamp_npz": none}


def encode(planes: np.ndarray, made=None) -> pa.Array:
    """A column of ``planes`` (n, ...): float32 split into its bytes, uint8 as it is; rows that are not ``made`` are null.

    >>> encode(np.ones((1, 1, 2), np.float32))[0].as_py().hex(" ")
    '00 00 00 00 80 80 3f 3f'
    """
    if planes.dtype not in (np.float32, np.uint8):
        raise ValueError(f"planes must be float32 or uint8, got {planes.dtype}")
    here = np.ones(len(planes), bool) if made is None else np.asarray(made, bool)
    kept = np.ascontiguousarray(planes if here.all() else planes[here]).reshape(-1, int(np.prod(planes.shape[1:])))
    if kept.nbytes > BYTES_MAX:
        raise ValueError(f"{len(kept)} planes of {kept[0].nbytes} bytes do not fit into one array: give fewer rows at once")
    data = np.empty((len(kept), kept.shape[1] * kept.itemsize), np.uint8)
    if kept.dtype == np.uint8:
        data[:] = kept
    else:
        _split(kept.view(np.uint32), data.reshape(len(kept), 4, kept.shape[1]))
    offsets = np.concatenate([[0], np.cumsum(here * data.shape[1])]).astype(np.int32)
    valid = None if here.all() else pa.py_buffer(np.packbits(here, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(), len(here), [valid, pa.py_buffer(offsets), pa.py_buffer(data)])


def decode(column, shape: tuple[int, ...], kind=np.float32, order=None) -> np.ndarray:
    """(n, *shape) of a column that ``encode`` made; a null row is NaN (255 in a mask), one of another size a ``ValueError``.

    Rows come in the places that ``order``, a permutation, has of them: as ``decode(column, shape, kind)[order]`` without the copy.

    >>> decode(encode(np.float32([[1.5, -0.0]])), (2,))
    array([[ 1.5, -0. ]], dtype=float32)
    """
    pixels = int(np.prod(shape))
    out = np.empty((len(column), pixels), np.uint32 if kind == np.float32 else np.uint8)
    place = np.arange(len(column))
    if order is not None:
        place[order] = np.arange(len(column))
    row = 0
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
        chunk = chunk.cast(pa.binary())
        _valid, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets or bytes(4), np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        here = chunk.is_valid().to_numpy(zero_copy_only=False)
        sizes, size = np.diff(ends), pixels * out.itemsize
        if len(wrong := np.flatnonzero(here & (sizes != size))):
            raise ValueError(f"{sizes[wrong[0]]} bytes, not {size}, in row {row + wrong[0]}")
        _join(np.frombuffer(data or b"", np.uint8), np.where(here, ends[:-1], -1), place[row : row + len(chunk)], out)
        row += len(chunk)
    return out.view(kind).reshape(len(column), *shape)


def unpack(column, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """{plane: (n, *shape)} of a column of archives, null rows as in ``decode``."""
    blank = {name: np.uint8(255) if name == "mask" else np.float32(np.nan) for name in shapes}
    out = {name: np.full((len(column), *shape), blank[name]) for name, shape in shapes.items()}
    for row, blob in enumerate(column.to_pylist()):
        if blob is not None:
            with np.load(io.BytesIO(blob)) as archive:
                for name, shape in shapes.items():
                    if archive[name].shape != shape:
                        raise ValueError(f"{name} of the archive in row {row} is {archive[name].shape}, not {shape}")
                    out[name][row] = archive[name]
    return out


def require_known(kind: str) -> None:
    if kind not in ENCODINGS:
        raise ValueError(f"unknown encoding {kind!r}; known: {', '.join(ENCODINGS)}")


def rounded(stamp, arc, invvar):
    """The planes with no more digits than they mean: float32 whose low bits are zero, which cost nothing.

    A stamp is in steps of the power of 2 next below 1/8 of its band's noise (rms error 0.02-0.036 of the noise; dither would change nothing, as
    the noise is many steps), an arc and invvar are good to 2**-14 and 2**-9 of each pixel.
    """
    good = invvar > 0
    mean = np.where(good, invvar, 0).sum((-2, -1), np.float64, keepdims=True) / np.maximum(good.sum((-2, -1), keepdims=True), 1)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        step = np.exp2(np.floor(-0.5 * np.log2(mean) - np.log2(NOISE_STEPS))).astype(np.float32)
        steps = np.rint(stamp / step) * step
    return np.where(np.isfinite(steps), steps, stamp), keep_bits(arc, ARC_BITS), keep_bits(invvar, INVVAR_BITS)


def keep_bits(values, bits: int):
    """Float32 rounded to that many bits of mantissa, ties to even; NaN and infinities as they are.

    >>> keep_bits([1 / 3], 8)
    array([0.3330078], dtype=float32)
    """
    kept = np.array(values, np.float32, order="C")
    round_bits(kept, bits)
    return kept


def round_bits(values, bits: int) -> None:
    """``keep_bits`` in place."""
    if values.dtype != np.float32 or not values.flags.c_contiguous:
        raise ValueError("values must be contiguous float32")
    _round(values.reshape(-1).view(np.uint32), np.uint32(23 - bits))


def _archive(planes: dict[str, np.ndarray]) -> bytes:
    held = io.BytesIO()
    np.savez_compressed(held, **planes)  # type: ignore[arg-type]
    return held.getvalue()


@jit.entry()
def _round(words, drop):
    one = np.uint32(1)
    half, left = (one << (drop - one)) - one, ~((one << drop) - one)
    for k in range(len(words)):
        if words[k] & np.uint32(0x7F800000) != np.uint32(0x7F800000):
            words[k] = (words[k] + half + (words[k] >> drop & one)) & left


@jit.entry()
def _split(words, out):
    """``out`` (n, 4, pixels): the bytes of ``words`` (n, pixels), lowest first."""
    for row in range(words.shape[0]):
        for byte in range(4):
            for k in range(words.shape[1]):
                out[row, byte, k] = np.uint8((words[row, k] >> np.uint32(8 * byte)) & np.uint32(255))


@jit.entry()
def _join(data, starts, place, out):
    """Rows ``place`` of ``out`` (n, pixels), which lie in ``data`` from ``starts``; below 0, all bits are set."""
    pixels = out.shape[1]
    for row in range(len(starts)):
        at, to = starts[row], place[row]
        if at < 0:
            out[to] = ~out.dtype.type(0)
        elif out.itemsize == 1:
            out[to] = data[at : at + pixels]
        else:
            one, two, three, four = data[at:], data[at + pixels :], data[at + 2 * pixels :], data[at + 3 * pixels :]
            for k in range(pixels):
                low = np.uint32(one[k]) | np.uint32(two[k]) << np.uint32(8)
                out[to, k] = low | np.uint32(three[k]) << np.uint32(16) | np.uint32(four[k]) << np.uint32(24)
