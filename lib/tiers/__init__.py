"""Recipes of data sets: ``load("demo")`` reads ``demo.toml`` into frozen dataclasses.

What the data are is said here; how much iron makes them is in ``infra``, where things are is in the flags.
"""

import itertools
import tomllib
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path

import pyarrow as pa

from lib import config
from lib.errors import ConfigError
from lib.schemas import BANDS, ENCODINGS, PARENT, SPLITS

CONTROLS = ("paired", "unpaired", "both")
RESOLVED = "resolved"  # the grid that is none
SLOTS = 20  # configs of a resolved tier: its quotas are multiples of 1/SLOTS
COLOURS = {"gr": ("mag_g", "mag_r"), "rz": ("mag_r", "mag_z")}
MATCHED = (*COLOURS, *(f.name for f in PARENT if pa.types.is_floating(f.type)))  # what unpaired controls may be matched on
PIXEL_ARCSEC = 0.262  # of the Legacy Surveys: where parents are made no image is at hand whose WCS would say


def _sum(values) -> str:
    return " + ".join(f"{value:g}" for value in values) or "none"


@dataclass(frozen=True)
class Selection:
    """Cuts on a catalogue row; magnitudes are corrected for extinction."""

    name: str
    r_min: float
    r_max: float
    gr_min: float
    rz_min: float
    nobs_min: int = 1
    fracmasked_g_max: float = 0.3
    dec_max_deg: float = 32.0
    not_psf: bool = True
    exclude_maskbits: tuple[int, ...] = (1, 2, 3, 4, 10, 11)  # bits: BRIGHT, SATUR g/r/z, BAILOUT, MEDIUM


@dataclass(frozen=True)
class KnownLenses:
    """How far parents keep from the lenses of the lists that the job is given; at 0 they don't."""

    radius_arcsec: float = 10.0

    def __post_init__(self):
        if not 0.0 <= self.radius_arcsec <= 3600.0:
            raise ValueError(f"radius_arcsec must be in [0, 3600], got {self.radius_arcsec}")


@dataclass(frozen=True)
class Split:
    nside: int
    seed: int
    fractions: dict[str, float]

    def __post_init__(self):
        if set(self.fractions) != set(SPLITS):
            raise ValueError(f"fractions must give a share for each of {', '.join(SPLITS)}, got {', '.join(self.fractions) or 'none'}")
        if abs((total := sum(self.fractions.values())) - 1.0) > 1e-9:
            raise ValueError(f"fractions must add up to 1, got {_sum(self.fractions.values())} = {total:g}")
        if negative := [name for name, share in self.fractions.items() if share < 0]:
            raise ValueError(f"fractions.{negative[0]} must not be negative, got {self.fractions[negative[0]]}")
        if self.nside < 1 or self.nside & (self.nside - 1):
            raise ValueError(f"nside must be a power of 2, got {self.nside}")


@dataclass(frozen=True)
class Grid:
    """A named grid: every combination of its values is a config."""

    theta_e_arcsec: tuple[float, ...]
    src_dmag: tuple[float, ...]
    src_reff_arcsec: tuple[float, ...]
    src_e: tuple[float, ...]
    shear: tuple[float, ...]

    def configs(self) -> list[tuple[float, ...]]:
        return list(itertools.product(self.theta_e_arcsec, self.src_dmag, self.src_reff_arcsec, self.src_e, self.shear))


