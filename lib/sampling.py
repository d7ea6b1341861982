"""From hosts to tasks: which galaxy gets which injection, and its controls.  One split at a time, all draws by counter."""

import numpy as np
import pyarrow as pa
from scipy.spatial import cKDTree

from lib import draws, rows
from lib.errors import ConfigError, InputError
from lib.schemas import MANIFEST, PARENT, ROLES, SPLITS
from lib.survey import wcs
from lib.tiers import Tier

INJECTED, PAIRED, UNPAIRED = (ROLES.index(r) for r in ROLES[:3])
CARRIED = [name for name in PARENT.names if name in MANIFEST.names]


def lens_hosts(tier: Tier, split: str, eligible: int) -> int:
    """How many of a split's eligible galaxies get injections; the rest may become unpaired controls."""
    wanted = tier.sample.hosts[split]
    if not tier.sample.at_most:
        return wanted
    configs = tier.sample.configs_per_host or len(tier.configs())
    control = tier.controls.fraction / (1.0 - tier.controls.fraction) * (1.0 - tier.controls.paired)
    return min(wanted, int(eligible / (1.0 + configs * tier.sample.replicates * control)))


def expected_counts(tier: Tier, eligible: dict[str, int]) -> dict[str, dict[str, int]]:
    """Rows by split and role, from the config and the number of eligible hosts of each split."""
    configs = tier.sample.configs_per_host or len(tier.configs())
    found = {}
    for split in SPLITS:
        injected = lens_hosts(tier, split, eligible.get(split, 0)) * configs * tier.sample.replicates
        controls = round(injected * tier.controls.fraction / (1.0 - tier.controls.fraction))
        paired = round(controls * tier.controls.paired)
        found[split] = {"injected": injected, "paired_control": paired, "unpaired_control": controls - paired}
    return found


def manifest(hosts: pa.Table, tier: Tier, dataset: str) -> pa.Table:
    """All tasks of one split.  ``hosts`` are its PARENT rows outside of the guard band, in any order."""
    split, count = hosts["split"][0].as_py(), hosts.num_rows
    wanted = expected_counts(tier, {split: count})[split]
    galaxy = hosts["galaxy_id"].to_numpy()
    if len(np.unique(galaxy)) < count:
        raise InputError(f"split {split}: {count - len(np.unique(galaxy))} galaxies are in the parent table more than once")
    order = np.lexsort((galaxy, draws.hash64("host order", tier.seed, galaxy)))
    lenses = order[: lens_hosts(tier, split, count)]
    if len(lenses) < lens_hosts(tier, split, count):
        raise InputError(
            f"split {split} has {count} eligible hosts, tier {tier.name} asks for {tier.sample.hosts[split]}: "
            "give more bricks or ask for fewer hosts"
        )
    if not len(lenses):
        return MANIFEST.empty_table()
    host, config, replicate = _cross(lenses, tier)
    tables = [_tasks(hosts, host, config, replicate, INJECTED, tier, dataset)]
    if wanted["paired_control"]:
        chosen = _spread(galaxy[host], config, replicate, wanted["paired_control"], tier, "paired")
        tables.append(_tasks(hosts, host[chosen], config[chosen], replicate[chosen], PAIRED, tier, dataset))
    if wanted["unpaired_control"]:
        chosen = _spread(galaxy[host], config, replicate, wanted["unpaired_control"], tier, "unpaired")
        others = order[len(lenses) :]
        if len(others) < len(chosen):
            raise InputError(
                f"split {split} has {len(others)} galaxies left for {len(chosen)} unpaired controls: "
                "give more bricks, or ask for fewer hosts or controls"
            )
        partner, rung, distance = _match(hosts, host[chosen], others, tier)
        made = _tasks(hosts, host[chosen], config[chosen], replicate[chosen], UNPAIRED, tier, dataset, partner)
        made = made.set_column(MANIFEST.names.index("match_rung"), MANIFEST.field("match_rung"), pa.array(rung, pa.int32()))
        made = made.set_column(MANIFEST.names.index("match_distance"), MANIFEST.field("match_distance"), pa.array(distance, pa.float32()))
        tables.append(made)
    return pa.concat_tables(tables)


def _cross(lenses, tier: Tier):
    """(host row, config, replicate) of every injection; with fewer configs than all, each is used equally often."""
    total = len(tier.configs())
    share = tier.sample.configs_per_host or total
    shuffled = np.argsort(draws.hash64("config order", tier.seed, np.arange(total)), kind="stable")
    rank, k, replicate = np.meshgrid(np.arange(len(lenses)), np.arange(share), np.arange(tier.sample.replicates), indexing="ij")
    config = shuffled[(rank * share + k) % total]
    return lenses[rank.ravel()], config.ravel(), replicate.ravel()


def _spread(galaxy, config, replicate, count, tier: Tier, purpose: str):
    """``count`` of the injections, by hash, taking every galaxy once before any twice."""
    key = draws.hash64(purpose, tier.seed, galaxy, config, replicate)
    order = np.lexsort((key, galaxy))
    turn = np.empty(len(order), int)
    starts = np.r_[0, np.flatnonzero(np.diff(galaxy[order])) + 1]
    turn[order] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return np.sort(np.lexsort((galaxy, key, turn))[:count])


