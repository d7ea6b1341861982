"""Resampling and stacking on whole arrays of a block, for a GPU: the same formulas on CuPy's arrays, checked with NumPy's against the loops.

The namespace of arrays is an argument, and everything is put there by it; ``coadd`` gives host arrays back.
"""

import numpy as np

from lib.imaging.device import host, put
from lib.mosaic import resample, stack
from lib.mosaic.coadd import Settings, Source, inverse_variance
from lib.mosaic.image import Image
from lib.mosaic.kernels import BORDER, COVERED, LANCZOS3, SUBPIXELS, cubic, lanczos3
from lib.mosaic.lattice import Lattice, Window
from lib.mosaic.mapping import lagrange

F = np.float32
BLOCK = (512, 2048)


def positions(mapping, window: Window, xp):
    """(ix, iy, fx, fy, area) of a window's pixels in the whole image, (h, w): whole pixel and fraction, rounded as the loops round."""
    step = mapping.step
    y, x = xp.arange(window.y0, window.y1), xp.arange(window.x0, window.x1)
    row, column = y // step - mapping.row0, x // step - mapping.col0
    t, s = (y % step) * (1.0 / step), ((x % step) * (1.0 / step))[None, :]
    weights = [w[:, None] for w in lagrange(t)]
    made = []
    for nodes in (put(mapping.x, xp), put(mapping.y, xp)):
        lines = sum(w * nodes[row + k - 1] for k, w in enumerate(weights))
        c0, c1, c2, c3 = cubic.py_func(lines[:, column - 1], lines[:, column], lines[:, column + 1], lines[:, column + 2])
        whole = xp.floor(c0)
        fine = xp.floor((c0 - whole + s * (c1 + s * (c2 + s * c3))) * SUBPIXELS + 0.5).astype(xp.int64)
        made.append((whole.astype(xp.int64) + (fine >> 16), (fine & (SUBPIXELS - 1)).astype(xp.float32) * F(1.0 / SUBPIXELS)))
    area = put(mapping.area, xp)
    lines = (1.0 - t)[:, None] * area[row] + t[:, None] * area[row + 1]
    scale = lines[:, column].astype(xp.float32) + s.astype(xp.float32) * (lines[:, column + 1] - lines[:, column]).astype(xp.float32)
    return made[0][0], made[1][0], made[0][1], made[1][1], scale


def onto(image: Image, mapping, window: Window, settings: Settings, xp) -> resample.Patch:
    """``resample.onto`` on the arrays of ``xp``."""
    if mapping.shift is not None:
        patch = resample.onto(image, mapping, window, settings.kernel, feather=settings.feather_pix)
        return resample.Patch(*(put(a, xp) for a in patch))
    planes = put(image.planes, xp)
    bands, height, width = planes.shape
    ix, iy, fx, fy, area = positions(mapping, window, xp)
    jx, jy = ix - image.origin[1], iy - image.origin[0]
    seen = (jx >= -1) & (jx < width - 2 * BORDER) & (jy >= -1) & (jy < height - 2 * BORDER)
    jx, jy = xp.where(seen, jx, -1), xp.where(seen, jy, -1)
    fx, fy = xp.where(seen, fx, F(0.0)), xp.where(seen, fy, F(0.0))
    base = (jy + BORDER) * width + jx + BORDER
    values = xp.empty((bands, *window.shape), xp.float32)
    for band in range(bands):
        flat = planes[band].ravel()
        rough = _good_bilinear(flat, width, base, fx, fy, xp)
        if settings.kernel == LANCZOS3:
            wx, wy = lanczos3.py_func(fx), lanczos3.py_func(fy)
            fine = sum(wy[j] * sum(wx[i] * flat[base + (j - 2) * width + i - 2] for i in range(6)) for j in range(6))
            rough = xp.where(xp.isnan(fine), rough, fine)
        values[band] = rough * area if settings.flux else rough
    good = seen.astype(xp.float32)
    if image.quality is not None:
        flat = put(image.quality, xp).ravel()
        low = flat[base] + fx * (flat[base + 1] - flat[base])
        high = flat[base + width] + fx * (flat[base + width + 1] - flat[base + width])
        good = xp.where(seen, low + fy * (high - low), F(0.0))
    edge = seen.astype(xp.float32)
    if settings.feather_pix > 0.0:
        x, y = ix.astype(xp.float32) + fx, iy.astype(xp.float32) + fy
        inward = xp.minimum(xp.minimum(x, F(image.full[1] - 1) - x), xp.minimum(y, F(image.full[0] - 1) - y)) + F(1.0)
        edge = xp.where(seen, xp.clip(inward * F(1.0 / settings.feather_pix), F(0.0), F(1.0)), F(0.0))
    return resample.Patch(values, good, edge)


