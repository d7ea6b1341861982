"""PARENT -> MANIFEST, one row for every stamp to make: hosts, injections, controls, every random number."""

from jobs import cli
from lib import config, runs, sampling, spark, store, tiers
from lib.errors import InputError
from lib.sampling import tasks


def rows(batches, plan, tier: tiers.Tier, dataset: str):
    """The manifest of each piece that a batch names; ``plan`` is a broadcast one."""
    for batch in batches:
        for piece in batch.to_pylist():
            for made in tasks.made(spark.read_piece(**piece), plan.value, tier, dataset):
                yield {"manifest": made}, {}


def main(argv: list[str]) -> None:
    parser = cli.parser("manifest", __doc__)
    parser.add_argument("--controls", choices=tiers.CONTROLS, help="which controls, whatever the tier says of their shares")
    args = parser.parse_args(argv)
    tier = tiers.load(args.tier)
    if args.controls:
        tier = tiers.with_controls(tier, args.controls)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    settings = config.plain(tier)
    inputs = {"parent": runs.committed(dataset, "parent")} | ({"controls": args.controls} if args.controls else {})
    with runs.start(dataset, "manifest", ["manifest"], settings, inputs, fresh=args.fresh, replace=args.replace) as run:
        if run.reused:
            cli.report(run.reused)
            return
        session = spark.session("arcmill manifest")
        with spark.progress(session, "manifest"):
            pieces = spark.Pieces(session, dataset, "parent")
            plan = sampling.plan(pieces, tier)
            sent = session.sparkContext.broadcast(plan)
            made, _, seconds = spark.produce(
                pieces.frame, lambda batches: rows(batches, sent, tier, args.dataset), run.staging, run.tables, run.footer
            )
        wanted = sum(sum(roles.values()) for roles in sampling.expected_counts(tier, plan.eligible).values())
        if made["manifest"] != wanted or not wanted:
            raise InputError(f"{made['manifest']} rows, tier {tier.name} asks for {wanted}; eligible hosts: {plan.eligible}")
        cuts = sorted((f"eligible hosts {split}", n) for split, n in plan.eligible.items())
        cli.report(run.commit({"rows": made, "cuts": cuts}, seconds + pieces.core_seconds))
