"""``python -m validation --tier T --root R --dataset D``: judge a tier.

    python -m validation promote --from debug --to grid --root R --dataset D    let the next tier begin
    python -m validation compare A B                                            what changed between two runs or tiers

Exit codes: 0 every blocking gate passed (or promoted, or compared), 1 one failed (or not promoted), 2 wrong usage or config, 3 input or output at fault.
"""

import argparse
import contextlib
import json
import sys

from lib import config, place, promotion, rows, runs, schemas, spark, store, tiers
from lib.errors import ArcmillError
from validation import compare, manifest, parameters, physics, pixels, promote, report, samples, shortcuts, tables
from validation.data import Data
from validation.judging import as_made, inputs_of
from validation.result import Result

GATES = tuple(g for m in (manifest, parameters, tables, pixels, physics, shortcuts) for g in m.GATES)
COMMANDS = {"promote": promote, "compare": compare}


def validate(data: Data, gates=GATES) -> list[Result]:
    """Every gate's result; none is left out because another failed."""
    data.prepare([n for g in gates for n in (*g.notes, *g.uses)] + list(samples.ALL))
    return [g.run(data) for g in gates]


def main(argv: list[str]) -> int:
    try:
        return _command(argv[0], argv[1:]) if argv and argv[0] in COMMANDS else _judge(argv)
    except ArcmillError as error:
        print(f"validation: {error}", file=sys.stderr)
        return error.exit_code


def _command(name: str, argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        f"python -m validation {name}", description=(COMMANDS[name].__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    COMMANDS[name].add(parser)
    return COMMANDS[name].main(parser.parse_args(argv))


def _judge(argv: list[str]) -> int:
    lines = (__doc__ or "").splitlines()
    parser = argparse.ArgumentParser(
        "python -m validation", description=lines[0], epilog="\n".join(lines[2:4]), allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--tier", required=True, help=f"recipe: {', '.join(tiers.names())}, or a .toml file")
    parser.add_argument("--root", required=True, help="folder that holds the data sets")
    parser.add_argument("--dataset", required=True, help="name of the data set under the root")
    parser.add_argument("--report", help="folder of the report; by default {root}/{dataset}/report/{tier}")
    verdict, summary = judge(parser.parse_args(argv))
    print(f"{verdict}; look at the report: {summary['report']}", file=sys.stderr)
    print(json.dumps(summary), flush=True)
    return 0 if verdict == "GO" else 1


def judge(args) -> tuple[str, dict]:
    tier = tiers.load(args.tier)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    tier = as_made(tier, dataset)
    folder = place.at(args.report) if args.report else dataset.place / f"report/{tier.name}"
    settings = config.plain(tier)
    for table in promotion.TABLES:
        runs.files(dataset, table)  # or an error that names the table that is not there
    with runs.start(dataset, "validation", ["validation"], settings, inputs_of(dataset), replace=True) as run:
        kept = report.read(folder, run.run_id) if run.reused else None
        if kept:
            results = [_from_row(g) for g in kept["gates"]]
        else:
            if run.reused:
                run.forget()
            data = Data(None, dataset, tier)
            with _progress(data):
                results = validate(data)
                made = [r.row(tier.name, run.run_id) for r in results]
                run.write("validation", rows.table({k: [m[k] for m in made] for k in schemas.VALIDATION.names}, schemas.VALIDATION))
                about = {
                    "run_id": run.run_id, "started": run.started, "code_version": runs.code_version(),
                    "config_hash": run.footer["config_hash"], "config": json.dumps(settings, indent=1),
                    "skipped": promotion.skipped(dataset, tier), "passes": dict(data.passes),
                }  # fmt: skip
                run.commit({})
                report.write(data, results, GATES, about, folder)
    report.terminal(results)
    verdict = report.verdict(results)
    counted = {
        t: sum(runs.open_file(dataset, name).metadata.num_rows for name in runs.files(dataset, t))
        for t in (*promotion.TABLES, "validation")
    }
    return verdict, {"verdict": verdict, "rows": counted, "report": str(folder / "report.html").rstrip("/")}


def _progress(data: Data):
    """A bar, if Spark is needed; a small tier is judged before one would be seen."""
    if not any(data.large(table) for table in promotion.TABLES):
        return contextlib.nullcontext()
    data.session = spark.session("arcmill validation")
    return spark.progress(data.session, "validation")


def _from_row(row: dict) -> Result:
    names = Result.__dataclass_fields__
    return Result(**{k: v for k, v in row.items() if k in names and k != "examples"}, examples=tuple(json.loads(row["examples"])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
