"""``python -m validation promote --from A --to B``: put on record that tier A was judged GO, so that tier B may begin."""

import getpass
import json
import socket
import sys

from lib import config, promotion, runs, tiers
from lib.errors import ConfigError, InputError
from lib.runs import now
from lib.store import Dataset
from lib.tiers import Tier
from validation import report
from validation.judging import as_made, inputs_of
from validation.result import Result


def add(parser) -> None:
    parser.add_argument("--from", dest="before", required=True, metavar="TIER", help="the tier that was validated")
    parser.add_argument("--to", dest="after", required=True, metavar="TIER", help="the tier that may begin then")
    parser.add_argument("--root", required=True, help="folder that holds the data sets")
    parser.add_argument("--dataset", required=True, help="name of the data set under the root")
    parser.add_argument("--who", default="", help="who promotes; by default this user on this machine")


def main(args) -> int:
    before, after = tiers.load(args.before), tiers.load(args.after)
    if (first := promotion.before(after)) != before.name:
        raise ConfigError(f"tier {after.name} comes after {first or 'no other'}, not after {before.name} (the key after of its file)")
    dataset = Dataset.at(args.root, args.dataset, before.name)
    record, problems = judged(dataset, as_made(before, dataset), after.name, args.who or f"{getpass.getuser()}@{socket.gethostname()}")
    if problems:
        print(f"validation: {before.name} is not promoted to {after.name}: " + "; ".join(problems), file=sys.stderr)
        return 1
    path = promotion.name(before.name, after.name)
    dataset.place.put(path, (json.dumps(promotion.signed(record), indent=1, sort_keys=True) + "\n").encode())
    print(f"validation: {before.name} is promoted to {after.name}: {dataset.place}/{path}", file=sys.stderr)
    print(json.dumps(promotion.signed(record)), flush=True)
    return 0


def judged(dataset: Dataset, tier: Tier, after: str, who: str) -> tuple[dict, list[str]]:
    """The record of a promotion, and what stands against it."""
    found = [r for r in runs.records(dataset) if r["command"] == "validation"]
    if not found:
        raise InputError(f"tier {tier.name} of {dataset.place} was never validated: run python -m validation first")
    run, problems = found[-1], []
    settings, inputs = (json.loads(json.dumps(v, sort_keys=True)) for v in (config.plain(tier), inputs_of(dataset)))
    if then := config.differences(json.loads(run["config"]), settings):
        problems.append(f"it was validated with another config ({', '.join(then[:5])})")
    if other := [
        key for key in sorted(inputs.keys() | json.loads(run["inputs"]).keys()) if inputs.get(key) != json.loads(run["inputs"]).get(key)
    ]:
        words = {"files": "files of its tables have changed", "validation": "the gates have another code"}
        problems.append("since it was validated " + ", ".join(words.get(key, f"{key} was made again") for key in other))
    if tier.name in tiers.names():
        shipped = json.loads(json.dumps(config.plain(as_made(tiers.load(tier.name), dataset)), sort_keys=True))
        if other := config.differences(shipped, settings):
            problems.append(f"it is not the shipped tier {tier.name} ({', '.join(other[:5])}): a tier of your own wants a name of its own")
    gates = sorted(runs.read(dataset, "validation").to_pylist(), key=lambda g: g["gate"])
    results = [Result(g["outcome"], g["message"], gate=g["gate"], severity=g["severity"]) for g in gates]
    verdict = report.verdict(results)
    if verdict != "GO":
        bad = ", ".join(f"{r.gate} {r.outcome}" for r in results if r.blocks) or "no gate passed"
        problems.append(f"its validation says NO-GO ({bad})")
    record = {
        "from": tier.name, "to": after, "verdict": verdict, "data": promotion.fingerprint(dataset), "config": config.digest(settings),
        "validation_run": run["run_id"], "code_version": run["code_version"], "who": who, "when": now(),
        "gates": [{k: g[k] for k in ("gate", "outcome", "severity", "measured", "threshold", "unit", "n")} for g in gates],
        "skipped": promotion.skipped(dataset, tier),
    }  # fmt: skip
    return record, problems
