"""Rows of the manifest: every number of a task is drawn here, keyed by the injection it belongs to."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from lib import draws, rows
from lib.sampling import choose, sources
from lib.sampling.counts import HARD, INJECTED, PAIRED, UNPAIRED, configs_per_host
from lib.schemas import MANIFEST, PARENT, SPLITS
from lib.survey import angles
from lib.tiers import Tier

if TYPE_CHECKING:
    from lib.sampling.decisions import Plan

CARRIED = [name for name in PARENT.names if name in MANIFEST.names]
ROWS = 50_000  # made at a time
HEX = np.frombuffer("".join(f"{k:02x}" for k in range(256)).encode(), np.uint16)  # two digits a byte


def usable(piece: pa.Table, tier: Tier) -> pa.Table:
    """Galaxies outside of the guard band between splits, of which is known what the tier's draws need."""
    return piece.filter(pa.array(~piece["split_guard"].to_numpy(zero_copy_only=False) & sources.known(piece, tier)))


def host_keys(galaxy, tier: Tier) -> np.ndarray:
    """Galaxies in the order of these are a split's hosts, as many as there are to be."""
    return draws.hash64("host order", tier.seed, galaxy)


def hosts(piece: pa.Table, plan: "Plan", tier: Tier) -> np.ndarray:
    """Which of a piece's usable galaxies are hosts."""
    split, keys = piece["split"].to_numpy(zero_copy_only=False), host_keys(piece["galaxy_id"].to_numpy(), tier)
    found = np.zeros(piece.num_rows, bool)
    for name in SPLITS:
        found |= (split == name) & choose.chosen(keys, plan.hosts.get(name))
    return found


