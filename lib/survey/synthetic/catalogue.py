"""The catalogue of a brick, with the columns of the DR10 sweeps: the truth, with small errors of measurement.

SHAPE_R is the half-light radius along the major axis, r_eff / sqrt(q) of the circularised r_eff of
``lib.lensing.sersic``.  SHAPE_E1, SHAPE_E2 are e cos 2 PA, e sin 2 PA with e = (1 - q) / (1 + q), PA east of north.
PSFDEPTH, GALDEPTH and the IVARs are inverse variances: mag = 22.5 - 2.5 log10(5 / sqrt(PSFDEPTH)).
"""

import numpy as np
from scipy.spatial import cKDTree

from lib.imaging import widths
from lib.survey.geometry import BrickGeometry
from lib.survey.synthetic import optics
from lib.survey.synthetic.coadds import Band
from lib.survey.synthetic.spec import BANDS, EXTINCTION, SIDE_PIX, SurveySpec, rng

BOX = np.arange(-3, 4)  # px around an object that the masked and covered fractions are taken of
REX_MAG = 22.0  # r, fainter than which a galaxy is fitted as round and exponential
WISE = {"W1": (2.0, 0.184), "W2": (0.6, 0.113)}  # FLUX_IVAR, and A_b / E(B-V)
REDNESS = {"lrg": 0.9, "satellite": 0.8, "star": -0.9}  # z - W1; 0.4 of the other kinds


def sample(band: Band, x, y) -> dict[str, np.ndarray]:
    """A band's maps at (and, for fractions, around) each px position, by column name."""
    rows = np.clip(np.round(y).astype(int), 0, SIDE_PIX - 1)
    columns = np.clip(np.round(x).astype(int), 0, SIDE_PIX - 1)
    box = (
        np.clip(rows[:, None, None] + BOX[:, None], 0, SIDE_PIX - 1),
        np.clip(columns[:, None, None] + BOX, 0, SIDE_PIX - 1),
    )
    lost, covered = band.lost[box], band.psfsize[box] > 0.0
    flag = np.where(band.saturated[rows, columns], 2, 1)  # 2 saturated, 1 bad
    return {
        "NOBS": band.nexp[rows, columns],
        "PSFSIZE": band.psfsize[rows, columns],
        "PSFDEPTH": band.depth[rows, columns],
        "DEPTH_NEARBY": band.depth[box].max(axis=(1, 2)),
        "FRACMASKED": lost.mean(axis=(1, 2)),
        "FRACIN": covered.mean(axis=(1, 2)),
        "ANYMASK": np.where(lost.any(axis=(1, 2)), flag, 0),
        "ALLMASK": np.where(band.lost[rows, columns], flag, 0),
    }


def extended_depth(psfdepth, psfsize_arcsec, r_eff_arcsec=0.45):
    """Inverse variance of a galaxy's flux, from a point source's; the default is what GALDEPTH means."""
    nea = (np.asarray(psfsize_arcsec) / widths.FACTOR) ** 2
    return psfdepth * nea / np.maximum(nea + 4.0 * np.pi * (0.8 * np.asarray(r_eff_arcsec)) ** 2, 1e-9)


def _types(objects, observed_mag_r) -> np.ndarray:
    n = objects["n"]
    kinds = np.where(np.abs(n - 4.0) < 0.6, "DEV", np.where(np.abs(n - 1.0) < 0.25, "EXP", "SER"))
    kinds = np.where((observed_mag_r > REX_MAG) | ((objects["q"] > 0.93) & (n < 1.5)), "REX", kinds)
    unresolved = (objects["kind"] == "star") | ((objects["r_eff"] < 0.2) & (observed_mag_r > REX_MAG))
    return np.where(unresolved, "PSF", kinds)


def _blending(objects, brick: BrickGeometry, psfsize) -> np.ndarray:
    """(objects, bands): light of the others at each object over its own, roughly the FRACFLUX columns."""
    east = (objects["ra"] - brick.ra) * np.cos(np.deg2rad(brick.dec)) * 3600.0
    position = np.stack([east, (objects["dec"] - brick.dec) * 3600.0], axis=-1)
    i, j = cKDTree(position).query_pairs(6.0, output_type="ndarray").T
    one, other = np.concatenate([i, j]), np.concatenate([j, i])
    distance2 = np.sum((position[one] - position[other]) ** 2, axis=1)
    width2 = (psfsize / 2.355) ** 2 + objects["r_eff"][other] ** 2
    light = np.zeros(objects["flux"].shape)
    np.add.at(light, one, objects["flux"][other] * np.exp(-0.5 * distance2 / width2)[:, None])
    return light / objects["flux"]


