"""One brick's coadds, by windows: the file names of the Legacy Surveys, each tile read once, never a whole plane."""

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np

from lib.errors import RowError
from lib.place import Place
from lib.survey import wcs
from lib.survey.fz import Image

PSF_KINDS = {"coadd": "copsf", "map": "psfsize"}  # the coadds behind a tier's sources of the PSF; its others are columns


def path(survey: Path, brickname: str, kind: str, band: str = "") -> Path:
    """Where a coadd lies: ``coadd/{AAA}/{brick}/legacysurvey-{brick}-{kind}[-{band}].fits.fz``."""
    return survey / name(brickname, kind, band)


def name(brickname: str, kind: str, band: str = "") -> str:
    """A coadd's name in the survey's folder.

    >>> name("1501p022", "image", "g")
    'coadd/150/1501p022/legacysurvey-1501p022-image-g.fits.fz'
    """
    return f"coadd/{brickname[:3]}/{brickname}/legacysurvey-{brickname}-{kind}{'-' + band if band else ''}.fits.fz"


def wanted(bands, psf_sources) -> list[tuple[str, str, bool]]:
    """(kind, band, needed) of the coadds that a brick's stamps are made from: without a needed one they cannot be made.

    >>> wanted("r", ("map", "brick"))
    [('image', 'r', True), ('invvar', 'r', True), ('psfsize', 'r', False), ('maskbits', '', False)]
    """
    kinds = {"image": True, "invvar": True}
    kinds |= {kind: len(psf_sources) == 1 for source, kind in PSF_KINDS.items() if source in psf_sources}
    return [(kind, band, needed) for kind, needed in kinds.items() for band in bands] + [("maskbits", "", False)]


class Brick:
    """A brick's files, each opened when first asked for.  Files may be read by threads, each by one at a time."""

    def __init__(self, survey: Place, name: str):
        self.survey, self.name = survey, name
        self._images: dict[tuple[str, str], Image] = {}
        self._kernels: dict[str, np.ndarray] = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._images.clear()
        self._kernels.clear()

    @property
    def bytes_read(self) -> int:
        return sum(image.source.bytes_read for image in self._images.values())

    @property
    def requests(self) -> int:
        return sum(image.source.requests for image in self._images.values())

    def each(self, function, items) -> list:
        """``function`` of each of some files; in threads where they are a bucket's, whose answers are then waited for together."""
        if self.survey.local or len(items) < 2:
            return [function(item) for item in items]
        with ThreadPoolExecutor(len(items)) as pool:
            return list(pool.map(function, items))

    def begin(self, planes: list[tuple[str, str, bool]]) -> None:
        """Open the files of ``wanted`` planes of a bucket together; those of a disk when they are asked for."""
        if not self.survey.local:
            for kind, band, _ in planes:
                self._image(kind, band)
            self.each(lambda plane: self.has(*plane[:2]), planes)

    def _image(self, kind: str, band: str = "") -> Image:
        return self._images.setdefault((kind, band), Image(self.survey, name(self.name, kind, band)))

    def has(self, kind: str, band: str = "") -> bool:
        """Told by opening the file: one that is there is wanted anyhow, one that is not costs a request, a tenth of a listing's price."""
        return not self._image(kind, band).missing

    @property
    def _first(self) -> Image:
        return self._image("image", "r" if self.has("image", "r") else "g")

    @cached_property
    def wcs(self):
        return wcs.from_header(self._first.header())

    @cached_property
    def pixel_scale_arcsec(self) -> float:
        return wcs.pixel_scale_arcsec(self.wcs)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the planes."""
        return self._first.shape

    def windows(self, kind: str, band: str, x0, y0, width: int, height: int) -> tuple[np.ndarray, dict[int, RowError]]:
        """Pixels [y0, y0 + height) x [x0, x0 + width) of a plane for each of the n pairs (x0, y0): (n, height, width), native byte
        order; and of windows that have none, and are 0, why.  Ask for all windows at once: a tile is fetched and decoded once a call.
        """
        image = self._image(kind, band)
        if kind == "maskbits" and image.dtype.kind not in "iu":
            raise RowError("unreadable", f"{image}: bits must be integers, got {image.dtype}")
        return image.windows(x0, y0, width, height)

    def kernel(self, band: str) -> np.ndarray:
        """The brick's coadd PSF image, whole."""
        if band not in self._kernels:
            ny, nx = self._image("copsf", band).shape
            pixels, faults = self.windows("copsf", band, [0], [0], nx, ny)
            if faults:
                raise faults[0]
            self._kernels[band] = pixels[0]
        return self._kernels[band]
