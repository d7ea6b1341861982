"""Scores of a network, or a list of what galaxies are -> NEGATIVES: the galaxies that look like lenses, each once.

Of scores: the galaxies whose controls the network takes for lenses, the highest first.  The threshold is the score of a false-positive rate: the k-th highest of n scored controls, k = floor(rate * n).  Controls that tie
with it are taken too, so the rate that is reached, which every row tells, may be above the one asked for.
"""

import argparse
import math
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F
from pyspark.sql.types import NumericType, StringType

from jobs import cli
from lib import config, place, runs, sampling, spark, store, tiers
from lib.errors import InputError
from lib.schemas import NEGATIVES, SPLITS
from lib.survey import morphology

KINDS = (".parquet", ".csv")
TASK = ["task_id", "galaxy_id", "role", "split"]
TOLD = 5  # ids that a message names
CONTROL = f"role IN ('{sampling.PAIRED}', '{sampling.UNPAIRED}')"


def score_files(path: Path) -> list[str]:
    """The file, or the Parquet or CSV files in the folder."""
    if not path.exists():
        raise InputError(f"no such file or folder of scores: {path}")
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in KINDS and not p.name.startswith((".", "_")))
    if not found or len({p.suffix for p in found}) > 1 or found[0].suffix not in KINDS:
        raise InputError(f"{path}: scores are a .parquet or .csv file, or a folder of one of the two kinds")
    return [str(p) for p in found]


def read_scores(session, paths: list[str]) -> DataFrame:
    """task_id and score, a double; what is no number is null."""
    frame = session.read.option("header", True).csv(paths) if paths[0].endswith(".csv") else session.read.parquet(*paths)
    if missing := {"task_id", "score"} - set(frame.columns):
        raise InputError(f"{paths[0]} has no column {', '.join(sorted(missing))}; it has {', '.join(frame.columns)}")
    kind = frame.schema["score"].dataType
    if not isinstance(kind, (NumericType, StringType)):
        raise InputError(f"{paths[0]}: score must be a number, it is {kind.simpleString()}")
    return frame.select(F.col("task_id").cast("string").alias("task_id"), F.expr("try_cast(score AS double)").alias("score"))


def require_sound(scores: DataFrame) -> int:
    """How many scores there are; no id twice, none missing, every score a finite number."""
    unknown = F.col("score").isNull() | F.isnan("score") | F.col("score").isin(math.inf, -math.inf)
    doubled = F.col("n") > 1
    by_task = scores.groupBy("task_id").agg(F.count("*").alias("n"), F.max(unknown).alias("unknown"))
    n, nameless, no_number, twice = by_task.agg(
        F.sum("n"), F.count_if(F.col("task_id").isNull()), F.count_if("unknown"), F.count_if(doubled & F.col("task_id").isNotNull())
    ).collect()[0]
    problems = ["rows without a task_id"] if nameless else []
    for number, broken, what in (
        (no_number, F.col("unknown"), "have a score that is no finite number"),
        (twice, doubled, "are there more than once"),
    ):
        if number:
            some = [r[0] for r in by_task.filter(broken & F.col("task_id").isNotNull()).orderBy("task_id").limit(TOLD).collect()]
            problems.append(f"{number} tasks {what}: {', '.join(some)}{', ...' if number > len(some) else ''}")
    if problems or not n:
        raise InputError("scores: " + ("; ".join(problems) or "there are none"))
    return n


def threshold_of(controls: DataFrame, n: int, rate: float) -> float:
    """The k-th highest score of n controls, k = floor(rate * n)."""
    k = math.floor(rate * n + 1e-9)
    if not k:
        raise InputError(f"a false-positive rate of {rate:g} is less than one of {n} scored controls: give more scores or a higher rate")
    return controls.select("score").orderBy(F.desc("score")).limit(k).agg(F.min("score")).collect()[0][0]


def best(controls: DataFrame) -> DataFrame:
    """The highest score of each galaxy, and the control that has it: paired and unpaired ones of a galaxy show the same pixels."""
    top = controls.groupBy("galaxy_id").agg(F.max(F.struct("score", "task_id", "role", "split")).alias("top"))
    return top.select("galaxy_id", "top.*")


