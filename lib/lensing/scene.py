"""What is to be drawn: lenses and sources as plain arrays, and as the renderers' loops read them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lib.imaging import spectrum
from lib.lensing import deflector, epl, raster, sersic, shear, source

BLOCK = 16  # pixels a side of the cells that the division starts from
RULES = (
    ("theta_e_arcsec", "0 or more", lambda v: v >= 0.0), ("lens_q", "in (0, 1]", lambda v: (v > 0.0) & (v <= 1.0)),
    ("shear", "in [0, 1)", lambda v: (v >= 0.0) & (v < 1.0)), ("src_n", "positive", lambda v: v > 0.0),
    ("src_reff_arcsec", "positive", lambda v: v > 0.0), ("src_q", "in (0, 1]", lambda v: (v > 0.0) & (v <= 1.0)),
    ("lens_slope", "in (1, 3)", lambda v: (v > 1.0) & (v < 3.0)),
)  # fmt: skip
FAINT = 3e-5  # share of a source's flux that may reappear at the stamp's other side


@dataclass(frozen=True)
class Scene:
    """Lensed sources: arrays of equal length (or scalars), angles in arcsec and radians.

    ``x_pix, y_pix`` is the lens centre on the stamp; ``src_x_arcsec, src_y_arcsec`` the source's centre
    from there.  ``theta_e_arcsec = 0`` and ``shear = 0`` is an unlensed source; a ``lens_slope`` other than 2 a power law
    (``lib.lensing.epl``).  ``image`` 0, 1, ... makes the source that one of the images given to ``draw`` instead of a Sersic profile
    (-1), scaled to ``src_reff_arcsec``; its index ``src_n`` then means nothing.
    """

    x_pix: ArrayLike
    y_pix: ArrayLike
    theta_e_arcsec: ArrayLike
    lens_q: ArrayLike
    lens_phi_rad: ArrayLike
    shear: ArrayLike
    shear_phi_rad: ArrayLike
    src_x_arcsec: ArrayLike
    src_y_arcsec: ArrayLike
    src_n: ArrayLike
    src_reff_arcsec: ArrayLike
    src_q: ArrayLike
    src_phi_rad: ArrayLike
    lens_slope: ArrayLike = 2.0
    image: ArrayLike = -1

    def arrays(self) -> dict[str, np.ndarray]:
        """Every field as a float64 array, all of one length, checked."""
        values = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in vars(self).values()))
        a = dict(zip(vars(self), values, strict=True))
        if wrong := [k for k, v in a.items() if not np.isfinite(v).all()]:
            raise ValueError(f"a scene must be finite: {', '.join(wrong)}")
        if wrong := [f"{k} must be {rule}" for k, rule, right in RULES if not right(a[k]).all()]:
            raise ValueError("; ".join(wrong))
        return a


@dataclass(frozen=True)
class Rows:
    """A scene as the loops read it: one row a source."""

    kinds: np.ndarray
    lenses: np.ndarray
    sources: np.ndarray
    shapes: np.ndarray
    shears: np.ndarray
    images: np.ndarray

    @classmethod
    def of(cls, a: dict[str, np.ndarray], images) -> "Rows":
        image = a["image"].astype(int)
        if image.max() >= len(images):
            raise ValueError(f"the scene names image {image.max()}, {len(images)} were given")
        lenses = epl.rows(a["theta_e_arcsec"], a["lens_q"], a["lens_phi_rad"], a["lens_slope"])
        place, shape = (a["src_x_arcsec"], a["src_y_arcsec"]), (a["src_reff_arcsec"], a["src_q"], a["src_phi_rad"])
        sources = sersic.rows(*place, a["src_n"], *shape)
        shapes, pixels = np.zeros((len(image), 3), np.int64), [np.zeros(1, np.float32)]
        offset = {}
        for k in np.unique(image[image >= 0]):
            offset[k] = sum(map(len, pixels))
            pixels.append(images[k].coefficients.ravel())
        for k in np.flatnonzero(image >= 0):
            given = images[image[k]]
            shapes[k] = offset[image[k]], *given.coefficients.shape
            x, y, r_eff, q, phi = (np.atleast_1d(v[k]) for v in (*place, *shape))
            sources[k] = raster.rows(x, y, r_eff, q, phi, given.half_light_pix, float(given.image.max()))[0]
        kinds = np.stack(
            [np.where(a["lens_slope"] == 2.0, deflector.SIE, deflector.EPL), np.where(image < 0, source.SERSIC, source.RASTER)], axis=1
        )
        shears = np.stack([*shear.components(a["shear"], a["shear_phi_rad"]), np.abs(a["shear"])], axis=1).astype(np.float32)
        return cls(kinds, lenses, sources, shapes, shears, np.concatenate(pixels))


def plan(a, first, offsets, side_pix, canvas, pixels, psfs) -> list[tuple[int, int]]:
    """(period, modes) of each task: from its lens, sources and PSFs alone, so that it has the same bits in every batch.

    The wings of the arc's bright part do not repeat within the stamp, nor does any of its light, be it faint.
    """
    lens = np.hypot(a["src_x_arcsec"], a["src_y_arcsec"]) + 1.3 * a["theta_e_arcsec"]
    off = np.maximum.reduceat(np.abs(offsets[:, :2]).max(axis=1), first[:-1])
    n = np.where(a["image"] < 0, a["src_n"], 1.0)
    bright, faint = (
        np.maximum.reduceat((lens + radius / np.sqrt(a["src_q"])) / (1.0 - np.abs(a["shear"])), first[:-1]) / pixels
        for radius in (2.5 * a["src_reff_arcsec"], sersic.radius_beyond(FAINT, n, a["src_reff_arcsec"]))
    )
    known: dict = {}  # tasks may share one row of PSFs
    for row, pixel in zip(psfs, pixels, strict=True):
        if (id(row), pixel) not in known:
            known[id(row), pixel] = spectrum.limits(row, pixel)
    wing, cut = np.array([known[id(row), pixel] for row, pixel in zip(psfs, pixels, strict=True)]).T
    period = spectrum.period(side_pix, np.minimum(bright + off, canvas), np.minimum(faint + off, canvas), wing)
    return list(zip(period.tolist(), spectrum.modes(period, cut).tolist(), strict=True))


@dataclass(frozen=True)
class Batch:
    """A scene with its fluxes, PSFs and stamps, checked, and what follows from them for every task.

    ``first`` (tasks + 1) counts sources; ``offsets`` (sources, 3) is the lens from the stamp's centre in pixels, and half a pixel where
    the centre is a pixel's; ``canvas`` half the side, in pixels, of the square that light is deposited on.
    """

    rows: Rows
    first: np.ndarray
    fluxes: np.ndarray
    psfs: list
    pixels: np.ndarray
    offsets: np.ndarray
    canvas: int
    plans: list[tuple[int, int]]

    @property
    def tasks(self) -> int:
        return len(self.psfs)

    @classmethod
    def of(cls, scene: Scene, fluxes, psfs, side_pix: int, pixel_arcsec, sources, images, reach_pix: int) -> "Batch":
        a, tasks, psfs = scene.arrays(), len(psfs), list(psfs)
        if np.any(np.asarray(sources) < 1) or not tasks:
            raise ValueError(f"every task must have a source, got {tasks} tasks of {sources}")
        first = np.concatenate([[0], np.cumsum(np.broadcast_to(sources, tasks))]).astype(np.int64)
        fluxes = np.ascontiguousarray(np.atleast_2d(fluxes), dtype=float)
        count = len(a["x_pix"])
        if first[-1] != count or len(fluxes) != count:
            raise ValueError(f"{count} sources in the scene, {len(fluxes)} rows of fluxes, {first[-1]} sources in {tasks} tasks")
        with np.errstate(over="ignore"):
            finite = np.isfinite(fluxes.astype(np.float32)).all()
        if not finite or not np.all(np.asarray(pixel_arcsec) > 0.0):
            raise ValueError("fluxes must be finite and pixel_arcsec positive")
        if other := [k for k, row in enumerate(psfs) if len(row) != fluxes.shape[1]]:
            raise ValueError(f"task {other[0]} has {len(psfs[other[0]])} PSFs for {fluxes.shape[1]} bands")
        # a copy: what is broadcast is read-only, and of one task stays so, another type to compile for
        pixels = np.broadcast_to(np.asarray(pixel_arcsec, float), tasks).copy()
        middle, odd = (side_pix - 1) / 2.0, 0.5 * (side_pix % 2)
        offsets = np.stack([a["x_pix"] - middle, a["y_pix"] - middle, np.full(count, odd)], axis=1).astype(np.float32)
        canvas = -(-(side_pix // 2 + reach_pix) // BLOCK) * BLOCK
        plans = plan(a, first, offsets, side_pix, canvas, pixels, psfs)
        return cls(Rows.of(a, images), first, fluxes, psfs, pixels, offsets, canvas, plans)

    def transfers(self, period: int, count: int, members) -> tuple[np.ndarray, np.ndarray]:
        """(transfers, which of them each band of the member tasks has): every PSF once."""
        index: dict = {}
        known: dict = {}
        which = []
        for k in members:
            key = (id(self.psfs[k]), self.pixels[k])  # tasks may share one row of PSFs
            if key not in known:
                known[key] = [index.setdefault((p, float(self.pixels[k])), len(index)) for p in self.psfs[k]]
            which.append(known[key])
        return spectrum.stack([spectrum.transfer(p, pixel, period, count) for p, pixel in index]), np.array(which)
