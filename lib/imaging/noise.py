"""Noise that injected light brings along."""

import numpy as np


def poisson(light, gain, rng):
    """Noise of the electrons of ``light`` (nanomaggies, any shape): mean 0, variance light / gain.

    ``gain`` is in electrons a nanomaggy.  Negative ringing of a PSF's wings carries no electrons.
    """
    electrons = np.clip(np.asarray(light, float), 0.0, None) * gain
    return (rng.poisson(electrons) - electrons) / gain


def raise_variance(invvar, light, gain):
    """``1/invvar' = 1/invvar + light/gain``; pixels with invvar 0 stay 0."""
    return invvar / (1.0 + invvar * np.clip(light, 0.0, None) / gain)
