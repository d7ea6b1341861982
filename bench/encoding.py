"""What pixels cost in a file: ``make bench NAME=encoding``.  Bytes and CPU microseconds a row, one thread; the same rows in every encoding.

Rows are those of the demo tier on simulated bricks, as ``inject`` writes them.  ``write`` is arrays to a Parquet file in memory, ``read`` the way back.
"""

import argparse
import dataclasses
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.__main__ import main as job
from lib import encoding, parquet, reader, runs, schemas, tiers
from lib.store import Dataset

ROWS = 256
Q = 8  # steps of the quantised to the noise
NAMES = (*reader.PLANES, "mask")


@dataclasses.dataclass(frozen=True)
class Way:
    """Planes (n, ...) to an Arrow column and back, and how Parquet writes the column."""

    name: str
    pack: Callable
    unpack: Callable
    options: dict = dataclasses.field(default_factory=dict)


def cost(call: Callable, rows: int, repeats: int = 7):
    """(CPU microseconds a row, the least of some calls; what the call gives)."""
    best, made = np.inf, None
    for _ in range(repeats):
        began = time.process_time()
        made = call()
        best = min(best, time.process_time() - began)
    return best * 1e6 / rows, made


def write(column: pa.Array, options: dict) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    settings = {"use_dictionary": False, "write_statistics": False, "write_batch_size": 16, "row_group_size": ROWS}
    pq.write_table(pa.table({"x": column}), sink, **settings, **({"compression": "zstd", "compression_level": 1} | options))
    return sink.getvalue()


def read(file: pa.Buffer) -> pa.ChunkedArray:
    return pq.ParquetFile(pa.BufferReader(file)).read(use_threads=False)["x"]


# ways ----------------------------------------------------------------------------------------------------------------


def blobs(values: np.ndarray) -> pa.Array:
    return encoding.encode(np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1))


def plain(column, shape, kind=np.float32) -> np.ndarray:
    """Without a copy."""
    (chunk,) = column.chunks
    return np.frombuffer(chunk.buffers()[2], kind).reshape(len(column), *shape)


def lists(planes, fixed: bool) -> pa.Array:
    flat, pixels = pa.array(planes.reshape(-1)), planes[0].size
    return pa.FixedSizeListArray.from_arrays(flat, pixels) if fixed else pa.ListArray.from_arrays(np.arange(len(planes) + 1) * pixels, flat)


def unlisted(column, shape) -> np.ndarray:
    return column.combine_chunks().flatten().to_numpy().reshape(-1, *shape)


def half(planes) -> pa.Array:
    """Of the plane's largest value."""
    top = np.abs(planes).max(axis=tuple(range(1, planes.ndim)), keepdims=True)
    scaled = (planes / np.maximum(top, 1e-30)).astype(np.float16).reshape(len(planes), -1)
    return blobs(np.concatenate([top.reshape(-1, 1).astype(np.float32).view(np.float16), scaled], axis=1))


def unhalf(column, shape) -> np.ndarray:
    found = plain(column, (-1,), np.float16)
    return found[:, 2:].astype(np.float32).reshape(-1, *shape) * found[:, :2].copy().view(np.float32).reshape(-1, *[1] * len(shape))


def quantised(step, dither, delta: bool):
    """Whole steps after adding a dither that the reader knows, negative numbers folded in, as split int32: surveys' own way, but for their Rice code."""

    def pack(planes):
        steps = np.rint(planes / step + dither).astype(np.int32).reshape(len(planes), -1)
        steps = np.diff(steps, axis=1, prepend=np.int32(0)) if delta else steps
        return encoding.encode(((steps << 1) ^ (steps >> 31)).view(np.float32))

    def unpack(column, shape):
        folded = encoding.decode(column, (int(np.prod(shape)),)).view(np.uint32)
        steps = (folded >> np.uint32(1)).view(np.int32) ^ -(folded & np.uint32(1)).view(np.int32)
        steps = np.cumsum(steps, axis=1, dtype=np.int32) if delta else steps
        return (steps.reshape(-1, *shape) - dither) * step

    return pack, unpack


def archive(planes) -> pa.Array:
    def one(plane):
        held = io.BytesIO()
        np.savez_compressed(held, x=plane)
        return held.getvalue()

    return pa.array([one(plane) for plane in planes], pa.binary())


def unarchive(column, shape) -> np.ndarray:
    return np.stack([np.load(io.BytesIO(blob))["x"] for blob in column.to_pylist()])


