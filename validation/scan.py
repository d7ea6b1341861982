"""The one pass over pixels: row groups of stamps, decoded beside their rows of metrics.

A small set is looked at whole; of a large one row groups are taken by the hash of their file's name (which holds the hash of its
content) and their number: the same ones whenever the same data are judged.
"""

import zlib
from collections import Counter
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lib import draws, injection, reader, spark
from lib.schemas import BANDS, PLANES
from lib.tiers import Tier
from validation import features
from validation.data import Data
from validation.tally import Each, Few, Most, hashed, merged, sampled

COST = 32.0  # of decoding a stamp, in rows without pixels
COLUMNS = ["task_id", "role", "status", *reader.NEEDED, *PLANES]
BESIDE = ["task_id", "pair_id", "seed", "galaxy_id", "theta_e_arcsec", "bad_pixel_frac", *(f"flux_stamp_{b}" for b in BANDS)]
LEARNED = 20_000  # rows of which features are taken


def notes(data: Data) -> dict:
    """What is found in the pixels; ``of`` says of how many rows, ``sample`` in words which."""
    if "scan" not in data.kept:
        data.kept["scan"] = _scan(data)
    return data.kept["scan"]


def _scan(data: Data) -> dict:
    total, wanted = data.rows("stamps"), data.tier.gates.pixel_rows
    over = data.over("stamps", COST)
    chosen = [(path, [g for g in groups if _taken(path, g, wanted / max(1, total))]) for path, groups in over.pieces]
    chosen = [piece for piece in chosen if piece[1]]
    ids = np.concatenate([np.empty(0, np.uint64), *over.each(partial(_ids, data.dataset), chosen)])
    beside = data.where("metrics", ids, BESIDE)
    work = partial(_piece, dataset=data.dataset, beside=_spared(beside), tier=data.tier, share=LEARNED / max(1, len(ids)))
    found = merged([{"n": 0, "rows": len(ids)}, *over.each(work, chosen)])
    words = (
        "all of them"
        if len(ids) == total
        else f"{sum(len(g) for _, g in chosen)} row groups, drawn by the hash of their file's name and their number"
    )
    return found | {"sample": f"{len(ids):,} of {total:,} stamps: {words}"}


def _spared(beside: pa.Table) -> dict[str, np.ndarray]:
    return {name: beside[name].to_numpy() for name in BESIDE[1:]} | {"id": hashed(beside["task_id"])}


def _taken(path: str, group: int, share: float) -> bool:
    return bool(sampled(draws.hash64("row group", 0, [zlib.crc32(path.split("/")[-1].encode())], [group]), share)[0])


def _ids(dataset, piece) -> np.ndarray:
    return hashed(spark.read_piece(dataset, piece[0], piece[1], ["task_id"])["task_id"])


def _piece(piece, dataset, beside: dict, tier: Tier, share: float) -> dict:
    path, groups = piece
    return merged(
        note
        for group in groups
        for note in _group(spark.read_piece(dataset, path, [group], COLUMNS).replace_schema_metadata(), beside, tier, share)
    )


def _group(rows: pa.Table, beside: dict, tier: Tier, share: float):
    rows = rows.filter(pc.equal(rows["status"], "ok")).combine_chunks()
    if not rows.num_rows:
        return
    try:
        cubes = reader.batch(rows)
        whole = bool(cubes["made"].all())
    except ValueError:
        whole = False
    if whole:
        yield _seen(rows, cubes, beside, tier, share)
        return
    for k in range(rows.num_rows):  # one of them is at fault, or they are of several sizes
        row = rows.slice(k, 1)
        try:
            cubes = {name: v[None] for name, v in reader.planes(row.to_pylist()[0]).items()}
        except ValueError as error:
            yield {"n": 1, "wrong": 1, "what": Counter({str(error): 1}), "which": Few((row["task_id"][0].as_py(),))}
            continue
        yield _seen(row, cubes, beside, tier, share)


