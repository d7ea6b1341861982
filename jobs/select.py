"""METRICS, and scores of a network if there are -> SELECTION: which share of the injected lenses is found, with intervals, and a page of plots.

With scores a lens is found if it scores as high as a given share of the controls (the false-positive rate) or higher; a rate that fewer than one
control is the share of is left out, and said.  Without scores a proxy is used, and named so.
"""

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import cli, negatives
from lib import config, place, runs, spark, store, tiers
from lib.errors import OK, InputError
from lib.schemas import SPLITS
from lib.selection import axes, counts, page, table
from lib.selection.counts import COUNTS, Recovery

RATES = (1e-2, 1e-3, 1e-4)


def lenses(session, dataset: store.Dataset, split: str | None) -> DataFrame:
    """Injections that were made."""
    rows = spark.read(session, dataset, "metrics", ["task_id", "role", "split", "status", *axes.NEEDED])
    made = rows.filter((F.col("role") == "injected") & (F.col("status") == OK))
    return made.filter(F.col("split") == split) if split else made


def recoveries(controls: DataFrame) -> tuple[list[Recovery], list[tuple[str, int]]]:
    """(the rates that so many scored controls allow, lines for the report)."""
    n, out, told = controls.count(), [], []
    if not n:
        raise InputError("no score is of a control of the metrics table: false positives are counted on controls, so score them as well")
    for rate in RATES:
        if rate * n + 1e-9 < 1:
            told.append((f"scored controls; a false-positive rate of {rate:g} needs {1 / rate:,.0f} and is left out", n))
            continue
        threshold = negatives.threshold_of(controls, n, rate)
        above = controls.filter(F.col("score") >= threshold).count()
        out.append(Recovery(threshold, rate, above / n, n))
    if not out:
        raise InputError(f"{n} scored controls are too few for a false-positive rate of {RATES[0]:g}: score at least {1 / RATES[0]:.0f}")
    return out, told


def scored(session, dataset: store.Dataset, paths: list[str], split: str | None) -> tuple[DataFrame, list[Recovery], list]:
    """(lenses with their scores, when one counts as found, lines for the report)."""
    scores = negatives.read_scores(session, paths).persist()
    negatives.require_sound(scores)
    of = lenses(session, dataset, split)
    all_rows = spark.read(session, dataset, "metrics", ["task_id", "role", "split", "status"]).filter(F.col("status") == OK)
    controls = all_rows.filter(negatives.CONTROL).filter(F.col("split") == split if split else F.lit(True))
    found, told = recoveries(controls.join(scores, "task_id", how="inner").persist())
    both = of.join(scores, "task_id", how="inner").persist()
    number, there = both.count(), of.count()
    if not number:
        raise InputError("no score is of an injection of the metrics table: score the stamps of this data set and tier")
    return both, found, [*told, ("lenses without a score, left out", there - number)]


def tally(rows: DataFrame, recoveries: list[Recovery], shift: int) -> list[dict]:
    """The counts of all rows."""

    def work(batches):
        for batch in batches:
            if batch.num_rows:
                yield counts.of(batch, recoveries, shift)

    made = rows.mapInArrow(work, spark.spark_schema(COUNTS))
    keys = [name for name in COUNTS.names if name not in ("n", "found")]
    return made.groupBy(*keys).agg(F.sum("n").alias("n"), F.sum("found").alias("found")).toArrow().to_pylist()


def main(argv: list[str]) -> None:
    parser = cli.parser("select", __doc__)
    parser.add_argument(
        "--scores",
        metavar="PATH",
        help="Parquet or CSV, a file or a folder: task_id, score (higher: more like a lens), of lenses and controls",
    )
    parser.add_argument(
        "--split", choices=SPLITS, help="lenses and controls of one split only: test is the one that a network has not seen"
    )
    parser.add_argument(
        "--min-count", type=cli.positive, default=20, metavar="N", help="lenses that a bin must have to tell its share (20)"
    )
    parser.add_argument(
        "--region-nside", type=cli.positive, default=8, metavar="N", help="regions are HEALPix cells of this nside (8: 7 degrees)"
    )
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    shift = axes.region_shift(tier, args.region_nside)
    paths = negatives.score_files(store.local(args.scores)) if args.scores else []
    inputs: dict = {"metrics": runs.committed(dataset, "metrics"), "--split": args.split, "--min-count": args.min_count}
    inputs |= {"--region-nside": args.region_nside} | ({"scores": place.fingerprint(paths)} if paths else {})
    with runs.start(dataset, "select", ["selection"], config.plain(tier), inputs, fresh=args.fresh, replace=args.replace) as run:
        if run.reused:
            cli.report(run.reused)
            return
        session = spark.session("arcmill select")
        with spark.progress(session, "select"):
            told: list = []
            rows, when = lenses(session, dataset, args.split), [Recovery()]
            if paths:
                rows, when, told = scored(session, dataset, paths, args.split)
            counted = tally(rows, when, shift)
            session.catalog.clearCache()
            if not counted:
                raise InputError(
                    f"{dataset.place}: no injection of tier {tier.name} was made" + (f" in split {args.split}" if args.split else "")
                )
            made = table.of(counted, when, args.min_count, args.region_nside)
            run.write("selection", made)
        report = dataset.place / "report" / tier.name
        report.put("selection.html", page.html(made, when, dataset.name, tier.name, args.split))
        cli.report(run.commit({"cuts": told + totals(made)}))
        cli.log.info("  plots: %s", report.url("selection.html"))


def totals(made: pa.Table) -> list[tuple[str, int]]:
    """Lenses, and found ones, of all the sky."""
    rows = [r for r in made.to_pylist() if (r["region"], r["x"], r["y"]) == (axes.ALL, "theta_e_arcsec", None)]
    names = dict.fromkeys((r["recovery"], r["false_positive_rate"]) for r in rows)
    out = [("lenses", sum(r["n"] for r in rows) // len(names))]
    for name, rate in names:
        found = sum(r["n_recovered"] for r in rows if (r["recovery"], r["false_positive_rate"]) == (name, rate))
        out.append((f"found by {name}" + (f" at a false-positive rate of {rate:g}" if rate else ""), found))
    return out
