"""The output's pixels: a WCS and a size; windows of them; and where an image lies among them.

All windows of a lattice share its pixels, so the same piece of sky in two windows is the same numbers, and what is cut into windows joins
without a seam.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.wcs import WCS

FAR_DEG = 85.0  # from the reference point of a gnomonic projection: beyond it a pixel's place says nothing


@dataclass(frozen=True)
class Window:
    """Pixels [y0, y1) x [x0, x1) of a lattice."""

    y0: int
    x0: int
    y1: int
    x1: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.y1 - self.y0, self.x1 - self.x0

    @property
    def empty(self) -> bool:
        return self.y1 <= self.y0 or self.x1 <= self.x0

    def __and__(self, other: "Window") -> "Window":
        return Window(max(self.y0, other.y0), max(self.x0, other.x0), min(self.y1, other.y1), min(self.x1, other.x1))

    def slices(self, of: "Window") -> tuple[slice, slice]:
        """Where this window lies in an array of the pixels ``of`` another one.

        >>> Window(2, 3, 4, 5).slices(Window(2, 2, 9, 9))
        (slice(0, 2, None), slice(1, 3, None))
        """
        return slice(self.y0 - of.y0, self.y1 - of.y0), slice(self.x0 - of.x0, self.x1 - of.x0)


@dataclass(frozen=True)
class Lattice:
    """A WCS without distortions, and the size (ny, nx) of the whole."""

    wcs: WCS
    shape: tuple[int, int]

    @property
    def window(self) -> Window:
        return Window(0, 0, *self.shape)

    @cached_property
    def pixel_arcsec(self) -> float:
        return pixel_arcsec(self.wcs)

    def cut(self, window: Window) -> WCS:
        """The WCS of a window: a new object, its reference pixel moved."""
        wcs = self.wcs.deepcopy()
        wcs.wcs.crpix = wcs.wcs.crpix - np.array([window.x0, window.y0])
        wcs.wcs.set()
        return wcs

    def windows(self, side: int) -> list[Window]:
        """Squares of ``side`` px that cover the lattice once, smaller at its ends; row by row."""
        ny, nx = self.shape
        return [Window(y, x, min(y + side, ny), min(x + side, nx)) for y in range(0, ny, side) for x in range(0, nx, side)]


def pixel_arcsec(wcs: WCS) -> float:
    """Side of the square of a pixel's area at the reference point."""
    return float(np.sqrt(abs(np.linalg.det(wcs.celestial.pixel_scale_matrix))) * 3600.0)


def sky_of(wcs: WCS, x, y):
    """(ra, dec) in degrees of pixels, with all distortions."""
    return wcs.all_pix2world(x, y, 0)


def pixel_of(wcs: WCS, ra, dec, tolerance: float = 1e-7):
    """(x, y) of sky positions, with all distortions; NaN on the far side of the sky and where the distortion has no inverse."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    near = np.isfinite(ra) & np.isfinite(dec) & (separation_deg(ra, dec, *wcs.wcs.crval) < FAR_DEG)
    x, y = np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
    if not near.any():
        return x, y
    if wcs.sip is None and wcs.cpdis1 is None and wcs.cpdis2 is None and wcs.det2im1 is None and wcs.det2im2 is None:
        found = wcs.wcs_world2pix(ra[near], dec[near], 0)
    else:
        found = wcs.all_world2pix(ra[near], dec[near], 0, tolerance=tolerance, maxiter=60, detect_divergence=True, quiet=True)
        ra_again, dec_again = wcs.all_pix2world(*found, 0)  # quiet answers may be of points that never came to rest
        with np.errstate(invalid="ignore"):
            lost = ~(separation_deg(ra_again, dec_again, ra[near], dec[near]) < 1e-5 * pixel_arcsec(wcs) / 3600.0)
        found = [np.where(lost, np.nan, v) for v in found]
    x[near], y[near] = found
    return x, y


def separation_deg(ra1, dec1, ra2, dec2):
    """Angle between positions, degrees; exact at any distance (Vincenty 1975).

    >>> round(float(separation_deg(359.5, 0.0, 0.5, 0.0)), 12)
    1.0
    """
    a1, d1, a2, d2 = (np.radians(v) for v in (ra1, dec1, ra2, dec2))
    turn = a2 - a1
    across = np.hypot(np.cos(d2) * np.sin(turn), np.cos(d1) * np.sin(d2) - np.sin(d1) * np.cos(d2) * np.cos(turn))
    return np.degrees(np.arctan2(across, np.sin(d1) * np.sin(d2) + np.cos(d1) * np.cos(d2) * np.cos(turn)))


def outline(wcs: WCS, shape, points: int = 17):
    """(ra, dec) along an image's outer edge and on a grid within it."""
    ny, nx = shape
    y, x = np.meshgrid(np.linspace(-0.5, ny - 0.5, points), np.linspace(-0.5, nx - 0.5, points), indexing="ij")
    return sky_of(wcs, x.ravel(), y.ravel())


