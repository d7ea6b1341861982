"""A task as a picture."""

import matplotlib.image
import numpy as np
import pytest

from jobs.__main__ import main
from lib import runs, sheet
from lib.lensing import magnification, shear, sie


@pytest.fixture(scope="module")
def tasks(tiny_dataset) -> dict:
    rows = runs.read(tiny_dataset, "metrics").to_pylist()
    return {role: next(r for r in rows if r["role"] == role) for role in ("injected", "unpaired_control")}


def show(dataset, tier, *argv) -> int:
    return main(["show", *argv, "--tier", str(tier), "--root", str(dataset.root), "--dataset", "set"])


@pytest.mark.parametrize("role", ["injected", "unpaired_control"])
def test_a_task_is_drawn_by_its_id_or_the_beginning_of_it(role, tasks, tiny_dataset, tiny_tier, tmp_path):
    task = tasks[role]["task_id"]
    for name, out in ((task, tmp_path / "a.png"), (task[:12], tmp_path / "b.png")):
        assert show(tiny_dataset, tiny_tier, name, "--out", str(out)) == 0
    drawn = matplotlib.image.imread(tmp_path / "a.png")
    assert drawn.shape[0] > 800 and drawn.shape[1] > 1200 and drawn[..., :3].std() > 0.05
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_parameters_are_those_of_the_row(tasks):
    told = dict(line.split() for block in sheet.text(tasks["injected"]) for line in block.splitlines() if len(line.split()) == 2)
    row = tasks["injected"]
    for name in ("theta_e_arcsec", "src_reff_arcsec", "magnification", "arc_snr"):
        assert float(told[name]) == pytest.approx(row[name], rel=1e-3)
    assert (told["role"], told["split"]) == ("injected", row["split"])
    assert "magnification" not in "".join(sheet.text(tasks["unpaired_control"]))


@pytest.mark.parametrize("task, says", [("zzz", "no task zzz in the metrics table"), ("", "120 tasks begin with")])
def test_a_task_that_is_none_or_many_is_named(task, says, tiny_dataset, tiny_tier, capsys):
    assert show(tiny_dataset, tiny_tier, task) == 3
    assert says in capsys.readouterr().err


def test_the_curves_part_sources_by_their_number_of_images():
    lens = (1.2, sie.axis_ratio(0.3), 0.7, *shear.components(0.08, 2.0))
    lines = magnification.curves(*lens)
    for name, inside, outside in (("caustic", 4, 2), ("cut", 2, 1)):
        x, y = (v[::300] for v in lines[name])
        counts = [magnification.images(*lens, scale * x, scale * y) for scale in (0.98, 1.02)]
        assert (counts[0] == inside).mean() > 0.95 and (counts[1] == outside).mean() > 0.95, name


def test_the_jacobian_is_singular_on_the_critical_curve():
    theta_e, q, phi, g1, g2 = 1.2, 0.6, 0.7, *shear.components(0.08, 2.0)
    x, y = (v[::100] for v in magnification.curves(theta_e, q, phi, g1, g2)["critical"])
    h = 1e-5

    def beta(x, y):
        a, b = sie.deflection(x, y, theta_e, q, phi), shear.deflection(x, y, g1, g2)
        return np.array([x - a[0] - b[0], y - a[1] - b[1]])

    (xx, yx), (xy, yy) = ((beta(x + dx, y + dy) - beta(x - dx, y - dy)) / (2 * h) for dx, dy in ((h, 0), (0, h)))
    assert np.abs(xx * yy - xy * yx).max() < 1e-6
    there = beta(x, y)
    np.testing.assert_allclose(there, [v[::100] for v in magnification.curves(theta_e, q, phi, g1, g2)["caustic"]], atol=1e-9)
