"""One task of a data set as a picture: stamp, arc alone, lens and source planes with caustics, parameters."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from jobs import cli
from lib import reader, runs, sheet, store, tiers
from lib.errors import OK, InputError

TOLD = 5  # ids that a message names


def find(dataset: store.Dataset, table: str, task: str) -> dict:
    """The row of a task, by its id or the beginning of it."""
    found: list[dict] = []
    for name in runs.files(dataset, table):
        with runs.open_file(dataset, name) as file:
            for group in range(file.metadata.num_row_groups):
                ids = file.read_row_group(group, columns=["task_id"])["task_id"]
                if len(at := pc.indices_nonzero(pc.starts_with(ids, task))):
                    found += file.read_row_group(group).take(pa.array(at)).to_pylist()
    if not found:
        raise InputError(f"no task {task} in the {table} table of {dataset.place}, tier {dataset.tier}")
    if len(found) > 1:
        some = ", ".join(sorted(row["task_id"] for row in found)[:TOLD])
        raise InputError(f"{len(found)} tasks begin with {task} ({some}{', ...' if len(found) > TOLD else ''}): give more of the id")
    return found[0]


def main(argv: list[str]) -> None:
    parser = cli.parser("show", __doc__, begins=False)
    parser.add_argument("task", metavar="TASK_ID", help="id of the task in metrics, or the beginning of it")
    parser.add_argument(
        "--out", metavar="PNG", help="file to write (by default TASK_ID.png beside the data set's report, or here if that is in a bucket)"
    )
    args = parser.parse_args(argv)
    dataset = store.Dataset.at(args.root, args.dataset, tiers.load(args.tier).name)
    row = find(dataset, "metrics", args.task)
    if row["status"] != OK:
        raise InputError(f"task {row['task_id']} was not made, {row['status']}: {row['error']}")
    stamp = find(dataset, "stamps", row["task_id"])
    beside = dataset.place.local / "report" / dataset.tier if dataset.place.local else Path()
    path = store.local(args.out or beside / f"{row['task_id']}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.write(row, stamp, reader.planes(stamp), path)
    cli.log.info("show: %s", path)
