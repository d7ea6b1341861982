"""Stamps as a network sees them, and with a part blanked: the core, or the arc."""

from dataclasses import dataclass, replace

import numpy as np

from lib import reader
from lib.schemas import BANDS
from lib.store import Dataset
from lib.tiers import PIXEL_ARCSEC

SIDE = 48  # px: the middle of a stamp, 6 arcsec to each side
NOISE = np.array([0.0033, 0.0047, 0.012], np.float32)[
    :, None, None
]  # nmgy, of a pixel of DR10's mean depth: what brightness is in units of
CORE_PIX = 5.0
BETA = 2.8  # of the Moffat profile that central light has
ARC_SHARE = 0.1  # pixels of an arc above this part of its peak, in any band, are the arc
COLUMNS = ("role", "pair_id", "galaxy_id", "theta_e_over_psf", *(f"psf_fwhm_used_{b}_arcsec" for b in BANDS))


@dataclass(frozen=True)
class Set:
    """Stamps (n, 3, SIDE, SIDE), nmgy, with what is known of them; ``arc`` is the added light."""

    stamp: np.ndarray
    arc: np.ndarray
    facts: dict[str, np.ndarray]

    def __len__(self):
        return len(self.stamp)

    def take(self, which) -> "Set":
        return Set(self.stamp[which], self.arc[which], {k: v[which] for k, v in self.facts.items()})

    @property
    def lens(self) -> np.ndarray:
        return self.facts["role"] == "injected"

    def of(self, *roles) -> np.ndarray:
        return np.isin(self.facts["role"], roles)


def load(dataset: Dataset, split: str, **asked) -> Set:
    """All stamps of a split, sorted by task."""
    stamps = reader.Stamps(dataset, split=split, columns=COLUMNS, planes=("stamp", "arc"), **asked)
    batches = [b | {p: middle(b[p]) for p in ("stamp", "arc")} for b in stamps.epoch(shuffle=False)]
    held = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    order = np.argsort(held["task_id"])
    return Set(held.pop("stamp")[order], held.pop("arc")[order], {k: v[order] for k, v in held.items()})


def middle(planes: np.ndarray) -> np.ndarray:
    """The central SIDE pixels; a missing one is 0."""
    cut = (planes.shape[-1] - SIDE) // 2
    return np.nan_to_num(planes[..., cut : cut + SIDE, cut : cut + SIDE])


def seen(stamp: np.ndarray) -> np.ndarray:
    """What the network is given: brightness in units of the noise, compressed."""
    return np.arcsinh(stamp / NOISE)


def without_core(some: Set) -> Set:
    """Blanked within CORE_PIX of the middle."""
    y, x = np.mgrid[:SIDE, :SIDE] - 0.5 * (SIDE - 1)
    return replace(some, stamp=np.where(np.hypot(x, y) < CORE_PIX, np.float32(0), some.stamp))


def without_arc(some: Set) -> Set:
    """Blanked where the arc is; a control where that of its own injection is, so that the blank tells nothing."""
    top = some.arc.max(axis=(2, 3), keepdims=True)
    is_arc = ((some.arc > ARC_SHARE * top) & (top > 0)).any(axis=1)
    place = {pair: k for k, pair in enumerate(some.facts["task_id"])}
    whose = np.array([place.get(pair, -1) for pair in some.facts["pair_id"]])
    blank = is_arc[whose] & (whose >= 0)[:, None, None]
    return replace(some, stamp=np.where(blank[:, None], np.float32(0), some.stamp))


def joined(*sets: Set) -> Set:
    return Set(
        np.concatenate([s.stamp for s in sets]),
        np.concatenate([s.arc for s in sets]),
        {k: np.concatenate([s.facts[k] for s in sets]) for k in sets[0].facts},
    )


def with_central_light(some: Set) -> Set:
    """The paired controls, each with the light of its own injection's arc as a point in the middle: more flux in the core, and no arc."""
    place = {task: k for k, task in enumerate(some.facts["task_id"])}
    bare = np.flatnonzero(some.of("paired_control") & np.isin(some.facts["pair_id"], some.facts["task_id"]))
    light = some.arc[[place[pair] for pair in some.facts["pair_id"][bare]]].sum(axis=(2, 3))
    y, x = (np.mgrid[:SIDE, :SIDE] - 0.5 * (SIDE - 1)) * PIXEL_ARCSEC
    width = np.stack([some.facts[f"psf_fwhm_used_{b}_arcsec"][bare] for b in BANDS], axis=1)[..., None, None]
    point = (1.0 + (x * x + y * y) * 4.0 * (2.0 ** (1.0 / BETA) - 1.0) / width**2) ** -BETA
    point *= light[..., None, None] / point.sum(axis=(2, 3), keepdims=True)
    made = some.take(bare)
    return replace(made, stamp=(made.stamp + point).astype(np.float32))
