"""Nested frozen dataclasses from plain values; everything wrong is named at once."""

import dataclasses
import hashlib
import json
import types
import typing
from difflib import get_close_matches

from lib.errors import ConfigError


def build(cls, values: dict, at: str = ""):
    """``cls`` from a dict (say, of TOML): unknown and missing keys, and wrong types, are fatal and named."""
    problems: list[str] = []
    made = _build(cls, values, at, problems)
    if problems:
        raise ConfigError("; ".join(problems))
    return made


def suggestion(name: str, known) -> str:
    """Which known name may be meant, in brackets: one that goes on where it ends, else the most alike; '' if none is near."""
    near = [other for other in known if other.startswith(name)] or get_close_matches(name, known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _build(cls, values, at, problems):
    if not isinstance(values, dict):
        problems.append(f"{at or cls.__name__} must be a table of keys, got {values!r}")
        return None
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    known = f"known: {', '.join(sorted(fields))}"
    for key in values.keys() - fields.keys():
        problems.append(f"unknown key {at}{key}{suggestion(key, fields)}; {known}")
    made = {}
    for name, field in fields.items():
        if name in values:
            made[name] = _value(hints[name], values[name], f"{at}{name}", problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"missing key {at}{name}")
    if problems:
        return None
    try:
        return cls(**made)
    except ValueError as error:
        problems.append(f"{at}{error}")
        return None


def _value(hint, value, at, problems):
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(hint, value, f"{at}.", problems)
    if origin is types.UnionType:
        return None if value is None else _value(args[0], value, at, problems)
    if origin is tuple and isinstance(value, (list, tuple)):
        if args[-1] is not Ellipsis and len(args) != len(value):
            problems.append(f"{at} must have {len(args)} values, got {value!r}")
            return None
        kinds = [args[0]] * len(value) if args[-1] is Ellipsis else args
        return tuple(_value(k, v, f"{at}[{i}]", problems) for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {k: _value(args[1], v, f"{at}.{k}", problems) for k, v in value.items()}
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    problems.append(f"{at} must be {getattr(hint, '__name__', hint)}, got {value!r}")
    return None


def plain(config) -> dict:
    """The config as a dict of plain values."""
    return dataclasses.asdict(config)


def digest(values) -> str:
    """Sixteen hex digits of the content: equal configs, equal digests."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def differences(old: dict, new: dict, at: str = "") -> list[str]:
    """Keys that differ between two plain configs, as ``key: old -> new``; a whole table of keys as ``[key] is new`` or ``is gone``."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        a, b = (_by_name(values.get(key)) for values in (old, new))
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{at}{key}.")
        elif a != b and isinstance(a or b, dict):
            found.append(f"[{at}{key}] is {'gone' if a else 'new'}")
        elif a != b:
            found.append(f"{at}{key}: {a!r} -> {b!r}")
    return found


def _by_name(value):
    """A list of tables that have names, as a table of them."""
    named = isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value)
    return {item["name"]: item for item in value} if named else value
