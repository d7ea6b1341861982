"""``python -m infra VERB``: plan, price, submit, watch and tear down a tier on EMR.

    steps      the jobs of a run and what waits for what; nothing is asked of anybody
    plan       rows, bricks, bytes, core-hours, minutes, dollars; the last line is JSON
    deploy     the stack: bucket, roles, catalog, limits
    submit     start a run, or go on with one; it says its plan first, and starts nothing that may cost more than --budget
    status     how each step is, and why one failed
    logs       the end of what a step said
    cancel     stop the steps that are under way
    catalog    the tables of a data set as Athena is told of them (--create: tell it)
    teardown   remove the run's cluster or application (--with-stack: the stack, too)

Exit codes: 0 done, 1 a step failed, 2 wrong usage or config, 3 AWS, input or output at fault.
"""

import argparse
import json
import sys

from infra import aws, catalog, cluster, dag, plan, ship, stack, watch
from jobs import cli
from jobs.manifest import estimate
from lib import costs, promotion, tiers
from lib.errors import ArcmillError, ConfigError, InputError
from lib.frames import recipe as recipes
from lib.place import at
from lib.store import Dataset

OF_A_RUN = ("steps", "plan", "submit", "status", "logs", "cancel", "teardown")


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(
        "python -m infra", description=(__doc__ or "").partition("\n\n")[0], epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    verbs = out.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name in OF_A_RUN:
        verb = verbs.add_parser(name, allow_abbrev=False)
        what = verb.add_mutually_exclusive_group(required=True)
        what.add_argument("--tier", default="", help=f"{', '.join(tiers.names())}, or a .toml file")
        what.add_argument("--recipe", default="", help="of a mosaic: its name, or a .toml file; one with gpu = true goes to GPUs")
        verb.add_argument("--dataset", required=name not in ("plan", "steps"))
        verb.add_argument("--root", default="", required=name not in ("plan", "steps"), help="s3:// prefix that holds the data sets")
        verb.add_argument("--survey", default="", help="s3:// prefix of the survey")
        verb.add_argument("--frames", default="", help="s3:// prefix of a mosaic's frames")
        verb.add_argument(
            "--cluster",
            default="",
            help=f"machines: {', '.join(cluster.names())}, or a .toml file; by default the tier's own; of a mosaic grid, or mosaic-gpu",
        )
        verb.add_argument("--stack", default=aws.STACK, help="name of the stack")
        if name in ("plan", "submit"):
            verb.add_argument(
                "--bricks", type=cli.positive, default=0, metavar="N", help="bricks that the survey has, where fewer than the sky's"
            )
        if name == "submit":
            verb.add_argument("--budget", type=float, required=True, metavar="DOLLARS", help="start nothing that may cost more")
            verb.add_argument("--replace", action="store_true", help="make anew what was made from other inputs or with other settings")
            verb.add_argument("--dry-run", action="store_true", help="print what would be asked for, as JSON, and ask for nothing")
            verb.add_argument(
                "--no-wait", action="store_true", help="do not stay until it is done (Serverless: run it again for the next step)"
            )
        if name == "logs":
            verb.add_argument("--step", default="", help="job; by default the one that failed, or the last")
        if name == "teardown":
            verb.add_argument("--with-stack", action="store_true", help="remove the stack, too; its buckets are kept")
    verb = verbs.add_parser("catalog", allow_abbrev=False)
    verb.add_argument("--root", required=True, help="s3:// prefix that holds the data sets")
    verb.add_argument("--dataset", required=True)
    verb.add_argument("--create", action="store_true", help="declare the tables in Glue's database arcmill")
    verb = verbs.add_parser("deploy", allow_abbrev=False)
    verb.add_argument("--stack", default=aws.STACK, help="name of the stack")
    verb.add_argument("--parameter", action="append", default=[], metavar="KEY=VALUE", help="of the template; may be repeated")
    return out


def where_of(args) -> dag.Where:
    """What is asked for, with names and addresses that can be such."""
    tier, recipe, _ = ship.own(args.tier, args.recipe)
    for address in filter(None, (args.root, args.survey, args.frames)):
        at(address)
    Dataset.at(args.root or "out", args.dataset if args.dataset is not None else "any", tier or recipe)
    return dag.Where(args.root, args.dataset or "", tier, args.survey, frames=args.frames, recipe=recipe)


def machines(args) -> cluster.Cluster:
    """Those asked for, or the tier's or recipe's own."""
    where = where_of(args)
    if where.tier:
        name = args.cluster or where.tier
        if not args.cluster and name not in cluster.names():
            raise ConfigError(
                f"tier {name} has no machines of its own: give --cluster, one of {', '.join(cluster.names())}, or a .toml file"
            )
        made = cluster.load(name)
        if made.gpu:
            raise ConfigError(f"cluster {made.name} has GPUs, and tier {where.tier} uses none: give another --cluster")
        return made
    on_gpu = recipes.load(args.recipe).gpu
    made = cluster.load(args.cluster or ("mosaic-gpu" if on_gpu else "grid"))
    if made.gpu and not on_gpu:
        raise ConfigError(
            f"recipe {where.recipe} is for CPUs, and cluster {made.name} has GPUs: a recipe with gpu = true, or another --cluster"
        )
    return made


def planned(args) -> dict:
    """The plan's figures, told to people on the way."""
    made = machines(args)
    if args.recipe:
        told = plan.only_hours(made, where_of(args).recipe, sum(step.when == "recipe" for step in dag.STEPS), costs.load())
    else:
        tier = tiers.load(args.tier)
        found = estimate(Dataset.at(args.root or "out", args.dataset or "plan", tier.name), tier, None)
        told = plan.figures(made, plan.with_bricks(found, args.bricks), costs.load())
    print("\n".join(plan.lines(told)), file=sys.stderr)
    return told


def submit(args) -> int:
    made, where = machines(args), where_of(args)
    aws.require_plain(where)
    dag.steps(where)
    found = aws.stack(args.stack)
    aws.require_reach(made, where, found)
    told = planned(args)
    if not told["dollars_to"] <= args.budget:  # nan is no budget
        raise ConfigError(f"this may cost {told['dollars_to']:g} dollars, --budget is {args.budget:g}: nothing is started")
    try:
        if where.tier:
            promotion.require(Dataset.at(where.root, where.dataset, where.tier), tiers.load(args.tier), None, skips=False)
    except ConfigError as refused:
        if not args.dry_run:
            raise
        print(f"without --dry-run this is refused: {refused}", file=sys.stderr)
    files = ship.made(made, args.tier, args.recipe)
    if args.dry_run:
        asked = aws.Asked(made, where, ship.addresses(files, found.artifacts), found, args.replace)
        print(json.dumps(watch.requests(asked), indent=1))
        return 0
    asked = aws.Asked(made, where, ship.put(files, at(found.artifacts)), found, args.replace)
    return watch.submit(asked, wait=not args.no_wait)


def deploy(args) -> int:
    print(f"stack {args.stack}: {stack.deploy(args.stack, stack.parameters(args.parameter))}", file=sys.stderr)
    return 0


def declare(args) -> int:
    dataset = Dataset.at(args.root, args.dataset, "any")
    if dataset.place.local:
        raise ConfigError(f"Athena reads buckets, and {dataset.place} is a folder: DuckDB reads it as it is (docs/queries.md)")
    found = catalog.tables(dataset)
    if not found:
        raise InputError(f"{dataset.place} has no tables")
    for table in found:
        if args.create:
            catalog.create(aws.client("glue"), dataset, table)
        else:
            print(catalog.ddl(dataset, table) + ";\n")
    print(f"tables: {', '.join(catalog.name(dataset, t) for t in found)}", file=sys.stderr)
    return 0


def run(args) -> int:
    if args.verb in ("deploy", "catalog"):
        return {"deploy": deploy, "catalog": declare}[args.verb](args)
    if args.verb == "steps":
        print("\n".join(dag.lines(where_of(args))))
        return 0
    if args.verb == "plan":
        print(json.dumps(planned(args)), flush=True)
        return 0
    if args.verb == "submit":
        return submit(args)
    made, where = machines(args), where_of(args)
    if args.verb == "status":
        return watch.status(made, where)
    if args.verb == "logs":
        return watch.logs(made, where, at(aws.stack(args.stack).logs), args.step)
    if args.verb == "cancel":
        return watch.cancel(made, where)
    watch.teardown(made, where, with_stack=args.with_stack)
    if args.with_stack:
        stack.remove(args.stack)
        print(f"stack {args.stack}: removed", file=sys.stderr)
    return 0


def main(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    try:
        return run(args)
    except ArcmillError as error:
        print(f"{args.verb}: {error}", file=sys.stderr)
        return error.exit_code
    except aws.ERRORS as error:
        print(f"{args.verb}: {aws.told(error)}", file=sys.stderr)
        return aws.AwsError.exit_code
    except OSError as error:
        print(f"{args.verb}: {error}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print(f"\n{args.verb}: stopped looking; what runs goes on (status, cancel)", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
