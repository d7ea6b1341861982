"""On real survey files: injected and told apart row by row.  Skipped, with the reason, where the data are absent."""

import gzip
import shutil
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from lib import place, reader, sampling, tiers
from lib.errors import InputError
from lib.injection import inject
from lib.schemas import MANIFEST, PARENT
from lib.survey import parents as galaxies
from lib.survey import sweeps
from tests import real
from tests.conftest import shared

TIER = "tests/real.toml"


def parents(survey, tier):
    return pa.concat_tables(galaxies.of_catalogue(path, tier, {})[0] for path in sweeps.find(survey))


@pytest.fixture(scope="module", params=["coadd", "map"])
def cutout(request, tmp_path_factory):
    """(survey folder, tier, tasks, made tables, source of the PSF) of the DR9 cutout."""
    survey = real.make(shared("legacysurvey-dr9-cutout-0591m305"), tmp_path_factory.mktemp("dr9"), coadd_psf=request.param == "coadd")
    tier = tiers.load(TIER)
    tasks = sampling.manifest(parents(survey, tier), tier, "real")
    return survey, tier, tasks, inject(tasks, place.at(survey), tier), request.param


def cubes(row):
    return reader.planes(row)


def test_every_task_on_the_dr9_cutout_is_made_with_the_psf_it_should(cutout):
    _survey, _tier, tasks, made, source = cutout
    assert tasks.num_rows == 50
    assert Counter(made["metrics"]["status"].to_pylist()) == {"ok": 50}
    assert set(made["metrics"]["psf_source_r"].to_pylist()) == {source}


def test_its_psf_has_the_width_that_was_measured_on_that_field(cutout):
    *_, made, source = cutout
    for band, fwhm, size in (("g", 1.03, 1.37), ("r", 0.92, 1.25), ("z", 0.90, 1.25)):
        assert made["metrics"][f"psf_fwhm_used_{band}_arcsec"][0].as_py() == pytest.approx(fwhm, rel=0.06), source
        assert made["metrics"][f"psfsize_used_{band}_arcsec"][0].as_py() == pytest.approx(size, rel=0.01), source


def test_the_lens_sits_on_its_host(cutout):
    """The r image's brightest pixel near the host, of stamps without an arc, is at the host's sub-pixel place."""
    *_, made, _source = cutout
    found = []
    for row in made["stamps"].to_pylist():
        if row["role"] == "paired_control":
            image = cubes(row)["stamp"][1]
            x, y = round(row["x_pix"]), round(row["y_pix"])
            near = image[y - 4 : y + 5, x - 4 : x + 5]
            iy, ix = np.unravel_index(np.argmax(near), near.shape)
            found.append(np.hypot(x - 4 + ix - row["x_pix"], y - 4 + iy - row["y_pix"]))
    assert len(found) == 10
    assert max(found) < 1.5


def test_controls_are_the_surveys_own_pixels(cutout):
    survey, _tier, _tasks, made, _source = cutout
    path = survey / "coadd" / "059" / real.BRICK / f"legacysurvey-{real.BRICK}-image-r.fits.fz"
    with fits.open(path) as hdus:
        plane = hdus[1].data
        for row in made["stamps"].to_pylist():
            if row["role"] == "paired_control":
                stamp = cubes(row)["stamp"][1]
                assert any(np.array_equal(stamp, plane[y : y + 64, x : x + 64]) for y, x in _corners(plane, stamp))


def _corners(plane, stamp):
    """Where the stamp's brightest pixel could have come from."""
    iy, ix = np.unravel_index(np.argmax(stamp), stamp.shape)
    for y, x in np.argwhere(plane == stamp[iy, ix]):
        yield y - iy, x - ix


def test_the_noise_of_an_arc_is_that_of_its_electrons_over_the_skys(cutout):
    """(stamp - arc - control) over the whole set has the variance light/gain, with the field's own gain."""
    _survey, tier, _tasks, made, _source = cutout
    rows = made["stamps"].to_pylist()
    pairs = {r["task_id"]: r["pair_id"] for r in made["metrics"].select(["task_id", "pair_id"]).to_pylist()}
    by_id = {r["task_id"]: cubes(r) for r in rows}
    got, want = 0.0, 0.0
    for row in rows:
        if row["role"] == "paired_control":
            with_arc, without = by_id[pairs[row["task_id"]]], by_id[row["task_id"]]
            noise = with_arc["stamp"] - with_arc["arc"] - without["stamp"]
            got += float((noise[1] ** 2).sum())
            want += float(with_arc["arc"][1].clip(0).sum()) / tier.noise.gain["r"]
            assert ((with_arc["invvar"] > 0) == (without["invvar"] > 0)).all()
            assert (with_arc["invvar"] <= without["invvar"]).all()
    assert got == pytest.approx(want, rel=0.1)


