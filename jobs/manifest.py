"""PARENT -> MANIFEST, one row for every stamp to make: hosts, injections, controls, every random number."""

import json
from functools import partial

from jobs import cli, negatives
from lib import config, costs, place, runs, sampling, spark, store, tiers
from lib.errors import ConfigError, InputError
from lib.sampling import tasks


def rows(piece, plan, tier: tiers.Tier, dataset: store.Dataset):
    """The manifest of a piece of the parents; ``plan`` is a broadcast one."""
    for made in tasks.made(spark.read_piece(dataset, *piece), plan.value, tier, dataset.name):
        yield {"manifest": made}, {}


def counts(expected: dict, hard: sampling.Negatives | None) -> dict[str, dict[str, int]]:
    """Rows by split and role, hard negatives on top of what the config asks for."""
    return {s: roles | ({sampling.HARD: len(hard[s])} if hard else {}) for s, roles in expected.items()}


def estimate(dataset: store.Dataset, tier: tiers.Tier, hard: sampling.Negatives | None) -> costs.Estimate:
    """What the manifest will be: of the parents, if there are any, else of the config alone."""
    if not runs.committed(dataset, "parent"):
        rows = counts(sampling.most_counts(tier), hard)
        hosts = {split: sampling.lens_hosts(tier, split, sampling.ANY) for split in rows}
        known = costs.MOST if tier.sample.at_most else costs.EXACT
        return costs.Estimate(tier.name, rows, hosts, costs.most_bricks(rows, hosts), known, costs.MOST)
    session = spark.session("arcmill plan")
    with spark.progress(session, "plan"):
        pieces = spark.Pieces(session, dataset, "parent")
        plan = sampling.plan(pieces, tier, negatives=hard)
        bricks = sampling.bricks(pieces, plan, tier)
    rows = counts(sampling.expected_counts(tier, plan.eligible), hard)
    return costs.Estimate(tier.name, rows, {s: sampling.lens_hosts(tier, s, plan.eligible.get(s, 0)) for s in rows}, bricks)


def tell(found: costs.Estimate, tier: tiers.Tier) -> None:
    """A table for people on stderr, a line of JSON on stdout."""
    figures = costs.load()
    told = found.told(figures) | {"rows_max": tier.rows_max}
    for line in costs.lines(told, figures):
        cli.log.info("%s", line)
    if found.total > tier.rows_max:
        cli.log.info("  more rows than tier %s allows, %d: the job wants --allow-rows %d", tier.name, tier.rows_max, found.total)
    print(json.dumps(told), flush=True)


def require_few(rows: int, tier: tiers.Tier, allowed: int) -> None:
    """Refuse more rows than the tier's soft limit, unless so many are allowed."""
    if rows > max(tier.rows_max, allowed):
        raise ConfigError(
            f"{rows} rows are more than tier {tier.name} allows (rows_max = {tier.rows_max}): --allow-rows {rows} makes them all the same"
        )


def main(argv: list[str]) -> None:
    parser = cli.parser("manifest", __doc__, begins=True)
    parser.add_argument("--controls", choices=tiers.CONTROLS, help="one kind of controls only, or both as the tier says")
    parser.add_argument(
        "--negatives", metavar="FOLDER", help="add these galaxies without an arc as hard negatives: a data set with the table, or its files"
    )
    parser.add_argument(
        "--plan", action="store_true", help="print rows, bricks, bytes, core-hours and dollars, and stop: nothing is written"
    )
    parser.add_argument("--allow-rows", type=cli.positive, default=0, metavar="N", help="make up to N rows, whatever the tier's rows_max")
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    if args.controls:
        tier = tiers.with_controls(tier, args.controls)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    skipped = {} if args.plan else cli.promoted(args, dataset, tier)
    paths, hard = negatives.galaxies(args.negatives, tier) if args.negatives else ([], None)
    if args.plan:
        tell(estimate(dataset, tier, hard), tier)
        return
    settings = config.plain(tier)
    inputs: dict = {"parent": runs.committed(dataset, "parent")}
    inputs |= {"controls": args.controls} if args.controls in ("paired", "unpaired") else {}
    inputs |= {"negatives": place.fingerprint(paths)} if paths else {}
    with runs.start(dataset, "manifest", ["manifest"], settings, inputs, fresh=args.fresh, replace=args.replace, told=skipped) as run:
        if run.reused:
            cli.report(run.reused)
            return
        session = spark.session("arcmill manifest")
        with spark.progress(session, "manifest"):
            pieces = spark.Pieces(session, dataset, "parent")
            eligible = sampling.count_eligible(pieces, tier)
            wanted = sampling.total(counts(sampling.expected_counts(tier, eligible), hard))
            require_few(wanted, tier, args.allow_rows)
            plan = sampling.plan(pieces, tier, eligible, hard)
            sent = session.sparkContext.broadcast(plan)
            spark.produce(session, run, pieces.pieces, partial(rows, plan=sent, tier=tier, dataset=dataset))
        made = run.rows["manifest"]
        if made != wanted or not wanted:
            there = ", ".join(f"{n} in {split}" for split, n in sorted(plan.eligible.items())) or "none"
            raise InputError(f"{made} rows were made, tier {tier.name} asks for {wanted}; eligible hosts: {there}")
        cuts = sorted((f"eligible hosts {split}", n) for split, n in plan.eligible.items())
        told = {"cuts": cuts, "hard negatives": {split: len(galaxy) for split, galaxy in (hard or {}).items()}}
        cli.report(run.commit(told, pieces.core_seconds))
