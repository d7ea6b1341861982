"""Catalogues of three data releases as parents: what is read, what is dirty, what a selection keeps, known lenses."""

import gzip
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from lib import config, tiers
from lib.errors import ConfigError, InputError
from lib.schemas import PARENT
from lib.survey import geometry, lenses, parents, sweeps
from lib.tiers import KnownLenses, Selection
from tests.conftest import shared

TIER = tiers.load("debug")
COUNT = 6
DUST = {"G": 3.214, "R": 2.165, "Z": 1.211}
LENS_STEP = "no known lens within 10 arcsec (not applied: no list given)"


def columns(count=COUNT, ra=150.1, dec=2.2, **changes):
    """Columns that every release has, of red galaxies at r = 19 that pass every cut; lists change single values."""
    ra, dec = np.broadcast_to(ra, count).astype(float), np.broadcast_to(dec, count).astype(float)
    ids = geometry.brickids(np.nan_to_num(ra), np.clip(np.nan_to_num(dec), -90, 90))
    made = {
        "RELEASE": np.full(count, 10000, ">i2"), "BRICKID": ids.astype(">i4"), "BRICKNAME": geometry.names(ids),
        "OBJID": np.arange(count, dtype=">i4"), "TYPE": np.full(count, b"DEV"), "RA": ra, "DEC": dec,
        "EBV": np.full(count, 0.05, ">f4"), "MASKBITS": np.zeros(count, ">i2"),
    }  # fmt: skip
    for band, mag in (("G", 20.2), ("R", 19.0), ("Z", 18.4)):
        through = 10 ** (-0.4 * DUST[band] * 0.05)
        made |= {
            f"FLUX_{band}": np.full(count, 10 ** (-0.4 * (mag - 22.5)) * through, ">f4"),
            f"MW_TRANSMISSION_{band}": np.full(count, through, ">f4"), f"NOBS_{band}": np.full(count, 3, ">i2"),
            f"FRACMASKED_{band}": np.full(count, 0.01, ">f4"), f"PSFDEPTH_{band}": np.full(count, 500.0, ">f4"),
        }  # fmt: skip
    made |= {"SHAPE_R": np.full(count, 1.2, ">f4"), "SHAPE_E1": np.full(count, 0.1, ">f4"), "SHAPE_E2": np.full(count, -0.2, ">f4")}
    for name, values in changes.items():
        kept = np.array(values)
        made[name] = kept if kept.dtype.kind in "SU" else kept.astype(made[name].dtype if name in made else kept.dtype)
    return made


def release(number, **changes):
    """The columns as a data release has them: DR8 by profile, DR9 with Sersic shapes and DUP, DR10 in lower case with an i band."""
    made = columns(**changes)
    size = len(made["RA"])
    if number == 8:
        shape = {k: made.pop(f"SHAPE_{k}") for k in ("R", "E1", "E2")}
        made |= {f"SHAPE{kind}_{k}": v * on for k, v in shape.items() for kind, on in (("DEV", 1), ("EXP", 0))}
        made |= {
            "FRACDEV": np.ones(size, ">f4"),
            "TYPE": np.char.ljust(made["TYPE"].astype("S4"), 4),
            "RELEASE": made["RELEASE"] * 0 + 8000,
        }
        return made
    made |= {"SERSIC": np.full(size, 4.0, ">f4"), "FITBITS": np.zeros(size, ">i2")}
    made |= {f"PSFSIZE_{b}": np.full(size, 1.3, ">f4") for b in "GRZ"}
    made["RELEASE"] = made["RELEASE"] * 0 + (9010 if number == 9 else 10000)
    if number == 9:
        return made
    made |= {"FLUX_I": made["FLUX_R"] * 1.4, "NOBS_I": made["NOBS_R"] * 0, "MASKBITS": made["MASKBITS"].astype(">i4") | (1 << 14)}
    made |= {"BRICK_PRIMARY": np.ones(size, bool)}
    return {name.lower(): values for name, values in made.items()}