def _features(hosts: pa.Table, tolerance: dict[str, float]):
    """Matching variables in units of their tolerance (hosts, variables); an unknown value is far from every known one."""
    derived = {"gr": ("mag_g", "mag_r"), "rz": ("mag_r", "mag_z")}
    columns = []
    for name, width in tolerance.items():
        parts = derived.get(name, (name,))
        unknown = [p for p in parts if p not in hosts.column_names]
        if unknown:
            raise ConfigError(f"controls.tolerance.{name}: no such variable; give parent columns, gr or rz")
        values = [hosts[p].to_numpy(zero_copy_only=False).astype(float) for p in parts]
        columns.append((values[0] - values[1] if len(values) == 2 else values[0]) / width)
    return np.nan_to_num(np.stack(columns, axis=1), nan=1e6)


def _match(hosts: pa.Table, lenses, others, tier: Tier):
    """For each lens another galaxy, each used once: (rows, rung of the ladder, distance in tolerances).

    The distance is the largest difference of any variable.  Closest pairs are taken first, rung by rung; what no rung
    holds gets the nearest galaxy left, at the rung after the last.
    """
    features = _features(hosts, tier.controls.tolerance)
    galaxy = hosts["galaxy_id"].to_numpy()
    tree = cKDTree(features[others])
    distance, index = tree.query(features[lenses], k=len(others), p=np.inf)
    distance, index = distance.reshape(len(lenses), -1), index.reshape(len(lenses), -1)
    pairs = np.lexsort((galaxy[others][index].ravel(), np.repeat(galaxy[lenses], len(others)), distance.ravel()))
    partner = np.full(len(lenses), -1)
    free, found = np.ones(len(others), bool), np.empty(len(lenses))
    for pair in pairs:
        i, j = pair // len(others), index.ravel()[pair]
        if partner[i] < 0 and free[j]:
            partner[i], found[i], free[j] = others[j], distance.ravel()[pair], False
    return partner, np.searchsorted(tier.controls.ladder, found) + 1, found


def _tasks(hosts, lens, config, replicate, role, tier: Tier, dataset: str, galaxy_row=None) -> pa.Table:
    """Rows of one role.  Draws are keyed by the injection they belong to; a control keeps them, without light."""
    taken = hosts.take(lens if galaxy_row is None else galaxy_row)
    key = (hosts["galaxy_id"].to_numpy()[lens], _config_keys(tier)[config], replicate)
    own = (taken["galaxy_id"].to_numpy(), *key, np.full(len(lens), role))
    pair = (key[0], *key, np.full(len(lens), INJECTED))
    grid = np.array(tier.configs())[config]
    theta_e, dmag, r_eff, src_e, shear = grid.T
    light = role == INJECTED

    def uniform(purpose, low, high):
        return draws.uniform(purpose, tier.seed, *key, low=low, high=high)

    def normal(purpose, values):
        return draws.normal(purpose, tier.seed, *key, mean=values[0], sigma=values[1])

    place = tier.draws.src_disc_theta_e * theta_e * np.sqrt(uniform("source radius", 0, 1))
    turn = uniform("source angle", 0, 2 * np.pi)
    angles = {name: uniform(f"{name} angle", 0, np.pi) for name in ("lens", "shear", "src")}
    where = [taken[c].to_numpy() for c in ("ra_deg", "dec_deg", "brick_ra_deg", "brick_dec_deg")]
    north = wcs.north_angle(*where)
    count = len(lens)
    columns = {name: taken[name] for name in CARRIED} | {
        "task_id": _ids(own, tier), "pair_id": _ids(pair, tier), "role": [ROLES[role]] * count,
        "tier": [tier.name] * count, "dataset": [dataset] * count, "experiment_id": [tier.experiment_id] * count,
        "config_id": [f"{tier.grid}-{c:04d}" for c in config], "theta_e_arcsec": theta_e * light, "src_dmag": dmag,
        "src_reff_arcsec": r_eff, "src_n": np.full(count, tier.draws.src_n), "src_e": src_e, "shear": shear * light,
        "lens_e": uniform("lens ellipticity", *tier.draws.lens_e),
        **{f"{name}_phi_rad": phi for name, phi in angles.items()},
        **{f"{name}_pa_deg": wcs.position_angle_deg(phi, north) for name, phi in angles.items()},
        "src_x_arcsec": place * np.cos(turn), "src_y_arcsec": place * np.sin(turn),
        "src_gr": normal("source g-r", tier.draws.src_gr), "src_rz": normal("source r-z", tier.draws.src_rz),
        "source_model": ["sersic" if light else "none"] * count, "replicate": replicate,
        "seed": (draws.hash64("noise", tier.seed, *own) >> np.uint64(1)).astype(np.int64),
        "stamp_side_pix": np.full(count, tier.stamp.side_pix),
    }  # fmt: skip
    return rows.table(columns, MANIFEST)


def _config_keys(tier: Tier):
    """A number for each config, from its values and not its place: adding a value to a grid renames no other task."""
    values = np.array(tier.configs()).view(np.int64)
    return draws.hash64(f"config {tier.name} {tier.grid}", 0, *values.T).view(np.int64)


def _ids(key, tier: Tier) -> list[str]:
    a, b = (draws.hash64(f"task id {half}", tier.seed, *key) for half in "ab")
    return [f"{x:016x}{y:016x}" for x, y in zip(a.tolist(), b.tolist(), strict=True)]
