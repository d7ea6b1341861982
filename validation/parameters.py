"""Gates on what the injections were drawn from: grids and strata, the lens model, and whether the manifest can be made again."""

from collections import Counter

import numpy as np
import pyarrow as pa
from scipy import special

from lib import draws, sampling, tiers
from lib.sampling import tasks
from lib.schemas import MANIFEST
from validation.data import Data
from validation.result import gate, judged, not_applicable
from validation.tally import Rows, hashed, sampled

ROUNDING = 1e-5  # of a ratio of two float32
BINS = 10  # of equal probability, in which drawn values are counted
GRID = ("theta_e_arcsec", "src_dmag", "src_reff_arcsec", "src_e", "shear")
REMADE = 20_000  # rows of the manifest that are made again


def _values(rows, asked):
    mine = rows.injected
    if asked.tier.resolved is not None:
        return {"n": int(mine.sum()), "inside": _inside(rows, asked.tier)[:, mine].sum(axis=1)}
    out: dict = {"n": int(mine.sum())}
    for name in GRID:
        value, count = np.unique(np.round(rows[name][mine].astype(float), 6), return_counts=True)
        out[name] = Counter(dict(zip(value.tolist(), count.tolist(), strict=True)))
    return out


def _inside(rows: Rows, tier: tiers.Tier) -> np.ndarray:
    """(strata, rows): whether theta_e over the host's PSF lies in each; a value on the border is the next one's."""
    prior = tier.resolved
    assert prior is not None
    sizes = [rows[name].astype(float) for name in sampling.SIZES]
    over = rows["theta_e_arcsec"] / (np.where(np.isnan(sizes[0]), sizes[1], sizes[0]) * sampling.unit_fwhm(tier))
    begins = {low for low, _, _ in prior.strata}
    ends = [high + (-ROUNDING if high in begins else ROUNDING) for _, high, _ in prior.strata]
    return np.array([(over >= low - ROUNDING) & (over < end) for (low, _, _), end in zip(prior.strata, ends, strict=True)])


@gate("grid_values", "manifest", "every value of the named grid is used, about equally often", notes=_values, unit="sigma")
def grid(data: Data, facts) -> object:
    if data.tier.resolved is not None:
        return _strata(data, facts, data.tier.resolved)
    expected = tiers.grids()[data.tier.grid]
    n, worst, where, missing = facts["n"], 0.0, "", []
    if data.tier.gates.small_tier and 0 < n < len(data.tier.configs()):
        return not_applicable(f"{n} injections cannot hold the {len(data.tier.configs())} configs of grid {data.tier.grid}", n=n)
    for name in GRID:
        wanted, found = getattr(expected, name), dict(facts[name])
        fair = n / len(wanted)
        spread = max((fair * (1 - 1 / len(wanted)) * data.tier.sample.replicates) ** 0.5, 1e-9)  # a config's replicates come together
        for value in wanted:
            count = found.pop(round(value, 6), 0)
            count += sum(found.pop(v) for v in list(found) if abs(v - value) < 1e-6)  # float32 rounds the seventh digit
            if (off := abs(count - fair) / spread) >= worst:
                worst, where = off, f"{name}={value} has {count} rows, {fair:.0f} expected"
            if not count:
                missing.append(f"{name}={value} is missing")
        missing += [f"{name}={value} is not in the grid" for value in found]
    message = "; ".join(missing[:5]) if missing else f"all values of grid {data.tier.grid} are used; {where}"
    limit = data.tier.gates.grid_sigma
    return judged(not missing and worst < limit, message, measured=worst, threshold=limit, n=n, examples=tuple(missing[:5]))


