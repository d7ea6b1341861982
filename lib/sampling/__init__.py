"""From hosts to tasks: which galaxy gets which injection, and its controls.  Everything random is drawn here, by counter.

``counts`` says how many rows a config asks for; ``choose`` takes the first of many by their hash, exactly and without sorting
them; ``match`` finds every unpaired control its galaxy; ``tasks`` writes the rows.  ``plan`` puts them in order, over pieces of the parent
table that may lie anywhere: in memory here, on the workers of a cluster in ``lib.spark``.
"""

from lib.sampling.counts import ANY, HARD, PAIRED, UNPAIRED, expected_counts, lens_hosts, most_counts, total
from lib.sampling.decisions import InMemory, Negatives, Plan, bricks, count_eligible, manifest, plan
from lib.sampling.sources import SIZES, unit_fwhm

__all__ = [
    "ANY", "HARD", "PAIRED", "SIZES", "UNPAIRED", "InMemory", "Negatives", "Plan", "bricks", "count_eligible", "expected_counts", "lens_hosts", "manifest", "most_counts", "plan", "total",
    "unit_fwhm",
]  # fmt: skip
