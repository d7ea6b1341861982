"""Sixteen overlapping tiles of 2000x2000 px to a mosaic of 6000x6000, beside SWarp and reproject: ``make bench NAME=coadd``.

Every code reads the same FITS files and writes image and weight as FITS, in a process of its own; what counts is processor time (user and
system), since the machine is shared, of the work alone: imports and compiled code are there.  The tiles hold noise-free stars of known flux
and place, so each mosaic is judged against the truth, not against another code.  ``--cases tan`` leaves the distorted tiles out.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lib.mosaic import coadd, image, lattice, mapping, stack
from tests.mosaic import scenes

OURS = {"bilinear": ("bilinear", "none"), "lanczos3": ("lanczos3", "none"), "clipped": ("lanczos3", "kappa_sigma")}
SWARP = {"swarp_bilinear": ("BILINEAR", "AVERAGE"), "swarp_lanczos3": ("LANCZOS3", "WEIGHTED"), "swarp_clipped": ("LANCZOS3", "CLIPPED")}
NX = 6000
SKY = 100.0
APERTURE_PIX = 12


def ours(folder: Path, engine: str) -> None:
    """Read, coadd, write: one process, one thread."""
    kernel, rejection = OURS[engine]
    header = fits.getheader(folder / "canvas.fits")
    grid = lattice.Lattice(WCS(header), (NX, NX))
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    sources = []
    for path in sorted(folder.glob("tile-*.fits")):
        with fits.open(path) as file:
            wcs, shape = WCS(file[0].header), file[0].shape

        def load(window, path=path, wcs=wcs, shape=shape):
            with fits.open(path, memmap=True) as file:
                cut = file[0].data[window.y0 : window.y1, window.x0 : window.x1]
                return image.of(cut, wcs, full=shape, origin=(window.y0, window.x0))

        found = mapping.of(grid, wcs, shape)
        assert found is not None
        sources.append(coadd.Source(path.name, found, shape, load, one, none, one))
    made = coadd.of(grid, grid.window, sources, none, coadd.Settings(kernel, stack.Rule(rejection)))
    _write(folder / f"{engine}.fits", header, made.science[0])
    _write(folder / f"{engine}.weight.fits", header, made.weight[0])


def _write(path: Path, header, pixels) -> None:
    """A plain float32 FITS file, its bytes swapped a piece at a time."""
    header = header.copy()
    header.update({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": NX, "NAXIS2": NX})
    with open(path, "wb") as out:
        out.write(_cards(header))
        for row in range(0, NX, 100):
            out.write(pixels[row : row + 100].astype(">f4").tobytes())
        out.write(b"\0" * (-(NX * NX * 4) % 2880))


def _cards(header) -> bytes:
    clean = fits.Header()
    for key in ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2"):
        clean[key] = header[key]
    clean.extend(c for c in header.cards if c.keyword not in clean)
    return clean.tostring().encode()


def reprojected(folder: Path) -> None:
    """The same by ``reproject_and_coadd``, as fast as it goes with bilinear weights."""
    from reproject import reproject_interp
    from reproject.mosaicking import reproject_and_coadd

    header = fits.getheader(folder / "canvas.fits")
    tiles = [fits.open(path)[0] for path in sorted(folder.glob("tile-*.fits"))]
    made, weight = reproject_and_coadd(
        tiles, WCS(header), shape_out=(NX, NX), reproject_function=reproject_interp, order="bilinear", roundtrip_coords=False
    )
    _write(folder / "reproject.fits", header, np.where(weight > 0, made, np.nan).astype(np.float32))
    _write(folder / "reproject.weight.fits", header, weight.astype(np.float32))


def swarped(folder: Path, engine: str) -> None:
    """SWarp with our lattice, constant weights, no sky subtraction."""
    resampling, combine = SWARP[engine]
    header = fits.getheader(folder / "canvas.fits")
    (folder / f"{engine}.head").write_text(
        "\n".join(str(c) for c in header.cards if c.keyword not in ("SIMPLE", "EXTEND")) + "\nEND     \n"
    )
    settings = {
        "IMAGEOUT_NAME": f"{engine}.fits", "WEIGHTOUT_NAME": f"{engine}.weight.fits", "WEIGHT_TYPE": "NONE", "SUBTRACT_BACK": "N",
        "COMBINE_TYPE": combine, "RESAMPLING_TYPE": resampling, "RESAMPLE_DIR": ".", "NTHREADS": "1", "VERBOSE_TYPE": "QUIET", "WRITE_XML": "N",
        "FSCALASTRO_TYPE": "NONE", "GAIN_DEFAULT": "1e6", "COMBINE_BUFSIZE": "1024", "MEM_MAX": "1024", "VMEM_MAX": "4096",
    }  # fmt: skip
    flags = [text for key, value in settings.items() for text in (f"-{key}", value)]
    tiles = [path.name for path in sorted(folder.glob("tile-*.fits"))]
    subprocess.run(["SWarp", *tiles, *flags], cwd=folder, check=True, capture_output=True)


def judged(path: Path, sky: scenes.Sky) -> tuple[float, float]:
    """(rms relative error of the stars' fluxes in 25x25 px, rms error of their windowed centroids in px), of those that lie well inside."""
    pixels = fits.getdata(path)
    fluxes, places = [], []
    for x, y, peak in zip(sky.x, sky.y, sky.peak[0], strict=True):
        i, j = round(x), round(y)
        if not (APERTURE_PIX < i < NX - APERTURE_PIX and APERTURE_PIX < j < NX - APERTURE_PIX):
            continue
        cut = pixels[j - APERTURE_PIX : j + APERTURE_PIX + 1, i - APERTURE_PIX : i + APERTURE_PIX + 1].astype(float) - SKY
        if not np.isfinite(cut).all() or (cut == -SKY).any():
            continue
        fluxes.append(cut.sum() / (2 * np.pi * sky.sigma**2 * peak) - 1.0)
        u, v = scenes.windowed_centroid(cut, sky.sigma)
        places.append((u - APERTURE_PIX + i - x) ** 2 + (v - APERTURE_PIX + j - y) ** 2)
    return float(np.sqrt(np.mean(np.square(fluxes)))), float(np.sqrt(np.mean(places)))


def measured(folder: Path, engine: str, rounds: int) -> dict:
    """CPU seconds of the best round and peak memory of one engine, and how true its mosaic is."""
    best: dict = {}
    for _ in range(rounds):
        done = subprocess.run(
            [sys.executable, "-m", "bench.coadd", "--engine", engine, "--folder", str(folder)], capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"{engine}: {done.stderr[-2000:]}")
        told = json.loads(done.stdout.splitlines()[-1])
        if not best or told["cpu_s"] < best["cpu_s"]:
            best = told
    return best


def work(folder: Path, engine: str) -> None:
    """One engine's process: what it does is timed from reading to writing."""
    if engine in OURS:
        warm()
    who = resource.RUSAGE_CHILDREN if engine in SWARP else resource.RUSAGE_SELF
    if engine == "reproject":
        from reproject import mosaicking  # noqa: F401  # not what is timed
    before, began = resource.getrusage(who), time.perf_counter()
    if engine in OURS:
        ours(folder, engine)
    elif engine in SWARP:
        swarped(folder, engine)
    else:
        reprojected(folder)
    after = resource.getrusage(who)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"cpu_s": round(cpu, 2), "wall_s": round(time.perf_counter() - began, 2), "peak_mb": round(after.ru_maxrss / 1024)}))


