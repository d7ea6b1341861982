"""What can go wrong, in words: errors for people, codes for rows."""

OK = "ok"

STATUSES = {
    OK: "made",
    "bad_row": "a parameter of the task is missing, not finite or out of its physical range",
    "missing_file": "a survey file of the brick does not exist",
    "unreadable": "a survey file of the brick is truncated or not the FITS file it should be",
    "outside": "the host is not inside its brick's image",
    "edge": "the stamp reaches over the brick's edge",
    "no_coverage": "too few pixels of a band have any exposure",
    "masked_centre": "pixels at the host's centre are masked",
    "nan": "the survey's pixels hold NaN or infinity",
    "no_psf": "a band has no PSF from any allowed source",
    "no_wcs": "a frame has no celestial WCS, or a singular one",
    "wrong_unit": "a frame's unit is not that of the others",
    "too_large": "the lensed image does not fit the rendering canvas",
}


class ArcmillError(Exception):
    """Something a person can mend; the message names the thing.  ``exit_code`` is the process's."""

    exit_code = 2


class ConfigError(ArcmillError):
    """A setting is unknown, missing or contradicts another."""


class InputError(ArcmillError):
    """A file or table to read is missing, unreadable or not what it should be."""

    exit_code = 3


class OutputError(ArcmillError):
    """The output folder cannot be written, is in use, or holds other data."""

    exit_code = 3


class Unreachable(ArcmillError):
    """A disk or a server failed while a file was read or written: nothing is wrong with the data, and it may go well again."""

    exit_code = 3


class Denied(ArcmillError):
    """A disk or a server does not allow it: wrong credentials, or a missing right; asking again will not help."""

    exit_code = 3


class TooManyFailed(ArcmillError):
    """The tables are written, but more tasks or files failed than is accepted."""

    exit_code = 1


class RowError(Exception):
    """One row cannot be made, for a reason in the data: its ``status`` and ``error``."""

    def __init__(self, code: str, message: str):
        if code not in STATUSES or code == OK:
            raise ValueError(f"unknown status {code!r}; known: {', '.join(STATUSES)}")
        super().__init__(message)
        self.code = code
