"""The embedded survey against the public facts of the real one: geometry, files, noise, fluxes and positions."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from scipy import ndimage
from scipy.spatial import cKDTree

from lib.imaging import widths
from lib.survey import geometry, masks, synthetic
from lib.survey.synthetic import catalogue, exposures, files, optics, sky, tables
from tests.conftest import shared

PAIRS = Path(__file__).parents[3] / "shared/data/legacysurvey-bricks/dr9-south-patched-bricks.fits"
BANDS = ("g", "r", "z")
PIXEL = 0.262
SPEC = synthetic.SurveySpec(bricks=1)
BRICK = synthetic.brick_list(SPEC)[0]


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Two directories with the same brick, made by two processes; the first is finished."""
    folders = [tmp_path_factory.mktemp(name) for name in ("survey", "again")]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        made = [pool.submit(synthetic.make_brick, SPEC, BRICK.name, folder) for folder in folders]
        rows = [future.result() for future in made]
    assert rows[0] | {"seconds": 0} == rows[1] | {"seconds": 0}
    synthetic.finish(SPEC, folders[0])
    return folders


def path(root, kind, band=None):
    return root / "coadd" / BRICK.name[:3] / BRICK.name / files.file_name(BRICK.name, kind, band)


@pytest.fixture(scope="module")
def maps(survey):
    """Every map of the brick, by (kind, band)."""
    kinds = [(kind, band) for kind in ("image", "invvar", "nexp", "psfsize", "depth") for band in BANDS]
    return {key: fits.getdata(path(survey[0], *key), 1) for key in [*kinds, ("maskbits", None)]}


@pytest.fixture(scope="module")
def truth(survey):
    """The truth table, with px positions read through the file's own WCS."""
    table = np.asarray(fits.getdata(survey[0] / "truth" / BRICK.name[:3] / f"truth-{BRICK.name}.fits", 1))
    with fits.open(path(survey[0], "image", "r")) as hdus:
        x, y = WCS(hdus[1].header).all_world2pix(table["ra"], table["dec"], 0)
    return table, x, y


def lonely(truth, maps, band, lo, hi, kinds, reach_pix=24):
    """Indices of unmasked objects with flux lo..hi and next to no other light within ``reach_pix``."""
    table, x, y = truth
    flux = table["flux"][:, BANDS.index(band)]
    kind = np.char.decode(table["kind"])
    tree = cKDTree(np.stack([x, y], axis=-1))
    found = []
    for i in np.flatnonzero(np.isin(kind, kinds) & (flux > lo) & (flux < hi)):
        if min(x[i], y[i], 3599 - x[i], 3599 - y[i]) < 120:  # the neighbouring bricks' objects are not listed
            continue
        others = [j for j in tree.query_ball_point((x[i], y[i]), 1.4 * reach_pix) if j != i]
        seen, _, _ = cutout(maps["invvar", band], x[i], y[i], reach_pix)
        if flux[others].sum() < 0.005 * flux[i] and (seen > 0).all():
            found.append(i)
    return found


def cutout(image, x, y, half):
    """(values, dx, dy) of the px around a position."""
    iy, ix = round(float(y)), round(float(x))
    rows, columns = np.arange(iy - half, iy + half + 1), np.arange(ix - half, ix + half + 1)
    return image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], columns - x, rows[:, None] - y


# --- geometry ---


@pytest.mark.parametrize(
    ("name", "brickid", "row", "col", "ra", "dec"),
    [
        ("0959p805", 657438, 682, 64, 95.9504132, 80.5),
        ("3521p002", 333216, 361, 1408, 352.125, 0.25),
        ("2447p120", 400014, 408, 958, 244.72340426, 12.0),
        ("0091p035", 350562, 374, 36, 9.13769124, 3.5),
    ],
)
def test_real_bricks_are_found_by_name_id_and_place(name, brickid, row, col, ra, dec):
    brick = geometry.by_name(name)
    assert (brick.brickid, brick.row, brick.col) == (brickid, row, col)
    assert (brick.ra, brick.dec) == pytest.approx((ra, dec), abs=1e-7)
    assert brick == geometry.by_id(brickid) == geometry.brick_at(ra, dec)


