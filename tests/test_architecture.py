"""The layout holds: one direction of imports, the edges where they belong, our own folders and no others."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = [p for package in ("lib", "jobs", "validation", "infra", "study") for p in sorted((ROOT / package).rglob("*.py"))]
PURE = ("lensing", "imaging", "mosaic")


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def offences(path: Path) -> list[str]:
    name, found = path.relative_to(ROOT), []
    for target in imports(path):
        top = target.split(".")[0]
        if name.parts[0] == "lib" and top in ("jobs", "validation", "infra", "study"):
            found.append(f"{name} imports {target}: lib knows nothing of its users")
        if {name.parts[0], top} == {"jobs", "validation"}:
            found.append(f"{name} imports {target}: jobs and validation never import each other")
        if name.parts[0] == "lib" and top == "pyspark" and str(name) != "lib/spark.py":
            found.append(f"{name} imports {target}: Spark enters lib in lib/spark.py only")
        if name.parts[0] == "lib" and top in ("boto3", "obstore") and str(name) != "lib/place.py":
            found.append(f"{name} imports {target}: S3 enters lib in lib/place.py only")
        if (
            len(name.parts) > 1
            and name.parts[1] in PURE
            and target.startswith(("lib.survey", "lib.schemas", "lib.rows", "lib.store", "lib.tiers"))
        ):
            found.append(f"{name} imports {target}: physics knows nothing of tables")
    return found


def test_imports_go_one_way():
    found = [o for path in SOURCES for o in offences(path)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("line, where, what", [
    ("import jobs.cli", "lib/store.py", "lib knows nothing"),
    ("from validation import report", "jobs/cli.py", "never import each other"),
    ("import pyspark.sql", "lib/rows.py", "Spark enters lib"),
    ("from lib import schemas", "lib/lensing/sie.py", "knows nothing of tables"),
])  # fmt: skip
def test_a_wrong_import_is_named(line, where, what, tmp_path, monkeypatch):
    planted = tmp_path / where
    planted.parent.mkdir(parents=True)
    planted.write_text(line + "\n")
    monkeypatch.setattr("tests.test_architecture.ROOT", tmp_path)
    assert any(where in o and what in o for o in offences(planted))


def test_lib_is_ours():
    import lib

    assert Path(lib.__file__).resolve() == ROOT / "lib" / "__init__.py"


def test_every_package_has_an_init_that_says_what_it_is_for():
    for folder in {p.parent for p in SOURCES}:
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder


def test_git_does_not_ignore_our_library():
    some = ["lib/store.py", "lib/tiers/demo.toml", "lib/survey/synthetic/__init__.py", "jobs/inject.py"]
    ignored = subprocess.run(["git", "check-ignore", *some], cwd=ROOT, capture_output=True, text=True)
    if ignored.returncode == 128:
        pytest.skip("not a git checkout: an unpacked archive has no ignore rules to ask")
    assert ignored.stdout == ""


def test_no_folder_of_tests_hides_a_package():
    assert not {p.name for p in (ROOT / "tests").iterdir() if p.is_dir()} & {"lib", "jobs", "validation"}


def test_docs_tables_is_what_the_schemas_say():
    from infra import tables

    assert tables.TARGET.read_text() == tables.text(), "run `make docs`"


def test_every_shipped_tier_loads_and_counts():
    from lib import sampling, tiers

    for name in tiers.names():
        tier = tiers.load(name)
        assert tier.name == name
        eligible = dict.fromkeys(("train", "val", "test"), 10_000)
        assert sum(sum(r.values()) for r in sampling.expected_counts(tier, eligible).values()) > 0


def test_the_debug_tier_has_17280_rows_and_the_named_grids_their_sizes():
    from lib import sampling, tiers

    counts = sampling.expected_counts(tiers.load("debug"), {})
    assert sum(sum(r.values()) for r in counts.values()) == 17_280
    sizes = {name: len(grid.configs()) for name, grid in tiers.grids().items()}
    assert {k: sizes[k] for k in ("small", "medium", "full", "sota", "v4_sota")} == {
        "small": 48, "medium": 360, "full": 3024, "sota": 1008, "v4_sota": 1944,
    }  # fmt: skip
