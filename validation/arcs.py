"""What the gates on arcs note of rows of metrics, without what judges them: workers load no renderer."""

import numpy as np

from lib.schemas import BANDS
from validation.result import Note
from validation.tally import Least, Most

RATIOS = np.linspace(-0.05, 0.05, 2002)  # of magnifications, less 1
FRACTIONS = np.linspace(0.0, 1.0, 1001)


def magnified(rows, asked):
    mine, mu = rows.arc, rows["magnification"].astype(float)
    with np.errstate(invalid="ignore"):
        below = mine & (rows["n_images"] >= 2) & (mu < 1.0)
        off = np.abs(mu / rows["magnification_expected"] - 1.0)
    known = mine & ~np.isnan(mu)
    return {
        "n": int(mine.sum()), "null": int((mine & np.isnan(mu)).sum()), "below": int(below.sum()), "least": Least(mu[known].min(initial=np.inf)),
        "examples": rows.few(below | (mine & np.isnan(mu))),
        "far": int((mine & ~(off <= asked.tier.gates.magnification_tail)).sum()),
        "off": np.histogram(np.nan_to_num(mu / rows["magnification_expected"] - 1.0, nan=1.0)[mine].clip(-0.05, 0.05), RATIOS)[0],
        "far examples": rows.few(mine & ~(off <= asked.tier.gates.magnification_tail)),
    }  # fmt: skip


MAGNIFIED = Note("magnifications", "metrics", magnified)


def colours(rows, asked):
    mine = rows.arc
    out: dict = {"n": int(mine.sum())}
    for name, (a, b) in {"src_gr": ("g", "r"), "src_rz": ("r", "z")}.items():
        with np.errstate(invalid="ignore", divide="ignore"):
            seen = -2.5 * np.log10(rows[f"flux_stamp_{a}"][mine].astype(float) / rows[f"flux_stamp_{b}"][mine])
        off = np.abs(seen - rows[name][mine])
        good = seen[np.isfinite(seen)]
        out |= {f"{name} off": Most(np.where(np.isfinite(off), off, np.inf).max(initial=-np.inf)),
                f"{name} moments": np.array([len(good), good.sum(), (good**2).sum()])}  # fmt: skip
        out[f"{name} examples"] = rows.few(_spread(mine, ~(off <= 2.5 * np.log10(1.0 + asked.tier.gates.colour_tolerance))))
    return out


def _spread(mask: np.ndarray, of_mask: np.ndarray) -> np.ndarray:
    out = np.zeros(len(mask), bool)
    out[mask] = of_mask
    return out


def resolution(rows, asked):
    ratio = rows["theta_e_over_psf"][rows.arc]
    with np.errstate(invalid="ignore"):
        return {"n": int(rows.arc.sum()), "below": int((ratio < 0.5).sum()), "above": int((ratio > 1.0).sum()), "null": int(np.isnan(ratio).sum()),
                "examples": rows.few(rows.arc & (rows["theta_e_over_psf"] < 0.5))}  # fmt: skip


def held(rows, asked):
    share, least = rows["stamp_flux_fraction"], asked.tier.gates.stamp_flux_fraction_min
    with np.errstate(invalid="ignore"):
        low = rows.arc & ~(share >= least)
    counts = np.histogram(np.nan_to_num(share[rows.arc], nan=0.0).clip(0, 1), FRACTIONS)[0]
    return {"n": int(rows.arc.sum()), "low": int(low.sum()), "counts": counts, "examples": rows.few(low)}


def encircled(profile: str, size: float, beta: float, radius_fwhm: float) -> tuple[float, float]:
    """(FWHM, share of the flux within so many of them) of the profile with a noise-equivalent size, both in closed form.

    A Moffat's area is ``pi a**2 (2 beta - 1) / (beta - 1)**2`` and its FWHM ``2 a sqrt(2**(1/beta) - 1)``; psfsize is 0.6643 times the area's root.

    >>> [round(v, 3) for v in encircled("gaussian", 1.0, 0.0, 1.0)], [round(v, 3) for v in encircled("moffat", 1.35, 2.8, 1.0)]
    ([1.0, 0.938], [1.002, 0.742])
    """
    if profile == "gaussian":
        return size, 1.0 - 2.0 ** (-4.0 * radius_fwhm**2)
    area = (size * 2.0 * np.sqrt(np.pi) / (2.0 * np.sqrt(2.0 * np.log(2.0)))) ** 2
    scale = np.sqrt(area / np.pi * (beta - 1.0) ** 2 / (2.0 * beta - 1.0))
    fwhm = 2.0 * scale * np.sqrt(2.0 ** (1.0 / beta) - 1.0)
    return float(fwhm), float(1.0 - (1.0 + (radius_fwhm * fwhm / scale) ** 2) ** (1.0 - beta))


def widths(rows, asked):
    out: dict = {"n": int(rows.made.sum())}
    for b in BANDS:
        of_size = rows.made & ~rows.isin(f"psf_source_{b}", ["coadd"])
        size, fwhm = rows[f"psfsize_used_{b}_arcsec"].astype(float), rows[f"psf_fwhm_used_{b}_arcsec"].astype(float)
        with np.errstate(invalid="ignore", divide="ignore"):
            off = fwhm / size / encircled(asked.tier.psf.profile, 1.0, asked.tier.psf.beta[b], 1.0)[0] - 1.0
        off = np.where(np.isfinite(off), np.abs(off), np.inf)
        out |= {f"{b} off": Most(off[of_size].max(initial=0.0)), f"{b} sizes": np.array([of_size.sum(), np.nansum(size[of_size])]),
                "examples": rows.few(of_size & (off > asked.tier.gates.psf_profile_tolerance)) + out.get("examples", rows.few(of_size & False))}  # fmt: skip
    return out
