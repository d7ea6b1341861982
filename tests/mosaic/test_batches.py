"""How frames are grouped: a function of the frames alone."""

import numpy as np
import pytest

from lib.frames import plan, recipe
from lib.mosaic import lattice
from lib.mosaic.lattice import Lattice


def items(number, apart=0, shape=(100, 100)):
    """Frames in a row, ``apart`` px from each other, and a lattice around them."""
    found = []
    for k in range(number):
        wcs = lattice.tangent(10.0, 20.0, 2.0)
        wcs.wcs.crpix = [50.5 - apart * k, 50.5]
        wcs.wcs.set()
        found.append(plan.Item(f"{k:03d}", wcs, shape))
    return lattice.around([(i.wcs, i.shape) for i in found]), found


def sizes(number, apart=0, **settings):
    grid, found = items(number, apart)
    return [len(names) for _, _, names in plan._batch(grid, found, recipe.Lattice(**settings))]


def test_batches_close_when_they_cover_or_at_ten_and_a_short_tail_joins():
    assert sizes(13) == [5, 8]  # frames on top of each other: five cover everything, and three are too few
    assert sizes(10) == [5, 5]
    assert sizes(25, apart=90) == [10, 10, 5]  # side by side: none covers, ten are the most
    assert sizes(24, apart=90) == [10, 14]
    assert sizes(3) == [3]
    assert sizes(12, batch_least=4, batch_most=4) == [4, 4, 4]


def test_fields_are_frames_that_lie_together():
    grid, found = items(9, apart=300)
    together = [names for _, _, names in plan._field(grid, found, recipe.Lattice(field_deg=0.05))]
    assert [len(n) for n in together] == [1] * 9
    assert [len(n) for _, _, n in plan._field(grid, found, recipe.Lattice(field_deg=0.2))] == [9]  # each is near to the next


@pytest.mark.parametrize("shape", [(1000, 1500), (300, 2000), (700, 701)])
def test_cells_cover_the_lattice_and_none_is_a_sliver(shape):
    grid = Lattice(lattice.tangent(10.0, 20.0, 2.0), shape)
    whole = plan.Item("a", grid.wcs, shape)
    seen = np.zeros(shape, int)
    for _, window, names in plan._cell(grid, [whole], recipe.Lattice(cell_pix=400, cell_overlap=0.25)):
        assert names == ["a"] and window.shape == (min(400, shape[0]), min(400, shape[1]))
        seen[window.y0 : window.y1, window.x0 : window.x1] += 1
    assert seen.min() >= 1


def test_windows_cover_the_lattice_once():
    grid = Lattice(lattice.tangent(10.0, 20.0, 2.0), (700, 900))
    seen = np.zeros(grid.shape, int)
    for window in grid.windows(256):
        seen[window.y0 : window.y1, window.x0 : window.x1] += 1
    assert (seen == 1).all()
