"""Sweep catalogues -> PARENT, the galaxies that may host a lens."""

import json
from functools import partial

import pyarrow as pa

from jobs import cli
from lib import config, runs, spark, store, tiers
from lib.errors import InputError
from lib.survey import sweeps
from lib.tiers import Tier

READ, FAILED = "catalogues read", "catalogues failed"
PIXEL_ARCSEC = 0.262  # of the Legacy Surveys: no image is at hand yet whose WCS would say


def parents(batches, tier: Tier, sizes: dict, allow_columns_missing: bool):
    """The galaxies of each catalogue that a batch names; one that cannot be read is told, and the rest are read."""
    guard = 0.5 * 2**0.5 * tier.stamp.side_pix * PIXEL_ARCSEC
    for batch in batches:
        for path in batch["path"].to_pylist():
            try:
                table, counts = sweeps.parent(path, tier.selection, tier.split, guard, sizes, allow_columns_missing)
                yield {"parent": table}, {READ: 1} | {f"{k:02d} {name}": n for k, (name, n) in enumerate(counts.items())}
            except InputError as error:
                yield {}, {FAILED: 1, f"! {error}": 1}


def main(argv: list[str]) -> None:
    parser = cli.parser("parent", __doc__)
    parser.add_argument("--survey", required=True, help="survey folder: its sweeps (or tractor files) are read")
    parser.add_argument("--catalogue", action="append", help="catalogue to read instead (FITS or Parquet; may be repeated)")
    parser.add_argument("--allow-missing", type=int, default=0, metavar="N", help="catalogues that may fail to be read")
    parser.add_argument("--allow-columns-missing", action="store_true", help="leave out cuts on columns that a catalogue lacks")
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    survey = cli.survey_folder(args.survey)
    paths = [str(store.local(p)) for p in args.catalogue] if args.catalogue else sweeps.find(survey)
    settings = config.plain(tier)
    inputs: dict = store.fingerprint([*paths, *sweeps.size_files(survey)])
    inputs["flags"] = [args.allow_missing, args.allow_columns_missing]
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    with runs.start(dataset, "parent", ["parent"], settings, inputs, fresh=args.fresh, replace=args.replace) as run:
        if run.reused:
            cli.report(run.reused)
            return
        session = spark.session("arcmill parent")
        frame = session.createDataFrame(pa.table({"path": paths})).repartition(min(len(paths), 256))
        make = partial(parents, tier=tier, sizes=sweeps.brick_sizes(survey), allow_columns_missing=args.allow_columns_missing)
        with spark.progress(session, "parent"):
            made, totals, seconds = spark.produce(frame, make, run.staging, run.tables, run.footer)
        failures = [name.removeprefix("! ") for name in totals if name.startswith("! ")]
        for failure in failures:
            cli.log.error("parent: %s", failure)
        if len(failures) > args.allow_missing:
            raise InputError(f"{len(failures)} of {len(paths)} catalogues could not be read: {'; '.join(failures)}")
        cuts = [(name[3:], int(n)) for name, n in sorted(totals.items()) if name[:2].isdigit()]
        if not made["parent"]:
            raise InputError(f"no galaxy passes the selection {tier.selection.name}: {json.dumps(cuts)}")
        cli.report(run.commit({"rows": made, "cuts": cuts, "failed": failures}, seconds))
