"""What is measured on the light of arcs, in one pass over each."""

import math

import numpy as np

from lib import jit

SHARE = 0.95  # of the flux: the brightest pixels that hold it give the total signal to noise
BINS, SHIFT = 512, 17  # by brightness, 64 an octave from the brightest down: the bits of a positive float32 grow with it
RADIUS_PIX = 5.0  # of the host's core
CODES = ("arc_snr", "arc_snr_total", "arc_snr_peak", "bad_flux", "core_flux")


@jit.plain()
def _bright(s, w, hidden, flux, sums, found):
    """(sum of s, sum of 1/w) of the fewest, brightest pixels that hold ``SHARE`` of ``flux``: bins of brightness, and the last one sorted."""
    codes = s.view(np.int32)
    most, enough = codes.max() >> SHIFT, SHARE * flux
    sums[:] = 0.0
    for i in range(len(s)):
        if not hidden[i] and s[i] > 0.0:
            sums[min(most - (codes[i] >> SHIFT), BINS - 1)] += s[i]
    last, held = 0, 0.0
    while last < BINS - 1 and held + sums[last] < enough:
        held += sums[last]
        last += 1
    total, variance, n = 0.0, 0.0, 0
    for i in range(len(s)):
        if not hidden[i] and s[i] > 0.0:
            k = min(most - (codes[i] >> SHIFT), BINS - 1)
            if k < last:
                total += s[i]
                variance += 1.0 / w[i]
            elif k == last:
                found[n] = i
                n += 1
    for j in np.argsort(-s[found[:n]], kind="mergesort"):
        total += s[found[j]]
        variance += 1.0 / w[found[j]]
        if total >= enough:
            break
    return total, variance


@jit.entry()
def _measure(arcs, invvar, bad, site, x, y, band, fluxes, out):
    n, bands, side = arcs.shape[0], arcs.shape[1], arcs.shape[2]
    sums, found = np.empty(BINS), np.empty(side * side, np.int64)
    for k in range(n):
        for b in range(bands):
            flux = 0.0
            for v in arcs[k, b].ravel():
                flux += v
            fluxes[k, b] = flux
        s, w, hidden = arcs[k, band].ravel(), invvar[site[k], band].ravel(), bad[site[k], band].ravel()
        matched, peak, flux, lost, core = 0.0, -np.inf, 0.0, 0.0, 0.0
        for j in range(side):
            dy = j - y[k]
            for i in range(j * side, (j + 1) * side):
                v, dx = np.float64(s[i]), i - j * side - x[k]
                if math.sqrt(dx * dx + dy * dy) < RADIUS_PIX:
                    core += v
                if hidden[i]:
                    lost += v
                else:
                    flux += v
                    matched += v * v * np.float64(w[i])
                    peak = max(peak, v * math.sqrt(np.float64(w[i])))
        total, variance = _bright(s, w, hidden, flux, sums, found)
        seen = peak > -np.inf
        out[0, k] = math.sqrt(matched) if seen else np.nan
        out[1, k] = total / math.sqrt(variance) if seen and variance > 0.0 else np.nan
        out[2, k] = peak if seen else np.nan
        out[3, k], out[4, k] = lost, core


def measure(arcs, invvar, bad, site, x, y, band: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(flux in each band (arcs, bands), by name what is measured in one of them) of arcs (n, bands, side, side) float32.

    ``invvar`` and ``bad`` (sites, bands, side, side) are the survey's, ``site`` says which of them an arc lies in, (x, y) where its host is.

    - ``arc_snr``: the matched filter ``sqrt(sum s**2 w)``, over the pixels that are not bad, as the next two;
    - ``arc_snr_total``: ``sum s / sqrt(sum 1/w)`` over the brightest pixels that hold 95 % of the flux;
    - ``arc_snr_peak``: ``max s sqrt(w)``; the three are NaN where every pixel is bad;
    - ``bad_flux`` on bad pixels, ``core_flux`` within 5 pixels of the host.
    """
    fluxes, out = np.empty(arcs.shape[:2]), np.empty((len(CODES), len(arcs)))
    _measure(arcs, invvar, bad, site, np.asarray(x, float), np.asarray(y, float), band, fluxes, out)
    return fluxes, dict(zip(CODES, out, strict=True))
