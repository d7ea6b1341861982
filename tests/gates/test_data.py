"""How gates get at the tables: the same by Spark's workers and by this process, once, and without the order of pieces."""

import numpy as np
import pyarrow as pa
import pytest

from lib import runs, spark
from tests.gates.conftest import with_gates
from validation import samples, scan
from validation.__main__ import GATES, validate
from validation.data import Data
from validation.tally import Each, Few, First, Least, Most, Rows, hashed, merged


def test_the_workers_and_this_process_find_the_same(tiny_dataset, tier, spark):
    here, there = Data(None, tiny_dataset, tier), Data(spark, tiny_dataset, tier, small=0)
    found = [{r.gate: r for r in validate(data)} for data in (here, there)]
    assert here.session is None
    assert found[0] == found[1]
    assert here.passes["metrics"] == there.passes["metrics"]


def test_all_notes_of_a_table_are_taken_in_one_pass(tiny_dataset, tier):
    data = Data(None, tiny_dataset, tier)
    data.prepare([n for g in GATES for n in (*g.notes, *g.uses)] + list(samples.ALL))
    assert dict(data.passes) == {"parent": 1, "manifest": 1, "stamps": 1, "metrics": 1}
    for g in GATES:
        for note in (*g.notes, *g.uses):
            data.noted(note)
    assert data.passes["metrics"] == 1


def test_only_the_columns_that_are_looked_at_are_read(tiny_dataset, tier, monkeypatch):
    asked = []
    known = spark.read_piece
    monkeypatch.setattr(spark, "read_piece", lambda *args: asked.append(args[3]) or known(*args))
    gate = next(g for g in GATES if g.name == "psf_provenance")
    assert gate.run(Data(None, tiny_dataset, tier)).outcome == "pass"
    assert {name for names in asked for name in names} == {
        "task_id", "status", *(f"psf_fwhm_used_{b}_arcsec" for b in "grz"), *(f"psf_source_{b}" for b in "grz"),
    }  # fmt: skip


def test_the_sample_of_pixels_is_the_same_whenever_it_is_drawn_and_told(tiny_dataset, tier):
    found = [scan.notes(Data(None, tiny_dataset, with_gates(tier, pixel_rows=n))) for n in (15, 30, 45, 60, 75, 90, 90)]
    sizes = [f["n"] for f in found]
    assert sizes == sorted(sizes)  # a larger sample holds the smaller one
    assert any(0 < n < 120 for n in sizes), sizes
    assert found[-1]["sample"] == found[-2]["sample"]
    assert [f["sample"].split(":")[0] for f in found] == [f"{n} of 120 stamps" for n in sizes]


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_notes_add_up_to_the_same_in_any_pieces_and_order(tiny_dataset, pieces):
    rows = runs.read(tiny_dataset, "metrics")
    step = -(-rows.num_rows // pieces)

    def note(part: pa.Table) -> dict:
        r = Rows(part)
        table = r.take(np.ones(len(r), bool), ("task_id", "mag_r"))
        return {"n": len(r), "least": Least(r["mag_r"].min()), "most": Most(r["mag_r"].max()), "first": First((table,), "mag_r", 9),
                "few": r.few(r.injected), "each": Each((table.select(["task_id"]),))}  # fmt: skip

    found = merged(note(rows.slice(k, step)) for k in reversed(range(0, rows.num_rows, step)))
    assert (found["n"], found["least"].value, found["most"].value) == (120, rows["mag_r"].to_numpy().min(), rows["mag_r"].to_numpy().max())
    assert found["first"].rows["mag_r"].to_pylist() == sorted(rows["mag_r"].to_pylist())[:9]
    assert found["each"].rows.num_rows == 120
    assert len(found["few"].values) == 5


def test_numbers_of_ids_do_not_depend_on_what_is_beside_them():
    ids = pa.array([f"{k:032x}" for k in range(1000)])
    whole = hashed(ids)
    assert len(np.unique(whole)) == 1000
    assert (hashed(ids.slice(17, 5)) == whole[17:22]).all()
    assert (hashed(pa.concat_arrays([ids.slice(3, 4), pa.array(["nobody", "another"])]))[:4] == whole[3:7]).all()
    assert Few(("b",)) + Few(("a",)) == Few(("a",)) + Few(("b",))


def test_a_row_group_without_an_arc_has_no_hashes():
    """All rows of it may be controls."""
    assert scan._hashes(np.zeros((0, 3, 4, 4), np.float32)).shape == (0,)
    a, b = scan._hashes(np.stack([np.zeros((3, 4, 4), np.float32), np.ones((3, 4, 4), np.float32)]))
    assert a != b