def footprint(lattice: Lattice, wcs: WCS, shape, margin: int = 2) -> Window:
    """The lattice's pixels that an image of ``shape`` (ny, nx) may meet: the box around it, clipped; empty if they are apart."""
    x, y = pixel_of(lattice.wcs, *outline(wcs, shape))
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        return Window(0, 0, 0, 0)
    low = [int(np.floor(v[seen].min())) - margin for v in (y, x)]
    high = [int(np.ceil(v[seen].max())) + margin + 1 for v in (y, x)]
    found = Window(*low, *high) & lattice.window
    return Window(0, 0, 0, 0) if found.empty else found


def around(images: list[tuple[WCS, tuple[int, int]]], arcsec: float | None = None, margin: int = 2) -> Lattice:
    """A gnomonic lattice, north up and east left, around images; pixels of ``arcsec``, else the median of theirs.

    The reference point is the mean direction of the images' centres, as vectors: right for RA 0 and for the poles, and no wider at high
    declination than the sky is.
    """
    scale = float(np.median([pixel_arcsec(wcs) for wcs, _ in images])) if arcsec is None else arcsec
    centres = np.array([np.ravel(sky_of(wcs, (nx - 1) / 2, (ny - 1) / 2)) for wcs, (ny, nx) in images])
    mean = _vectors(*centres.T).mean(axis=1)
    return spanning(images, tangent(*_angles(mean), scale), margin)


def tangent(ra_deg: float, dec_deg: float, arcsec: float) -> WCS:
    """A gnomonic WCS, north up and east left, its reference pixel the first."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [ra_deg, dec_deg]
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.cdelt = [-arcsec / 3600.0, arcsec / 3600.0]
    wcs.wcs.set()
    return wcs


def spanning(images: list[tuple[WCS, tuple[int, int]]], wcs: WCS, margin: int = 2) -> Lattice:
    """The lattice of a WCS's pixels that holds all images; its first pixel moves by whole pixels."""
    places = [pixel_of(wcs, *outline(image, shape)) for image, shape in images]
    x, y = (np.concatenate([p[axis] for p in places]) for axis in (0, 1))
    seen = np.isfinite(x) & np.isfinite(y)
    if not seen.any():
        raise ValueError("none of the images lies within 85 degrees of the reference point")
    low = [int(np.floor(v[seen].min())) - margin for v in (y, x)]
    high = [int(np.ceil(v[seen].max())) + margin + 1 for v in (y, x)]
    whole = Lattice(wcs, (0, 0)).cut(Window(low[0], low[1], high[0], high[1]))
    return Lattice(whole, (high[0] - low[0], high[1] - low[1]))


def _vectors(ra, dec):
    ra, dec = np.radians(ra), np.radians(dec)
    return np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _angles(vector) -> tuple[float, float]:
    x, y, z = vector
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))