def write(path, made):
    kinds = {"i2": "I", "i4": "J", "i8": "K", "f4": "E", "f8": "D", "b1": "L"}
    made = {k: np.asarray(v) for k, v in made.items()}
    text = {k: v.astype("S") for k, v in made.items() if v.dtype.kind in "SU"}
    formats = {k: f"{text[k].itemsize}A" if k in text else kinds[v.dtype.str[1:]] for k, v in made.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    table = fits.BinTableHDU.from_columns([fits.Column(name=k, format=formats[k], array=text.get(k, v)) for k, v in made.items()])
    table.writeto(path, overwrite=True)
    return str(path)


@pytest.fixture
def parent(tmp_path):
    """PARENT rows, as dicts, and the losses of a catalogue with the given columns."""

    def made(number=10, tier=TIER, known=None, **changes):
        path = write(tmp_path / "sweep.fits", release(number, **changes))
        table, lost = parents.of_catalogue(path, tier, {}, known)
        assert table.schema.equals(PARENT)
        assert table.num_rows == lost[parents.ROWS] - sum(n for name, n in lost.items() if name != parents.ROWS)
        return table.to_pylist(), {name: n for name, n in lost.items() if n and name != parents.ROWS}

    return made


# releases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number, code", [(8, 8000), (9, 9010), (10, 10000)])
def test_every_release_gives_the_same_galaxies(number, code, parent):
    found, lost = parent(number)
    assert (len(found), lost) == (COUNT, {})
    row = found[2]
    assert (row["release"], row["objid"], row["brickname"], row["type"]) == (code, 2, "1501p022", "DEV")
    assert (row["mag_g"], row["mag_r"], row["mag_z"]) == pytest.approx((20.2, 19.0, 18.4), abs=1e-4)
    assert row["mag_g_observed"] - row["mag_g"] == pytest.approx(3.214 * 0.05, abs=1e-4)
    assert (row["shape_r_arcsec"], row["shape_e1"], row["shape_e2"]) == pytest.approx((1.2, 0.1, -0.2))
    assert row["psfdepth_r_mag"] == pytest.approx(22.5 - 2.5 * np.log10(5 / np.sqrt(500)), abs=1e-4)
    assert row["psfsize_r_arcsec"] == (None if number == 8 else pytest.approx(1.3))
    assert row["galaxy_id"] == code << 42 | row["brickid"] << 20 | 2


def test_the_shape_of_a_dr8_galaxy_is_that_of_its_profile(tmp_path):
    made = release(8, TYPE=[b"DEV ", b"EXP ", b"REX ", b"COMP", b"SIMP", b"DEV "])
    made |= {"SHAPEDEV_R": np.full(6, 2.0, ">f4"), "SHAPEEXP_R": np.full(6, 1.0, ">f4"), "FRACDEV": np.full(6, 0.25, ">f4")}
    table, _ = parents.of_catalogue(write(tmp_path / "sweep.fits", made), TIER, {})
    assert table["shape_r_arcsec"].to_pylist() == [2.0, 1.0, 1.0, 1.25, 1.0, 2.0]


@pytest.mark.parametrize("kind", ["fits.gz", "text", "binary", "dictionary"])
def test_a_catalogue_is_the_same_compressed_and_in_parquet(kind, tmp_path):
    made = release(10, TYPE=[b"PSF", b"DEV", b"PSF ", b"SER ", b"REX", b"DUP"])
    plain = parents.of_catalogue(write(tmp_path / "sweep.fits", made), TIER, {})
    if kind == "fits.gz":
        path = tmp_path / "sweep.fits.gz"
        with open(tmp_path / "sweep.fits", "rb") as source, gzip.open(path, "wb") as target:
            shutil.copyfileobj(source, target)
    else:
        path = tmp_path / "sweep.parquet"
        arrow = {k: v.astype(v.dtype.newbyteorder("=")).tolist() for k, v in made.items()}
        for name in ("type", "brickname"):
            text = [v.decode() for v in arrow[name]]
            arrow[name] = {"text": pa.array(text), "binary": pa.array(arrow[name]), "dictionary": pa.array(text).dictionary_encode()}[kind]
        pq.write_table(pa.table(arrow), path)
    again = parents.of_catalogue(str(path), TIER, {})
    assert again[1] == plain[1] and again[0].equals(plain[0])
    assert plain[0]["type"].to_pylist() == ["DEV", "SER", "REX"]
    assert (plain[1]["dirty: TYPE is DUP"], plain[1]["type is not PSF"]) == (1, 2)


def test_a_truncated_compressed_catalogue_is_told(tmp_path):
    write(tmp_path / "a.fits", release(10))
    whole = gzip.compress((tmp_path / "a.fits").read_bytes())
    (tmp_path / "a.fits.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.fits\.gz: "):
        sweeps.read(str(tmp_path / "a.fits.gz"))


def test_nulls_in_the_numbers_of_a_row_are_told(tmp_path):
    arrow = {k: v.astype(v.dtype.newbyteorder("=")).tolist() for k, v in columns().items()} | {"OBJID": [0, 1, None, 3, 4, 5]}
    pq.write_table(pa.table(arrow), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"a\.parquet: nulls in OBJID"):
        sweeps.read(str(tmp_path / "a.parquet"))


def test_a_number_that_would_run_into_the_bricks_is_told(parent):
    with pytest.raises(InputError, match=r"OBJID must be in 0\.\.1048575, got 0\.\.1048576"):
        parent(OBJID=[0, 1, 2, 3, 4, 1 << 20])


def test_rows_without_numbers_are_numbered_within_their_bricks(tmp_path):
    ra = [150.1, 150.4, 150.1, 150.1, 150.4, 150.6]
    made = release(9, ra=ra)
    del made["OBJID"], made["BRICKID"]
    table, _ = parents.of_catalogue(write(tmp_path / "sweep.fits", made), TIER, {}, None, True)
    assert table["objid"].to_pylist() == [0, 0, 1, 2, 1, 0]
    assert len(set(table["galaxy_id"].to_pylist())) == 6


# dirty rows ----------------------------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("changes, reason", [
    ({"RA": NAN}, "dirty: no place on the sky"),
    ({"RA": 361.0}, "dirty: no place on the sky"),
    ({"RA": -5.0}, "dirty: no place on the sky"),
    ({"DEC": NAN}, "dirty: no place on the sky"),
    ({"DEC": -90.01}, "dirty: no place on the sky"),
    ({"TYPE": b"DUP", "FLUX_G": 0.0, "FLUX_R": 0.0, "FLUX_Z": 0.0}, "dirty: TYPE is DUP"),
    ({"BRICKID": 0}, "dirty: no public brick of that BRICKID and BRICKNAME"),
    ({"BRICKID": 662175}, "dirty: no public brick of that BRICKID and BRICKNAME"),
    ({"BRICKNAME": b"1501m022"}, "dirty: no public brick of that BRICKID and BRICKNAME"),
    ({"FLUX_G": NAN}, "dirty: FLUX is not a number in g, r or z"),
    ({"FLUX_Z": INF}, "dirty: FLUX is not a number in g, r or z"),
    ({"FLUX_G": 0.0}, "dirty: FLUX <= 0 in g, r or z"),
    ({"FLUX_R": -3.0}, "dirty: FLUX <= 0 in g, r or z"),
    ({"MW_TRANSMISSION_G": 0.0}, "dirty: MW_TRANSMISSION not in (0, 1] in g, r or z"),
    ({"MW_TRANSMISSION_R": 1.5}, "dirty: MW_TRANSMISSION not in (0, 1] in g, r or z"),
    ({"FLUX_Z": 2e7}, "dirty: absurd flux, not of magnitude 5 to 35 in g, r or z"),
    ({"FLUX_G": 1e-9}, "dirty: absurd flux, not of magnitude 5 to 35 in g, r or z"),
    ({"TYPE": b"PSF"}, "type is not PSF"),
    ({"MASKBITS": 1 << 1}, "no mask bit of (1, 2, 3, 4, 10, 11)"),
    ({"MASKBITS": 1 << 11}, "no mask bit of (1, 2, 3, 4, 10, 11)"),
    ({"RA": NAN, "FLUX_G": NAN, "FLUX_R": -1.0, "TYPE": b"PSF"}, "dirty: no place on the sky"),
    ({"FLUX_G": NAN, "FLUX_R": -1.0, "TYPE": b"PSF"}, "dirty: FLUX is not a number in g, r or z"),
])  # fmt: skip
@pytest.mark.parametrize("number", [8, 9])
def test_a_dirty_row_counts_once_at_its_first_reason_and_its_neighbours_are_kept(number, changes, reason, parent):
    good = columns()
    values = {name: [*good[name][:3], value, *good[name][4:]] for name, value in changes.items()}
    found, lost = parent(number, **values)
    assert lost == {reason: 1}
    assert [row["objid"] for row in found] == [0, 1, 2, 4, 5]


