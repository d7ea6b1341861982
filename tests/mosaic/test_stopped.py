"""A coadd whose driver is killed: the same command goes on, and nothing tells that it was ever stopped."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from jobs.__main__ import main
from tests.mosaic import files

ROOT = Path(__file__).parents[2]
TILES = 16
RECIPE = """
name = "cut"
[[level]]
name = "coadd"
kernel = "lanczos3"
rejection = "kappa_sigma"
[lattice]
tile_pix = 170
"""
OWN = ("path", "preview", "sha256", "seconds")  # a file holds its run's id and is named by its content; a time


def flags(tmp_path, root) -> list[str]:
    return ["--frames", str(tmp_path / "frames"), "--recipe", str(tmp_path / "cut.toml"), "--root", str(root), "--dataset", "set"]


def made(root) -> tuple[dict, dict]:
    """(rows of each table, bytes of each file of pixels), without the run's own id."""
    rows = {name: files.table(root, "cut", name) for name in ("overlaps", "normalisation", "coadds")}
    pixels = {}
    for row in rows["coadds"]:
        for name in filter(None, (row["path"], row["preview"])):
            run = name.split("run_id=")[1].split("/")[0]
            pixels[row["tile_id"], Path(name).suffix] = (root / "set" / name).read_bytes().replace(run.encode(), b"R" * len(run))
    plain = {name: sorted(({k: v for k, v in r.items() if k not in OWN} for r in of), key=str) for name, of in rows.items()}
    return plain, pixels


def fits_of(root) -> list[Path]:
    return list((root / "set").glob("pixels/*/*/*.fits"))


def test_a_killed_coadd_goes_on_and_its_tables_and_files_are_those_of_one_that_was_not(spark, tmp_path, caplog):
    files.write(tmp_path / "frames", files.small(bands=1))
    files.written(tmp_path / "cut.toml", RECIPE)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for root in (whole, stopped):
        assert main(["tiles", *flags(tmp_path, root)]) == 0
    assert main(["coadd", *flags(tmp_path, whole)]) == 0
    died = subprocess.Popen([sys.executable, "-m", "jobs", "coadd", *flags(tmp_path, stopped)], cwd=ROOT, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while len(fits_of(stopped)) < 3 and died.poll() is None and time.monotonic() < end:
        time.sleep(0.002)
    os.kill(died.pid, signal.SIGKILL)
    assert died.wait() == -signal.SIGKILL
    time.sleep(1.0)  # its workers end with it
    before = {path.name: path.stat().st_mtime_ns for path in fits_of(stopped)}
    assert 3 <= len(before) < TILES
    with caplog.at_level(logging.INFO):
        assert main(["coadd", *flags(tmp_path, stopped)]) == 0
    assert "goes on" in caplog.text
    after = {path.name: path.stat().st_mtime_ns for path in fits_of(stopped)}
    assert any(after.get(name) == at for name, at in before.items())  # what was made was not made again
    (tables, pixels), (again, same) = made(whole), made(stopped)
    assert len([key for key in pixels if key[1] == ".fits"]) == 2 * TILES
    assert tables == again
    assert pixels.keys() == same.keys() and [key for key in pixels if pixels[key] != same[key]] == []
