"""Stamps as arrays: the one place that knows how planes are stored."""

import numpy as np

PLANES = ("stamp", "arc", "invvar")


def planes(row: dict) -> dict[str, np.ndarray]:
    """``stamp``, ``arc``, ``invvar`` (bands, side, side) float32 and ``mask`` (side, side) uint8 of a STAMPS row.

    Only the columns that the row has are returned; a plane of another size than the row says is a ``ValueError``.

    >>> row = {"bands": "grz", "stamp_side_pix": 2, "arc": np.ones((3, 2, 2), np.float32).tobytes()}
    >>> planes(row)["arc"].shape
    (3, 2, 2)
    """
    side = row["stamp_side_pix"]
    shape = (len(row["bands"]), side, side)
    found = {}
    for name, kind, size in (*((p, np.float32, shape) for p in PLANES), ("mask", np.uint8, shape[1:])):
        if name not in row:
            continue
        values = np.frombuffer(row[name] or b"", kind)
        if values.size != np.prod(size):
            raise ValueError(f"{name} has {values.size} pixels, not {int(np.prod(size))}")
        found[name] = values.reshape(size)
    return found
