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
    except ArcmillError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        if spark := sys.modules.get("lib.spark"):  # it takes seconds to import
            spark.abandon()
        print(f"\n{argv[0]}: stopped; what is committed stays, and the same command goes on from there", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 3
    except Exception as error:
        if "No space left on device" not in str(error):
            raise
        print(f"{argv[0]}: the disk is full: free some space and run the same command again", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop in order, as by Ctrl-C
    sys.exit(main(sys.argv[1:]))