def ways(name: str, planes: dict[str, np.ndarray]) -> list[Way]:
    def raw(label, **options):
        return Way(label, blobs, lambda c, s: plain(c, s, planes[name].dtype), options)

    npz = Way("npz", archive, unarchive, {"compression": "none", "compression_level": None})
    found = [
        raw("raw", compression="none", compression_level=None),
        raw("raw, zstd 1"),
        raw("raw, zstd 3", compression_level=3),
        raw("raw, lz4", compression="lz4", compression_level=None),
    ]
    found += [raw("raw, snappy", compression="snappy", compression_level=None)]
    if name == "mask":
        return [*found, npz]
    invvar = planes["invvar"]
    good = np.maximum((invvar > 0).sum((-2, -1), keepdims=True), 1)
    noise = ((invvar.sum((-2, -1), np.float64, keepdims=True) / good) ** -0.5).astype(np.float32)
    dither = np.random.default_rng(1).random(invvar.shape[1:], np.float32) - np.float32(0.5)
    found += [
        Way("split, zstd 1", encoding.encode, encoding.decode),
        Way("split, zstd 3", encoding.encode, encoding.decode, {"compression_level": 3}),
        Way("split, lz4", encoding.encode, encoding.decode, {"compression": "lz4", "compression_level": None}),
        Way("list, byte stream split, zstd 1", lambda p: lists(p, False), unlisted, {"use_byte_stream_split": True}),
        Way("fixed list, byte stream split, zstd 1", lambda p: lists(p, True), unlisted, {"use_byte_stream_split": True}),
        npz,
        Way("float16, zstd 1", half, unhalf),
        Way("rounded, zstd 1", lambda p: encoding.encode(rounded(name, planes)), encoding.decode),
    ]
    if name != "invvar":
        found += [
            Way("quantised, zstd 1", *quantised(noise / Q, dither, False)),
            Way("quantised delta, zstd 1", *quantised(noise / Q, dither, True)),
        ]
    return found


def rounded(name: str, planes) -> np.ndarray:
    """Only this plane's rounding is to be timed."""
    if name == "stamp":
        return encoding.rounded(planes["stamp"], planes["arc"][:0], planes["invvar"])[0]
    return encoding.keep_bits(planes[name], encoding.ARC_BITS if name == "arc" else encoding.INVVAR_BITS)


def measure(name: str, planes: dict[str, np.ndarray]) -> dict[str, dict]:
    mine, out = planes[name], {}
    noise = np.maximum(planes["invvar"], 1e-9) ** -0.5
    for way in ways(name, planes):
        pack, column = cost(lambda way=way: way.pack(mine), ROWS, 2 if way.name == "npz" else 7)
        store, file = cost(lambda way=way, column=column: write(column, way.options), ROWS)
        back, found = cost(lambda way=way, file=file: way.unpack(read(file), mine.shape[1:]), ROWS, 2 if way.name == "npz" else 7)
        told = {"bytes": len(file) / ROWS, "write_us": pack + store, "read_us": back}
        off = np.abs(found.astype(np.float64) - mine)
        if off.any():
            off = off / np.maximum(mine, 1e-9) if name == "invvar" else (off / noise)[planes["invvar"] > 0]
            told |= {"rms": float(np.sqrt(np.mean(off**2))), "max": float(off.max())}
        out[way.name] = told
    return out


def whole(planes: dict[str, np.ndarray], kind: str) -> dict:
    """A table of pixels alone, as the pipeline writes and reads it."""
    tier = dataclasses.replace(tiers.load("demo"), output=tiers.Output(kind))
    options = {"bands": ["grz"] * ROWS, "stamp_side_pix": [planes["mask"].shape[1]] * ROWS}

    def made():
        return pa.table(encoding.pixel_columns(*(planes[n] for n in NAMES), tier) | options)

    def stored(table):
        sink = pa.BufferOutputStream()
        settings = {"use_dictionary": ["encoding", "bands", "stamp_side_pix"], "write_statistics": False, "write_batch_size": 16}
        pq.write_table(table, sink, compression="zstd", compression_level=parquet.LEVEL, row_group_size=ROWS, **settings)
        return sink.getvalue()

    repeats = 2 if kind == "npz" else 7
    pack, table = cost(made, ROWS, repeats)
    store, file = cost(lambda: stored(table), ROWS)
    back, _ = cost(lambda: reader.batch(pq.ParquetFile(pa.BufferReader(file)).read(use_threads=False)), ROWS, repeats)
    size = sum(planes[n].nbytes for n in NAMES) / ROWS
    return {"bytes": len(file) / ROWS, "write_us": pack + store, "read_us": back, "read_gb_s": size / back / 1e3}


# files ---------------------------------------------------------------------------------------------------------------