def ranked(chosen: DataFrame, threshold: float, rate: float, n: int) -> DataFrame:
    """NEGATIVES rows, by rank."""
    facts = {
        "kind": F.lit(morphology.SCORED),
        "threshold": F.lit(threshold),
        "false_positive_rate": F.lit(rate),
        "n_controls": F.lit(n).cast("long"),
    }
    rows = chosen.withColumn("rank", F.row_number().over(Window.orderBy(F.desc("score"), "galaxy_id"))).withColumns(facts)
    return rows.select(*NEGATIVES.names).orderBy("rank")


def galaxies(where: str, tier: tiers.Tier) -> tuple[list[str], dict[str, np.ndarray]]:
    """(files, galaxies by split) of the table in a data set's folder, or of any Parquet with galaxy_id and split."""
    folder = store.local(where)
    if (folder / store.MARK).is_file():
        paths = [str(folder / name) for name in runs.files(store.Dataset.at(folder.parent, folder.name, tier.name), "negatives")]
    else:
        paths = [str(p) for p in ([folder] if folder.is_file() else sorted(folder.rglob("*.parquet")))]
    if not paths:
        raise InputError(f"no hard negatives in {folder}: it is neither a data set nor a folder of Parquet files")
    for path in paths:
        if missing := {"galaxy_id", "split"} - set(pq.read_schema(path).names):
            raise InputError(f"{path} has no column {', '.join(sorted(missing))}: give what the job negatives makes")
    table = pa.concat_tables(pq.ParquetFile(p).read(columns=["galaxy_id", "split"]) for p in paths)
    galaxy, split = table["galaxy_id"].to_numpy(), table["split"].to_numpy(zero_copy_only=False)
    if unknown := set(split) - set(SPLITS):
        raise InputError(f"{folder}: unknown splits {', '.join(sorted(map(str, unknown)))}; known: {', '.join(SPLITS)}")
    return paths, {name: np.unique(galaxy[split == name]) for name in SPLITS}


def taken(controls: DataFrame, top: DataFrame, n: int, asked: dict) -> tuple[float, DataFrame]:
    """(threshold, the galaxies' controls that reach it), by count, threshold or rate."""
    if asked["count"]:
        chosen = top.orderBy(F.desc("score"), "galaxy_id").limit(asked["count"])
        return chosen.agg(F.min("score")).collect()[0][0], chosen
    threshold = asked["threshold"] if asked["rate"] is None else threshold_of(controls, n, asked["rate"])
    return threshold, top.filter(F.col("score") >= threshold)


def find(scores: DataFrame, tasks: DataFrame, asked: dict) -> tuple[DataFrame, dict, dict]:
    """(NEGATIVES rows, counts for the report, the threshold and its rate)."""
    told = {"scores": require_sound(scores)}
    scored = scores.join(tasks, "task_id", how="left").persist()
    n, other, unknown = scored.agg(*(F.expr(f"count_if({of})") for of in (CONTROL, f"NOT {CONTROL}", "role IS NULL"))).collect()[0]
    told |= {"of tasks that are not in the manifest": unknown, "of injections and hard negatives": other, "of controls": n}
    if not n:
        raise InputError(
            f"no score is of a control of the manifest: of {told['scores']} scores {other} are of its injections or hard negatives, {unknown} of tasks "
            "that it has not; score the stamps of this data set and tier"
        )
    controls = scored.filter(CONTROL)
    top = best(controls).persist()
    threshold, chosen = taken(controls, top, n, asked)
    above, tied = controls.agg(F.count_if(F.col("score") >= threshold), F.count_if(F.col("score") == threshold)).collect()[0]
    told |= {"galaxies of the controls": top.count(), "controls at the threshold": tied, "controls at or above it": above}
    return ranked(chosen, threshold, above / n, n), told, {"threshold": threshold, "false_positive_rate": above / n}


def of_scores(session, dataset: store.Dataset, paths: list[str], asked: dict) -> tuple[pa.Table, list, dict]:
    """(NEGATIVES rows of the scores, lines for the report, the threshold and its rate)."""
    found, told, facts = find(read_scores(session, paths), spark.read(session, dataset, "manifest", TASK), asked)
    made = found.toArrow().cast(NEGATIVES)
    session.catalog.clearCache()
    if made.num_rows < (asked["count"] or 1):
        there = f"the {told['of controls']} scored controls are of {told['galaxies of the controls']} galaxies"
        if asked["count"]:
            raise InputError(f"--count {asked['count']} is more galaxies than have a score, {there}: ask for fewer")
        raise InputError(f"no galaxy scores {facts['threshold']:g} or more, {there}: give a lower --threshold")
    return made, list(told.items()), facts


