"""Mosaics with one command: frames of the embedded survey by four recipes, judged, and a gallery to look at.

With ``--data`` a folder of real frames (each in a folder of its own) is made, too.  The last line printed is JSON.
"""

import argparse
import contextlib
import html
import io
import json
import sys
import time
from pathlib import Path

from infra import dag
from infra.demo import _room
from jobs.__main__ import main as job
from lib import runs, store
from lib.errors import OK
from lib.frames import pyramid, recipe, simulated
from lib.place import at
from lib.survey.synthetic.spec import SurveySpec
from validation.mosaic import main as validation

REAL = {
    "mosaics/2mass-m17": ("calibrated", "2MASS Ks, M17: eight tiles of four scans"),
    "mosaics/seestar-ngc7023": ("classic", "Seestar S50, NGC 7023: three one-shot-colour frames"),
    "ccds/testcase3": ("calibrated", "DECam g, r, z: CCD cutouts of one place, with weights and masks"),
    "ccds/mzlsbass": ("calibrated", "90Prime and Mosaic-3: two cameras, two pixel scales"),
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("python -m infra.mosaic_demo", description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--out", default="out/mosaic")
    parser.add_argument("--data", help="folder of real frames: 2MASS, DECam, Seestar, as far as they are there")
    args = parser.parse_args(argv)
    began, out = time.monotonic(), Path(args.out).absolute()
    if problem := _room(out):
        print(f"mosaic-demo: {problem}", file=sys.stderr)
        return 3
    spec = SurveySpec(bricks=1, seed=1)
    filters, colour = out / "frames" / "filters", out / "frames" / "colour"
    if not (colour / "truth.json").is_file():
        images, plane = simulated.sky(spec)
        simulated.write(filters, spec, simulated.Camera(), images, plane)
        simulated.write(colour, spec, simulated.Camera(colour=True, rows=2, frames_each=6), images, plane)
    sets = [
        (
            filters,
            "survey",
            "simulated",
            "the embedded survey: 27 frames in g, r, z, turned, distorted (SIP, TPV), with cosmic rays and a trail",
        )
    ]
    sets += [
        (colour, name, "colour", f"one-shot-colour frames of the embedded survey, recipe {name}") for name in ("classic", "sds", "grid")
    ]
    data = Path(args.data) if args.data else None
    for name, (which, about) in REAL.items():
        if data and (data / name).is_dir():
            sets.append((data / name, which, name.split("/")[-1], about))
    told, failed = [], 0
    for frames, which, dataset, about in sets:
        where, printed = dag.Where(str(out), dataset, frames=str(frames), recipe=which), io.StringIO()
        for step in dag.steps(where):
            name, *flags = dag.argv(step, where, replace=True)
            judges = name == "validation.mosaic"
            with contextlib.redirect_stdout(printed) if judges else contextlib.nullcontext():
                code = validation(flags) if judges else job([name, *flags])
            if code > (1 if judges else 0):
                return code
        failed += code
        told.append((out, which, dataset, about, json.loads(printed.getvalue().splitlines()[-1])))
    page = gallery(told, out)
    verdict = "NO-GO" if failed else "GO"
    print(f"\n  {verdict}  in {time.monotonic() - began:.0f} s; look at the gallery: {page}\n")
    print(json.dumps({"verdict": verdict, "gallery": str(page), "mosaics": {f"{d}/{w}": v["gates"] for _, w, d, _, v in told}}), flush=True)
    return 1 if failed else 0


def gallery(told: list, out: Path) -> Path:
    """A page with a picture of each mosaic, what its gates measured, and a viewer each."""
    parts = []
    for root, which, dataset, about, verdict in told:
        where = store.Dataset.at(str(root), dataset, recipe.load(which).name)
        rows = [r for r in runs.read(where, "coadds").to_pylist() if r["level_name"] == "polished" and r["status"] == OK]
        gates = ", ".join(f"{n.removeprefix('mosaic_')} {o}{'' if m is None else f' {m:.3g}'}" for n, (o, m) in verdict["gates"].items())
        parts.append(f"<h2>{html.escape(about)}</h2><p>{verdict['verdict']}: {html.escape(gates)}</p>")
        for band in sorted({r["band"] for r in rows}):
            mine = [r for r in rows if r["band"] == band]
            folder = out / "viewer" / f"{dataset}-{which}-{band or 'all'}"
            view = pyramid.written(at(str(out / dataset)), mine, folder, f"{dataset} {band}")
            size = sum(r["ny"] * r["nx"] for r in mine)
            parts.append(
                f'<figure><a href="{view.relative_to(out)}"><img src="{(Path(dataset) / max(mine, key=lambda r: r["bytes"])["preview"])}"></a>'
                f"<figcaption>{html.escape(band or 'no filter')}: {f'{size / 1e6:.1f} Mpx' if size > 1e5 else f'{size} px'}, tiles: {len(mine)}, {mine[0]['inputs']} images, noise {mine[0]['noise']:.3g} "
                f"{html.escape(mine[0]['unit'])}</figcaption></figure>"
            )
    style = "body{font:15px system-ui;margin:2em;background:#181818;color:#ddd}img{max-width:30em;max-height:30em;background:#333}figure{display:inline-block;margin:1em}"
    page = out / "gallery.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><title>arcmill mosaics</title><style>{style}</style><h1>Mosaics</h1><p>Seams in the noise of a pixel, places in px.</p>'
        + "\n".join(parts)
        + "\n"
    )
    return page


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