def test_the_reasons_of_dirty_rows_come_before_the_cuts(tmp_path):
    _, lost = parents.of_catalogue(write(tmp_path / "sweep.fits", release(10)), TIER, {})
    names = list(lost)
    assert names[0] == parents.ROWS
    dirty = [name.startswith("dirty: ") for name in names[1:]]
    assert dirty == sorted(dirty, reverse=True) and sum(dirty) == 7
    assert names[-1] == LENS_STEP


def test_a_row_outside_of_its_bricks_own_area_is_left_to_the_neighbour(parent):
    """Without BRICK_PRIMARY, by the place: the neighbour's tractor file lists the galaxy as well."""
    over = columns()["RA"] + np.array([0, 0, 0, 0.25, 0, 0])
    found, lost = parent(9, RA=over)
    assert lost == {"in its brick's unique area": 1} and len(found) == 5


def test_places_at_ra_0_and_360_and_slightly_over_are_wrapped_and_kept(parent):
    ra = np.array([0.0, 360.0, -0.001, 360.01, 359.999, -1e-20])
    true = np.where(ra < 0, ra + 360.0, ra) % 360.0
    found, lost = parent(9, ra=true % 360.0, dec=0.3, RA=ra)
    assert lost == {}
    assert [r["ra_deg"] for r in found] == pytest.approx([0.0, 0.0, 359.999, 0.01, 359.999, 0.0], abs=1e-9)
    assert [r["brickname"] for r in found] == ["0001p002", "0001p002", "3598p002", "0001p002", "3598p002", "0001p002"]
    assert found[0]["sky_cell"] == found[1]["sky_cell"]
    assert found[2]["sky_cell"] == found[4]["sky_cell"] and found[2]["split_guard"] == found[4]["split_guard"]