class Counting(io.BytesIO):
    """A file in memory that counts reads and their bytes."""

    reads = read_bytes = 0

    def read(self, size=-1):
        found = super().read(size)
        self.reads, self.read_bytes = self.reads + 1, self.read_bytes + len(found)
        return found


def groups(table: pa.Table, rows: int) -> dict:
    """A file of groups of ``rows``: what counting the roles reads, what reading all pixels costs."""
    table = pa.concat_tables([table] * -(-4096 // table.num_rows)).slice(0, 4096)
    held = io.BytesIO()
    kept, parquet.LAYOUTS["stamps"] = parquet.LAYOUTS["stamps"], parquet.Layout(rows=rows, page_rows=16)
    writer = parquet.Writer(held, "stamps", {})
    writer.write(table)
    writer.close()
    parquet.LAYOUTS["stamps"] = kept
    counting = Counting(held.getvalue())
    roles, found = cost(lambda: pq.ParquetFile(counting).read(columns=["role"], use_threads=False)["role"].value_counts(), 4096, 1)
    assert len(found) > 1

    def stream():
        for batch in pq.ParquetFile(pa.BufferReader(held.getbuffer())).iter_batches(rows, use_threads=False):
            reader.batch(batch)

    return {
        "file_mb": held.getbuffer().nbytes / 1e6, "roles_reads": counting.reads, "roles_bytes": counting.read_bytes, "roles_us": roles,
        "stream_us": cost(stream, 4096, 3)[0], "group_mb": held.getbuffer().nbytes / 4096 * rows / 1e6,
    }  # fmt: skip


def stamps(folder: str, bricks: int) -> pa.Table:
    """STAMPS rows of the demo tier that were made."""
    survey, tables = f"{folder}/survey", ["--tier", "demo", "--root", folder, "--dataset", "bench"]
    steps = [["survey", "--bricks", str(bricks), "--out", survey], ["parent", "--survey", survey, *tables], ["manifest", *tables]]
    for step in [*steps, ["inject", "--survey", survey, *tables]]:
        if code := job(step):
            sys.exit(code)
    found = runs.read(Dataset.at(folder, "bench", "demo"), "stamps")
    return found.filter(pc.equal(found["status"], "ok")).combine_chunks()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bricks", type=int, default=1)
    args = parser.parse_args()
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder:
        table = stamps(folder, args.bricks)
    report(table)


def report(table: pa.Table) -> None:
    if table.num_rows < ROWS:
        sys.exit(f"{table.num_rows} stamps, {ROWS} are needed: give --bricks")
    first = table.slice(0, ROWS)
    planes = {k: v for k, v in reader.batch(first).items() if k != "made"}
    arcs = float((first["role"].to_numpy() == "injected").mean())
    print(f"{ROWS} rows, {arcs:.2f} of them with an arc; bytes and CPU us a row; errors of stamp and arc in sigma, of invvar relative")
    told = {name: measure(name, planes) for name in NAMES}
    for name, found in told.items():
        for way, f in found.items():
            error = f"  rms {f['rms']:.2g} max {f['max']:.2g}" if "rms" in f else ""
            print(f"{name:7}{way:40}{f['bytes']:9,.0f} B  write {f['write_us']:8.1f}  read {f['read_us']:7.1f}{error}")
    rows = {kind: whole(planes, kind) for kind in schemas.ENCODINGS}
    shuffled = {k: v[np.random.default_rng(2).permutation(ROWS)] for k, v in planes.items()}
    rows["split, hosts mixed"] = whole(shuffled, "split")
    for kind, f in rows.items():
        print(f"a row, {kind:20}{f['bytes']:9,.0f} B  write {f['write_us']:8.1f}  read {f['read_us']:7.1f}  {f['read_gb_s']:.2f} GB/s")
    sizes = {size: groups(table, size) for size in (64, 256, 1024)}
    for size, f in sizes.items():
        print(f"groups of {size:5}: {f['group_mb']:6.1f} MB each; roles counted with {f['roles_reads']} reads, {f['roles_bytes']:,} bytes "
              f"of {f['file_mb']:.0f} MB; streamed at {f['stream_us']:.0f} us a row")  # fmt: skip
    print(json.dumps({
        **{f"{kind.replace(', ', '_').replace(' ', '_')}_{k}": round(v, 2) for kind, f in rows.items() for k, v in f.items()},
        "stamp": {way: {k: round(v, 4) for k, v in f.items()} for way, f in told["stamp"].items()},
        "roles_bytes_share": round(sizes[256]["roles_bytes"] / sizes[256]["file_mb"] / 1e6, 6),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
