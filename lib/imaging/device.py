"""Where arrays lie: in the host's memory (NumPy) or a GPU's (CuPy).  Code that asks here runs on both."""

import sys

import numpy as np


def namespace(*arrays):
    """The module of the arrays: cupy if any of them is on a GPU, else numpy.

    >>> namespace(np.zeros(3)).__name__
    'numpy'
    """
    cupy = sys.modules.get("cupy")  # nobody can hold a cupy array without having imported it
    return cupy.get_array_module(*arrays) if cupy else np


def put(array, xp):
    """The host's array as one of ``xp``: on the GPU if that is cupy, itself if numpy."""
    return xp.asarray(array)


def host(array) -> np.ndarray:
    """The array in the host's memory, wherever it lies."""
    return array.get() if hasattr(array, "get") else np.asarray(array)
