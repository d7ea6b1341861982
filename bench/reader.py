"""The reader of stamps beside Parquet's own: ``make bench NAME=reader``.  Processor time, of one core; gigabytes are of the float32 planes that come out.

Rows are those of the demo tier on a simulated brick, as ``inject`` writes them, again and again under other ids.  ``parquet`` reads the same columns
of the same row groups and decodes nothing; ``reader`` gives batches of an epoch, joined with columns of metrics, in file order or shuffled.
"""

import argparse
import json
import tempfile
import time

import numpy as np
import pyarrow as pa

from bench import encoding
from lib import config, draws, reader, runs, tiers
from lib.reader import decode
from lib.store import Dataset

REPEATS = 5


def many(folder: str, bricks: int, rows: int) -> Dataset:
    """A data set of ``rows`` stamps and as many rows of metrics."""
    encoding.stamps(folder, bricks)
    few, out = (Dataset.at(folder, name, "demo") for name in ("bench", "many"))
    tables = {name: runs.read(few, name).combine_chunks() for name in ("stamps", "metrics")}
    with runs.start(out, "inject", ["stamps", "metrics"], config.plain(tiers.load("demo")), {}) as run:
        for turn in range(-(-rows // tables["stamps"].num_rows)):
            for name, table in tables.items():
                key = np.array([int(i[:15], 16) for i in table["task_id"].to_pylist()])
                halves = (draws.hash64(f"bench {half}", turn, key).tolist() for half in "ab")
                ids = pa.array([f"{a:016x}{b:016x}" for a, b in zip(*halves, strict=True)])
                run.write(name, table.set_column(0, table.schema.field(0), ids))
        run.commit({})
    return out


def cost(call) -> tuple[float, int]:
    """(processor seconds, the least of some calls; bytes that came out)."""
    best, size = np.inf, 0
    for _ in range(REPEATS):
        began = time.process_time()
        size = call()
        best = min(best, time.process_time() - began)
    return best, size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bricks", type=int, default=1)
    parser.add_argument("--rows", type=int, default=6000)
    args = parser.parse_args()
    pa.set_cpu_count(1)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = many(folder, args.bricks, args.rows)
        for planes in (("stamp",), ("stamp", "invvar", "mask")):
            stamps = reader.Stamps(dataset, planes=planes, columns=("role", "theta_e_arcsec"))
            names = ["task_id", *decode.NEEDED, *planes, "stamp_npz"]

            def plain(names=names):
                for name in sorted(runs.files(dataset, "stamps")):
                    with runs.open_file(dataset, name) as file:
                        for group in range(file.metadata.num_row_groups):
                            file.read_row_group(group, columns=names, use_threads=False)
                return 0

            def epoch(shuffle, stamps=stamps, planes=planes):
                return sum(batch[name].nbytes for batch in stamps.epoch(shuffle=shuffle) for name in planes)

            told = "_".join(planes)
            alone, _ = cost(plain)
            for name, shuffle in (("in_order", False), ("shuffled", True)):
                seconds, size = cost(lambda shuffle=shuffle: epoch(shuffle))
                found |= {f"{told}_{name}_gb_s": size / seconds / 1e9, f"{told}_{name}_over_parquet": seconds / alone}
            found[f"{told}_parquet_gb_s"] = size / alone / 1e9
            print(f"{', '.join(planes)}: {len(stamps)} stamps, {size / 1e6:.0f} MB")
    print(json.dumps({k: round(v, 3) for k, v in found.items()}))


if __name__ == "__main__":
    main()
