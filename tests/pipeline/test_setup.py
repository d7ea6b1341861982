"""Set-up and the demo's start: one clear sentence for what a new machine may lack."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def stub(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def setup(tmp_path, **env):
    """infra/setup.sh with the stubs first on the path; the environment it would make is elsewhere."""
    path = f"{tmp_path}:{os.environ['PATH']}"
    clean = {k: v for k, v in os.environ.items() if k not in ("JAVA_HOME", "PYTHON")}
    made = clean | {"PATH": path, "VENV": str(tmp_path / "venv"), "PYTHON": sys.executable} | env
    return subprocess.run(["sh", str(ROOT / "infra" / "setup.sh"), "requirements.lock"], env=made, capture_output=True, text=True)


def test_an_old_python_is_named_with_what_is_needed(tmp_path):
    stub(tmp_path, "python3", 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    done = setup(tmp_path, PYTHON=str(tmp_path / "python3"))
    assert done.returncode == 3
    assert "Python 3.11, 3.12 or 3.13 is needed" in done.stderr
    assert "3.9.2" in done.stderr


def test_without_java_and_rights_the_one_command_is_said(tmp_path):
    stub(tmp_path, "id", "echo 1000")
    stub(tmp_path, "java", "echo 'openjdk version \"11.0.2\"' >&2")
    done = setup(tmp_path)
    assert done.returncode == 3
    assert "sudo apt-get install openjdk-17-jre-headless" in done.stderr


def test_with_rights_java_is_installed_by_apt(tmp_path):
    stub(tmp_path, "id", "echo 0")
    stub(tmp_path, "java", "exit 1")
    stub(tmp_path, "apt-get", f"echo $@ >> {tmp_path}/asked; exit 0")
    stub(tmp_path, "df", "echo head; echo x x x 1000 x x")  # stops it before the packages
    done = setup(tmp_path)
    assert "openjdk-17-jre-headless" in (tmp_path / "asked").read_text()
    assert done.returncode == 3


def test_a_full_disk_is_said_before_anything_is_installed(tmp_path):
    stub(tmp_path, "java", "echo 'openjdk version \"17.0.1\"' >&2")
    stub(tmp_path, "df", "echo head; echo x x x 1000 x x")
    done = setup(tmp_path)
    assert done.returncode == 3
    assert "2.5 GB of disk are needed" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize("out", ["/proc/nothing/out"])
def test_the_demo_says_that_its_folder_cannot_be_written(out, capsys):
    from infra.demo import main

    assert main(["--out", out]) == 3
    assert f"cannot write to {out}" in capsys.readouterr().err


def test_the_demo_says_that_the_disk_is_full(tmp_path, capsys, monkeypatch):
    import shutil
    from collections import namedtuple

    from infra.demo import main

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 10**10, 10**6))
    assert main(["--out", str(tmp_path)]) == 3
    assert "0.0 GB free" in capsys.readouterr().err


def test_make_lists_its_targets():
    done = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, env={k: v for k, v in os.environ.items() if k != "MAKEFLAGS"})
    assert done.returncode == 0
    for target in ("demo", "test", "bench", "setup", "package"):
        assert f"make {target}" in done.stdout


def test_an_unknown_bench_is_refused_with_the_known_ones():
    env = {k: v for k, v in os.environ.items() if k != "MAKEFLAGS"} | {"VENV": sys.prefix}
    done = subprocess.run(["make", "-n", "bench", "NAME=nothing"], cwd=ROOT, capture_output=True, text=True, env=env)
    assert "overhead" in done.stdout + done.stderr
