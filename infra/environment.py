"""The Python environment of a cluster in one archive: the packages of the lock file for its processor, in the layout of a virtual environment.

    python -m infra.environment [CLUSTER]     dist/environment-{processor}-{hash}.tar.gz

It is made from wheels alone, so either processor's is made on any machine.  Its Python is a link to the cluster's.  The same lock file
makes the same archive.  Why so: docs/decisions/0008-environment.md.
"""

import gzip
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from infra import cluster
from infra.cluster import MACHINES, Cluster
from infra.package import ROOT
from lib.errors import InputError
from lib.shipped import MARK

NOT_SHIPPED = ("pyspark", "py4j")  # the cluster's own must win
NO_WHEEL = ("pims",)  # pure Python, and only its source is published
GLIBC = 34  # of Amazon Linux 2023: wheels for 2.34 and before
ELF = {"x86_64": 0x3E, "aarch64": 0xB7}
LEVEL = 1  # of gzip: level 6 takes three times as long and saves a ninth


def build(made: Cluster, folder: Path = ROOT / "dist", interpreter: str = "") -> Path:
    """The archive; one that was made of the same things is there already.  ``interpreter`` is another one than the cluster's."""
    machine, interpreter = MACHINES[made.architecture], interpreter or made.interpreter
    lock = _lock(ROOT / ("requirements-gpu.lock" if made.gpu else "requirements.lock"))
    asked = hashlib.sha256("\0".join([lock, machine, made.python, interpreter]).encode()).hexdigest()[:12]
    known = folder / f"environment-{machine}.{asked}"
    if known.is_file() and (folder / known.read_text()).is_file():
        return folder / known.read_text()
    folder.mkdir(parents=True, exist_ok=True)
    print(f"environment: packages for {machine}, once: a minute or two, and half a gigabyte of disk", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="environment-") as name:
        tree = Path(name) / "tree"
        _install(lock, tree / "lib" / f"python{made.python}" / "site-packages", machine, made.python)
        _link(tree, made.python, interpreter)
        require_machine(tree, machine)
        digest = content(tree)
        (tree / MARK).write_text(digest + "\n")
        part = Path(name) / "archive"
        _pack(tree, part)
        target = folder / f"environment-{machine}-{digest[:12]}.tar.gz"
        part.replace(target)
    known.write_text(target.name)
    return target


def _lock(path: Path) -> str:
    """The lock file without what is not shipped."""
    packages = re.split(r"\n(?=\S)", path.read_text())
    return "\n".join(p for p in packages if p.partition("==")[0] not in NOT_SHIPPED) + "\n"


def _install(lock: str, site: Path, machine: str, python: str) -> None:
    platforms = [f"manylinux_2_{k}_{machine}" for k in range(GLIBC, 16, -1)] + [f"manylinux2014_{machine}"]
    with tempfile.NamedTemporaryFile("w", suffix=".lock") as file:
        file.write(lock)
        file.flush()
        said = subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "--require-hashes",
             "--only-binary=:all:", *(f"--no-binary={name}" for name in NO_WHEEL), "--implementation=cp", f"--python-version={python}",
             *(f"--platform={p}" for p in platforms), "--target", str(site), "--requirement", file.name],
            capture_output=True, text=True,
        )  # fmt: skip
    if said.returncode:
        raise InputError(f"the packages of {machine}, Python {python} could not be had: {said.stderr.strip().splitlines()[-1]}")
    for path in sorted((site / "bin").glob("*")):  # programs with this machine's Python in their first line
        path.unlink()


def _link(tree: Path, python: str, interpreter: str) -> None:
    (tree / "bin").mkdir()
    (tree / "bin" / "python").symlink_to(interpreter)
    for name in ("python3", f"python{python}"):
        (tree / "bin" / name).symlink_to("python")
    (tree / "pyvenv.cfg").write_text(f"home = {Path(interpreter).parent}\ninclude-system-site-packages = false\nversion = {python}\n")


def require_machine(tree: Path, machine: str) -> None:
    """Refuse compiled files of another processor."""
    wrong, found = [], 0
    for path in tree.rglob("*.so*"):
        with open(path, "rb") as file:
            head = file.read(20)
        if head[:4] == b"\x7fELF":
            found += 1
            wrong += [path.name] if int.from_bytes(head[18:20], "little") != ELF[machine] else []
    if wrong or not found:
        raise InputError(f"not all compiled files are of {machine}: {', '.join(sorted(wrong)[:5]) or 'there are none'}")


def content(tree: Path) -> str:
    """The hash of all files: names, bytes, where links lead."""
    digest = hashlib.sha256()
    for path in _files(tree):
        what = os.readlink(path).encode() if path.is_symlink() else hashlib.sha256(path.read_bytes()).digest()
        digest.update(str(path.relative_to(tree)).encode() + b"\0" + what + b"\0")
    return digest.hexdigest()


def _files(tree: Path) -> list[Path]:
    return sorted((p for p in tree.rglob("*") if p.is_symlink() or p.is_file()), key=lambda p: str(p.relative_to(tree)))


def _pack(tree: Path, target: Path) -> None:
    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = entry.mtime = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.mode & 0o100 else 0o644
        return entry

    with (
        open(target, "wb") as raw,
        gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for path in _files(tree):
            archive.add(path, str(path.relative_to(tree)), filter=plain)


if __name__ == "__main__":
    archive = build(cluster.load(sys.argv[1] if len(sys.argv) > 1 else "debug"))
    print(f"{archive} ({archive.stat().st_size / 1e6:.0f} MB)", file=sys.stderr)
