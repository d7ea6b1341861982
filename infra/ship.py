"""What a run is shipped: the code, the environment, the entry and the bootstrap script, each under a name with its hash."""

import shutil
import sys
from dataclasses import astuple, dataclass
from pathlib import Path

from infra import environment, package, submit_main
from infra.cluster import Cluster
from lib import tiers
from lib.frames import recipe as recipes
from lib.place import Place

BOOTSTRAP = Path(__file__).with_name("bootstrap.sh")


@dataclass(frozen=True)
class Shipped:
    """Addresses: of this disk as they are made, of a bucket when they are put there."""

    code: str
    environment: str
    entry: str
    bootstrap: str


def own(tier: str, recipe: str = "") -> tuple[str, str, dict[str, bytes]]:
    """(tier, recipe, files that the code needs beside its own): a file of one's own goes along with the code, as the shipped ones do.

    What is neither shipped nor a file is an error.
    """
    names, more = [], {}
    for path, load, folder in ((tier, tiers.load, "lib/tiers"), (recipe, recipes.load, "lib/frames/recipes")):
        names.append(load(path).name if path else "")
        if path.endswith(".toml"):
            more[f"{folder}/{names[-1]}.toml"] = Path(path).read_bytes()
    return names[0], names[1], more


def made(cluster: Cluster, tier: str = "", recipe: str = "", folder: Path = package.ROOT / "dist", interpreter: str = "") -> Shipped:
    """The files, on this disk; the refusal of a tier that wants a commit and has none."""
    if cluster.clean:
        package.require_clean()
    folder.mkdir(parents=True, exist_ok=True)
    code = package.named(package.build(folder / "arcmill.zip", own(tier, recipe)[2]))
    entry, bootstrap = (package.named(Path(shutil.copyfile(path, folder / path.name))) for path in (Path(submit_main.__file__), BOOTSTRAP))
    archive = environment.build(cluster, interpreter=interpreter)
    return Shipped(*map(str, (code, archive, entry, bootstrap)))


def put(files: Shipped, where: Place) -> Shipped:
    """The files, in a bucket; those that are there are the same."""
    there = {f.name for f in where.files()}
    for path in map(Path, astuple(files)):
        if path.name not in there:
            print(f"to {where}: {path.name}, {path.stat().st_size / 1e6:.1f} MB", file=sys.stderr, flush=True)
            copy = path.with_name(f"{path.name}.sent")  # an upload takes the file away
            shutil.copyfile(path, copy)
            where.upload(copy, path.name)
    return addresses(files, str(where))


def addresses(files: Shipped, folder: str) -> Shipped:
    """Where the files are when they are put there."""
    return Shipped(*(f"{folder}/{Path(path).name}" for path in astuple(files)))
