"""A copy of the tiny data set for every test that breaks something in it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa
import pytest

from lib import tiers
from lib.store import Dataset
from tests import tables


@dataclass
class Broken:
    """A copy of the tiny data set, to be broken."""

    dataset: Dataset
    patch: pytest.MonkeyPatch

    def rows(self, table: str, change: Callable[[pa.Table], pa.Table]) -> None:
        """Rewrite a table: ``change`` takes and returns all its rows; schema and footer are kept."""
        tables.rewrite(self.dataset, table, change)

    def column(self, table: str, name: str, values: Callable[[dict], object]) -> None:
        """Rewrite a column: ``values`` takes a row and returns what it holds from now on."""
        self.rows(table, lambda rows: put(rows, name, [values(row) for row in rows.to_pylist()]))


def put(rows: pa.Table, name: str, values) -> pa.Table:
    field = rows.schema.field(name)
    return rows.set_column(rows.schema.names.index(name), field, pa.array(values, field.type))


def with_gates(tier: tiers.Tier, **thresholds) -> tiers.Tier:
    return replace(tier, gates=replace(tier.gates, **thresholds))


@pytest.fixture(scope="module")
def tier(tiny_tier):
    """The tiny tier; its few rows are enough to judge the mean flux by theta_e."""
    return with_gates(tiers.load(str(tiny_tier)), flux_bin_rows_min=20)


@pytest.fixture
def broken(tiny_dataset, tmp_path, monkeypatch):
    shutil.copytree(tables.root(tiny_dataset), tmp_path / "root", copy_function=os.link)  # what is broken is a new file
    return Broken(Dataset.at(str(tmp_path / "root"), tiny_dataset.name, tiny_dataset.tier), monkeypatch)
