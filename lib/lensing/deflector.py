"""The lens models a scene may hold.  One is two loops over float32 arrays, and a row of numbers that only they read:

``deflect(row, x, y, ax, ay, work)``, and ``spread(row, reach, shear, x, y, out)``, a bound the renderer divides its cells by.
To add one, write the two loops and its ``rows``, and name it here.  The renderer knows this module only.
"""

from lib import jit
from lib.lensing import epl, sie

SIE, EPL = 0, 1


@jit.simd()
def deflect(kind, p, x, y, ax, ay, work):
    if kind == SIE:
        sie.deflect_all(p, x, y, ax, ay, work)
    else:
        epl.deflect(p, x, y, ax, ay, work)


@jit.simd()
def spread(kind, p, reach, shear, x, y, out):
    if kind == SIE:
        sie.spread(p, reach, shear, x, y, out)
    else:
        epl.spread(p, reach, shear, x, y, out)