def of_lists(session, dataset: store.Dataset, tier: tiers.Tier, lists: morphology.Lists) -> tuple[pa.Table, list]:
    """(galaxy_id, split and kind of the parents that the lists name, lines for the report)."""
    pieces = spark.Pieces(session, dataset, "parent")
    made = pa.concat_tables(pieces.map(partial(morphology.match, lists=lists, tier=tier), morphology.NEEDED))
    if not made.num_rows:
        raise InputError(f"none of the {len(lists.kind)} galaxies of the lists is within {morphology.MATCH_ARCSEC:g} arcsec of a parent")
    kinds, counts = np.unique(made["kind"].to_numpy(zero_copy_only=False), return_counts=True)
    told = [("galaxies of the lists, of the kinds asked for", len(lists.kind)), ("of them parents that may be used", made.num_rows)]
    return made, told + [(f"of kind {kind}", int(n)) for kind, n in zip(kinds, counts, strict=True)]


def main(argv: list[str]) -> None:
    parser = cli.parser("negatives", __doc__)
    parser.add_argument("--scores", metavar="PATH", help="Parquet or CSV, a file or a folder: task_id, score (higher: more like a lens)")
    parser.add_argument(
        "--morphology", action="append", default=[], metavar="PATH",
        help="list of what galaxies are (CSV, TSV, ECSV, FITS, Parquet, or a folder of them): ra, dec, kind; may be repeated; truth/ of a simulated survey",
    )  # fmt: skip
    parser.add_argument("--kinds", nargs="+", metavar="KIND", help=f"kinds of the lists to take ({' '.join(morphology.LENS_LIKE)})")
    cut = parser.add_mutually_exclusive_group()
    cut.add_argument(
        "--false-positive-rate", type=_number, metavar="F", help="take the controls of the highest scores, this share of them (0.01)"
    )
    cut.add_argument("--threshold", type=_number, metavar="X", help="take the controls that score X or more")
    cut.add_argument("--count", type=cli.positive, metavar="N", help="take the N galaxies of the highest scores")
    args = parser.parse_args(argv)
    asked = {"count": args.count, "threshold": args.threshold, "rate": args.false_positive_rate}
    if not args.scores and (not args.morphology or any(value is not None for value in asked.values())):
        parser.error("--scores is needed" + ("" if args.morphology else ", or --morphology"))
    if args.kinds and not args.morphology:
        parser.error("--kinds are of the lists of --morphology")
    if args.scores and all(value is None for value in asked.values()):
        asked["rate"] = 0.01
    if asked["rate"] is not None and not 0.0 < asked["rate"] <= 1.0:
        parser.error(f"--false-positive-rate must be above 0 and at most 1, got {asked['rate']:g}")
    tier = tiers.load(args.tier)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    inputs: dict = {}
    if args.scores:
        paths = score_files(store.local(args.scores))
        inputs |= {"manifest": runs.committed(dataset, "manifest"), "scores": place.fingerprint(paths)}
        inputs |= {"--count": args.count, "--threshold": args.threshold, "--false-positive-rate": asked["rate"]}
    if args.morphology:
        files, kinds = morphology.files(args.morphology), tuple(args.kinds or morphology.LENS_LIKE)
        lists = morphology.read(files, kinds)
        inputs |= {"parent": runs.committed(dataset, "parent"), "morphology": place.fingerprint(files), "kinds": list(kinds)}
    with runs.start(dataset, "negatives", ["negatives"], config.plain(tier), inputs, fresh=args.fresh, replace=args.replace) as run:
        if run.reused:
            cli.report(run.reused)
            return
        session = spark.session("arcmill negatives")
        told: list = []
        facts: dict = {}
        made = NEGATIVES.empty_table()
        with spark.progress(session, "negatives"):
            if args.scores:
                made, told, facts = of_scores(session, dataset, paths, asked)
            if args.morphology:
                found, lines = of_lists(session, dataset, tier, lists)
                made, told = morphology.joined(made, found), told + lines
            run.write("negatives", made)
        cli.report(run.commit({"cuts": told, **facts}))
        if facts:
            cli.log.info("  threshold %.6g, at a false-positive rate of %.6g", *facts.values())


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"must be a finite number, got {text!r}")
    return value
