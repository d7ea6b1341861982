"""Exposures of a brick: where each one looked, what it lost, and the noise of their mean.

A camera's CCDs, 4094 x 2046 px with gaps, lie over the brick at a random dither an exposure.  The noise is white
on each exposure's own pixels and reaches the brick's grid by Lanczos-3, as in the real coadds, which is why it is
correlated there, and smaller than the invvar says.
"""

from dataclasses import dataclass

import numpy as np

from lib import jit
from lib.survey.geometry import BrickGeometry
from lib.survey.synthetic.optics import PsfField
from lib.survey.synthetic.spec import BANDS, PIXEL_ARCSEC, SIDE_PIX, SurveySpec, rng

NATIVE_ARCSEC = 0.2628
CCD_PIX, GAP_PIX = np.array([4094, 2046]), np.array([201, 153])  # along x and y
COSMIC_RAYS = 350  # an exposure, on the area of a brick
TRAIL_CHANCE, TRAIL_PIX = 0.12, 12  # a satellite's trail: how often, and how wide it is masked
UNCOVERED_PIX = 150  # of the bricks at the edge of the footprint, on the west side; 4-5 % of them


@dataclass(frozen=True)
class Exposure:
    """One exposure in one band: sky ``invvar`` in 1/nmgy**2 a px, what it covers and which of that is good."""

    invvar: float
    covered: np.ndarray  # (ny, nx) bool
    good: np.ndarray


@dataclass
class Coadd:
    """The mean of a band's exposures, without sources: float32 maps, 0 where nothing is good."""

    noise: np.ndarray
    invvar: np.ndarray
    nexp: np.ndarray  # int16
    covered: np.ndarray  # bool, good or not


def at_the_edge(brick: BrickGeometry) -> bool:
    """Whether the footprint ends inside the brick: one in eleven."""
    return (brick.row + 3 * brick.col) % 11 == 2


def sky_invvar(spec: SurveySpec, field: PsfField, name: str, band: str) -> float:
    """1/nmgy**2 a px that gives the brick its 5 sigma depth, at its mean PSF."""
    i = BANDS.index(band)
    scatter = spec.depth_scatter_mag * rng(spec, name, f"depth/{band}").standard_normal()
    sigma = 10.0 ** (-0.4 * (spec.psfdepth_mag[i] + scatter - 22.5)) / 5.0
    return field.nea_arcsec2(0.5) / PIXEL_ARCSEC**2 / sigma**2


def _covered(random, brick: BrickGeometry) -> np.ndarray:
    """The CCDs of one exposure over the brick."""
    period = CCD_PIX + GAP_PIX
    on = []
    for axis in (0, 1):
        place = np.arange(SIDE_PIX) + random.integers(period[axis])
        on.append(place % period[axis] < CCD_PIX[axis])
    covered = on[1][:, None] & on[0][None, :]
    if at_the_edge(brick):
        covered[:, SIDE_PIX - UNCOVERED_PIX - int(random.integers(120)) :] = False
    return covered


def _lose(random, good) -> None:
    """Mask bad columns, cosmic rays, and now and then a satellite's trail, in place."""
    for column in random.integers(0, SIDE_PIX, 3):
        start = random.integers(SIDE_PIX)
        good[start : start + 1800, column : column + 2] = False
    for y, x in random.integers(0, SIDE_PIX, (COSMIC_RAYS, 2)):
        dy, dx = random.integers(1, 9), random.integers(1, 9)
        steps = np.arange(max(dy, dx))
        rows = np.minimum(y + steps * dy // len(steps), SIDE_PIX - 1)
        good[rows, np.minimum(x + steps * dx // len(steps), SIDE_PIX - 1)] = False
    if random.random() < TRAIL_CHANCE:
        slope, middle = random.uniform(-0.8, 0.8), random.uniform(0.2, 0.8) * SIDE_PIX
        trail = middle + slope * (np.arange(SIDE_PIX) - SIDE_PIX / 2)
        y = np.arange(SIDE_PIX)[:, None]
        good[np.abs(y - trail) < TRAIL_PIX / 2 * np.hypot(1.0, slope)] = False


def exposures(spec: SurveySpec, brick: BrickGeometry, field: PsfField, band: str):
    """The exposures of a brick and band, one at a time: they are large."""
    number = spec.exposures[BANDS.index(band)]
    random = rng(spec, brick.name, f"exposures/{band}")
    shares = np.exp(0.25 * random.standard_normal(number))
    total = sky_invvar(spec, field, brick.name, band)
    for share in shares / shares.sum():
        covered = _covered(random, brick)
        good = covered.copy()
        _lose(random, good)
        yield Exposure(total * share, covered, good)


def lanczos3(phase: float):
    """First native px and six weights for each of the brick's px along one axis."""
    x = np.arange(SIDE_PIX) * (PIXEL_ARCSEC / NATIVE_ARCSEC) + 2.0 + phase
    first = np.floor(x).astype(np.int64) - 2
    away = x[:, None] - (first[:, None] + np.arange(6))
    weights = np.sinc(away) * np.sinc(away / 3.0)
    return first, (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@jit.entry()
def _resample_add(noise, invvar, nexp, white, good, weight, first_y, weights_y, first_x, weights_x):
    """Add one exposure to the sums of weighted noise, weights and exposures: sigma is 1/sqrt(weight)."""
    ny, nx = noise.shape
    row = np.empty(white.shape[1], np.float32)
    root = np.float32(np.sqrt(weight))
    for i in range(ny):
        row[:] = 0.0
        for k in range(6):
            w = weights_y[i, k]
            source = white[first_y[i] + k]
            for j in range(len(row)):
                row[j] += w * source[j]
        for j in range(nx):
            if good[i, j]:
                f = first_x[j]
                value = np.float32(0.0)
                for k in range(6):
                    value += weights_x[j, k] * row[f + k]
                noise[i, j] += root * value
                invvar[i, j] += np.float32(weight)
                nexp[i, j] += 1


def coadd(spec: SurveySpec, brick: BrickGeometry, field: PsfField, band: str, saturated=None) -> Coadd:
    """The invvar-weighted mean of all exposures; ``saturated`` (ny, nx) bool px are lost in each of them."""
    shape = (SIDE_PIX, SIDE_PIX)
    total = Coadd(np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.int16), np.zeros(shape, bool))
    random = rng(spec, brick.name, f"noise/{band}")
    native = SIDE_PIX + 8
    for exposure in exposures(spec, brick, field, band):
        good = exposure.good if saturated is None else exposure.good & ~saturated
        white = random.standard_normal((native, native), dtype=np.float32)
        y, x = (lanczos3(phase) for phase in random.random(2))
        _resample_add(total.noise, total.invvar, total.nexp, white, good, exposure.invvar, *y, *x)
        total.covered |= exposure.covered
    np.divide(total.noise, total.invvar, out=total.noise, where=total.invvar > 0)
    return total