def _strata(data: Data, facts, prior: tiers.Resolved):
    """Quotas of theta_e over the host's PSF, from the values, not from the configs' names."""
    limit, n = data.tier.gates.grid_sigma, facts["n"]
    found = [*facts["inside"].tolist(), n - int(facts["inside"].sum())]
    names = [*(f"{low:g}-{high:g}" for low, high, _ in prior.strata), "none of the strata"]
    worst, where = 0.0, ""
    for name, count, share in zip(names, found, [*(share for *_, share in prior.strata), 0.0], strict=True):
        off = abs(count - n * share) / max((n * share * (1.0 - share) * data.tier.sample.replicates) ** 0.5, 1.0)
        if off >= worst:
            worst, where = off, f"{count} of {n} have theta_e over the PSF's FWHM in {name}, {n * share:.0f} expected"
    return judged(worst < limit, where, measured=worst, threshold=limit, n=n)


def _quantiles(rows: Rows, tier: tiers.Tier) -> dict[str, np.ndarray]:
    """What should be uniform from 0 to 1 if drawn as configured, by name; what does not vary in this tier is left out."""

    def between(value, low, high):
        return (value - low) / (high - low)

    disc = tier.draws.src_disc_theta_e * rows["theta_e_arcsec"].astype(float)
    x, y = rows["src_x_arcsec"].astype(float), rows["src_y_arcsec"].astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {"source's place from the lens": (x**2 + y**2) / disc**2, "source's direction": np.arctan2(y, x) / (2 * np.pi) % 1.0}
    found |= {f"{what}_phi_rad": rows[f"{what}_phi_rad"].astype(float) / np.pi for what in ("lens", "shear", "src")}
    ranges = {"lens_e": tier.draws.lens_e}
    if tier.resolved is not None:
        ranges |= {"src_e": tier.resolved.src_e, "shear": tier.resolved.shear}
    found |= {name: between(rows[name].astype(float), *r) for name, r in ranges.items() if r[0] < r[1]}
    for name, (mean, sigma) in (("src_gr", tier.draws.src_gr), ("src_rz", tier.draws.src_rz)):
        if sigma > 0:
            found[name] = special.ndtr((rows[name].astype(float) - mean) / sigma)
    return found


def _drawn(rows, asked):
    mine, tier = rows.injected, asked.tier
    counts: dict[str, np.ndarray] = {}
    outside: Counter = Counter()
    for name, u in _quantiles(rows, tier).items():
        u = u[mine]
        good = (u > -ROUNDING) & (u < 1 + ROUNDING)
        counts[name] = np.histogram(np.clip(u[good], 0, 1), BINS, (0, 1))[0]
        outside[name] = int((~good).sum())
    constant = {"lens_e": tier.draws.lens_e, "src_n": (tier.draws.src_n,) * 2}
    outside |= Counter({
        f"{name} is not {low:g}": int((np.abs(rows[name][mine] - low) > 1e-6).sum()) for name, (low, high) in constant.items() if low == high
    })  # fmt: skip
    lit = rows.isin("source_model", ["sersic"])
    dark = (rows["theta_e_arcsec"] == 0) & (rows["shear"] == 0) & rows.isin("source_model", ["none"])
    outside |= Counter({
        "round lenses (SIS) where ellipses are asked for": int((rows["lens_e"][mine] == 0).sum()) if tier.draws.lens_e[0] > 0 else 0,
        "injections that are not of a Sersic source": int((mine & ~lit).sum()), "controls with a lens": int((~mine & ~dark).sum()),
    })  # fmt: skip
    return {"n": int(mine.sum()), "outside": outside} | {f"of {name}": c for name, c in counts.items()}


@gate("lens_model", "manifest", "lenses (SIE with shear) and sources are drawn from the config's distributions", notes=_drawn, unit="sigma")
def lens_model(data: Data, facts) -> object:
    n, limit = facts["n"], data.tier.gates.grid_sigma
    off = {}
    for key, count in facts.items():
        if key.startswith("of ") and n:
            off[key[3:]] = float(np.abs(count - n / BINS).max() / (n / BINS * (1 - 1 / BINS)) ** 0.5)
    wrong = {name: count for name, count in facts["outside"].items() if count}
    worst = max(off, key=lambda name: off[name], default="")
    message = f"{worst} is farthest from its distribution, by {off.get(worst, 0):.1f} sigma in one of {BINS} bins of equal probability"
    message = (
        "; ".join(f"{name}: {count} {'outside of its range' if name in off else ''}".strip() for name, count in wrong.items()) or message
    )
    return judged(not wrong and off.get(worst, 0) < limit, message, measured=off.get(worst, 0.0), threshold=limit, n=n)


