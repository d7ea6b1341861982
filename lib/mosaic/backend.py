"""Which arrays a coadd is made with: a GPU's if there is one and it holds out, else the compiled loops.  All of a tile by one of them.

Out of memory, blocks are halved, three times at most; then, as after any other failure of the device, the whole tile is made by the loops and the
GPU is left alone for the rest of the process: the result is a CPU run's, bit for bit.
"""

import logging
import sys

import numpy as np

from lib.mosaic import arrays, resample, stack
from lib.mosaic import coadd as loops
from lib.mosaic.coadd import Settings, Source
from lib.mosaic.lattice import Lattice, Window

log = logging.getLogger(__name__)
LOOPS, CUPY = "numba", "cupy"
HALVINGS = 3
_off: list[str] = []  # why the GPU is not used any more in this process


def off() -> str:
    """Why this process does not use its GPU any more; '' if it does."""
    return _off[0] if _off else ""


def _with(lattice: Lattice, window: Window, sources: list[Source], sky, settings: Settings, xp) -> stack.Block | None:
    """The coadd on the arrays of ``xp``, or None, with one warning, if they fail."""
    shape = arrays.BLOCK
    for halved in range(HALVINGS + 1):
        try:
            return arrays.coadd(lattice, window, sources, sky, settings, xp, shape)
        except MemoryError as error:  # cupy's is one
            shape = (max(1, shape[0] // 2), shape[1])
            if halved == HALVINGS:
                _give_up(f"out of memory with blocks of {shape[0]} rows: {error}")
        except RuntimeError as error:  # what CUDA raises
            _give_up(f"{type(error).__name__}: {error}")
            break
    return None


def _give_up(why: str) -> None:
    log.warning("the GPU is not used any more, tiles are made on the CPU: %s", why)
    _off.append(why)


def on(lattice: Lattice, window: Window, sources: list[Source], sky, settings: Settings, xp) -> tuple[stack.Block, str]:
    """(coadd, backend): on ``xp`` if it is not NumPy's and holds out, else by the loops."""
    if xp is not None and not _off and settings.kernel != resample.EXACT:
        made = _with(lattice, window, sources, sky, settings, xp)
        if made is not None:
            return made, xp.__name__
    return loops.of(lattice, window, sources, sky, settings), LOOPS


def _device(device: int | None):
    """CuPy's namespace with a device chosen, or None, told once, where there is none."""
    if device is None or _off:
        return None
    try:
        import cupy

        cupy.cuda.Device(device).use()
    except (ImportError, RuntimeError) as error:
        _give_up(f"no device {device}: {error}")
        return None
    return sys.modules["cupy"]


def coadd(lattice: Lattice, window: Window, sources: list[Source], sky, settings: Settings, device: int | None) -> tuple[stack.Block, str]:
    """(coadd, backend) with the device that a task was given, if any."""
    return on(lattice, window, sources, np.asarray(sky, np.float32), settings, _device(device))
