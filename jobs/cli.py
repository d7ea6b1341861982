"""What all jobs share: their flags, and the report of a finished run."""

import argparse
import json
import logging
import sys

from lib import place, promotion, tiers
from lib.errors import OK, InputError, TooManyFailed
from lib.place import Place
from lib.store import Dataset
from lib.tiers import Tier

log = logging.getLogger("arcmill")


def parser(name: str, about: str, *, tables: bool = True, begins: bool = False) -> argparse.ArgumentParser:
    """A job's flags: where things are, and which tier; of one that ``begins`` a tier, how to go without a promotion."""
    out = argparse.ArgumentParser(f"python -m jobs {name}", description=about, allow_abbrev=False)
    if tables:
        out.add_argument("--tier", required=True, help=f"recipe: {', '.join(tiers.names())}, or a .toml file")
        out.add_argument("--root", required=True, help="folder that holds the data sets")
        out.add_argument("--dataset", required=True, help="name of the data set under the root")
    if begins:
        told = "begin though the tier before is not promoted; every later report tells why"
        out.add_argument("--unsafe-skip-promotion", metavar="REASON", help=told)
    if tables:
        again = out.add_mutually_exclusive_group()
        again.add_argument("--replace", action="store_true", help="replace what was made here with other settings, code or inputs")
        again.add_argument("--fresh", action="store_true", help="make it anew, even if nothing changed")
    return out


def promoted(args: argparse.Namespace, dataset: Dataset, tier: Tier) -> dict:
    """Refuse a tier that comes after one that is not promoted; what the run's record is to tell if that is skipped."""
    return promotion.require(dataset, tier, args.unsafe_skip_promotion)


def survey(text: str) -> Place:
    """The survey's folder, of a disk or a bucket."""
    found = place.at(text)
    if not found.exists():
        raise InputError(f"no such survey folder: {found}")
    return found


def report(record: dict) -> dict:
    """Say what a run made; the counts again, for the caller."""
    counts = json.loads(record["counts"])
    for table, number in counts["rows"].items():
        log.info("%s: %d rows (run %s)", table, number, record["run_id"])
    for name, lost, left in counts.get("steps", []):
        log.info("  %-72s %10d out %10d left", name, lost, left)
    for what in ("cuts", "statuses"):
        for name, number in counts.get(what, []):
            log.info("  %-72s %10d", name, number)
    return counts


def require_made(counts: dict, tier: Tier) -> None:
    """Fail, after writing, if fewer tasks were made than the tier accepts: the counts are in the message."""
    statuses = dict(counts["statuses"])
    share = statuses.get(OK, 0) / max(1, sum(statuses.values()))
    if share < tier.gates.ok_fraction_min:
        told = ", ".join(f"{k} {v}" for k, v in statuses.items())
        raise TooManyFailed(f"{share:.3f} of the tasks were made, tier {tier.name} asks for {tier.gates.ok_fraction_min}: {told}")


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text!r}")
    return value


def log_to_stderr() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    for handler in logging.getLogger().handlers:  # py4j reports a Ctrl-C as a failure of its own, to the root
        handler.addFilter(lambda record: record.module not in ("java_gateway", "clientserver"))
    logging.getLogger("numba").setLevel(logging.WARNING)
