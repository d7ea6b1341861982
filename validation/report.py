"""The verdict for people: one self-contained page, the same as JSON, and a table for the terminal."""

import json
from importlib import resources

import jinja2

from lib.place import Place
from lib.schemas import SPLITS
from validation import plots
from validation.result import ERROR, FAIL, NOT_APPLICABLE, Data, Result

BESIDE = 130  # columns of a terminal in which sentences have room beside the numbers
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
    """Every gate with its whole sentence: beside its numbers, or below them where a terminal is narrow."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    console = Console(stderr=True)
    console = console if console.is_terminal else Console(stderr=True, width=170)
    beside = console.width >= BESIDE
    style = {"pass": "green", FAIL: "bold red", ERROR: "bold red", NOT_APPLICABLE: "yellow"}
    heads: list[tuple[str, ...]] = [("gate", "outcome", "measured", "limit", "n")]
    heads += [(r.gate, WORDS[r.outcome], *("-" if v is None else f"{v:.4g}" for v in (r.measured, r.threshold)), str(r.n)) for r in results]
    gate, outcome, *numbers = (max(map(len, column)) for column in zip(*heads, strict=True))
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=beside)
    for head, r in zip(heads, [None, *results], strict=True):
        line = Text(f"{head[0]:{gate}}  ")
        line.append(f"{head[1]:{outcome}}", style[r.outcome] if r else "bold")
        line.append("".join(f"  {text:>{width}}" for text, width in zip(head[2:], numbers, strict=True)))
        message = Text(r.message if r else "")
        if beside:
            table.add_row(line, message)
        else:
            table.add_row(line)
            table.add_row(Padding(message, (0, 0, 0, 4)))
    console.print(table)