def _good_bilinear(flat, width, base, fx, fy, xp):
    total, weight = xp.zeros(base.shape, xp.float32), xp.zeros(base.shape, xp.float32)
    for j, wy in enumerate((F(1.0) - fy, fy)):
        for i, wx in enumerate((F(1.0) - fx, fx)):
            v, w = flat[base + j * width + i], wy * wx
            there = ~xp.isnan(v) & (w > 0)
            total = total + xp.where(there, w * xp.where(there, v, F(0.0)), F(0.0))
            weight = weight + xp.where(there, w, F(0.0))
    enough = weight >= F(COVERED)
    return xp.where(enough, total / xp.where(enough, weight, F(1.0)), F(np.nan))


def coadd(lattice: Lattice, window: Window, sources: list[Source], sky, settings: Settings, xp, shape=BLOCK) -> stack.Block:
    """``coadd.of`` on the arrays of ``xp``, in blocks of ``shape`` px."""
    sources = sorted(sources, key=lambda s: s.name)
    made = stack.Block.empty(len(sky), window.shape)
    images: dict[int, Image] = {}
    meets = [s.mapping.window & window for s in sources]
    for y in range(window.y0, window.y1, shape[0]):
        for x in range(window.x0, window.x1, shape[1]):
            block = Window(y, x, min(y + shape[0], window.y1), min(x + shape[1], window.x1))
            seen = [k for k, meet in enumerate(meets) if not (meet & block).empty]
            for k in seen:
                if k not in images:
                    images[k] = sources[k].load(resample.needed(sources[k].mapping, meets[k], sources[k].full))
            rows, columns = block.slices(window)
            into = stack.Block(*(a[:, rows, columns] for a in (made.science, made.weight, made.coverage, made.rejected)))
            _block(block, [(sources[k], images[k], meets[k] & block) for k in seen], np.asarray(sky, np.float32), settings, xp, into)
        for k in [k for k in images if meets[k].y1 <= y + shape[0]]:
            del images[k]
    return made


def _block(block: Window, seen, sky, settings: Settings, xp, into: stack.Block) -> None:
    bands, (h, w), n = len(sky), block.shape, len(seen)
    if not n:
        into.science[...] = np.nan
        return
    cube = xp.full((n, bands, h, w), F(np.nan), xp.float32)
    good, edge = xp.zeros((n, h, w), xp.float32), xp.zeros((n, h, w), xp.float32)
    for k, (source, image, meet) in enumerate(seen):
        patch = onto(image, source.mapping, meet, settings, xp)
        rows, columns = meet.slices(block)
        values = patch.values * put(np.float32(source.gain), xp)[:, None, None] + put(np.float32(source.offset), xp)[:, None, None]
        if source.slope is not None:
            y, x = xp.arange(meet.y0, meet.y1) - source.middle[0], xp.arange(meet.x0, meet.x1) - source.middle[1]
            for band in range(bands):
                values[band] += (source.slope[band][0] * y[:, None] + source.slope[band][1] * x).astype(xp.float32)
        cube[k][:, rows, columns], good[k][rows, columns], edge[k][rows, columns] = values, patch.good, patch.edge
    for band in range(bands):
        inverse = np.array([inverse_variance(s.sigma)[band] for s, _, _ in seen], np.float32)
        found = stacked(cube[:, band], good, edge, put(inverse, xp)[:, None, None], F(sky[band]), settings.rule, xp)
        for target, value in zip((into.science, into.weight, into.coverage, into.rejected), found, strict=True):
            target[band] = host(value)


def stacked(v, good, edge, inverse, sky, rule: stack.Rule, xp):
    """(science, weight, coverage, rejected), (h, w) each, of samples ``v`` (n, h, w): ``stack.reject`` on arrays."""
    there = ~xp.isnan(v) & (good > 0) & (edge > 0)
    count = there.sum(axis=0)
    s2 = F(1.0) / (inverse * xp.where(there, good, F(1.0)))
    p = xp.where(there, edge / s2, F(0.0))
    v = xp.where(there, v, F(np.nan))
    kept = there if rule.rejection == stack.NONE else _kept(v, there, count, s2, p, sky, rule, xp)
    base = xp.where(xp.isnan(v), F(np.inf), v).min(axis=0)
    base = xp.where(xp.isinf(base), F(0.0), base)
    q = xp.where(kept, p, F(0.0))
    weight = q.sum(axis=0)
    top = xp.where(kept, q * (v - base), F(0.0)).sum(axis=0)
    some = weight > 0
    science = base + top / xp.where(some, weight, F(1.0))
    if rule.combine == stack.MEDIAN:
        science = _median(v, kept, xp)
    return xp.where(some, science, F(np.nan)), weight, count, count - kept.sum(axis=0)


