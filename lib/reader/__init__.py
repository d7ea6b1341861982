"""Stamps as arrays, whatever their encoding: ``batch(rows)`` of rows at hand, ``Stamps(dataset, ...)`` for all of a data set, a batch at a time.

``contract`` says which columns may be relied on, ``index`` which stamps are asked for, ``stream`` gives them in the order of an epoch;
``tensors`` is the same for PyTorch, and is imported only by those who have it.
"""

from lib.reader.contract import CONTRACT
from lib.reader.decode import NEEDED, PLANES, batch, columns, planes
from lib.reader.stream import Stamps

__all__ = ["CONTRACT", "NEEDED", "PLANES", "Stamps", "batch", "columns", "planes"]
