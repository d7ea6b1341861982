"""Real stamps: lens candidates of DR10 among galaxies of DES that nobody chose for being lenses."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from lib.errors import InputError
from study.pixels import middle

CANDIDATES, OTHERS = "legacysurvey-dr10-lens-cutouts", "des-background-stamps"
DES_NMGY = 10 ** (-0.4 * (30.0 - 22.5))  # nanomaggies a count: DES coadds have zero point 30


def candidates(folder: Path) -> tuple[list[str], np.ndarray]:
    """(names, stamps): arrays ``cutout`` (y, x, [g, r, z]) in nanomaggies."""
    files = sorted((folder / CANDIDATES).glob("*.npz"))
    if not files:
        raise InputError(f"no lens candidates in {folder / CANDIDATES}")
    planes = [np.moveaxis(np.load(f)["cutout"], -1, 0).astype(np.float32) for f in files]
    return [f.stem for f in files], np.stack([middle(p) for p in planes])


def others(folder: Path) -> np.ndarray:
    """Stamps of galaxies in g, r, z, made nanomaggies."""
    try:
        planes = [fits.getdata(folder / OTHERS / f"{b}.fits").astype(np.float32) for b in "grz"]
    except OSError as error:
        raise InputError(f"{folder / OTHERS}: {error}") from error
    return middle(np.stack(planes, axis=1) * np.float32(DES_NMGY))


def ranks(scores: np.ndarray, among: np.ndarray) -> list[int]:
    """Place of each score among the others': 1 is above all of them.

    >>> ranks(np.array([5.0, 1.5]), np.array([1.0, 2.0, 3.0]))
    [1, 3]
    """
    return [int((among >= s).sum()) + 1 for s in scores]
