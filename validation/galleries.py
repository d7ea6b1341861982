"""Stamps a person should look at, as pictures inside the page."""

import numpy as np

from lib import reader
from lib.imaging import picture
from validation import samples
from validation.data import Data
from validation.result import Result

RANDOM = 24
WORST = 4  # of each gate that failed


def galleries(data: Data, results: list[Result]) -> list[tuple[str, list[dict]]]:
    """(title, cards); a card is a list of pictures and a caption."""
    arcs, controls = data.noted(samples.ARCS), data.noted(samples.CONTROLS)
    random = arcs["arcs"].rows.slice(0, RANDOM).to_pylist()
    extremes = {title: found.rows.to_pylist() for title, found in arcs.items() if title != "arcs"}
    pairs = {role: found.rows.slice(0, samples.EXTREMES).to_pylist() for role, found in controls.items()}
    worst = {r.gate: [str(e) for e in r.examples][:WORST] for r in results if r.outcome in ("fail", "error") and r.examples}
    wanted = [r["task_id"] for rows in (random, *extremes.values(), *pairs.values()) for r in rows]
    wanted += [r["pair_id"] for rows in pairs.values() for r in rows] + [i for ids in worst.values() for i in ids]
    cubes = _cubes(data, wanted)
    out = [(f"Worst by the gate {gate}: stamp and arc", [_card([cubes[i]["stamp"], cubes[i]["arc"]], i) for i in ids if i in cubes])
           for gate, ids in worst.items()]  # fmt: skip
    titles = {"Injections, drawn by the hash of their ids: stamp, and the arc alone": random} | extremes
    out += [(title, [_card([cubes[r["task_id"]]["stamp"], cubes[r["task_id"]]["arc"]], _said(r)) for r in rows if r["task_id"] in cubes])
            for title, rows in titles.items()]  # fmt: skip
    for role, title in (
        ("paired_control", "Paired controls: the injection, and the same galaxy without"),
        ("unpaired_control", "Unpaired controls: the injection, and its match (magnitude of the match; rung of the tolerance ladder, 1 is the closest)"),
        ("hard_negative", "Hard negatives: galaxies without an arc that a network took for lenses"),
    ):  # fmt: skip
        out.append((title, [_pair(r, cubes) for r in pairs[role] if r["task_id"] in cubes and r["pair_id"] in cubes]))
    return [(title, cards) for title, cards in out if cards]


def _said(row: dict) -> str:
    if row["arc_snr"] is None:
        return f"{row['role'].replace('_', ' ')}, r {row['mag_r_observed']:.1f}"
    return f"θ_E {row['theta_e_arcsec']:.2f}″, S/N {row['arc_snr'] or 0:.0f}, r {row['mag_r_observed']:.1f}, source {row['src_dmag']:.1f} fainter"


def _pair(row: dict, cubes: dict) -> dict:
    rung = f", rung {row['match_rung']}" if row["match_rung"] else ""
    return _card([cubes[i]["stamp"] for i in dict.fromkeys((row["pair_id"], row["task_id"]))], f"r {row['mag_r_observed']:.1f}{rung}")


def _cubes(data: Data, ids: list[str]) -> dict[str, dict]:
    """Decoded stamps by their ids; one that cannot be decoded is left out, as the gate on planes tells of it."""
    out = {}
    for task_id, row in data.stamps(dict.fromkeys(ids)).items():
        if row["status"] == "ok":
            try:
                out[task_id] = {k: np.nan_to_num(v) for k, v in reader.planes(row).items()}
            except ValueError:
                continue
    return out


def _card(cubes, caption: str) -> dict:
    return {"pictures": [picture.png_uri(picture.rgb(c)) for c in cubes], "caption": caption}
