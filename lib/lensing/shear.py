"""External shear about the lens centre: ``alpha = [[g1, g2], [g2, -g1]] theta``."""

import numpy as np


def components(shear, phi):
    """``(g1, g2) = shear (cos 2 phi, sin 2 phi)``, phi in radians anticlockwise from x.

    >>> g1, g2 = components(0.05, 0.0)  # images are pulled apart along x
    >>> float(g1), float(g2)
    (0.05, 0.0)
    """
    return shear * np.cos(2.0 * phi), shear * np.sin(2.0 * phi)


def deflection(x, y, g1, g2):
    """Deflection (ax, ay) at (x, y)."""
    return g1 * x + g2 * y, g2 * x - g1 * y
