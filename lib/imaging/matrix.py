"""Products of small float32 matrices, held in registers: a stamp's transforms are too small for a BLAS to be fast at.

Eight rows times one vector of columns are summed in registers over the whole inner dimension, so memory is read once and written
once.  The order of additions is the inner dimension's: a product's bits are the same in every batch and on any thread.
"""

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lib import jit

ROWS = 8  # of a block: as many sums as hide the latency of one


def _lanes() -> int:
    """float32 in a vector register of this machine."""
    features = llvmlite.binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


LANES = _lanes()
FUSED = ("contract",)  # one rounding for a product and its sum, where the machine can
LEAST = 16  # columns of a product: a vector of the widest machine


@intrinsic
def _block(typing, a, b, out, row, column, inner):
    """``out[row : row + ROWS, column : column + LANES] = a[row : row + ROWS, :inner] @ b[:inner, column : column + LANES]``."""

    def generate(context, builder, signature, args):
        vector, byte = ir.VectorType(ir.FloatType(), LANES), ir.IntType(8).as_pointer()
        arrays = [context.make_array(t)(context, builder, v) for t, v in zip(signature.args[:3], args[:3], strict=True)]
        (a_data, a_row), (b_data, b_row), (o_data, o_row) = [
            (builder.bitcast(v.data, byte), cgutils.unpack_tuple(builder, v.strides)[0]) for v in arrays
        ]
        i, j, length = args[3:]
        four = ir.Constant(i.type, 4)
        offset = builder.mul(j, four)

        def rows(data, stride):
            return [builder.gep(data, [builder.mul(builder.add(i, ir.Constant(i.type, r)), stride)]) for r in range(ROWS)]

        sums = [cgutils.alloca_once(builder, vector) for _ in range(ROWS)]
        for s in sums:
            builder.store(ir.Constant(vector, [0.0] * LANES), s)
        a_rows, b_first = rows(a_data, a_row), builder.gep(b_data, [offset])
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        with cgutils.for_range(builder, length) as loop:
            at = builder.bitcast(builder.gep(b_first, [builder.mul(loop.index, b_row)]), vector.as_pointer())
            right = builder.load(at, align=4)
            for s, a_at in zip(sums, a_rows, strict=True):
                one = builder.load(builder.bitcast(builder.gep(a_at, [builder.mul(loop.index, four)]), ir.FloatType().as_pointer()))
                first = builder.insert_element(ir.Constant(vector, ir.Undefined), one, ir.Constant(ir.IntType(32), 0))
                left = builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), lanes)
                builder.store(builder.fadd(builder.load(s), builder.fmul(left, right, flags=FUSED), flags=FUSED), s)
        for s, o_at in zip(sums, rows(o_data, o_row), strict=True):
            builder.store(builder.load(s), builder.bitcast(builder.gep(o_at, [offset]), vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(a, b, out, types.intp, types.intp, types.intp), generate


@jit.plain()
def product(a, b, out, rows, inner, columns):
    """``out[:rows, :columns] = a[:rows, :inner] @ b[:inner, :columns]``; rows a multiple of ``ROWS``, columns ``LEAST`` or more.

    The arrays are 2-d float32 whose rows are contiguous.  Columns that are no multiple of a vector are filled from the end: what is written
    twice is written alike.
    """
    for j in range(0, columns, LANES):
        for i in range(0, rows, ROWS):
            _block(a, b, out, i, min(j, columns - LANES), inner)  # type: ignore[call-arg]  # numba gives the first