def injections(galaxy, at, tier: Tier) -> tuple[np.ndarray, np.ndarray]:
    """(config, replicate) of a galaxy's ``at``-th injection; its configs follow each other in a shuffled order, from a place of its own."""
    total = len(tier.configs())
    shuffled = np.argsort(draws.hash64("config order", tier.seed, np.arange(total)), kind="stable")
    start = (draws.hash64("first config", tier.seed, galaxy) % np.uint64(total)).astype(np.int64)
    config, replicate = shuffled[(start + at // tier.sample.replicates) % total], at % tier.sample.replicates
    return config, np.broadcast_to(replicate, config.shape)


def _every(galaxy, tier: Tier):
    """(config, replicate) of all injections of galaxies, (galaxies, injections) each."""
    return injections(np.asarray(galaxy)[:, None], np.arange(configs_per_host(tier) * tier.sample.replicates), tier)


def _keys(galaxy, config, replicate, tier: Tier) -> np.ndarray:
    """One number for every injection; all its draws are keyed by it."""
    return draws.hash64("injection", tier.seed, galaxy, _config_keys(tier)[config], replicate)


def control_keys(galaxy, role: str, tier: Tier) -> np.ndarray:
    """(galaxies, injections): injections in the order of these have a control of a role, as many as there are to be."""
    config, replicate = _every(galaxy, tier)
    key = _keys(np.asarray(galaxy)[:, None], config, replicate, tier)
    return choose.turns(draws.hash64(role, tier.seed, key))


def made(piece: pa.Table, plan: "Plan", tier: Tier, dataset: str):
    """MANIFEST rows of the galaxies in a piece of the parent table, a table at a time: as hosts, as unpaired controls of others, as hard negatives."""
    piece = usable(piece, tier)
    galaxy, split = piece["galaxy_id"].to_numpy(), piece["split"].to_numpy(zero_copy_only=False)
    north = angles.north_angle(*(piece[c].to_numpy() for c in ("ra_deg", "dec_deg", "brick_ra_deg", "brick_dec_deg")))
    write = partial(_tasks, piece=piece, north=north, tier=tier, dataset=dataset)
    host = np.flatnonzero(hosts(piece, plan, tier))
    step = max(1, ROWS // (2 * configs_per_host(tier) * tier.sample.replicates))
    for start in range(0, len(host), step):
        some = host[start : start + step]
        config, replicate = _every(galaxy[some], tier)
        row = np.broadcast_to(some[:, None], config.shape)
        yield write(row.ravel(), galaxy[row.ravel()], config.ravel(), replicate.ravel(), INJECTED)
        keys, paired = control_keys(galaxy[some], PAIRED, tier), np.zeros(config.shape, bool)
        for name in SPLITS:
            paired |= (split[some] == name)[:, None] & choose.chosen(keys, plan.paired.get(name))
        if paired.any():
            yield write(row[paired], galaxy[row[paired]], config[paired], replicate[paired], PAIRED)
    mine = np.flatnonzero(np.isin(plan.partner, galaxy)) if len(plan.partner) else np.empty(0, int)
    order = np.argsort(galaxy)
    for start in range(0, len(mine), ROWS):
        some = mine[start : start + ROWS]
        row = order[np.searchsorted(galaxy, plan.partner[some], sorter=order)]
        yield write(row, plan.lens[some], plan.config[some], plan.replicate[some], UNPAIRED, plan.rung[some], plan.distance[some])
    hard = np.flatnonzero(np.isin(galaxy, plan.negatives))
    for start in range(0, len(hard), ROWS):
        row = hard[start : start + ROWS]
        yield write(row, galaxy[row], *injections(galaxy[row], 0, tier), HARD)  # named after the first injection that the galaxy could have


def _tasks(
    row, lens, config, replicate, role: str, rung=None, distance=None, *, piece: pa.Table, north, tier: Tier, dataset: str
) -> pa.Table:
    """Rows of one role: of the piece's galaxies in ``row``, for injections into the galaxies ``lens``; a control keeps their draws, without light."""
    key, count = _keys(lens, config, replicate, tier), len(row)
    own = (piece["galaxy_id"].to_numpy()[row], role)
    pair = own if role == HARD else (lens, INJECTED)
    theta_e, dmag, r_eff, src_e, shear = sources.values(piece, row, config, key, tier)
    light = role == INJECTED

    def uniform(purpose, low, high):
        return draws.uniform(purpose, tier.seed, key, low=low, high=high)

    def normal(purpose, values):
        return draws.normal(purpose, tier.seed, key, mean=values[0], sigma=values[1])

    place = tier.draws.src_disc_theta_e * theta_e * np.sqrt(uniform("source radius", 0, 1))
    turn = uniform("source angle", 0, 2 * np.pi)
    phi = {name: uniform(f"{name} angle", 0, np.pi) for name in ("lens", "shear", "src")}
    named = np.array([f"{tier.grid}-{c:04d}" for c in range(len(tier.configs()))], dtype=object)

    def task_id(galaxy, role):
        return _hex(
            [draws.hash64(f"task id {half} {role}", tier.seed, galaxy, lens, _config_keys(tier)[config], replicate) for half in "ab"]
        )

    def same(value):
        return pa.repeat(pa.scalar(value), count)

    columns = dict(zip(CARRIED, piece.select(CARRIED).take(pa.array(row)).columns, strict=True)) | {
        "task_id": task_id(*own), "pair_id": task_id(*pair), "role": same(role),
        "tier": same(tier.name), "dataset": same(dataset), "experiment_id": same(tier.experiment_id),
        "config_id": pa.DictionaryArray.from_arrays(pa.array(config, pa.int32()), pa.array(named)).cast(pa.string()),
        "theta_e_arcsec": theta_e * light, "src_dmag": dmag,
        "src_reff_arcsec": r_eff, "src_n": np.full(count, tier.draws.src_n), "src_e": src_e, "shear": shear * light,
        "lens_e": uniform("lens ellipticity", *tier.draws.lens_e),
        **{f"{name}_phi_rad": value for name, value in phi.items()},
        **{f"{name}_pa_deg": angles.position_angle_deg(value, north[row]) for name, value in phi.items()},
        "src_x_arcsec": place * np.cos(turn), "src_y_arcsec": place * np.sin(turn),
        "src_gr": normal("source g-r", tier.draws.src_gr), "src_rz": normal("source r-z", tier.draws.src_rz),
        "source_model": same("sersic" if light else "none"), "replicate": replicate,
        "seed": (draws.hash64(f"noise {role}", tier.seed, key, own[0]) >> np.uint64(1)).view(np.int64),
        "stamp_side_pix": np.full(count, tier.stamp.side_pix),
    }  # fmt: skip
    if rung is not None:
        columns |= {"match_rung": rung, "match_distance": distance}
    return rows.table(columns, MANIFEST)


def _config_keys(tier: Tier):
    """A number for each config, from its values and not its place: adding a value to a grid renames no other task."""
    values = np.array(tier.configs())
    if tier.resolved is not None:  # slots of a stratum differ by their number
        values = np.column_stack([values, np.arange(len(values))])
    return draws.hash64(f"config {tier.name} {tier.grid}", 0, *values.view(np.int64).T).view(np.int64)


def _hex(words) -> pa.Array:
    """32 hexadecimal digits of two words."""
    digits = HEX[np.stack(words, axis=1).astype(">u8").view(np.uint8)]
    offsets = pa.py_buffer(np.arange(0, 32 * len(digits) + 1, 32, dtype=np.int32))
    return pa.Array.from_buffers(pa.string(), len(digits), [None, offsets, pa.py_buffer(digits.tobytes())])
