"""The bytes of one file of a place: fetched by ranges, merged where that is cheaper than asking twice, and counted."""

import numpy as np

from lib.place import Place
from lib.survey.fz.header import Damaged

HEAD = 1 << 16  # bytes of the first request: headers and tile table of a real brick's coadd are 45 to 56 kB
GAP = (
    1 << 14
)  # bytes not needed that are read over rather than ask again, about a tile: more would soon read most of the file (bench/RESULTS.md)
SPARE = 16  # bytes that may be looked at beyond the last one fetched


class Source:
    """A file, opened at the first look.  ``requests`` and ``bytes_read`` are what it has cost so far."""

    def __init__(self, place: Place, name: str):
        self.place, self.name = place, name
        self.requests = self.bytes_read = 0
        self._at, self._near, self.size = 0, memoryview(b""), -1

    def open(self) -> None:
        self.requests += 1
        self._near, self.size = self.place.start(self.name, HEAD)
        self.bytes_read += len(self._near)

    def read(self, start: int, end: int) -> memoryview:
        """Bytes [start, end), or as many of them as the file has; those near the last ones read are already here."""
        start, end = min(start, self.size), min(end, self.size)
        if not (self._at <= start <= end <= self._at + len(self._near)):
            held = self._near[start - self._at :] if self._at <= start else memoryview(b"")
            rest = self._ask([start + len(held)], [min(self.size, max(end, start + HEAD))])[0]
            self._at, self._near = start, memoryview(bytes(held) + bytes(rest))
        return self._near[start - self._at : end - self._at]

    def gather(self, starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bytes, where in them each range begins) of ranges that lie in the file; ``SPARE`` bytes of 0 follow them."""
        if not len(starts):
            return np.zeros(SPARE, np.uint8), np.zeros(0, np.int64)
        froms, tos, span = merged(starts, starts + sizes, GAP)
        begins = np.concatenate([[0], np.cumsum(tos - froms)])
        out = np.empty(begins[-1] + SPARE, np.uint8)
        out[begins[-1] :] = 0
        here = (froms >= self._at) & (tos <= self._at + len(self._near))
        asked = iter(self._ask(froms[~here].tolist(), tos[~here].tolist()))
        for k, (start, end) in enumerate(zip(froms - self._at, tos - self._at, strict=True)):
            out[begins[k] : begins[k + 1]] = np.frombuffer(self._near[start:end] if here[k] else next(asked), np.uint8)
        return out, begins[span] + starts - froms[span]

    def _ask(self, starts: list[int], ends: list[int]) -> list[memoryview]:
        self.requests += len(starts)
        pieces = self.place.ranges(self.name, starts, ends, gap=0)
        self.bytes_read += sum(map(len, pieces))
        if [len(p) for p in pieces] != [end - start for start, end in zip(starts, ends, strict=True)]:
            raise Damaged("it changed while it was read")
        return pieces


def merged(starts: np.ndarray, ends: np.ndarray, gap: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(starts, ends, which of them holds each range) of ranges in any order, joined where at most ``gap`` bytes lie between them.

    >>> merged(np.array([50, 0, 12]), np.array([60, 10, 20]), gap=5)
    (array([ 0, 50]), array([20, 60]), array([1, 0, 0]))
    """
    order = np.argsort(starts, kind="stable")
    first, reach = starts[order], np.maximum.accumulate(ends[order])
    new = np.concatenate([[True], first[1:] > reach[:-1] + gap])
    last = np.concatenate([new[1:], [True]])
    span = np.empty(len(starts), np.int64)
    span[order] = np.cumsum(new) - 1
    return first[new], reach[last], span
