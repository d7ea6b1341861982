"""Skies that are known in closed form, and the images that a camera takes of them: the truth that mosaics are measured against.

All images of a scene share the reference point of its lattice, so between their pixels lies an affine map (and, where asked for, a
distortion polynomial), and no WCS code is needed to draw them.
"""

from dataclasses import dataclass, field

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS

CENTRE = (83.6, 22.0)


def tangent(crpix, arcsec, turn_deg=0.0, centre=CENTRE) -> Header:
    """A gnomonic header with 1-based reference pixel ``crpix`` (x, y), turned by an angle."""
    c, s, d = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg)), arcsec / 3600.0
    cards = {
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": centre[0], "CRVAL2": centre[1], "CRPIX1": crpix[0], "CRPIX2": crpix[1],
        "CD1_1": -d * c, "CD1_2": d * s, "CD2_1": d * s, "CD2_2": d * c, "CUNIT1": "deg", "CUNIT2": "deg", "RADESYS": "ICRS",
    }  # fmt: skip
    header = Header()
    header.update(cards)
    return header


@dataclass(frozen=True)
class Frame:
    """Pixels, their header, and ``to_canvas``: (x, y) of the image, 0-based, to those of the canvas."""

    pixels: np.ndarray
    header: Header
    shape: tuple[int, int]
    origin: np.ndarray
    turn: np.ndarray
    bend: float = 0.0
    truth: dict = field(default_factory=dict)

    @property
    def wcs(self) -> WCS:
        return WCS(self.header)

    def to_canvas(self, x, y):
        u, v = x - (self.header["CRPIX1"] - 1.0), y - (self.header["CRPIX2"] - 1.0)
        u, v = u + self.bend * u * u, v + self.bend * u * v
        return tuple(self.origin[k] + self.turn[k, 0] * u + self.turn[k, 1] * v for k in (0, 1))


def frame(canvas: Header, shape, crpix, turn_deg, bend=0.0, kind="tan", arcsec=None) -> Frame:
    """An image of the canvas's sky, without pixels; ``bend`` a quadratic distortion, px**-1, written as SIP or as TPV."""
    arcsec = arcsec or canvas["CD2_2"] * 3600.0
    header = tangent(crpix, arcsec, turn_deg, (canvas["CRVAL1"], canvas["CRVAL2"]))
    cd = np.array([[header["CD1_1"], header["CD1_2"]], [header["CD2_1"], header["CD2_2"]]])
    if bend and kind == "sip":
        header["CTYPE1"], header["CTYPE2"], header["A_ORDER"], header["B_ORDER"], header["A_2_0"], header["B_1_1"] = (
            "RA---TAN-SIP", "DEC--TAN-SIP", 2, 2, bend, bend)  # fmt: skip
    elif bend and kind == "tpv":  # the same polynomial, of intermediate world coordinates
        header["CTYPE1"], header["CTYPE2"] = "RA---TPV", "DEC--TPV"
        inverse = np.linalg.inv(cd)
        squares = np.outer(inverse[0], inverse[0])  # u**2 in xi**2, xi eta, eta xi, eta**2
        products = np.outer(inverse[0], inverse[1])
        for axis, quadratic in ((1, cd[0, 0] * squares + cd[0, 1] * products), (2, cd[1, 0] * squares + cd[1, 1] * products)):
            quadratic = bend * quadratic
            header[f"PV{axis}_1"] = 1.0
            terms = (quadratic[0, 0], quadratic[0, 1] + quadratic[1, 0], quadratic[1, 1])
            for number, value in zip((4, 5, 6), terms if axis == 1 else terms[::-1], strict=True):
                header[f"PV{axis}_{number}"] = value
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    scale = arcsec / (canvas["CD2_2"] * 3600.0)
    turn = scale * np.array([[c, -s], [s, c]])
    return Frame(np.empty(0), header, shape, np.array([canvas["CRPIX1"] - 1.0, canvas["CRPIX2"] - 1.0]), turn, bend)


