"""Gates on what a network could learn instead of arcs: how its controls differ, and what the pipeline leaves behind."""

import numpy as np
import pyarrow as pa
from sklearn.metrics import roc_auc_score

from lib import tiers
from validation import balance, classes, scan
from validation.data import Data
from validation.result import gate, judged, needed, not_applicable, too_few

LEAST = 20  # stamps of a class, to tell anything by a classifier


def _unpaired(tier: tiers.Tier) -> bool:
    return tier.controls.fraction > 0 and tier.controls.paired < 1


@gate("unpaired_match", "manifest", "unpaired controls are like their lenses: matched on the first rung, with equal means",
      notes=classes.matched, at_least=True)  # fmt: skip
def matched(data: Data, facts) -> object:
    if not _unpaired(data.tier):
        return not_applicable(f"tier {data.tier.name} asks for no unpaired controls")
    if not (n := facts["n"]):
        return judged(False, "there are no unpaired controls")
    share, off = facts["rungs"][1] / n, balance.differences(classes.of(facts), data.tier.controls.tolerance)
    worst, limits = max(off, key=lambda v: off[v]), data.tier.gates
    if data.tier.gates.small_tier and 2.0 * (2.0 / n) ** 0.5 > limits.match_difference_max:
        return not_applicable(
            f"{n} unpaired controls are too few: {needed(2.0**0.5, limits.match_difference_max):,} are needed to tell whether the means of lenses "
            f"and controls differ by {limits.match_difference_max:g} standard deviations",
            n=n,
        )
    first = data.tier.controls.ladder[0]
    message = (f"{100 * share:.2f} % of the unpaired controls are within {'the tolerance' if first == 1.0 else f'{first:g} times the tolerance'} of their lens in "
               f"every variable, at least {100 * limits.match_first_rung_min:g} % are wanted; the means of lenses and controls differ most in {worst}, by "
               f"{off[worst]:.4f} standard deviations, less than {limits.match_difference_max:g} is wanted")  # fmt: skip
    return judged(share >= limits.match_first_rung_min and off[worst] < limits.match_difference_max,
                  message, measured=share, threshold=limits.match_first_rung_min, n=n)  # fmt: skip


def _enough(data: Data, limit: float):
    """(classes, galaxies, what is to be said if they are too few to tell an AUC from guessing)."""
    if not _unpaired(data.tier):
        return None, 0, not_applicable(f"tier {data.tier.name} asks for no unpaired controls")
    found = classes.of(data.noted(classes.METADATA))
    if not (n := min(found.controls.num_rows, balance.SAMPLE)):
        return None, 0, judged(False, "there are no unpaired controls")
    galaxies = balance.galaxies(found)
    if data.tier.gates.small_tier and 2.0 * (1.0 / (6.0 * galaxies)) ** 0.5 > limit:
        return None, galaxies, not_applicable(
            f"{galaxies} different galaxies are too few: {needed(6.0**-0.5, limit):,} galaxies with lenses and as many unpaired controls are needed "
            f"to tell an AUC of {0.5 + limit:g} from 0.5, which is guessing",
            n=n,
        )  # fmt: skip
    return found, galaxies, None


@gate(
    "metadata_auc",
    "metrics",
    "a classifier that sees no pixels cannot tell lenses from unpaired controls",
    uses=[classes.METADATA],
    unit="AUC",
)
def metadata(data: Data, facts) -> object:
    limit = data.tier.gates.metadata_auc_max
    found, galaxies, said = _enough(data, limit - 0.5)
    if said:
        return said
    auc, error = balance.metadata_auc(found), (1.0 / (6.0 * galaxies)) ** 0.5
    message = (f"a classifier that knows seeing, depth, brightness, shape, dust, masks and place, but no pixels, tells lenses from unpaired controls with an AUC of "
               f"{auc:.4f} +- {error:.4f}: 0.5 is guessing, less than {limit:g} is wanted")  # fmt: skip
    return judged(auc < limit, message, measured=auc, threshold=limit, n=found.lenses.num_rows + found.controls.num_rows)


@gate("label_shuffle", "metrics", "the same classifier finds nothing where classes are drawn by lot: no label leaks into what it sees",
      uses=[classes.METADATA], unit="AUC - 0.5")  # fmt: skip
