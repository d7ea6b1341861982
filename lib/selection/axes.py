"""What completeness is told as a function of: columns of METRICS, in bins that are the same for every data set."""

from dataclasses import dataclass

import numpy as np

from lib.errors import ConfigError
from lib.tiers import Tier


@dataclass(frozen=True)
class Axis:
    """Bins [low, high) of the sum of some columns; what lies beyond is in the outermost."""

    label: str
    columns: tuple[str, ...]
    edges: np.ndarray

    @property
    def middles(self) -> np.ndarray:
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    def bins(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """The bin of each row; -1 where a value is not known."""
        value = np.round(sum(columns[name].astype(float) for name in self.columns), 5)  # a float32 of 0.3 is 0.3
        found = np.clip(np.searchsorted(self.edges, value, side="right") - 1, 0, len(self.edges) - 2)
        return np.where(np.isfinite(value), found, -1)


def _steps(low: float, high: float, step: float) -> np.ndarray:
    return np.round(np.arange(low, high + step / 2, step), 5)


AXES = {
    "theta_e_arcsec": Axis("Einstein radius (arcsec)", ("theta_e_arcsec",), _steps(0.0, 3.0, 0.25)),
    "theta_e_over_psf": Axis("Einstein radius / PSF FWHM in r", ("theta_e_over_psf",), np.array([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3])),
    "src_dmag": Axis("source - host r (mag)", ("src_dmag",), _steps(-1.0, 8.0, 0.5)),
    "src_mag_r": Axis("source r, unlensed (mag)", ("mag_r_observed", "src_dmag"), _steps(19.0, 27.0, 0.5)),
    "src_reff_arcsec": Axis("source size (arcsec)", ("src_reff_arcsec",), np.array([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8])),
    "psf_fwhm_used_r_arcsec": Axis("PSF FWHM in r (arcsec)", ("psf_fwhm_used_r_arcsec",), _steps(0.6, 2.0, 0.1)),
    "psfdepth_r_mag": Axis("depth in r (mag)", ("psfdepth_r_mag",), _steps(22.0, 26.0, 0.25)),
}  # fmt: skip
SURFACES = tuple(("theta_e_arcsec", y) for y in AXES if not y.startswith("theta_e")) + (("theta_e_over_psf", "src_mag_r"),)
ARC_SNR, OVER_PSF = 5.0, 0.8  # the proxy: an arc this bright, and an Einstein radius of this part of the PSF
NEEDED = tuple(dict.fromkeys([*(name for axis in AXES.values() for name in axis.columns), "theta_e_over_psf", "arc_snr", "sky_cell"]))
ALL = "all"


def region_shift(tier: Tier, nside: int) -> int:
    """By how many bits a nested sky cell of the tier is cut to be one of ``nside``."""
    if nside < 1 or nside & (nside - 1) or nside > tier.split.nside:
        raise ConfigError(
            f"regions must be HEALPix cells of an nside that is a power of 2 up to the tier's {tier.split.nside}, got {nside}"
        )
    return 2 * (tier.split.nside.bit_length() - nside.bit_length())
