"""``python -m validation compare A B``: what changed between two runs or tiers: schema, config, counts, distributions, gates."""

import json
import sys
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import stats

from lib import config, place, runs, schemas, spark
from lib.errors import ConfigError
from lib.promotion import TABLES
from lib.store import Dataset
from validation.samples import LOOK
from validation.tally import Rows, sampled

ROWS = 20_000  # of each side that distributions are compared of
BINS = 10  # of equal share in A, of the population stability index
SHIFTED = 0.1  # of the index: below, two distributions are usually called the same, above 0.25 different
TINY = 1e-4  # share that stands for an empty bin
NUMBERS = tuple(name for name in LOOK if name not in ("task_id", "role", "split"))


def add(parser) -> None:
    for side in ("A", "B"):
        parser.add_argument(side, metavar=side, help="FOLDER:TIER, FOLDER a data set ({root}/{dataset})")


def dataset(text: str) -> Dataset:
    folder, colon, tier = text.rpartition(":")
    if not colon or not folder or "/" in tier:
        raise ConfigError(f"{text}: give FOLDER:TIER, such as out/demo/demo:demo")
    whole = place.at(folder.rstrip("/"))
    root, _, name = str(whole).rstrip("/").rpartition("/")
    return Dataset.at(root, name, tier)


def main(args) -> int:
    found = differences(dataset(args.A), dataset(args.B))
    for line in told(found):
        print(line, file=sys.stderr)
    print(json.dumps(found, default=str), flush=True)
    return 0


def differences(a: Dataset, b: Dataset) -> dict:
    """Of two sides: what is in both and equal is left out, but of distributions."""
    sides = (a, b)
    latest = [{r["command"]: r for r in runs.records(d)} for d in sides]
    code, settings = ([{k: r[what] for k, r in of.items()} for of in latest] for what in ("code_version", "config"))
    last = [json.loads(next(reversed(of.values()), "{}")) for of in settings]
    files = [[_schema(d, t) for t in TABLES] for d in sides]
    schema = [f"{t}{line}" for t, x, y in zip(TABLES, *files, strict=True) for line in _columns(x, y)]
    counts = [_counts(d) for d in sides]
    tables = [_looks(d) for d in sides]
    gates = [{g["gate"]: g for g in _gates(d)} for d in sides]
    return {
        "a": f"{a.place}:{a.tier}", "b": f"{b.place}:{b.tier}", "schema": schema, "config": config.differences(*last),
        "code": sorted(f"{k}: {code[0].get(k)} -> {code[1].get(k)}" for k in code[0].keys() | code[1].keys() if code[0].get(k) != code[1].get(k)),
        "counts": {" ".join(k): [counts[0][k], counts[1][k]] for k in sorted(counts[0].keys() | counts[1].keys()) if counts[0][k] != counts[1][k]},
        "distributions": [d for role in schemas.ROLES for name in NUMBERS if (d := _shift(tables, role, name))],
        "gates": {
            name: [{k: g.get(name, {}).get(k) for k in ("outcome", "measured", "threshold")} for g in gates]
            for name in sorted(gates[0].keys() | gates[1].keys())
            if any(gates[0].get(name, {}).get(k) != gates[1].get(name, {}).get(k) for k in ("outcome", "measured", "threshold"))
        },
    }  # fmt: skip


def _schema(data: Dataset, table: str) -> pa.Schema:
    with runs.open_file(data, runs.files(data, table)[0]) as file:
        return file.schema_arrow


def _columns(a: pa.Schema, b: pa.Schema) -> list[str]:
    out = [f".{n} is gone" for n in a.names if n not in b.names] + [f".{n} is new" for n in b.names if n not in a.names]
    for name in a.names:
        if name in b.names and (a.field(name).type, a.field(name).nullable) != (b.field(name).type, b.field(name).nullable):
            kinds = (f"{s.field(name).type}{' or null' if s.field(name).nullable else ''}" for s in (a, b))
            out.append(f".{name}: {' -> '.join(kinds)}")
    versions = [(s.metadata or {}).get(b"schema_version", b"none").decode() for s in (a, b)]
    return out + ([f": schema version {' -> '.join(versions)}"] if versions[0] != versions[1] else [])