@dataclass(frozen=True)
class Sky:
    """Brightness anywhere on the canvas: ``level`` (bands,), round nebulae (x, y, sigma, peak), stars x, y and peaks (bands, n), all Gaussians."""

    level: np.ndarray
    nebulae: tuple
    x: np.ndarray
    y: np.ndarray
    peak: np.ndarray
    sigma: float

    def seen(self, shape, to_canvas=None) -> np.ndarray:
        """(bands, ny, nx) float64: the brightness at the centres of an image's pixels; of the canvas itself without ``to_canvas``."""
        ny, nx = shape
        y, x = np.mgrid[:ny, :nx].astype(float)
        cx, cy = to_canvas(x, y) if to_canvas else (x, y)
        smooth = sum((p * np.exp(-((cx - nx0) ** 2 + (cy - ny0) ** 2) / (2 * s * s)) for nx0, ny0, s, p in self.nebulae), np.zeros(shape))
        made = self.level[:, None, None] + smooth
        reach = int(np.ceil(6.5 * self.sigma * 1.1)) + 1
        for k, (px, py) in enumerate(zip(*self._pixels(shape, cx, cy), strict=True)):
            if np.isnan(px):
                continue
            i, j = round(px), round(py)
            window = slice(max(j - reach, 0), max(j + reach + 1, 0)), slice(max(i - reach, 0), max(i + reach + 1, 0))
            near = np.exp(-((cx[window] - self.x[k]) ** 2 + (cy[window] - self.y[k]) ** 2) / (2 * self.sigma**2))
            made[:, window[0], window[1]] += self.peak[:, k, None, None] * near
        return made

    def _pixels(self, shape, cx, cy):
        """Where the stars are in the image, to a pixel: by Newton's steps on the map itself; NaN outside."""
        ny, nx = shape
        px, py = np.full(self.x.shape, nx / 2.0), np.full(self.x.shape, ny / 2.0)
        for _ in range(8):
            i, j = (np.clip(np.round(v).astype(int), 0, n - 2) for v, n in ((px, nx), (py, ny)))
            jac = np.array([[cx[j, i + 1] - cx[j, i], cx[j + 1, i] - cx[j, i]], [cy[j, i + 1] - cy[j, i], cy[j + 1, i] - cy[j, i]]])
            det = jac[0, 0] * jac[1, 1] - jac[0, 1] * jac[1, 0]
            dx, dy = self.x - cx[j, i], self.y - cy[j, i]
            px, py = i + (jac[1, 1] * dx - jac[0, 1] * dy) / det, j + (jac[0, 0] * dy - jac[1, 0] * dx) / det
        far = (px < -20) | (px > nx + 20) | (py < -20) | (py > ny + 20)
        return np.where(far, np.nan, px), np.where(far, np.nan, py)


def stars(random, number, shape, sigma, faint=20.0, bright=20_000.0, level=(0.0,), nebulae=(), apart=0.0) -> Sky:
    """A sky of stars, N(> peak) as 1/peak; with ``apart``, on a jittered grid so that none is nearer to another."""
    ny, nx = shape
    bands = len(level)
    if apart:
        gy, gx = np.mgrid[apart : ny - apart : 2 * apart, apart : nx - apart : 2 * apart]
        x, y = (g.ravel() + random.uniform(-apart / 2, apart / 2, g.size) for g in (gx, gy))
        keep = random.permutation(x.size)[:number]
        x, y = x[keep], y[keep]
    else:
        x, y = random.uniform(0, nx - 1, number), random.uniform(0, ny - 1, number)
    peak = np.minimum(faint / random.random(x.size), bright) * random.uniform(0.7, 1.3, (bands, x.size))
    return Sky(np.array(level, float), nebulae, x, y, peak, sigma)


@dataclass(frozen=True)
class Scene:
    canvas: Header
    shape: tuple[int, int]
    sky: Sky
    frames: list[Frame]


def with_pixels(sky: Sky, one: Frame, random=None, gain=1.0, offset=0.0, noise=0.0) -> Frame:
    """The frame as the camera gives it: (sky - offset) / gain, and its own noise."""
    gain, offset = (np.broadcast_to(np.asarray(v, float), sky.level.shape)[:, None, None] for v in (gain, offset))
    pixels = (sky.seen(one.shape, one.to_canvas) - offset) / gain
    if noise:
        pixels += noise * random.standard_normal(pixels.shape)
    truth = {"gain": gain[:, 0, 0].copy(), "offset": offset[:, 0, 0].copy()}
    return Frame(pixels.astype(np.float32), one.header, one.shape, one.origin, one.turn, one.bend, truth)


