"""The embedded survey: a simulated DR10-south with the real one's files, one Spark task a brick."""

import dataclasses
import json
import shutil

import pyarrow as pa

from jobs import cli
from lib import config, place, runs, spark, store
from lib.errors import OutputError
from lib.survey import synthetic

BYTES_PER_BRICK = 120_000_000


def main(argv: list[str]) -> None:
    parser = cli.parser("survey", __doc__, tables=False)
    parser.add_argument("--bricks", type=cli.positive, default=4, help="how many bricks of 3600 x 3600 px")
    parser.add_argument("--out", required=True, help="folder to write the survey to")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replace", action="store_true", help="remove a survey that was simulated there with other settings or code")
    args = parser.parse_args(argv)
    make(synthetic.SurveySpec(bricks=args.bricks, seed=args.seed), args.out, args.replace)


def make(spec: synthetic.SurveySpec, out: str, replace: bool = False) -> None:
    """Simulate what is missing of a survey; a folder of another survey, or of anything else, is refused."""
    folder = store.local(out)
    mark, said = folder / "survey.json", json.loads(json.dumps(dataclasses.asdict(spec)))
    said["code"] = runs.code_version("lib.survey", "lib.lensing", "lib.imaging")
    if mark.is_file():
        before = json.loads(mark.read_text())
        changed = config.differences({**before, "bricks": 0}, {**said, "bricks": 0})
        if before["bricks"] > spec.bricks:
            changed.append(f"bricks: {before['bricks']} -> {spec.bricks}")
        if changed and not replace:
            raise OutputError(f"{folder} holds another survey ({'; '.join(changed)}): give another --out, or --replace")
        if changed:
            for name in ("survey.json", "coadd", "tractor", "sweep", "truth", *(p.name for p in folder.glob("survey-bricks*"))):
                shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink(missing_ok=True)
        elif before == said and (folder / "survey-bricks.fits.gz").is_file():
            cli.log.info("survey: unchanged, %d bricks in %s", spec.bricks, folder)
            return
    elif folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} holds other data: give another --out")
    store.write_json(mark, said | {"bricks": 0})  # ours from now on, whole when it says so
    store.require_space(place.at(folder), spec.bricks * BYTES_PER_BRICK)
    names = [brick.name for brick in synthetic.brick_list(spec)]
    session = spark.session("arcmill survey")
    frame = session.createDataFrame(pa.table({"brickname": names})).repartitionByRange(len(names), "brickname")

    def work(batches):
        for batch in batches:
            for name in batch["brickname"].to_pylist():
                made = synthetic.make_brick(spec, name, str(folder))
                yield pa.RecordBatch.from_pylist([{"brickname": name, "objects": int(made["objects"])}])

    with spark.progress(session, "survey"):
        made = frame.mapInArrow(work, "brickname string, objects long").collect()
    synthetic.finish(spec, str(folder))
    store.write_json(mark, said)
    cli.log.info("survey: %d bricks, %d objects in %s", len(made), sum(r["objects"] for r in made), folder)
