"""Bricks in chunks of about equal cost: a function of the manifest alone, so that any cluster makes the same files."""

BRICK_COST = 20  # of opening a brick, in stamps: measured by ``make bench NAME=inject``
STAMPS_MAX = 4096  # of a chunk: its file of stamps is some 300 MB
CHUNKS_MIN = 16  # where there are bricks enough, so that a laptop's cores share a small run


def of_bricks(sizes: dict[str, int]) -> list[list[str]]:
    """Bricks, by name, in chunks whose costs (rows and a brick's own) are about the same; neighbours stay together.

    >>> of_bricks({"0001p000": 900, "0002p000": 2, "0003p000": 3, "0004p000": 890})
    [['0001p000'], ['0002p000', '0003p000'], ['0004p000']]
    """
    cost = {name: BRICK_COST + rows for name, rows in sizes.items()}
    most = min(STAMPS_MAX, max(sum(cost.values()) / CHUNKS_MIN, max(cost.values(), default=0)))
    found: list[list[str]] = []
    held = most
    for name in sorted(sizes):
        if held + cost[name] > most:
            found.append([])
            held = 0.0
        found[-1].append(name)
        held += cost[name]
    return found