def _counts(data: Dataset) -> Counter:
    found: Counter = Counter()
    for name in runs.files(data, "metrics"):
        with runs.open_file(data, name) as file:
            found += Counter(Rows(file.read(["role", "split", "status"])).counts("role", "split", "status"))
    return found


def _looks(data: Dataset) -> pa.Table:
    """A sample of the rows that were made, by the hash of their ids, of the columns that are there."""
    total, found = 0, []
    for name in runs.files(data, "metrics"):
        with runs.open_file(data, name) as file:
            total += file.metadata.num_rows
    for name in runs.files(data, "metrics"):
        with runs.open_file(data, name) as file:
            groups, columns = range(file.metadata.num_row_groups), [n for n in (*LOOK, "status") if n in file.schema_arrow.names]
        for group in groups:
            rows = Rows(spark.read_piece(data, name, [group], columns).replace_schema_metadata())
            found.append(rows.table.filter(pa.array(rows.made & sampled(rows.ids, 1.5 * ROWS / max(1, total)))))
    return pa.concat_tables(found)


def _gates(data: Dataset) -> list[dict]:
    return runs.read(data, "validation").to_pylist() if runs.committed(data, "validation") else []


def _shift(tables: list[pa.Table], role: str, name: str) -> dict | None:
    """How a column's values of one role differ: Kolmogorov and Smirnov's distance with its p-value, and the population stability index."""
    values = []
    for table in tables:
        if name not in table.column_names:
            return None
        column = table.filter(pc.equal(table["role"], role))[name].to_numpy().astype(float)
        values.append(column[np.isfinite(column)])
    if min(map(len, values)) < 2:
        return None
    found = stats.ks_2samp(*values)
    return {"role": role, "column": name, "n": [len(v) for v in values], "mean": [float(v.mean()) for v in values],
            "ks": float(found.statistic), "p": float(found.pvalue), "psi": stability(*values)}  # fmt: skip


def stability(a: np.ndarray, b: np.ndarray) -> float:
    """Population stability index, ``sum (share_b - share_a) ln(share_b / share_a)`` over bins of equal share in ``a``.

    >>> values = np.arange(1000.0)
    >>> round(stability(values, values), 6), stability(values, values + 500.0) > 0.25
    (0.0, True)
    """
    inner = np.unique(np.quantile(a, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    shares = [np.bincount(np.searchsorted(inner, v, side="right"), minlength=len(inner) + 1) / len(v) for v in (a, b)]
    p, q = (np.maximum(s, TINY) for s in shares)
    return float(((q - p) * np.log(q / p)).sum())


def told(found: dict) -> list[str]:
    """The same for people; distributions from the most different on."""
    lines = [f"A {found['a']}", f"B {found['b']}"]
    for what in ("schema", "config", "code"):
        lines += [f"{what}: no difference"] if not found[what] else [f"{what}:", *(f"  {line}" for line in found[what][:40])]
    lines += (
        ["rows:", *(f"  {k:42}{x:>12,} -> {y:,}" for k, (x, y) in found["counts"].items())] if found["counts"] else ["rows: no difference"]
    )
    moved = sorted((d for d in found["distributions"] if d["psi"] > SHIFTED), key=lambda d: -d["psi"])
    lines.append(f"distributions: {len(moved)} of {len(found['distributions'])} have a stability index above {SHIFTED:g}")
    lines += [f"  {d['role']:17}{d['column']:28} PSI {d['psi']:.3f}  KS {d['ks']:.3f} (p {d['p']:.2g})  mean {d['mean'][0]:.4g} -> {d['mean'][1]:.4g}"
              for d in moved[:30]]  # fmt: skip
    for name, (x, y) in found["gates"].items():
        lines.append(f"gate {name:22} {x['outcome']} {x['measured']} -> {y['outcome']} {y['measured']}")
    return lines
