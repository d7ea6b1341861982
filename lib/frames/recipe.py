"""Recipes of mosaics: ``load("survey")`` reads ``recipes/survey.toml`` into frozen dataclasses.  A mode is a recipe, not a program."""

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lib import config
from lib.errors import ConfigError
from lib.mosaic import coadd, resample, stack

CANVAS, FIELD, BATCH, CELL = "canvas", "field", "batch", "cell"
GROUPS = {
    CANVAS: "windows of the mosaic's own lattice, that cover it once",
    FIELD: "frames whose centres lie together, on a lattice of their own",
    BATCH: "frames in turn until they cover the mosaic, on its lattice",
    CELL: "squares of the mosaic's lattice that overlap",
}


@dataclass(frozen=True)
class Level:
    """One pass from images to tiles; the next level's images are these tiles."""

    name: str
    group: str = CANVAS
    kernel: str = "bilinear"
    rejection: str = "none"
    kappa: float = 3.0
    combine: str = "mean"
    feather_pix: float = 64.0
    normalise: bool = True  # gains and offsets from overlaps, among this level's images
    gains: bool = True  # without, offsets alone
    tilts: bool = False  # slopes too, where overlaps ask for them
    anchored: bool = False  # the image with the most overlap keeps its scale; else the mean of all
    equalise_rgb: bool = False  # a tile's colours directly after its stack

    def __post_init__(self):
        if self.group not in GROUPS:
            raise ValueError(f"group must be one of {', '.join(GROUPS)}, got {self.group!r}")
        _ = self.settings

    @property
    def settings(self) -> coadd.Settings:
        return coadd.Settings(self.kernel, stack.Rule(self.rejection, self.kappa, self.combine), self.feather_pix)


@dataclass(frozen=True)
class Lattice:
    """The mosaic's pixels; ``pixel_arcsec`` 0 takes the median of the frames'."""

    pixel_arcsec: float = 0.0
    tile_pix: int = 2048
    cell_pix: int = 1024
    cell_overlap: float = 0.25
    field_deg: float = 0.05  # frames whose centres are nearer are of one field
    batch_covered: float = 0.92  # a batch closes when it covers so much of the mosaic's area, with ``batch_least`` frames
    batch_least: int = 5
    batch_most: int = 10

    def __post_init__(self):
        if not 0.0 <= self.pixel_arcsec <= 3600.0:
            raise ValueError(f"pixel_arcsec must be in [0, 3600], got {self.pixel_arcsec}")
        if not 64 <= self.tile_pix <= 16384 or not 64 <= self.cell_pix <= 16384:
            raise ValueError(f"tile_pix and cell_pix must be in [64, 16384], got {self.tile_pix} and {self.cell_pix}")
        if not 0.0 < self.cell_overlap < 0.9:
            raise ValueError(f"cell_overlap must be in (0, 0.9), got {self.cell_overlap}")
        if not 1 <= self.batch_least <= self.batch_most:
            raise ValueError(f"batch_least must be in [1, batch_most], got {self.batch_least} and {self.batch_most}")


@dataclass(frozen=True)
class Polish:
    """What is done to the last level's tiles before they are written; nothing here moves a pixel."""

    min_coverage_keep: float = 0.0  # of the p95 of covered pixels; below it NaN, and coverage 0
    equalise_rgb: bool = False
    two_pass: bool = False  # coverage renormalisation, for compatibility
    crop: bool = True  # to the pixels that are kept

    def __post_init__(self):
        if not 0.0 <= self.min_coverage_keep <= 1.0:
            raise ValueError(f"min_coverage_keep must be in [0, 1], got {self.min_coverage_keep}")


@dataclass(frozen=True)
class Recipe:
    name: str
    level: tuple[Level, ...]
    lattice: Lattice = Lattice()
    polish: Polish = Polish()
    calibrate: bool = True  # to nanomaggies, where a table of CCDs gives zero points
    unit: str = ""  # of all frames; another one is told and its frame left out; "" takes that of most
    gpu: bool = False  # where the executor was given one

    def __post_init__(self):
        if not self.level or self.level[-1].group not in (CANVAS, CELL):
            raise ValueError("level: the last must have group canvas")
        if self.level[-1].group == CELL:
            raise ValueError("level: cells overlap; a level of group canvas has to join them")
        if any(level.kernel == resample.EXACT and level.rejection != "none" for level in self.level):
            raise ValueError("level: the exact kernel spreads what should be rejected: take bilinear")


def names() -> list[str]:
    """Recipes that ship with arcmill."""
    return sorted(p.name[:-5] for p in (resources.files(__package__) / "recipes").iterdir() if p.name.endswith(".toml"))


def load(name: str) -> Recipe:
    """A shipped recipe by its name, or any ``.toml`` file by its path."""
    if name in names():
        text = (resources.files(__package__) / "recipes" / f"{name}.toml").read_text()
    elif name.endswith(".toml"):
        if not Path(name).is_file():
            raise ConfigError(f"no such recipe file: {name}")
        text = Path(name).read_text()
    else:
        raise ConfigError(f"unknown recipe {name!r}; known: {', '.join(names())}, or the path of a .toml file")
    try:
        return config.build(Recipe, tomllib.loads(text))
    except (tomllib.TOMLDecodeError, ConfigError) as error:
        raise ConfigError(f"recipe {name}: {error}") from error
