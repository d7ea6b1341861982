"""How much iron, and how Spark is set on it: ``load("train")`` reads ``train.toml`` into frozen dataclasses.

What the data are is said in ``lib/tiers``; where things are, in the flags.  Every Spark setting says why.
"""

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from lib import config
from lib.errors import ConfigError

MODES = ("ec2", "serverless")
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}  # as EMR says it, as wheels and the kernel say it
SHARED = "spark.toml"
SIZES = (1, 2, 4, 8, 16)  # vCPUs of a worker of EMR Serverless


@dataclass(frozen=True)
class Setting:
    """One of Spark's, and why it is not left as it was."""

    key: str
    value: str
    why: str

    def __post_init__(self):
        if not self.why.strip():
            raise ValueError(f"{self.key} wants a reason (why)")
        if not all(c.isascii() and c.isprintable() and c not in " \"'\\" for c in self.key + self.value):
            raise ValueError(f"{self.key}: blanks, quotes and backslashes would be cut apart on their way to Spark, got {self.value!r}")


ONCE = Setting(
    "spark.yarn.maxAppAttempts", "1", "a job that ends with an error (a NO-GO is one) has said why: submit goes on with what is whole"
)


@dataclass(frozen=True)
class Executor:
    """An executor's cores and memory: the JVM's, and beside it (``overhead_gb``) that of the Python workers, one a core; the driver's."""

    cores: int
    memory_gb: int
    overhead_gb: int
    driver_memory_gb: int
    driver_overhead_gb: int

    def settings(self) -> tuple[Setting, ...]:
        return (
            Setting("spark.executor.cores", str(self.cores), "one Python worker a core"),
            Setting("spark.executor.memory", f"{self.memory_gb}g", "the JVM carries manifest rows and records, no pixels"),
            Setting(
                "spark.executor.memoryOverhead", f"{self.overhead_gb}g", "the Python workers: 0.7 GB each were measured (bench inject)"
            ),
            Setting("spark.driver.memory", f"{self.driver_memory_gb}g", "one JVM with the records of all chunks"),
            Setting("spark.driver.memoryOverhead", f"{self.driver_overhead_gb}g", "the driver's Python: decisions of ten million rows"),
        )


@dataclass(frozen=True)
class Fleet:
    """Machines of one kind of node: so many, of whichever of these types there are; all are of one size."""

    types: dict[str, tuple[str, ...]]
    on_demand: int = 0
    spot: int = 0

    def __post_init__(self):
        if unknown := sorted(self.types.keys() - MACHINES.keys()):
            raise ValueError(f"types: unknown architecture {', '.join(unknown)}; known: {', '.join(MACHINES)}")
        if min(self.on_demand, self.spot) < 0 or not self.on_demand + self.spot:
            raise ValueError(f"on_demand and spot count machines, one at least, got {self.on_demand} and {self.spot}")


@dataclass(frozen=True)
class Ec2:
    """A transient cluster: it ends with its last step, or when it is idle."""

    primary: Fleet
    core: Fleet
    vcpus: int  # of a core or task machine
    machines_max: int  # of core and task, that managed scaling may go to
    task: Fleet | None = None
    idle_minutes: int = 15
    step_concurrency: int = 1
    spot_timeout_minutes: int = 10  # then the rest is taken on demand
    disk_gb: int = 100

    def __post_init__(self):
        if not 1 <= self.step_concurrency <= 256:
            raise ValueError(f"step_concurrency must be in 1 to 256, got {self.step_concurrency}")
        if self.machines_max < self.machines:
            raise ValueError(f"machines_max must be at least the {self.machines} machines that it starts with, got {self.machines_max}")

    @property
    def fleets(self) -> tuple[Fleet, ...]:
        return (self.core, self.task) if self.task else (self.core,)

    @property
    def machines(self) -> int:
        return sum(f.on_demand + f.spot for f in self.fleets)


@dataclass(frozen=True)
class Serverless:
    """An application that stops by itself, and the most that its workers may be together."""

    cores_max: int
    memory_gb_max: int
    disk_gb: int = 60
    idle_minutes: int = 5


@dataclass(frozen=True)
class Cluster:
    """A tier's machines."""

    name: str
    mode: str
    release: str
    python: str
    interpreter: str  # on the machines; the archive's Python is a link to it
    architecture: str
    executor: Executor
    clean: bool = False  # refuse code that is in no commit
    gpu: bool = False
    timeout_hours: int = 12
    ec2: Ec2 | None = None
    serverless: Serverless | None = None
    spark: tuple[Setting, ...] = field(default=())

    def __post_init__(self):
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if getattr(self, self.mode) is None:
            raise ValueError(f"mode {self.mode} wants a table [{self.mode}]")
        if self.mode == "serverless" and self.executor.cores not in SIZES:
            raise ValueError(f"a worker of EMR Serverless has {', '.join(map(str, SIZES))} cores, got {self.executor.cores}")
        if self.architecture not in MACHINES:
            raise ValueError(f"architecture must be one of {', '.join(MACHINES)}, got {self.architecture!r}")
        if not self.release.startswith("emr-"):
            raise ValueError(f"release is a label of EMR, such as emr-spark-8.0.0, got {self.release!r}")
        if self.gpu and (self.mode == "serverless" or self.architecture != "x86_64"):
            raise ValueError("gpu wants mode ec2 and architecture x86_64: EMR Serverless has no GPUs, and g5, g6 are x86_64")
        for fleet in (self.ec2.primary, *self.ec2.fleets) if self.ec2 else ():
            if not fleet.types.get(self.architecture):
                raise ValueError(f"a fleet has no types of architecture {self.architecture}")

    @property
    def cores(self) -> int:
        """Cores of the workers when all are there."""
        if self.mode == "ec2" and self.ec2:
            return self.ec2.machines * self.ec2.vcpus
        assert self.serverless is not None
        return self.serverless.cores_max

    def settings(self) -> dict[str, Setting]:
        """All of Spark's settings: the shared ones, the executor's, the tier's own, the later ones counting."""
        of_yarn = (ONCE,) if self.mode == "ec2" else ()
        return {s.key: s for s in (*_shared(), *self.executor.settings(), *of_yarn, *self.spark)}


@dataclass(frozen=True)
class _Shared:
    spark: tuple[Setting, ...]


def _shared() -> tuple[Setting, ...]:
    return config.build(_Shared, tomllib.loads((resources.files(__package__) / SHARED).read_text())).spark


def names() -> list[str]:
    """Clusters that ship with arcmill."""
    return sorted(p.name[:-5] for p in resources.files(__package__).iterdir() if p.name.endswith(".toml") and p.name != SHARED)


def load(name: str) -> Cluster:
    """A shipped cluster by its name, or any ``.toml`` file by its path."""
    if name in names():
        text = (resources.files(__package__) / f"{name}.toml").read_text()
    elif name.endswith(".toml") and Path(name).is_file():
        text = Path(name).read_text()
    else:
        raise ConfigError(
            f"unknown cluster {name!r}{config.suggestion(name, names())}; known: {', '.join(names())}, or the path of a .toml file"
        )
    try:
        return config.build(Cluster, tomllib.loads(text))
    except (ConfigError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"cluster {name}: {error}") from error
