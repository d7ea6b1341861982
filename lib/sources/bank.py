"""The bank of sources: a Parquet table of SOURCES, checked when written and when read."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lib import rows
from lib.errors import InputError, OutputError
from lib.lensing.raster import Raster
from lib.schemas import column, fact
from lib.sources.stamp import BORDER, Source, half_light_radius

SOURCES = pa.schema([
    column("source_id", pa.string(), "name of the galaxy, once in a bank"),
    column("image", pa.binary(), "float32, row-major, side_pix**2 pixels, sum 1, nowhere negative, zero at the edge, centred on its light"),
    column("side_pix", pa.int32(), "side of the image", "pixel", low=8, high=4096),
    column("pixel_arcsec", pa.float64(), "side of a pixel", "arcsec", low=1e-4, high=10),
    column("psf_fwhm_arcsec", pa.float32(), "FWHM of the round Gaussian PSF left in the brighter half of the light; 0: none", "arcsec", low=0, high=10),
    column("half_light_radius_arcsec", pa.float32(), "of a circle about the image's centre, that PSF included", "arcsec", low=1e-4, high=100),
    column("snr", pa.float32(), "the galaxy's counts over the sky's noise in their sum", nullable=True, low=0),
    column("counts", pa.float64(), "sum of the image before it was made 1, in the stamp's unit", nullable=True, low=0),
    column("aperture_arcsec2", pa.float32(), "area that the counts are summed over", "arcsec2", nullable=True, low=0),
    column("band", pa.string(), "filter of the stamp", nullable=True),
    column("zero_point_mag", pa.float32(), "AB magnitude of one count", "mag", nullable=True, low=0, high=60),
    column("mag_measured", pa.float32(), "AB magnitude of the counts", "mag", nullable=True, low=5, high=40),
    column("mag_catalogue", pa.float32(), "AB magnitude of the galaxy in its catalogue", "mag", nullable=True, low=5, high=40),
    column("origin", pa.string(), "where the stamp is from: survey, file, number in it"),
])  # fmt: skip
SUM_ERROR = 1e-3
OFF_CENTRE_PIX = 1.0
RADIUS_ERROR = 0.1  # of the radius as counted by whole pixels, at least half a pixel


@dataclass(frozen=True, eq=False)
class Bank:
    """The sources of a bank in its order; ``images`` are square, each of its own side."""

    source_ids: list[str]
    images: list[np.ndarray]
    pixel_arcsec: np.ndarray
    psf_fwhm_arcsec: np.ndarray
    half_light_radius_arcsec: np.ndarray

    def rasters(self) -> list[Raster]:
        """The images as the renderer draws them: ``render.draw(scene, ..., images=bank.rasters())``."""
        sizes = self.half_light_radius_arcsec / self.pixel_arcsec
        return [Raster(image, float(size)) for image, size in zip(self.images, sizes, strict=True)]


def record(source: Source, source_id: str, origin: str, *, band=None, zero_point_mag=None, mag_catalogue=None) -> dict:
    """A row of SOURCES."""
    return {
        "source_id": source_id,
        "image": source.image.tobytes(),
        "side_pix": len(source.image),
        "pixel_arcsec": source.pixel_arcsec,
        "psf_fwhm_arcsec": source.psf_fwhm_arcsec,
        "half_light_radius_arcsec": source.half_light_radius_arcsec,
        "snr": source.snr,
        "counts": source.counts,
        "aperture_arcsec2": source.aperture_arcsec2,
        "band": band,
        "zero_point_mag": zero_point_mag,
        "mag_measured": None if zero_point_mag is None else zero_point_mag - 2.5 * np.log10(source.counts),
        "mag_catalogue": mag_catalogue,
        "origin": origin,
    }


def table(records: list[dict]) -> pa.Table:
    """A SOURCES table of records; a column no record has is null."""
    names = dict.fromkeys(name for r in records for name in r) or dict.fromkeys(SOURCES.names)
    return rows.table({name: [r.get(name) for r in records] for name in names}, SOURCES)


def write(data: pa.Table, path: str) -> None:
    """Write a bank, whole or not at all; a table that ``read`` would refuse is refused here."""
    _require_sound(data, path)
    part = Path(f"{path}.{os.getpid()}.part")
    try:
        pq.write_table(data, part, compression="zstd")
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def read(path: str) -> Bank:
    """The bank in a Parquet file, every image checked."""
    try:
        data = pq.read_table(path)
    except FileNotFoundError as error:
        raise InputError(f"no such file: {path}") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} is not a whole Parquet file: {error}") from error
    _require_sound(data, path)
    numbers = {n: data[n].to_numpy().astype(float) for n in ("pixel_arcsec", "psf_fwhm_arcsec", "half_light_radius_arcsec")}
    return Bank(data["source_id"].to_pylist(), [_image(r) for r in data.select(["image", "side_pix"]).to_pylist()], **numbers)


def _image(row) -> np.ndarray:
    return np.frombuffer(row["image"], np.float32).reshape(row["side_pix"], row["side_pix"])


def _require_sound(data: pa.Table, path) -> None:
    """Raise an InputError that names the file, and the sources that are at fault, each with all its faults."""
    try:
        rows.check(data, SOURCES)
    except ValueError as error:
        raise InputError(f"{path} is not a bank of sources: {error}") from error
    if not data.num_rows:
        raise InputError(f"{path} holds no source")
    seen: set[str] = set()
    found = []
    for row in data.to_pylist():
        faults = (list(_out_of_range(row)) or _faults(row)) + ["source_id occurs twice"] * (row["source_id"] in seen)
        seen.add(row["source_id"])
        found += [f"source {row['source_id']}: {', '.join(faults)}"] if faults else []
    if found:
        more = f"; and {len(found) - 5} more" if len(found) > 5 else ""
        raise InputError(f"{path}: {'; '.join(found[:5])}{more}")


def _out_of_range(row):
    for field in SOURCES:
        value, low, high = row[field.name], float(fact(field, "low") or "-inf"), float(fact(field, "high") or "inf")
        if isinstance(value, int | float) and not low <= value <= high:
            yield f"{field.name} must be {low:g} to {high:g}, got {value:g}"


def _faults(row):
    """What is wrong with an image, in words."""
    if len(row["image"]) != 4 * row["side_pix"] ** 2:
        return [f"image has {len(row['image'])} bytes, not 4 * {row['side_pix']}**2"]
    image = _image(row).astype(float)
    if not np.isfinite(image).all():
        return [f"image has {int((~np.isfinite(image)).sum())} pixels that are NaN or infinite"]
    total = image.sum()
    if abs(total - 1.0) > SUM_ERROR:
        return [f"image must have the sum 1, got {total:.6g}"]
    faults = [f"image has {int((image < 0).sum())} negative pixels"] if (image < 0).any() else []
    inner = image[BORDER:-BORDER, BORDER:-BORDER]
    if np.count_nonzero(inner) != np.count_nonzero(image):
        faults.append(f"image must be zero in its outer {BORDER} rows and columns, where a step would be seen")
    place = np.arange(len(image)) - (len(image) - 1) / 2
    off = np.hypot((image.sum(0) * place).sum(), (image.sum(1) * place).sum())
    if off > OFF_CENTRE_PIX:
        faults.append(f"image must be centred on its light to {OFF_CENTRE_PIX:g} px, is off by {off:.1f}")
    radius, said = half_light_radius(image, fine=1), row["half_light_radius_arcsec"] / row["pixel_arcsec"]
    if abs(radius - said) > max(RADIUS_ERROR * radius, 0.5):
        faults.append(f"half_light_radius_arcsec is {said:.2f} px, the image's {radius:.2f} px")
    return faults
