"""Windows of a brick's coadds, ours and others': ``make bench NAME=windows``; with PEERS=1 fitsio and imagecodecs too.

A dense brick: every tile is noise, as the survey compresses it.  Times are of the processor, all threads, the least of some
runs, the file in memory.  Requests and bytes by the gap that is read over show what a bucket would be asked.
"""

import importlib
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from lib import place
from lib.survey.fz import Image, codecs, rice, source
from lib.survey.synthetic.files import COMPRESSION, TILE

SIDE, STAMP = 3600, 64
SIGMA = 0.0025  # nanomaggies: 25 quanta, as the noise of a real coadd
GAPS = (0, 1 << 14, 1 << 16, 1 << 18, 1 << 20)


def best(call, repeats: int = 5) -> float:
    """Processor seconds, the least of a few runs after a first one that is not counted."""
    call()
    found = np.inf
    for _ in range(repeats):
        began = time.process_time()
        call()
        found = min(found, time.process_time() - began)
    return found


def planes(rng) -> dict[str, np.ndarray]:
    bits = np.zeros((SIDE, SIDE), np.int32)
    for x, y, side, bit in zip(*rng.integers(0, SIDE, (2, 400)), rng.integers(5, 60, 400), rng.integers(0, 12, 400), strict=True):
        bits[y : y + side, x : x + side] |= 1 << bit
    y, x = np.mgrid[:SIDE, :SIDE]
    return {
        "image": rng.normal(0, SIGMA, (SIDE, SIDE)).astype("f4"), "maskbits": bits,
        "psfsize": (1.3 + 0.01 * (x // 900) + 0.02 * (y // 700)).astype("f4"),
    }  # fmt: skip


def write(folder: Path, kind: str, data: np.ndarray) -> Path:
    hdu = fits.CompImageHDU(data, tile_shape=TILE, **({"dither_seed": 7} if kind == "image" else {}), **COMPRESSION[kind])
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / f"{kind}.fits.fz")
    return folder / f"{kind}.fits.fz"


def ours(folder, name, x, y, side):
    return lambda: Image(folder, name).windows(x, y, side, side)


def astropys(path, x, y, side):
    def run():
        with fits.open(path, memmap=False) as hdus:
            return np.stack([hdus[1].section[b : b + side, a : a + side] for a, b in zip(x, y, strict=True)])

    return run


def fitsios(fitsio, path, x, y, side):
    def run():
        with fitsio.FITS(str(path)) as file:
            return np.stack([file[1][b : b + side, a : a + side] for a, b in zip(x.tolist(), y.tolist(), strict=True)])

    return run


def peer(name: str):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def codec(path: Path) -> dict[str, float]:
    """Megapixels a second of the code alone, of code and floats, and of imagecodecs."""
    image = Image(place.at(path.parent), path.name)
    tiling = image._open()[1]
    numbers = np.arange(len(tiling.sizes))
    data, starts = image.source.gather(tiling.starts, tiling.sizes)
    stored = codecs.Stored(tiling, numbers, data, starts)
    counts = stored.shapes().prod(axis=1)
    integers = np.empty((len(numbers), counts.max()), np.int32)
    streams = data, starts, tiling.sizes, counts, numbers, 4, 32
    floats = integers.astype(np.float32)
    mpx = counts.sum() / 1e6
    found = {
        "rice_mpx_s": mpx / best(lambda: rice.integers(*streams, integers)),
        "rice_floats_mpx_s": mpx / best(lambda: rice.floats(*streams, *codecs._quanta(stored), floats)),
        "rice_floats_compressed_mb_s": 0.0, "bits_per_pixel": 8 * float(tiling.sizes.sum()) / counts.sum(),
    }  # fmt: skip
    found["rice_floats_compressed_mb_s"] = found["rice_floats_mpx_s"] * found["bits_per_pixel"] / 8
    if other := peer("imagecodecs"):
        tiles = [data[a : a + n].tobytes() for a, n in zip(starts, tiling.sizes, strict=True)]
        made = best(lambda: [other.rcomp_decode(t, shape=int(n), dtype=np.int32, nblock=32) for t, n in zip(tiles, counts, strict=True)], 2)
        found["imagecodecs_mpx_s"] = mpx / made
    return found


def asked(folder, name, x, y) -> None:
    """Requests and bytes of the windows, by the gap that is read over."""
    held = source.GAP
    for gap in GAPS:
        source.GAP = gap
        image = Image(folder, name)
        image.windows(x, y, STAMP, STAMP)
        print(f"  gap {gap >> 10:5d} kB: {image.source.requests:3d} requests, {image.source.bytes_read / 1e6:5.2f} MB")
    source.GAP = held


def main() -> None:
    rng, out = np.random.default_rng(1), {}
    fitsio = peer("fitsio")
    with tempfile.TemporaryDirectory() as name:
        folder, where = place.at(name), Path(name)
        paths = {kind: write(where, kind, data) for kind, data in planes(rng).items()}
        speeds = codec(paths["image"])
        print(", ".join(f"{k} {v:.1f}" for k, v in speeds.items()))
        opened = best(lambda: Image(folder, "image.fits.fz").shape, 50)
        one = best(ours(folder, "image.fits.fz", np.array([1000]), np.array([1000]), STAMP), 50)
        print(f"headers and table of a file: {1e3 * opened:.2f} ms; with one window: {1e3 * one:.2f} ms")
        for kind, count, side in (
            ("image", 60, STAMP),
            ("image", 860, STAMP),
            ("image", 1, SIDE),
            ("maskbits", 60, STAMP),
            ("psfsize", 60, 1),
        ):
            x, y = rng.integers(0, SIDE - side + 1, (2, count))
            path = paths[kind]
            calls = {"ours": ours(folder, path.name, x, y, side), "astropy": astropys(path, x, y, side)}
            if side == SIDE:
                calls["astropy"] = lambda path=path: fits.getdata(path, 1)
            if fitsio and kind != "maskbits":  # of an HCOMPRESS tile cfitsio's windows are as astropy's
                calls["fitsio"] = fitsios(fitsio, path, x, y, side)
            if not all(np.array_equal(calls["ours"]()[0].squeeze(), call().squeeze()) for who, call in calls.items() if who == "astropy"):
                raise SystemExit(f"{kind}: ours are not astropy's pixels")
            times = {who: best(call, 5 if who == "ours" or count < 100 else 1) for who, call in calls.items()}
            what = f"{kind}_{count}x{side}"
            print(
                f"{what}: "
                + ", ".join(
                    f"{who} {1e3 * t:.1f} ms" + (f" ({t / times['ours']:.1f})" if who != "ours" else "") for who, t in times.items()
                )
            )
            out |= {f"{what}_ms": round(1e3 * times["ours"], 2)}
            out |= {f"{what}_ratio_{who}": round(t / times["ours"], 1) for who, t in times.items() if who != "ours"}
            if kind == "image" and side == STAMP:
                asked(folder, path.name, x, y)
    print(
        json.dumps(
            {k: round(v, 1) for k, v in speeds.items()} | {"open_ms": round(1e3 * opened, 2), "one_window_ms": round(1e3 * one, 2)} | out
        )
    )


if __name__ == "__main__":
    main()
