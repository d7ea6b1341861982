"""Whether a survey file is whole: by the checksum that the survey publishes, else by what the FITS file says of itself."""

import hashlib
import re
from pathlib import Path

from astropy.io import fits

LIST = ".sha256sum"  # lists of checksums, as sha256sum writes them
SUM = re.compile(r"([0-9a-f]{64}) [ *](\S+)")


class Damaged(Exception):
    """A file is not what it should be."""


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def published(path: Path) -> dict[str, str]:
    """File name -> sha256, of a list of checksums."""
    found = (SUM.fullmatch(line.strip()) for line in path.read_text(errors="replace").splitlines())
    return {Path(match[2]).name: match[1] for match in found if match}


def check(path: Path, name: str, digest: str, wanted: str | None = None) -> str:
    """What the bytes at ``path``, of the file ``name`` and of sha256 ``digest``, were held to; ``Damaged`` says what is wrong.

    ``sha256``: the survey's checksum, ``wanted``.  ``datasum``: every byte that the headers tell of is there and agrees with
    the file's DATASUM.  ``fits``: they are there and every image decodes.  ``list``: a list of checksums has some.
    """
    if wanted:
        if digest != wanted:
            raise Damaged(f"sha256 is {digest}, the survey says {wanted}")
        return "sha256"
    if name.endswith(LIST):
        if not published(path):
            raise Damaged("no list of checksums")
        return "list"
    try:
        return _fits(path)
    except Damaged:
        raise
    except Exception as error:  # the readers of a damaged file raise many kinds
        raise Damaged(f"not a FITS file: {error or type(error).__name__}") from error


def _fits(path: Path) -> str:
    with fits.open(path, memmap=False, lazy_load_hdus=False, disable_image_compression=True) as hdus:
        last, size = hdus[-1].fileinfo(), path.stat().st_size
        if (end := last["datLoc"] + last["datSpan"]) != size:
            raise Damaged(f"{size} bytes, its headers tell of {end}")
        sums = [hdu.verify_datasum() for hdu in hdus if hdu.fileinfo()["datSpan"]]  # 0 is wrong, 1 right, 2 not given
    if 0 in sums:
        raise Damaged("DATASUM does not agree with the data")
    if not sums:
        raise Damaged("no data in it")
    if 2 not in sums:
        return "datasum"
    with fits.open(path, memmap=False) as hdus:
        for hdu in hdus:
            _ = hdu.data
    return "fits"
