"""The whole lens side with one command: survey, parent, manifest, inject, select, validate, in one Spark session.

The last line printed is JSON: ``{"verdict": ..., "rows": {table: n}, "report": path}``.
"""

import argparse
import contextlib
import io
import json
import shutil
import sys
import time
from pathlib import Path

from infra import dag
from jobs.__main__ import main as job
from lib import tiers
from lib.errors import ConfigError
from validation.__main__ import main as validation

NEED_BYTES = 2_000_000_000


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m infra.demo", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--tier", default="demo")
    parser.add_argument("--out", default="out/demo")
    parser.add_argument("--survey", help="survey folder in the Legacy Surveys' layout; by default one is simulated")
    parser.add_argument("--bricks", type=int, default=4, help="bricks to simulate")
    args = parser.parse_args(argv)
    began, out = time.monotonic(), Path(args.out).absolute()
    try:
        tier = tiers.load(args.tier)
    except ConfigError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    if problem := _room(out):
        print(f"demo: {problem}", file=sys.stderr)
        return 3
    survey = args.survey or str(out / "survey")
    where = dag.Where(str(out), "demo", args.tier, survey, simulated="" if args.survey else str(args.bricks))
    verdict, printed = 0, io.StringIO()
    for step in dag.steps(where):
        name, *flags = dag.argv(step, where, replace=True)
        with contextlib.redirect_stdout(printed) if name == "validation" else contextlib.nullcontext():
            code = validation(flags) if name == "validation" else job([name, *flags])
        if code > 1:  # 1: too many tasks failed, or NO-GO; the report says why
            return code
        verdict = code if name == "validation" else verdict
    summary = json.loads(printed.getvalue().splitlines()[-1])
    print("\n" + "\n".join(f"  {table:12}{rows:>10,} rows" for table, rows in summary["rows"].items()))
    print(f"\n  {summary['verdict']}  in {time.monotonic() - began:.0f} s; look at the report: {summary['report']}")
    print(f"  which lenses can be found: {out / 'demo' / 'report' / tier.name / 'selection.html'}\n")
    print(json.dumps(summary), flush=True)
    return verdict


def _room(out: Path) -> str:
    """Why the output folder will not do, or ''."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / ".probe").write_bytes(b"")
        (out / ".probe").unlink()
    except OSError as error:
        return f"cannot write to {out}: {error.strerror}; give another folder: make demo OUT=/some/folder"
    free = shutil.disk_usage(out).free
    if free < NEED_BYTES and not (out / "survey" / "survey.json").is_file():
        return f"{out} has {free / 1e9:.1f} GB free, {NEED_BYTES / 1e9:.0f} GB are needed: free some space or give another folder: make demo OUT=/some/folder"
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
