"""A worker's Python between two tasks.

Spark's daemon collects all garbage after each task, and has the import system read all archives on the path again before each: with
numba and astropy loaded that is a tenth of a second each, whatever the task does (``make bench NAME=overhead``).
"""

import gc
import sys
import zipimport

import pyarrow as pa

# Arrow's own allocator gives memory back at once, and the system gives it anew, page by page: reading a table took 1.5 times as long
pa.set_memory_pool(pa.system_memory_pool())
_settled = 0  # modules that were loaded then


def settle() -> None:
    """Set what lives as long as the process aside from garbage collection, and forget readers of archives, which do not change while it lives.

    For the end of a task, in a worker only: garbage that is there when new modules have come stays.
    """
    global _settled
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimport.zipimporter):
            del sys.path_importer_cache[path]
    if len(sys.modules) != _settled:
        gc.collect()
        gc.freeze()
        _settled = len(sys.modules)