def content(rows: pa.Table) -> list[str]:
    """One number a column: of the same rows in any order the same."""
    order = rows.sort_by("task_id")
    return [f"{name} {draws.hash64('rows', 0, _words(order[name])).sum():016x}" if order.num_rows else name for name in order.column_names]


def _words(column: pa.ChunkedArray) -> np.ndarray:
    """A whole number for each value, weighed by its place, so that two that change places are seen."""
    place = np.arange(len(column)).view(np.uint64) * draws.GOLDEN
    if pa.types.is_string(column.type):
        words = np.where(column.is_null().to_numpy(), np.uint64(1), hashed(column.fill_null("")))
    else:
        values = column.to_numpy()  # whole numbers with nulls as floats
        words = values.view(np.uint64) if values.dtype == np.int64 else np.nan_to_num(values.astype(float), nan=-1e300).view(np.uint64)
    return (words ^ place).view(np.int64)


@gate("remade", "manifest", "the same manifest comes out with the parents in other pieces and another order", unit="columns")
def remade(data: Data, facts) -> object:
    """Of a sample of galaxies, by their ids' hash; what needs all galaxies (who is a host, whose control) is decided over all."""
    over = data.over("parent")
    if data.large("parent"):
        pieces = over
    else:
        whole = pa.concat_tables(over.map(lambda piece: piece))
        shuffled = whole.take(pa.array(np.random.default_rng(data.tier.seed).permutation(whole.num_rows)))
        third = max(1, -(-whole.num_rows // 3))
        pieces = sampling.InMemory([shuffled.slice(k, third) for k in range(0, whole.num_rows, third)])
    plan, tier, name = sampling.plan(pieces, data.tier), data.tier, data.dataset.name  # what goes to the workers
    share = REMADE / max(1, data.rows("manifest"))

    def of_piece(piece: pa.Table) -> pa.Table:
        mine = sampled(draws.hash64("remade", 0, piece["galaxy_id"].to_numpy()), share)
        return pa.concat_tables([MANIFEST.empty_table(), *tasks.made(piece.filter(pa.array(mine)), plan, tier, name)])

    def of_manifest(piece: pa.Table) -> pa.Table:
        rows = Rows(piece)
        mine = sampled(draws.hash64("remade", 0, rows["galaxy_id"]), share) & ~rows.isin("role", [sampling.HARD])
        return piece.replace_schema_metadata().filter(pa.array(mine))

    made = pa.concat_tables(pieces.map(of_piece))
    there = pa.concat_tables([t.cast(MANIFEST) for t in data.over("manifest").map(of_manifest)])
    lost = {name: set(a["task_id"].to_pylist()) - set(b["task_id"].to_pylist()) for name, a, b in
            (("in the manifest only", there, made), ("made again only", made, there))}  # fmt: skip
    differ = (
        [a.split()[0] for a, b in zip(content(made), content(there), strict=True) if a != b] if not any(map(len, lost.values())) else []
    )
    told = [f"{len(ids)} tasks are {name}" for name, ids in lost.items() if ids] + (
        [f"other values of {', '.join(differ[:8])}"] if differ else []
    )
    message = "; ".join(told) or f"{made.num_rows} rows, made again from the parents in another order, are the same to the bit"
    wrong = len(differ) + sum(map(len, lost.values()))
    examples = tuple(sorted(set().union(*lost.values()))[:5]) or tuple(differ[:5])
    return judged(not told, message, measured=wrong, threshold=0, n=there.num_rows, examples=examples)


GATES = (grid, lens_model, remade)
