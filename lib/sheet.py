"""One task on one sheet: its stamp, the same without the arc, the arc alone, lens and source planes, and the parameters."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from lib.imaging import picture
from lib.lensing import magnification, sersic, shear, sie
from lib.schemas import BANDS

FINE = 240  # points a side of the source plane's picture
TOLD = {
    "lens": ("theta_e_arcsec", "lens_e", "lens_pa_deg", "shear", "shear_pa_deg"),
    "source": ("src_dmag", "src_reff_arcsec", "src_n", "src_e", "src_x_arcsec", "src_y_arcsec", "src_gr", "src_rz"),
    "host": ("mag_g", "mag_r", "mag_z", "shape_r_arcsec", "ra_deg", "dec_deg"),
    "seeing": (*(f"psf_fwhm_used_{b}_arcsec" for b in BANDS), "psfdepth_r_mag"),
    "measured": (
        "magnification",
        "n_images",
        "arc_snr",
        "arc_snr_peak",
        "theta_e_over_psf",
        "core_flux_fraction",
        "bad_pixel_frac",
        "detectable",
    ),
}
NAMED = ("role", "split", "brickname", "config_id")


def write(row: dict, stamp: dict, planes: dict[str, np.ndarray], path: Path) -> None:
    """A PNG of a METRICS row, its STAMPS row, and the planes that ``reader.planes`` gives of it."""
    figure, axes = plt.subplots(2, 3, figsize=(13.5, 9.6), layout="constrained")
    injected, half = row["role"] == "injected", 0.5 * row["pixel_scale_arcsec"] * row["stamp_side_pix"]
    middle = 0.5 * (row["stamp_side_pix"] - 1)
    x0, y0 = ((stamp[k] - middle) * row["pixel_scale_arcsec"] for k in ("x_pix", "y_pix"))  # the lens, from the stamp's middle
    extent = (-half - x0, half - x0, -half - y0, half - y0)  # so that the lens is at 0, 0
    bare = np.where(planes["invvar"] > 0, planes["stamp"] - planes["arc"], planes["stamp"])
    pictures = [("stamp, g r z; the lens at 0, 0", planes["stamp"]), ("less the arc", bare), ("arc alone, without noise", planes["arc"])]
    for axis, (title, image) in zip(axes.flat, pictures):
        axis.imshow(picture.rgb(image)[::-1], extent=extent, origin="lower", interpolation="nearest")
        axis.set(title=title, xlabel="arcsec", ylabel="arcsec")
    if injected:
        _planes(row, planes["arc"], extent, axes[1, 0], axes[1, 1])
    else:
        for axis in (axes[0, 2], axes[1, 0], axes[1, 1]):
            axis.clear()
            axis.axis("off")
            axis.text(0.5, 0.5, f"{row['role'].replace('_', ' ')}: no arc", ha="center", va="center", color="0.4")
    axes[1, 2].axis("off")
    for left, block in zip((-0.08, 0.43), text(row), strict=True):
        told = axes[1, 2].text(left, 0.98, block, va="top", family="monospace", fontsize=7.5, transform=axes[1, 2].transAxes)
        told.set_in_layout(False)
    figure.suptitle(f"{row['task_id']}, {row['dataset']}, tier {row['tier']}; pair {row['pair_id']}", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def _planes(row: dict, arc: np.ndarray, extent, image_plane, source_plane) -> None:
    q, g = sie.axis_ratio(row["lens_e"]), shear.components(row["shear"], row["shear_phi_rad"])
    lines = {
        k: [np.append(v, v[0]) for v in line] for k, line in magnification.curves(row["theta_e_arcsec"], q, row["lens_phi_rad"], *g).items()
    }
    reach = 2.2 * row["theta_e_arcsec"]
    image_plane.imshow(arc[BANDS.index("r")], extent=extent, origin="lower", cmap="Greys", interpolation="nearest")
    image_plane.plot(*lines["critical"], color="#d1495b", lw=1.2, label="critical curve")
    image_plane.plot(0, 0, "k+", ms=6)
    image_plane.set(title="image plane, r", xlim=(-reach, reach), ylim=(-reach, reach), xlabel="arcsec", ylabel="arcsec")
    x, y, r_eff = row["src_x_arcsec"], row["src_y_arcsec"], row["src_reff_arcsec"]
    wide = 1.15 * max(*(np.abs(v).max() for name in ("caustic", "cut") for v in lines[name]), np.hypot(x, y) + 2.0 * r_eff)
    at = np.linspace(-wide, wide, FINE)
    light = sersic.brightness(at - x, at[:, None] - y, row["src_n"], r_eff, sie.axis_ratio(row["src_e"]), row["src_phi_rad"])
    source_plane.imshow(np.sqrt(light), extent=(-wide, wide, -wide, wide), origin="lower", cmap="Blues")
    source_plane.plot(*lines["caustic"], color="#d1495b", lw=1.2, label="caustic")
    source_plane.plot(*lines["cut"], color="#edae49", lw=1.2, label="cut: two images inside")
    source_plane.set(title="source plane, before the lens", xlabel="arcsec", ylabel="arcsec")
    for axis in (image_plane, source_plane):
        axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2, frameon=False)


def text(row: dict) -> tuple[str, str]:
    """The parameters, a line each, in two columns."""

    def lines(title, names, width):
        return ["", title, *(f" {name:{width}} {_number(row[name])}" for name in names if row[name] is not None)]

    task = ["task", *(f" {name:15} {row[name]}" for name in NAMED)]
    blocks = {title: lines(title, names, 15 if title in ("lens", "source") else 22) for title, names in TOLD.items()}
    left, right = [*task, *blocks["lens"], *blocks["source"]], [*blocks["host"], *blocks["seeing"], *blocks["measured"]]
    return "\n".join(left), "\n".join(right[1:])


def _number(value) -> str:
    return str(value) if isinstance(value, (bool, str)) else f"{value:.6g}" if abs(value) >= 100 else f"{value:.4g}"
