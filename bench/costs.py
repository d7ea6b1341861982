"""What a row costs: bytes of each table, CPU seconds of ``inject`` a stamp and a brick.  The figures of ``lib/costs.toml``.

Two runs over the same simulated bricks, with few and with many injections a host: the CPU seconds lie on a line whose slope is a stamp's.
What is left over is put on the bricks, start of the workers included.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from jobs.__main__ import main as job
from lib import runs, tiers
from lib.store import Dataset

CONFIGS = (3, 24)  # a host


def tier_file(folder: Path, configs: int) -> str:
    """The demo tier with other ``configs`` a host."""
    path = folder / f"costs{configs}.toml"
    text = Path(tiers.__file__).with_name("demo.toml").read_text()
    path.write_text(
        text.replace('name = "demo"', f'name = "costs{configs}"').replace("configs_per_host = 3", f"configs_per_host = {configs}")
    )
    return str(path)


def measured(folder: Path, survey: str, configs: int) -> dict:
    """Rows, bricks, bytes by table and CPU seconds of the jobs of one run."""
    tables = ["--tier", tier_file(folder, configs), "--root", str(folder), "--dataset", "costs"]
    for step in (["parent", "--survey", survey, *tables], ["manifest", *tables], ["inject", "--survey", survey, *tables]):
        if code := job(step):
            sys.exit(code)
    dataset = Dataset.at(str(folder), "costs", f"costs{configs}")
    manifest = runs.read(dataset, "manifest", ["brickname"])
    return {
        "rows": manifest.num_rows, "bricks": len(manifest["brickname"].unique()),
        "bytes": {name: sum(size for size, _ in runs.fingerprint(dataset, name).values()) for name in ("manifest", "stamps", "metrics")},
        "core_seconds": {r["command"]: r["core_seconds"] for r in runs.records(dataset)},
    }  # fmt: skip


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m bench.costs", description=__doc__.splitlines()[0])
    parser.add_argument("--bricks", type=int, default=4, help="bricks to simulate")
    parser.add_argument("--survey", help="survey folder to take instead")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        survey = args.survey or str(folder / "survey")
        if not args.survey and (code := job(["survey", "--bricks", str(args.bricks), "--out", survey])):
            return code
        few, many = (measured(folder, survey, configs) for configs in CONFIGS)
    spent = [run["core_seconds"]["inject"] for run in (few, many)]
    stamp = (spent[1] - spent[0]) / (many["rows"] - few["rows"])
    print(json.dumps({
        **{f"{table}_bytes": round(size / many["rows"], 1) for table, size in many["bytes"].items()},
        "stamp_core_seconds": round(stamp, 6), "brick_core_seconds": round((spent[0] - stamp * few["rows"]) / few["bricks"], 3),
        "runs": [few, many],
    }))  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
