"""``render.draw`` for many tasks at once, by operations on whole arrays that NumPy and CuPy share: the renderer on a GPU.

Rows, plans, tables and constants are ``render``'s, and so are the rules: which cells are left out, divided, or given how many nodes.
What there is a loop over the cells of one source is here an array over the cells of all sources of a chunk, one size after another.
"""

from typing import Any, NamedTuple

import numpy as np

from lib.imaging import device, spectrum
from lib.lensing import columns, render, sersic
from lib.lensing.scene import Batch, Scene

CHUNK = 256  # sources at a time: some 250 MB
NODES = 2048  # nodes at a time, for every source of a chunk


class _Cells(NamedTuple):
    """Columns: their sources, centres from the lens and half-widths (arcsec), areas (arcsec**2), and nodes an axis."""

    at: Any
    x: Any
    y: Any
    half: Any
    area: Any
    points: Any

    def take(self, which) -> "_Cells":
        return _Cells(*(v[which] for v in self))


def _nodes(m: int, xp):
    """Places across and down, and weights, of m x m nodes of a cell from -1 to 1: three of (1, m * m)."""
    across, weight = render.ABSCISSA[m, :m], render.WEIGHT[m, :m]
    return (device.put(v[None], xp) for v in (np.tile(across, m), np.repeat(across, m), np.outer(weight, weight).ravel()))


def _spill(cells: _Cells) -> list[_Cells]:
    """Cells wider than a pixel: their nodes become cells of their own, of no width and one node."""
    xp, found = device.namespace(cells.at), []
    for m in range(1, sersic.MOST + 1):
        k = xp.nonzero(cells.points[:, 0] == m)[0]
        if len(k):
            at, x, y, half, area, _ = cells.take(k)
            dx, dy, weight = _nodes(m, xp)
            one = xp.ones_like(dx, dtype=at.dtype)
            every = (at * one, x + half * dx, y + half * dy, 0.0 * half * dx, area * weight, xp.ones_like(at) * one)
            found.append(_Cells(*(v.reshape(-1, 1) for v in every)))
    return found