@pytest.mark.parametrize("dec, name, centre", [
    (-87.0, "1597m870", -87.0), (-87.11968, "1594m870", -87.0), (-89.9, "1500m900", -90.0), (-90.0, "1800m900", -90.0),
    (-89.0, "1578m890", -89.0),
])  # fmt: skip
def test_bricks_near_the_pole_are_those_of_the_public_geometry(dec, name, centre, parent):
    ra = np.linspace(159.0, 160.0, COUNT)
    found, lost = parent(9, ra=ra, dec=dec)
    assert lost == {} and len(found) == COUNT
    for row in found:
        brick = geometry.by_name(row["brickname"])
        assert (row["brick_ra_deg"], row["brick_dec_deg"], row["brickid"]) == (brick.ra, brick.dec, brick.brickid)
        assert brick.ra1 <= row["ra_deg"] <= brick.ra2 and brick.dec1 <= dec <= brick.dec2 and brick.dec == centre


# selections ----------------------------------------------------------------------------------------------------------

BRIGHT = Selection("bright", r_min=17.0, r_max=18.5, gr_min=0.5, rz_min=0.2)
RED = Selection("red", r_min=17.0, r_max=21.0, gr_min=1.5, rz_min=0.2)
STARS = Selection("stars_too", r_min=17.0, r_max=21.0, gr_min=0.5, rz_min=0.2, not_psf=False)


