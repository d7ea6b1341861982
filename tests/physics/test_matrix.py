"""Small products against numpy's, in float64."""

import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.imaging import matrix


@numba.njit(error_model="numpy")  # not from a cache: it would not see that the product has changed
def times(a, b, out, rows, inner, columns):
    matrix.product(a, b, out, rows, inner, columns)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 50), st.integers(matrix.LEAST, 70), st.integers(0, 9), st.integers(0, 2**32 - 1))
def test_a_product_is_numpys_and_writes_nothing_else(blocks, inner, columns, beyond, seed):
    rng, rows = np.random.default_rng(seed), blocks * matrix.ROWS
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, inner + beyond), (inner, columns + beyond)))
    out = np.full((rows + 2, columns + beyond), np.float32(7.0))
    times(a, b, out, rows, inner, columns)
    exact, size = (f(a[:, :inner]).astype(float) @ f(b[:, :columns]).astype(float) for f in (np.asarray, np.abs))
    assert (np.abs(out[:rows, :columns] - exact) <= 6e-8 * (inner + 1) * size).all()
    assert (out[rows:] == 7.0).all() and (out[:, columns:] == 7.0).all()


def test_bits_depend_on_neither_the_place_nor_the_rest():
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((16, 40)).astype(np.float32), rng.standard_normal((40, 71)).astype(np.float32)
    whole, part = np.zeros((16, 71), np.float32), np.zeros((16, 71), np.float32)
    times(a, b, whole, 16, 40, 71)
    times(a[8:].copy(), b[:, 5:].copy(), part, 8, 40, 33)
    assert (part[:8, :33] == whole[8:, 5:38]).all()
