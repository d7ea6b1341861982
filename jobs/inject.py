"""MANIFEST + bricks -> STAMPS and METRICS: each brick is opened once, both tables come out of one pass.

The unit is a chunk, some bricks of about equal cost.  A run that is stopped, however, keeps the chunks that are made; the same
command goes on with the rest.
"""

from collections import Counter
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import cli
from lib import chunks, config, costs, runs, spark, store, tiers
from lib.errors import STATUSES, InputError
from lib.injection import READ, REQUESTS, inject
from lib.place import Place
from lib.tiers import Tier

BYTES_PER_ROW = 170_000  # stamp, arc, invvar and mask, uncompressed
BRICKS = 250  # whose files are listed at once


def sizes(rows: pa.Table) -> dict[str, int]:
    """Rows of each brick."""
    return {v["values"]: v["counts"] for v in pc.value_counts(rows["brickname"]).to_pylist()}


def stamps(rows: pa.Table, survey: Place, tier: Tier):
    """STAMPS and METRICS of each brick of a chunk, in the order of their names, and how many rows of each status.

    The rows of a galaxy lie together: they show the same pixels, which compress.
    """
    rows = rows.sort_by([(name, "ascending") for name in ("brickname", "galaxy_id", "task_id")])
    names = rows["brickname"].combine_chunks()
    starts = np.flatnonzero(np.r_[True, pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)])
    for start, end in zip(starts, [*starts[1:], len(names)], strict=True):
        read: Counter = Counter()
        made = inject(rows.slice(start, end - start), survey, tier, read)
        yield made, dict(Counter(made["metrics"]["status"].to_pylist()) + read)


class Route:
    """The chunk of each row, by its brick."""

    def __init__(self, planned: list[list[str]]):
        self.bricks = pa.array([name for names in planned for name in names])
        self.chunk = np.repeat(np.arange(len(planned)), [len(names) for names in planned])

    def __call__(self, rows: pa.Table) -> np.ndarray:
        return self.chunk[pc.index_in(rows["brickname"], self.bricks).to_numpy()]


def main(argv: list[str]) -> None:
    parser = cli.parser("inject", __doc__, begins=True)
    parser.add_argument("--survey", required=True, help="survey folder or s3:// prefix: its coadds are read")
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    survey = cli.survey(args.survey)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    skipped = cli.promoted(args, dataset, tier)
    session = spark.session("arcmill inject")
    spark.load(session, stamps)
    pieces = spark.Pieces(session, dataset, "manifest")
    found: Counter = sum(map(Counter, pieces.map(sizes, ["brickname"])), Counter())
    planned = chunks.of_bricks(found)
    inputs = {"manifest": runs.committed(dataset, "manifest"), "coadds": _coadds(pieces, survey, sorted(found))}
    tables = ["stamps", "metrics"]
    with runs.start(
        dataset, "inject", tables, config.plain(tier), inputs, fresh=args.fresh, replace=args.replace, resumes=True, told=skipped
    ) as run:
        if run.reused:
            cli.require_made(cli.report(run.reused), tier)
            return
        todo = [n for n in range(len(planned)) if n not in run.done]
        left = sum(found[name] for n in todo for name in planned[n])
        store.require_space(dataset.place, BYTES_PER_ROW * left)
        rows = spark.routed(session, dataset, "manifest", Route(planned), todo) if todo else None
        with spark.progress(session, "inject", left) as told:
            make = partial(stamps, survey=survey, tier=tier)
            spark.produce(session, run, planned, make, routed=rows, told=told)
        wanted = found.total()
        if set(run.rows.values()) != {wanted}:
            gave = ", ".join(f"{n} rows of {table}" for table, n in run.rows.items())
            raise InputError(f"{wanted} tasks gave {gave}: nothing is published")
        statuses = sorted((k, int(v)) for k, v in run.totals.items() if k in STATUSES)
        read = {k: int(run.totals.get(k, 0)) for k in (READ, REQUESTS)}
        counts = cli.report(run.commit({"statuses": statuses, **read, "peak_mb": run.peak_mb}, pieces.core_seconds))
        told = costs.size(read[READ]), read[READ] / 1e3 / wanted, read[REQUESTS], run.peak_mb
        cli.log.info("inject: %s of the survey read, %.1f kB a stamp, in %d requests; no worker held more than %.0f MB", *told)
        cli.require_made(counts, tier)


def _coadds(pieces: spark.Pieces, survey: Place, names: list[str]) -> str:
    """One fingerprint of all coadd files of the bricks; a brick without any is told by its tasks' status."""

    def listed(group: list[str]) -> str:
        return config.digest(
            {f.name: [f.size, f.etag] for name in group for f in survey.files(f"coadd/{name[:3]}/{name}") if f.name.endswith(".fits.fz")}
        )

    return config.digest(pieces.each(listed, [names[k : k + BRICKS] for k in range(0, len(names), BRICKS)]))
