"""Every gate is seen failing: for each a small planted fault, and the fault in its message."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from lib import cuts, encoding, injection, reader, runs
from lib.imaging import photometry, psf
from lib.lensing import magnification
from lib.schemas import BANDS, SPLITS
from tests import tables
from tests.gates import pages, test_manifest_gates
from tests.gates.conftest import Broken, put, with_gates
from validation import report
from validation.__main__ import GATES, main, validate
from validation.data import Data
from validation.physics import lens_and_source
from validation.result import Result

BY_NAME = {g.name: g for g in GATES}
SIDE = 64


def arc(row: dict) -> bool:
    return row["status"] == "ok" and row["role"] == "injected"


def first(chosen: Callable[[dict], bool], then, otherwise: Callable[[dict], object]):
    """Values for ``Broken.column``: ``then`` in the first row that is chosen, elsewhere what was there."""
    done: list[bool] = []

    def value(row):
        if not done and chosen(row):
            done.append(True)
            return then
        return otherwise(row)

    return value


@dataclass(frozen=True)
class Fault:
    gate: str
    sentence: str
    says: str  # a pattern of the gate's message
    plant: Callable[[Broken], None]
    measured: Callable[[float], bool]
    thresholds: dict


FAULTS: list[Fault] = []


def fault(gate: str, sentence: str, says: str, measured: Callable[[float], bool] = lambda value: True, **thresholds):
    """Register what plants a fault in a data set; ``thresholds`` are the tier's that judges it, if the tiny one's will not do."""

    def register(plant):
        FAULTS.append(Fault(gate, sentence, says, plant, measured, thresholds))
        return plant

    return register


@fault("manifest_counts", "rows are removed", r"test/injected: 7 rows, config asks for 12", lambda n: n == 115)
def _(broken):
    broken.rows("manifest", lambda rows: rows.sort_by([("split", "ascending"), ("role", "ascending")]).slice(5))


@fault("manifest_counts", "a selection is crossed twice", r"val/injected: 24 rows, config asks for 12", lambda n: n == 240)
def _(broken):
    broken.rows("manifest", lambda rows: pa.concat_tables([rows, rows]))


@fault("host_limits", "a host is too bright", r"^1 rows break 17 < r < 21", lambda n: n >= 1)
def _(broken):
    broken.column("manifest", "mag_r", first(lambda row: True, 12.4, lambda row: row["mag_r"]))


@fault(
    "split_distance",
    "two splits share pixels",
    r'^the nearest two galaxies of different splits, \d+ and \d+, are 8\.0" apart: stamps of 64 px share no pixel from 23\.7" on$',
    lambda arcsec: 7.9 < arcsec < 8.1,
)
def _(broken):
    def change(rows):
        table = rows.to_pandas()
        train = table[table.split == "train"].iloc[0]
        moved = table.galaxy_id == table[table.split == "val"].iloc[0].galaxy_id
        table.loc[moved, "ra_deg"], table.loc[moved, "dec_deg"] = train.ra_deg, train.dec_deg + 8.0 / 3600.0
        return put(put(rows, "ra_deg", table.ra_deg), "dec_deg", table.dec_deg)

    broken.rows("manifest", change)


@fault("manifest_unique", "two overlapping selections are joined", r"^\d+ keys .* more than once", lambda n: n > 0)
def _(broken):
    broken.rows("manifest", lambda rows: pa.concat_tables([rows, rows.filter(pc.equal(rows["split"], "val"))]))


@fault("manifest_unique", "a task is there again under another id", r"^1 keys \(galaxy, config, replicate, role\)", lambda n: n == 1)
def _(broken):
    broken.rows("manifest", lambda rows: pa.concat_tables([rows, put(rows.slice(0, 1), "task_id", ["another"])]))


@fault("manifest_unique", "two tasks have one id", r"^1 keys .* or ids", lambda n: n == 1)
def _(broken):
    broken.rows("manifest", lambda rows: put(rows, "task_id", [rows["task_id"][1].as_py(), *rows["task_id"].to_pylist()[1:]]))


@fault("split_by_cell", "the split is drawn by task", r"^[1-9]\d* cells or galaxies have rows in two splits", lambda n: n > 5)
def _(broken):
    broken.column("manifest", "split", lambda row: SPLITS[int(row["task_id"][:8], 16) % 3])


@fault("control_fraction", "the controls are dropped", r"off by 0.4000", lambda off: off == pytest.approx(0.4))
def _(broken):
    broken.rows("manifest", lambda rows: rows.filter(pc.equal(rows["role"], "injected")))


@fault("control_fraction", "controls have lost their injections", r"; 48 controls have no injection as partner", lambda off: off <= 0.01)
def _(broken):
    broken.column("manifest", "pair_id", lambda row: "nobody" if row["role"] != "injected" else row["pair_id"])


@fault("grid_values", "one theta_e is missing", r"theta_e_arcsec=1.0 is missing")
def _(broken):
    broken.column("manifest", "theta_e_arcsec", lambda row: 0.6 if row["theta_e_arcsec"] == 1.0 else row["theta_e_arcsec"])


@fault("grid_values", "a value is not of the grid", r"src_e=0.7\d* is not in the grid")
def _(broken):
    broken.column("manifest", "src_e", first(lambda row: row["role"] == "injected", 0.7, lambda row: row["src_e"]))


@fault("grid_values", "one value is nearly always taken", r"shear=0.0\d? has (1|71) rows, 36 expected", lambda sigma: sigma > 5)
def _(broken):
    broken.column("manifest", "shear", first(lambda row: row["shear"] > 0, 0.03, lambda row: 0.0))


@fault("schema", "a column is dropped", r"metrics: columns \['ebv_mag'\]", lambda n: n == 6)  # in each of its files
def _(broken):
    broken.rows("metrics", lambda rows: rows.drop_columns(["ebv_mag"]))


@fault("schema", "a column is widened", r"metrics.mag_r: double", lambda n: n == 6)
def _(broken):
    broken.rows("metrics", lambda rows: retype(rows, pa.field("mag_r", pa.float64())))


@fault("schema", "a column is made nullable", r"manifest.theta_e_arcsec: float nullable=True", lambda n: n == 1)
def _(broken):
    broken.rows("manifest", lambda rows: retype(rows, pa.field("theta_e_arcsec", pa.float32())))


@fault("schema", "two columns change places", r"stamps: columns in another order", lambda n: n == 6)
def _(broken):
    broken.rows("stamps", lambda rows: rows.select([*rows.column_names[:-2], *rows.column_names[:-3:-1]]))


def retype(rows: pa.Table, field: pa.Field) -> pa.Table:
    return rows.set_column(rows.schema.names.index(field.name), field, rows[field.name].cast(field.type))


@fault("schema", "the files are of another schema version", r"stamps: schema version 0, not 1")
def _(broken):
    reprint(broken, "stamps", schema_version="0")


def reprint(broken: Broken, table: str, **footer: str) -> None:
    """Change the footer of one file of a table."""
    path = tables.paths(broken.dataset, table)[0]
    rows = pq.ParquetFile(path).read()
    path.unlink()
    pq.write_table(rows.replace_schema_metadata(rows.schema.metadata | {k.encode(): v.encode() for k, v in footer.items()}), path)


@fault("one_run", "the files of two configs are mixed", r"stamps: .*another-config", lambda n: n == 2)
def _(broken):
    reprint(broken, "stamps", config_hash="another-config")


@fault("one_run", "the files of two runs are mixed", r"stamps: .*another-run", lambda n: n == 2)
def _(broken):
    path = tables.paths(broken.dataset, "stamps")[0]
    other = path.parent.with_name("run_id=another-run") / path.name
    other.parent.mkdir()
    shutil.move(path, other)
    place = tables.folder(broken.dataset)
    moved = {str(path.relative_to(place)): str(other.relative_to(place))}
    rewrite_record(broken, "inject", lambda row: row | {"files": [f | {"path": moved.get(f["path"], f["path"])} for f in row["files"]]})


@fault("one_run", "stamps and metrics are of two versions of the code", r"stamps and metrics are of different runs")
def _(broken):
    broken.rows("metrics", lambda rows: rows)
    reprint(broken, "metrics", code_version="0.0.0+other")


@fault("rows_match", "a stamp is lost", r"^1 in manifest not in stamps$", lambda n: n == 1)
def _(broken):
    broken.rows("stamps", lambda rows: rows.slice(1))


@fault("rows_match", "a row of metrics is doubled", r"^1 doubled in metrics$", lambda n: n == 1)
def _(broken):
    broken.rows("metrics", lambda rows: pa.concat_tables([rows, rows.slice(0, 1)]))


@fault("rows_match", "a stamp has no task", r"^1 in stamps not in manifest, 1 in metrics not in manifest$", lambda n: n == 2)
def _(broken):
    broken.rows("manifest", lambda rows: rows.slice(1))


@fault("success_rate", "a tenth of the rows has no coverage", r"no_coverage 12, ok 108", lambda share: share == pytest.approx(0.9))
def _(broken):
    broken.rows("metrics", lambda rows: put(rows, "status", ["ok" if k % 10 else "no_coverage" for k in range(rows.num_rows)]))


@fault("critical_nulls", "an Einstein radius is not a number", r"^theta_e_arcsec: 1$", lambda n: n == 1)
def _(broken):
    broken.column("metrics", "theta_e_arcsec", first(arc, np.nan, lambda row: row["theta_e_arcsec"]))


@fault("critical_nulls", "an arc has no magnification", r"^magnification: 1$", lambda n: n == 1)
def _(broken):
    broken.column("metrics", "magnification", first(arc, None, lambda row: row["magnification"]))


@fault("critical_nulls", "the flux of arcs is not known in g", r"^flux_stamp_g: 72$", lambda n: n == 72)
def _(broken):
    broken.column("metrics", "flux_stamp_g", lambda row: None)


@fault("critical_nulls", "the number of images is not known", r"^n_images: 72$", lambda n: n == 72)
def _(broken):
    broken.column("metrics", "n_images", lambda row: None)


@fault("critical_nulls", "a control has a measured arc", r"^arc_snr of a control: 48$", lambda n: n == 48)
def _(broken):
    broken.column("metrics", "arc_snr", lambda row: row["arc_snr"] or 0.0)


@fault("ranges", "a FWHM is negative", r"^psf_fwhm_used_r_arcsec: 1 outside$", lambda n: n == 1)
def _(broken):
    broken.column("metrics", "psf_fwhm_used_r_arcsec", first(arc, -1.3, lambda row: row["psf_fwhm_used_r_arcsec"]))


@fault("ranges", "an Einstein radius is 50 arcsec", r"^theta_e_arcsec: 1 outside$", lambda n: n == 1)
def _(broken):
    broken.column("metrics", "theta_e_arcsec", first(arc, 50.0, lambda row: row["theta_e_arcsec"]))


@fault("psf_provenance", "the FWHM in g is zero", r"^120 rows without a PSF")
def _(broken):
    broken.column("metrics", "psf_fwhm_used_g_arcsec", lambda row: 0.0)


@fault(
    "psf_provenance", "a twentieth of the PSFs is the catalogue's", r"g 0.0500 \(at most 0.01\)", lambda share: share == pytest.approx(0.05)
)
def _(broken):
    broken.rows("metrics", lambda rows: put(rows, "psf_source_g", ["map" if k % 20 else "catalogue" for k in range(rows.num_rows)]))


def planes(row: dict, name: str) -> np.ndarray:
    return reader.planes(row)[name].copy()


def blob(cube: np.ndarray) -> bytes:
    """A plane as its column holds it."""
    return encoding.encode(cube[None])[0].as_py()


def changed(row: dict, name: str, where, value) -> bytes:
    cube = planes(row, name)
    cube[where] = value
    return blob(cube)


@fault("planes", "a stamp has a patch of NaN", r"^stamp is not finite$", lambda n: n == 1)
def _(broken):
    done = first(lambda row: True, True, lambda row: False)
    broken.column("stamps", "stamp", lambda row: changed(row, "stamp", np.s_[1, 3:9, 3:9], np.nan) if done(row) else row["stamp"])


@fault("planes", "a band of the stamps is constant", r"^stamp plane is constant$", lambda n: n == 120)
def _(broken):
    broken.column("stamps", "stamp", lambda row: changed(row, "stamp", np.s_[2], 0.0))


@fault("planes", "controls have an arc", r"^a control has an arc$", lambda n: n == 48)
def _(broken):
    broken.column("stamps", "arc", lambda row: row["arc"] if arc(row) else changed(row, "arc", np.s_[0, 30, 30], 1e-6))


@fault("planes", "the pixels are cut short", r"invvar has 49120 bytes", lambda n: n == 120)
def _(broken):
    broken.column("stamps", "invvar", lambda row: row["invvar"][:-32])


@fault("planes", "the masks are lost", r"^no pixels in mask$", lambda n: n == 120)
def _(broken):
    broken.column("stamps", "mask", lambda row: None)


@fault("arc_flux", "the arcs are 1 % too bright", r"^72 arcs differ", lambda off: off == pytest.approx(0.01, rel=1e-2))
def _(broken):
    broken.column("stamps", "arc", lambda row: blob(planes(row, "arc") * np.float32(1.01)))


@fault("stamp_content", "the arcs are in no stamp", r"^24 of 24 stamps are not their control plus the arc", lambda off: off > 0.5)
def _(broken):
    broken.column(
        "stamps", "stamp", lambda row: blob(planes(row, "stamp") - planes(row, "arc")) if row["role"] == "injected" else row["stamp"]
    )


@fault("stamp_content", "the stamps are noise", r"stamps are not their control plus the arc", lambda off: off > 0.5)
def _(broken):
    noise = np.random.default_rng(0).normal(size=(3, SIDE, SIDE)).astype(np.float32)
    broken.column("stamps", "stamp", lambda row: blob(noise) if row["role"] == "injected" else row["stamp"])


@fault("stamp_content", "invvar does not know of the arcs' light", r"stamps are not their control plus the arc", lambda off: off > 1e-3)
def _(broken):
    stamps = {r["task_id"]: r["invvar"] for r in runs.read(broken.dataset, "stamps", ["task_id", "invvar"]).to_pylist()}
    controls = [
        r for r in runs.read(broken.dataset, "metrics", ["task_id", "pair_id", "role"]).to_pylist() if r["role"] == "paired_control"
    ]
    plain = {r["pair_id"]: stamps[r["task_id"]] for r in controls}
    broken.column("stamps", "invvar", lambda row: plain.get(row["task_id"], row["invvar"]))


def rewrite_record(broken: Broken, command: str, change: Callable[[dict], dict]) -> None:
    for path in tables.folder(broken.dataset, broken.dataset.table("runs")).glob("run_id=*/*.parquet"):
        table = pq.ParquetFile(path).read()
        rows = [change(r) if r["command"] == command else r for r in table.to_pylist()]
        path.unlink()  # a link to the original's file
        pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


@fault(
    "lineage",
    "the manifest was made again after the stamps",
    r"^inject read manifest of run an-older-run, the one here is ",
    lambda n: n == 1,
)
def _(broken):
    inputs = json.dumps({"manifest": ["an-older-run"], "coadds": "x"})
    rewrite_record(broken, "inject", lambda row: row | {"inputs": inputs})


@fault("lineage", "the stamps were made with another gain", r"^inject was made with noise.gain.r: 1.0 -> 30000.0$", lambda n: n == 1)
def _(broken):
    def other(row):
        settings = json.loads(row["config"])
        settings["noise"]["gain"]["r"] = 1.0
        return row | {"config": json.dumps(settings)}

    rewrite_record(broken, "inject", other)


@fault("rerender", "the arcs are one pixel off", r"^24 of 24 arcs differ", lambda off: off > 0.05)
def _(broken):
    broken.column("stamps", "arc", lambda row: blob(np.roll(planes(row, "arc"), 1, axis=2)))


@fault("rerender", "the lens was turned by another angle", r"of 24 arcs differ", lambda off: off > 0.01)
def _(broken):
    tasks = {row["task_id"]: row for row in runs.read(broken.dataset, "metrics").to_pylist()}

    def turned(row):
        if not arc(row):
            return row["arc"]
        task = tasks[row["task_id"]] | {"lens_phi_rad": tasks[row["task_id"]]["lens_phi_rad"] + 0.7}
        psfs = [psf.moffat_from_psfsize(task[f"psfsize_used_{b}_arcsec"], 3.5) for b in BANDS]
        fluxes = injection.source_fluxes(task)
        (made,), _ = injection.light([task], [row["x_pix"]], [row["y_pix"]], SIDE, [psfs], [fluxes], task["pixel_scale_arcsec"])
        return blob(made)

    broken.column("stamps", "arc", turned)


@fault("magnification", "an arc has no magnification", r"^1 arcs without magnification, 0 ")
def _(broken):
    broken.column("metrics", "magnification", first(arc, None, lambda row: row["magnification"]))


@fault(
    "magnification",
    "a doubly imaged source is dimmed",
    r"^0 arcs without magnification, 1 multiply imaged ones below 1",
    lambda mu: mu == 0.5,
)
def _(broken):
    def twice(row):
        return arc(row) and row["n_images"] >= 2

    broken.column("metrics", "magnification", first(twice, 0.5, lambda row: row["magnification"]))


def lensed_flux(broken: Broken, factor: Callable[[dict], float]) -> None:
    """Multiply the lensed flux and the magnification of every arc."""
    factors = {row["task_id"]: factor(row) for row in runs.read(broken.dataset, "metrics").to_pylist() if arc(row)}
    for name in (*(f"flux_lensed_{b}" for b in BANDS), "magnification"):
        broken.column("metrics", name, lambda row, name=name: row[name] * factors[row["task_id"]] if arc(row) else row[name])


@fault("magnification_ratio", "the ellipsoid lacks its sqrt(q)", r"^median off by 0\.[1-9]", lambda off: off > 0.05)
def _(broken):
    def without_root(row):
        theta_e, q, *others = lens_and_source([row])
        return float(magnification.of_source(theta_e / np.sqrt(q), q, *others)[0]) / row["magnification"]

    lensed_flux(broken, without_root)


@fault("magnification_ratio", "the Einstein radii are shuffled between rows", r" 0\.[3-9]\d+ of the arcs off by more than 0.03")
def _(broken):
    rows = [row for row in runs.read(broken.dataset, "metrics").to_pylist() if arc(row)]
    drawn = np.random.default_rng(1).permutation([row["theta_e_arcsec"] for row in rows])
    taken = dict(zip((row["task_id"] for row in rows), drawn.tolist(), strict=True))
    broken.column("metrics", "theta_e_arcsec", lambda row: taken.get(row["task_id"], row["theta_e_arcsec"]))


@fault("magnification_ratio", "the flux is sampled once a pixel", r" 0\.[5-9]\d+ of the arcs off by more than 0.03")
def _(broken):
    rng = np.random.default_rng(2)
    lensed_flux(broken, lambda row: float(np.exp(rng.normal(0.0, 0.3))))


@fault("flux_theta_e_bins", "the flux is renormalised after lensing", r"0\.3: 1\.00 \(expected [1-9]", lambda sigma: sigma > 20)
def _(broken):
    lensed_flux(broken, lambda row: 1.0 / row["magnification"])


@fault(
    "flux_theta_e_probe", "the light is renormalised after lensing", r"0\.5: 3\.981, 0\.75: 3\.981, .* 2\.5: 3\.981", lambda rise: rise <= 0
)
def _(broken):
    shipped = injection.render.draw

    def renormalised(*args, **kwargs):
        arcs, mu = shipped(*args, **kwargs)
        return (arcs / mu[:, None, None, None]).astype(np.float32), mu / mu

    broken.patch.setattr(injection.render, "draw", renormalised)


@fault("arc_colours", "all arcs have one colour", r"their spread is 0\.000", lambda off: off < 1e-4)
def _(broken):
    for name, value in (("src_gr", 0.25), ("src_rz", 0.1)):
        broken.column("metrics", name, lambda row, value=value: value)
    for band, mag in (("g", 0.25), ("z", -0.1)):
        times = float(photometry.flux(22.5 + mag))
        broken.column("metrics", f"flux_stamp_{band}", lambda row, times=times: row["flux_stamp_r"] * times if arc(row) else None)


@fault(
    "arc_colours",
    "an arc has not its task's colour",
    r"colours off by 0\.0215\d at most",
    lambda off: off == pytest.approx(0.0215, abs=1e-4),
)
def _(broken):
    chosen = first(arc, True, lambda row: False)
    broken.column("metrics", "flux_stamp_g", lambda row: row["flux_stamp_g"] * 1.02 if chosen(row) else row["flux_stamp_g"])


@fault(
    "experiments",
    "the rows are of another experiment",
    r"^manifest: tiny / set / other \(120 rows\); manifest: no row of tiny_stamp64",
    lambda n: n == 2,
)
def _(broken):
    broken.column("manifest", "experiment_id", lambda row: "other")


@fault("experiments", "two data sets are mixed", r"metrics: tiny / older / tiny_stamp64_bandsgrz_gridsmall \(48 rows\)", lambda n: n == 1)
def _(broken):
    broken.column("metrics", "dataset", lambda row: "older" if row["role"] != "injected" else row["dataset"])


@fault(
    "split_by_cell",
    "val's rows are relabelled into train",
    r"^0 cells .* two splits; \d+ galaxies are not in the cell and split of their place",
)
def _(broken):
    broken.column("manifest", "split", lambda row: "train" if row["split"] == "val" else row["split"])


@fault("lens_model", "the lenses are round", r"lens_e: 72 outside of its range; round lenses \(SIS\) where ellipses are asked for: 72")
def _(broken):
    broken.column("manifest", "lens_e", lambda row: 0.0)


@fault("lens_model", "the lenses are all alike", r"^lens_e is farthest from its distribution, by 2\d\.\d sigma", lambda sigma: sigma > 20)
def _(broken):
    broken.column("manifest", "lens_e", lambda row: 0.3)


@fault("lens_model", "controls have a lens", r"controls with a lens: 48")
def _(broken):
    broken.column("manifest", "theta_e_arcsec", lambda row: row["theta_e_arcsec"] or 1.0)


@fault("remade", "an angle is drawn by Spark's rand()", r"^other values of lens_phi_rad$", lambda n: n == 1)
def _(broken):
    rng = np.random.default_rng(3)
    broken.column("manifest", "lens_phi_rad", lambda row: rng.uniform(0, np.pi))


@fault("remade", "hosts are drawn by Spark's rand()", r"tasks are in the manifest only; \d+ tasks are made again only", lambda n: n > 1)
def _(broken):
    ids = {row["task_id"]: row["task_id"][::-1] for row in runs.read(broken.dataset, "manifest", ["task_id"]).to_pylist()[::7]}
    broken.column("manifest", "task_id", lambda row: ids.get(row["task_id"], row["task_id"]))


@fault("remade", "two tasks have changed their sources' colours", r"^other values of src_gr$", lambda n: n == 1)
def _(broken):
    def change(rows):
        values = rows["src_gr"].to_pylist()
        return put(
            rows,
            "src_gr",
            [values[1], values[0], *values[2:]] if values[0] != values[1] else [values[2], values[1], values[0], *values[3:]],
        )

    broken.rows("manifest", change)


@fault(
    "failure_balance",
    "injections fail where the seeing is bad, controls do not",
    r"injections fail \+\d+\.\d+ .*injected no_psf \d\d$",
    lambda share: share > 0.3,
)
def _(broken):
    worse = np.median([row["psfsize_g_arcsec"] for row in runs.read(broken.dataset, "metrics").to_pylist()]) - 1e-6
    broken.column("metrics", "status", lambda row: "no_psf" if row["role"] == "injected" and row["psfsize_g_arcsec"] > worse else "ok")


@fault("critical_nulls", "a masked centre is written as 0", r"arc_snr of an arc is 0: 1", lambda n: n == 1)
def _(broken):
    broken.column("metrics", "arc_snr", first(arc, 0.0, lambda row: row["arc_snr"]))


@fault("masks", "a share is above 1", r"^bad_pixel_frac is outside of 0 to 1 in 1 rows")
def _(broken):
    broken.column("metrics", "bad_pixel_frac", first(arc, 1.5, lambda row: row["bad_pixel_frac"]))


@fault("masks", "the mask bits were not read", r"wise_brightmask_frac is null in every row")
def _(broken):
    broken.column("metrics", "wise_brightmask_frac", lambda row: None)


@fault("masks", "the mask plane is ignored", r"too few to judge: bad_pixel_frac is 0 in all 120 stamps", small_tier=False)
def _(broken):
    pass  # the tiny survey has no masked pixel, and its tier says that it is small


@fault("mask_planes", "metrics tell of masks that the stamps do not have", r"^120 stamps have another share", lambda n: n == 120)
def _(broken):
    broken.column("metrics", "bad_pixel_frac", lambda row: 0.25)


@fault("duplicate_pixels", "two tasks show one arc", r"^2 arcs are of the same pixels", lambda n: n == 2)
def _(broken):
    rows = [row for row in runs.read(broken.dataset, "stamps").to_pylist() if arc(row)]
    broken.column("stamps", "arc", lambda row: rows[1]["arc"] if row["task_id"] == rows[0]["task_id"] else row["arc"])


@fault("duplicate_pixels", "two galaxies show the same sky", r"; 2 galaxies show the pixels of another", lambda n: n == 2)
def _(broken):
    galaxy = {row["task_id"]: row["galaxy_id"] for row in runs.read(broken.dataset, "metrics").to_pylist()}
    rows = [row for row in runs.read(broken.dataset, "stamps").to_pylist() if row["role"] == "paired_control"]
    other = next(row for row in rows if galaxy[row["task_id"]] != galaxy[rows[0]["task_id"]])
    broken.column("stamps", "stamp", lambda row: other["stamp"] if row["task_id"] == rows[0]["task_id"] else row["stamp"])


@fault("resolvability", "60 % of the arcs are unresolved", r"below 0\.5 for 6\d\.\d %", lambda share: share < 0.4, resolved_share_min=0.5,
       unresolved_share_max=0.15)  # fmt: skip
def _(broken):
    broken.column("metrics", "theta_e_over_psf", lambda row: (0.3 if int(row["task_id"][:8], 16) % 10 < 6 else 1.5) if arc(row) else None)


@fault(
    "stamp_flux",
    "arcs reach out of their stamps",
    r"^95 % of the arcs have 60\.\d % of their flux inside",
    lambda share: share == pytest.approx(0.6, abs=0.01),
)
def _(broken):
    broken.column(
        "metrics", "stamp_flux_fraction", lambda row: 0.6 if arc(row) and row["theta_e_arcsec"] > 0.9 else row["stamp_flux_fraction"]
    )


@fault("psf_profile", "a Gaussian stands for the Moffat", r"off from a moffat by g 0\.04\d+ \(1 FWHM\), 0\.02", lambda off: off > 0.04)
def _(broken):
    broken.patch.setattr(
        cuts, "profile", lambda size, band, tier: psf.Moffat(0.74 * size, 2.8) if size < 0 else psf.gaussian_from_psfsize(size)
    )


@fault("psf_profile", "psfsize is taken for a FWHM", r"0\.2\d+ \(FWHM in the table\)", lambda off: off > 0.2)
def _(broken):
    for b in BANDS:
        broken.column("metrics", f"psf_fwhm_used_{b}_arcsec", lambda row, b=b: row[f"psfsize_used_{b}_arcsec"])


@fault("zero_flux", "the pipeline leaves an edge in injections", r"^AUC (0\.[6-9]|1\.0)", lambda off: off > 0.1)
def _(broken):
    broken.column("stamps", "stamp", lambda row: edged(row) if arc(row) else row["stamp"])


def edged(row) -> bytes:
    """A stamp whose first columns are a third of the noise too bright."""
    cube = planes(row, "stamp")
    cube[:, :, :2] += 0.002
    return blob(cube)


@fault("zero_flux", "the noise of the arcs is not the one of their seeds", r"^AUC (0\.[6-9]|1\.0)", lambda off: off > 0.1)
def _(broken):
    rng = np.random.default_rng(5)
    broken.column(
        "stamps",
        "stamp",
        lambda row: blob(planes(row, "stamp") + rng.normal(0, 5e-3, (3, SIDE, SIDE)).astype("f4")) if arc(row) else row["stamp"],
    )


@fault("schema", "a column is renamed", r"metrics: column ebv_mag is called ebv", lambda n: n == 6)
def _(broken):
    broken.rows("metrics", lambda rows: rows.rename_columns([{"ebv_mag": "ebv"}.get(n, n) for n in rows.column_names]))


def judge(name: str, data: Data):
    return BY_NAME[name].run(data)


@pytest.mark.parametrize("planted", FAULTS, ids=lambda f: f"{f.gate}: {f.sentence}")
def test_a_planted_fault_fails_its_gate_which_names_it(planted, broken, spark, tier):
    planted.plant(broken)
    result = judge(planted.gate, Data(spark, broken.dataset, with_gates(tier, **planted.thresholds)))
    assert result.outcome == "fail", result
    assert result.blocks
    assert re.search(planted.says, result.message), result.message
    assert planted.measured(result.measured), result.measured


def test_every_gate_has_a_planted_fault():
    assert {f.gate for f in FAULTS} | set(test_manifest_gates.PLANTED) == {g.name for g in GATES}
    assert len(BY_NAME) == len(GATES) == 40


def test_the_page_has_every_gate_with_the_faults_that_trip_it():
    planted: dict[str, list[str]] = {g.name: [] for g in GATES}
    for name, sentence in (*((f.gate, f.sentence) for f in FAULTS), *((g, s) for g, of in test_manifest_gates.PLANTED.items() for s in of)):
        planted[name].append(sentence)
    lines = ["| gate | reads | what it asks | seen to fail when |", "| --- | --- | --- | --- |"]
    lines += [f"| `{g.name}` | {g.table} | {g.about} | {'; '.join(planted[g.name])} |" for g in GATES]
    assert pages.kept("gates", lines) == pages.block("gates")


def test_empty_tables_are_an_error_in_every_gate_that_reads_rows(broken, spark, tier):
    for table in ("manifest", "stamps", "metrics"):
        broken.rows(table, lambda rows: rows.slice(0, 0))
    found = {r.gate: r.outcome for r in validate(Data(spark, broken.dataset, tier))}
    reads_no_rows = {"schema", "one_run", "lineage", "flux_theta_e_probe", "split_fractions", "known_lenses"}  # footers, records, parents
    assert {g: o for g, o in found.items() if g not in reads_no_rows} == dict.fromkeys(found.keys() - reads_no_rows, "error")


def test_a_gate_that_cannot_be_computed_is_an_error_that_blocks(broken, spark, tier):
    shutil.rmtree(tables.folder(broken.dataset, broken.dataset.table("metrics")))
    for name in ("ranges", "rows_match", "magnification_ratio"):
        result = judge(name, Data(spark, broken.dataset, tier))
        assert (result.outcome, result.blocks) == ("error", True)
        assert "no metrics table of tier tiny" in result.message


def test_controls_that_a_tier_does_not_ask_for_are_not_applicable(spark, tiny_dataset, tier):
    without = replace(tier, controls=replace(tier.controls, fraction=0.0))
    result = judge("control_fraction", Data(spark, tiny_dataset, without))
    assert (result.outcome, result.blocks) == ("not_applicable", False)
    assert "asks for no controls" in result.message


def test_too_few_rows_to_judge_are_not_applicable_in_a_small_tier_only(spark, tiny_dataset, tier):
    data = Data(spark, tiny_dataset, with_gates(tier, flux_bin_rows_min=50))
    small = judge("flux_theta_e_bins", data)
    data.tier = with_gates(data.tier, small_tier=False)
    large = judge("flux_theta_e_bins", data)
    assert (small.outcome, large.outcome) == ("not_applicable", "fail")
    assert re.search(r"\d+ rows at theta_e 0\.\d", small.message) and "50 are needed" in small.message
    assert "too few to judge" in large.message


def test_arcs_that_sum_to_their_flux_may_still_be_at_another_place(broken, spark, tier):
    broken.column("stamps", "arc", lambda row: blob(np.roll(planes(row, "arc"), 1, axis=2)))
    data = Data(spark, broken.dataset, tier)
    assert [judge(name, data).outcome for name in ("arc_flux", "rerender")] == ["pass", "fail"]


def test_the_untouched_data_set_passes_every_gate_and_a_fault_in_it_turns_go_into_no_go(broken, tiny_tier, tmp_path, capsys):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny_tier.read_text() + "flux_bin_rows_min = 20\n")  # its few rows are enough to judge all gates
    flags = ["--tier", str(recipe), "--root", str(broken.dataset.root), "--dataset", broken.dataset.name]

    def run():
        code = main(flags)
        last = json.loads(capsys.readouterr().out.splitlines()[-1])
        page = Path(last["report"])
        told = json.loads(page.with_name("report.json").read_text())
        return code, last, page.read_text(), {g["gate"]: g for g in told["gates"]}

    code, last, html, gates = run()
    judged_larger = dict.fromkeys(  # in test_manifest_gates; and no mask lies on the tiny survey
        ("split_fractions", "unpaired_match", "metadata_auc", "label_shuffle", "known_lenses", "failure_balance", "resolvability", "masks"),
        "not_applicable",
    )
    assert {name: g["outcome"] for name, g in gates.items() if g["outcome"] != "pass"} == judged_larger
    assert (code, last["verdict"]) == (0, "GO")
    assert last["rows"] == {"parent": 150, "manifest": 120, "stamps": 120, "metrics": 120, "validation": 40}
    assert list(gates) == list(BY_NAME) and all(g["n"] > 0 for g in gates.values() if g["gate"] != "known_lenses")
    assert [name for name in BY_NAME if name not in html] == []
    assert set(re.findall(r"\bNO-GO\b|\bGO\b", html)) == {"GO"}

    broken.patch.setattr(report.plots, "figures", lambda data: [])  # the verdict is not in the pictures
    broken.patch.setattr(report.galleries, "galleries", lambda data, results: [])
    broken.column("metrics", "theta_e_arcsec", first(arc, 50.0, lambda row: row["theta_e_arcsec"]))
    code, last, html, gates = run()
    assert (code, last["verdict"]) == (1, "NO-GO")
    assert gates["ranges"]["outcome"] == "fail"
    assert "NO-GO" in html and "theta_e_arcsec: 1 outside" in html


@pytest.mark.parametrize("outcomes, verdict", [
    (["pass", "not_applicable"], "GO"), (["pass", "fail"], "NO-GO"), (["pass", "error"], "NO-GO"), (["not_applicable"], "NO-GO"), ([], "NO-GO"),
])  # fmt: skip
def test_the_verdict_is_go_if_a_gate_passed_and_none_that_blocks_failed(outcomes, verdict):
    assert report.verdict([Result(o, "") for o in outcomes]) == verdict
    warnings = [Result("fail", "", severity="warn"), Result("pass", "")]
    assert report.verdict(warnings) == "GO"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_terminal_shows_whole_sentences_however_narrow_it_is(columns, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    sentences = ["theta_e_arcsec=50 not in [low, high], " + " ".join(f"word{k}" for k in range(60)) + " the end", "short"]
    report.terminal([Result(o, s, 0.5, 1.0, 10, gate="magnification_ratio") for o, s in zip(["fail", "pass"], sentences, strict=True)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().err).splitlines()
    assert max(map(len, lines)) <= columns
    said = " ".join(" ".join(lines).split())
    assert [s for s in sentences if s not in said] == []
    assert "measured limit n" in said


def test_validation_of_a_data_set_that_is_not_there_names_the_missing_table(tiny_tier, tmp_path, capsys):
    assert main(["--tier", str(tiny_tier), "--root", str(tmp_path), "--dataset", "none"]) == 3
    assert "no parent table of tier tiny" in capsys.readouterr().err