def test_coadd_and_psfsize_give_like_arcs(tmp_path):
    """The Moffat of the map's noise-equivalent area against the real coadd PSF: peaks within 10 %, flux within 1 %."""
    folder, tier = shared("legacysurvey-dr9-cutout-0591m305"), tiers.load(TIER)
    arcs = []
    for coadd in (True, False):
        survey = real.make(folder, tmp_path / str(coadd), coadd_psf=coadd)
        tasks = sampling.manifest(parents(survey, tier), tier, "real")
        tasks = tasks.filter(pa.compute.equal(tasks["role"], "injected")).slice(0, 12)
        arcs.append([cubes(r)["arc"][1] for r in inject(tasks, place.at(survey), tier)["stamps"].to_pylist()])
    for a, b in zip(*arcs, strict=True):
        assert a.max() == pytest.approx(b.max(), rel=0.10)
        assert a.sum(dtype=float) == pytest.approx(b.sum(dtype=float), rel=0.01)


def test_hosts_at_the_cutouts_edge_get_a_status_and_their_neighbours_are_made(cutout):
    survey, tier, tasks, *_ = cutout
    row = tasks.slice(0, 1).to_pylist()[0]
    from astropy.wcs import WCS

    wcs = WCS(fits.getheader(survey / "coadd" / "059" / real.BRICK / f"legacysurvey-{real.BRICK}-image-r.fits.fz", 1))
    places = {"no_coverage": (2545.0, 1885.0), "masked_centre": (2540.2, 2000.0), "edge": (10.0, 1800.0), "outside": (-50.0, 20.0)}
    rows = [row]
    for k, (x, y) in enumerate(places.values()):
        ra, dec = wcs.all_pix2world(x, y, 0)
        rows.append(row | {"task_id": f"{k:032x}", "ra_deg": float(ra), "dec_deg": float(dec)})
    made = inject(pa.Table.from_pylist(rows, schema=MANIFEST), place.at(survey), tier)["metrics"]
    assert made["status"].to_pylist() == ["ok", *places]


def test_the_real_dr6_brick_without_r_gives_every_task_a_status(tmp_path):
    """Bands g and z only, z almost empty, at the survey's edge: each task says which file is missing."""
    source = shared("legacysurvey-dr6-brick-0959p805")
    tier = tiers.load(TIER)
    donor = real.make(shared("legacysurvey-dr9-cutout-0591m305"), tmp_path / "donor", coadd_psf=True)
    tasks = sampling.manifest(parents(donor, tier), tier, "dr6").slice(0, 20)
    header = fits.getheader(source / "coadd/095/0959p805/legacysurvey-0959p805-image-g.fits.fz", 1)
    from astropy.wcs import WCS

    x, y = np.random.default_rng(0).uniform([100, 100], [3500, 3500], (20, 2)).T
    ra, dec = WCS(header).all_pix2world(x, y, 0)
    columns = {"brickname": ["0959p805"] * 20, "ra_deg": ra, "dec_deg": dec}
    for name, values in columns.items():
        tasks = tasks.set_column(tasks.column_names.index(name), MANIFEST.field(name), pa.array(values, MANIFEST.field(name).type))
    made = inject(tasks, place.at(source), tier)
    assert made["metrics"].num_rows == made["stamps"].num_rows == 20
    assert set(made["metrics"]["status"].to_pylist()) == {"missing_file"}
    assert all("image-r" in e for e in made["metrics"]["error"].to_pylist())

    # the same brick with its g in the place of r: hosts where g has data fail on the empty z, the others on g
    survey = tmp_path / "survey"
    shutil.copytree(source / "coadd", survey / "coadd")
    for kind in ("image", "invvar"):
        folder = survey / "coadd/095/0959p805"
        shutil.copy(folder / f"legacysurvey-0959p805-{kind}-g.fits.fz", folder / f"legacysurvey-0959p805-{kind}-r.fits.fz")
    made = inject(tasks, place.at(survey), tier)["metrics"]
    assert set(made["status"].to_pylist()) == {"no_coverage"}
    inside = (x < 850) & (y < 1840)
    told = [("band z" in e) for e in made["error"].to_pylist()]
    assert [t for t, i in zip(told, inside, strict=True) if i] == [True] * inside.sum()


