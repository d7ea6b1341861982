"""Windows of FITS images, tile-compressed or plain, from a few ranges of the file: each tile is fetched and decoded once."""

from lib.survey.fz.image import Image

__all__ = ["Image"]
