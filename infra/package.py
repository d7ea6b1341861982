"""The code as ``--py-files`` takes it: jobs, lib and validation in a zip; the same sources make the same bytes.

python -m infra.package     dist/arcmill.zip
"""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lib.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
EPOCH = (1980, 1, 1, 0, 0, 0)
TOLD = 5  # files that a refusal names


def build(target: Path, more: Mapping[str, bytes] | None = None) -> Path:
    """The zip, with ``more`` files at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in ("jobs", "lib", "validation"):
            for path in sorted((ROOT / package).rglob("*")):
                if path.suffix in (".py", ".toml", ".html"):
                    _add(archive, str(path.relative_to(ROOT)), path.read_bytes())
        for name, content in sorted((more or {}).items()):
            _add(archive, name, content)
    part.replace(target)
    return target


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def named(path: Path) -> Path:
    """The file under a name with the hash of its content: another content is another file."""
    target = path.with_name(f"{path.stem}-{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}{path.suffix}")
    return path.replace(target)


def require_clean(root: Path = ROOT) -> None:
    """Refuse code that is in no commit: what was made by it could not be found again."""
    said = subprocess.run(["git", "-C", str(root), "status", "--porcelain"], capture_output=True, text=True)
    if said.returncode:
        raise ConfigError(f"{root} is no git checkout: this cluster takes code of a commit only")
    if changed := [line[3:] for line in said.stdout.splitlines()]:
        more = f" and {len(changed) - TOLD} more" if len(changed) > TOLD else ""
        raise ConfigError(f"this cluster takes code of a commit only (clean = true); not committed: {', '.join(changed[:TOLD])}{more}")


if __name__ == "__main__":
    made = build(ROOT / "dist" / "arcmill.zip")
    print(f"{made} ({made.stat().st_size / 1e3:.0f} kB)", file=sys.stderr)
