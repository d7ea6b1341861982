"""``docs/tables.md`` from ``lib.schemas``."""

from pathlib import Path

from lib import schemas

TARGET = Path(__file__).resolve().parent.parent / "docs" / "tables.md"
HEAD = """# Tables

Made by `make docs` from `lib/schemas.py`. Parquet (zstd), `{root}/{dataset}/{table}/tier={tier}/run_id={id}/*.parquet`; every file's
footer holds run id, tier, code version, config hash and schema version, and, made by what was shipped to a cluster, the hashes of the code's
zip and of the environment's archive. A null means not measured.
"""


def text() -> str:
    parts = [HEAD]
    for name, schema in schemas.TABLES.items():
        parts.append(f"\n## {name}\n\n| column | type | unit | null | range | meaning |\n| --- | --- | --- | --- | --- | --- |")
        for field in schema:
            low, high = schemas.fact(field, "low"), schemas.fact(field, "high")
            bounds = f"{low or '-inf'} to {high or 'inf'}" if low or high else ""
            null = "yes" if field.nullable else ""
            parts.append(
                f"| {field.name} | {field.type} | {schemas.fact(field, 'unit')} | {null} | {bounds} | {schemas.fact(field, 'meaning').replace('|', chr(92) + '|')} |"
            )
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
