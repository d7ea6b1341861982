"""Where compiled code is kept."""

import subprocess
import sys
from pathlib import Path

from infra import package

USE = "from lib import jit; from lib.lensing import sie; print(jit.FOLDER); print(sie.deflection(3.0, 4.0, 1.0)[0].round(9))"


def compiled(where: Path, code: Path):
    """Files of compiled code that a process leaves that imports ``code`` and has no home to write to."""
    env = {"HOME": "/dev/null", "TMPDIR": str(where), "PYTHONPATH": str(code), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", USE], env=env, cwd=where, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder, value = done.stdout.split()
    assert value == "0.6"
    return {p: p.stat().st_mtime_ns for p in Path(folder).iterdir()}


def test_code_from_the_zip_is_compiled_once_into_a_folder_of_its_own(tmp_path):
    archive = package.build(tmp_path / "arcmill.zip")
    first = compiled(tmp_path, archive)
    assert any(p.suffix == ".nbc" for p in first)
    assert all(p.is_relative_to(tmp_path) for p in first)
    assert compiled(tmp_path, archive) == first


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
