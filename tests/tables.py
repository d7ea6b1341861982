"""The files of a local data set, for tests that look at them or break them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from lib import runs
from lib.store import Dataset


def folder(dataset: Dataset, *names: str) -> Path:
    """A folder of the data set: its own, or a table's (``dataset.table(name)``)."""
    assert dataset.place.local is not None
    return dataset.place.local.joinpath(*names)


def root(dataset: Dataset) -> Path:
    return folder(dataset).parent


def paths(dataset: Dataset, table: str) -> list[Path]:
    """The files that are a table."""
    return [folder(dataset, name) for name in runs.files(dataset, table)]


def rewrite(dataset: Dataset, table: str, change) -> None:
    """Other rows in a table's files: ``change`` takes and returns all of them; footers are kept. The files may be links to others."""
    files = paths(dataset, table)
    footer = pq.read_schema(files[0]).metadata
    changed = change(pa.concat_tables(pq.ParquetFile(p).read() for p in files)).replace_schema_metadata(footer)
    for k, path in enumerate(files):
        path.unlink()
        pq.write_table(changed if k == 0 else changed.slice(0, 0), path)


def files(place: Path) -> list[str]:
    """All files under a folder, by their names in it."""
    return sorted(str(p.relative_to(place)) for p in place.rglob("*") if p.is_file())
