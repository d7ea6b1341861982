"""Stamps as arrays, whatever their encoding: ``reader.batch(rows)["stamp"]`` of the record batches of a file or data set."""

import numpy as np
import pyarrow as pa

from lib import encoding
from lib.schemas import STAMPS

PLANES = ("stamp", "arc", "invvar")
NEEDED = ("encoding", "bands", "stamp_side_pix")


def batch(data: pa.Table | pa.RecordBatch, order=None) -> dict[str, np.ndarray]:
    """``stamp``, ``arc``, ``invvar`` (n, bands, side, side) float32, ``mask`` (n, side, side) uint8 and ``made`` (n) of STAMPS rows.

    Rows stay in their places, or come in those that ``order``, a permutation, has of them: one that was not made is NaN, 255 in the mask, and False in ``made``.  Only the planes whose columns are there are
    returned (``stamp_npz`` holds all of them); a plane of another size than its row says is a ``ValueError``.
    """
    if missing := [name for name in NEEDED if name not in data.schema.names]:
        raise ValueError(f"planes cannot be told without the columns {', '.join(missing)}")
    kind, bands, side = ("split", "", 0) if data.num_rows == 0 else (_same(name, data[name].unique().to_pylist()) for name in NEEDED)
    encoding.require_known(kind)
    shapes: dict[str, tuple[int, ...]] = {**dict.fromkeys(PLANES, (len(bands), side, side)), "mask": (side, side)}
    held = [name for name in columns(kind) if name in data.schema.names]
    if held == ["stamp_npz"]:
        found = encoding.unpack(data["stamp_npz"] if order is None else data["stamp_npz"].take(pa.array(order)), shapes)
    else:
        found = {name: _decoded(name, data[name], shapes[name], order) for name in held}
    made = np.all([data[name].is_valid() for name in held], axis=0)
    return found | {"made": made if order is None else made[order]}


def planes(row: dict) -> dict[str, np.ndarray]:
    """``batch`` of one row that was made, without the first axis.

    >>> arc = encoding.encode(np.ones((1, 3, 2, 2), np.float32))[0].as_py()
    >>> planes({"bands": "grz", "stamp_side_pix": 2, "encoding": "split", "arc": arc})["arc"].shape
    (3, 2, 2)
    """
    known = {name: pa.array([row[name]], STAMPS.field(name).type) for name in row if name in STAMPS.names}
    if lost := [name for name in known if name in columns(row.get("encoding")) and row[name] is None]:
        raise ValueError(f"no pixels in {', '.join(lost)}")
    found = batch(pa.table(known))
    return {name: values[0] for name, values in found.items() if name != "made"}


def columns(kind: str | None) -> tuple[str, ...]:
    """The columns that hold the planes in an encoding."""
    return ("stamp_npz",) if kind == "npz" else (*PLANES, "mask")


def _same(name: str, values: list):
    if len(values) != 1:
        raise ValueError(f"rows read together must have one {name}, got {sorted(values)}")
    return values[0]


def _decoded(name: str, column, shape, order) -> np.ndarray:
    try:
        return encoding.decode(column, shape, np.uint8 if name == "mask" else np.float32, order)
    except ValueError as error:
        raise ValueError(f"{name} has {error}") from error
