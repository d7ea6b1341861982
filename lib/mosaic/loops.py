"""The compiled loop of resampling: one window of the lattice, all bands and the weights at once."""

import numpy as np

from lib import jit
from lib.mosaic.kernels import BORDER, COVERED, SUBPIXELS, cubic, lanczos3

CELL = 64  # the longest step of a mapping
FAST = {"contract", "reassoc", "arcp", "nsz"}  # vector code, and NaN is still NaN
F = np.float32


@jit.entry()
def drop_infinite(planes):
    """Infinite values (bands, ny, nx) become NaN."""
    flat = planes.ravel()
    for k in range(len(flat)):
        flat[k] = flat[k] if abs(flat[k]) < F(np.inf) else F(np.nan)


@jit.plain()
def _good_bilinear(plane, width, base, fx, fy):
    """Weighted mean of the finite pixels of four; NaN if less than half of the weight lies on them."""
    total, weight = F(0.0), F(0.0)
    for j in range(2):
        wy = fy if j else F(1.0) - fy
        for i in range(2):
            w = wy * (fx if i else F(1.0) - fx)
            v = plane[base + np.uintp(j * width + i)]
            if w > F(0.0) and v == v:
                total += w * v
                weight += w
    return total / weight if weight >= F(COVERED) else F(np.nan)


