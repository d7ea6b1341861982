"""Stamps a second and core, and their errors, of ours and of every installed peer: ``make bench NAME=render``.

The same tasks for all: 64x64 px, three bands with a Moffat each, theta_e 0.5-2.5", r_eff 0.1-0.5".  Seconds are CPU seconds of this
process, pinned to one core, the best of rounds in which all take turns: read the ratios; the seconds are this machine's.
"""

import os

os.environ |= dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
os.environ |= {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1", "JAX_PLATFORMS": "cpu"}
if hasattr(os, "sched_setaffinity"):  # Linux
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})  # before the libraries count the cores

import functools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

import numpy as np

from bench import peers
from lib.imaging import matrix, psf
from lib.lensing import magnification, render, shear

TASKS, CHECKED, CHECKED_ANY_N = 960, 48, 24  # drawn by ours; of these drawn by the peers, and the errors' tasks; those of any n
ROUNDS, SLOT_S = 4, 0.25  # turns, and how long one is
FLOP, BYTES = 3.5e6, 98e3  # a stamp's arithmetic, and its traffic: read once, written once
SHAPE = (32, 40, 240)  # of the largest of spectrum's products: half a stamp's rows, 40 frequencies, and in 2 parities of 3 bands
SUPERSAMPLING, FINE = (1, 3, 5, 10, 20), (5, 10, 20)  # fine: convolved on the supersampled grid
ROOT = Path(__file__).resolve().parent.parent
FIRST_CALL = f"""
import numba, numpy as np, scipy.special, scipy.ndimage, time
began = time.process_time()
from lib.imaging import psf
from lib.lensing import render
scene = render.Scene(31.5, 31.5, 1.0, 0.7, 0.3, 0.05, 0.2, 0.3, 0.1, 1.0, 0.2, 0.6, 1.0)
render.draw(scene, np.ones((1, 3)), [[psf.Moffat(1.2, 3.5)] * 3], {peers.SIDE}, {peers.PIXEL})
print(time.process_time() - began)
"""


@dataclass
class Code:
    """One code at one setting: how it draws, and what was measured."""

    name: str
    draw: peers.Draw
    tasks: dict
    batch: int  # tasks to draw at a time
    lensed: bool = True
    rate: float = 0.0
    flux: np.ndarray = field(default_factory=lambda: np.full(3, np.nan))  # percentiles 50, 95, 99
    pixel: np.ndarray = field(default_factory=lambda: np.full(3, np.nan))

    def timed(self) -> float:
        """Stamps a second, over whole batches of the first tasks, for as long as a turn lasts."""
        done, began = 0, process_time()
        while done == 0 or process_time() - began < SLOT_S:
            start = done % len(self.tasks["x_pix"])
            self.draw(peers.first(self.tasks, self.batch, start))
            done += self.batch
        return done / (process_time() - began)

    def check(self, true_stamps, true_flux) -> None:
        """Measure, a task, the error of the unconvolved flux, and of the worst pixel over its band's peak."""
        steps = [slice(k, k + self.batch) for k in range(0, len(true_flux), self.batch)]
        tasks = peers.first(self.tasks, len(true_flux))
        drawn = [self.draw({k: v[step] for k, v in tasks.items()}) for step in steps]
        stamps, flux = (np.concatenate(v) for v in zip(*drawn, strict=True))
        pixel = np.abs(stamps - true_stamps).max(axis=(2, 3)) / true_stamps.max(axis=(2, 3))
        self.flux = np.percentile(np.abs(flux / true_flux - 1.0), (50, 95, 99))
        self.pixel = np.percentile(pixel.max(axis=1), (50, 95, 99))

    def figures(self) -> dict:
        """For the JSON line."""
        named = {"flux_error": self.flux, "pixel_error": self.pixel}
        found = {f"{k}_{p}": significant(x) for k, v in named.items() for p, x in zip(("p50", "p95", "p99"), v, strict=True)}
        return {"stamps_per_s_core": significant(self.rate)} | (found if self.lensed else {})


def ours(tasks: dict, with_pixel: bool = False):
    psfs = [[psf.Moffat(fwhm, peers.BETA, with_pixel) for fwhm in peers.BANDS]] * len(tasks["x_pix"])
    return render.draw(render.Scene(**tasks), np.ones((len(psfs), len(peers.BANDS))), psfs, peers.SIDE, peers.PIXEL)


def our_codes() -> dict[str, Code]:
    """By what is drawn; ``optical`` has the peers' kind of PSF."""
    tasks = peers.draw_tasks(TASKS, 2)
    small = peers.draw_tasks(TASKS, 3, theta_e=(0.5, 0.5), r_eff=(0.1, 0.1))
    large = peers.draw_tasks(TASKS, 4, theta_e=(2.5, 2.5), r_eff=(0.5, 0.5))
    drawn = {"n=1": tasks, "optical PSF": tasks, "any n": peers.draw_tasks(TASKS, 5, n=(0.5, 4.0)), "smallest": small, "largest": large}
    optical = functools.partial(ours, with_pixel=True)
    return {k: Code(f"arcmill, {k}", optical if k == "optical PSF" else ours, v, TASKS) for k, v in drawn.items()}


