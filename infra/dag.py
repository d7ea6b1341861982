"""The jobs of a tier and what comes after what, declared once: the demos, a cluster of this machine and EMR run these.

A flag's value in braces is a field of ``Where``; a step ``when`` a field is given belongs to those runs only.
"""

import shlex
from dataclasses import dataclass, fields

from lib.errors import ConfigError

TABLES = ("--tier", "{tier}", "--root", "{root}", "--dataset", "{dataset}")
MOSAIC = ("--frames", "{frames}", "--recipe", "{recipe}", "--root", "{root}", "--dataset", "{dataset}")


@dataclass(frozen=True)
class Where:
    """Where a run's things are, and what it makes: a tier's data set, or a recipe's mosaic."""

    root: str
    dataset: str
    tier: str = ""
    survey: str = ""
    simulated: str = ""  # bricks to simulate first
    bricks: str = ""  # a folder that the needed bricks are copied to, and read from
    frames: str = ""
    recipe: str = ""

    @property
    def coadds(self) -> str:
        return self.bricks or self.survey


@dataclass(frozen=True)
class Step:
    """A job, those that it comes after, its flags."""

    job: str
    after: tuple[str, ...]
    flags: tuple[str, ...]
    when: str = "root"
    again: tuple[str, ...] = ("--replace",)  # how it is told to make anew what was made otherwise


STEPS = (
    Step("survey", (), ("--bricks", "{simulated}", "--out", "{survey}"), when="simulated"),
    Step("parent", ("survey",), ("--survey", "{survey}", *TABLES), when="tier"),
    Step("manifest", ("parent",), TABLES, when="tier"),
    Step("cache", ("manifest",), ("--source", "{survey}", "--survey", "{bricks}", *TABLES), when="bricks"),
    Step("inject", ("manifest", "cache"), ("--survey", "{coadds}", *TABLES), when="tier"),
    Step("validation", ("inject",), TABLES, when="tier", again=()),
    Step("select", ("validation",), TABLES, when="tier"),
    Step("tiles", (), MOSAIC, when="recipe"),
    Step("coadd", ("tiles",), MOSAIC, when="recipe"),
    Step("validation.mosaic", ("coadd",), MOSAIC, when="recipe", again=()),
)


def steps(where: Where, steps: tuple[Step, ...] = STEPS) -> list[Step]:
    """Those of a run, each after all that it waits for, and waiting for none that is not there."""
    if bool(where.tier) == bool(where.recipe):
        raise ConfigError(f"a run makes a tier or a recipe, got tier {where.tier!r} and recipe {where.recipe!r}")
    if missing := [name for name in (("survey",) if where.tier else ("frames",)) if not getattr(where, name)]:
        raise ConfigError(f"a run of {where.tier or where.recipe} wants --{missing[0]}")
    found: list[Step] = []
    for step in steps:
        if getattr(where, step.when):
            after = tuple(name for name in step.after if any(s.job == name for s in found))
            found.append(Step(step.job, after, step.flags, step.when, step.again))
    return found


def argv(step: Step, where: Where, replace: bool = False) -> list[str]:
    """The job and its flags, as ``submit_main.py`` takes them."""
    values = {f.name: getattr(where, f.name) for f in fields(where)} | {"coadds": where.coadds}
    return [step.job, *(flag.format(**values) for flag in step.flags), *(step.again if replace else ())]


def lines(where: Where) -> list[str]:
    """A dry run: each step, what it waits for, its command."""
    return [
        f"{step.job:18} after {', '.join(step.after) or 'nothing':18} {shlex.join(argv(step, where))}"
        for step in steps(where)
    ]  # fmt: skip
