"""Parents in numbers: red galaxies of many bricks, without a survey behind them."""

import dataclasses

import numpy as np
import pyarrow as pa

from lib import draws, rows, tiers
from lib.imaging import photometry, psf
from lib.lensing import magnification, shear, sie
from lib.schemas import BANDS, MAGNITUDES, METRICS, PARENT, SHAPE, SPLITS
from lib.survey import cells, geometry


def tier(**sample) -> tiers.Tier:
    """The train tier, of another size."""
    train = tiers.load("train")
    return dataclasses.replace(train, sample=dataclasses.replace(train.sample, at_most=False, **sample))


def footprint(count: int) -> np.ndarray:
    """Ids of ``count`` bricks between declinations -70 and 32, in groups."""
    known = np.arange(1, geometry.BRICKS + 1)
    dec = -90.0 + geometry.SIDE_DEG * (np.searchsorted(geometry.FIRST, known, side="right") - 1)
    inside = known[(dec > -70) & (dec < 32)]
    return np.sort(inside[np.argsort(draws.hash64("footprint", 0, inside // 50), kind="stable")[:count]])


def galaxies(brickid: np.ndarray, number: np.ndarray, tier: tiers.Tier) -> pa.Table:
    """PARENT rows: magnitudes and sizes of red galaxies; PSF and depth of each brick, with a little scatter inside it."""

    def u(purpose, *keys):
        return draws.uniform(purpose, 1, *(keys or (brickid, number)))

    def n(purpose, *keys):
        return draws.normal(purpose, 1, *(keys or (brickid, number)))

    row = np.searchsorted(geometry.FIRST, brickid, side="right") - 1
    columns = geometry.COLUMNS[row]
    dec0, ra0 = -90.0 + geometry.SIDE_DEG * row, (brickid - geometry.FIRST[row] + 0.5) * 360.0 / columns
    ra, dec = (ra0 + (u("ra") - 0.5) * 360.0 / columns) % 360.0, dec0 + (u("dec") - 0.5) * geometry.SIDE_DEG
    r = 17.0 + 4.0 * np.sqrt(u("r"))
    gr, rz = 1.1 + 0.08 * (r - 19) + 0.2 * n("gr"), 0.7 + 0.05 * (r - 19) + 0.12 * n("rz")
    mags = {"g": r + np.maximum(gr, 0.51), "r": r, "z": r - np.maximum(rz, 0.21)}
    seeing, ebv, size = n("seeing", brickid), np.exp(-3.2 + 0.5 * n("ebv", brickid)), len(ra)
    cell, part = cells.at(ra, dec, tier.split)
    table: dict = {
        "galaxy_id": (10 << 42) | (brickid << 20) | number, "brickname": np.char.add("b", brickid.astype(str)), "objid": number,
        "release": np.full(size, 10), "brickid": brickid, "ra_deg": ra, "dec_deg": dec, "brick_ra_deg": ra0, "brick_dec_deg": dec0,
        "type": np.where(u("type") < 0.6, "DEV", "SER"), "shape_r_arcsec": np.exp(0.4 - 0.35 * (r - 19) + 0.3 * n("size")),
        "shape_e1": 0.15 * n("e1"), "shape_e2": 0.15 * n("e2"), "ebv_mag": ebv, "maskbits": np.zeros(size, int), "sky_cell": cell,
        "split": np.array(SPLITS)[part], "selections": [[tier.selection.name]] * size,
        "split_guard": cells.near_other_split(ra, dec, tier.split, tier.guard_arcsec),
    }  # fmt: skip
    for k, b in enumerate(BANDS):
        width = (1.57, 1.36, 1.41)[k] * np.exp(0.1 * seeing + 0.04 * n(f"seeing {b}", brickid))
        depth = (24.8, 24.4, 23.3)[k] + 0.25 * n(f"depth {b}", brickid) - 0.1 * seeing + 0.02 * n(f"own depth {b}")
        table |= {
            f"mag_{b}": mags[b], f"mag_{b}_observed": mags[b] + (3.2, 2.2, 1.2)[k] * ebv, f"psfdepth_{b}_mag": depth,
            f"nobs_{b}": 2 + (4 * u(f"nobs {b}", brickid)).astype(int), f"fracmasked_{b}": np.zeros(size),
            f"psfsize_{b}_arcsec": width * np.exp(0.01 * n(f"psf {b}")), f"brick_psfsize_{b}_arcsec": width,
        }  # fmt: skip
    return rows.table(table, PARENT)


def places(count: int, bricks: int) -> tuple[np.ndarray, np.ndarray]:
    """(brick ids, numbers of the galaxies in their brick), by brick."""
    ids = footprint(bricks)
    brick = np.sort(ids[(draws.uniform("brick", 2, np.arange(count)) * len(ids)).astype(int)])
    first = np.r_[True, brick[1:] != brick[:-1]]
    return brick, np.arange(count) - np.flatnonzero(first)[np.cumsum(first) - 1]


def parents(count: int, tier: tiers.Tier) -> pa.Table:
    """``count`` galaxies, seven a brick."""
    return galaxies(*places(count, count // 7), tier)


def metrics(manifest: pa.Table, tier: tiers.Tier) -> pa.Table:
    """METRICS rows as stamps of these tasks would give them; the flux of arcs by rays, as nothing is drawn."""
    task = {name: manifest[name].to_numpy() for name in (*SHAPE, *MAGNITUDES)}
    task = {name: values.astype(float) for name, values in task.items()}
    light = manifest["role"].to_numpy() == "injected"
    lit = {name: values[light] for name, values in task.items()}
    key, count = np.arange(manifest.num_rows), manifest.num_rows

    def of_arcs(values):
        out = np.zeros(count)
        out[light] = values
        return pa.array(out, mask=~light)

    lens = (lit["theta_e_arcsec"], sie.axis_ratio(lit["lens_e"]), lit["lens_phi_rad"], *shear.components(lit["shear"], lit["shear_phi_rad"]),
            lit["src_x_arcsec"], lit["src_y_arcsec"])  # fmt: skip
    mu = magnification.of_source(*lens, lit["src_n"], lit["src_reff_arcsec"], sie.axis_ratio(lit["src_e"]), lit["src_phi_rad"])
    r = lit["mag_r_observed"] + lit["src_dmag"]
    unlensed = photometry.flux(np.stack([r + lit["src_gr"], r, r - lit["src_rz"]]))
    snr = np.exp(3.0 + draws.normal("snr", 1, key[light]))
    made: dict = {name: manifest[name] for name in manifest.column_names}
    made |= {"status": pa.repeat(pa.scalar("ok"), count), "pixel_scale_arcsec": np.full(count, tiers.PIXEL_ARCSEC)}
    for k, b in enumerate(BANDS):
        size = manifest[f"psfsize_{b}_arcsec"].to_numpy().astype(float)
        unit = psf.moffat_from_psfsize(1.0, tier.psf.beta[b]).fwhm_arcsec
        made |= {
            f"psf_fwhm_used_{b}_arcsec": size * unit,
            f"psfsize_used_{b}_arcsec": size,
            f"psf_source_{b}": pa.repeat(pa.scalar("map"), count),
        }
        made |= {
            f"flux_unlensed_{b}": of_arcs(unlensed[k]),
            f"flux_lensed_{b}": of_arcs(mu * unlensed[k]),
            f"flux_stamp_{b}": of_arcs(0.99 * mu * unlensed[k]),
        }
    masked = np.clip(draws.normal("masked", 1, key, sigma=0.01), 0, 1)
    made |= {
        "magnification": of_arcs(mu), "magnification_expected": of_arcs(mu), "n_images": of_arcs(magnification.images(*lens)),
        "stamp_flux_fraction": of_arcs(0.99), "arc_snr": of_arcs(snr), "arc_snr_total": of_arcs(0.8 * snr), "arc_snr_peak": of_arcs(0.2 * snr),
        "theta_e_over_psf": of_arcs(lit["theta_e_arcsec"] / np.asarray(made["psf_fwhm_used_r_arcsec"])[light]), "bad_pixel_frac": masked,
        "arc_bad_pixel_frac": of_arcs(masked[light]), "wise_brightmask_frac": np.zeros(count), "core_flux_fraction": of_arcs(0.5),
    }  # fmt: skip
    made["n_images"] = made["n_images"].cast(pa.int32())
    return rows.table(made, METRICS)