def _starts(canvas: int, on_grid: bool) -> dict[float, np.ndarray]:
    """Centres (2, cells) of the cells to begin with, in pixels from the stamp's middle, by half-width: the canvas's, or the frames' around."""
    if on_grid:
        side = (np.arange(2 * canvas // render.BLOCK) + 0.5) * render.BLOCK - canvas
        return {render.BLOCK / 2.0: np.stack([v.ravel() for v in np.meshgrid(side, side)])}
    i, j = (v.ravel() - 1.5 for v in np.indices((4, 4)))
    frame = np.stack([j, i])[:, np.maximum(abs(i), abs(j)) > 1.0]
    return {0.5 * canvas * 2.0**ring: frame * canvas * 2.0**ring for ring in range(render.RINGS)}


def _begin(c: columns.Chunk, members, centres):
    """Cells around the lenses of the sources ``members`` (n, 1): their sources, x and y."""
    xp = device.namespace(members)
    dx, dy = (device.put(v[None].astype(np.float32), xp) for v in centres)
    pixel, (x, y, odd) = c.pixels[members], (v[members] for v in c.offsets)
    at = members + xp.zeros_like(dx, dtype=members.dtype)
    return tuple(v.reshape(-1, 1) for v in (at, (dx - odd - x) * pixel, (dy - odd - y) * pixel))


def _walk(kinds, c: columns.Chunk, members, canvas: int, on_grid: bool) -> _Cells:
    """The cells that are to be summed, of sources of one pair of kinds: as ``render._walk``, from the widest to the narrowest."""
    xp, starts = device.namespace(members), _starts(canvas, on_grid)
    half_pix, (at, x, y) = max(starts), _begin(c, members, np.zeros((2, 0)))
    found = [_Cells(at, x, y, x, x, at)]  # none yet, and there may be none
    quarter = device.put(np.array([[-0.5, 0.5, -0.5, 0.5], [-0.5, -0.5, 0.5, 0.5]], np.float32), xp)
    while len(at) or half_pix >= min(starts):
        if half_pix in starts:
            at, x, y = (xp.concatenate(v) for v in zip((at, x, y), _begin(c, members, starts[half_pix]), strict=True))
        half, wide = half_pix * c.pixels[at], on_grid and half_pix > 0.6
        points = columns.points(kinds, c, at, x, y, half, half_pix, on_grid)
        most = min(sersic.MOST, int(2.1 * half_pix)) if wide else sersic.MOST
        keep, divide = (xp.nonzero(v[:, 0])[0] for v in ((points > 0) & (points <= most), points > most))
        kept = _Cells(at, x, y, half, 4.0 * half * half, points).take(keep)
        found += _spill(kept) if wide else [kept]
        at, x, y, half = (v[divide] for v in (at, x, y, half))
        x, y = (x + quarter[0] * half).reshape(-1, 1), (y + quarter[1] * half).reshape(-1, 1)
        at, half_pix = (at + xp.zeros((1, 4), at.dtype)).reshape(-1, 1), 0.5 * half_pix
    return _Cells(*(xp.concatenate(v) for v in zip(*found, strict=True)))


def _weights(z):
    """Weights (cells, m, 4) on four half-pixel points of quadratic B-splines at ``z`` (cells, m), -1 to 1 between the middle two's ends."""
    xp = device.namespace(z)
    a, b = 0.5 * xp.minimum(z, 0.0) ** 2, 0.5 * xp.maximum(z, 0.0) ** 2
    return xp.stack([a, 0.5 * (1.0 - z) ** 2 - 3.0 * a, 0.5 * (1.0 + z) ** 2 - 3.0 * b, b], axis=-1)


def _deposit(c: columns.Chunk, cells: _Cells, light, grids):
    """Add the nodes' ``light`` (cells, m, m) to ``grids`` (sources, side, side).

    A cell lies in one pixel, so its nodes share a window of 4 x 4 points, and the weights are those of its m columns and m rows: two
    small products and 16 additions to memory a cell, where nodes on their own would need 9 each.
    """
    xp, m, side = device.namespace(light), light.shape[1], grids.shape[1]
    abscissa, inverse, odd = device.put(render.ABSCISSA[m, :m][None], xp), 1.0 / c.pixels[cells.at], c.offsets[2][cells.at]
    step, start, weights = 2.0 * cells.half * inverse, [], []
    for offset, place in zip(c.offsets, (cells.x, cells.y), strict=False):
        g = offset[cells.at] + place * inverse + odd
        pixel = xp.floor(g)
        weights.append(_weights(2.0 * (g - pixel) - 1.0 + step * abscissa))
        start.append((2.0 * (pixel - odd)).astype(cells.at.dtype) - 1 + side // 2)
    windows = weights[1].swapaxes(1, 2) @ light @ weights[0]
    four = xp.arange(4)
    index = ((cells.at * side + start[1] + four) * side + start[0])[:, :, None] + four
    xp.add.at(grids.reshape(-1), index.reshape(-1), windows.reshape(-1))


def _light(c: columns.Chunk, canvas: int, half: int, xp):
    """Every source's light: on grids (sources, 2 half, 2 half), and its sum over the whole plane."""
    n = len(c.kinds)
    grids, flux = xp.zeros((n, 2 * half, 2 * half), xp.float32), xp.zeros(n)
    for kinds in np.unique(c.kinds, axis=0):
        members = device.put(np.flatnonzero((c.kinds == kinds).all(axis=1))[:, None], xp)
        for on_grid in (True, False):
            every = _walk(kinds, c, members, canvas, on_grid)
            for m in range(1, sersic.MOST + 1):
                mine, run = xp.nonzero(every.points[:, 0] == m)[0], n * NODES // (m * m)
                dx, dy, weight = _nodes(m, xp)
                for start in range(0, len(mine), run):
                    cells = every.take(mine[start : start + run])
                    bx, by = columns.bend(kinds[0], c, cells.at, cells.x + cells.half * dx, cells.y + cells.half * dy)
                    light = columns.shine(kinds[1], c, cells.at, bx, by) * (weight * cells.area)
                    xp.add.at(flux, cells.at[:, 0], light.sum(axis=1).astype(flux.dtype))
                    if on_grid:
                        _deposit(c, cells, light.reshape(-1, m, m), grids)
    return grids, flux


def _fold(a):
    """Even and odd part (..., 2, n) of ``a`` (..., 2 n) about its middle."""
    n = a.shape[-1] // 2
    above, below = a[..., n:], a[..., n - 1 :: -1]
    return device.namespace(a).stack([above + below, above - below], axis=-2)


def _unfold(a, side: int):
    """(..., rows, side) from the even and odd parts (..., 2, rows, half) of its columns, which count from the middle outwards."""
    even, odd = a[..., 0, :, :], a[..., 1, :, :]
    return device.namespace(a).concatenate([(even - odd)[..., ::-1], (even + odd)[..., side % 2 :]], axis=-1)


def _forward(grids, table):
    """``spectrum.forward``: (sources, 2, 2, count, count), parity in y and in x, frequency in y and in x."""
    waves = table.swapaxes(1, 2)
    across = _fold(grids.swapaxes(1, 2)).swapaxes(1, 2) @ waves
    return _fold(across.swapaxes(2, 3)).swapaxes(2, 3) @ waves


def _multiply(s, t):
    """``spectrum.multiply`` of spectra (tasks, bands, 2, 2, count, count) by transfers (tasks, bands, parts, count, count)."""
    out = s * t[:, :, :1, None]
    if t.shape[2] > 1:
        cc, cs, sc, ss = (s[:, :, y, x] for y in (0, 1) for x in (0, 1))
        oo, oe, eo = (t[:, :, k] for k in (1, 2, 3))
        out[:, :, 0, 0] += oe * sc + eo * cs - oo * ss
        out[:, :, 1, 1] -= oe * cs + eo * sc + oo * cc
        out[:, :, 1, 0] += oo * cs - oe * cc + eo * ss
        out[:, :, 0, 1] += oo * sc - eo * cc + oe * ss
    return out


def _inverse(spectra, table, side: int):
    """``spectrum.inverse``: (tasks, bands, side, side)."""
    waves = table[:, :, : (side + 1) // 2]
    across = _unfold(spectra @ waves, side)
    return _unfold(across.swapaxes(-1, -2) @ waves, side).swapaxes(-1, -2)


def _stamps(grids, batch: Batch, members, side: int):
    """Stamps of tasks ``members`` of one plan (period, modes); ``grids`` are their sources', in order."""
    xp, first = device.namespace(grids), batch.first
    plan, sources = batch.plans[members[0]], np.diff(first)[members]
    transfers, which = batch.transfers(plan[0], plan[1], members)
    table, pixel_table = (device.put(v, xp) for v in spectrum.tables(*plan, side, grids.shape[1] // 2))
    spectra, ends = 0.0, np.cumsum(sources)
    every = _forward(grids, table)
    for k in range(sources.max()):  # the k-th source of every task
        here = np.minimum(k, sources - 1)
        flux = device.put(np.where((k < sources)[:, None], batch.fluxes[first[members] + here], 0.0).astype(np.float32), xp)
        spectra = spectra + flux[:, :, None, None, None, None] * every[device.put(ends - sources + here, xp)][:, None]
    return _inverse(_multiply(spectra, device.put(transfers, xp)[device.put(which, xp)]), pixel_table, side)


def draw(scene: Scene, fluxes, psfs, side_pix: int, pixel_arcsec, sources=1, images=(), reach_pix=16, chunk=CHUNK, xp: Any = np):
    """What ``render.draw`` returns, but for rounding, in the memory of ``xp``: numpy's or cupy's.

    ``chunk`` sources at a time; the memory needed grows with it.  A GPU adds to memory in any order: not even two runs have the same bits.
    """
    b = Batch.of(scene, fluxes, psfs, side_pix, pixel_arcsec, sources, images, reach_pix)
    first, task = b.first, np.repeat(np.arange(b.tasks), np.diff(b.first))
    out, flux = xp.empty((b.tasks, b.fluxes.shape[1], side_pix, side_pix), xp.float32), xp.empty(int(first[-1]))
    for some in np.split(np.arange(b.tasks), np.flatnonzero(np.diff(first[:-1] // chunk)) + 1):
        mine = slice(int(first[some[0]]), int(first[some[-1] + 1]))
        c = columns.Chunk.of(b.rows, b.offsets, b.pixels[task], mine, xp)
        grids, flux[mine] = _light(c, b.canvas, 2 * b.canvas + 4, xp)
        for plan in sorted({b.plans[k] for k in some}):
            members = np.array([k for k in some if b.plans[k] == plan])
            which = np.flatnonzero(np.isin(task, members))
            out[device.put(members, xp)] = _stamps(grids[device.put(which - mine.start, xp)], b, members, side_pix)
    return out, flux
