"""Real galaxies as unlensed sources: survey stamps made clean (``prepare``), kept in a bank (``write``, ``read``), for the renderer."""

from lib.sources.bank import SOURCES, Bank, read, record, table, write
from lib.sources.real_galaxies import from_real_galaxies
from lib.sources.sky import StampError
from lib.sources.stamp import Source, prepare

__all__ = ["SOURCES", "Bank", "Source", "StampError", "from_real_galaxies", "prepare", "read", "record", "table", "write"]
