"""Frames as files, for the jobs: small scenes written as FITS, and a job run as a user does."""

import json
from pathlib import Path

import numpy as np
from astropy.io import fits

from lib import runs, store
from tests.mosaic import scenes

BAYER = {"R": 0, "G": 1, "B": 2}


def write(folder: Path, scene: scenes.Scene, **cards) -> Path:
    """A scene's frames as files, (ny, nx) if they have one band."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, one in enumerate(scene.frames):
        header = one.header.copy()
        header["BUNIT"] = "adu"
        header.update(cards)
        fits.PrimaryHDU(one.pixels if len(one.pixels) > 1 else one.pixels[0], header).writeto(folder / f"frame-{k:02d}.fits")
    return folder


def small(seed=1, bands=3, perfect=False) -> scenes.Scene:
    """S1 in little: nine tiles of 260 px."""
    scene = scenes.s1(seed, perfect=perfect, side=620, tile=260, step=180, number=500)
    if bands == 3:
        return scene
    frames = [scenes.Frame(f.pixels[:bands], f.header, f.shape, f.origin, f.turn, f.bend, f.truth) for f in scene.frames]
    sky = scene.sky
    return scenes.Scene(
        scene.canvas, scene.shape, scenes.Sky(sky.level[:bands], sky.nebulae, sky.x, sky.y, sky.peak[:bands], sky.sigma), frames
    )


def run(folder: Path, root: Path, recipe: str, dataset="set", more=()) -> int:
    """The exit code of ``tiles`` and ``coadd``."""
    from jobs.__main__ import main

    flags = ["--frames", str(folder), "--recipe", recipe, "--root", str(root), "--dataset", dataset, *more]
    return main(["tiles", *flags]) or main(["coadd", *flags])


def table(root: Path, recipe: str, name: str, dataset="set") -> list[dict]:
    return runs.read(store.Dataset.at(str(root), dataset, Path(recipe).stem), name).to_pylist()


def pixels(root: Path, row: dict, dataset="set") -> dict[str, np.ndarray]:
    """The layers of a tile's file, and its WCS's header."""
    with fits.open(root / dataset / row["path"]) as file:
        return {h.name: np.array(h.data) for h in file[1:]} | {"header": file[1].header.copy()}


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def config_of(root: Path, recipe: str, command: str, dataset="set") -> dict:
    found = [r for r in runs.records(store.Dataset.at(str(root), dataset, recipe)) if r["command"] == command]
    return json.loads(found[-1]["config"])
