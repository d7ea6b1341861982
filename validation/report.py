"""The verdict for people and for machines: one self-contained page, JSON, JUnit XML, and a table for the terminal."""

import json
from collections import Counter
from importlib import resources
from xml.etree import ElementTree as Xml

import jinja2

from lib import runs
from lib.place import Place
from lib.schemas import SPLITS
from validation import galleries, plots, samples, scan, shortcuts
from validation.data import Data
from validation.result import ERROR, FAIL, NOT_APPLICABLE, Result

BESIDE = 130  # columns of a terminal in which sentences have room beside the numbers
WORDS = {"pass": "pass", FAIL: "FAIL", ERROR: "ERROR", NOT_APPLICABLE: "not applicable"}
AUCS = {"core paired_control": "core, paired", "core unpaired_control": "core, unpaired",
        "total paired_control": "total flux, paired", "total unpaired_control": "total flux, unpaired"}  # fmt: skip


def verdict(results: list[Result]) -> str:
    """GO only if no blocking gate failed and at least one passed."""
    go = any(r.outcome == "pass" for r in results) and not any(r.blocks for r in results)
    return "GO" if go else "NO-GO"


def room(result: Result, at_least: bool) -> float | None:
    """Share of the limit that is left: 0 at the limit, 1 where nothing was found; None where there is no such share."""
    if result.outcome != "pass" or result.threshold is None or result.measured is None or not result.threshold > 0:
        return None
    if result.measured == result.threshold:  # an exact number was asked for
        return None
    off = result.measured - result.threshold if at_least else result.threshold - result.measured
    return max(0.0, off) / result.threshold


def counts(data: Data) -> list[dict]:
    table: dict[str, dict] = {}
    for (role, split, status), n in data.noted(samples.ROLES)["by"].items():
        line = table.setdefault(role, {"role": role, **dict.fromkeys(SPLITS, 0), "all": 0, "not ok": Counter()})
        line[split] += n
        line["all"] += n
        line["not ok"] += Counter({status: n} if status != "ok" else {})
    return [table[k] for k in sorted(table)]


def jobs(data: Data) -> list[dict]:
    """Every run that the data came from: when, by which code, at what cost; and promotions that were skipped."""
    found = []
    for r in runs.records(data.dataset):
        told = json.loads(r["counts"])
        rows = ", ".join(f"{n:,} {table}" for table, n in told["rows"].items())
        found.append({
            "job": r["command"], "run_id": r["run_id"], "started": r["started"][:19].replace("T", " "), "code": r["code_version"],
            "config": r["config_hash"], "rows": rows, "core_hours": r["core_seconds"] / 3600.0, "skipped": told.get(runs.SKIPPED, ""),
        })  # fmt: skip
    return found


def write(data: Data, results: list[Result], gates, run: dict, folder: Place) -> dict:
    """``report.html``, ``report.json`` and ``report.xml`` in a folder; a part of the page that cannot be drawn says why."""
    known = {g.name: g for g in gates}
    page: dict = {
        "verdict": verdict(results), "tier": data.tier.name, "dataset": data.dataset.name, "run": run,
        "gates": [r.row(data.tier.name, run["run_id"]) | {"room": room(r, known[r.gate].at_least)} for r in results],
    }  # fmt: skip
    parts = {
        "counts": counts, "jobs": jobs, "shortcuts": shortcuts.by_theta_e, "figures": plots.figures,
        "galleries": lambda data: galleries.galleries(data, results),
        "sampled": lambda data: scan.notes(data)["sample"],
    }  # fmt: skip
    drawn = {name: _try(part, data) for name, part in parts.items()}
    page |= {name: drawn[name]["value"] for name in ("counts", "jobs", "shortcuts", "sampled")}
    folder.put("report.json", (json.dumps(page, indent=1, sort_keys=True, default=str) + "\n").encode())
    folder.put("report.xml", junit(results, page))
    text = (resources.files("validation") / "report.html").read_text()
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True).from_string(text)
    for row in page["gates"]:
        gate = known[row["gate"]]
        row |= {
            "about": gate.about,
            "sign": "≥" if gate.at_least else "≤",
            "word": WORDS[row["outcome"]],
            "keys": json.loads(row["examples"]),
        }
    folder.put("report.html", template.render(**(page | drawn), splits=SPLITS, aucs=AUCS).encode())
    return page


def junit(results: list[Result], page: dict) -> bytes:
    """The gates as test cases, for machines that show such."""
    kinds = Counter(r.outcome for r in results)
    suite = Xml.Element("testsuite", {
        "name": f"{page['dataset']}.{page['tier']}", "tests": str(len(results)), "failures": str(kinds[FAIL]), "errors": str(kinds[ERROR]),
        "skipped": str(kinds[NOT_APPLICABLE]), "timestamp": page["run"]["started"],
    })  # fmt: skip
    for r in results:
        case = Xml.SubElement(suite, "testcase", {"name": r.gate, "classname": f"{page['tier']}.{r.table}"})
        if r.outcome in (FAIL, ERROR):
            Xml.SubElement(case, "failure" if r.outcome == FAIL else "error", {"message": r.message, "type": r.severity}).text = str(
                r.examples
            )
        elif r.outcome == NOT_APPLICABLE:
            Xml.SubElement(case, "skipped", {"message": r.message})
        Xml.SubElement(case, "system-out").text = f"{r.message} (measured {r.measured}, limit {r.threshold} {r.unit}, {r.n} rows)"
    return Xml.tostring(suite, encoding="utf-8", xml_declaration=True)


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
