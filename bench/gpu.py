"""Sixteen 2000x2000 px images to 6000x6000 on a GPU, over the time that its memory needs for the bytes alone: ``make bench NAME=gpu``.

Without CuPy and a device it says so, and its figures are null; ``--numpy`` runs the same code on the CPU, to see that it runs.  The bytes are those
that no implementation can spare: every input pixel read once, science, weight, coverage and rejected written once.
"""

import argparse
import json
import time

import numpy as np
from astropy.wcs import WCS

from lib.mosaic import arrays, coadd, image, lattice, mapping, stack
from tests.mosaic import scenes

CASES = {"bilinear": ("bilinear", "none"), "lanczos3": ("lanczos3", "none"), "clipped": ("lanczos3", "kappa_sigma")}
COPY_BYTES = 1 << 30


def device():
    """CuPy with a device, or None."""
    try:
        import cupy

        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except (ImportError, RuntimeError):
        return None


def seconds(xp, work) -> float:
    """The best of three, the device waited for."""
    found = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        if xp is not np:
            xp.cuda.Stream.null.synchronize()
        found.append(time.perf_counter() - began)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.gpu", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--numpy", action="store_true", help="the same code with NumPy's arrays")
    parser.add_argument("--side", type=int, default=6000, help="px of the mosaic; images are a third of it")
    args = parser.parse_args()
    xp = np if args.numpy else device()
    if xp is None:
        print("no CuPy with a device here: not measured")
        print(json.dumps({"backend": None, **{f"ratio_bandwidth_{name}": None for name in CASES}}))
        return
    scene = scenes.sixteen(side=args.side, tile=args.side // 3, step=int(args.side / 4.5))
    grid = lattice.Lattice(WCS(scene.canvas), scene.shape)
    one, none, sources = np.ones(1, np.float32), np.zeros(1, np.float32), []
    for k, frame in enumerate(scene.frames):
        held, found = image.of(frame.pixels, frame.wcs), mapping.of(grid, frame.wcs, frame.shape)
        assert found is not None
        sources.append(coadd.Source(f"{k:02d}", found, frame.shape, lambda _, held=held: held, one, none, one))
    block = xp.zeros(COPY_BYTES // 8, np.float32)
    bandwidth = COPY_BYTES / seconds(xp, block.copy)  # read once and written once
    moved = 4 * sum(frame.pixels.size for frame in scene.frames) + (4 + 4 + 2 + 2) * args.side**2
    told = {}
    for name, (kernel, rejection) in CASES.items():
        settings = coadd.Settings(kernel, stack.Rule(rejection))
        spent = seconds(xp, lambda settings=settings: arrays.coadd(grid, grid.window, sources, none, settings, xp, arrays.BLOCK))
        told[name] = spent / (moved / bandwidth)
        print(f"{xp.__name__} {name:9} {spent:.3f} s, {told[name]:.1f} times the {moved / bandwidth:.4f} s of its bytes", flush=True)
    print(
        json.dumps(
            {"backend": xp.__name__, "gb_s": round(bandwidth / 1e9, 1), **{f"ratio_bandwidth_{k}": round(v, 1) for k, v in told.items()}}
        )
    )


if __name__ == "__main__":
    main()
