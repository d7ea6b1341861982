"""Pixels of a frame or a tile, a window at a time, as ``lib.mosaic`` takes them."""

from functools import lru_cache

import numpy as np
from astropy.io import fits

from lib.errors import RowError
from lib.frames import products, scan
from lib.mosaic import image
from lib.mosaic.image import Image
from lib.mosaic.lattice import Window
from lib.place import Place

KEPT = 2  # whole images that a process remembers, of those that cannot be read in part


def frame(place: Place, row: dict, window: Window | None = None) -> Image:
    """A frame's window: scaled, debayered, its masked pixels NaN."""
    whole = Window(0, 0, row["ny"], row["nx"])
    window = whole if window is None else window & whole
    cut = np.s_[..., window.y0 : window.y1, window.x0 : window.x1]
    if row["kind"] == "bayer":
        pixels = _colours(place, row["path"], row["hdu"])[cut]
    else:
        pixels = _cut(place, row["path"], row["hdu"], cut)
    if row["scale"] != 1.0:
        pixels = np.asarray(pixels, np.float32) * np.float32(row["scale"])
    return image.of(pixels, scan.wcs_of(row["wcs"]), _quality(place, row, cut), full=(row["ny"], row["nx"]), origin=(window.y0, window.x0))


def tile(place: Place, row: dict, wcs, window: Window | None = None) -> Image:
    """A tile of the level before; its weight, over the median, is its quality."""
    whole = Window(0, 0, row["ny"], row["nx"])
    window = whole if window is None else window & whole
    cut = np.s_[..., window.y0 : window.y1, window.x0 : window.x1]
    pixels = _cut(place, row["path"], 1, cut)
    weight = np.asarray(_cut(place, row["path"], 2, cut), np.float32).min(axis=0)
    typical = row["weight"]
    return image.of(pixels, wcs, weight / typical if typical > 0 else weight, full=(row["ny"], row["nx"]), origin=(window.y0, window.x0))


def _quality(place: Place, row: dict, cut) -> np.ndarray | None:
    """A CCD's inverse variance over its median, 0 where its mask has a bit."""
    if row["kind"] != "ccd":
        return None
    found = None
    if row.get("weight_path"):
        found = np.asarray(_cut(place, row["weight_path"], row["hdu"], cut), np.float32)
        typical = _median_weight(place, row["weight_path"], row["hdu"])
        found = np.where(found > 0, found / np.float32(typical), np.float32(0.0))
    if row.get("mask_path"):
        good = np.asarray(_cut(place, row["mask_path"], row["hdu"], cut)) == 0
        found = good.astype(np.float32) if found is None else found * good
    return found


@lru_cache(maxsize=64)
def _median_weight(place: Place, name: str, hdu: int) -> float:
    weight = np.asarray(_cut(place, name, hdu, np.s_[...]), np.float32)
    good = weight[weight > 0]
    return float(np.median(good)) if good.size else 1.0


def _cut(place: Place, name: str, hdu: int, cut):
    """A part of an image: only its rows are read where the file lets them, else the whole is, once."""
    if name.endswith(".gz") or place.local is None:
        return _all(place, name, hdu)[cut]
    with scan.opened(place, name) as file:
        if hdu >= len(file) or not file[hdu].is_image:
            raise RowError("unreadable", f"{name} has no image in HDU {hdu}")
        if isinstance(file[hdu], fits.CompImageHDU) or file[hdu].header.get("BZERO") or file[hdu].header.get("BSCALE"):
            axes = len(file[hdu].shape)
            full = (slice(None),) * (axes - 2) + (cut[-2:] if isinstance(cut, tuple) else (slice(None),) * 2)
            return np.asarray(file[hdu].section[full])
        return np.array(file[hdu].data[cut])


@lru_cache(maxsize=KEPT)
def _all(place: Place, name: str, hdu: int) -> np.ndarray:
    with scan.opened(place, name, mapped=False) as file:
        if hdu >= len(file) or file[hdu].data is None:
            raise RowError("unreadable", f"{name} has no image in HDU {hdu}")
        return np.array(file[hdu].data)


@lru_cache(maxsize=KEPT)
def _colours(place: Place, name: str, hdu: int) -> np.ndarray:
    """(3, ny, nx) float32, red, green, blue, of a one-shot-colour frame: bilinear, by OpenCV."""
    import cv2

    raw = _all(place, name, hdu)
    with scan.opened(place, name) as file:
        pattern = str(file[hdu].header.get("BAYERPAT", file[0].header.get("BAYERPAT", ""))).strip().upper()
    code = getattr(cv2, f"COLOR_Bayer{pattern}2RGB", None)
    if code is None:
        raise RowError("unreadable", f"{name}: BAYERPAT is {pattern!r}, known are RGGB, GRBG, GBRG, BGGR")
    if not (np.asarray(raw) == np.round(raw)).all() or raw.min() < 0 or raw.max() > 65535:
        raise RowError("unreadable", f"{name}: a one-shot-colour frame must have whole numbers from 0 to 65535")
    return np.ascontiguousarray(np.moveaxis(cv2.demosaicing(np.ascontiguousarray(raw, np.uint16), code), -1, 0), np.float32)


def counts(place: Place, row: dict, window: Window) -> np.ndarray:
    """(h, w) how many frames are in each pixel of a tile's window."""
    return _cut(place, row["path"], products.COVERAGE, np.s_[..., window.y0 : window.y1, window.x0 : window.x1])[0]


def whole(place: Place, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Science, weight (bands, ny, nx), coverage (ny, nx) and rejected (bands, ny, nx) of a tile's file."""
    with scan.opened(place, name) as file:
        science, weight, coverage, rejected = (np.array(file[k].data) for k in range(1, 5))
    return science, weight, coverage[0], rejected
