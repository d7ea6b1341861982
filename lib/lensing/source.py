"""The source models a scene may hold: two loops over float32 arrays each, as ``lib.lensing.deflector`` has for lenses.

``shine(row, x, y, out)`` is the brightness of unit flux; ``order`` says how a cell is to be integrated.
"""

from lib import jit
from lib.lensing import raster, sersic

SERSIC, RASTER = 0, 1


@jit.simd()
def shine(kind, p, pixels, shape, x, y, out):
    if kind == SERSIC:
        sersic.shine(p, x, y, out)
    else:
        raster.shine(p, pixels, shape, x, y, out)


@jit.simd()
def order(kind, p, shape, x, y, spread, area, phase, tolerance, negligible, bound, points):
    if kind == SERSIC:
        sersic.order(p, x, y, spread, area, phase, tolerance, negligible, bound, points)
    else:
        raster.order(p, shape, x, y, spread, area, phase, tolerance, bound, points)
