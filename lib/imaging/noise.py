"""Noise of an arc's own electrons, by counter: a function of its row's key, the pixel and the light there, in whatever batch it is made."""

import math

import numpy as np

from lib import jit

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
TRY = np.uint64(1 << 32)  # between the words of a pixel
MOST = 1e12  # electrons in a pixel; more are no light of a lens
FEW = 10.0  # electrons, below which a count is looked up in its distribution


@jit.plain()
def _mix(z):
    """The splitmix64 finaliser, as in ``lib.draws``."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@jit.plain()
def _word(key, at):
    """64 random bits of a key, ``at`` a place."""
    return _mix((key + GOLDEN) ^ _mix(at + GOLDEN))


@jit.plain()
def _few(mean, word):
    """A Poisson number of a small mean, by inversion of its distribution."""
    u = (np.float64(word >> np.uint64(11)) + 0.5) * 2.0**-53
    if u < 1.0 - mean:  # which is below exp(-mean)
        return 0.0
    came, chance = 0.0, math.exp(-mean)
    total = chance
    while u > total and chance > 1e-18:
        came += 1.0
        chance *= mean / came
        total += chance
    return came


@jit.plain()
def _many(mean, key, at):
    """A Poisson number of a mean of 10 or more, by transformed rejection, which is exact (Hoermann 1993, Insurance: Math. & Econ. 12, 39)."""
    b = 0.931 + 2.53 * math.sqrt(mean)
    a = 0.02483 * b - 0.059
    v_r, inverse_alpha = 0.9277 - 3.6224 / (b - 2.0), 1.1239 + 1.1328 / (b - 3.4)
    while True:
        word = _word(key, at)
        at += TRY
        u = (np.float64(word >> np.uint64(32)) + 0.5) * 2.0**-32 - 0.5
        v = (np.float64(word & np.uint64(0xFFFFFFFF)) + 0.5) * 2.0**-32
        u_s = 0.5 - abs(u)
        k = math.floor((2.0 * a / u_s + b) * u + mean + 0.43)
        if u_s >= 0.07 and v <= v_r:
            return k
        if k < 0.0 or (u_s < 0.013 and v > u_s):
            continue
        if math.log(v * inverse_alpha / (a / (u_s * u_s) + b)) <= k * math.log(mean) - mean - math.lgamma(k + 1.0):
            return k


@jit.entry()
def _expose(image, invvar, light, gain, keys, rows):
    """Planes of pixels: (n, bands, pixels)."""
    pixels = image.shape[2]
    for row in rows:
        for b in range(len(gain)):
            seen, weight, here, nmgy = image[row, b], invvar[row, b], light[row, b], 1.0 / gain[b]
            for k in range(pixels):
                weight[k] = np.float32(weight[k] / (1.0 + np.float64(weight[k]) * max(here[k], np.float32(0.0)) * nmgy))
            for k in range(pixels):
                added = np.float64(here[k])
                if added == 0.0:
                    continue
                mean, at = max(added, 0.0) * gain[b], np.uint64(b * pixels + k)
                came = _few(mean, _word(keys[row], at)) if mean < FEW else _many(mean, keys[row], at)
                seen[k] = np.float32(np.float64(seen[k]) + added + (came - mean) * nmgy)


def expose(image, invvar, light, gain, keys, rows=None) -> None:
    """Add ``light`` and the noise of its electrons to images, and that noise's variance to ``1/invvar``, in place.

    ``image``, ``invvar``, ``light`` (n, bands, ny, nx) float32, in nanomaggies; ``gain`` (bands) electrons a nanomaggy; ``keys`` (n) uint64, a number of
    its own for each row; ``rows`` are those to expose, all unless given.  Electrons are Poisson distributed with the mean ``light * gain``; negative ringing of a
    PSF's wings carries none.  Pixels without light keep their bits, those of invvar 0 stay 0.
    """
    if not (image.flags.c_contiguous and invvar.flags.c_contiguous):
        raise ValueError("image and invvar are changed in place and must be contiguous")
    if light.size and not (np.min(light) > -np.inf and np.max(light) * np.max(gain) < MOST):  # false for NaN, too
        raise ValueError(
            f"light must be finite and below {MOST:g} electrons a pixel, got {np.min(light):g} to {np.max(light):g} nanomaggies"
        )
    rows = np.arange(len(image)) if rows is None else np.asarray(rows, np.int64)
    seen, weight, added = (p.reshape(len(p), len(gain), -1) for p in (image, invvar, np.ascontiguousarray(light)))
    _expose(seen, weight, added, np.asarray(gain, float), np.asarray(keys, np.uint64), rows)