def _seen(rows: pa.Table, cubes: dict, beside: dict, tier: Tier, share: float) -> dict:
    """Of rows that could be decoded."""
    ids, task = hashed(rows["task_id"]), np.array(rows["task_id"].to_pylist(), object)
    light = np.array(rows["role"].to_pylist(), object) == "injected"
    at = np.searchsorted(beside["id"], ids) if len(beside["id"]) else np.zeros(len(ids), int)
    at = np.minimum(at, max(0, len(beside["id"]) - 1))
    known = beside["id"][at] == ids if len(beside["id"]) else np.zeros(len(ids), bool)
    has = {name: np.where(known, values[at], values[0]) if len(values) else np.zeros(len(ids)) for name, values in beside.items()}

    faults = {f"{k} is not finite": ~np.isfinite(cubes[k]).all(axis=(1, 2, 3)) for k in reader.PLANES}
    faults["stamp plane is constant"] = (np.ptp(cubes["stamp"], axis=(2, 3)) == 0).any(axis=1)
    invvar = cubes["invvar"]
    faults["invvar is negative or zero everywhere"] = (invvar < 0).any(axis=(1, 2, 3)) | (invvar == 0).all(axis=(1, 2, 3))
    faults["a control has an arc"] = ~light & cubes["arc"].any(axis=(1, 2, 3))
    wrong = np.any(list(faults.values()), axis=0)
    out: dict = {
        "n": len(rows), "wrong": int(wrong.sum()), "what": Counter({k: int(v.sum()) for k, v in faults.items() if v.any()}),
        "which": Few(tuple(task[wrong][:5].tolist())),
    }  # fmt: skip

    held = cubes["arc"].sum(axis=(2, 3), dtype=float)
    told = np.stack([has[f"flux_stamp_{b}"] for b in BANDS], axis=1).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        off = np.abs(held / told - 1.0).max(axis=1)
    off, mine = np.where(np.isfinite(off), off, np.inf), light & known
    far = mine & ~(off <= tier.gates.pixel_tolerance)
    out |= {
        "arcs": int(mine.sum()),
        "off": Most(off[mine].max(initial=0.0)),
        "far": int(far.sum()),
        "far which": Few(tuple(task[far][:5].tolist())),
    }

    bad = (cubes["mask"] & ((1 << len(BANDS)) - 1) != 0).mean(axis=(1, 2))
    other = known & ~(np.abs(bad - has["bad_pixel_frac"]) < 1e-6)
    out |= {"masks": int(known.sum()), "masks other": int(other.sum()), "masks which": Few(tuple(task[other][:5].tolist()))}

    frame = np.concatenate(
        [cubes["stamp"][..., [0, -1], :].reshape(len(rows), -1), cubes["stamp"][..., :, [0, -1]].reshape(len(rows), -1)], axis=1
    )
    lit, textured = light & cubes["arc"].any(axis=(1, 2, 3)), known & (np.ptp(frame, axis=1) > 0)
    out |= {
        "arc hashes": Each((pa.table({"hash": _hashes(cubes["arc"][lit]), "task_id": pa.array(task[lit], pa.string())}),)),
        "frame hashes": Each((pa.table({"hash": _hashes(frame[textured]), "galaxy_id": has["galaxy_id"][textured].astype(np.int64)}),)),
    }  # fmt: skip

    learn = known & ~wrong & sampled(draws.hash64("learned", 0, has["galaxy_id"].astype(np.int64)), share)
    if learn.any():
        stamp, weight = cubes["stamp"][learn].copy(), cubes["invvar"][learn].astype(float)
        for k, row in enumerate(np.flatnonzero(learn)):
            if light[row]:
                task_of = {"seed": int(has["seed"][row]), "task_id": task[row]}
                stamp[k], weight[k] = _dark(stamp[k], weight[k], cubes["arc"][row], task_of, tier)
        features_of = features.of(stamp, cubes["stamp"][learn], weight, cubes["mask"][learn])
        names = {"task_id": pa.array(task[learn], pa.string()), "pair_id": pa.array(has["pair_id"][learn], pa.string()), "galaxy_id": has["galaxy_id"][learn].astype(np.int64),
                 "role": rows["role"].filter(pa.array(learn)), "theta_e_arcsec": has["theta_e_arcsec"][learn].astype(float)}  # fmt: skip
        out["features"] = Each((pa.table(names | features_of),))
    return out


def _dark(stamp, invvar, arc, task: dict, tier: Tier) -> tuple[np.ndarray, np.ndarray]:
    """Stamp and invvar without the arc, the noise that its row's seed gives again, and that noise's variance."""
    added, _ = injection.expose(task, np.zeros_like(stamp), invvar.astype(np.float32), arc, tier)
    if not tier.noise.poisson:
        return stamp - added, invvar
    light = np.clip(arc, 0.0, None) / np.array([tier.noise.gain[b] for b in BANDS])[:, None, None]
    return stamp - added, invvar / (1.0 - invvar * light)


def _hashes(arrays: np.ndarray) -> np.ndarray:
    """A number for each array's bytes."""
    words = np.ascontiguousarray(arrays).reshape(len(arrays), int(np.prod(arrays.shape[1:]))).view(np.uint32).astype(np.uint64)
    place = draws.hash64("pixel", 0, np.arange(words.shape[1])) | np.uint64(1)
    mixed = (words + np.uint64(1)) * place
    return (mixed ^ (mixed >> np.uint64(29))).sum(axis=1, dtype=np.uint64)
