"""What is injected: the values of a named grid, or, for ``resolved`` tiers, Einstein radii in units of the host's PSF and sources of a prior."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib import draws
from lib.imaging import widths
from lib.tiers import Tier

SIZES = ("psfsize_r_arcsec", "brick_psfsize_r_arcsec")  # the first that is known


def unit_fwhm(tier: Tier) -> float:
    """FWHM of the tier's profile for a psfsize of 1."""
    return 1.0 if tier.psf.profile == "gaussian" else 1.0 / widths.of_unit_moffat(tier.psf.beta["r"])


def fwhm_r(piece: pa.Table, tier: Tier) -> np.ndarray:
    """FWHM in r of the PSF at each galaxy, arcsec, by the tier's profile; NaN where no size is known."""
    size = pc.coalesce(*(piece[name] for name in SIZES)).to_numpy(zero_copy_only=False).astype(float)
    return size * unit_fwhm(tier)


def values(piece: pa.Table, row, config, key, tier: Tier) -> np.ndarray:
    """(5, tasks): theta_e_arcsec, src_dmag, src_reff_arcsec, src_e, shear of injections into the galaxies in ``row``."""
    table = np.array(tier.configs())
    if tier.resolved is None:
        return table[config].T
    prior = tier.resolved

    def uniform(purpose, low=0.0, high=1.0):
        return draws.uniform(purpose, tier.seed, key, low=low, high=high)

    low, high = table[config].T
    width = fwhm_r(piece, tier)[row]
    top = prior.theta_e_max_arcsec / width
    low, high = np.minimum(low, top), np.minimum(high, top)
    theta_e = width * (low + (high - low) * uniform("theta_e over psf"))
    bright, faint = (10.0 ** (prior.counts_slope * m) for m in prior.mag_r)
    mag = np.log10(bright + (faint - bright) * uniform("source magnitude")) / prior.counts_slope
    scatter = draws.normal("source size", tier.seed, key, sigma=prior.reff_scatter_dex)
    r_eff = prior.reff_arcsec * 10.0 ** (prior.reff_slope_dex * (mag - prior.reff_mag_r) + scatter)
    host = piece["mag_r_observed"].to_numpy(zero_copy_only=False).astype(float)[row]
    return np.stack([
        theta_e, mag - host, np.clip(r_eff, *prior.reff_range_arcsec), uniform("source ellipticity", *prior.src_e),
        uniform("shear strength", *prior.shear),
    ])  # fmt: skip


def known(piece: pa.Table, tier: Tier) -> np.ndarray:
    """Galaxies of which is known what the tier's draws need."""
    if tier.resolved is None:
        return np.ones(piece.num_rows, bool)
    host = piece["mag_r_observed"].to_numpy(zero_copy_only=False).astype(float)
    widest = tier.resolved.theta_e_max_arcsec / max(low for low, _, _ in tier.resolved.strata)  # every stratum has room below theta_e_max
    return (fwhm_r(piece, tier) < widest) & np.isfinite(host)