@dataclass(frozen=True)
class Resolved:
    """Injections without a grid: Einstein radii as multiples of the host's PSF, by quotas, and sources of a prior.

    ``strata`` are (low, high, share) of theta_e over the FWHM in r; shares are multiples of 1/``SLOTS``.  Magnitudes follow counts of the
    slope ``d log10 N / dm``; sizes a power of the flux with scatter.
    """

    strata: tuple[tuple[float, float, float], ...]
    theta_e_max_arcsec: float = 2.5
    mag_r: tuple[float, float] = (21.5, 25.0)
    counts_slope: float = 0.3
    reff_arcsec: float = 0.25  # at reff_mag_r
    reff_mag_r: float = 24.0
    reff_slope_dex: float = -0.08
    reff_scatter_dex: float = 0.2
    reff_range_arcsec: tuple[float, float] = (0.04, 0.8)
    src_e: tuple[float, float] = (0.0, 0.6)
    shear: tuple[float, float] = (0.0, 0.1)

    def __post_init__(self):
        shares = [share for _, _, share in self.strata]
        if odd := [share for share in shares if share * SLOTS < 1 - 1e-6 or abs(share * SLOTS - round(share * SLOTS)) > 1e-6]:
            raise ValueError(f"shares of strata must be multiples of {1 / SLOTS} above 0, got {odd[0]:g}")
        if round(sum(shares) * SLOTS) != SLOTS:
            raise ValueError(f"shares of strata must add up to 1, got {_sum(shares)} = {sum(shares):g}")
        if any(not 0 < low < high for low, high, _ in self.strata):
            raise ValueError(f"strata must be (low, high, share) with 0 < low < high, got {self.strata}")
        ordered = sorted(self.strata)
        if any(before[1] > after[0] for before, after in itertools.pairwise(ordered)):
            raise ValueError(f"strata must not overlap, got {self.strata}")
        for name, low, high in (("reff_range_arcsec", 0.001, 10.0), ("src_e", 0.0, 0.9), ("shear", 0.0, 0.5)):
            a, b = getattr(self, name)
            if not low <= a <= b <= high:
                raise ValueError(f"{name} must rise within {low} to {high}, got {(a, b)}")
        for name in ("theta_e_max_arcsec", "counts_slope"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not self.mag_r[0] < self.mag_r[1]:
            raise ValueError(f"mag_r must rise, got {self.mag_r}")

    def configs(self) -> list[tuple[float, ...]]:
        """One config a slot: the bounds of its stratum."""
        return [(low, high) for low, high, share in self.strata for _ in range(round(share * SLOTS))]


@dataclass(frozen=True)
class Sample:
    """How many hosts a split has, and how many configs a host: 0 gives every config to every host.

    With ``at_most`` a split that has fewer galaxies uses what it has; without, it is an error.
    """

    hosts: dict[str, int]
    configs_per_host: int = 0
    replicates: int = 1
    at_most: bool = False

    def __post_init__(self):
        for name, least in (("replicates", 1), ("configs_per_host", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if set(self.hosts) != set(SPLITS) or min(self.hosts.values()) < 0:
            raise ValueError(f"hosts must give a count for each of {SPLITS}, got {self.hosts}")


@dataclass(frozen=True)
class Draws:
    """What is drawn for each task: ranges are uniform, pairs (mean, sigma) normal."""

    src_n: float = 1.0
    lens_e: tuple[float, float] = (0.05, 0.5)
    src_disc_theta_e: float = 0.8  # sources fill the disc of this radius, in Einstein radii
    src_gr: tuple[float, float] = (0.25, 0.15)
    src_rz: tuple[float, float] = (0.10, 0.15)


@dataclass(frozen=True)
class Controls:
    """Controls as a fraction of all rows; of them ``paired`` on their own galaxy, the rest on matched others."""

    fraction: float = 0.0
    paired: float = 0.5
    tolerance: dict[str, float] = field(default_factory=dict)
    ladder: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)

    def __post_init__(self):
        if not 0.0 <= self.fraction < 1.0:
            raise ValueError(f"fraction must be at least 0 and below 1, got {self.fraction}")
        if not 0.0 <= self.paired <= 1.0:
            raise ValueError(f"paired must be from 0 to 1, got {self.paired}")
        if self.fraction / (1.0 - self.fraction) * max(self.paired, 1.0 - self.paired) > 1.0 + 1e-9:
            raise ValueError(f"no kind of controls may be more than the injections, got fraction {self.fraction}, paired {self.paired}")
        if list(self.ladder) != sorted(set(self.ladder)) or not self.ladder:
            raise ValueError(f"ladder must rise, got {self.ladder}")
        if unknown := [f"tolerance.{name}{config.suggestion(name, MATCHED)}" for name in self.tolerance if name not in MATCHED]:
            raise ValueError(f"{', '.join(unknown)}: no such variable; known: {', '.join(MATCHED)}")
        if self.fraction * (1.0 - self.paired) > 0 and (not self.tolerance or min(self.tolerance.values()) <= 0):
            raise ValueError(f"tolerance must give a width above 0 for each variable that unpaired controls match on, got {self.tolerance}")


@dataclass(frozen=True)
class Stamp:
    side_pix: int = 64
    bands: tuple[str, ...] = BANDS
    good_fraction_min: float = 0.5  # of a band's pixels in the stamp with invvar > 0
    centre_radius_pix: int = 1  # half-width of the square at the host that must be good

    def __post_init__(self):
        if self.side_pix < 16 or self.side_pix % 2:
            raise ValueError(f"side_pix must be even and at least 16, got {self.side_pix}")
        if self.bands != BANDS:
            raise ValueError(f"bands must be {BANDS}, got {self.bands}")


@dataclass(frozen=True)
class PsfChoice:
    """Sources of the PSF in order of preference, and the profile that turns a size into a PSF."""

    prefer: tuple[str, ...] = ("coadd", "map", "brick", "catalogue")
    profile: str = "moffat"
    beta: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BANDS, 3.5))

    def __post_init__(self):
        unknown = set(self.prefer) - {"coadd", "map", "brick", "catalogue"}
        if unknown or not self.prefer:
            raise ValueError(f"prefer must name coadd, map, brick, catalogue, got {self.prefer}")
        if self.profile not in ("moffat", "gaussian"):
            raise ValueError(f"profile must be moffat or gaussian, got {self.profile!r}")
        if set(self.beta) != set(BANDS) or min(self.beta.values()) <= 1.0:
            raise ValueError(f"beta must be above 1 for each of {BANDS}, got {self.beta}")


