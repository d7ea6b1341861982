"""The set that is studied, made by the jobs themselves: a simulated sky, injections with both kinds of controls, and a second round with hard negatives."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs import survey
from jobs.__main__ import main as job
from lib.errors import InputError
from lib.store import Dataset
from lib.survey import synthetic

TIER = str(Path(__file__).with_name("study.toml"))
LRG_PER_DEG2 = 6000.0  # near six times the demo's, so that a few bricks have thousands of hosts
RATE = 0.05  # share of the training controls that are mined: few thousand of them, so more than a survey would take
FIRST, SECOND = "study", "hard"


def _run(*argv: str) -> None:
    if code := job(list(argv)):
        raise InputError(f"the job {argv[0]} ended with {code}")


def _at(root: Path, dataset: str) -> list[str]:
    return ["--tier", TIER, "--root", str(root), "--dataset", dataset, "--replace"]


def first(root: Path, bricks: int, seed: int) -> Dataset:
    """Injections, each with a paired and an unpaired control."""
    sky = str(root / "survey")
    survey.make(synthetic.SurveySpec(bricks=bricks, seed=seed, lrg_per_deg2=LRG_PER_DEG2), sky, replace=True)
    _run("parent", "--survey", sky, *_at(root, FIRST))
    _run("manifest", *_at(root, FIRST))
    _run("inject", "--survey", sky, *_at(root, FIRST))
    return Dataset.at(root, FIRST, "study")


def second(root: Path, scored: dict) -> Dataset:
    """The same tasks, and on top the galaxies that a network took for lenses, and those that look like lenses by what they are."""
    sky, scores = str(root / "survey"), root / "mined.parquet"
    pq.write_table(pa.table(scored), scores)
    wanted = ["--scores", str(scores), "--false-positive-rate", str(RATE), "--morphology", str(root / "survey" / "truth")]
    _run("negatives", *wanted, *_at(root, FIRST))
    _run("parent", "--survey", sky, *_at(root, SECOND))
    _run("manifest", "--negatives", str(root / FIRST), *_at(root, SECOND))
    _run("inject", "--survey", sky, *_at(root, SECOND))
    return Dataset.at(root, SECOND, "study")
