"""The tables of a data set for Athena, from ``lib.schemas``: external tables over the files that are committed.

Partitions are projected, so nothing is crawled: the tiers and runs that a table has are written into its properties.  After another run
the table is declared again.
"""

import pyarrow as pa

from lib import runs, schemas
from lib.errors import ConfigError, InputError
from lib.store import Dataset

DATABASE = "arcmill"
TYPES = {pa.string(): "string", pa.float32(): "float", pa.float64(): "double", pa.int32(): "int", pa.int64(): "bigint", pa.binary(): "binary",
         pa.bool_(): "boolean"}  # fmt: skip
FORMAT = {"input": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
          "output": "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
          "serde": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"}  # fmt: skip


def hive(kind: pa.DataType) -> str:
    """A type as Hive, Glue and Athena name it.

    >>> hive(pa.list_(pa.struct([("path", pa.string()), ("rows", pa.int64())])))
    'array<struct<path:string,rows:bigint>>'
    """
    if pa.types.is_list(kind):
        return f"array<{hive(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{','.join(f'{kind.field(k).name}:{hive(kind.field(k).type)}' for k in range(kind.num_fields))}>"
    return TYPES[kind]


def name(dataset: Dataset, table: str) -> str:
    return f"{dataset.name}_{table}".replace("-", "_").replace(".", "_").lower()


def partitions(dataset: Dataset, table: str) -> tuple[list[str], list[str]]:
    """(tiers, runs) whose files are the table."""
    tiers = [folder.removeprefix("tier=") for folder in dataset.place.names(table)]
    made = {tier: _runs(Dataset(dataset.root, dataset.name, tier), table) for tier in tiers}
    if not any(made.values()):
        raise InputError(f"{dataset.place} has no table {table}")
    return [tier for tier, found in made.items() if found], sorted({run for found in made.values() for run in found})


def _runs(dataset: Dataset, table: str) -> list[str]:
    return [r["run_id"] for r in runs.records(dataset)] if table == "runs" else runs.committed(dataset, table)


def properties(dataset: Dataset, table: str) -> dict[str, str]:
    tiers, made = partitions(dataset, table)
    return {
        "EXTERNAL": "TRUE", "parquet.compression": "ZSTD", "projection.enabled": "true",
        "projection.tier.type": "enum", "projection.tier.values": ",".join(tiers),
        "projection.run_id.type": "enum", "projection.run_id.values": ",".join(made),
        "storage.location.template": f"{dataset.place}/{table}/tier=${{tier}}/run_id=${{run_id}}/",
    }  # fmt: skip


def columns(table: str) -> list[tuple[str, str, str]]:
    """(name, type, what it is, with its unit); the tier is a partition, and no column."""
    return [(f.name, hive(f.type), _said(f)) for f in schemas.TABLES[table] if f.name not in ("tier", "run_id")]


def _said(field: pa.Field) -> str:
    unit = schemas.fact(field, "unit")
    return (schemas.fact(field, "meaning") + (f" [{unit}]" if unit else ""))[:255]


def ddl(dataset: Dataset, table: str) -> str:
    """``create external table`` as Athena takes it."""
    body = ",\n".join(f"  `{n}` {t} comment '{_quoted(c)}'" for n, t, c in columns(table))
    told = ",\n".join(f"  '{k}' = '{v}'" for k, v in properties(dataset, table).items() if k != "EXTERNAL")
    return (
        f"create external table if not exists `{DATABASE}`.`{name(dataset, table)}` (\n{body}\n)\n"
        f"partitioned by (`tier` string, `run_id` string)\nstored as parquet\nlocation '{dataset.place}/{table}/'\ntblproperties (\n{told}\n)"
    )


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def glue(dataset: Dataset, table: str) -> dict:
    """The same as Glue takes it (TableInput)."""
    return {
        "Name": name(dataset, table), "TableType": "EXTERNAL_TABLE", "Parameters": properties(dataset, table),
        "PartitionKeys": [{"Name": "tier", "Type": "string"}, {"Name": "run_id", "Type": "string"}],
        "StorageDescriptor": {"Columns": [{"Name": n, "Type": t, "Comment": c} for n, t, c in columns(table)],
            "Location": f"{dataset.place}/{table}/", "InputFormat": FORMAT["input"], "OutputFormat": FORMAT["output"],
            "SerdeInfo": {"SerializationLibrary": FORMAT["serde"]}},
    }  # fmt: skip


def tables(dataset: Dataset) -> list[str]:
    """Those that the data set has."""
    return [table for table in schemas.TABLES if dataset.place.names(table)]


def create(glue_client, dataset: Dataset, table: str) -> None:
    """Declare a table, anew if it is there; one of other files is left alone."""
    asked = {"DatabaseName": DATABASE, "TableInput": glue(dataset, table)}
    try:
        glue_client.create_table(**asked)
    except glue_client.exceptions.AlreadyExistsException:
        there = glue_client.get_table(DatabaseName=DATABASE, Name=name(dataset, table))["Table"]["StorageDescriptor"]["Location"]
        if there.rstrip("/") != f"{dataset.place}/{table}":
            raise ConfigError(
                f"{DATABASE}.{name(dataset, table)} is the table of {there}: delete it in Glue, or name the data set otherwise"
            ) from None
        glue_client.update_table(**asked)