def test_the_named_selections_that_a_galaxy_passes_are_told(parent):
    flux = columns()["FLUX_R"] * [1, 2, 1, 1, 1, 1]  # the second: r = 18.25, g - r = 1.95
    green = columns()["FLUX_G"] * [1, 1, 0.5, 1, 1, 10]  # the third: g - r = 1.95; the last fails the first selection
    z = columns()["FLUX_Z"] * [1, 2, 1, 1, 1, 1]
    tier = replace(TIER, flags=(BRIGHT, RED, STARS))
    found, lost = parent(9, tier, FLUX_R=flux, FLUX_G=green, FLUX_Z=z)
    assert lost == {"g - r > 0.5": 1}
    told = [["lrg", "stars_too"], ["lrg", "bright", "red", "stars_too"], ["lrg", "red", "stars_too"]] + [["lrg", "stars_too"]] * 2
    assert [row["selections"] for row in found] == told


def test_a_flag_decides_nothing_about_who_is_a_parent(parent):
    with_flags, without = (parent(9, replace(TIER, flags=flags)) for flags in ((BRIGHT, STARS), ()))
    assert [{**r, "selections": 0} for r in with_flags[0]] == [{**r, "selections": 0} for r in without[0]]
    assert without[0][0]["selections"] == ["lrg"]


def test_two_selections_of_one_name_are_refused():
    values = config.plain(TIER)
    values["flags"] = [config.plain(replace(BRIGHT, name="lrg"))]
    with pytest.raises(ConfigError, match="selection and flags must have different names, got lrg, lrg"):
        config.build(tiers.Tier, values)


def test_a_change_of_the_flags_or_of_the_radius_makes_other_parents():
    values = config.plain(TIER)
    for change in ({"flags": [config.plain(BRIGHT)]}, {"known_lenses": {"radius_arcsec": 5.0}}):
        assert tiers.parts(values | change, "parent") != tiers.parts(values, "parent")


# known lenses --------------------------------------------------------------------------------------------------------


def test_galaxies_within_the_radius_of_a_known_lens_are_left_out(parent):
    offset = np.array([0.0, 9.9, 10.1, 30.0, 60.0, -9.9]) / 3600
    found, lost = parent(9, dec=2.2 + offset, known=(np.array([150.1]), np.array([2.2])))
    assert lost == {"no known lens within 10 arcsec": 3}
    assert [row["objid"] for row in found] == [2, 3, 4]


def test_without_a_list_or_a_radius_nothing_is_left_out_and_the_report_says_why(tmp_path):
    path = write(tmp_path / "sweep.fits", release(10))
    assert parents.of_catalogue(path, TIER, {})[1][LENS_STEP] == 0
    off = replace(TIER, known_lenses=KnownLenses(0.0))
    assert not any("lens" in name for name in parents.of_catalogue(path, off, {}, ([150.1], [2.2]))[1])
    empty, lost = parents.of_catalogue(path, TIER, {}, (np.empty(0), np.empty(0)))
    assert empty.num_rows == COUNT and lost["no known lens within 10 arcsec"] == 0


