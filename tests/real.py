"""Real survey pixels in the survey's layout: a DR9 cutout put back where it was cut from its brick, with a catalogue of its own.

Run ``python -m tests.real CUTOUT_FOLDER OUT`` to make a survey folder that ``make demo SURVEY=OUT TIER=tests/real.toml`` takes.
"""

import sys
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lib.imaging import psf
from lib.survey import geometry
from tests import tiny

BRICK, SIDE, EBV = "0591m305", 3600, 0.0075
DUST = {"g": 3.214, "r": 2.165, "z": 1.211}


def planes(folder: Path) -> dict[tuple[str, str], fits.ImageHDU]:
    """The cutout's HDUs by (kind, band): they have no names."""
    with fits.open(next(folder.glob("cutout_*.fits"))) as hdus:
        return {(h.header["IMAGETYP"].strip(), h.header["BAND"].strip()): h.copy() for h in hdus[1:]}


def kernels(folder: Path) -> dict[str, np.ndarray]:
    with fits.open(next(folder.glob("copsf_*.fits"))) as hdus:
        return {h.header["BAND"].strip(): h.data.astype(float) for h in hdus}


def make(folder: Path, survey: Path, *, coadd_psf: bool) -> Path:
    """A survey folder with one brick; its PSF as coadd images, or as psfsize maps of the same noise-equivalent area."""
    cut, psfs = planes(folder), kernels(folder)
    for (kind, band), hdu in cut.items():
        x0, y0 = hdu.header["BRICK_X0"], hdu.header["BRICK_Y0"]
        data = np.zeros((SIDE, SIDE), np.float32)
        data[y0 : y0 + 256, x0 : x0 + 256] = hdu.data
        _write(survey, kind, band, data)
    for band, kernel in psfs.items():
        if coadd_psf:
            tiny.write_plane(survey, BRICK, "copsf", band, kernel.astype("f4"))
        else:
            size = psf.size(psf.Pixelised(kernel), 0.262)
            _write(survey, "psfsize", band, np.full((SIDE, SIDE), size, np.float32))
    catalogue = detect({b: cut["image", b].data for b in "grz"}, {b: cut["invvar", b].data for b in "grz"}, WCS(cut["image", "r"].header))
    tiny.write_sweep(survey / "sweep" / "10.1" / "sweep-050m035-060m030.fits", catalogue)
    return survey


def _write(survey: Path, kind: str, band: str, data: np.ndarray) -> None:
    tiny.write_plane(survey, BRICK, kind, band, data)


def detect(images: dict, invvars: dict, wcs: WCS) -> dict:
    """Sources of the r image by sep: places, total fluxes in matched ellipses, half-light radii; stars by their size."""
    import sep

    r = np.ascontiguousarray(images["r"], dtype=float)
    sigma = 1 / np.sqrt(np.median(invvars["r"][invvars["r"] > 0]))
    found = sep.extract(r, 2.5, err=sigma, minarea=8, deblend_cont=0.003)
    found = found[(found["flag"] & 1) == 0]
    x, y, a, b, theta = (found[k] for k in ("x", "y", "a", "b", "theta"))
    radius, _ = sep.kron_radius(r, x, y, a, b, theta, 6.0)
    radius = np.clip(np.nan_to_num(radius, nan=2.5), 1.5, 4.0)
    flux = {k: sep.sum_ellipse(np.ascontiguousarray(v, dtype=float), x, y, a, b, theta, 2.0 * radius)[0] for k, v in images.items()}
    half, _ = sep.flux_radius(r, x, y, 6.0 * a, 0.5, normflux=flux["r"], subpix=5)
    ra, dec = wcs.all_pix2world(x, y, 0)
    count = len(x)
    seeing = 1.25 / 2 / 0.262  # half-light radius of a star, px
    brick = geometry.by_name(BRICK)
    out = {
        "RELEASE": np.full(count, 9010, "i2"), "BRICKID": np.full(count, brick.brickid, "i4"), "BRICKNAME": np.full(count, BRICK),
        "OBJID": np.arange(count, dtype="i4"), "TYPE": np.where(half < 1.15 * seeing, "PSF", "SER").astype("U4"), "RA": ra, "DEC": dec,
        "EBV": np.full(count, EBV, "f4"), "MASKBITS": np.zeros(count, "i2"),
        "SHAPE_R": (np.sqrt(np.clip(half**2 - seeing**2, 0.1, None)) * 0.262).astype("f4"),
        "SHAPE_E1": np.zeros(count, "f4"), "SHAPE_E2": np.zeros(count, "f4"),
    }  # fmt: skip
    for band in "grz":
        name = band.upper()
        weight = invvars[band][np.clip(np.round(y).astype(int), 0, 255), np.clip(np.round(x).astype(int), 0, 255)]
        out |= {
            f"FLUX_{name}": flux[band].astype("f4"), f"MW_TRANSMISSION_{name}": np.full(count, 10 ** (-0.4 * DUST[band] * EBV), "f4"),
            f"NOBS_{name}": np.full(count, 5, "i2"), f"FRACMASKED_{name}": np.where(weight > 0, 0.0, 1.0).astype("f4"),
            f"PSFSIZE_{name}": np.zeros(count, "f4"), f"PSFDEPTH_{name}": (weight / 20.0).astype("f4"),
        }  # fmt: skip
    return out


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), coadd_psf="--psfsize" not in sys.argv[3:])
