"""Where compiled code is kept."""

import subprocess
import sys
from pathlib import Path

from infra import package

USE = "from lib import jit; from lib.lensing import sie; print(jit.FOLDER); print(sie.deflection(3.0, 4.0, 1.0)[0].round(9))"

DRAW = """
import numpy as np
from lib.imaging import psf
from lib.lensing import render
of = dict(x_pix=31.5, y_pix=31.5, theta_e_arcsec=1.2, lens_q=0.8, lens_phi_rad=0.3, shear=0.03, shear_phi_rad=1.0, src_x_arcsec=0.2, src_y_arcsec=0.1,
          src_n=1.0, src_reff_arcsec=0.2, src_q=0.7, src_phi_rad=0.5)
for n in (3, 1):
    scene = render.Scene(**{k: np.full(n, v) for k, v in of.items()})
    render.draw(scene, fluxes=[[1.0]] * n, psfs=[[psf.Moffat(1.3, 3.5)]] * n, side_pix=64, pixel_arcsec=0.262)
    render.paint(np.zeros((1, 64, 64)), [[1.0]] * n, scene, 0.262, 20)
print(*(len(f.signatures) for f in (render._stamps, render._paint)))
"""


def test_one_task_is_drawn_by_the_loops_of_many():
    """A type more is a compilation of half a minute, on every machine, for the first brick with one stamp."""
    done = subprocess.run([sys.executable, "-c", DRAW], cwd=package.ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1"], done.stderr


def compiled(where: Path, code: Path):
    """Files of compiled code that a process leaves that imports ``code`` and has no home to write to."""
    env = {"HOME": "/dev/null", "TMPDIR": str(where), "PYTHONPATH": str(code), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", USE], env=env, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder, value = done.stdout.split()
    assert value == "0.6"
    return {p: p.stat().st_mtime_ns for p in Path(folder).iterdir()}


def test_code_is_compiled_once_be_it_a_checkouts_or_the_zips(tmp_path):
    first = compiled(tmp_path, package.build(tmp_path / "arcmill.zip"))
    assert any(p.suffix == ".nbc" for p in first)
    assert all(p.is_relative_to(tmp_path) for p in first)
    assert compiled(tmp_path, package.ROOT) == first


def test_other_code_has_another_folder(tmp_path):
    code = tmp_path / "code"
    for name in ("lib", "lib/lensing"):
        (code / name).mkdir(parents=True)
    root = Path(package.__file__).parent.parent
    for path in [root / "lib/__init__.py", root / "lib/jit.py", *(root / "lib/lensing").glob("*.py")]:
        (code / path.relative_to(root)).write_bytes(path.read_bytes())
    first = compiled(tmp_path, code)
    (code / "lib/lensing/shear.py").write_text("changed = True\n")
    assert not {p.parent for p in compiled(tmp_path, code)} & {p.parent for p in first}
