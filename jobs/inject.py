"""MANIFEST + bricks -> STAMPS and METRICS: each brick is opened once, both tables come out of one pass."""

from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow as pa
from pyspark.sql import functions as F

from jobs import cli
from lib import config, place, runs, spark, store, tiers
from lib.errors import InputError
from lib.injection import inject
from lib.place import Place
from lib.survey import bricks
from lib.tiers import Tier

BYTES_PER_ROW = 170_000  # stamp, arc, invvar and mask, uncompressed


def by_brick(batches):
    """The rows of one brick at a time, from batches sorted by brick."""
    held: list[pa.Table] = []
    name = None
    for batch in batches:
        table = pa.Table.from_batches([batch])
        names = table["brickname"].to_pylist()
        start = 0
        for k in range(1, len(names) + 1):
            if k == len(names) or names[k] != names[start]:
                if held and names[start] != name:
                    yield pa.concat_tables(held)
                    held = []
                name = names[start]
                held.append(table.slice(start, k - start))
                start = k
    if held:
        yield pa.concat_tables(held)


def stamps(batches, survey: Place, tier: Tier):
    """STAMPS and METRICS of each brick, and how many rows of each status."""
    for tasks in by_brick(batches):
        made = inject(tasks, survey, tier)
        yield made, dict(Counter(made["metrics"]["status"].to_pylist()))


def main(argv: list[str]) -> None:
    parser = cli.parser("inject", __doc__)
    parser.add_argument("--survey", required=True, help="survey folder: its coadds are read")
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    survey = cli.survey_folder(args.survey)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    session = spark.session("arcmill inject")
    manifest = spark.read(session, dataset, "manifest")
    sizes = manifest.groupBy("brickname").agg(F.count("*").alias("n")).collect()
    settings = config.plain(tier)
    inputs = {"manifest": runs.committed(dataset, "manifest"), "coadds": _coadds(survey, [r["brickname"] for r in sizes])}
    with runs.start(dataset, "inject", ["stamps", "metrics"], settings, inputs, fresh=args.fresh, replace=args.replace) as run:
        if run.reused:
            cli.require_made(cli.report(run.reused), tier)
            return
        store.require_space(dataset.folder, BYTES_PER_ROW * sum(r["n"] for r in sizes))
        frame = manifest.repartitionByRange(min(len(sizes), 4096), "brickname").sortWithinPartitions("brickname", "task_id")
        with spark.progress(session, "inject"):
            made, totals, seconds = spark.produce(
                frame,
                partial(stamps, survey=place.at(survey), tier=tier),
                run.staging,
                run.tables,
                run.footer,
                reads="manifest",
                rows_per_group=256,
            )
        wanted = sum(r["n"] for r in sizes)
        if set(made.values()) != {wanted}:
            raise InputError(f"{wanted} tasks gave {made} rows: nothing is published")
        statuses = sorted((k, int(v)) for k, v in totals.items())
        cli.require_made(cli.report(run.commit({"rows": made, "statuses": statuses}, seconds)), tier)


def _coadds(survey: Path, names: list[str]) -> str:
    """One fingerprint of all coadd files of the bricks; a brick without any is told by its tasks' status."""
    found = [p for name in sorted(names) for p in sorted(bricks.path(survey, name, "image").parent.glob("*.fits.fz"))]
    return config.digest(store.fingerprint(found))
