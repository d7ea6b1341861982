"""How many rows a tier asks for: from its config and the number of galaxies there are, before anything is made."""

from lib.schemas import ROLES, SPLITS
from lib.tiers import Tier

INJECTED, PAIRED, UNPAIRED, HARD = ROLES
ANY = 1 << 62  # more galaxies than any tier asks for


def configs_per_host(tier: Tier) -> int:
    return tier.sample.configs_per_host or len(tier.configs())


def lens_hosts(tier: Tier, split: str, eligible: int) -> int:
    """How many of a split's eligible galaxies get injections; the rest may become unpaired controls."""
    wanted = tier.sample.hosts[split]
    if not tier.sample.at_most:
        return wanted
    control = tier.controls.fraction / (1.0 - tier.controls.fraction) * (1.0 - tier.controls.paired)
    return min(wanted, int(eligible / (1.0 + configs_per_host(tier) * tier.sample.replicates * control)))


def expected_counts(tier: Tier, eligible: dict[str, int]) -> dict[str, dict[str, int]]:
    """Rows by split and role, from the config and the number of eligible hosts of each split; hard negatives come on top."""
    found = {}
    for split in SPLITS:
        injected = lens_hosts(tier, split, eligible.get(split, 0)) * configs_per_host(tier) * tier.sample.replicates
        controls = round(injected * tier.controls.fraction / (1.0 - tier.controls.fraction))
        paired = round(controls * tier.controls.paired)
        found[split] = {INJECTED: injected, PAIRED: paired, UNPAIRED: controls - paired}
    return found


def most_counts(tier: Tier) -> dict[str, dict[str, int]]:
    """The same before there are parents: exact without ``at_most``, else the most there can be."""
    return expected_counts(tier, dict.fromkeys(SPLITS, ANY))


def total(counts: dict[str, dict[str, int]]) -> int:
    return sum(sum(roles.values()) for roles in counts.values())
