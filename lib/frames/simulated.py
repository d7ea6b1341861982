"""Frames of the embedded survey: a piece of its sky, as a camera sees it that turns, shifts, distorts and drifts, and loses pixels.

The sky is the survey's own model of a brick, noiseless, in nanomaggies.  Each frame samples it with a cubic spline at its own positions, so that
none of the code that makes mosaics is used to make their frames, and then has a gain, an offset, noise, cosmic rays, a bad column and, now
and then, a satellite's trail.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy import ndimage

from lib.survey.synthetic import optics
from lib.survey.synthetic.spec import BANDS, PIXEL_ARCSEC, SIDE_PIX, SurveySpec, brick_list, rng

NMGY = 2000.0  # counts a nanomaggy, before a frame's gain
SKY = 800.0  # counts
NOISE = 12.0
BEND = 4e-6  # quadratic distortion, 1/px: two px at a corner


@dataclass(frozen=True)
class Camera:
    """How many frames there are and how they lie; sides in px."""

    side_pix: int = 520
    rows: int = 3
    step_pix: int = 400
    turn_deg: float = 2.0
    gain: float = 0.2  # +- of 1
    offset: float = 60.0  # +- counts
    colour: bool = False  # one-shot-colour frames of all bands, else a frame a band
    frames_each: int = 1  # at the same place, dithered


def sky(spec: SurveySpec) -> tuple[dict[str, np.ndarray], WCS]:
    """The noiseless first brick of a survey in each band, nanomaggies a px, and its WCS."""
    brick = brick_list(spec)[0]
    fields = {band: optics.psf_field(spec, brick.name, band) for band in BANDS}
    return optics.draw(fields, *optics.around(spec, brick)), optics.wcs(brick)


def write(folder: Path, spec: SurveySpec, camera: Camera, images: dict[str, np.ndarray], plane: WCS) -> dict:
    """Write the frames, and ``truth.json`` with their gains and offsets, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    splines = {band: ndimage.spline_filter(image.astype(np.float32), order=3, output=np.float32) for band, image in images.items()}
    truth = {}
    number = 0
    for row in range(camera.rows):
        for column in range(camera.rows):
            for _ in range(camera.frames_each):
                number += 1
                for bands in [BANDS] if camera.colour else [(band,) for band in BANDS]:
                    random = rng(spec, "frames", f"{camera.colour}/{number}/{''.join(bands)}")
                    name = f"{'osc' if camera.colour else bands[0]}-{number:03d}.fits"
                    truth[name] = _frame(folder / name, random, camera, (row, column), bands, splines, plane, number)
    (folder / "truth.json").write_text(json.dumps(truth, indent=1, sort_keys=True) + "\n")
    return truth


def _frame(path: Path, random, camera: Camera, place, bands, splines, plane: WCS, number: int) -> dict:
    side = camera.side_pix
    corner = SIDE_PIX / 2 - camera.step_pix * camera.rows / 2 + camera.step_pix * np.array(place, float) + random.uniform(-6, 6, 2)
    turn = np.radians(random.uniform(-camera.turn_deg, camera.turn_deg))
    kind = ("TAN", "SIP", "TPV")[number % 3]
    bend = 0.0 if kind == "TAN" else BEND
    y, x = np.mgrid[:side, :side].astype(float)
    middle = (side - 1) / 2
    u, v = x - middle, y - middle
    u, v = u + bend * u * u, v + bend * u * v
    c, s = np.cos(turn), np.sin(turn)
    at = np.array([corner[0] + middle + s * u + c * v, corner[1] + middle + c * u - s * v])  # rows, columns of the brick
    gain, offset = random.uniform(1 - camera.gain, 1 + camera.gain), random.uniform(-camera.offset, camera.offset)
    planes = []
    for band in bands:
        seen = ndimage.map_coordinates(splines[band], at, order=3, prefilter=False, mode="nearest")
        planes.append((NMGY * seen + SKY - offset) / gain + NOISE * random.standard_normal(seen.shape))
    pixels = np.array(planes)
    _spoil(pixels, random, number)
    header = _header(plane, corner + middle, turn, side, bend, kind)
    header["BUNIT"], header["FILTER"] = "adu", "osc" if camera.colour else bands[0]
    if camera.colour:
        header["BAYERPAT"] = "GRBG"
        red, green, blue = pixels[::-1]  # z is red
        raw = np.where((y % 2 == x % 2), green, np.where(y % 2 == 0, red, blue))
        fits.PrimaryHDU(np.clip(np.rint(raw), 0, 65535).astype(np.uint16), header).writeto(path, overwrite=True)
    else:
        fits.PrimaryHDU(pixels[0].astype(np.float32), header).writeto(path, overwrite=True)
    return {"gain": gain, "offset": offset, "wcs": kind}


def _spoil(pixels, random, number: int) -> None:
    """Cosmic rays, a bad column as NaN, a trail on every fifth frame; in place."""
    side = pixels.shape[-1]
    for y, x in random.integers(0, side - 8, (60, 2)):
        for k in range(int(random.integers(1, 8))):
            pixels[:, y + k, x + (k if random.random() < 0.5 else 0)] += random.uniform(300, 3000)
    pixels[:, :, int(random.integers(20, side - 20))] = np.nan if pixels.shape[0] == 1 else 0.0
    if number % 5 == 0:
        slope, start = random.uniform(-0.7, 0.7), random.uniform(0.3, 0.7) * side
        y, x = np.mgrid[:side, :side]
        pixels[:, np.abs(y - start - slope * (x - side / 2)) < 2.5] += 400.0


def _header(plane: WCS, middle, turn: float, side: int, bend: float, kind: str) -> fits.Header:
    """A header whose reference pixel is the frame's middle; the distortion as SIP or as TPV."""
    reference = plane.deepcopy()
    ra, dec = (float(w) for w in reference.all_pix2world(middle[1], middle[0], 0))
    step = PIXEL_ARCSEC / 3600.0
    # the brick's rows and columns are turned against north by the convergence of the meridians, and by it alone
    north = reference.all_world2pix([ra, ra], [dec, dec + 1e-4], 0)
    tilt = np.arctan2(north[0][1] - north[0][0], north[1][1] - north[1][0])
    c, s = np.cos(turn + tilt), np.sin(turn + tilt)
    cd = step * np.array([[-c, s], [s, c]])
    header = fits.Header()
    header.update({
        "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": (side + 1) / 2, "CRPIX2": (side + 1) / 2,
        "CD1_1": cd[0, 0], "CD1_2": cd[0, 1], "CD2_1": cd[1, 0], "CD2_2": cd[1, 1], "RADESYS": "ICRS",
    })  # fmt: skip
    if kind == "SIP":
        header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2, "A_2_0": bend, "B_1_1": bend})
    if kind == "TPV":  # u + bend u**2 and v + bend u v, times CD, as polynomials of the undistorted CD (u, v)
        back = np.linalg.inv(cd)
        for axis in (0, 1):
            uu, uv = np.outer(back[0], back[0]), np.outer(back[0], back[1])
            terms = bend * (cd[axis, 0] * uu + cd[axis, 1] * uv)
            ordered = (terms[0, 0], terms[0, 1] + terms[1, 0], terms[1, 1])
            header[f"PV{axis + 1}_1"] = 1.0
            header.update({f"PV{axis + 1}_{k}": w for k, w in zip((4, 5, 6), ordered if axis == 0 else ordered[::-1], strict=True)})
        header.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"})
    return header
