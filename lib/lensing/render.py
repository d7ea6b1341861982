"""From lenses and sources to the light of arcs on pixels.

The lensed surface brightness is integrated over the plane by Gauss-Legendre nodes in square cells.  A bound on how much the
source can change in a cell (the lens's stretch times the profile's slope, weighed by the flux the cell can hold) decides how
many nodes it gets, and whether it is divided, so that small sources, cusps and the singular centre are all resolved, nothing
is point sampled, and the cost follows the arc.  Cells are handled in runs of hundreds, in float32, by loops without branches.

A cell's nodes are deposited on a grid of half-pixel spacing with quadratic B-splines; ``lib.imaging.spectrum`` divides the
spline out again and convolves with the PSF *at the pixel centres*.

Positions on the stamp are in pixels, 0-based, pixel centres at integers; everything else is in arcsec.
"""

import numpy as np

from lib import jit
from lib.imaging import matrix, spectrum
from lib.lensing import deflector, sersic, source
from lib.lensing.elementary import f4
from lib.lensing.scene import BLOCK, Batch, Rows, Scene

TOLERANCE = 1.5e-5  # share of a source's flux that a cell may be wrong by, by the bounds
NEGLIGIBLE = 2e-7  # share of a source's flux below which a cell is left out
DUST = 1e-7  # share of a source's flux a pixel below which light is counted, but not deposited: it would only widen the transforms
DEEPEST = 26  # halvings of those; reached at the singular centre only
PHASE = 1.0  # radians a pixel of the frequencies that a cell's nodes must carry
RINGS = 6  # frames of cells around the canvas, each twice as wide as the last: the light out to 64 half-sides
RUN = 512  # cells handled at a time
NODES = 4096  # nodes handled at a time
WINDOWS = 512  # cells deposited at a time
LANES = 16  # lists are filled up to multiples of this with empty cells, so that every loop is whole vectors

ABSCISSA = np.zeros((sersic.MOST + 1, sersic.MOST), np.float32)
WEIGHT = np.zeros((sersic.MOST + 1, sersic.MOST), np.float32)
for _m in range(1, sersic.MOST + 1):
    _x, _w = np.polynomial.legendre.leggauss(_m)
    ABSCISSA[_m, :_m], WEIGHT[_m, :_m] = _x, _w / 2.0