def _median(v, kept, xp):
    """Of the samples that are kept, along the first axis; of an even number the mean of the middle two."""
    number = kept.sum(axis=0)
    ordered = xp.sort(xp.where(kept, v, F(np.inf)), axis=0)
    low, high = (xp.take_along_axis(ordered, xp.clip(k // 2, 0, len(v) - 1)[None], axis=0)[0] for k in (number - 1, number))
    return xp.where(number > 0, F(0.5) * (low + high), F(np.nan))


def _kept(v, there, count, s2, p, sky, rule: stack.Rule, xp):
    kappa2 = F(rule.kappa) * F(rule.kappa)
    centre = _median(v, there, xp)
    wide = xp.zeros(centre.shape, xp.float32)
    winsorise = rule.rejection == stack.WINSORISED
    if rule.rejection != stack.KAPPA_SIGMA:
        wide = F(stack.MAD) * _median(xp.abs(v - centre), there, xp)
    if winsorise:
        centre, wide = _winsorised(v, there, count, s2, centre, wide, xp)
    kept = there
    done = xp.zeros(centre.shape, bool)
    for _ in range(stack.ROUNDS):
        light = F(stack.STRUCTURE) * xp.maximum(centre - sky, F(0.0))
        d = xp.where(there, v - centre, F(0.0))
        stays = there & (d * d <= kappa2 * (xp.maximum(s2, wide * wide) + light * light))
        changed = (stays != kept).any(axis=0) & ~done
        kept = xp.where(done, kept, stays)
        q = xp.where(kept, p, F(0.0))
        bottom = q.sum(axis=0)
        moves = changed & (bottom > 0) & (not winsorise)
        done = done | ~moves
        if not bool(moves.any()):
            break
        centre = xp.where(moves, centre + (q * d).sum(axis=0) / xp.where(bottom > 0, bottom, F(1.0)), centre)
    nearest = xp.argmin(xp.where(there, xp.abs(v - centre), F(np.inf)), axis=0)
    alone = xp.arange(len(v))[:, None, None] == nearest
    kept = xp.where(kept.any(axis=0), kept, alone & there)
    return xp.where(count == 2, _of_two(v, there, s2, sky, rule, xp), xp.where(count < 2, there, kept))


def _winsorised(v, there, count, s2, centre, wide, xp):
    """Centre and scale of values clipped at 1.5; where there are more than four, and each pixel stops for itself."""
    number = xp.maximum(count, 2).astype(xp.float32)
    least = xp.sqrt(xp.where(there, s2, F(0.0)).sum(axis=0) / number)
    many, wide = count > 4, xp.where(count > 4, xp.maximum(wide, least), wide)
    going = many
    for _ in range(stack.ROUNDS):
        reach = F(stack.CLIP) * wide
        clipped = xp.where(there, xp.clip(xp.where(there, v, F(0.0)), centre - reach, centre + reach), F(0.0))
        new = clipped.sum(axis=0) / number
        square = xp.where(there, (clipped - new) ** 2, F(0.0)).sum(axis=0)
        scale = xp.maximum(F(stack.HUBER) * xp.sqrt(square / (number - F(1.0))), least)
        still = going & ~((xp.abs(new - centre) <= F(stack.SETTLED) * scale) & (xp.abs(scale - wide) <= F(stack.SETTLED) * scale))
        centre, wide = xp.where(going, new, centre), xp.where(going, scale, wide)
        going = still
        if not bool(going.any()):
            break
    return centre, wide


def _of_two(v, there, s2, sky, rule: stack.Rule, xp):
    low = xp.where(there, v, F(np.inf)).min(axis=0)
    high = xp.where(there, v, F(-np.inf)).max(axis=0)
    is_low = there & (v == low)
    both = xp.where(there, s2, F(0.0)).sum(axis=0)
    var_low = xp.where(is_low, s2, F(0.0)).max(axis=0)
    light = F(stack.STRUCTURE) * xp.maximum(low - sky, F(0.0))
    kappa = F(rule.kappa)
    apart = (high - low) ** 2 > kappa * kappa * (both + F(2.0) * light * light)
    below = (low - sky < -kappa * xp.sqrt(var_low)) & (xp.abs(high - sky) < xp.abs(low - sky))
    return there & ~(apart & xp.where(below, is_low, there & ~is_low))