def peer_codes(tasks: dict) -> tuple[list[Code], list[str]]:
    """Those that are installed, and the names of the others."""
    wanted: list[tuple[Callable[..., peers.Draw], tuple]] = [(peers.jaxtronomy, (s,)) for s in SUPERSAMPLING]
    wanted += [(peers.caustics, (s,)) for s in SUPERSAMPLING[:-1]] + [(peers.lenstronomy, (s,)) for s in SUPERSAMPLING]
    wanted += [(peers.jaxtronomy, (s, True)) for s in FINE[:-1]] + [(peers.lenstronomy, (s, True)) for s in FINE]
    found, missing = [], set()
    for make, setting in [*wanted, (peers.galsim, ())]:
        name = make.__name__
        label = f"{name} {setting[0]}{' fine' * (len(setting) - 1)}" if setting else f"{name}, unlensed"
        try:
            found.append(Code(label, make(*setting), tasks, peers.batch(*setting[:1]) if setting else CHECKED, lensed=bool(setting)))
        except ImportError:
            missing.add(name)
    return found, sorted(missing)


def rates(codes: list[Code]) -> None:
    """Every code's best turn: they take turns, so that what else the machine does hits all alike."""
    for _ in range(ROUNDS):
        for code in codes:
            code.rate = max(code.rate, code.timed())


def limits() -> dict[str, float]:
    """This core's own: GFLOP/s of numpy's matrix product and of ours at a stamp's shape, GB/s of a copy, and stamps/s of both."""
    rows, inner, columns = SHAPE
    square = np.ones((512, 512), np.float32)
    a, b, out = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32), np.empty((rows, columns), np.float32)
    big, copy = np.ones(2**25, np.float32), np.ones(2**25, np.float32)
    peak = 2 * 512**3 / seconds(lambda: square @ square)
    product = 2 * rows * inner * columns / seconds(lambda: matrix.product(a, b, out, rows, inner, columns))
    bandwidth = 2 * big.nbytes / seconds(lambda: np.copyto(copy, big))
    return {
        "sgemm_gflops": round(peak / 1e9, 1), "product_gflops": round(product / 1e9, 1), "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "limit_stamps_per_s": round(1 / max(FLOP / peak, BYTES / bandwidth)),
    }  # fmt: skip


def seconds(call, turns: int = 30) -> float:
    """The least of a few turns of about 20 ms."""
    call()
    found = []
    for _ in range(turns):
        count, began = 0, process_time()
        while count == 0 or process_time() - began < 0.02:
            call()
            count += 1
        found.append((process_time() - began) / count)
    return min(found)


