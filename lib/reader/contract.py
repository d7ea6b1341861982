"""The training contract: columns that a reader may rely on, and which table has each."""

from lib.errors import InputError

CONTRACT = {
    "stamps": ("task_id", "split", "brickname", "role", "status", "bands", "stamp_side_pix", "encoding", "stamp"),
    "metrics": (
        "task_id", "experiment_id", "dataset", "split", "brickname", "ra_deg", "dec_deg", "config_id", "role", "theta_e_arcsec", "src_dmag",
        "src_reff_arcsec", "psf_fwhm_used_r_arcsec", "psfsize_r_arcsec", "psfdepth_r_mag", "bad_pixel_frac", "wise_brightmask_frac", "status",
    ),
}  # fmt: skip
FOOTER = "code_version"  # in the footer of every file


def require(table: str, schema, where: str) -> None:
    """Raise unless a file's schema holds what the contract says of its table; every missing column is named."""
    missing = [name for name in CONTRACT[table] if name not in schema.names]
    if FOOTER.encode() not in (schema.metadata or {}):
        missing.append(f"{FOOTER} (in the footer)")
    if missing:
        raise InputError(f"{where} breaks the training contract: the {table} table lacks {', '.join(missing)}")
