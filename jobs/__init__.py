"""The jobs: each reads tables, calls ``lib``, writes tables.  ``python -m jobs NAME --help``."""