@pytest.mark.skipif(not PAIRS.exists(), reason="the list of 1691 real bricks is not beside this checkout")
def test_1691_real_pairs_of_id_and_name_agree():
    pairs = fits.getdata(PAIRS, 1)
    ids, names = pairs["BRICKID"].astype(int), [name.strip() for name in pairs["BRICKNAME"]]
    assert len(ids) == 1691
    assert geometry.names(ids).astype(str).tolist() == [geometry.by_id(i).name for i in ids.tolist()] == names
    assert [geometry.by_name(name).brickid for name in names] == ids.tolist()
    assert (geometry.brickids(*geometry.centres(ids)) == ids).all()


@pytest.mark.parametrize(
    "table, rows", [("phase2_regions_bricks.csv", 2499), ("phase3_target_bricks.csv", 6), ("primary_region_bricks_phase1p6.csv", 44)]
)
def test_the_centres_and_edges_of_real_bricks_agree(table, rows):
    found = Table.read(shared("legacysurvey-bricks") / table, format="ascii.csv")
    bricks = [geometry.by_name(name) for name in found["brickname"]]
    assert len(bricks) == rows
    ra, dec = geometry.centres([b.brickid for b in bricks])
    assert np.abs(ra - found["ra"]).max() < 1e-9 and (dec == found["dec"]).all()
    area = found["area_deg2"] if "area_deg2" in found.colnames else None
    if area is not None:
        assert [b.area_deg2 for b in bricks] == pytest.approx(list(area), rel=1e-6)
    for edge in {"ra1", "ra2", "dec1", "dec2"} & set(found.colnames):
        assert [getattr(b, edge) for b in bricks] == pytest.approx(list(found[edge]), abs=1e-9)


def test_every_brick_of_the_sky_is_found_again_from_its_centre_and_by_its_name():
    ids = np.arange(1, geometry.BRICKS + 1)
    ra, dec = geometry.centres(ids)
    assert (geometry.brickids(ra, dec) == ids).all()
    names = geometry.names(ids)
    assert len(set(names.tolist())) == geometry.BRICKS
    for k in np.random.default_rng(8).integers(0, geometry.BRICKS, 300).tolist():
        brick = geometry.by_id(k + 1)
        assert (brick.ra, brick.dec, brick.name) == (ra[k], dec[k], names[k].decode())
        assert geometry.by_name(brick.name).brickid == k + 1


def test_the_sky_has_662174_bricks():
    assert geometry.BRICKS == 662_174


def test_ra_wraps_at_360():
    first, last = geometry.brickids([0.0, 359.99], [0.3, 0.3])
    assert list(geometry.brickids([360.0, -0.01, 720.0], [0.3, 0.3, 0.3])) == [first, last, first]
    assert geometry.by_id(int(last)) in geometry.neighbours(geometry.by_id(int(first)))