@pytest.mark.parametrize("place", [(0.0, 0.0), (359.9999, 45.0), (12.0, 89.9995), (200.0, -89.9999), (100.0, -60.0)])
def test_the_match_is_that_of_the_sphere_across_ra_0_and_at_the_poles(place):
    """Against the haversine of every pair."""
    rng = np.random.default_rng(4)
    spread = 60.0 / 3600
    turn, step = rng.uniform(0, 2 * np.pi, (2, 400)), spread * np.sqrt(rng.uniform(0, 1, (2, 400)))
    dec = place[1] + step * np.sin(turn)
    dec = np.where(np.abs(dec) > 90, np.sign(dec) * 180 - dec, dec)
    ra = (place[0] + step * np.cos(turn) / np.maximum(np.cos(np.radians(dec)), 1e-4)) % 360
    found = lenses.near(ra[0], dec[0], (ra[1][:60], dec[1][:60]), 7.0)
    a, d = np.radians(ra[0])[:, None] - np.radians(ra[1][:60]), np.radians(dec)
    haversine = np.sin((d[0][:, None] - d[1][:60]) / 2) ** 2 + np.cos(d[0])[:, None] * np.cos(d[1][:60]) * np.sin(a / 2) ** 2
    truth = (2 * np.arcsin(np.sqrt(haversine)) <= np.radians(7.0 / 3600)).any(axis=1)
    assert 20 < truth.sum() < 390
    assert (found == truth).all()


LIST = {"name": ["a", "b", "c"], "RA": [10.0, 359.5, NAN], "Dec": [-30.0, 45.0, 3.0]}


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "tsv", "ecsv", "fits", "parquet"])
def test_a_list_is_read_in_every_format_and_rows_without_a_place_are_counted(kind, tmp_path):
    path = tmp_path / f"list.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(LIST), path)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(b"name,RA,Dec\na,10.0,-30.0\nb,359.5,45.0\nc,,3.0\n"))
    else:
        Table(LIST).write(path, format=lenses.FORMATS[f".{kind}"])
    ra, dec, unplaced = lenses.read([path])
    assert (ra.tolist(), dec.tolist(), unplaced) == ([10.0, 359.5], [-30.0, 45.0], 1)
    assert len(lenses.read([path, path])[0]) == 4


def test_a_unit_that_a_list_gives_is_heeded(tmp_path):
    table = Table({"ra": [1.0], "dec": [0.5]}, units={"ra": "hourangle", "dec": "rad"})
    table.write(tmp_path / "list.ecsv", format="ascii.ecsv")
    ra, dec, _ = lenses.read([tmp_path / "list.ecsv"])
    assert (ra[0], dec[0]) == pytest.approx((15.0, np.degrees(0.5)))


@pytest.mark.parametrize("name, text, says", [
    ("a.csv", "name,alpha,dec\nx,1,2\n", r"no column of right ascension \(known: ra, .*\); columns there: name, alpha, dec"),
    ("a.csv", "ra,dec,RAJ2000\n1,2,3\n", "right ascension may be ra or RAJ2000; columns there: ra, dec, RAJ2000"),
    ("a.csv", "ra,dec\n,2\n10:20:30.5,2\n", r"column ra must be decimal degrees \(like 150\.1163\), '10:20:30\.5' is hours or degrees with minutes and seconds"),
    ("a.csv", "ra,dec\n1,-02d12m27s\n", r"column dec must be decimal degrees .*, '-02d12m27s' is hours or degrees with minutes"),
    ("a.tsv", "RAJ2000\tDEJ2000\n10 02 27.9\t+02 12 27\n", r"column RAJ2000 must be decimal degrees .*, '10 02 27\.9' is hours or"),
    ("a.csv", "ra,dec\n1,2\nunknown,2\n", r"column ra must be decimal degrees .*, 'unknown' is no number"),
    ("a.csv", "ra;dec\n1;2\n", "columns there: ra;dec"),
    ("a.txt", "ra dec\n1 2\n", "a list of lenses must be one of .csv, .tsv, .ecsv, .fits, .parquet"),
    ("a.fits", "<html>404</html>", r"a\.fits: "),
    ("a.parquet", "<html>404</html>", r"a\.parquet: "),
    ("a.csv", "", r"a\.csv: "),
    ("none.csv", None, r"no such file: .*none\.csv"),
])  # fmt: skip
def test_a_list_that_cannot_be_read_is_told(name, text, says, tmp_path):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=says):
        lenses.read([tmp_path / name])


