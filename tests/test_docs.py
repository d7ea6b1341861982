"""What the pages say is what the code has."""

import dataclasses
import re
import typing
from pathlib import Path

import pytest

from lib import tiers

TIERS = (Path(__file__).resolve().parent.parent / "docs" / "tiers.md").read_text()


def written(value) -> str:
    """A default as a tier's file has it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {written(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value) if isinstance(value, int) else f"{value:g}"


def default(field: dataclasses.Field) -> str:
    if field.default_factory is not dataclasses.MISSING:
        return written(field.default_factory())
    return "needed" if field.default is dataclasses.MISSING else written(field.default)


def faults(text: str) -> list[str]:
    """Keys of a tier that the page has not, or has with another default, and those that no tier has."""
    sections = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        rows = {m[1]: m[2] for m in re.finditer(r"^\| `(\w+)` \|[^|]*\| (.*?) \|", body, re.M)}
        sections |= dict.fromkeys(re.findall(r"\[(\w+)\]", title) or [""], rows)
    found, known = [], {}
    for field in dataclasses.fields(tiers.Tier):
        hint = typing.get_type_hints(tiers.Tier)[field.name]
        table = next((h for h in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(h)), None)
        if table is None:
            known.setdefault("", []).append(field)
        else:
            known[field.name] = list(dataclasses.fields(table))
    for name, keys in known.items():
        rows = dict(sections.pop(name, {}))
        for key in keys:
            if (told := rows.pop(key.name, "no row")) != default(key):
                found.append(f"{name}.{key.name}: {told}, it is {default(key)}")
        found += [f"{name}.{key}: no such key" for key in rows]
    return found + [f"[{name}]: no such table" for name in sections]


def test_every_key_of_a_tier_is_in_its_page_with_its_default():
    assert faults(TIERS) == []


@pytest.mark.parametrize("old, new, says", [
    ("| `nside` |", "| `side` |", ["split.nside: no row, it is needed", "split.side: no such key"]),
    ("| `rows_max` | rows | 20000000 |", "| `rows_max` | rows | 10000000 |", [".rows_max: 10000000, it is 20000000"]),
    ("## `[noise]`", "## `[nosie]`", ["noise.poisson: no row, it is true", "[nosie]: no such table"]),
    (" and `[[flags]]`", "", ["flags.r_min: no row, it is needed"]),
])  # fmt: skip
def test_a_key_that_is_missing_or_has_another_default_is_seen(old, new, says):
    assert TIERS.count(old) == 1
    found = faults(TIERS.replace(old, new))
    assert [text for text in says if text not in found] == []
