"""``python -m jobs NAME ...``: run one job.  Exit codes: 0 done, 1 too many tasks or files failed, 2 wrong usage or config, 3 input or output at fault."""

import importlib
import signal
import sys

from jobs import cli
from lib.errors import ArcmillError

JOBS = {
    "survey": "simulate the embedded survey: bricks, catalogues",
    "parent": "catalogues -> table of candidate hosts",
    "manifest": "parent -> one row for every stamp to make",
    "negatives": "scores of controls, or lists of what galaxies are -> those that look like lenses",
    "cache": "copy the bricks a manifest needs from another survey root",
    "inject": "manifest + bricks -> stamps and metrics",
    "select": "metrics, with scores or without -> completeness: which lenses are found",
    "show": "one task as a picture: stamp, arc, source plane with caustics, parameters",
    "tiles": "frames of a camera -> which tiles a mosaic has, and what each is made from",
    "coadd": "tiles -> mosaic: normalised, stacked, polished",
    "compact": "the files of a table made fewer and larger, a split in each",
}


def main(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m jobs NAME ...\n\n" + "\n".join(f"  {k:10} {v}" for k, v in JOBS.items()))
        return 0 if argv else 2
    if argv[0] not in JOBS:
        print(f"unknown job {argv[0]!r}; known: {', '.join(JOBS)}", file=sys.stderr)
        return 2
    cli.log_to_stderr()
    try:
        importlib.import_module(f"jobs.{argv[0]}").main(argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        return _ended(argv[0], error)
    return 0


def _ended(name: str, error: BaseException) -> int:
    """Say what stopped a job; its exit code. What nobody foresaw is raised."""
    if _by_ctrl_c(error):
        if spark := sys.modules.get("lib.spark"):  # it takes seconds to import
            spark.abandon()
        print(f"\n{name}: stopped; what is committed stays, and the same command goes on from there", file=sys.stderr)
        return 130
    if isinstance(error, ArcmillError):
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError):
        print(f"{name}: {error}", file=sys.stderr)
        return 3
    if "No space left on device" not in str(error):
        raise error
    print(f"{name}: the disk is full: free some space and run the same command again", file=sys.stderr)
    return 3


def _by_ctrl_c(error: BaseException | None) -> bool:
    """Whether an error came of a Ctrl-C: Spark's calls to Java on the way out of one may fail, and what is raised is their failure."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop in order, as by Ctrl-C
    sys.exit(main(sys.argv[1:]))