def test_every_place_is_inside_its_brick():
    random = np.random.default_rng(3)
    ra, dec = random.uniform(0.0, 360.0, 500), np.rad2deg(np.arcsin(random.uniform(-1.0, 1.0, 500)))
    for brickid, a, d in zip(geometry.brickids(ra, dec), ra, dec, strict=True):
        brick = geometry.by_id(int(brickid))
        assert brick.ra1 <= a <= brick.ra2 and brick.dec1 <= d <= brick.dec2
        assert geometry.by_name(brick.name) == brick


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: geometry.by_name("1501q022"), "1501q022"),
        (lambda: geometry.by_name("1502p022"), "1502p022"),
        (lambda: geometry.by_id(0), "got 0"),
        (lambda: geometry.centres([5, 662175]), "got 662175"),
        (lambda: geometry.brick_at(10.0, 91.0), "91.0"),
        (lambda: masks.bad_bits("i"), "'i'"),
        (lambda: synthetic.SurveySpec(bricks=0), "got 0"),
    ],
)
def test_bad_input_is_named(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_a_list_of_bricks_is_the_start_of_a_longer_one_and_adjoins():
    longer = synthetic.brick_list(synthetic.SurveySpec(bricks=30))
    assert synthetic.brick_list(synthetic.SurveySpec(bricks=4)) == longer[:4]
    assert len({brick.name for brick in longer}) == 30
    assert all(longer[0] in geometry.neighbours(brick) for brick in longer[1:4])


# --- files ---


def test_files_are_named_and_compressed_as_the_real_ones(survey):
    expected = {
        "image": ("RICE_1", "SUBTRACTIVE_DITHER_2", -32),
        "invvar": ("RICE_1", "SUBTRACTIVE_DITHER_2", -32),
        "nexp": ("HCOMPRESS_1", None, 16),
        "psfsize": ("GZIP_1", None, -32),
        "depth": ("GZIP_1", None, -32),
    }
    folder = path(survey[0], "maskbits").parent
    assert len(list(folder.iterdir())) == 16
    for kind, (compression, dither, bitpix) in expected.items():
        with fits.open(path(survey[0], kind, "z"), disable_image_compression=True) as hdus:
            header = hdus[1].header
            assert (header["ZTILE1"], header["ZTILE2"], header["ZBITPIX"]) == (100, 100, bitpix)
            assert (header["ZCMPTYPE"], header.get("ZQUANTIZ")) == (compression, dither)
            if kind == "image":
                scale = hdus[1].data["ZSCALE"]
                assert scale[scale != 0.0] == pytest.approx(1e-4)
    with fits.open(path(survey[0], "maskbits"), disable_image_compression=True) as hdus:
        assert (hdus[1].header["ZCMPTYPE"], hdus[1].header["ZBITPIX"]) == ("HCOMPRESS_1", 32)


def test_the_header_says_where_what_and_that_it_is_simulated(survey):
    header = fits.getheader(path(survey[0], "image", "g"), 1)
    assert (header["BRICKNAM"], header["FILTER"], header["BUNIT"]) == (BRICK.name, "g", "nanomaggy")
    assert (header["CRPIX1"], header["CRVAL2"], header["CTYPE1"]) == (1800.5, BRICK.dec, "RA---TAN")
    assert (header["CD1_1"], header["CD2_2"]) == pytest.approx((-7.27777777777778e-5, 7.27777777777778e-5))
    assert header["SURVEY"] == "SIMULATED"
    assert fits.getheader(path(survey[0], "invvar", "g"), 1)["BUNIT"] == "1/nanomaggy^2"


def test_a_brick_made_twice_is_byte_for_byte_the_same(survey):
    found = [sorted(p.relative_to(root) for p in root.rglob("*1501p022*.fits*")) for root in survey]
    assert found[0] == found[1] and len(found[0]) == 18
    assert all((survey[0] / name).read_bytes() == (survey[1] / name).read_bytes() for name in found[0])


def test_a_brick_that_is_there_is_left_alone(survey):
    before = path(survey[0], "image", "g").stat().st_mtime_ns
    again = synthetic.make_brick(SPEC, BRICK.name, survey[0])
    assert path(survey[0], "image", "g").stat().st_mtime_ns == before
    assert again["seconds"] < 5.0 and again["objects"] > 1000


def test_nothing_is_measured_where_nothing_is_covered(maps):
    for band in BANDS:
        size, nexp, invvar = maps["psfsize", band], maps["nexp", band], maps["invvar", band]
        uncovered = size == 0.0
        assert 0.03 < uncovered.mean() < 0.08  # this brick is at the edge of the footprint
        assert not maps["image", band][uncovered].any() and not nexp[uncovered].any()
        assert ((invvar > 0.0) == (nexp > 0)).all() and invvar.min() == 0.0
        lost = ~uncovered & (nexp == 0)
        assert lost.sum() > 50 and (maps["image", band][lost] != 0.0).all()
        assert (lost == ((maps["maskbits", None] & masks.BANDS_ALLMASK[band]) > 0)).all()
        assert all(np.isfinite(maps[kind, band]).all() for kind in ("image", "invvar", "psfsize", "depth"))


def test_pixels_outside_of_the_unique_area_are_not_primary(maps):
    y, x = np.random.default_rng(4).integers(0, 3600, (2, 20_000))
    ra, dec = optics.wcs(BRICK).all_pix2world(x, y, 0)
    primary = (maps["maskbits", None][y, x] & masks.NPRIMARY) == 0
    assert (primary == (geometry.brickids(ra, dec) == BRICK.brickid)).all()


def test_bright_stars_are_circled_and_saturated(maps, truth):
    table, x, y = truth
    bits = maps["maskbits", None]
    bright = np.flatnonzero((table["kind"] == b"star") & (table["mag_r"] < 13.0))
    assert len(bright)
    for i in bright:
        here = bits[round(float(y[i])), round(float(x[i]))]
        assert here & masks.BRIGHT and here & masks.MEDIUM and here & masks.SATUR_R


# --- physics ---


@pytest.mark.parametrize("band", BANDS)
def test_blank_sky_has_the_scatter_and_correlation_of_real_coadds(maps, truth, band):
    _, x, y = truth
    # the pixels of an exposure and of the brick beat over 328.5 px: this is five periods
    region = slice(150, 150 + 1643), slice(150, 150 + 1643)
    empty = np.ones((3600, 3600), bool)
    empty[np.clip(np.round(y).astype(int), 0, 3599), np.clip(np.round(x).astype(int), 0, 3599)] = False
    pull = (maps["image", band] * np.sqrt(maps["invvar", band]))[region]
    blank = ndimage.distance_transform_edt(empty[region]) > 4.5 / PIXEL
    blank &= (maps["nexp", band][region] > 0) & (maps["maskbits", None][region] == 0) & (np.abs(pull) < 4.0)
    assert blank.mean() > 0.4
    mean, variance = pull[blank].mean(), pull[blank].var()
    assert np.sqrt(variance) == pytest.approx(0.89, abs=0.015)
    assert abs(mean) < 0.05
    for lag, expected in ((1, 0.115), (2, -0.078), (3, 0.03)):
        measured = []
        for pulls, blanks in ((pull, blank), (pull.T, blank.T)):
            both = blanks[:, lag:] & blanks[:, :-lag]
            product = (pulls[:, lag:] - mean) * (pulls[:, :-lag] - mean)
            measured.append(product[both].mean() / variance)
        assert np.mean(measured) == pytest.approx(expected, abs=0.015)


def test_photon_noise_raises_the_variance_in_proportion_to_flux(maps, truth):
    _, x, y = truth
    for i in lonely(truth, maps, "r", 100.0, 300.0, ["star"])[:5]:
        iy, ix = round(float(y[i])), round(float(x[i]))
        box = slice(iy - 2, iy + 3), slice(ix - 2, ix + 3)
        if len(np.unique(maps["nexp", "r"][box])) > 1:
            continue
        nea = (maps["psfsize", "r"][iy, ix] / widths.FACTOR / PIXEL) ** 2
        sky_variance = 1.0 / (maps["depth", "r"][box] * nea)
        slope = np.sum(1.0 / maps["invvar", "r"][box] - sky_variance) / maps["image", "r"][box].sum()
        assert 1.0 / slope == pytest.approx(3e4, rel=0.02)


def test_isolated_stars_have_their_true_flux_and_place(maps, truth):
    table, x, y = truth
    field = optics.psf_field(SPEC, BRICK.name, "r")
    stars = lonely(truth, maps, "r", 20.0, 350.0, ["star"])
    assert len(stars) >= 10
    ratios, offsets = [], []
    for i in stars:
        values, dx, dy = cutout(maps["image", "r"], x[i], y[i], 20)
        inside = np.hypot(dx, dy) <= 16.0
        t = field.mixing(x[i], y[i])
        share = sum(w * p.flux_within(16.0 * PIXEL) for w, p in ((1 - t, field.a), (t, field.b)))
        ratios.append(values[inside].sum() / (share * table["flux"][i, 1]))
        weight = values * np.exp(-0.5 * (dx**2 + dy**2) / 3.0**2)  # symmetric about the true place
        offsets.append(np.array([(weight * dx).sum(), (weight * dy).sum()]) / weight.sum())
    assert np.median(ratios) == pytest.approx(1.0, abs=0.004)
    assert np.std(ratios) < 0.02
    assert np.abs(offsets).max() < 0.05
    assert np.abs(np.mean(offsets, axis=0)).max() < 0.01


def test_isolated_galaxies_have_their_true_flux(maps, truth):
    table, x, y = truth
    ratios = []
    for i in lonely(truth, maps, "r", 8.0, 300.0, ["field", "edge_on", "spiral"]):
        if table["r_eff"][i] < 1.3:
            values, dx, dy = cutout(maps["image", "r"], x[i], y[i], 26)
            ratios.append(values[np.hypot(dx, dy) <= 24.0].sum() / table["flux"][i, 1])
    assert len(ratios) >= 3
    assert np.median(ratios) == pytest.approx(0.99, abs=0.015)


@pytest.mark.parametrize("band", BANDS)
def test_psfsize_is_the_noise_equivalent_width_of_the_stars(maps, truth, band):
    table, x, y = truth
    flux, ratios = table["flux"][:, BANDS.index(band)], []
    for i in lonely(truth, maps, band, 40.0, 300.0, ["star"]):
        values, _, _ = cutout(maps["image", band], x[i], y[i], 20)
        variance, _, _ = cutout(maps["invvar", band], x[i], y[i], 20)
        nea = PIXEL**2 * flux[i] ** 2 / (np.sum(values**2, dtype=float) - 0.89**2 * np.sum(1.0 / variance))
        ratios.append(widths.of_nea(nea) / maps["psfsize", band][round(float(y[i])), round(float(x[i]))])
    assert len(ratios) >= 5
    assert np.median(ratios) == pytest.approx(1.0, abs=0.005)


def test_the_mixture_of_two_psfs_changes_over_the_brick_by_its_contrast(maps):
    size = maps["psfsize", "g"]
    seen = size[size > 0.0]
    assert 0.01 < seen.max() / seen.min() - 1.0 < 0.07
    assert 1.25 < seen.mean() < 1.9


def test_both_bricks_of_an_overlap_show_the_same_objects(maps):
    north = geometry.by_id(int(geometry.brickids(BRICK.ra, BRICK.dec + 0.25)))
    objects, parts = optics.around(SPEC, north)
    low = [tuple(column[group[2] < 160] for column in group) for group in (objects, parts)]
    drawn = optics.draw({"g": optics.psf_field(SPEC, north.name, "g")}, *low)["g"]
    table, x, y = low[0]
    here_x, here_y = optics.wcs(BRICK).all_world2pix(table["ra"], table["dec"], 0)
    compared = 0
    for k in np.flatnonzero((table["flux"][:, 0] > 2.0) & (table["flux"][:, 0] < 300.0)):
        if min(y[k], 3599 - here_y[k], x[k] - 40, 3559 - x[k]) < 16:
            continue
        if (cutout(maps["invvar", "g"], here_x[k], here_y[k], 15)[0] == 0.0).any():
            continue
        there, here = (
            np.sum(values[np.hypot(dx, dy) < 14.0])
            for values, dx, dy in (cutout(drawn, x[k], y[k], 15), cutout(maps["image", "g"], here_x[k], here_y[k], 15))
        )
        assert here == pytest.approx(there, rel=0.03, abs=0.3)
        compared += 1
    assert compared >= 3


def test_neighbouring_bricks_share_no_object():
    names = [brick.name for brick in synthetic.brick_list(synthetic.SurveySpec(bricks=2))]
    for name in names:
        objects = sky.of_brick(SPEC, name).objects
        assert (geometry.brickids(objects["ra"], objects["dec"]) == geometry.by_name(name).brickid).all()
        assert (objects["objid"] == np.arange(len(objects))).all()


def test_lanczos_weights_shift_a_line_without_bending_it():
    first, weights = exposures.lanczos3(0.37)
    line = np.arange(first[-1] + 6, dtype=float)
    moved = (weights * line[first[:, None] + np.arange(6)]).sum(axis=1)
    assert np.diff(moved) == pytest.approx(PIXEL / 0.2628, abs=0.03)


# --- tables ---


def test_sweep_rows_agree_with_the_truth_and_the_maps(survey, maps, truth):
    sweep = np.asarray(fits.getdata(survey[0] / "sweep/10.1/sweep-150p000-160p005.fits", 1))
    table, x, y = (column[sweep["OBJID"]] for column in truth)
    assert (sweep["RA"] == table["ra"]).all() and (sweep["DEC"] == table["dec"]).all()
    assert set(np.char.strip(sweep["TYPE"].astype(str))) == {"PSF", "REX", "EXP", "DEV", "SER"}
    pull = (sweep["FLUX_R"] - table["flux"][:, 1]) * np.sqrt(sweep["FLUX_IVAR_R"])
    assert np.std(pull[sweep["FLUX_IVAR_R"] > 0]) == pytest.approx(1.0, abs=0.1)
    iy, ix = np.round(y).astype(int), np.round(x).astype(int)
    for column, kind in (("NOBS_Z", "nexp"), ("PSFSIZE_Z", "psfsize"), ("PSFDEPTH_Z", "depth")):
        assert (sweep[column] == maps[kind, "z"][iy, ix]).all()
    assert (sweep["MASKBITS"] == maps["maskbits", None][iy, ix]).all()
    extinction = -2.5 * np.log10(sweep["MW_TRANSMISSION_G"]) / sweep["EBV"]
    assert extinction == pytest.approx(3.214, rel=1e-4)


def test_shapes_follow_the_surveys_convention(survey, truth):
    rows = np.asarray(fits.getdata(tables.tractor_path(survey[0], BRICK.name), 1))
    table = truth[0][rows["OBJID"]]
    shaped = np.isin(rows["TYPE"], [b"DEV", b"SER"])
    e = np.hypot(rows["SHAPE_E1"], rows["SHAPE_E2"])[shaped]
    q = (1.0 - e) / (1.0 + e)
    assert q == pytest.approx(table["q"][shaped], abs=1e-5)
    assert np.median(rows["SHAPE_R"][shaped] * np.sqrt(q) / table["r_eff"][shaped]) == pytest.approx(1.0, abs=0.01)
    east_of_north = 0.5 * np.rad2deg(np.arctan2(rows["SHAPE_E2"], rows["SHAPE_E1"]))[shaped] % 180.0
    turned = (east_of_north - table["pa"][shaped] + 90.0) % 180.0 - 90.0
    assert np.abs(turned[q < 0.98]).max() < 0.01


def test_there_are_enough_red_hosts(survey):
    rows = np.asarray(fits.getdata(tables.tractor_path(survey[0], BRICK.name), 1))
    assert 1200 < catalogue.is_lrg(rows).sum() / BRICK.area_deg2 < 3500


def test_the_lists_of_bricks_hold_the_geometry_and_the_conditions(survey):
    plain = fits.getdata(survey[0] / "survey-bricks.fits.gz", 1)
    assert (plain["brickname"][0], plain["brickid"][0], plain["ra1"][0]) == (BRICK.name, BRICK.brickid, BRICK.ra1)
    row = fits.getdata(survey[0] / "survey-bricks-dr10-south.fits.gz", 1)[0]
    for band, size, depth in zip(BANDS, (1.57, 1.36, 1.41), (24.81, 24.39, 23.30), strict=True):
        assert row[f"psfsize_{band}"] == pytest.approx(size, rel=0.15)
        assert row[f"psfdepth_{band}"] == pytest.approx(depth, abs=0.4)
        assert row[f"galdepth_{band}"] < row[f"psfdepth_{band}"]
        assert row[f"nexp_{band}"] >= 3
