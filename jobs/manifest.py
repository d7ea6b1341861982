"""PARENT -> MANIFEST, one row for every stamp to make: hosts, injections, controls, every random number."""

from functools import partial

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import cli
from lib import config, rows, runs, sampling, spark, store, tiers
from lib.errors import InputError
from lib.schemas import PARENT, SPLITS
from lib.tiers import Tier


def hosts(parent: DataFrame) -> DataFrame:
    """Galaxies that may be used: outside of the guard band between splits."""
    return parent.filter(~F.col("split_guard"))


def tasks(batches, tier: Tier, dataset: str):
    """The manifest of each split whose hosts are in the batches."""
    table = pa.Table.from_batches(list(batches), schema=PARENT)
    for split in sorted(set(table["split"].to_pylist())):
        mine = rows.where(table, split=split)
        yield {"manifest": sampling.manifest(mine, tier, dataset)}, {f"eligible hosts {split}": mine.num_rows}


def main(argv: list[str]) -> None:
    args = cli.parser("manifest", __doc__).parse_args(argv)
    tier = tiers.load(args.tier)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    settings = config.plain(tier)
    inputs = {"parent": runs.committed(dataset, "parent")}
    with runs.start(dataset, "manifest", ["manifest"], settings, inputs, fresh=args.fresh, replace=args.replace) as run:
        if run.reused:
            cli.report(run.reused)
            return
        session = spark.session("arcmill manifest")
        frame = hosts(spark.read(session, dataset, "parent")).repartition(len(SPLITS), "split")
        make = partial(tasks, tier=tier, dataset=args.dataset)
        with spark.progress(session, "manifest"):
            made, totals, seconds = spark.produce(frame, make, run.staging, run.tables, run.footer, reads="parent")
        eligible = {split: int(totals.get(f"eligible hosts {split}", 0)) for split in SPLITS}
        wanted = sum(sum(roles.values()) for roles in sampling.expected_counts(tier, eligible).values())
        if made["manifest"] != wanted or not wanted:
            raise InputError(f"{made['manifest']} rows, tier {tier.name} asks for {wanted}; eligible hosts: {eligible}")
        counts = {"rows": made, "cuts": sorted((k, int(v)) for k, v in totals.items())}
        cli.report(run.commit(counts, seconds))