def s1(seed=1, *, perfect=False, side=2600, tile=1000, step=800, number=4000, noise=10.0) -> Scene:
    """Scenario S1: nine turned tiles of three bands, each band with a gain and an offset of its own, over two nebulae and stars."""
    random = np.random.default_rng(seed)
    n = 1 + (side - tile) // step
    canvas = tangent((side / 2 + 0.5, side / 2 + 0.5), 2.0)
    nebulae = ((0.35 * side, 0.6 * side, 0.18 * side, 300.0), (0.7 * side, 0.3 * side, 0.12 * side, 120.0))
    sky = stars(random, number, (side, side), 1.9, level=(1000.0, 1100.0, 950.0), nebulae=nebulae)
    frames = []
    for j in range(n):
        for i in range(n):
            corner = np.array([i * step, j * step]) + random.uniform(-0.5, 0.5, 2)
            crpix = np.array([side / 2, side / 2]) - corner + 0.5
            gain = random.uniform(0.8, 1.2) * (1 + random.uniform(-0.02, 0.02, 3))
            offset = random.uniform(-50, 50) + random.uniform(-15, 15, 3)
            turn = random.uniform(-1.5, 1.5)
            # turned about its own middle, so that it stays where the grid has it
            middle = np.array([(tile - 1) / 2, (tile - 1) / 2])
            c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
            back = np.array([[c, s], [-s, c]])
            crpix = middle + back @ (crpix - 1.0 - middle) + 1.0
            one = frame(canvas, (tile, tile), tuple(crpix), turn)
            if perfect:
                gain, offset = np.ones(3), np.zeros(3)
            frames.append(with_pixels(sky, one, random, gain, offset, noise))
    return Scene(canvas, (side, side), sky, frames)


def sixteen(kind="tan", seed=2, side=6000, tile=2000, step=1333, number=1700) -> Scene:
    """Sixteen noise-free tiles, turned by up to 3 degrees, over stars of sigma 1.6 px; ``kind`` tan, sip or tpv: 7-10 px of distortion."""
    random = np.random.default_rng(seed)
    canvas = tangent((side / 2 + 0.5, side / 2 + 0.5), 1.0)
    sky = stars(random, number, (side, side), 1.6, faint=500.0, level=(100.0,), apart=30.0)
    bend = 0.0 if kind == "tan" else 9.0 * (2.0 / tile) ** 2 / 2.0
    frames = []
    n = 1 + (side - tile) // step
    for j in range(n):
        for i in range(n):
            turn = random.uniform(-3, 3)
            c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
            middle = np.array([(tile - 1) / 2, (tile - 1) / 2])
            away = np.array([(side - 1) / 2, (side - 1) / 2]) - (np.array([i * step, j * step]) + middle + random.uniform(-3, 3, 2))
            crpix = middle + np.array([[c, s], [-s, c]]) @ away + 1.0
            frames.append(bent(sky, canvas, (tile, tile), crpix, turn, bend, kind))
    return Scene(canvas, (side, side), sky, frames)


def bent(sky, canvas, shape, crpix, turn, bend, kind) -> Frame:
    """A frame whose distortion is centred on it: a reference point of its own would be needed for one far away, so its origin is moved."""
    if not bend:
        return with_pixels(sky, frame(canvas, shape, tuple(crpix), turn))
    ny, nx = shape
    middle = np.array([(nx - 1) / 2, (ny - 1) / 2])
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    there = np.array([[c, -s], [s, c]]) @ (middle - (np.asarray(crpix) - 1.0)) + np.array([canvas["CRPIX1"], canvas["CRPIX2"]]) - 1.0
    ra, dec = WCS(canvas).all_pix2world(there[0], there[1], 0)
    header = canvas.copy()
    header["CRVAL1"], header["CRVAL2"] = float(ra), float(dec)
    one = frame(header, shape, tuple(middle + 1.0), turn, bend, kind)
    to_canvas = exact(one.wcs, WCS(canvas))
    return Frame(sky.seen(shape, to_canvas).astype(np.float32), one.header, shape, one.origin, one.turn, bend)


def exact(wcs: WCS, canvas: WCS):
    """Pixels of one WCS to those of another, by astropy, pixel by pixel."""
    return lambda x, y: canvas.all_world2pix(*wcs.all_pix2world(x, y, 0), 0)


def windowed_centroid(cut, sigma: float, rounds: int = 12) -> tuple[float, float]:
    """(x, y) of a star in a cut without sky, from the cut's middle on: the mean under a Gaussian window that follows it (SExtractor's XWIN)."""
    y, x = np.mgrid[: cut.shape[0], : cut.shape[1]]
    u, v = (cut.shape[1] - 1) / 2, (cut.shape[0] - 1) / 2
    for _ in range(rounds):
        light = cut * np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2))
        u, v = u + 2 * (light * (x - u)).sum() / light.sum(), v + 2 * (light * (y - v)).sum() / light.sum()
    return u, v