def warm() -> None:
    """Compile, or load, every loop on a scene of a few pixels."""
    wcs = lattice.tangent(10.0, 10.0, 1.0)
    grid = lattice.Lattice(wcs, (40, 40))
    turned = WCS(scenes.tangent((20.0, 20.0), 1.0, 5.0, (10.0, 10.0)))
    one, none, found = np.ones(1, np.float32), np.zeros(1, np.float32), mapping.of(grid, turned, (60, 60))
    assert found is not None
    pixels = image.of(np.ones((60, 60), np.float32), turned)
    for kernel, rejection in OURS.values():
        source = coadd.Source("a", found, (60, 60), lambda _: pixels, one, none, one)
        coadd.of(grid, grid.window, [source], none, coadd.Settings(kernel, stack.Rule(rejection)))


def write_scene(folder: Path, kind: str) -> scenes.Scene:
    scene = scenes.sixteen(kind)
    fits.PrimaryHDU(header=scene.canvas).writeto(folder / "canvas.fits")
    for k, one in enumerate(scene.frames):
        fits.PrimaryHDU(one.pixels[0], one.header).writeto(folder / f"tile-{k:02d}.fits")
    return scene


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.coadd", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--engine", help="one engine's own process")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--cases", default="tan,sip,tpv", help="kinds of distortion")
    parser.add_argument("--rounds", type=int, default=3, help="of ours; the peers run once")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    if args.engine:
        work(args.folder, args.engine)
        return
    have_swarp = shutil.which("SWarp") is not None
    if not have_swarp:
        print("SWarp is not installed (Debian: apt install swarp): its ratios are null")
    found: dict[tuple[str, str], dict] = {}
    for kind in args.cases.split(","):
        engines = list(OURS)
        if not args.no_peers:
            engines += ["reproject"] if kind == "tan" else []
            engines += [e for e in SWARP if have_swarp and (kind == "tan" or (kind == "tpv" and e == "swarp_lanczos3"))]  # it reads no SIP
        room = "/dev/shm" if os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 3e9 else None
        with tempfile.TemporaryDirectory(dir=room) as name:
            folder = Path(name)
            scene = write_scene(folder, kind)
            for engine in engines:
                told = measured(folder, engine, args.rounds if engine in OURS else 1)
                told["flux_error"], told["centroid_px"] = judged(folder / f"{engine}.fits", scene.sky)
                found[kind, engine] = told
                print(
                    f"{kind:4} {engine:15} cpu {told['cpu_s']:7.2f} s, wall {told['wall_s']:7.2f} s, peak {told['peak_mb']:5} MB, "
                    f"flux {told['flux_error']:.1e}, place {told['centroid_px']:.1e} px",
                    flush=True,
                )
    first = args.cases.split(",")[0]

    def ratio(peer: str, engine: str) -> float | None:
        return round(found[first, peer]["cpu_s"] / found[first, engine]["cpu_s"], 1) if (first, peer) in found else None

    mine = {key: told for key, told in found.items() if key[1] in OURS}
    print(json.dumps({
        "cpu_s_bilinear": found[first, "bilinear"]["cpu_s"], "cpu_s_lanczos3": found[first, "lanczos3"]["cpu_s"],
        "cpu_s_clipped": found[first, "clipped"]["cpu_s"], "ratio_swarp_bilinear": ratio("swarp_bilinear", "bilinear"),
        "ratio_swarp_lanczos3": ratio("swarp_lanczos3", "lanczos3"), "ratio_swarp_clipped": ratio("swarp_clipped", "clipped"),
        "ratio_reproject": ratio("reproject", "bilinear"), "flux_error": float(f"{max(t['flux_error'] for t in mine.values()):.2g}"),
        "centroid_px": float(f"{max(t['centroid_px'] for t in mine.values()):.2g}"), "peak_mb": max(t["peak_mb"] for t in mine.values()),
        "cases": args.cases,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