@dataclass(frozen=True)
class Noise:
    poisson: bool = True
    gain: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BANDS, 30_000.0))  # electrons a nanomaggy

    def __post_init__(self):
        if set(self.gain) != set(BANDS) or min(self.gain.values()) <= 0:
            raise ValueError(f"gain must be above 0 for each of {BANDS}, got {self.gain}")


@dataclass(frozen=True)
class Output:
    """How stamps are written: ``lib.encoding``."""

    pixels: str = "split"

    def __post_init__(self):
        if self.pixels not in ENCODINGS:
            raise ValueError(f"pixels must be one of {', '.join(ENCODINGS)}, got {self.pixels!r}")


@dataclass(frozen=True)
class Gates:
    """Thresholds of ``validation``."""

    ok_fraction_min: float = 0.95
    control_fraction_tolerance: float = 0.01
    psf_fallback_max: dict[str, float] = field(default_factory=lambda: {"g": 0.01, "r": 0.001, "z": 0.001})
    magnification_median: float = 0.005
    magnification_tail: float = 0.03
    magnification_sample: int = 2000
    flux_bin_sigma: float = 4.0
    flux_bin_rows_min: int = 50
    magnification_tail_share: float = 0.01
    colour_tolerance: float = 0.005
    colour_spread_min_mag: float = 0.01
    grid_sigma: float = 5.0
    split_fraction_tolerance: float = 0.02
    match_first_rung_min: float = 0.95
    match_difference_max: float = 0.05
    metadata_auc_max: float = 0.52
    pixel_tolerance: float = 1e-4  # of a sum, or of an arc's peak
    rerender_rows: int = 24
    rerender_share: float = 0.001
    pixel_rows: int = 100_000
    failure_difference_max: float = 0.001
    resolved_share_min: float = 0.0
    unresolved_share_max: float = 1.0
    stamp_flux_fraction_min: float = 0.9
    psf_profile_tolerance: float = 0.005
    zero_flux_auc_tolerance: float = 0.01
    shuffle_auc_tolerance: float = 0.02
    small_tier: bool = False  # a sample too small to judge is then not applicable rather than a failure

    def __post_init__(self):
        if set(self.psf_fallback_max) != set(BANDS):
            raise ValueError(f"psf_fallback_max must give a share for each of {BANDS}, got {self.psf_fallback_max}")


