"""The queries of docs/queries.md, over files of a disk and of a bucket; the tables as Athena gets them."""

import re
import uuid
from pathlib import Path

import boto3
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from pyarrow import fs

from infra import catalog
from lib import runs, schemas
from lib.errors import ConfigError, InputError
from lib.store import Dataset
from tests import servers

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "queries.md").read_text()
QUERIES = {int(n): sql for n, sql in re.findall(r"^## (\d+)\..*?```sql\n(.*?)```", PAGE, re.M | re.S)}
TABLES = ("parent", "manifest", "metrics", "stamps", "runs")


def names(dataset: Dataset, table: str) -> list[str]:
    return [f.name for f in dataset.place.files(dataset.table("runs"))] if table == "runs" else runs.files(dataset, table)


@pytest.fixture(scope="module")
def here(tiny_dataset):
    con = duckdb.connect()
    for table in TABLES:
        files = [str(tiny_dataset.place.local / n) for n in names(tiny_dataset, table)]
        con.execute(f"create view {table} as select * from read_parquet({files})")
    return con


@pytest.fixture(scope="module")
def there(tiny_dataset, s3_server):
    """The same files in a bucket, read through the S3 server; DuckDB's own reader of buckets is an extension that is fetched."""
    prefix, con = f"queries-{uuid.uuid4().hex[:8]}", duckdb.connect()
    bucket = fs.S3FileSystem(
        access_key=servers.KEY, secret_key=servers.SECRET, endpoint_override=s3_server.endpoint.removeprefix("http://"), scheme="http", region=servers.REGION
    )  # fmt: skip
    for table in TABLES:
        found = names(tiny_dataset, table)
        for n in found:
            s3_server.client.upload_file(str(tiny_dataset.place.local / n), s3_server.bucket, f"{prefix}/{n}")
        con.register(table, ds.dataset([f"{s3_server.bucket}/{prefix}/{n}" for n in found], filesystem=bucket))
    return con


def test_there_are_twelve():
    assert sorted(QUERIES) == list(range(1, 13))


@pytest.mark.parametrize("number", sorted(QUERIES))
def test_a_query_tells_the_same_of_a_disk_and_of_a_bucket(number, here, there):
    one, other = (con.sql(QUERIES[number]).to_arrow_table() for con in (here, there))
    assert (one.num_rows > 0) == (number != 9), "only the ninth finds nothing where all is well"
    assert one.schema.names == other.schema.names and one.num_rows == other.num_rows
    for name in one.schema.names:
        a, b = one[name].to_pylist(), other[name].to_pylist()
        if pa.types.is_floating(one.schema.field(name).type):
            np.testing.assert_allclose(np.array(a, float), np.array(b, float), rtol=1e-6)  # sums in another order
        else:
            assert a == b


def test_what_queries_tell_is_what_the_rows_say(here, tiny_dataset):
    rows = runs.read(tiny_dataset, "metrics").to_pandas()
    counted = {(r["split"], r["role"]): r["n"] for r in here.sql(QUERIES[1]).to_arrow_table().to_pylist()}
    assert counted == rows.groupby(["split", "role"]).size().to_dict()
    lenses = rows[(rows.role == "injected") & (rows.status == "ok")]
    complete = here.execute(QUERIES[2]).df()
    assert np.average(complete.completeness, weights=complete.n) == pytest.approx(lenses.detectable.astype(float).mean())
    assert here.execute(QUERIES[3]).df().snr_most.max() == pytest.approx(lenses.arc_snr.max())
    assert here.execute(QUERIES[5]).df().share.sum() == pytest.approx(1.0)
    assert here.execute(QUERIES[6]).df().n.sum() == len(rows)


def test_a_galaxy_in_two_splits_is_found(here, tiny_dataset):
    con, rows = duckdb.connect(), runs.read(tiny_dataset, "metrics").to_pandas()
    first = rows.index[rows.duplicated("galaxy_id")][0]
    rows.loc[first, "split"] = next(s for s in schemas.SPLITS if s != rows.split[first])
    con.register("metrics", rows)
    assert con.execute(QUERIES[9]).df().galaxy_id.tolist() == [rows.galaxy_id[first]]


@pytest.mark.parametrize("table", TABLES)
def test_spark_reads_the_declaration_and_its_columns_are_the_schema_s(table, spark, tiny_dataset):
    """Athena's own parser is Hive's; Spark's knows the same statement."""
    told = catalog.ddl(tiny_dataset, table)
    parsed = spark._jsparkSession.sessionState().sqlParser().parsePlan(told)
    columns = {f.split(" ")[0].strip("`") for f in re.findall(r"^  (`.*)$", told, re.M)}
    assert columns == set(schemas.TABLES[table].names) - {"tier", "run_id"}
    assert "CreateTable" in parsed.toString()
    with pytest.raises(Exception, match="PARSE_SYNTAX_ERROR"):
        spark._jsparkSession.sessionState().sqlParser().parsePlan(told.replace("partitioned by", "partitioned"))


@pytest.mark.parametrize("table", [t for t in TABLES if t != "runs"])
def test_the_projected_partitions_are_the_files_that_are_committed(table, tiny_dataset):
    stray = tiny_dataset.place.local / tiny_dataset.run(table, "19990101T000000-killed")
    stray.mkdir(parents=True)
    (stray / "part.parquet").write_bytes(b"half a file")
    try:
        told = catalog.properties(tiny_dataset, table)
        found = set()
        for tier in told["projection.tier.values"].split(","):
            for run in told["projection.run_id.values"].split(","):
                folder = Path(told["storage.location.template"].replace("${tier}", tier).replace("${run_id}", run))
                found |= {str(p.relative_to(tiny_dataset.place.local)) for p in folder.glob("*") if p.is_file()}
        assert found == {n for n in names(tiny_dataset, table) if "killed" not in n}
    finally:
        (stray / "part.parquet").unlink()
        stray.rmdir()


def test_glue_takes_the_tables_and_takes_them_again_but_not_those_of_another_root(tiny_dataset, tmp_path, monkeypatch):
    from moto import mock_aws

    with mock_aws():
        glue = boto3.client("glue", region_name="us-east-1")
        glue.create_database(DatabaseInput={"Name": catalog.DATABASE})
        for _ in range(2):
            for table in catalog.tables(tiny_dataset):
                catalog.create(glue, tiny_dataset, table)
        made = {t["Name"]: t for t in glue.get_tables(DatabaseName=catalog.DATABASE)["TableList"]}
        assert set(made) == {f"set_{t}" for t in ("parent", "manifest", "stamps", "metrics", "runs")}
        kinds = {c["Name"]: c["Type"] for c in made["set_metrics"]["StorageDescriptor"]["Columns"]}
        other = Dataset.at(str(tmp_path), tiny_dataset.name, "tiny")
        monkeypatch.setattr("infra.catalog.glue", lambda dataset, table: {"Name": f"set_{table}"})
        with pytest.raises(ConfigError, match=r"arcmill\.set_metrics is the table of"):
            catalog.create(glue, other, "metrics")
        assert kinds["theta_e_arcsec"] == "float" and kinds["galaxy_id"] == "bigint" and kinds["detectable"] == "boolean"


def test_every_type_of_the_schemas_has_a_name_in_hive():
    for table in schemas.TABLES:
        assert all(kind for _, kind, _ in catalog.columns(table))


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match="has no table metrics"):
        catalog.ddl(Dataset.at(str(tmp_path), "set", "tiny"), "metrics")