def _shapes(random, objects, types) -> dict:
    """Columns of the fitted profile, with the errors a fit makes; 0 for point sources."""
    extended, free = types != "PSF", np.isin(types, ["EXP", "DEV", "SER"])
    size = len(objects)
    q, pa = objects["q"], np.deg2rad(objects["pa"])
    e = np.where(free, (1.0 - q) / (1.0 + q), 0.0)
    r = objects["r_eff"] / np.where(free, np.sqrt(q), 1.0) * (1.0 + 0.03 * random.standard_normal(size))
    fixed = {"PSF": 0.0, "REX": 1.0, "EXP": 1.0, "DEV": 4.0}
    sersic = np.clip(objects["n"] * (1.0 + 0.05 * random.standard_normal(size)), 0.5, 6.0)
    for kind, value in fixed.items():
        sersic[types == kind] = value
    return {
        "SERSIC": sersic,
        "SHAPE_R": np.where(extended, r, 0.0),
        "SHAPE_E1": e * np.cos(2.0 * pa),
        "SHAPE_E2": e * np.sin(2.0 * pa),
    }


def _fluxes(random, objects, samples: dict[str, dict], gain: float) -> dict:
    """FLUX and FLUX_IVAR of each band: 0 where there is no coverage."""
    columns: dict = {"FLUX_I": 0.0, "FLUX_IVAR_I": 0.0}
    for i, band in enumerate(BANDS):
        s, truth = samples[band], objects["flux"][:, i]
        empty = extended_depth(s["DEPTH_NEARBY"], s["PSFSIZE"], objects["r_eff"])
        sigma = np.sqrt(1.0 / np.maximum(empty, 1e-9) + truth / gain)
        noise = np.where(empty > 0.0, sigma, 0.02 * truth) * random.standard_normal(len(truth))
        columns[f"FLUX_{band.upper()}"] = np.where(s["FRACIN"] > 0.0, truth + noise, 0.0)
        columns[f"FLUX_IVAR_{band.upper()}"] = np.where(empty > 0.0, sigma**-2, 0.0)
    redness = 0.4 + np.zeros(len(objects))
    for kind, value in REDNESS.items():
        redness[objects["kind"] == kind] = value
    for band, (ivar, _) in WISE.items():
        truth = objects["flux"][:, 2] * 10.0 ** (0.4 * (redness - (0.3 if band == "W2" else 0.0)))
        columns[f"FLUX_{band}"] = truth + random.standard_normal(len(truth)) / np.sqrt(ivar)
        columns[f"FLUX_IVAR_{band}"] = ivar
    return columns


