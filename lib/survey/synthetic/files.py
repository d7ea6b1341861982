"""The coadd files of a brick: the surveys' names, headers and tile compression."""

from io import BytesIO
from pathlib import Path
from zlib import crc32

import numpy as np
from astropy.io import fits

from lib.imaging import psf
from lib.survey.geometry import BrickGeometry
from lib.survey.synthetic import optics
from lib.survey.synthetic.coadds import Band
from lib.survey.synthetic.spec import BANDS, PIXEL_ARCSEC

TILE = (100, 100)
RICE = {"compression_type": "RICE_1", "quantize_method": 2}  # SUBTRACTIVE_DITHER_2: zeros stay exactly 0
COMPRESSION = {
    "image": RICE | {"quantize_level": -1e-4},  # negative: the quantum itself, in nmgy
    "invvar": RICE | {"quantize_level": 16.0},
    "nexp": {"compression_type": "HCOMPRESS_1", "hcomp_scale": 0},
    "maskbits": {"compression_type": "HCOMPRESS_1", "hcomp_scale": 0},
    "psfsize": {"compression_type": "GZIP_1", "quantize_level": 0.0},
    "depth": {"compression_type": "GZIP_1", "quantize_level": 0.0},
}
UNITS = {"image": "nanomaggy", "invvar": "1/nanomaggy^2", "depth": "1/nanomaggy^2", "psfsize": "arcsec"}
PRODUCTS = {"image": "image", "invvar": "wtmap", "nexp": "expmap", "maskbits": "dqmask"}


def file_name(brick: str, kind: str, band: str | None = None) -> str:
    """
    >>> file_name("1501p022", "image", "g"), file_name("1501p022", "maskbits")
    ('legacysurvey-1501p022-image-g.fits.fz', 'legacysurvey-1501p022-maskbits.fits.fz')
    """
    return f"legacysurvey-{brick}-{kind}{'-' + band if band else ''}.fits.fz"


def header(brick: BrickGeometry, kind: str, band: str | None) -> fits.Header:
    """As a real coadd's, without its dates and machines; SURVEY says that it is none."""
    cards = [
        ("SURVEY", "SIMULATED", "arcmill synthetic survey"),
        ("DRVERSIO", 10000, "Survey data release imitated"),
        ("OBSTYPE", "object", "Observation type"),
        ("PROCTYPE", "tile", "Processing type"),
        ("BRICKNAM", brick.name, "LegacySurvey brick RRRr[pm]DDd"),
        ("BRICKID", brick.brickid, "LegacySurvey brick id"),
        ("RAMIN", brick.ra1, "Brick RA min"),
        ("RAMAX", brick.ra2, "Brick RA max"),
        ("DECMIN", brick.dec1, "Brick Dec min"),
        ("DECMAX", brick.dec2, "Brick Dec max"),
        ("BRICKRA", brick.ra, "Brick center"),
        ("BRICKDEC", brick.dec, "Brick center"),
        ("BANDS", "".join(BANDS), "Bands touching this brick"),
        ("NBANDS", len(BANDS), "Number of bands"),
        *((f"BAND{i}", name, "Band name") for i, name in enumerate(BANDS)),
    ]
    if band:
        cards += [("FILTER", band, "Band of this image"), ("BAND", band, "Band of this image")]
    plane = optics.wcs(brick).wcs
    cards += [("CTYPE1", plane.ctype[0], "TANgent plane"), ("CTYPE2", plane.ctype[1], "TANgent plane")]
    cards += [(f"CRVAL{i + 1}", float(plane.crval[i]), "Reference RA, Dec") for i in (0, 1)]
    cards += [(f"CRPIX{i + 1}", float(plane.crpix[i]), "Reference x, y") for i in (0, 1)]
    cards += [(f"CD{i + 1}_{j + 1}", float(plane.cd[i, j]), "CD matrix") for i in (0, 1) for j in (0, 1)]
    cards += [
        ("EQUINOX", 2000.0, "Equinox of the coordinates"),
        ("IMTYPE", kind, "LegacySurvey image type"),
        ("PRODTYPE", PRODUCTS.get(kind, kind), "NOAO image type"),
    ]
    if kind == "image":
        cards.append(("MAGZERO", 22.5, "Magnitude zeropoint"))
    if kind in UNITS:
        cards.append(("BUNIT", UNITS[kind], "Unit of the pixels"))
    return fits.Header(cards)


def _dither(brick: str, kind: str, band: str | None) -> int:
    return 1 + crc32(f"{brick}/{kind}/{band}".encode()) % 10_000


def without_clock(data: bytes) -> bytes:
    """The bytes of a compressed FITS image with the time of writing, which gzip notes in each tile, set to 0."""
    stamped = bytearray(data)
    with fits.open(BytesIO(data), disable_image_compression=True) as hdus:
        header, start = hdus[1].header, hdus[1].fileinfo()["datLoc"]
        records = np.asarray(hdus[1].data)
        gzipped = "COMPRESSED_DATA" if header["ZCMPTYPE"].startswith("GZIP") else "GZIP_COMPRESSED_DATA"
        tiles = records[gzipped].reshape(-1, 2).astype(np.int64) if gzipped in (records.dtype.names or ()) else ()
        heap = start + header.get("THEAP", header["NAXIS1"] * header["NAXIS2"])
    for size, offset in tiles:
        if size:
            at = heap + int(offset)
            stamped[at + 4 : at + 8] = bytes(4)
    return bytes(stamped)


def _write(path: Path, hdu: fits.CompImageHDU) -> None:
    stream = BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(stream)
    path.write_bytes(without_clock(stream.getvalue()))


def write_image(folder: Path, brick: BrickGeometry, kind: str, band: str | None, data) -> None:
    """One compressed image, in HDU 1."""
    hdu = fits.CompImageHDU(
        data, header(brick, kind, band), tile_shape=TILE,
        dither_seed=_dither(brick.name, kind, band), **COMPRESSION[kind],
    )  # fmt: skip
    _write(folder / file_name(brick.name, kind, band), hdu)


def write_band(folder: Path, brick: BrickGeometry, data: Band) -> None:
    for kind in ("image", "invvar", "nexp", "psfsize", "depth"):
        write_image(folder, brick, kind, data.band, getattr(data, kind))


def write_psf(folder: Path, brick: BrickGeometry, band: str, field: optics.PsfField) -> None:
    """The PSF at the brick's centre, 63 x 63 px, sum 1."""
    side = np.arange(63) - 31.0
    middle = optics.SIDE_PIX / 2 - 0.5
    kernel = field.brightness(PIXEL_ARCSEC * np.hypot(side, side[:, None]), field.mixing(middle, middle))
    kernel = psf.Pixelised(kernel).kernel.astype(np.float32)
    hdu = fits.CompImageHDU(kernel, header(brick, "copsf", band), tile_shape=(63, 63), compression_type="GZIP_1", quantize_level=0.0)
    _write(folder / file_name(brick.name, "copsf", band), hdu)
