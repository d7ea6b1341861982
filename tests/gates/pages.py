"""Parts of docs/validation.md that tests write (``ARCMILL_WRITE_DOCS=1``) and hold to the code."""

import os
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "validation.md"


def block(name: str) -> list[str]:
    """The lines between a part's marks."""
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE.read_text(), re.S)
    assert found, f"{PAGE.name} has no part {name}"
    return found[1].splitlines()


def kept(name: str, lines: list[str]) -> list[str]:
    """The lines that the part should have; they are written if that is asked for."""
    if os.environ.get("ARCMILL_WRITE_DOCS"):
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda m: m[1] + "".join(f"{line}\n" for line in lines) + m[2],
            PAGE.read_text(),
            flags=re.S,
        )
        PAGE.write_text(text)
    return lines
