"""The bits of the surveys' ``maskbits`` images and MASKBITS column (DR9 and DR10)."""

NPRIMARY = 1 << 0  # outside of the brick's unique area
BRIGHT = 1 << 1  # around a star brighter than about 13
SATUR_G = 1 << 2  # saturated in at least one exposure
SATUR_R = 1 << 3
SATUR_Z = 1 << 4
ALLMASK_G = 1 << 5  # bad in every exposure
ALLMASK_R = 1 << 6
ALLMASK_Z = 1 << 7
WISEM1 = 1 << 8
WISEM2 = 1 << 9
BAILOUT = 1 << 10  # the catalogue's fit gave up here: the pixels are good
MEDIUM = 1 << 11  # around a star brighter than about 16
GALAXY = 1 << 12  # on a large galaxy
CLUSTER = 1 << 13
SATUR_I = 1 << 14
ALLMASK_I = 1 << 15
SUB_BLOB = 1 << 16

BANDS_SATUR = {"g": SATUR_G, "r": SATUR_R, "z": SATUR_Z}
BANDS_ALLMASK = {"g": ALLMASK_G, "r": ALLMASK_R, "z": ALLMASK_Z}
WISE = WISEM1 | WISEM2
BRIGHT_STAR = BRIGHT | MEDIUM


def bad_bits(band: str) -> int:
    """Bits that say a pixel's value in ``band`` is not to be trusted.

    The circles around stars, BAILOUT, and the WISE bits are not in: under them the optical pixels are measured.
    """
    if band not in BANDS_SATUR:
        raise ValueError(f"band must be one of {', '.join(BANDS_SATUR)}, got {band!r}")
    return BANDS_SATUR[band] | BANDS_ALLMASK[band]
