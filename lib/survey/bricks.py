"""One brick's coadds, by windows: the file names of the Legacy Surveys, tile-compressed, never a whole plane."""

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.io import fits

from lib.errors import RowError
from lib.survey import wcs

PSF_KINDS = {"coadd": "copsf", "map": "psfsize"}  # the coadds behind a tier's sources of the PSF; its others are columns


def path(survey: Path, brickname: str, kind: str, band: str = "") -> Path:
    """Where a coadd lies: ``coadd/{AAA}/{brick}/legacysurvey-{brick}-{kind}[-{band}].fits.fz``."""
    name = f"legacysurvey-{brickname}-{kind}{'-' + band if band else ''}.fits.fz"
    return survey / "coadd" / brickname[:3] / brickname / name


def wanted(bands, psf_sources) -> list[tuple[str, str, bool]]:
    """(kind, band, needed) of the coadds that a brick's stamps are made from: without a needed one they cannot be made.

    >>> wanted("r", ("map", "brick"))
    [('image', 'r', True), ('invvar', 'r', True), ('psfsize', 'r', False), ('maskbits', '', False)]
    """
    kinds = {"image": True, "invvar": True}
    kinds |= {kind: len(psf_sources) == 1 for source, kind in PSF_KINDS.items() if source in psf_sources}
    return [(kind, band, needed) for kind, needed in kinds.items() for band in bands] + [("maskbits", "", False)]


@dataclass
class Brick:
    """A brick's files, opened when first asked for and closed with the brick."""

    survey: Path
    name: str
    _open: dict = field(default_factory=dict)
    _kernels: dict = field(default_factory=dict)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for hdus, _hdu in self._open.values():
            hdus.close()
        self._open.clear()

    def has(self, kind: str, band: str = "") -> bool:
        return path(self.survey, self.name, kind, band).is_file()

    def _hdu(self, kind: str, band: str = ""):
        if (kind, band) not in self._open:
            file = path(self.survey, self.name, kind, band)
            try:
                hdus = fits.open(file, memmap=False, lazy_load_hdus=False)
                self._open[kind, band] = (hdus, next(h for h in hdus if h.is_image and len(h.shape) == 2))
            except FileNotFoundError as error:
                raise RowError("missing_file", f"no such file: {file}") from error
            except (OSError, StopIteration, ValueError, TypeError, KeyError) as error:
                raise RowError("unreadable", f"{file}: {error or 'no image in it'}") from error
        return self._open[kind, band][1]

    @cached_property
    def wcs(self):
        return wcs.from_header(self._hdu("image", "r" if self.has("image", "r") else "g").header)

    @cached_property
    def pixel_scale_arcsec(self) -> float:
        return wcs.pixel_scale_arcsec(self.wcs)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the planes."""
        return self._hdu("image", "r" if self.has("image", "r") else "g").shape

    def window(self, kind: str, band: str, x0: int, y0: int, width: int, height: int) -> np.ndarray:
        """Pixels [y0, y0 + height) x [x0, x0 + width) of a plane, native byte order."""
        hdu = self._hdu(kind, band)
        ny, nx = hdu.shape
        if x0 < 0 or y0 < 0 or x0 + width > nx or y0 + height > ny:
            raise RowError("edge", f"window at ({x0}, {y0}) of {width} x {height} px reaches over the {nx} x {ny} px brick")
        try:
            data = hdu.section[y0 : y0 + height, x0 : x0 + width]
        except Exception as error:  # the decoders of a damaged tile raise many kinds
            raise RowError("unreadable", f"{path(self.survey, self.name, kind, band)}: {error}") from error
        if data.shape != (height, width):
            raise RowError("unreadable", f"{path(self.survey, self.name, kind, band)}: truncated")
        if kind == "maskbits" and data.dtype.kind not in "iu":
            raise RowError("unreadable", f"{path(self.survey, self.name, kind, band)}: bits must be integers, got {data.dtype}")
        return np.ascontiguousarray(data.astype(data.dtype.newbyteorder("=")))

    def windows(self, kind: str, band: str, x0, y0, width: int, height: int) -> tuple[np.ndarray, dict[int, RowError]]:
        """(windows (n, height, width), faults of those that have one) of one plane at many places."""
        found, faults = {}, {}
        self._hdu(kind, band)  # a file that is not there is not a window's fault
        for k, (x, y) in enumerate(zip(x0, y0, strict=True)):
            try:
                found[k] = self.window(kind, band, int(x), int(y), width, height)
            except RowError as error:
                faults[k] = error
        out = np.zeros((len(x0), height, width), next(iter(found.values())).dtype if found else np.float32)
        for k, pixels in found.items():
            out[k] = pixels
        return out, faults

    def kernel(self, band: str) -> np.ndarray:
        """The brick's coadd PSF image, whole."""
        if band not in self._kernels:
            ny, nx = self._hdu("copsf", band).shape
            self._kernels[band] = self.window("copsf", band, 0, 0, nx, ny)
        return self._kernels[band]