# Counted by hand, with the cuts of the debug tier, from the files opened in a table viewer: rows, those in another
# brick's area (two tractor files have no BRICK_PRIMARY), then of the rest PSF, then not 17 < r < 21.
SWEEPS = {"sweep-310m005-320p000.fits": (6, 0, 4, 0), "sweep-320m005-330p000.fits": (6, 0, 1, 2), "tractor-3301m002.fits": (6, 4, 1, 0),
          "tractor-3301m007.fits": (6, 3, 2, 1), "tractor-1054p567.fits": (1, 0, 0, 0)}  # fmt: skip


@pytest.mark.parametrize("name", SWEEPS)
def test_real_sweeps_of_dr8_and_dr9_count_as_by_hand(name):
    table, lost = galaxies.of_catalogue(str(shared("legacysurvey-sweeps") / name), tiers.load("debug"), {})
    assert (lost["rows"], lost["in its brick's unique area"], lost["type is not PSF"], lost["17 < r < 21"]) == SWEEPS[name]
    assert not any(n for reason, n in lost.items() if reason.startswith("dirty: "))
    north = name == "tractor-1054p567.fits"  # dec 56.7
    assert lost["dec < 32"] == north
    assert table.num_rows == SWEEPS[name][0] - sum(SWEEPS[name][1:]) - north
    assert table.schema.equals(PARENT)


def test_depth_of_a_real_row_is_a_magnitude_and_extinction_brightens():
    table, _ = galaxies.of_catalogue(str(shared("legacysurvey-sweeps") / "sweep-310m005-320p000.fits"), tiers.load("debug"), {})
    row = table.to_pylist()[0]
    assert row["psfdepth_r_mag"] == pytest.approx(22.5 - 2.5 * np.log10(5 / np.sqrt(553.2518)), abs=1e-4)
    assert row["mag_r_observed"] - row["mag_r"] == pytest.approx(2.165 * row["ebv_mag"], rel=0.01)
    assert row["psfsize_r_arcsec"] is None  # DR8 has no such column


def test_a_real_parent_catalogue_goes_through_with_its_dirty_rows_counted():
    """1509 rows, 61 without positive g flux, 183 stars; the columns it lacks are named, and the cuts on them are not applied."""
    path, tier = str(shared("lrg-parents") / "phase3_lrg_parent_catalog.parquet"), tiers.load("debug")
    with pytest.raises(InputError, match="columns missing: BRICKID, EBV, FRACMASKED_G"):
        galaxies.of_catalogue(path, tier, {})
    table, lost = galaxies.of_catalogue(path, tier, {}, allow_columns_missing=True)
    raw = pq.read_table(path).to_pydict()
    faint, star = np.array(raw["FLUX_G"]) <= 0, np.array(raw["TYPE"]) == "PSF"
    assert lost["rows"] == 1509
    assert lost["dirty: FLUX <= 0 in g, r or z"] == faint.sum() == 61
    assert lost["type is not PSF"] == (star & ~faint).sum() > 150
    assert any("not applied: no NOBS_G" in name for name in lost)
    assert table.num_rows > 100
    assert table["nobs_r"].null_count == table.num_rows
    south = table.filter(pc.less(table["dec_deg"], -86.0))
    assert south.num_rows > 10 and set(south["brickname"].to_pylist()) == {"1597m870"}  # down to dec -87.1
    assert set(table["brickname"].to_pylist()) <= set(raw["BRICKNAME"])


def test_real_brick_tables_agree_with_the_geometry():
    from lib.survey import geometry

    path = shared("legacysurvey-dr6-brick-0959p805") / "survey-bricks.fits.gz"
    with gzip.open(path) as handle, fits.open(handle) as hdus:
        row = hdus[1].data[0]
    brick = geometry.by_name("0959p805")
    assert (brick.brickid, brick.row, brick.col) == (row["BRICKID"], row["BRICKROW"], row["BRICKCOL"])
    assert (brick.ra, brick.dec) == (pytest.approx(row["RA"], abs=1e-9), row["DEC"])
