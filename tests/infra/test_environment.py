"""The archive of packages, and the script that tries it on a cluster's machine."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from infra import cluster, environment, package, ship
from lib import shipped
from lib.errors import InputError

HERE = os.uname().machine
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LIBRARY = next(Path(sys.prefix).rglob("_multiarray_umath*.so"))  # a compiled file of this machine


@pytest.fixture
def tree(tmp_path) -> Path:
    """A small environment: one module, one compiled file, the links."""
    folder = tmp_path / "tree"
    site = folder / "lib" / f"python{PYTHON}" / "site-packages"
    site.mkdir(parents=True)
    (site / "one.py").write_text("x = 1\n")
    (site / LIBRARY.name).write_bytes(LIBRARY.read_bytes())
    environment._link(folder, PYTHON, str(Path(sys.base_prefix) / "bin" / f"python{PYTHON}"))
    return folder


def packed(tree: Path, target: Path) -> bytes:
    environment._pack(tree, target)
    return target.read_bytes()


def test_the_same_files_are_the_same_archive_whenever_they_were_made(tree, tmp_path):
    first, digest = packed(tree, tmp_path / "a"), environment.content(tree)
    for path in tree.rglob("*.py"):
        os.utime(path, (1, 1))
    assert packed(tree, tmp_path / "b") == first and environment.content(tree) == digest
    (tree / "lib" / f"python{PYTHON}" / "site-packages" / "one.py").write_text("x = 2\n")
    assert packed(tree, tmp_path / "c") != first and environment.content(tree) != digest


def test_unpacked_its_python_finds_its_packages_and_says_what_it_is(tree, tmp_path):
    (tree / shipped.MARK).write_text(environment.content(tree) + "\n")
    environment._pack(tree, tmp_path / "a.tar.gz")
    with tarfile.open(tmp_path / "a.tar.gz") as archive:
        archive.extractall(tmp_path / "elsewhere")  # ours: no filter, which 3.11.2 does not know
    said = subprocess.run(
        [str(tmp_path / "elsewhere" / "bin" / "python"), "-c", "import one, sys; print(sys.prefix)"],
        capture_output=True,
        text=True,
        env={"PATH": ""},
    )
    assert said.stdout.strip() == str(tmp_path / "elsewhere"), said.stderr


def test_a_compiled_file_of_another_processor_is_named(tree):
    other = next(m for m in environment.ELF if m != HERE)
    environment.require_machine(tree, HERE)
    with pytest.raises(InputError, match=f"not all compiled files are of {other}: _multiarray_umath"):
        environment.require_machine(tree, other)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-gpu.lock"])
def test_all_is_shipped_but_spark(lock):
    text = environment._lock(package.ROOT / lock)
    assert "pyspark==" not in text and "py4j==" not in text and "numba==" in text and "--hash=sha256:" in text
    assert ("cupy-cuda12x==" in text) == (lock == "requirements-gpu.lock")


@pytest.mark.skipif("ARCMILL_SHIPPED" not in os.environ, reason="asks the registry for gigabytes of wheels: `make test-shipped` does it")
@pytest.mark.parametrize("name, architecture", [("debug", "arm64"), ("debug", "x86_64"), ("mosaic-gpu", "x86_64")])
def test_every_pin_has_a_wheel_for_both_processors(name, architecture, tmp_path):
    import dataclasses

    made = dataclasses.replace(cluster.load(name), architecture=architecture)
    assert environment.build(made, tmp_path).stat().st_size > 100e6


def test_the_code_is_named_by_its_bytes_and_a_tier_of_ones_own_goes_along(tiny_tier, tmp_path):
    one, other = (package.named(package.build(tmp_path / str(k) / "arcmill.zip")) for k in range(2))
    assert one.name == other.name and one.read_bytes() == other.read_bytes()
    (tmp_path / "fast.toml").write_text("name = 'fast'\ngpu = true\n[[level]]\nname = 'x'\n")
    name, recipe, more = ship.own(str(tiny_tier), str(tmp_path / "fast.toml"))
    assert recipe == "fast" and ship.own("debug") == ("debug", "", {})
    made = package.named(package.build(tmp_path / "arcmill.zip", more))
    assert name == "tiny" and made.name != one.name
    said = subprocess.run(
        [sys.executable, "-c", "from lib import tiers; from lib.frames import recipe; print(tiers.load('tiny').name, recipe.load('fast').gpu)"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(made)}, capture_output=True, text=True,
    )  # fmt: skip
    assert said.stdout.split() == ["tiny", "True"], said.stderr
    assert any(n.endswith("lib/tiers/debug.toml") for n in zipfile.ZipFile(made).namelist())


@pytest.fixture
def machine(tree, tmp_path):
    """A machine of a cluster, as far as the script sees it: ``aws`` copies from a folder, the archive has what it is asked for."""
    site = tree / "lib" / f"python{PYTHON}" / "site-packages"
    for line in ship.BOOTSTRAP.read_text().splitlines():
        if line.startswith("modules="):
            modules = line.partition("=")[2].strip('"').split()
    for module in (*modules, "cupy"):
        (site / f"{module}.py").write_text("")
    (tree / shipped.MARK).write_text("hash\n")
    archive = tmp_path / f"environment-{HERE}-0123456789ab.tar.gz"
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "aws").write_text('#!/bin/sh\n[ -f "$4" ] && cp "$4" "$5"\n')
    (programs / "aws").chmod(0o755)

    def run(kind="cpu", python="", name="", without=""):
        if without:
            (site / f"{without}.py").write_text("import missing_library\n")
        environment._pack(tree, archive)
        command = [
            "bash",
            str(ship.BOOTSTRAP),
            name or str(archive),
            python or str(Path(sys.base_prefix) / "bin" / f"python{PYTHON}"),
            kind,
        ]
        return subprocess.run(command, env={"PATH": f"{programs}:/usr/bin:/bin", "TMPDIR": str(tmp_path)}, capture_output=True, text=True)

    return run


def test_bootstrap_says_what_runs_and_installs_nothing(machine):
    done = machine()
    assert done.returncode == 0 and "hash runs here" in done.stdout, done.stderr
    assert not {"pip", "yum", "dnf"} & set(ship.BOOTSTRAP.read_text().split())


@pytest.mark.parametrize("fault, says", [
    ({"without": "numba"}, "numba cannot be imported"),
    ({"without": "cupy", "kind": "gpu"}, "cupy cannot be imported"),
    ({"python": "/usr/bin/python3.99"}, "no /usr/bin/python3.99 on this machine"),
    ({"name": "s3://b/environment-riscv-0123456789ab.tar.gz"}, "is not for this processor"),
    ({"name": f"/nowhere/environment-{HERE}-0123456789ab.tar.gz"}, "could not be read"),
])  # fmt: skip
def test_bootstrap_fails_aloud(fault, says, machine):
    done = machine(**fault)
    assert done.returncode != 0 and says in done.stderr


def test_bootstrap_tries_every_package_that_the_project_names():
    import tomllib

    named = tomllib.loads((package.ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    imported = {"scikit-learn": "sklearn", "opencv-python-headless": "cv2"}
    wanted = {imported.get(n.partition("==")[0], n.partition("==")[0].replace("-", "_")) for n in named} - {"pyspark"}
    (line,) = [x for x in ship.BOOTSTRAP.read_text().splitlines() if x.startswith('modules="numpy')]
    assert set(line.partition("=")[2].strip('"').split()) == wanted