@dataclass(frozen=True)
class Tier:
    name: str
    seed: int
    selection: Selection
    split: Split
    grid: str
    sample: Sample
    flags: tuple[Selection, ...] = ()  # named selections that parents are told by, beside the one that makes them parents
    known_lenses: KnownLenses = field(default_factory=KnownLenses)
    draws: Draws = field(default_factory=Draws)
    controls: Controls = field(default_factory=Controls)
    stamp: Stamp = field(default_factory=Stamp)
    psf: PsfChoice = field(default_factory=PsfChoice)
    noise: Noise = field(default_factory=Noise)
    output: Output = field(default_factory=Output)
    gates: Gates = field(default_factory=Gates)
    resolved: Resolved | None = None
    after: str = ""  # the tier that must be promoted to this one before it is begun
    rows_max: int = 20_000_000  # a soft limit: more rows are refused unless the job is told to go on

    def __post_init__(self):
        if (self.grid == RESOLVED) != (self.resolved is not None):
            raise ValueError(f"grid {RESOLVED!r} and the table [{RESOLVED}] come together")
        if self.grid != RESOLVED and self.grid not in grids():
            raise ValueError(f"grid: unknown grid {self.grid!r}; known: {', '.join(sorted(grids()))}, {RESOLVED}")
        if self.sample.configs_per_host > len(self.configs()):
            raise ValueError(f"sample.configs_per_host must be at most the grid's {len(self.configs())}")
        selections = [self.selection.name, *(flag.name for flag in self.flags)]
        if len(set(selections)) < len(selections):
            raise ValueError(f"selection and flags must have different names, got {', '.join(selections)}")

    def configs(self) -> list[tuple[float, ...]]:
        """What tells one config from another: a grid's values, or the stratum of a slot."""
        return self.resolved.configs() if self.resolved else grids()[self.grid].configs()

    @property
    def guard_arcsec(self) -> float:
        """From a host to the farthest corner of its stamp, whose centre is within a pixel of it."""
        return 0.5 * 2**0.5 * (self.stamp.side_pix + 2) * PIXEL_ARCSEC

    @property
    def experiment_id(self) -> str:
        return f"{self.name}_stamp{self.stamp.side_pix}_bands{''.join(self.stamp.bands)}_grid{self.grid}"


def with_controls(tier: Tier, kinds: str) -> Tier:
    """The tier with one kind of controls only, or as it is for both."""
    try:
        return tier if kinds == "both" else replace(tier, controls=replace(tier.controls, paired=float(kinds == "paired")))
    except ValueError as error:
        raise ConfigError(f"tier {tier.name} with {kinds} controls: {error}") from error


# The parts of a tier's config that each job's table depends on: a change of another part remakes nothing.
PARTS = {
    "parent": ("name", "selection", "flags", "known_lenses", "split", "stamp"),
    "manifest": ("name", "seed", "selection", "split", "grid", "sample", "draws", "controls", "stamp", "psf", "resolved"),
    "negatives": ("name",),
    "select": ("name", "split"),
    "cache": ("name", "stamp", "psf"),
    "inject": ("name", "stamp", "psf", "noise", "output"),
}


def parts(values: dict, job: str) -> dict:
    """The parts of a tier's plain config that a job depends on; all of it for a job not listed."""
    found = {k: values[k] for k in PARTS.get(job, values) if k in values}  # an older record has fewer
    if job == "manifest":
        found["configs"] = config.plain(grids()[values["grid"]]) if values["grid"] != RESOLVED else None
        if values["grid"] != RESOLVED:
            found.pop("psf", None)
    return found


@cache
def grids() -> dict[str, Grid]:
    """The named grids of ``grids.toml``."""
    text = (resources.files(__package__) / "grids.toml").read_text()
    return {name: config.build(Grid, values, f"grids.{name}.") for name, values in tomllib.loads(text).items()}


def names() -> list[str]:
    """Tiers that ship with arcmill."""
    found = (p.name for p in resources.files(__package__).iterdir())
    return sorted(f[:-5] for f in found if f.endswith(".toml") and f != "grids.toml")


def load(name: str) -> Tier:
    """A shipped tier by its name, or any ``.toml`` file by its path."""
    if name in names():
        text = (resources.files(__package__) / f"{name}.toml").read_text()
    elif name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"no such tier file: {name}")
        text = path.read_text()
    else:
        raise ConfigError(f"unknown tier {name!r}; known: {', '.join(names())}, or the path of a .toml file")
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"tier {name}: {error}") from error
    try:
        return config.build(Tier, values)
    except ConfigError as error:
        raise ConfigError(f"tier {name}: {error}") from error
