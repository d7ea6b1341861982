"""The study from its sky to its table."""

import json
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from jobs.cli import log
from lib.errors import InputError
from study import judge, network, pixels, real, sky

SETS = {"paired": ("paired_control",), "unpaired": ("unpaired_control",), "unpaired + hard": ("unpaired_control", "hard_negative")}


def run(out: Path, bricks: int, epochs: int, seed: int, real_data: Path | None) -> dict:
    """The figures of the last line; the table goes to ``study.md`` in ``out``, and is printed."""
    torch.set_num_threads(2)  # sums in another order are other numbers
    began = time.monotonic()
    data = sky.first(out, bricks, seed)
    train, val, test = (pixels.load(data, split) for split in ("train", "val", "test"))
    log.info("study: %d training stamps, %d test stamps, %.0f s", len(train), len(test), time.monotonic() - began)
    models = {name: _trained(name, train, epochs, seed) for name in ("paired", "unpaired")}
    controls = train.of("paired_control", "unpaired_control")
    scored = {"task_id": train.facts["task_id"][controls], "score": network.scores(models["unpaired"], train.stamp[controls])}
    hard = sky.second(out, scored)
    more, unseen = (pixels.load(hard, split, roles=("hard_negative",)) for split in ("train", "test"))
    if not len(unseen):
        raise InputError(f"no lens-like galaxy in the test split of {bricks} bricks: give more")
    models["unpaired + hard"] = _trained("unpaired + hard", pixels.joined(train, more), epochs, seed)
    test = pixels.joined(test, unseen)
    versions = {"plain": test, "core": pixels.without_core(test), "arc": pixels.without_arc(test), "blob": pixels.with_central_light(test)}
    found = {name: judge.measures(test, {k: network.scores(model, v.stamp) for k, v in versions.items()}) for name, model in models.items()}
    for name, model in models.items():
        found[name]["auroc resolved, validation split"] = judge.resolved(val, network.scores(model, val.stamp))
    _keep(out / "scores.parquet", models["unpaired + hard"], val, test)
    told = {"metadata_auc": judge.metadata_auc(data), "zero_flux_auc": judge.zero_flux_auc(data)}
    lines = [*table(found), "", *(f"{name}: {value:.4f}" for name, value in told.items())]
    lines += [
        f"stamps: {len(train)} train, {len(more)} hard negatives on top; test: "
        + ", ".join(f"{n} {role}" for role, n in _counts(test).items())
    ]
    lines += _real(models["unpaired + hard"], real_data) if real_data else ["real stamps: none given"]
    (out / "study.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines), flush=True)
    resolved = {name: of["auroc resolved"].value for name, of in found.items()}
    out_of = found["unpaired + hard"]["tpr resolved at fpr 0.001"]
    figures = {
        "auroc_unpaired": resolved["unpaired"],
        "auroc_paired": resolved["paired"],
        "auroc_hard": resolved["unpaired + hard"],
        "tpr_at_fpr_1e-3": out_of,
    }
    return json.loads(json.dumps({k: None if np.isnan(v) else round(v, 4) for k, v in (figures | told).items()}))


def _trained(name: str, train: pixels.Set, epochs: int, seed: int):
    began, some = time.monotonic(), train.take(train.of("injected", *SETS[name]))
    model = network.train(some.stamp, some.lens, epochs, seed)
    log.info("study: trained with %s controls on %d stamps, %.0f s", name, len(some), time.monotonic() - began)
    return model


def _keep(path: Path, model, *sets: pixels.Set) -> None:
    """Scores of the last network, as ``python -m jobs select --scores`` takes them."""
    parts = [{"task_id": some.facts["task_id"], "score": network.scores(model, some.stamp)} for some in sets]
    pq.write_table(pa.table({name: np.concatenate([part[name] for part in parts]) for name in parts[0]}), path)


def _counts(some: pixels.Set) -> dict[str, int]:
    return dict(zip(*(v.tolist() for v in np.unique(some.facts["role"].astype(str), return_counts=True)), strict=True))


def table(found: dict[str, dict]) -> list[str]:
    """Lines of Markdown: a row a measure, a column a training set."""
    rows = list(next(iter(found.values())))
    lines = ["| measure, on the test split | " + " | ".join(found) + " |", "| --- |" + " --- |" * len(found)]
    return lines + [f"| {row} | " + " | ".join(_text(of[row]) for of in found.values()) + " |" for row in rows]


def _text(value) -> str:
    return str(value) if isinstance(value, judge.Auc) else "too few controls" if np.isnan(value) else f"{value:.3f}"


def _real(model, folder: Path) -> list[str]:
    names, stamps = real.candidates(folder)
    found, among = (network.scores(model, s) for s in (stamps, real.others(folder)))
    ranks = real.ranks(found, among)
    lines = [
        f"real candidate {name}: score {score:.2f}, {rank}. among {len(among)} other galaxies"
        for name, score, rank in zip(names, found, ranks, strict=True)
    ]
    return [
        *lines,
        f"the others' scores: median {np.median(among):.2f}, highest {among.max():.2f}, above 0 (a lens more likely than not) {(among > 0).sum()}",
    ]
