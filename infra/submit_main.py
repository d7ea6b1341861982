"""The one file that spark-submit runs: ``spark-submit --py-files arcmill.zip submit_main.py JOB ...``; JOB may be ``validation``."""

import sys


def main(argv: list[str]) -> int:
    if argv and argv[0] == "validation":
        from validation.__main__ import main as run

        return run(argv[1:])
    from jobs.__main__ import main as run

    return run(argv)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if code:  # spark-submit takes an exit of 0 from the driver's end; a failed job must end otherwise
        sys.exit(code)
