"""The one file that spark-submit runs: ``spark-submit --py-files arcmill.zip submit_main.py JOB ...``.

JOB may be ``validation`` or ``validation.mosaic``, too.
"""

import importlib
import sys

ELSEWHERE = {"validation": "validation.__main__", "validation.mosaic": "validation.mosaic"}


def main(argv: list[str]) -> int:
    if argv and argv[0] in ELSEWHERE:
        return importlib.import_module(ELSEWHERE[argv[0]]).main(argv[1:])
    return importlib.import_module("jobs.__main__").main(argv)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code:  # spark-submit takes an exit of 0 from the driver's end; a failed job must end otherwise
        sys.exit(code)