def label_shuffle(data: Data, facts) -> object:
    limit = data.tier.gates.shuffle_auc_tolerance
    found, galaxies, said = _enough(data, limit)
    if said:
        return said
    x, y, groups = balance.together(balance.shuffled(found, data.tier.seed))
    auc, error = float(roc_auc_score(y, balance.scores(x, y, groups))), (1.0 / (6.0 * galaxies)) ** 0.5
    return judged(abs(auc - 0.5) < limit, f"AUC {auc:.4f} +- {error:.4f} of classes drawn by lot, galaxy by galaxy", measured=abs(auc - 0.5),
                  threshold=limit, n=len(y))  # fmt: skip


@gate(
    "zero_flux",
    "stamps",
    "injections without their light cannot be told from controls: the pipeline leaves nothing but the arc",
    unit="AUC - 0.5",
)
def zero_flux(data: Data, facts) -> object:
    """A stamp less its arc and the noise that its seed gives again is an injection of no flux."""
    found, limit = scan.notes(data), data.tier.gates.zero_flux_auc_tolerance
    rows = found["features"].rows if "features" in found else None
    if rows is None:
        return judged(False, "no stamp to judge")
    role, ids, pair = (rows[name].to_numpy() for name in ("role", "task_id", "pair_id"))
    lens, control = role == "injected", role == "paired_control"
    if control.any():  # each with its own injection: of the same galaxy, and so alike to the last digit
        control &= np.isin(pair, ids[lens])
        lens &= np.isin(ids, pair[control])
    else:
        control = role == "unpaired_control"
    n, use = min(lens.sum(), control.sum()), lens | control
    if not data.tier.controls.fraction:
        return not_applicable(f"tier {data.tier.name} asks for no controls", n=int(use.sum()))
    if n < LEAST:
        return too_few(data.tier, f"{n} stamps of a class: {LEAST} are needed", n=int(use.sum()))
    galaxies = rows["galaxy_id"].to_numpy()[use]
    auc, error = balance.auc(columns(rows, "zero_")[use], lens[use].astype(int), galaxies)
    told = f"AUC {auc:.4f} +- {error:.4f} of {lens.sum()} injections less their light and {control.sum()} {role[control][0].replace('_', ' ')}s; {found['sample']}"
    if abs(auc - 0.5) < limit + 2.0 * error and 2.0 * error > limit:
        return too_few(data.tier, f"{told}: twice the error is above {limit:g}", n=int(use.sum()))
    return judged(abs(auc - 0.5) <= limit, told, measured=abs(auc - 0.5), threshold=limit, n=int(use.sum()))


def columns(rows: pa.Table, *prefixes: str) -> np.ndarray:
    return np.stack([rows[n].to_numpy() for n in rows.column_names if n.startswith(prefixes)], axis=1)


def by_theta_e(data: Data) -> list[dict]:
    """For the report: how well the core (r < 5 px) and the total flux alone tell lenses from paired and from unpaired controls, by theta_e.

    A lens is brighter than the same galaxy without: these are no faults, but what a network gets for nothing.
    """
    found = scan.notes(data)
    if "features" not in found:
        return []
    rows = found["features"].rows
    role, theta_e, galaxy = rows["role"].to_numpy(), rows["theta_e_arcsec"].to_numpy(), rows["galaxy_id"].to_numpy()
    lens = role == "injected"
    edges = _edges(theta_e[lens])
    out: list[dict] = [{"theta_e": f'{low:.3g}"' if low == high else f'{low:.3g}" to {high:.3g}"'} for low, high in edges]
    for kind in ("paired_control", "unpaired_control"):
        control = role == kind
        if min(lens.sum(), control.sum()) < LEAST:
            continue
        for name, prefix in (("core", "core_"), ("total", "total_")):
            use = lens | control
            score = np.full(len(use), np.nan)
            score[use] = balance.scores(columns(rows, prefix)[use], lens[use].astype(int), galaxy[use])
            for line, (low, high) in zip(out, edges, strict=True):
                mine = lens & (theta_e > low - 1e-3) & (theta_e < high + 1e-3)
                line["n"] = int(mine.sum())
                line[f"{name} {kind}"] = float(
                    roc_auc_score(np.r_[np.ones(mine.sum()), np.zeros(control.sum())], np.r_[score[mine], score[control]])
                )
    return out


def _edges(theta_e: np.ndarray) -> list[tuple[float, float]]:
    """Each value of a grid, or sixths of what is drawn."""
    values = np.unique(np.round(theta_e, 4))
    if len(values) <= 12:
        return [(v, v) for v in values.tolist()]
    parts = np.array_split(np.sort(theta_e), 6)
    return [(float(p[0]), float(p[-1])) for p in parts]


GATES = (matched, metadata, label_shuffle, zero_flux)
