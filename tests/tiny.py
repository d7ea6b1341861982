"""A survey small enough for a test: a few bricks of 560 px with hosts of known place, in the real layout."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lib.survey import geometry

SIDE = 560
SIGMA = {"g": 0.0035, "r": 0.005, "z": 0.012}
BRICKS = ("1501p022", "1503p022", "1501p025", "1503p025", "1506p022", "1506p025")

TIER = """
name = "tiny"
seed = 7
grid = "small"
[selection]
name = "lrg"
r_min = 17.0
r_max = 21.0
gr_min = 0.5
rz_min = 0.2
[split]
nside = 1024
seed = 13
fractions = { train = 0.4, val = 0.3, test = 0.3 }
[sample]
hosts = { train = 8, val = 2, test = 2 }
configs_per_host = 6
[controls]
fraction = 0.4
paired = 0.5
tolerance = { psfsize_r_arcsec = 0.05, mag_r = 0.2, gr = 0.15 }
[gates]
small_tier = true
"""


def header(name: str, kind: str, band: str, side: int = SIDE) -> fits.Header:
    brick = geometry.by_name(name)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [brick.ra, brick.dec]
    wcs.wcs.crpix = [side / 2 + 0.5] * 2
    wcs.wcs.cd = np.array([[-1, 0], [0, 1]]) * 7.27777777777778e-5
    out = wcs.to_header()
    out["BRICKNAM"], out["IMTYPE"], out["BAND"] = name, kind, band
    return out


def write_plane(survey: Path, name: str, kind: str, band: str, data: np.ndarray) -> Path:
    path = survey / "coadd" / name[:3] / name / f"legacysurvey-{name}-{kind}{'-' + band if band else ''}.fits.fz"
    path.parent.mkdir(parents=True, exist_ok=True)
    exact = data.dtype.kind == "i"
    how = {} if exact else {"quantize_level": -1e-4, "quantize_method": 2, "dither_seed": 7} if kind == "image" else {"quantize_level": 0}
    hdu = fits.CompImageHDU(
        data, header(name, kind, band, data.shape[0]), compression_type="RICE_1" if kind == "image" or exact else "GZIP_1",
        tile_shape=(100, 100), **how,
    )  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)
    return path


def hosts(name: str, count: int, seed: int = 3):
    """(ra, dec, x, y) of hosts on a jittered grid, far from the edge."""
    rng = np.random.default_rng([seed, *name.encode()])
    per_row = int(np.ceil(np.sqrt(count)))
    step = (SIDE - 120) / per_row
    x, y = (60 + step * (k[:count] + 0.5) + rng.uniform(-9, 9, count) for k in np.divmod(np.arange(per_row**2), per_row))
    ra, dec = WCS(header(name, "image", "r")).all_pix2world(x, y, 0)
    return ra, dec, x, y


def sweep_rows(name: str, count: int) -> dict:
    brick = geometry.by_name(name)
    ra, dec, _x, _y = hosts(name, count)
    rng = np.random.default_rng([9, *name.encode()])
    r = rng.uniform(18.0, 20.5, count)
    columns = {
        "RELEASE": np.full(count, 10000, "i2"), "BRICKID": np.full(count, brick.brickid, "i4"), "BRICKNAME": np.full(count, name),
        "OBJID": np.arange(count, dtype="i4"), "TYPE": np.full(count, "DEV "), "RA": ra, "DEC": dec,
        "EBV": np.full(count, 0.05, "f4"), "MASKBITS": np.zeros(count, "i2"), "SHAPE_R": rng.uniform(0.8, 1.6, count).astype("f4"),
        "SHAPE_E1": np.full(count, 0.1, "f4"), "SHAPE_E2": np.zeros(count, "f4"),
    }  # fmt: skip
    for band, mag, dust in (("G", r + 1.2, 3.214), ("R", r, 2.165), ("Z", r - 0.6, 1.211)):
        transmission = 10 ** (-0.4 * dust * 0.05)
        columns |= {
            f"FLUX_{band}": (10 ** (-0.4 * (mag - 22.5)) * transmission).astype("f4"),
            f"MW_TRANSMISSION_{band}": np.full(count, transmission, "f4"), f"NOBS_{band}": np.full(count, 3, "i2"),
            f"FRACMASKED_{band}": np.full(count, 0.01, "f4"), f"PSFSIZE_{band}": np.full(count, 1.35, "f4"),
            f"PSFDEPTH_{band}": np.full(count, 500.0, "f4"),
        }  # fmt: skip
    return columns


def write_sweep(path: Path, columns: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = {"f": "E", "i": "J"}
    made = [
        fits.Column(
            name=k, array=v, format="D" if v.dtype == "f8" else f"{v.dtype.itemsize // 4}A" if v.dtype.kind == "U" else kinds[v.dtype.kind]
        )
        for k, v in ((k, np.asarray(v)) for k, v in columns.items())
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(path, overwrite=True)
    return path


def make(survey: Path, bricks=BRICKS, count: int = 25) -> Path:
    """Bricks with a blob for each host, white noise, a psfsize map, maskbits, and a sweep of the hosts."""
    for name in bricks:
        rng = np.random.default_rng([1, *name.encode()])
        _ra, _dec, x, y = hosts(name, count)
        yy, xx = np.mgrid[:SIDE, :SIDE]
        blobs = sum(np.exp(-0.5 * ((xx - a) ** 2 + (yy - b) ** 2) / 3.5**2) for a, b in zip(x, y, strict=True))
        for band, sigma in SIGMA.items():
            image = rng.normal(0, sigma, (SIDE, SIDE)) + 0.05 * blobs
            write_plane(survey, name, "image", band, image.astype("f4"))
            write_plane(survey, name, "invvar", band, np.full((SIDE, SIDE), sigma**-2, "f4"))
            size = 1.30 + 0.05 * ("grz".index(band)) + 0.0001 * xx
            write_plane(survey, name, "psfsize", band, size.astype("f4"))
        write_plane(survey, name, "maskbits", "", np.zeros((SIDE, SIDE), "i4"))
    rows = [sweep_rows(name, count) for name in bricks]
    write_sweep(survey / "sweep" / "10.1" / "sweep-150p000-160p005.fits", {k: np.concatenate([r[k] for r in rows]) for k in rows[0]})
    return survey
