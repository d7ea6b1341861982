"""The verdict for people: one self-contained page, the same as JSON, and a table for the terminal."""

import json
from importlib import resources

import jinja2

from lib.place import Place
from lib.schemas import SPLITS
from validation import plots
from validation.result import ERROR, FAIL, NOT_APPLICABLE, Data, Result

WORDS = {"pass": "pass", FAIL: "FAIL", ERROR: "ERROR", NOT_APPLICABLE: "not applicable"}


def verdict(results: list[Result]) -> str:
    """GO only if no blocking gate failed and at least one passed."""
    go = any(r.outcome == "pass" for r in results) and not any(r.blocks for r in results)
    return "GO" if go else "NO-GO"


def counts(data: Data) -> list[dict]:
    found = data.frame("metrics").groupBy("role", "split", "status").count().collect()
    table: dict[str, dict] = {}
    for row in found:
        line = table.setdefault(row["role"], {"role": row["role"], **dict.fromkeys(SPLITS, 0), "not ok": 0})
        line[row["split"]] += row["count"]
        line["not ok"] += row["count"] if row["status"] != "ok" else 0
    return [table[k] for k in sorted(table)]


def write(data: Data, results: list[Result], gates, run: dict, folder: Place) -> None:
    """``report.html`` and ``report.json`` in a folder; a part of the page that cannot be drawn says why."""
    page = {
        "verdict": verdict(results), "tier": data.tier.name, "dataset": data.dataset.name, "run": run,
        "gates": [r.row(data.tier.name, run["run_id"]) for r in results],
    }  # fmt: skip
    folder.put("report.json", (json.dumps(page, indent=1, sort_keys=True, default=str) + "\n").encode())
    drawn = {name: _try(part, data) for name, part in (("counts", counts), ("figures", plots.figures), ("galleries", plots.galleries))}
    text = (resources.files("validation") / "report.html").read_text()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(text)
    known = {g.name: g for g in gates}
    for row in page["gates"]:
        gate = known[row["gate"]]
        row |= {
            "about": gate.about,
            "sign": "≥" if gate.at_least else "≤",
            "word": WORDS[row["outcome"]],
            "keys": json.loads(row["examples"]),
        }
    html = template.render(**page, splits=SPLITS, **drawn)
    folder.put("report.html", html.encode())


def read(folder: Place, run_id: str) -> dict | None:
    """``report.json`` of that validation run; None if the folder holds none or another's."""
    try:
        page = json.loads(folder.read("report.json"))
    except (FileNotFoundError, ValueError):
        return None
    return page if page["run"]["run_id"] == run_id and folder.has("report.html") else None


def _try(part, data: Data) -> dict:
    try:
        return {"value": part(data), "error": ""}
    except Exception as error:  # a failed tier's tables may not be drawable: the verdict must still be told
        return {"value": [], "error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}


def terminal(results: list[Result]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=None, box=None, pad_edge=False)
    for name in ("gate", "outcome", "measured", "limit", "n", ""):
        table.add_column(name, justify="right" if name in ("measured", "limit", "n") else "left", overflow="fold")
    style = {"pass": "green", FAIL: "bold red", ERROR: "bold red", NOT_APPLICABLE: "yellow"}
    for r in results:
        numbers = ["-" if v is None else f"{v:.4g}" for v in (r.measured, r.threshold)]
        table.add_row(
            r.gate,
            f"[{style[r.outcome]}]{WORDS[r.outcome]}[/]",
            *numbers,
            str(r.n),
            r.message if r.blocks or len(r.message) <= 90 else r.message[:87] + "...",
        )
    Console(stderr=True, width=None if Console(stderr=True).is_terminal else 170).print(table)
