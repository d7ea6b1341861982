"""The constants of the synthetic survey, its list of bricks, and its random numbers."""

from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from lib.survey import geometry

BANDS = ("g", "r", "z")
SIDE_PIX = 3600
PIXEL_ARCSEC = 0.262
EXTINCTION = np.array([3.214, 2.165, 1.211])  # A_b / E(B-V), the surveys' own coefficients

ANCHOR = (150.125, 2.25)  # centre of the first brick; the block grows north and east from here
ROWS_NORTH = 340  # rows from the anchor to just short of the pole


@dataclass(frozen=True)
class SurveySpec:
    """How many bricks, and what is in them.  Triples are for g, r, z; fluxes are in nanomaggies (nmgy)."""

    bricks: int = 4
    seed: int = 1
    coadd_psf: bool = False  # also write the PSF at each brick's centre, 63 x 63 px

    psfsize_arcsec: tuple = (1.57, 1.36, 1.41)  # means of 44 DR10 bricks
    psfsize_scatter: float = 0.05  # brick to brick, relative
    psf_beta: tuple = (2.97, 2.84, 2.70)  # Moffat fits of coadded DR9 PSFs
    psf_contrast: float = 0.06  # relative difference of the widths of the two PSFs that a brick mixes

    psfdepth_mag: tuple = (24.81, 24.39, 23.30)  # 5 sigma, AB; of 44 DR10 bricks
    depth_scatter_mag: float = 0.10  # brick to brick
    exposures: tuple = (4, 4, 5)
    gain: float = 3e4  # electrons per nmgy of the coadd: the slope of 1/invvar with flux in DR9
    sky_rms_nmgy: tuple = (5e-5, 5e-5, 1.4e-4)  # residual sky, per px
    saturation_nmgy: float = 15.0  # a px above it is saturated: the core of a star of 16th magnitude

    lrg_per_deg2: float = 1050.0  # red hosts; satellites and field galaxies that pass as such come on top
    group_fraction: float = 0.3  # of those, with satellites 5-20" away
    field_per_deg2: float = 42_000.0  # blue galaxies down to r = 24
    star_per_deg2: float = 4_000.0
    ring_per_deg2: float = 40.0
    spiral_per_deg2: float = 60.0
    edge_on_per_deg2: float = 60.0
    merger_per_deg2: float = 40.0
    catalogue_limit_mag: float = 23.5  # r, as observed

    def __post_init__(self):
        if not 1 <= self.bricks <= ROWS_NORTH**2:
            raise ValueError(f"bricks must be 1..{ROWS_NORTH**2}, got {self.bricks}")


def rng(spec: SurveySpec, brick: str, purpose: str) -> np.random.Generator:
    """The generator for one purpose of one brick."""
    digest = blake2b(f"{spec.seed}/{brick}/{purpose}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def brick_list(spec: SurveySpec) -> list[geometry.BrickGeometry]:
    """A square block of ``spec.bricks`` bricks; a shorter list is the beginning of a longer one.

    >>> [brick.name for brick in brick_list(SurveySpec(bricks=4))]
    ['1501p022', '1503p022', '1501p025', '1503p025']
    """
    side = int(np.ceil(np.sqrt(spec.bricks)))
    cells = sorted(((i, j) for i in range(side) for j in range(side)), key=lambda c: (max(c), c))
    origin = geometry.brick_at(*ANCHOR)
    found = []
    for i, j in cells[: spec.bricks]:
        row = geometry.brick_at(ANCHOR[0], origin.dec + geometry.SIDE_DEG * i)
        found.append(geometry.by_id(row.brickid + j))
    return found


def ebv(spec: SurveySpec, ra, dec):
    """E(B-V) of the Galaxy's dust, 0.03-0.08 mag, smooth over the whole sky."""
    phases = rng(spec, "sky", "ebv").uniform(0.0, 2.0 * np.pi, (4, 2))
    value = np.full(np.shape(ra), 0.055)
    for degrees, (a, b) in zip((0.7, 1.3, 3.1, 7.0), phases, strict=True):
        value += 0.008 * np.sin(2 * np.pi * ra / degrees + a) * np.cos(2 * np.pi * dec / degrees + b)
    return np.clip(value, 0.03, 0.08)
