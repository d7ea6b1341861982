"""``python -m study``: make the set, train with three kinds of controls, blank the core and the arc, print the table.

The last line printed is JSON: ``{"auroc_unpaired": ..., "auroc_paired": ..., "tpr_at_fpr_1e-3": ..., "metadata_auc": ..., "zero_flux_auc": ...}``.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from jobs import cli
from lib.errors import ArcmillError

TOOK = "  {:<52}{:>8.0f} s"


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m study", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", default="out/study", help="folder for the sky and the data sets (out/study)")
    parser.add_argument("--real", help="folder with real lens candidates and other galaxies, to score as well (docs/study.md)")
    parser.add_argument("--bricks", type=cli.positive, default=12, help="bricks to simulate (12)")
    parser.add_argument("--epochs", type=cli.positive, default=20, help="of each training (20)")
    parser.add_argument("--seed", type=int, default=5, help="of the sky and of the networks (5)")
    args = parser.parse_args(argv)
    cli.log_to_stderr()
    try:
        import torch  # noqa: F401
    except ImportError:
        print("study: PyTorch is needed: pip install torch (its CPU build is enough)", file=sys.stderr)
        return 2
    from study import steps

    began = time.process_time()
    try:
        found = steps.run(Path(args.out).absolute(), args.bricks, args.epochs, args.seed, Path(args.real) if args.real else None)
    except ArcmillError as error:
        print(f"study: {error}", file=sys.stderr)
        return error.exit_code
    cli.log.info("processor time of this process, without the workers: %.0f s", time.process_time() - began)
    print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
