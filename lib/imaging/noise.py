"""Noise that injected light brings along."""

import numpy as np

from lib import jit


def poisson(light, gain, rng):
    """Noise of the electrons of ``light`` (nanomaggies, any shape): mean 0, variance light / gain.

    ``gain`` is in electrons a nanomaggy.  Negative ringing of a PSF's wings carries no electrons.
    """
    electrons = np.clip(np.asarray(light, float), 0.0, None) * gain
    return (rng.poisson(electrons) - electrons) / gain


def raise_variance(invvar, light, gain):
    """``1/invvar' = 1/invvar + light/gain``; pixels with invvar 0 stay 0."""
    return invvar / (1.0 + invvar * np.clip(light, 0.0, None) / gain)


@jit.entry()
def _electrons(light, gain, out):
    for b in range(len(gain)):
        here, there = light[b].ravel(), out[b].ravel()
        for i in range(len(here)):
            there[i] = max(np.float64(here[i]), 0.0) * gain[b]


@jit.entry()
def _expose(image, invvar, light, gain, electrons, counts, seen, weight):
    for b in range(len(gain)):
        a, w, f, e, n = image[b].ravel(), invvar[b].ravel(), light[b].ravel(), electrons[b].ravel(), counts[b].ravel()
        a_out, w_out = seen[b].ravel(), weight[b].ravel()
        for i in range(len(a)):
            a_out[i] = np.float32(np.float64(a[i]) + np.float64(f[i]) + (n[i] - e[i]) / gain[b])
            w_out[i] = np.float32(w[i] / (1.0 + np.float64(w[i]) * max(np.float64(f[i]), 0.0) / gain[b]))


def expose(image, invvar, light, gain, rng):
    """(image, invvar) with ``light``, its ``poisson`` noise and its variance, (bands, ny, nx) float32; ``gain`` of each band."""
    electrons = np.empty(light.shape)
    _electrons(light, gain, electrons)
    seen, weight = np.empty_like(image), np.empty_like(image)
    _expose(image, invvar, light, gain, electrons, rng.poisson(electrons), seen, weight)
    return seen, weight