def rows(spec: SurveySpec, brick: BrickGeometry, objects, samples: dict[str, dict], bits) -> np.ndarray:
    """The catalogue of a brick's own ``objects``: those bright enough, and covered in a band."""
    random = rng(spec, brick.name, "catalogue")
    x, y = optics.wcs(brick).all_world2pix(objects["ra"], objects["dec"], 0)
    mag = 22.5 - 2.5 * np.log10(objects["flux"][:, 1])
    types = _types(objects, mag)
    blending = _blending(objects, brick, spec.psfsize_arcsec[1])
    columns = {
        "RELEASE": np.int16(10000), "BRICKID": np.int32(brick.brickid), "BRICKNAME": np.bytes_(brick.name),
        "OBJID": objects["objid"], "TYPE": types.astype("S3"),
        "RA": objects["ra"], "DEC": objects["dec"],
        **_fluxes(random, objects, samples, spec.gain),
    }  # fmt: skip
    snr2 = np.maximum(columns["FLUX_R"], 0.0) ** 2 * columns["FLUX_IVAR_R"]
    columns |= dict.fromkeys(("RA_IVAR", "DEC_IVAR"), snr2 * (2.355 * 3600.0 / spec.psfsize_arcsec[1]) ** 2)
    columns["EBV"] = objects["ebv"]
    for i, band in enumerate(BANDS):
        name, s = band.upper(), samples[band]
        columns[f"MW_TRANSMISSION_{name}"] = 10.0 ** (-0.4 * EXTINCTION[i] * objects["ebv"])
        columns |= {f"{key}_{name}": s[key] for key in ("NOBS", "FRACMASKED", "FRACIN", "ANYMASK", "ALLMASK")}
        columns |= {f"{key}_{name}": s[key] for key in ("PSFSIZE", "PSFDEPTH")}
        columns[f"GALDEPTH_{name}"] = extended_depth(s["PSFDEPTH"], s["PSFSIZE"])
        columns[f"FRACFLUX_{name}"] = blending[:, i]
    for band, (_, extinction) in WISE.items():
        columns[f"MW_TRANSMISSION_{band}"] = 10.0 ** (-0.4 * extinction * objects["ebv"])
    columns |= _shapes(random, objects, types)
    at = np.clip(np.round([y, x]).astype(int), 0, SIDE_PIX - 1)
    columns["MASKBITS"] = bits[tuple(at)]
    columns |= {f"WISEMASK_W{i}": (columns["MASKBITS"] >> (7 + i)) & 1 for i in (1, 2)}
    columns["REF_CAT"] = np.where((objects["kind"] == "star") & (mag < 19.0), b"G3", b"  ")
    table = np.zeros(len(objects), SWEEP)
    for key in SWEEP.names or ():
        table[key] = columns[key]
    seen = np.any([samples[band]["NOBS"] + samples[band]["ALLMASK"] > 0 for band in BANDS], axis=0)
    return table[(mag < spec.catalogue_limit_mag) & seen]


def _each(stem: str, bands: str, kind: str) -> list[tuple[str, str]]:
    return [(f"{stem}_{band}", kind) for band in bands.split()]


SWEEP = np.dtype([
    ("RELEASE", "i2"), ("BRICKID", "i4"), ("BRICKNAME", "S8"), ("OBJID", "i4"), ("TYPE", "S3"),
    ("RA", "f8"), ("DEC", "f8"), ("RA_IVAR", "f4"), ("DEC_IVAR", "f4"), ("EBV", "f4"),
    *_each("FLUX", "G R I Z W1 W2", "f4"), *_each("FLUX_IVAR", "G R I Z W1 W2", "f4"),
    *_each("MW_TRANSMISSION", "G R Z W1 W2", "f4"), *_each("NOBS", "G R Z", "i2"),
    *_each("FRACFLUX", "G R Z", "f4"), *_each("FRACMASKED", "G R Z", "f4"), *_each("FRACIN", "G R Z", "f4"),
    *_each("ANYMASK", "G R Z", "i2"), *_each("ALLMASK", "G R Z", "i2"), *_each("WISEMASK", "W1 W2", "u1"),
    *_each("PSFSIZE", "G R Z", "f4"), *_each("PSFDEPTH", "G R Z", "f4"), *_each("GALDEPTH", "G R Z", "f4"),
    ("SERSIC", "f4"), ("SHAPE_R", "f4"), ("SHAPE_E1", "f4"), ("SHAPE_E2", "f4"),
    ("MASKBITS", "i4"), ("REF_CAT", "S2"),
])  # fmt: skip


def is_lrg(table) -> np.ndarray:
    """The red, bright, extended and clean rows of a catalogue: what makes a lens galaxy."""
    mags = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        for band in BANDS:
            flux = table[f"FLUX_{band.upper()}"] / table[f"MW_TRANSMISSION_{band.upper()}"]
            mags[band] = 22.5 - 2.5 * np.log10(np.where(flux > 0.0, flux, np.nan))
    seen = np.all([table[f"NOBS_{band.upper()}"] >= 1 for band in BANDS], axis=0)
    red = (mags["g"] - mags["r"] > 0.5) & (mags["r"] - mags["z"] > 0.2)
    bright = (mags["r"] > 17.0) & (mags["r"] < 21.0)
    return (np.char.strip(table["TYPE"].astype("U3")) != "PSF") & bright & red & seen & (table["FRACMASKED_G"] < 0.3)