@jit.entry(fastmath=FAST)
def sample(image, quality, mapped, origin, full, feather, lanczos, flux, nodes_x, nodes_y, nodes_area, step, node0, at0, out, good, edge):
    """Fill ``out`` (bands, h, w), ``good`` and ``edge`` (h, w) with the lattice's window whose first pixel is ``at0`` (y, x).

    ``image`` (bands, ny + 6, nx + 6) and ``quality`` (the same without bands, if ``mapped``) have NaN and 0 in their border; their first
    pixel within it is ``origin`` (y, x) of an image of ``full`` (ny, nx) px, of which the positions are, as ``mapping.Mapping`` has them.
    ``good`` is the quality there, 1 without a map; ``edge`` rises from 0 to 1 within ``feather`` px of the full image's edges.
    """
    bands, height, width = image.shape
    ny, nx = height - 2 * BORDER, width - 2 * BORDER
    h, w = good.shape
    (y0, x0), (row0, col0) = at0, node0
    oy, ox = np.int32(origin[0]), np.int32(origin[1])
    last_y, last_x = F(full[0] - 1), F(full[1] - 1)
    first, last = x0 // step - col0, (x0 + w - 1) // step - col0
    row_x, row_y, row_a = np.empty(last + 3), np.empty(last + 3), np.empty(last + 3)
    ix, iy = np.empty(CELL, np.int32), np.empty(CELL, np.int32)
    fx, fy = np.empty(CELL, np.float32), np.empty(CELL, np.float32)
    base = np.empty(CELL, np.uintp)
    wx, wy = np.empty((6, CELL), np.float32), np.empty((6, CELL), np.float32)
    step_inverse = 1.0 / step
    per_px = F(1.0 / feather) if feather > 0.0 else F(0.0)
    for r in range(h):
        row = (y0 + r) // step - row0
        t = (y0 + r - (row + row0) * step) * step_inverse
        u, v, z = t + 1.0, t - 1.0, t - 2.0
        a, b, c, d = -t * v * z / 6.0, u * v * z / 2.0, -u * t * z / 2.0, u * t * v / 6.0
        for k in range(first - 1, last + 3):
            row_x[k] = a * nodes_x[row - 1, k] + b * nodes_x[row, k] + c * nodes_x[row + 1, k] + d * nodes_x[row + 2, k]
            row_y[k] = a * nodes_y[row - 1, k] + b * nodes_y[row, k] + c * nodes_y[row + 1, k] + d * nodes_y[row + 2, k]
            row_a[k] = (1.0 - t) * nodes_area[row, k] + t * nodes_area[row + 1, k]
        for cell in range(first, last + 1):
            start = max((cell + col0) * step, x0)
            end = min((cell + col0 + 1) * step, x0 + w)
            n, at, offset = end - start, start - x0, start - (cell + col0) * step
            p0, p1, p2, p3 = cubic(row_x[cell - 1], row_x[cell], row_x[cell + 1], row_x[cell + 2])
            q0, q1, q2, q3 = cubic(row_y[cell - 1], row_y[cell], row_y[cell + 1], row_y[cell + 2])
            whole_x, whole_y = np.floor(p0), np.floor(q0)
            p0, q0 = p0 - whole_x, q0 - whole_y
            from_x, from_y = np.int32(whole_x) - ox, np.int32(whole_y) - oy
            inside = True
            for i in range(n):
                s = (offset + i) * step_inverse
                x = np.int32(np.floor((p0 + s * (p1 + s * (p2 + s * p3))) * SUBPIXELS + 0.5))
                y = np.int32(np.floor((q0 + s * (q1 + s * (q2 + s * q3))) * SUBPIXELS + 0.5))
                ix[i] = from_x + (x >> np.int32(16))
                iy[i] = from_y + (y >> np.int32(16))
                fx[i] = F(x & np.int32(SUBPIXELS - 1)) * F(1.0 / SUBPIXELS)
                fy[i] = F(y & np.int32(SUBPIXELS - 1)) * F(1.0 / SUBPIXELS)
            for i in range(n):
                inside &= (ix[i] >= -1) & (ix[i] < nx) & (iy[i] >= -1) & (iy[i] < ny)
            if not inside:
                seen = False
                for i in range(n):
                    seen |= (ix[i] >= -1) & (ix[i] < nx) & (iy[i] >= -1) & (iy[i] < ny)
                if not seen:
                    out[:, r, at : at + n] = F(np.nan)
                    good[r, at : at + n] = F(0.0)
                    edge[r, at : at + n] = F(0.0)
                    continue
                for i in range(n):
                    if ix[i] < -1 or ix[i] >= nx or iy[i] < -1 or iy[i] >= ny:  # all its pixels are border
                        ix[i], iy[i], fx[i], fy[i] = -1, -1, F(0.0), F(0.0)
            for i in range(n):
                base[i] = (iy[i] + BORDER) * width + ix[i] + BORDER
            if lanczos:
                for i in range(n):
                    wx[0, i], wx[1, i], wx[2, i], wx[3, i], wx[4, i], wx[5, i] = lanczos3(fx[i])
                for i in range(n):
                    wy[0, i], wy[1, i], wy[2, i], wy[3, i], wy[4, i], wy[5, i] = lanczos3(fy[i])
            for band in range(bands):
                plane = image[band].ravel()
                target = out[band, r]
                if lanczos:
                    for i in range(n):
                        k0 = base[i] - np.uintp(2 * width + 2)
                        c0, c1, c2, c3, c4, c5 = F(0.0), F(0.0), F(0.0), F(0.0), F(0.0), F(0.0)
                        for j in range(6):
                            m = wy[j, i]
                            c0 += m * plane[k0]
                            c1 += m * plane[k0 + np.uintp(1)]
                            c2 += m * plane[k0 + np.uintp(2)]
                            c3 += m * plane[k0 + np.uintp(3)]
                            c4 += m * plane[k0 + np.uintp(4)]
                            c5 += m * plane[k0 + np.uintp(5)]
                            k0 += np.uintp(width)
                        target[at + i] = (wx[0, i] * c0 + wx[1, i] * c1) + (wx[2, i] * c2 + wx[3, i] * c3) + (wx[4, i] * c4 + wx[5, i] * c5)
                else:
                    for i in range(n):
                        k0 = base[i]
                        k1 = k0 + np.uintp(width)
                        low = plane[k0] + fx[i] * (plane[k0 + np.uintp(1)] - plane[k0])
                        high = plane[k1] + fx[i] * (plane[k1 + np.uintp(1)] - plane[k1])
                        target[at + i] = low + fy[i] * (high - low)
                for i in range(n):
                    if target[at + i] != target[at + i]:
                        target[at + i] = _good_bilinear(plane, width, base[i], fx[i], fy[i])
                if flux:
                    for i in range(n):
                        s = F((offset + i) * step_inverse)
                        target[at + i] *= F(row_a[cell]) + s * F(row_a[cell + 1] - row_a[cell])
            if mapped:
                flat = quality.ravel()
                for i in range(n):
                    k0 = base[i]
                    k1 = k0 + np.uintp(width)
                    low = flat[k0] + fx[i] * (flat[k0 + np.uintp(1)] - flat[k0])
                    high = flat[k1] + fx[i] * (flat[k1 + np.uintp(1)] - flat[k1])
                    good[r, at + i] = low + fy[i] * (high - low)
            else:
                for i in range(n):
                    good[r, at + i] = F(1.0)
            if feather > 0.0:
                for i in range(n):
                    x, y = F(ix[i] + ox) + fx[i], F(iy[i] + oy) + fy[i]
                    inward = min(min(x, last_x - x), min(y, last_y - y)) + F(1.0)
                    edge[r, at + i] = min(max(inward * per_px, F(0.0)), F(1.0))
            else:
                for i in range(n):
                    edge[r, at + i] = F(1.0)
            if not inside:
                for i in range(n):
                    if ix[i] == -1 and iy[i] == -1 and fx[i] == F(0.0) and fy[i] == F(0.0):
                        good[r, at + i] = F(0.0)
                        edge[r, at + i] = F(0.0)


@jit.entry()
def bin_means(values, side, ring, out):
    """Means of ``side`` x ``side`` px of (bands, h, w) into (bands, rows, columns), NaN if a pixel of the bin or of the ``ring`` around it is."""
    bands, rows, columns = out.shape
    for band in range(bands):
        for j in range(rows):
            for i in range(columns):
                total, whole = np.float64(0.0), True
                for y in range(j * side, (j + 1) * side + 2 * ring):
                    for x in range(i * side, (i + 1) * side + 2 * ring):
                        v = values[band, y, x]
                        whole &= v == v
                        within = ring <= y - j * side < side + ring and ring <= x - i * side < side + ring
                        total += v if within else F(0.0)
                out[band, j, i] = F(total / (side * side)) if whole else F(np.nan)
