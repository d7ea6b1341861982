"""How each table lies in its Parquet files: row groups, pages, dictionaries, statistics."""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from lib import schemas


@dataclass(frozen=True)
class Layout:
    """``rows`` a row group; a page ends at the first multiple of ``page_rows`` that fills 1 MiB (Parquet asks no sooner)."""

    rows: int = 16_384
    page_rows: int = 1_024


# A row of stamps is 150 KB: 256 of them are a group that a reader holds easily, 16 of one plane most of a page.
LAYOUTS = {"stamps": Layout(rows=256, page_rows=16)}
LEVEL = 1  # of zstd: level 3 takes twice the time for a twentieth of the bytes


def _few(field: pa.Field) -> bool:
    """Whether a column has few values, so that a dictionary saves room: names and counts.  Of numbers that are measured it costs a third of
    the writing, and room as well: zstd finds a host's own that follow each other.
    """
    return (pa.types.is_string(field.type) or pa.types.is_integer(field.type)) and field.name not in schemas.IDS


class Writer:
    """A Parquet file of one of the tables, ``footer`` in its metadata; rows wait until a row group is full, however few come at once."""

    def __init__(self, where, table: str, footer: dict[str, str]):
        self.schema, self.layout = schemas.TABLES[table].with_metadata(footer), LAYOUTS.get(table, Layout())
        self.rows = 0
        self._held: list[pa.Table] = []
        self._waiting = 0
        self._file = pq.ParquetWriter(
            where,
            self.schema,
            compression="zstd",
            compression_level=LEVEL,
            use_dictionary=[field.name for field in self.schema if _few(field)],
            write_statistics=[name for name in self.schema.names if name not in schemas.PLANES],
            write_batch_size=self.layout.page_rows,
        )

    def write(self, data: pa.Table) -> None:
        self._held.append(data.replace_schema_metadata(self.schema.metadata))
        self._waiting += data.num_rows
        self.rows += data.num_rows
        if self._waiting >= self.layout.rows:
            whole = self._waiting - self._waiting % self.layout.rows
            waiting = pa.concat_tables(self._held)
            self._file.write_table(waiting.slice(0, whole), row_group_size=self.layout.rows)
            self._held, self._waiting = [waiting.slice(whole)], self._waiting - whole

    def close(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._held), row_group_size=self.layout.rows)
        self._held, self._waiting = [], 0
        self._file.close()
