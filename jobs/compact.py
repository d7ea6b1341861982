"""Make the files of a committed table fewer and larger: the same rows, those of one split in each file.

Rows and keys are compared by split before the new files take the place of the old, in one step.
"""

from collections import Counter
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs import cli
from lib import runs, spark, store, tiers
from lib.errors import InputError

TABLES = ("manifest", "stamps", "metrics")  # that have a split and a task_id


def contents(rows: pa.Table) -> Counter:
    """Rows of each split, and the sum of their keys, which are hashes."""
    found: Counter = Counter()
    for split in pc.unique(rows["split"]).to_pylist():
        keys = rows["task_id"].filter(pc.equal(rows["split"], split))
        found[split, "rows"] += len(keys)
        found[split, "keys"] += int(sum(int(key[:12], 16) for key in keys.to_pylist()))
    return found


def plan(found: list[Counter], pieces: list, bytes_per_row: float, target_bytes: float) -> list[tuple[str, list]]:
    """(split, its pieces in order) of each new file, of about ``target_bytes``."""
    made: list[tuple[str, list]] = []
    for split in sorted({key for counts in found for key, _ in counts}):
        rows = np.array([counts[split, "rows"] for counts in found], float)
        total = rows.sum() * bytes_per_row
        number = np.minimum((np.cumsum(rows) - rows) * bytes_per_row // (total / max(1, round(total / target_bytes))), 1e9).astype(int)
        for k in np.unique(number[rows > 0]):
            made.append((split, [piece for piece, n, size in zip(pieces, number, rows, strict=True) if n == k and size]))
    return made


def merged(chunk, dataset: store.Dataset, table: str):
    """The rows of a split in some pieces, row group by row group."""
    split, pieces = chunk
    for name, groups in pieces:
        for group in groups:
            rows = spark.read_piece(dataset, name, [group])
            yield {table: rows.filter(pc.equal(rows["split"], split))}, {}


def main(argv: list[str]) -> None:
    parser = cli.parser("compact", __doc__)
    parser.add_argument("--table", required=True, choices=TABLES)
    parser.add_argument("--target-mb", type=cli.positive, default=256, metavar="N", help="size of a new file, about (256)")
    args = parser.parse_args(argv)
    dataset = store.Dataset.at(args.root, args.dataset, tiers.load(args.tier).name)
    session = spark.session("arcmill compact")
    with runs.rewritten(dataset, args.table) as (record, run):
        before = [f for f in record["files"] if f["table"] == args.table]
        pieces = spark.Pieces(session, dataset, args.table)
        found = pieces.map(contents, ["task_id", "split"])
        rows, size = sum(f["rows"] for f in before), sum(f["bytes"] for f in before)
        chunks = plan(found, pieces.pieces, size / max(1, rows), args.target_mb * 1e6)
        if len(chunks) >= len(before):
            mean = size / 1e6 / len(before)
            cli.log.info("%s: %d files of %.0f MB, fewer would be larger than %d MB", args.table, len(before), mean, args.target_mb)
            return
        with spark.progress(session, "compact"):
            spark.produce(session, run, chunks, partial(merged, dataset=dataset, table=args.table))
            now = spark.Pieces(session, dataset, args.table, run.files).map(contents, ["task_id", "split"])
            require_same(sum(found, Counter()), sum(now, Counter()))
        run.recommit(record)
        cli.log.info("%s: %d files are now %d, with the same %d rows", args.table, len(before), len(run.files), rows)


def require_same(before: Counter, after: Counter) -> None:
    """Refuse to publish other rows than there were."""
    if before != after:
        wrong = [
            f"{split}: {what} {before[split, what]} -> {after[split, what]}"
            for split, what in sorted(before | after)
            if before[split, what] != after[split, what]
        ]
        raise InputError(f"compaction would change the table ({'; '.join(wrong)}): nothing is published")