def first_calls() -> dict[str, float]:
    """Seconds to import the renderer and draw one stamp, in new processes: nothing compiled yet, and from the cache."""
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for kind in ("cold", "cached"):
            env = os.environ | {"NUMBA_CACHE_DIR": cache}
            done = subprocess.run([sys.executable, "-c", FIRST_CALL], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            found[kind] = round(float(done.stdout), 2)
    return found


def rays(tasks: dict, flux) -> float:
    """Largest difference of the truth's fluxes from those of an independent method."""
    t = peers.first(tasks, len(flux))
    lens = (t["theta_e_arcsec"], t["lens_q"], t["lens_phi_rad"], *shear.components(t["shear"], t["shear_phi_rad"]))
    source = (t[k] for k in ("src_x_arcsec", "src_y_arcsec", "src_n", "src_reff_arcsec", "src_q", "src_phi_rad"))
    return float(np.abs(flux / magnification.of_source(*lens, *source) - 1.0).max())


def nearest(codes: list[Code], mine: Code) -> Code:
    """The fastest of the codes whose flux error is the nearest to ours (or no more than a tenth above that one's)."""
    best = min(codes, key=lambda c: abs(np.log(c.flux[2] / mine.flux[2])))
    return max((c for c in codes if c.flux[2] <= 1.1 * best.flux[2]), key=lambda c: c.rate)


def shortfall(code: Code, mine: Code) -> float:
    """How many times ours the worse of a code's two errors is; 1 where both are as small."""
    return max(1.0, code.flux[2] / mine.flux[2], code.pixel[2] / mine.pixel[2])


def as_good(codes: list[Code], mine: Code) -> Code:
    """The fastest of the codes as accurate as ours in both errors, else the one closest to it."""
    return min(codes, key=lambda c: (shortfall(c, mine), -c.rate))


def table(codes: list[Code], mine: Code, missing: list[str]) -> None:
    print(f"{'code':22s} {'stamps/s':>9s} {'ours / it':>9s}  flux error p50, p95, p99    pixel error p50, p95, p99")
    for code in codes:
        figures = "" if np.isnan(code.flux[0]) else " ".join(f"{v:8.1e}" for v in (*code.flux, *code.pixel))
        print(f"{code.name:22s} {code.rate:9.1f} {mine.rate / code.rate:9.1f} {figures}".rstrip())
    for name in missing:
        print(f"{name:22s} not installed")
    print(
        f"errors: of {CHECKED} tasks, {CHECKED_ANY_N} of any n (0.5-4); smallest: theta_e 0.5, r_eff 0.1; largest: theta_e 2.5, r_eff 0.5"
    )
    print("a number: samples a pixel and axis; fine: convolved on the supersampled grid; unlensed: no lens, so no error")


def summary(mine: dict[str, Code]) -> dict[str, float]:
    """Our own figures; an error is the worse of those with the two kinds of PSF."""
    n1, optical, any_n, small, large = (mine[k] for k in ("n=1", "optical PSF", "any n", "smallest", "largest"))
    print(f"cost follows the arc: the smallest are {small.rate / large.rate:.1f} times as fast as the largest")
    return {
        "stamps_per_s_core": round(n1.rate), "stamps_per_s_core_any_n": round(any_n.rate),
        "flux_error_p99": significant(max(n1.flux[2], optical.flux[2])), "pixel_error_p99": significant(max(n1.pixel[2], optical.pixel[2])),
        "flux_error_p99_any_n": significant(any_n.flux[2]), "pixel_error_p99_any_n": significant(any_n.pixel[2]),
        "stamps_per_s_core_smallest": round(small.rate), "stamps_per_s_core_largest": round(large.rate),
    }  # fmt: skip


def ratios(lensed: list[Code], mine: Code) -> dict[str, float | None]:
    """Ours, drawn with their kind of PSF, over the peers'; null where there is none."""
    theirs = [c for c in lensed if c.name.startswith("lenstronomy")]
    chosen = {
        "ratio_best_peer": nearest(lensed, mine) if lensed else None,
        "ratio_lenstronomy_equal_accuracy": as_good(theirs, mine) if theirs else None,
        "ratio_lenstronomy_nearest_flux": nearest(theirs, mine) if theirs else None,
    }
    for name, c in chosen.items():
        if c:
            off = f"its errors {c.flux[2] / mine.flux[2]:.1f} (flux) and {c.pixel[2] / mine.pixel[2]:.1f} (pixel) times ours"
            print(f"{name}: {mine.rate / c.rate:.0f}, against {c.name}, {off}")
    return {name: significant(mine.rate / c.rate) if c else None for name, c in chosen.items()}


def core(mine: Code) -> dict[str, float]:
    machine = limits()
    share = mine.rate / machine["limit_stamps_per_s"]
    print(f"this core: {machine['sgemm_gflops']} GFLOP/s, our product {machine['product_gflops']}; copy {machine['copy_gb_per_s']} GB/s")
    limit = f"{machine['limit_stamps_per_s']} stamps/s of {FLOP / 1e6} MFLOP and {BYTES / 1e3:.0f} KB"
    print(f"its limit: {limit}; ours is {share:.0%} of that")
    return machine | {"share_of_limit": significant(share)}


def significant(value: float) -> float:
    """Three figures."""
    return float(f"{value:.3g}")


def main() -> None:
    first_call = first_calls()
    mine = our_codes()
    n1, any_n, optical = (mine[k] for k in ("n=1", "any n", "optical PSF"))
    others, missing = peer_codes(peers.first(n1.tasks, CHECKED))
    lensed = [c for c in others if c.lensed]
    stamps, flux = peers.truth(peers.first(n1.tasks, CHECKED))
    n1.check(stamps[False], flux)
    for code in (optical, *lensed):
        code.check(stamps[True], flux)
    stamps, flux_any_n = peers.truth(peers.first(any_n.tasks, CHECKED_ANY_N))
    any_n.check(stamps[False], flux_any_n)
    rates([*mine.values(), *others])
    off = max(rays(n1.tasks, flux), rays(any_n.tasks, flux_any_n))
    print(f"truth: brute force; its fluxes are within {off:.0e} of an independent method's")
    table([*mine.values(), *others], optical, missing)
    found = summary(mine) | ratios(lensed, optical) | core(n1)
    print(f"first call: {first_call['cold']:.1f} s with nothing compiled, {first_call['cached']:.1f} s from the cache")
    print(json.dumps(found | {"first_call_s": first_call, "peers": {c.name: c.figures() for c in others}}))


if __name__ == "__main__":
    main()
