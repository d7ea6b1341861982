"""Scenario S1, nine tiles with gains and offsets of their own, to one mosaic: ``make bench NAME=seams``.

Seams are steps of the residual to the truth across borders between regions that other tiles cover; gains are those solved over those put in.
``reproject_and_coadd`` gets tiles that are perfect already, and matches nothing.
"""

import argparse
import json
import time

import numpy as np
from astropy.wcs import WCS

from lib.mosaic import coadd
from tests.mosaic import scenes, seams


def errors(scene: scenes.Scene, made: seams.Made) -> np.ndarray:
    """Relative errors of the gains, beside one a band for all."""
    off = np.log(made.table.gain / np.array([one.truth["gain"] for one in scene.frames]))
    return off - off.mean(axis=0)


def judged(scene: scenes.Scene, normalise: bool = True) -> dict:
    truth = scene.sky.seen(scene.shape)
    began = time.process_time()
    made = seams.mosaic(scene, coadd.Settings(), normalise)
    seconds = time.process_time() - began
    steps = seams.steps(seams.residual(made.block.science, truth, made.sets), made.sets)
    return {
        "median": float(np.median(steps)),
        "p95": float(np.quantile(steps, 0.95)),
        "max": float(steps.max()),
        "cpu_s": seconds,
        "made": made,
    }


def reproject_seconds(scene: scenes.Scene, roundtrip: bool) -> float:
    """Processor time of ``reproject_and_coadd`` for the three bands; ``roundtrip`` is its default, without it is faster."""
    from reproject import reproject_interp
    from reproject.mosaicking import reproject_and_coadd

    began = time.process_time()
    for band in range(len(scene.frames[0].pixels)):
        tiles = [(one.pixels[band], one.wcs) for one in scene.frames]
        reproject_and_coadd(
            tiles, WCS(scene.canvas), shape_out=scene.shape, reproject_function=reproject_interp, roundtrip_coords=roundtrip
        )
    return time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser("python -m bench.seams", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--seeds", type=int, default=3, help="scenes; medians over them are told")
    parser.add_argument("--no-peers", action="store_true")
    args = parser.parse_args()
    seams.mosaic(scenes.s1(99, side=600, tile=300, step=150, number=200))  # compiled code is there
    found, gains = [], []
    for seed in range(1, args.seeds + 1):
        scene = scenes.s1(seed)
        told = judged(scene)
        off = errors(scene, told["made"])
        gains.append(off)
        found.append(told)
        print(
            f"S1, seed {seed}: seams median {told['median']:.3f}, p95 {told['p95']:.3f}, max {told['max']:.3f} ADU; gains rms {100 * off.std():.3f} %, "
            f"max {100 * np.abs(off).max():.3f} %; {told['cpu_s']:.2f} CPU-s",
            flush=True,
        )
    perfect = scenes.s1(1, perfect=True)
    clean = judged(perfect)
    floor = judged(perfect, normalise=False)
    raw = judged(scenes.s1(1), normalise=False)
    change = np.abs(clean["made"].table.gain - 1.0).max()
    offset = np.abs(clean["made"].table.offset).max()
    print(
        f"perfect tiles: |gain - 1| {100 * change:.4f} %, |offset| {offset:.3f} ADU, seams {clean['median']:.3f} / {clean['p95']:.3f} ADU"
    )
    print(f"the noise's own steps (perfect tiles, nothing solved): {floor['median']:.3f} / {floor['p95']:.3f} ADU")
    print(f"gains left in: {raw['median']:.3f} / {raw['p95']:.3f} ADU")
    ours = float(np.median([f["cpu_s"] for f in found]))
    theirs = [None, None] if args.no_peers else [reproject_seconds(perfect, roundtrip) / ours for roundtrip in (True, False)]
    print(json.dumps({
        "seam_median": round(float(np.median([f["median"] for f in found])), 3), "seam_p95": round(float(np.median([f["p95"] for f in found])), 3),
        "gain_error": float(f"{np.sqrt(np.mean(np.square(gains))):.2g}"), "gain_error_max": float(f"{np.abs(gains).max():.2g}"),
        "gain_error_perfect_tiles": float(f"{change:.2g}"), "offset_perfect_tiles": float(f"{offset:.2g}"),
        "seam_median_perfect_tiles": round(clean["median"], 3), "seam_median_unnormalised": round(raw["median"], 3),
        "cpu_s": round(ours, 2), "ratio_reproject": theirs[0] and round(theirs[0], 1),
        "ratio_reproject_no_roundtrip": theirs[1] and round(theirs[1], 1),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