@jit.simd()
def _deposit(count, m, cells, kinds, lens, profile, images, shape, g, pixel, offset, nodes, work, windows, grid, extent):
    """Light of ``count`` cells, m x m nodes each: on the grid if there is one, and its sum.  ``cells``: x, y, half-width, area."""
    total = 0.0
    run = min(WINDOWS, NODES // (m * m) // LANES * LANES)
    inverse, odd = f4(1.0) / pixel, f4(offset[2])
    on_grid = grid.shape[0] > 0
    middle, width, flat = grid.shape[0] // 2, grid.shape[1], grid.reshape(-1)
    for start in range(0, count, run):
        n = min(run, count - start)
        padded = (n + LANES - 1) // LANES * LANES
        for p in range(start + n, start + padded):
            cells[0, p], cells[1, p], cells[2, p], cells[3, p] = cells[0, start], cells[1, start], cells[2, start], f4(0.0)
        x, y, half, w = (
            cells[0, start : start + padded],
            cells[1, start : start + padded],
            cells[2, start : start + padded],
            cells[3, start : start + padded],
        )
        for i in range(m):
            for j in range(m):
                at = (i * m + j) * padded
                nx, ny = nodes[0, at : at + padded], nodes[1, at : at + padded]
                dx, dy = ABSCISSA[m, j], ABSCISSA[m, i]
                for p in range(padded):
                    nx[p], ny[p] = x[p] + half[p] * dx, y[p] + half[p] * dy
        size = m * m * padded
        nx, ny, bx, by, f = nodes[0, :size], nodes[1, :size], nodes[2, :size], nodes[3, :size], nodes[4, :size]
        deflector.deflect(kinds[0], lens, nx, ny, bx, by, work)
        g1, g2 = g[0], g[1]
        for p in range(size):
            bx[p] = nx[p] - (g1 * nx[p] + g2 * ny[p]) - bx[p]
            by[p] = ny[p] - (g2 * nx[p] - g1 * ny[p]) - by[p]
        source.shine(kinds[1], profile, images, shape, bx, by, f)
        sums = windows[0, :padded]
        for p in range(padded):
            sums[p] = f4(0.0)
        for i in range(m):
            for j in range(m):
                ww = WEIGHT[m, i] * WEIGHT[m, j]
                node = f[(i * m + j) * padded : (i * m + j + 1) * padded]
                for p in range(padded):
                    node[p] *= ww * w[p]
                    sums[p] += node[p]
        total += sums.sum()
        if not on_grid:
            continue
        # the half-pixel points around a pixel are shared by all nodes in it: their weights, then one window a cell
        tx, ty = windows[1, :padded], windows[2, :padded]
        column, row, step = windows[3, :padded], windows[4, :padded], windows[25, :padded]
        for p in range(padded):
            gx, gy = offset[0] + x[p] * inverse, offset[1] + y[p] * inverse
            fx, fy = np.floor(gx + odd), np.floor(gy + odd)
            tx[p], ty[p] = f4(2.0) * (gx - fx + odd - f4(0.5)), f4(2.0) * (gy - fy + odd - f4(0.5))
            column[p], row[p] = f4(2.0) * (fx - odd) - f4(1.0), f4(2.0) * (fy - odd) - f4(1.0)
            step[p] = f4(2.0) * half[p] * inverse
        window = windows[5:21]
        for i in range(m):
            r0, r1, r2, r3 = windows[21, :padded], windows[22, :padded], windows[23, :padded], windows[24, :padded]
            for j in range(m):
                node = f[(i * m + j) * padded : (i * m + j + 1) * padded]
                shift, keep = ABSCISSA[m, j], f4(1.0) if j > 0 else f4(0.0)
                for p in range(padded):
                    z, v = tx[p] + step[p] * shift, node[p]
                    a, b = min(z, f4(0.0)), max(z, f4(0.0))
                    a, b = f4(0.5) * a * a, f4(0.5) * b * b
                    r0[p] = keep * r0[p] + v * a
                    r1[p] = keep * r1[p] + v * (f4(0.5) * (f4(1.0) - z) * (f4(1.0) - z) - f4(3.0) * a)
                    r2[p] = keep * r2[p] + v * (f4(0.5) * (f4(1.0) + z) * (f4(1.0) + z) - f4(3.0) * b)
                    r3[p] = keep * r3[p] + v * b
            shift, keep = ABSCISSA[m, i], f4(1.0) if i > 0 else f4(0.0)
            for k in range(4):
                rk = windows[21 + k, :padded]
                w0, w1, w2, w3 = window[k], window[4 + k], window[8 + k], window[12 + k]
                for p in range(padded):
                    z, v = ty[p] + step[p] * shift, rk[p]
                    a, b = min(z, f4(0.0)), max(z, f4(0.0))
                    a, b = f4(0.5) * a * a, f4(0.5) * b * b
                    w0[p] = keep * w0[p] + v * a
                    w1[p] = keep * w1[p] + v * (f4(0.5) * (f4(1.0) - z) * (f4(1.0) - z) - f4(3.0) * a)
                    w2[p] = keep * w2[p] + v * (f4(0.5) * (f4(1.0) + z) * (f4(1.0) + z) - f4(3.0) * b)
                    w3[p] = keep * w3[p] + v * b
        for p in range(n):
            if abs(sums[p]) < f4(DUST) * w[p] * inverse * inverse:
                continue
            jx, jy = int(column[p]) + middle, int(row[p]) + middle
            for k in range(4):
                at = (jy + k) * width + jx
                flat[at] += window[4 * k, p]
                flat[at + 1] += window[4 * k + 1, p]
                flat[at + 2] += window[4 * k + 2, p]
                flat[at + 3] += window[4 * k + 3, p]
            away_x, away_y = max(jx + 4 - middle, middle - jx), max(jy + 4 - middle, middle - jy)
            extent[0], extent[1] = max(extent[0], away_x), max(extent[1], away_y)
    return total


@jit.simd()
def _walk(stack, top, kinds, lens, profile, images, shape, g, pixel, offset, cells, lists, nodes, work, windows, grid, extent):
    """Light of the cells on the stack, by runs of one size, divided where ``order`` says so; flux returned.

    ``stack`` (3, n): centre from the lens (arcsec) and half-width in units of ``pixel / 2**DEEPEST``, so that sizes compare exactly.
    """
    total, on_grid = 0.0, grid.shape[0] > 0
    smallest = pixel / f4(2.0 ** (DEEPEST - 4))
    filled = np.zeros(sersic.MOST + 1, np.int64)
    while top > 0:
        size = stack[2, top - 1]
        n = 0
        while n < RUN and top > 0 and stack[2, top - 1] == size:
            top -= 1
            cells[0, n], cells[1, n] = stack[0, top], stack[1, top]
            n += 1
        half = size * smallest
        in_pixels = half / pixel
        padded = (n + LANES - 1) // LANES * LANES
        for p in range(n, padded):
            cells[0, p], cells[1, p] = cells[0, 0], cells[1, 0]
        x, y, bx, by = cells[0, :padded], cells[1, :padded], cells[2, :padded], cells[3, :padded]
        spread, bound, points = cells[4, :padded], cells[5, :padded], cells[6, :padded]
        deflector.deflect(kinds[0], lens, x, y, bx, by, work)
        deflector.spread(kinds[0], lens, half * f4(1.41421356), g[2], x, y, spread)
        g1, g2 = g[0], g[1]
        for p in range(padded):
            bx[p] = x[p] - (g1 * x[p] + g2 * y[p]) - bx[p]
            by[p] = y[p] - (g2 * x[p] - g1 * y[p]) - by[p]
        area = f4(4.0) * half * half
        phase = f4(PHASE) * in_pixels if on_grid else f4(0.0)
        source.order(kinds[1], profile, shape, bx, by, spread, area, phase, f4(TOLERANCE), f4(NEGLIGIBLE), bound, points)
        if size < f4(2.0):
            for p in range(n):
                points[p] = min(points[p], f4(sersic.MOST))
        # a cell wider than a pixel is taken if it needs no more than a node a pixel, and its nodes become cells of their own
        widest = sersic.MOST if not on_grid or in_pixels < f4(0.6) else min(sersic.MOST, int(f4(2.1) * in_pixels))
        wide = on_grid and in_pixels > f4(0.6)
        for p in range(n):
            m = int(points[p])
            if m == 0:
                continue
            if m > widest:
                for k in range(4):
                    stack[0, top] = x[p] + (f4(0.5) if k & 1 else f4(-0.5)) * half
                    stack[1, top] = y[p] + (f4(0.5) if k & 2 else f4(-0.5)) * half
                    stack[2, top] = f4(0.5) * size
                    top += 1
            elif wide:
                for i in range(m):
                    for j in range(m):
                        c, into = filled[1], lists[1]
                        into[0, c], into[1, c] = x[p] + half * ABSCISSA[m, j], y[p] + half * ABSCISSA[m, i]
                        into[2, c], into[3, c] = f4(0.0), WEIGHT[m, i] * WEIGHT[m, j] * area
                        filled[1] += 1
                        if filled[1] == NODES:
                            total += _deposit(
                                NODES, 1, into, kinds, lens, profile, images, shape, g, pixel, offset, nodes, work, windows, grid, extent
                            )
                            filled[1] = 0
            else:
                c, into = filled[m], lists[m]
                into[0, c], into[1, c], into[2, c], into[3, c] = x[p], y[p], half, area
                filled[m] += 1
                if filled[m] == NODES:
                    total += _deposit(
                        NODES, m, into, kinds, lens, profile, images, shape, g, pixel, offset, nodes, work, windows, grid, extent
                    )
                    filled[m] = 0
    for m in range(1, sersic.MOST + 1):
        if filled[m] > 0:
            total += _deposit(
                filled[m], m, lists[m], kinds, lens, profile, images, shape, g, pixel, offset, nodes, work, windows, grid, extent
            )
    return total


@jit.plain()
def _fill(stack, offset, canvas, pixel, size):
    """Put the canvas's blocks on the stack; their edges are pixels' edges."""
    top, blocks = 0, canvas // BLOCK * 2
    for i in range(blocks):
        for j in range(blocks):
            stack[0, top] = ((j + 0.5) * BLOCK - canvas - offset[2] - offset[0]) * pixel
            stack[1, top] = ((i + 0.5) * BLOCK - canvas - offset[2] - offset[1]) * pixel
            stack[2, top] = size
            top += 1
    return top


@jit.plain()
def _frame(stack, offset, canvas, pixel, size):
    """Put on the stack frames of cells around the canvas, 12 each, of half-widths canvas/2, canvas, ..."""
    top, half, step = 0, float(canvas), size
    for _ in range(RINGS):
        for i in range(4):
            for j in range(4):
                if i == 0 or i == 3 or j == 0 or j == 3:
                    # a frame of side 4 half, around the square of side 2 half: cells of side half
                    stack[0, top] = ((j - 1.5) * half - offset[2] - offset[0]) * pixel
                    stack[1, top] = ((i - 1.5) * half - offset[2] - offset[1]) * pixel
                    stack[2, top] = step
                    top += 1
        half, step = 2.0 * half, 2.0 * step
    return top


@jit.plain()
def _buffers():
    """What ``_walk`` and ``_deposit`` work in, made once a call."""
    stack, cells = np.empty((3, 4 * RUN * DEEPEST), np.float32), np.empty((7, RUN + LANES), np.float32)
    lists = np.empty((sersic.MOST + 1, 4, NODES + LANES), np.float32)
    nodes, work = np.empty((5, NODES + LANES), np.float32), np.empty((5, max(RUN, NODES) + LANES), np.float32)
    return stack, cells, lists, nodes, work, np.zeros((26, NODES + LANES), np.float32)


@jit.entry()
def _stamps(
    kinds,
    lenses,
    sources,
    images,
    shapes,
    shears,
    offsets,
    fluxes,
    first,
    tasks,
    pixels,
    transfers,
    which,
    grid_table,
    pixel_table,
    canvas,
    out,
    flux,
):
    """The loop over tasks of one period and number of modes: cells, transforms, PSFs, pixels."""
    (_, count, half), padded, bands = grid_table.shape, pixel_table.shape[2], out.shape[1]
    grid_turned, pixel_turned = grid_table.transpose(0, 2, 1).copy(), pixel_table.transpose(0, 2, 1).copy()
    stack, cells, lists, nodes, work, windows = _buffers()
    grid, none = np.zeros((2 * half, 2 * half)), np.zeros((0, 0))  # float64: thousands of small cells may meet in one point
    folded, half_way = np.empty((2, half, 2 * half), np.float32), np.empty((count, 2 * half), np.float32)
    one, every = np.empty((2, count, 2 * count), np.float32), np.zeros((2, count, 2 * count * bands), np.float32)
    across, quarters = np.empty((2, padded, 2 * count * bands), np.float32), np.empty((4, padded, padded), np.float32)
    extent, size = np.zeros(2, np.int64), f4(2.0 ** (DEEPEST - 1))
    for t in range(len(tasks)):
        task = tasks[t]
        pixel = f4(pixels[task])
        for c in range(first[task], first[task + 1]):
            extent[:] = matrix.LEAST // 2
            kind, lens, profile, shape, g, offset = kinds[c], lenses[c], sources[c], shapes[c], shears[c], offsets[c]
            top = _fill(stack, offset, canvas, pixel, size)
            total = _walk(
                stack, top, kind, lens, profile, images, shape, g, pixel, offset, cells, lists, nodes, work, windows, grid, extent
            )
            top = _frame(stack, offset, canvas, pixel, size * f4(canvas / BLOCK))
            total += _walk(
                stack, top, kind, lens, profile, images, shape, g, pixel, offset, cells, lists, nodes, work, windows, none, extent
            )
            flux[c] = total
            hx, hy = (extent[0] + 3) // 4 * 4, (extent[1] + 3) // 4 * 4
            spectrum.forward(grid, hy, hx, grid_table, grid_turned, count, folded, half_way, one)
            spectrum.multiply(one, fluxes[c], transfers, which[t], count, c == first[task], every)
        spectrum.inverse(every, pixel_table, pixel_turned, count, out[task], across, quarters)


def draw(scene: Scene, fluxes, psfs, side_pix: int, pixel_arcsec, sources=1, images=(), reach_pix: int = 16):
    """Stamps of lensed sources: (tasks, bands, side, side) float32, and (sources,) magnification.

    ``fluxes`` (sources, bands) of the unlensed sources, stamps in the same unit; ``psfs``: a sequence of bands for every task.
    ``sources``: how many consecutive sources of the scene make up each task, bulge and disc say (a number, or one a task).
    ``images``: the ``Raster`` that the scene's ``image`` counts.  Light is followed to ``reach_pix`` beyond the stamp
    for the pixels, and over the whole plane for the magnification.  A task has the same bits alone and in any batch.
    """
    b = Batch.of(scene, fluxes, psfs, side_pix, pixel_arcsec, sources, images, reach_pix)
    r, half = b.rows, -(-(2 * b.canvas + 4) // 4) * 4
    out, flux = np.empty((b.tasks, b.fluxes.shape[1], side_pix, side_pix), np.float32), np.empty(b.first[-1])
    groups: dict[tuple[int, int], list[int]] = {}
    for k, key in enumerate(b.plans):
        groups.setdefault(key, []).append(k)
    for (period, count), members in groups.items():
        transfers, which = b.transfers(period, count, members)
        grid_table, pixel_table = spectrum.tables(period, count, side_pix, half)
        _stamps(
            r.kinds, r.lenses, r.sources, r.images, r.shapes, r.shears, b.offsets, b.fluxes, b.first, np.array(members),
            b.pixels, transfers, which, grid_table, pixel_table, b.canvas, out, flux,
        )  # fmt: skip
    return out, flux


@jit.entry()
def _paint(canvas, fluxes, kinds, lenses, sources, images, shapes, shears, x, y, pixel, reach):
    ny, nx = canvas.shape[1:]
    stack, cells, lists, nodes, work, windows = _buffers()
    extent, size = np.zeros(2, np.int64), f4(2.0 ** (DEEPEST - 1))
    for k in range(len(x)):
        side = (reach[k] // (2 * BLOCK) + 1) * BLOCK
        # the half-pixel grid of pixels twice as large: its points are the canvas's pixels
        cx, cy = int(np.floor(x[k])), int(np.floor(y[k]))
        offset = np.array([0.5 * (x[k] - cx - 0.5), 0.5 * (y[k] - cy - 0.5), 0.0], dtype=np.float32)
        half = 2 * side + 4
        patch = np.zeros((2 * half, 2 * half))
        top = _fill(stack, offset, side, f4(2.0 * pixel), size)
        _walk(
            stack,
            top,
            kinds[k],
            lenses[k],
            sources[k],
            images,
            shapes[k],
            shears[k],
            f4(2.0 * pixel),
            offset,
            cells,
            lists,
            nodes,
            work,
            windows,
            patch,
            extent,
        )
        y_lo, y_hi = max(0, cy + 1 - half), min(ny, cy + 1 + half)
        x_lo, x_hi = max(0, cx + 1 - half), min(nx, cx + 1 + half)
        for b in range(len(canvas)):
            for i in range(y_lo, y_hi):
                for j in range(x_lo, x_hi):
                    canvas[b, i, j] += fluxes[k, b] * patch[i - cy - 1 + half, j - cx - 1 + half]


def paint(canvas, fluxes, scene: Scene, pixel_arcsec: float, half_pix):
    """Add all of a scene's sources to one grid ``canvas`` (bands, ny, nx), in place: the coefficients of quadratic B-splines.

    ``fluxes`` (sources, bands); each source is drawn within ``half_pix`` pixels of its lens centre, at least.
    """
    a = scene.arrays()
    reach = np.broadcast_to(np.asarray(half_pix, dtype=np.int64), len(a["x_pix"])).copy()
    r = Rows.of(a, ())
    x, y, flux = a["x_pix"], a["y_pix"], np.ascontiguousarray(fluxes, dtype=float)
    _paint(canvas, flux, r.kinds, r.lenses, r.sources, r.images, r.shapes, r.shears, x, y, float(pixel_arcsec), reach)
