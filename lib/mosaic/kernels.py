"""Interpolation formulas: one definition, called by the compiled loops on numbers and on a GPU on whole arrays.

Both kernels are separable and their weights add up to 1.  Lanczos-3, ``sinc(x) sinc(x/3)`` over its sum, is even about the middle of a pixel
up to order: in ``u = f - 1/2`` the weights of taps k and 5 - k are ``E(u**2) + u O(u**2)`` and ``E - u O``.  The polynomials are fitted
at Chebyshev nodes to 3e-7 of the exact weights (a test compares them): no table, no sine, no 0/0.
"""

import numpy as np

from lib import jit

BILINEAR, LANCZOS3 = "bilinear", "lanczos3"
KERNELS = (BILINEAR, LANCZOS3)
BORDER = 3  # px of NaN around an image in memory: what either kernel may reach over its edge
SUBPIXELS = 1 << 16  # positions are rounded to 1.5e-5 px, so that CPU and GPU take the same fraction
COVERED = 0.5  # of the bilinear weight must lie on good pixels
F = np.float32


@jit.plain()
def lanczos3(f):
    """The six weights, of the pixels at -2 ... 3, at a fraction ``f`` (float32) in [0, 1) past pixel 0."""
    u = f - F(0.5)
    s = u * u
    e0 = F(0.02445655) + s * (F(-0.08812573) + s * (F(-0.05685751) + s * (F(0.07806912) + s * (F(-0.02339061)))))
    o0 = u * (F(-0.06392437) + s * (F(0.30998852) + s * (F(-0.24173525) + s * (F(0.1112832) + s * (F(-0.05201058))))))
    e1 = F(-0.13586952) + s * (F(0.57076173) + s * (F(-0.11402476) + s * (F(0.02841519) + s * (F(-0.0354274)))))
    o1 = u * (F(0.18115933) + s * (F(-0.84150958) + s * (F(0.52534968) + s * (F(-0.26362158) + s * (F(0.12877276))))))
    e2 = F(0.61141298) + s * (F(-0.48263599) + s * (F(0.17088227) + s * (F(-0.10648431) + s * (F(0.05881801)))))
    o2 = u * (F(-1.33667128) + s * (F(1.54527757) + s * (F(-0.90949937) + s * (F(0.52322211) + s * (F(-0.25088585))))))
    return e0 + o0, e1 + o1, e2 + o2, e2 - o2, e1 - o1, e0 - o0


@jit.plain()
def cubic(a, b, c, d):
    """Coefficients of 1, t, t**2, t**3 of the cubic through values at -1, 0, 1 and 2."""
    c1 = -a / 3.0 - b / 2.0 + c - d / 6.0
    c2 = (a + c) / 2.0 - b
    c3 = (d - a) / 6.0 + (b - c) / 2.0
    return b, c1, c2, c3
