"""What a validation is of: the tier as its data were made, and the tables with their fingerprints."""

import json

from lib import runs, tiers
from lib.promotion import TABLES
from lib.store import Dataset


def as_made(tier: tiers.Tier, dataset: Dataset) -> tiers.Tier:
    """The tier with the kinds of controls that its manifest was asked for (``--controls``)."""
    asked = [json.loads(r["inputs"]).get("controls") for r in runs.records(dataset) if r["command"] == "manifest"]
    return tiers.with_controls(tier, asked[-1]) if asked and asked[-1] else tier


def inputs_of(dataset: Dataset) -> dict:
    """The tables that are judged, to the file, and the code that judges."""
    found: dict = {table: runs.committed(dataset, table) for table in TABLES}
    found |= {"files": {name: print_ for t in TABLES for name, print_ in runs.fingerprint(dataset, t).items()}}
    return found | {"validation": runs.code_version("lib", "validation")}
