"""``python -m validation --tier T --root R --dataset D``: judge a tier.

Exit codes: 0 every blocking gate passed, 1 one failed, 2 wrong usage or config, 3 input or output at fault.
"""

import argparse
import json
import sys

from lib import config, place, rows, runs, schemas, spark, store, tiers
from lib.errors import ArcmillError
from validation import manifest, physics, report, stamps
from validation.result import Data, Result, compute_facts

GATES = (*manifest.GATES, *stamps.GATES, *physics.GATES)


def validate(data: Data, gates=GATES) -> list[Result]:
    """Every gate's result; none is left out because another failed."""
    compute_facts(data, list(gates))
    return [g.run(data) for g in gates]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m validation", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--tier", required=True, help=f"recipe: {', '.join(tiers.names())}, or a .toml file")
    parser.add_argument("--root", required=True, help="folder that holds the data sets")
    parser.add_argument("--dataset", required=True, help="name of the data set under the root")
    parser.add_argument("--report", help="folder of the report; by default {root}/{dataset}/report/{tier}")
    args = parser.parse_args(argv)
    try:
        verdict, summary = judge(args)
    except ArcmillError as error:
        print(f"validation: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{verdict}; look at the report: {summary['report']}", file=sys.stderr)
    print(json.dumps(summary), flush=True)
    return 0 if verdict == "GO" else 1


def judge(args) -> tuple[str, dict]:
    tier = tiers.load(args.tier)
    dataset = store.Dataset.at(args.root, args.dataset, tier.name)
    tier = as_made(tier, dataset)
    folder = place.at(args.report) if args.report else dataset.place / f"report/{tier.name}"
    settings = config.plain(tier)
    inputs: dict = {table: runs.committed(dataset, table) for table in ("parent", "manifest", "stamps", "metrics")}
    inputs |= {"files": {name: print_ for t in inputs for name, print_ in runs.fingerprint(dataset, t).items()}}
    inputs |= {"validation": runs.code_version("lib", "validation")}
    with runs.start(dataset, "validation", ["validation"], settings, inputs, replace=True) as run:
        kept = report.read(folder, run.run_id) if run.reused else None
        if kept:
            results = [_from_row(g) for g in kept["gates"]]
        else:
            if run.reused:
                run.forget()
            session = spark.session("arcmill validation")
            data = Data(session, dataset, tier)
            with spark.progress(session, "validation"):
                results = validate(data)
                made = [r.row(tier.name, run.run_id) for r in results]
                run.write("validation", rows.table({k: [m[k] for m in made] for k in schemas.VALIDATION.names}, schemas.VALIDATION))
                about = {
                    "run_id": run.run_id, "started": run.started, "code_version": runs.code_version(),
                    "config_hash": run.footer["config_hash"], "config": json.dumps(settings, indent=1),
                }  # fmt: skip
                run.commit({})
                report.write(data, results, GATES, about, folder)
                data.close()
    report.terminal(results)
    verdict = report.verdict(results)
    counted = {
        t: sum(runs.open_file(dataset, name).metadata.num_rows for name in runs.files(dataset, t))
        for t in ("parent", "manifest", "stamps", "metrics", "validation")
    }
    return verdict, {"verdict": verdict, "rows": counted, "report": str(folder / "report.html").rstrip("/")}


def as_made(tier: tiers.Tier, dataset: store.Dataset) -> tiers.Tier:
    """The tier with the kinds of controls that its manifest was asked for (``--controls``)."""
    asked = [json.loads(r["inputs"]).get("controls") for r in runs.records(dataset) if r["command"] == "manifest"]
    return tiers.with_controls(tier, asked[-1]) if asked and asked[-1] else tier


def _from_row(row: dict) -> Result:
    names = Result.__dataclass_fields__
    return Result(**{k: v for k, v in row.items() if k in names and k != "examples"}, examples=tuple(json.loads(row["examples"])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
