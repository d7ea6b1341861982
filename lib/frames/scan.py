"""Frames of a folder: what their headers say, a row each; those that will not do keep their reason."""

import io
import re
import warnings
from contextlib import contextmanager

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from astropy.wcs import WCS

from lib.errors import OK, InputError, RowError
from lib.mosaic import lattice
from lib.place import Place
from lib.survey import wcs as headers

SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fits.fz")
BESIDE = re.compile(r"_oow_|_ood_|\.wht\.|survey-ccds|survey-bricks|/calib/|^calib/")  # weights, masks, tables
NANOMAGGY, ADU = "nanomaggy", "adu"
SPELT = {"nanomaggies": NANOMAGGY, "nmgy": NANOMAGGY, "count": ADU, "counts": ADU, "dn": ADU, "": ADU}
EXPOSED = ("decam",)  # cameras whose zero points are of one second


def files(place: Place) -> list[str]:
    """Names of the image files of a folder."""
    found = sorted(f.name for f in place.files() if f.name.lower().endswith(SUFFIXES) and not BESIDE.search(f.name))
    if not found:
        raise InputError(f"no FITS images in {place}: files that end in {', '.join(SUFFIXES)}")
    return found


@contextmanager
def opened(place: Place, name: str, mapped: bool = True):
    """A FITS file of a folder or a bucket, ``mapped`` into memory where it can be; one that cannot be read is a ``RowError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            source = str(place.local / name) if place.local else io.BytesIO(place.read(name))
            with fits.open(source, memmap=mapped and place.local is not None) as file:
                yield file
    except FileNotFoundError as error:
        raise RowError("missing_file", f"{name} does not exist") from error
    except (OSError, EOFError, ValueError, TypeError, fits.VerifyError) as error:
        raise RowError(
            "unreadable", f"{name}: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}"
        ) from error


def zero_points(place: Place) -> dict[tuple[str, str], float]:
    """(file name, HDU name) -> nanomaggies a unit of the pixels, from the folder's ``survey-ccds`` tables.

    AB zero points: 22.5 mag is a nanomaggy; DECam's are of counts a second, those of the other cameras of counts.
    """
    found: dict[tuple[str, str], float] = {}
    for name in (f.name for f in place.files() if "survey-ccds" in f.name and f.name.endswith((".fits", ".fits.gz"))):
        with opened(place, name) as file:
            rows = file[1].data
            have = {c.lower() for c in rows.columns.names}
            if missing := {"image_filename", "ccdname", "ccdzpt", "exptime", "camera"} - have:
                raise InputError(f"{place}/{name}: no column {', '.join(sorted(missing))}")
            for path, ccd, zero, seconds, camera in zip(
                *(rows[c] for c in ("image_filename", "ccdname", "ccdzpt", "exptime", "camera")), strict=True
            ):
                time = float(seconds) if str(camera).strip() in EXPOSED else 1.0
                found[str(path).strip().split("/")[-1], str(ccd).strip().lower()] = 1.0 / (time * 10.0 ** (0.4 * (float(zero) - 22.5)))
    return found


def rows(place: Place, name: str, zero: dict[tuple[str, str], float] | None = None) -> list[dict]:
    """A row of FRAMES for each image of a file; a file that cannot be read is a row, too."""
    base = {"path": name, "bytes": place.head(name).size, "kind": "image", "band": "", "unit": "", "scale": 1.0, "error": None}
    try:
        with opened(place, name) as file:
            numbers = [k for k, hdu in enumerate(file) if hdu.is_image and hdu.header.get("NAXIS", 0) in (2, 3)]
            if not numbers:
                raise RowError("unreadable", f"{name} has no image")
            found = []
            for k in numbers:
                found.append(_row(place, file, k, base, zero or {}))
                if file[k].header["NAXIS"] and place.local is not None:
                    _whole(place, name, file, k)
            return found
    except RowError as error:
        return [base | {"frame_id": name, "hdu": 0, "status": error.code, "error": str(error)}]


def _row(place: Place, file, number: int, base: dict, zero: dict) -> dict:
    header, first = file[number].header, file[0].header
    row = base | {"frame_id": f"{base['path']}[{number}]", "hdu": number}
    axes = header["NAXIS"]
    ny, nx = header["NAXIS2"], header["NAXIS1"]
    planes = header["NAXIS3"] if axes == 3 else 1
    pattern = str(header.get("BAYERPAT", first.get("BAYERPAT", ""))).strip().upper()
    kind = "bayer" if pattern and axes == 2 else "image"
    band = str(header.get("FILTER", first.get("FILTER", "")) or "").strip().split(" ")[0]
    unit = str(header.get("BUNIT", first.get("BUNIT", "")) or "").strip().lower()
    row |= {"planes": 3 if kind == "bayer" else planes, "ny": ny, "nx": nx, "kind": kind, "band": band, "unit": SPELT.get(unit, unit)}
    row |= _beside(place, base["path"])
    if "weight_path" in row or "mask_path" in row:
        row["kind"] = "ccd"
    key = base["path"].split("/")[-1], str(header.get("EXTNAME", "")).strip().lower()
    if key in zero:
        row |= {"scale": zero[key], "unit": NANOMAGGY}
    try:
        wcs = headers.from_header(header)
        row |= {"wcs": wcs.to_header(relax=True).tostring(sep="\n"), "pixel_arcsec": lattice.pixel_arcsec(wcs)}
        ra, dec = (float(v) for v in wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
        if not np.isfinite([ra, dec]).all():
            raise RowError("no_wcs", "the WCS gives no sky position for the image's middle")
        return row | {"ra_deg": ra % 360.0, "dec_deg": dec, "status": OK}
    except (RowError, ValueError) as error:
        return row | {"status": "no_wcs", "error": f"{base['path']}: {error}", "wcs": None, "pixel_arcsec": None}


def _whole(place: Place, name: str, file, number: int) -> None:
    """An uncompressed image whose file ends before its pixels do is unreadable now, not when its tile is made."""
    hdu = file[number]
    info = hdu.fileinfo()
    if isinstance(hdu, fits.CompImageHDU) or name.endswith(".gz") or info is None or place.local is None:
        return
    if (place.local / name).stat().st_size < info["datLoc"] + hdu.size:
        raise RowError("unreadable", f"{name} is truncated: HDU {number} needs more bytes than there are")


def _beside(place: Place, name: str) -> dict:
    """Weight and mask of a CCD: the community pipelines' ooi, oow and ood (oki for Mosaic-3), or a ``.wht``."""
    found = {}
    if re.search(r"_o[ok]i_", name):
        for key, what in (("weight_path", "oow"), ("mask_path", "ood")):
            if place.has(other := re.sub(r"_o[ok]i_", f"_{what}_", name)):
                found[key] = other
    elif place.has(other := re.sub(r"(\.fits?)", r".wht\1", name, count=1)) and other != name:
        found["weight_path"] = other
    return found


def wcs_of(cards: str) -> WCS:
    """The WCS of a row's cards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        return WCS(fits.Header.fromstring(cards, sep="\n")).celestial


def cards_of(wcs: WCS) -> str:
    return wcs.to_header(relax=True).tostring(sep="\n")