def test_the_real_lists_are_read_whole():
    folder = shared("lens-catalogues")
    for name, rows in (("desi_candidates.csv", 5104), ("new_lenses.tsv", 1192)):
        ra, dec, unplaced = lenses.read([folder / name])
        assert (len(ra), unplaced) == (rows, 0)
        assert ((ra >= 0) & (ra < 360) & (np.abs(dec) < 90)).all()
    lists = [folder / "desi_candidates.csv", folder / "new_lenses.tsv"]
    both = lenses.read(lists)
    assert len(both[0]) == 5104 + 1192
    assert lenses.near(*lenses.read(lists[:1])[:2], both[:2], 1.0).all()
    nudged = lenses.read(lists[:1])[1] + 5.0 / 3600
    assert lenses.near(lenses.read(lists[:1])[0], nudged, both[:2], 10.0).all()
    assert lenses.near(lenses.read(lists[:1])[0], nudged, both[:2], 3.0).mean() < 0.01


# files ---------------------------------------------------------------------------------------------------------------

A, B = "sweep-150p000-155p005", "sweep-155p000-160p005"


@pytest.fixture
def folder(tmp_path):
    """Empty files under the names of a release: only their names are looked at."""
    names = [f"sky/sweep/10.1/{A}.fits", f"sky/sweep/10.1/{B}.fits.gz", f"sky/sweep/10.1-photo-z/{A}-pz.fits", "sky/tractor/150/tractor-1501p022.fits",
             "sky/tractor/150/tractor-i-1501p022.fits", "other/deep/er/sweep-010m005-015p000.parquet"]  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize("given, expected", [
    (["sky"], [f"{A}.fits", f"{B}.fits.gz"]),
    (["sky/tractor"], ["tractor-1501p022.fits"]),
    (["other"], ["sweep-010m005-015p000.parquet"]),
    (["sky/sweep/10.1/sweep-15*"], [f"{A}.fits", f"{B}.fits.gz"]),
    (["sky/sweep/10.1/*.fits"], [f"{A}.fits"]),
    (["**/*.parquet"], ["sweep-010m005-015p000.parquet"]),
    (["sky/sweep/1*.1"], [f"{A}.fits", f"{B}.fits.gz"]),
    ([f"sky/sweep/10.1/{A}.fits", "sky", "sky/sweep/10.1/*.fits"], [f"{A}.fits", f"{B}.fits.gz"]),
    (["other", "sky/tractor"], ["sweep-010m005-015p000.parquet", "tractor-1501p022.fits"]),
    ([f"sky/sweep/10.1-photo-z/{A}-pz.fits"], [f"{A}-pz.fits"]),
])  # fmt: skip
def test_files_folders_and_globs_name_catalogues_each_once(given, expected, folder):
    found = sweeps.named(folder / path for path in given)
    assert [path.rsplit("/", 1)[1] for path in found] == expected


def test_the_survey_folder_is_searched_for_compressed_and_parquet_sweeps_too(folder):
    assert [path.rsplit("/", 1)[1] for path in sweeps.find(folder / "sky")] == [f"{A}.fits", f"{B}.fits.gz"]


@pytest.mark.parametrize("more, given, says", [
    ([f"sky/sweep/10.0/{A}.fits"], "sky", "sweeps of several versions would give every galaxy twice: .*10.0, .*10.1; name them with --catalogue"),
    ([f"sky/sweep/10.1/{A}.parquet"], "sky", f"1 catalogues are there more than once, such as {A}"),
    (["two/a/tractor-1501p022.fits", "two/b/tractor-1501p022.fits"], "two", "such as tractor-1501p022"),
    ([], "sky/sweep/9*", r"no file matches .*sky/sweep/9\*"),
    (["empty/readme.txt"], "empty", r"no sweep-\*.fits or tractor-\*.fits in .*empty, nor .fits.gz or .parquet"),
])  # fmt: skip
def test_catalogues_that_would_come_twice_or_are_not_there_are_refused(more, given, says, folder):
    for name in more:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    with pytest.raises(InputError, match=says):
        sweeps.named([folder / given])
