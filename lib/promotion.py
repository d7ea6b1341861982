"""One tier after the other: a tier that comes after another is begun when the other was judged GO, and a record says so.

The record lies in the data set and names what was judged: the data by their files' hashes, the config, the gates with their thresholds,
who and when.  It carries the hash of its own content, and holds as long as the data it names are the ones that are there.
"""

import json
import logging

from lib import config, runs, tiers
from lib.errors import ConfigError
from lib.store import Dataset
from lib.tiers import Tier

log = logging.getLogger(__name__)
TABLES = ("parent", "manifest", "stamps", "metrics")


def name(before: str, after: str) -> str:
    """Where the record of a promotion lies in its data set."""
    return f"_promotion/{before}-to-{after}.json"


def before(tier: Tier) -> str:
    """The tier that must be promoted first; of a shipped tier's name the shipped one's, whatever a file of that name says."""
    return tiers.load(tier.name).after if tier.name in tiers.names() else tier.after


def fingerprint(dataset: Dataset) -> str:
    """Of the data of a tier: which files are its tables, by the hashes of their content and the sizes that they have now; '' if it has none."""
    sizes = {f.name: f.size for table in TABLES for f in dataset.place.files(dataset.table(table))}
    latest: dict[str, list] = {}
    for record in runs.records(dataset):
        for file in record["files"]:
            if file["table"] in TABLES:
                latest.setdefault(file["table"], [None, []])
                if latest[file["table"]][0] != record["run_id"]:
                    latest[file["table"]] = [record["run_id"], []]
                latest[file["table"]][1].append([file["path"], file["sha256"], sizes.get(file["path"])])
    return config.digest(latest) if latest else ""


def signed(record: dict) -> dict:
    """The record with the hash of its content."""
    content = {k: v for k, v in record.items() if k != "digest"}
    return content | {"digest": config.digest(content)}


def read(dataset: Dataset, before: str, after: str) -> dict | None:
    """The record of a promotion, if there is one; one that was altered is an error."""
    path = name(before, after)
    if not dataset.place.has(path):
        return None
    try:
        record = json.loads(dataset.place.read(path))
        whole = isinstance(record, dict) and record.get("digest") == signed(record)["digest"]
    except ValueError:
        whole = False
    if not whole or (record["from"], record["to"], record["verdict"]) != (before, after, "GO"):
        raise ConfigError(f"{dataset.place}/{path} is no promotion of {before} to {after}, or was altered: promote {before} again")
    return record


def require(dataset: Dataset, tier: Tier, skip: str | None, skips: bool = True) -> dict:
    """What the run is to tell: nothing if the tier before is promoted, the reason if that is skipped; else an error.

    ``skips``: whether the user has the flag by which it is skipped.
    """
    first = before(tier)
    if not first:
        return {}
    if skip is not None:
        if not skip.strip():
            raise ConfigError("--unsafe-skip-promotion wants a reason, which every later report shows")
        log.warning("tier %s is begun without a promotion of %s: %s", tier.name, first, skip)
        return {runs.SKIPPED: f"{first} to {tier.name}: {skip.strip()}"}
    record = read(dataset, first, tier.name)
    how = (f"validate {first} and run python -m validation promote --from {first} --to {tier.name} --root {dataset.root} "
           f"--dataset {dataset.name}" + ', or give --unsafe-skip-promotion "reason"' * skips)  # fmt: skip
    if record is None:
        raise ConfigError(f"tier {tier.name} comes after {first}, and {dataset.place} has no promotion of {first} to {tier.name}: {how}")
    there = fingerprint(Dataset(dataset.root, dataset.name, first))
    if there != record["data"]:
        raise ConfigError(f"the data of tier {first} in {dataset.place} are not those that were promoted at {record['when']}: {how}")
    return {}


def skipped(dataset: Dataset, tier: Tier) -> list[str]:
    """Promotions that were skipped for this data set, of this tier and of those before it."""
    found, first = _reasons(dataset), before(tier)
    record = read(dataset, first, tier.name) if first else None
    found += record["skipped"] if record else []
    while first:
        found += _reasons(Dataset(dataset.root, dataset.name, first))
        first = tiers.load(first).after if first in tiers.names() else ""
    return sorted({reason for reason in found if reason})


def _reasons(dataset: Dataset) -> list[str]:
    return [json.loads(r["counts"]).get(runs.SKIPPED, "") for r in runs.records(dataset)]
