"""Sweep catalogues -> PARENT, the galaxies that may host a lens."""

from functools import partial

from jobs import cli
from lib import config, place, runs, spark, store, tiers
from lib.errors import ConfigError, InputError
from lib.survey import lenses, parents, sweeps
from lib.tiers import Tier

READ, FAILED = "catalogues read", "catalogues failed"


def galaxies(path: str, **settings):
    """The parents in a catalogue; one that cannot be read is told, and the rest are read."""
    try:
        table, lost = parents.of_catalogue(path, **settings)
        yield {"parent": table}, {READ: 1} | {f"{k:02d} {name}": n for k, (name, n) in enumerate(lost.items())}
    except InputError as error:
        yield {}, {FAILED: 1, f"! {error}": 1}


def steps(totals: dict) -> list[tuple[str, int, int]]:
    """(step, rows that it left out, rows left after it), from the first, which is all rows."""
    told = [(name[3:], int(n)) for name, n in sorted(totals.items()) if name[:2].isdigit()]
    left = sum(n for name, n in told if name == parents.ROWS)
    found = [(parents.ROWS, 0, left)]
    for name, lost in told:
        if name != parents.ROWS:
            left -= lost
            found.append((name, lost, left))
    return found


def known_lenses(paths, tier: Tier):
    """((ra, dec) of the lists' lenses or None without a list, lines for the report)."""
    if paths and not tier.known_lenses.radius_arcsec:
        raise ConfigError(f"tier {tier.name} keeps no distance from known lenses (known_lenses.radius_arcsec = 0), but lists are given")
    ra, dec, unplaced = lenses.read(paths)
    return ((ra, dec), [("known lenses in the lists", len(ra)), ("their rows without a place", unplaced)]) if paths else (None, [])


def main(argv: list[str]) -> None:
    parser = cli.parser("parent", __doc__, begins=True)
    parser.add_argument("--survey", required=True, help="survey folder, local or s3://: its sweeps (or tractor files) are read")
    parser.add_argument(
        "--catalogue", action="append", metavar="PATH",
        help="read these instead: a file (FITS, Parquet), folder or glob, local or s3://; may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--known-lenses", action="append", default=[], metavar="FILE",
        help="list of lenses to keep away from (CSV, TSV, ECSV, FITS, Parquet, with ra and dec in decimal degrees); may be repeated",
    )  # fmt: skip
    parser.add_argument("--allow-missing", type=int, default=0, metavar="N", help="catalogues that may fail to be read")
    parser.add_argument("--allow-columns-missing", action="store_true", help="leave out cuts on columns that a catalogue lacks")
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    survey = cli.survey(args.survey)
    paths = sweeps.named(args.catalogue) if args.catalogue else sweeps.find(survey)
    lists = [place.at(path).url() for path in args.known_lenses]
    settings = config.plain(tier)
    inputs: dict = place.fingerprint([*paths, *sweeps.size_files(survey), *lists])
    inputs |= {"--allow-missing": args.allow_missing, "--allow-columns-missing": args.allow_columns_missing}
    inputs["known lenses"] = sorted(lists)
    known, lists_told = known_lenses(lists, tier)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    skipped = cli.promoted(args, dataset, tier)
    with runs.start(dataset, "parent", ["parent"], settings, inputs, fresh=args.fresh, replace=args.replace, told=skipped) as run:
        if run.reused:
            cli.report(run.reused)
            return
        session = spark.session("arcmill parent")
        sizes = sweeps.brick_sizes(survey)
        make = partial(galaxies, tier=tier, sizes=sizes, known=known, allow_columns_missing=args.allow_columns_missing)
        with spark.progress(session, "parent"):
            spark.produce(session, run, paths, make)
        failures = [name.removeprefix("! ") for name in run.totals if name.startswith("! ")]
        for failure in failures:
            cli.log.error("parent: %s", failure)
        if len(failures) > args.allow_missing:
            raise InputError(f"{len(failures)} of {len(paths)} catalogues could not be read: {'; '.join(failures)}")
        told = steps(run.totals)
        if not run.rows["parent"]:
            lost = ", ".join(f"{lost} by {name}" for name, lost, _ in told if lost)
            raise InputError(
                f"of {told[0][2]} rows no galaxy passes the selection {tier.selection.name}: {lost or 'the catalogues are empty'}"
            )
        cli.report(run.commit({"steps": told, "cuts": lists_told, "failed": failures}))
