"""``dist/arcmill.zip``: jobs, lib and validation as ``--py-files`` takes them; the same sources make the same bytes."""

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EPOCH = (1980, 1, 1, 0, 0, 0)


def build(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in ("jobs", "lib", "validation"):
            for path in sorted((ROOT / package).rglob("*")):
                if path.suffix in (".py", ".toml", ".html"):
                    entry = zipfile.ZipInfo(str(path.relative_to(ROOT)), EPOCH)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(entry, path.read_bytes())
    part.replace(target)
    return target


if __name__ == "__main__":
    made = build(ROOT / "dist" / "arcmill.zip")
    print(f"{made} ({made.stat().st_size / 1e3:.0f} kB)", file=sys.stderr)
