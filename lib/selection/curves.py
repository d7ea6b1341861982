"""Shares with their intervals, and a smooth curve or surface through them with its error.

The curve is a penalised binomial fit on the lattice of bins (Eilers & Marx 1996, P-splines of degree 0): the log-odds of neighbouring bins bend as little as the
counts allow, how little being chosen by AIC.  Bins without lenses are bridged, with the error that bridging has.
"""

import numpy as np

Z = 1.959964  # of 95 %
SMOOTHING = 10.0 ** np.arange(-2, 5.01, 0.5)
RIDGE = 1e-4  # holds the log-odds of a surface of which all, or nothing, was found
STEPS = 60


def wilson(found, n) -> tuple[np.ndarray, np.ndarray]:
    """The 95 % interval of a share (Wilson 1927, J. Am. Stat. Assoc. 22, 209).

    >>> [round(float(v), 4) for v in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    found, n = np.asarray(found, float), np.asarray(n, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        share, room = found / n, Z * Z / n
        middle = (share + room / 2) / (1 + room)
        half = Z * np.sqrt(share * (1 - share) / n + room / (4 * n)) / (1 + room)
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


def smooth(found: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(share, its standard error) on a lattice of bins of one or two axes, counts in each."""
    found, n = np.asarray(found, float), np.asarray(n, float)
    best = None
    for strength in SMOOTHING:
        fit = _fit(found.ravel(), n.ravel(), strength * _bending(found.shape))
        if best is None or fit[0] < best[0]:
            best = fit
    assert best is not None
    _, odds, covariance = best
    share = 1.0 / (1.0 + np.exp(-odds))
    return share.reshape(n.shape), (share * (1 - share) * np.sqrt(np.diag(covariance))).reshape(n.shape)


def _bending(shape: tuple[int, ...]) -> np.ndarray:
    """The quadratic form of second differences along every axis."""
    total = np.zeros((int(np.prod(shape)), int(np.prod(shape))))
    for axis, size in enumerate(shape):
        if size < 3:
            part = np.diff(np.eye(size), axis=0)
        else:
            part = np.diff(np.eye(size), 2, axis=0)
        forms = [part.T @ part if k == axis else np.eye(other) for k, other in enumerate(shape)]
        total += forms[0] if len(forms) == 1 else np.kron(*forms)
    return total


def _fit(found, n, penalty):
    """(AIC, log-odds, their covariance), by Newton's steps."""
    start = (found.sum() + 0.5) / (n.sum() + 1.0)
    centre = np.log(start / (1 - start))
    odds = np.full(len(n), centre)
    penalty = penalty + RIDGE * np.eye(len(n))
    for _ in range(STEPS):
        share = 1.0 / (1.0 + np.exp(-odds))
        step = np.linalg.solve(np.diag(n * share * (1 - share)) + penalty, found - n * share - penalty @ (odds - centre))
        odds = odds + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-8:
            break
    share = np.clip(1.0 / (1.0 + np.exp(-odds)), 1e-12, 1 - 1e-12)
    weight = n * share * (1 - share)
    covariance = np.linalg.inv(np.diag(weight) + penalty)
    likelihood = float((found * np.log(share) + (n - found) * np.log(1 - share)).sum())
    return 2.0 * float((np.diag(covariance) * weight).sum()) - 2.0 * likelihood, odds, covariance
