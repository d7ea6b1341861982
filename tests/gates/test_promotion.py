"""A tier is begun when the one before was judged GO on exactly the data that are there, and cannot be talked round quietly."""

import json
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from jobs.__main__ import main as job
from lib import promotion, runs, tiers
from lib.store import Dataset
from tests import tables
from tests.gates.conftest import Broken
from validation import compare
from validation.__main__ import main


def tiers_in(root: Path, tiny_tier, tmp_path, monkeypatch):
    """A copy of a data set, its tier, and one that comes after it: (``Broken``, flags, the next tier's file, flags of its jobs)."""
    shutil.copytree(root, tmp_path / "root", copy_function=os.link)  # what is changed is a new file
    after = tmp_path / "next.toml"
    after.write_text(tiny_tier.read_text().replace('name = "tiny"', 'name = "next"\nafter = "tiny"'))
    where = ["--root", str(tmp_path / "root"), "--dataset", "set"]
    broken = Broken(Dataset.at(str(tmp_path / "root"), "set", "tiny"), monkeypatch)
    return (
        broken,
        ["--tier", str(tiny_tier), *where],
        ["--from", str(tiny_tier), "--to", str(after), *where],
        ["--tier", str(after), *where],
    )


@pytest.fixture
def set_of_tiers(tiny_dataset, tiny_tier, tmp_path, monkeypatch):
    return tiers_in(tables.root(tiny_dataset), tiny_tier, tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def go(tiny_dataset, tiny_tier, tmp_path_factory) -> Path:
    """The root of a copy of the data set that was judged GO. Do not change it."""
    root = tmp_path_factory.mktemp("go") / "root"
    shutil.copytree(tables.root(tiny_dataset), root, copy_function=os.link)
    assert main(["--tier", str(tiny_tier), "--root", str(root), "--dataset", "set"]) == 0
    return root


@pytest.fixture
def judged(go, tiny_tier, tmp_path, monkeypatch):
    """``set_of_tiers``, judged GO."""
    return tiers_in(go, tiny_tier, tmp_path, monkeypatch)


@pytest.fixture
def promoted(judged):
    assert main(["promote", *judged[2], "--who", "a reviewer"]) == 0
    return judged


def begun(flags, survey, capsys, *more) -> tuple[int, str]:
    code = job(["parent", "--survey", str(survey), *flags, *more])
    return code, capsys.readouterr().err


def test_the_next_tier_is_refused_until_the_one_before_is_promoted(judged, tiny_survey, capsys):
    _, _, promote, after = judged
    for name in ("parent", "manifest", "inject"):
        flags = ["--survey", str(tiny_survey)] if name != "manifest" else []
        assert job([name, *flags, *after]) == 2
        assert "tier next comes after tiny" in capsys.readouterr().err
    assert main(["promote", *promote, "--who", "a reviewer"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["from"], record["to"], record["verdict"], record["who"]) == ("tiny", "next", "GO", "a reviewer")
    assert len(record["gates"]) == 40 and {"measured", "threshold"} <= record["gates"][0].keys()
    assert begun(after, tiny_survey, capsys)[0] == 0


def test_a_failing_validation_is_not_promoted(set_of_tiers, tiny_survey, capsys):
    broken, validate, promote, after = set_of_tiers
    broken.column("metrics", "theta_e_arcsec", lambda row: 50.0)
    assert main(validate) == 1
    assert main(["promote", *promote]) == 1
    assert "NO-GO (" in (told := capsys.readouterr().err) and "ranges fail" in told
    assert begun(after, tiny_survey, capsys)[0] == 2


def test_what_was_never_validated_is_not_promoted(set_of_tiers, capsys):
    assert main(["promote", *set_of_tiers[2]]) == 3
    assert "was never validated" in capsys.readouterr().err


def test_tables_that_changed_since_are_not_promoted(judged, capsys):
    broken, _, promote, _ = judged
    broken.column("metrics", "ebv_mag", lambda row: 0.06)
    assert main(["promote", *promote]) == 1
    assert "since it was validated files of its tables have changed" in capsys.readouterr().err


def test_other_thresholds_than_those_validated_are_not_promoted(judged, tmp_path, capsys):
    _, _, promote, _ = judged
    loose = tmp_path / "tiny.toml"
    loose.write_text((tmp_path / "next.toml").read_text().replace('name = "next"\nafter = "tiny"', 'name = "tiny"') + "grid_sigma = 50.0\n")
    assert main(["promote", "--from", str(loose), *promote[2:]]) == 1
    assert "another config (gates.grid_sigma: 5.0 -> 50.0)" in capsys.readouterr().err


def test_a_tier_is_promoted_only_to_the_one_that_comes_after_it(set_of_tiers, tiny_tier, capsys):
    _, _, promote, _ = set_of_tiers
    assert main(["promote", "--from", str(tiny_tier), "--to", "train", *promote[4:]]) == 2
    assert "tier train comes after grid, not after tiny" in capsys.readouterr().err


def test_an_altered_record_is_seen(promoted, tiny_survey, capsys):
    broken, _, _, after = promoted
    path = tables.folder(broken.dataset) / promotion.name("tiny", "next")
    path.write_text(path.read_text().replace("a reviewer", "someone else"))
    code, told = begun(after, tiny_survey, capsys)
    assert code == 2 and "or was altered" in told


def test_data_that_changed_after_the_promotion_are_seen(promoted, tiny_survey, capsys):
    broken, _, _, after = promoted
    for path in tables.folder(broken.dataset, broken.dataset.table("runs")).glob("run_id=*/*.parquet"):
        table = runs.pq.ParquetFile(path).read()
        rows = table.to_pylist()
        for f in (f for r in rows if r["command"] == "manifest" for f in r["files"]):
            f["sha256"] = "0" * 64  # a manifest with other content
        path.unlink()
        runs.pq.write_table(runs.pa.Table.from_pylist(rows, schema=table.schema), path)
    code, told = begun(after, tiny_survey, capsys)
    assert code == 2 and "are not those that were promoted" in told


def test_a_file_of_the_tables_that_changed_is_seen(promoted, tiny_survey, capsys):
    broken, _, _, after = promoted
    path = tables.paths(broken.dataset, "manifest")[0]
    content = path.read_bytes()
    path.unlink()  # it is a link to another data set's
    path.write_bytes(content + b"more")
    code, told = begun(after, tiny_survey, capsys)
    assert code == 2 and "are not those that were promoted" in told


@pytest.mark.parametrize("line", ["", 'after = "debug"\n'])
def test_a_copy_of_a_shipped_tier_comes_after_what_the_shipped_one_does(line, tmp_path, capsys):
    text = Path(tiers.__file__).with_name("train.toml").read_text()
    copy = tmp_path / "mine.toml"
    copy.write_text(re.sub(r"after = .*\n", line, text))
    where = ["--root", str(tmp_path), "--dataset", "set"]
    assert job(["manifest", "--tier", str(copy), *where]) == 2
    assert "tier train comes after grid" in capsys.readouterr().err
    assert main(["promote", "--from", "debug", "--to", str(copy), *where]) == 2
    assert "tier train comes after grid, not after debug" in capsys.readouterr().err


def test_reasons_of_all_skipped_promotions_are_told(tmp_path):
    for name, reason in (("debug", ""), ("grid", "debug to grid: no time"), ("train", "grid to train: the grant ends")):
        with runs.start(Dataset.at(str(tmp_path), "set", name), "parent", ["parent"], {}, {}, told={runs.SKIPPED: reason}) as run:
            run.commit({})
    of = promotion.skipped(Dataset.at(str(tmp_path), "set", "train"), tiers.load("train"))
    assert of == ["debug to grid: no time", "grid to train: the grant ends"]


def test_the_reason_stays_with_a_run_that_was_stopped_and_goes_on(tmp_path):
    dataset = Dataset.at(str(tmp_path), "set", "grid")

    class Killed(Exception):
        pass

    def begin(**told):
        return runs.start(dataset, "inject", ["metrics"], {}, {}, resumes=True, **told)

    def stopped():
        with begin(told={runs.SKIPPED: "no time"}) as run:
            run.chunk(0).commit({}, 0.0)
            raise Killed

    with pytest.raises(Killed):
        stopped()
    with begin() as run:
        assert list(run.done) == [0]
        assert json.loads(run.commit({})["counts"])[runs.SKIPPED] == "no time"


def test_a_skipped_promotion_wants_a_reason_and_is_told_in_every_later_report(set_of_tiers, tiny_survey, capsys):
    _, _, _, after = set_of_tiers
    code, told = begun(after, tiny_survey, capsys, "--unsafe-skip-promotion", " ")
    assert code == 2 and "wants a reason" in told
    reason = ["--unsafe-skip-promotion", "the telescope closes tonight"]
    assert begun(after, tiny_survey, capsys, *reason)[0] == 0
    assert job(["manifest", *after, *reason]) == 0
    assert job(["inject", "--survey", str(tiny_survey), *after, *reason]) == 0
    dataset = Dataset.at(after[3], "set", "next")
    told = [json.loads(r["counts"])["promotion skipped"] for r in runs.records(dataset)]
    assert told == ["tiny to next: the telescope closes tonight"] * 3
    main(after)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "the telescope closes tonight" in Path(summary["report"]).read_text()


def test_the_report_for_test_runners_has_every_gate(promoted):
    broken, *_ = promoted
    suite = ElementTree.parse(tables.folder(broken.dataset, "report", "tiny", "report.xml")).getroot()
    cases = {case.get("name"): case for case in suite}
    assert len(cases) == 40 == int(suite.get("tests"))
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    assert cases["known_lenses"].find("skipped") is not None and cases["ranges"].find("skipped") is None


def test_a_comparison_names_what_changed_and_nothing_else(promoted, tmp_path, capsys):
    broken, *_ = promoted
    old = tmp_path / "old"
    shutil.copytree(tables.root(broken.dataset), old)
    same = compare.differences(Dataset.at(str(old), "set", "tiny"), broken.dataset)
    assert {k: v for k, v in same.items() if v and k not in ("a", "b", "distributions")} == {}
    assert max(d["psi"] for d in same["distributions"]) == 0.0
    broken.column("metrics", "arc_snr", lambda row: row["arc_snr"] and row["arc_snr"] * 3)
    broken.column("metrics", "status", lambda row: "edge" if row["task_id"][0] == "0" else "ok")
    broken.rows("manifest", lambda rows: rows.rename_columns([{"ebv_mag": "ebv"}.get(n, n) for n in rows.column_names]))
    sides = [f"{old}/set:tiny", f"{tables.folder(broken.dataset)}:tiny"]
    assert main(["compare", *sides]) == 0
    out = capsys.readouterr()
    found = json.loads(out.out.splitlines()[-1])
    assert found["schema"] == ["manifest.ebv_mag is gone", "manifest.ebv is new"]
    assert any(k.endswith("edge") for k in found["counts"])
    moved = {(d["role"], d["column"]): d["psi"] for d in found["distributions"] if d["psi"] > 0.5}
    assert ("injected", "arc_snr") in moved and ("injected", "src_gr") not in moved
    assert "manifest.ebv is new" in out.err and "arc_snr" in out.err


def test_a_side_of_a_comparison_that_is_none_is_told(capsys):
    assert main(["compare", "somewhere", "out/x:demo"]) == 2
    assert "give FOLDER:TIER" in capsys.readouterr().err


def test_the_stability_index_is_that_of_a_known_case():
    a, b = np.repeat([0.0, 1.0], [500, 500]), np.repeat([0.0, 1.0], [250, 750])
    assert compare.stability(a, b) == pytest.approx(0.25 * np.log(0.75 / 0.25), rel=1e-6)  # (q - p) ln(q / p), summed
