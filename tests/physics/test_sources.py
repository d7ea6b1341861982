"""Sources from stamps: size, flux and PSF against GalSim, what is refused, the bank, and real HST galaxies."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from scipy import ndimage

from lib import sources
from lib.errors import InputError
from lib.imaging import psf as psfs
from tests.conftest import shared

galsim = pytest.importorskip("galsim")

PIXEL = 0.03
ZERO_POINT = 25.937
VARIANCE = 7e-6  # of a pixel, as in COSMOS
CATALOGUE = "real_galaxy_catalog_26_extension_example.fits"


def hst(side=65):
    """A telescope of 2.4 m at 814 nm with pixels of 0.05 arcsec, as an image of its PSF, which is all that a bank's maker has."""
    optics = galsim.OpticalPSF(lam=814, diam=2.4, obscuration=0.33, nstruts=4, strut_thick=0.02, coma1=0.02)
    image = galsim.Convolve(optics, galsim.Pixel(0.05)).drawImage(nx=side, ny=side, scale=PIXEL, method="no_pixel", dtype=float)
    return galsim.InterpolatedImage(image, flux=1.0, x_interpolant="lanczos5"), image.array


OPTICS, PSF = hst()


def noise(shape, seed, smooth_pix=0.55):
    """Noise with the neighbours' correlation of 0.46 that drizzled images have."""
    white = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), smooth_pix)
    return white * np.sqrt(VARIANCE) / white.std()


def seen(profile, mag, shape=(101, 101), seed=1, offset=(0.3, -0.4)):
    """A stamp (ny, nx) of a profile through HST, ``offset`` (x, y) pixels from its centre."""
    light = galsim.Convolve(profile, OPTICS).withFlux(10 ** (0.4 * (ZERO_POINT - mag)))
    drawn = light.drawImage(nx=shape[1], ny=shape[0], scale=PIXEL, method="no_pixel", offset=offset, dtype=float).array
    return drawn + noise(shape, seed)


def disc(n=1.0, r_eff=0.3, q=0.7):
    return galsim.Sersic(n=n, half_light_radius=r_eff).shear(q=q, beta=0.5 * galsim.radians)


def centroid(image):
    place = np.arange(len(image)) - (len(image) - 1) / 2
    return np.array([(image * place).sum(), (image * place[:, None]).sum()]) / image.sum()


@pytest.mark.parametrize("r_eff, q, mag", [(0.3, 1.0, 22.0), (0.3, 0.5, 22.0), (0.2, 0.8, 22.5), (0.5, 0.9, 21.5)])
def test_a_simulated_disc_comes_out_with_its_size_and_flux(r_eff, q, mag):
    shape = (151, 151) if r_eff > 0.3 else (111, 111)
    made = [sources.prepare(seen(disc(1.0, r_eff, q), mag, shape, seed), PIXEL, PSF, VARIANCE) for seed in range(4)]
    flux = np.mean([m.counts for m in made]) / 10 ** (0.4 * (ZERO_POINT - mag))
    assert flux == pytest.approx(1.0, abs=0.02)
    # GalSim's own radius of the truth with the PSF that the source says it is left with
    left = galsim.Convolve(disc(1.0, r_eff, q), galsim.Gaussian(fwhm=made[0].psf_fwhm_arcsec))
    truth = left.drawImage(nx=301, ny=301, scale=PIXEL, method="no_pixel").calculateHLR()
    assert np.mean([m.half_light_radius_arcsec for m in made]) == pytest.approx(truth, rel=0.05)
    for m in made:
        assert m.image.dtype == np.float32
        assert m.image.shape[0] == m.image.shape[1] and m.image.shape[0] % 2 == 1
        assert m.image.sum(dtype=float) == pytest.approx(1.0, abs=1e-5)
        assert m.image.min() >= 0.0
        assert np.hypot(*centroid(m.image.astype(float))) < 0.1


def test_the_axis_ratio_and_the_direction_are_kept():
    made = sources.prepare(seen(disc(q=0.5), 21.5), PIXEL, PSF, VARIANCE)
    found = galsim.hsm.FindAdaptiveMom(galsim.Image(made.image.astype(float), scale=1.0)).observed_shape
    truth = galsim.Convolve(disc(q=0.5), galsim.Gaussian(fwhm=made.psf_fwhm_arcsec))
    truth = galsim.hsm.FindAdaptiveMom(truth.drawImage(nx=101, ny=101, scale=PIXEL, method="no_pixel")).observed_shape
    assert abs(found.e1 - truth.e1) < 0.03 and abs(found.e2 - truth.e2) < 0.03


def test_a_star_comes_out_as_the_round_gaussian_that_the_source_says():
    made = sources.prepare(seen(galsim.Gaussian(sigma=1e-4), 20.0), PIXEL, PSF, VARIANCE)
    assert made.psf_fwhm_arcsec == pytest.approx(0.08)
    assert psfs.fwhm(psfs.Pixelised(made.image), PIXEL) == pytest.approx(made.psf_fwhm_arcsec, rel=0.1)
    found = galsim.hsm.FindAdaptiveMom(galsim.Image(made.image.astype(float), scale=PIXEL))
    assert found.observed_shape.e < 0.03
    r = np.hypot(*(np.indices(made.image.shape) - len(made.image) // 2)) * PIXEL
    beyond = PSF[np.hypot(*(np.indices(PSF.shape) - 32)) * PIXEL > 0.15].sum() / PSF.sum()
    assert made.image[r > 0.15].sum() < 0.25 * beyond, "the telescope's wings are still there"


@pytest.mark.parametrize("mag", [21.0, 23.0, 24.5])
def test_a_fainter_galaxy_is_left_with_a_wider_psf_and_no_flux_from_its_noise(mag):
    made = [sources.prepare(seen(disc(r_eff=0.2), mag, (75, 75), s), PIXEL, PSF, VARIANCE) for s in range(8)]
    assert np.mean([m.counts for m in made]) / 10 ** (0.4 * (ZERO_POINT - mag)) == pytest.approx(1.0, abs=0.06)
    widths = {21.0: (0.08, 0.09), 23.0: (0.08, 0.11), 24.5: (0.12, 0.20)}[mag]
    assert widths[0] <= np.median([m.psf_fwhm_arcsec for m in made]) <= widths[1]


@pytest.mark.parametrize("n, mag, side", [(1.0, 22.0, 101), (4.0, 20.5, 121), (1.0, 24.5, 61)])
def test_the_edge_is_zero_and_nothing_steps(n, mag, side):
    made = sources.prepare(seen(disc(n=n), mag, (side, side)), PIXEL, PSF, VARIANCE).image
    assert not made[:2].any() and not made[-2:].any() and not made[:, :2].any() and not made[:, -2:].any()
    outermost = np.concatenate([made[2], made[-3], made[:, 2], made[:, -3]])
    assert 0 < outermost.max() < 3e-3 * made.max()
    core = np.hypot(*(np.indices(made.shape) - len(made) // 2)) * PIXEL < 0.7
    steps = [np.where(core, 0.0, np.abs(np.diff(made, axis=a, append=0.0))).max() for a in (0, 1)]
    assert max(steps) < 0.03 * made.max()


@pytest.mark.parametrize("smooth_pix", [0.01, 0.55, 1.0])
def test_noise_alone_is_no_galaxy(smooth_pix):
    for seed in range(25):
        with pytest.raises(sources.StampError, match=r"no galaxy|signal-to-noise"):
            sources.prepare(noise((64, 64), seed, smooth_pix), PIXEL, PSF, VARIANCE)


def test_a_neighbour_is_no_part_of_the_source():
    alone = seen(disc(r_eff=0.2), 22.5, (121, 121))
    both = alone + seen(disc(r_eff=0.1), 22.5, (121, 121), 2, offset=(38, 20)) - noise((121, 121), 2)
    a, b = (sources.prepare(image, PIXEL, PSF, VARIANCE) for image in (alone, both))
    assert b.counts == pytest.approx(a.counts, rel=0.03)
    assert b.half_light_radius_arcsec == pytest.approx(a.half_light_radius_arcsec, rel=0.03)


def test_the_clumps_of_a_galaxy_stay_with_it():
    knots = [galsim.Gaussian(fwhm=0.05, flux=0.12).shift(0.25 * np.cos(a), 0.25 * np.sin(a)) for a in (0.3, 2.2, 4.5)]
    made = sources.prepare(seen(galsim.Sum([disc(q=0.9).withFlux(0.64), *knots]), 22.0, (121, 121)), PIXEL, PSF, VARIANCE)
    assert made.counts / 10 ** (0.4 * (ZERO_POINT - 22.0)) == pytest.approx(1.0, abs=0.03)


def test_a_level_of_sky_is_taken_off():
    image = seen(disc(), 22.0)
    a, b = (sources.prepare(i, PIXEL, PSF, VARIANCE) for i in (image, image + 0.05))
    assert np.abs(a.image - b.image).max() < 1e-6
    known = sources.prepare(image + 0.05, PIXEL, PSF, VARIANCE, sky_level=0.05)
    assert known.counts == pytest.approx(10 ** (0.4 * (ZERO_POINT - 22.0)), rel=0.05)


def test_turned_or_brightened_stamps_give_the_turned_or_same_source():
    image = seen(disc(q=0.5), 22.5, (80, 101))
    a = sources.prepare(image, PIXEL, PSF, VARIANCE)
    turned = sources.prepare(np.rot90(image), PIXEL, np.rot90(PSF), VARIANCE)
    assert np.abs(np.rot90(a.image) - turned.image).max() < 1e-4 * a.image.max()
    brighter = sources.prepare(9.0 * image, PIXEL, PSF, 81.0 * VARIANCE)
    assert np.abs(a.image - brighter.image).max() < 1e-6
    assert brighter.counts == pytest.approx(9.0 * a.counts)


def test_the_galaxys_own_electrons_make_it_smoother():
    image = seen(disc(), 22.5)
    widths = [sources.prepare(image, PIXEL, PSF, VARIANCE, electrons=e).psf_fwhm_arcsec for e in (None, 2000.0, 200.0)]
    assert widths == sorted(widths) and widths[0] < widths[2]


GOOD = seen(disc(), 22.0)


def with_pixel(value):
    image = GOOD.copy()
    image[40, 60] = value
    return image


@pytest.mark.parametrize("image, psf, message", [
    (np.roll(GOOD, (50, 50), (0, 1)), PSF, "no galaxy within 0.1 sides of the stamp's centre"),
    (with_pixel(np.nan), PSF, "1 pixels are NaN or infinite"),
    (GOOD[45:60, 45:60], PSF, r"16 px a side or more, got shape \(15, 15\)"),
    (GOOD[None], PSF, r"2-d image .* got shape \(1, 101, 101\)"),
    (-GOOD, PSF, "no galaxy|signal-to-noise"),
    (np.where(np.hypot(*np.indices(GOOD.shape) - 50.0) < 30, GOOD, 0.0), PSF, "no noise"),
    (10 * GOOD, PSF, "noise variance 0.000[0-9]+ in the stamp's frame, 7e-06 given"),
    (GOOD, PSF[32], r"2-d image, got shape \(65,\)"),
    (GOOD, PSF[:60, :], "peak is 2.5 px from the centre"),
    (GOOD, 0 * PSF, "positive sum"),
])  # fmt: skip
def test_a_bad_stamp_or_psf_says_what_is_wrong(image, psf, message):
    with pytest.raises(sources.StampError, match=message):
        sources.prepare(image, PIXEL, psf, VARIANCE)


@pytest.mark.parametrize("rows, columns", [(slice(35, 66), slice(35, 66)), (slice(0, 101), slice(43, 60))])
def test_a_galaxy_that_its_stamp_cuts_is_refused(rows, columns):
    with pytest.raises(sources.StampError, match="of the galaxy's light lies beyond the stamp, more than 5%"):
        sources.prepare(GOOD[rows, columns], PIXEL, PSF, sky_level=0.0)


@pytest.fixture(scope="module")
def bank():
    made = [sources.prepare(seen(disc(r_eff=r), 22.0), PIXEL, PSF, VARIANCE) for r in (0.2, 0.3)]
    return sources.table([sources.record(m, f"g{k}", "simulated", zero_point_mag=ZERO_POINT) for k, m in enumerate(made)])


def test_a_bank_comes_back_as_it_was_written(bank, tmp_path):
    path = str(tmp_path / "bank.parquet")
    sources.write(bank, path)
    found = sources.read(path)
    assert found.source_ids == ["g0", "g1"]
    assert [i.tobytes() for i in found.images] == bank["image"].to_pylist()
    assert found.half_light_radius_arcsec == pytest.approx([0.2, 0.3], rel=0.07)
    assert found.psf_fwhm_arcsec == pytest.approx(bank["psf_fwhm_arcsec"].to_pylist())
    assert list(found.pixel_arcsec) == [PIXEL, PIXEL]
    assert bank["mag_measured"].to_pylist() == pytest.approx([22.0, 22.0], abs=0.03)
    assert list(tmp_path.iterdir()) == [tmp_path / "bank.parquet"]


def broken(change):
    """What ``change`` makes of the image of a bank's second source."""

    def apply(bank):
        side = bank["side_pix"][1].as_py()
        image = np.frombuffer(bank["image"][1].as_py(), np.float32).reshape(side, side).copy()
        return bank.set_column(1, bank.schema.field("image"), [[bank["image"][0].as_py(), change(image).tobytes()]])

    return apply


def renamed(name, value):
    def apply(bank):
        place = bank.schema.names.index(name)
        return bank.set_column(place, bank.schema.field(name), pa.array([bank[name][0].as_py(), value], bank[name].type))

    return apply


def spoilt(image, at, by):
    image[at] += by
    return image


@pytest.mark.parametrize("change, message", [
    (broken(lambda i: 1.01 * i), "source g1: image must have the sum 1, got 1.01"),
    (broken(lambda i: spoilt(i, (9, 9), np.nan)), "source g1: image has 1 pixels that are NaN"),
    (broken(lambda i: spoilt(i, (4, 4), -1e-4)), "source g1: image has 1 negative pixels"),
    (broken(lambda i: spoilt(i, (1, 20), 1e-4)), "source g1: image must be zero in its outer 2 rows"),
    (broken(lambda i: np.roll(i, 3, axis=1)), "source g1: .*must be centred on its light to 1 px, is off by (2.9|3.0)"),
    (broken(lambda i: i[:-1]), r"source g1: image has \d+ bytes, not 4 \* "),
    (broken(lambda i: np.float64(i)), r"source g1: image has \d+ bytes, not 4 \* "),
    (renamed("half_light_radius_arcsec", 0.6), "source g1: half_light_radius_arcsec is 20.00 px, the image's"),
    (renamed("pixel_arcsec", 0.0), "source g1: pixel_arcsec must be 0.0001 to 10, got 0"),
    (renamed("side_pix", -7), "source g1: side_pix must be 8 to 4096, got -7"),
    (renamed("source_id", "g0"), "source g0: source_id occurs twice"),
    (lambda bank: bank.drop_columns("origin"), "is not a bank of sources: columns"),
    (lambda bank: bank.slice(0, 0), "holds no source"),
])  # fmt: skip
def test_a_spoilt_bank_names_the_file_and_the_source(bank, change, message, tmp_path):
    path = tmp_path / "bank.parquet"
    with pytest.raises(InputError, match=f"new.parquet.*{message}"):
        sources.write(change(bank), str(tmp_path / "new.parquet"))
    assert not list(tmp_path.iterdir())
    pq.write_table(change(bank), path)
    with pytest.raises(InputError, match=f"bank.parquet.*{message}"):
        sources.read(str(path))


def test_a_half_written_or_missing_bank_names_the_file(bank, tmp_path):
    path = tmp_path / "bank.parquet"
    sources.write(bank, str(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"bank.parquet is not a whole Parquet file"):
        sources.read(str(path))
    with pytest.raises(InputError, match=r"no such file: .*none.parquet"):
        sources.read(str(tmp_path / "none.parquet"))


@pytest.fixture
def layout(tmp_path):
    """A catalogue in the RealGalaxy layout of two galaxies, the second with a NaN and a PSF off its centre; ``None`` drops a column."""

    def make(**changes):
        fits.HDUList([fits.PrimaryHDU(GOOD), fits.ImageHDU(with_pixel(np.nan))]).writeto(tmp_path / "images.fits", overwrite=True)
        fits.HDUList([fits.PrimaryHDU(PSF), fits.ImageHDU(np.roll(PSF, 5))]).writeto(tmp_path / "psfs.fits", overwrite=True)
        columns = {
            "IDENT": [7, 8], "MAG": [22.0, 22.0], "BAND": ["F814W"] * 2, "GAL_FILENAME": ["images.fits"] * 2, "PSF_FILENAME": ["psfs.fits"] * 2,
            "GAL_HDU": [0, 1], "PSF_HDU": [0, 1], "PIXEL_SCALE": [PIXEL] * 2, "NOISE_MEAN": [0.0] * 2, "NOISE_VARIANCE": [VARIANCE] * 2,
        } | changes  # fmt: skip
        Table({k: v for k, v in columns.items() if v is not None}).write(tmp_path / "catalogue.fits", overwrite=True)
        return str(tmp_path / "catalogue.fits")

    return make


def test_a_galaxy_that_cannot_be_a_source_is_listed_and_its_neighbour_is_made(layout):
    table, rejected = sources.from_real_galaxies(layout())
    assert table["source_id"].to_pylist() == ["7"]
    assert table["origin"].to_pylist() == ["images.fits[0]"]
    assert rejected == {"8": "1 pixels are NaN or infinite"}


def test_each_galaxy_gets_its_own_stamp_and_psf(layout):
    assert "the PSF's peak is 5 px from" in sources.from_real_galaxies(layout(PSF_HDU=[1, 0]))[1]["7"]
    table, rejected = sources.from_real_galaxies(layout(GAL_HDU=[1, 0], PSF_HDU=[0, 0]))
    assert (table["source_id"].to_pylist(), list(rejected)) == (["8"], ["7"])


def test_a_stamp_of_another_galaxy_than_the_catalogues_is_rejected(layout):
    _, rejected = sources.from_real_galaxies(layout(MAG=[23.0, 22.0]))
    assert "its light is -1.00 mag from the catalogue's" in rejected["7"]


@pytest.mark.parametrize("changes, message", [
    ({"NOISE_MEAN": None, "MAG": None}, "catalogue.fits is not a RealGalaxy catalogue: no column MAG, NOISE_MEAN"),
    ({"GAL_HDU": [0, 2]}, "images.fits: no image in HDU 2, of source 8"),
    ({"PSF_FILENAME": ["psfs.fits", "lost.fits"]}, "no such file: .*lost.fits, of source 8"),
    ({"IDENT": [7, 7]}, "catalogue.fits: IDENT occurs twice: 7"),
])  # fmt: skip
def test_files_that_do_not_fit_their_catalogue_are_named(layout, changes, message):
    with pytest.raises(InputError, match=message):
        sources.from_real_galaxies(layout(**changes))


@pytest.fixture(scope="module")
def cosmos():
    """(bank of the real galaxies, rejected, flux_radius in arcsec by source_id)."""
    folder = shared("galsim-cosmos")
    table, rejected = sources.from_real_galaxies(str(folder / CATALOGUE))
    sizes = Table.read(folder / CATALOGUE.replace("example", "example_fits"))
    return table, rejected, {str(r["IDENT"]): r["flux_radius"] * PIXEL for r in sizes}


def test_real_galaxies_become_a_bank(cosmos, tmp_path):
    table, rejected, _ = cosmos
    assert table.num_rows + len(rejected) == 100
    assert table.num_rows >= 70
    sources.write(table, str(tmp_path / "bank.parquet"))
    assert len(sources.read(str(tmp_path / "bank.parquet")).images) == table.num_rows


def test_real_stamps_that_no_eye_would_take_are_rejected(cosmos):
    """A stamp with two noise levels, one cut through by a bright neighbour, one of 16 px without a galaxy."""
    rejected = cosmos[1]
    assert "noise variance" in rejected["5"]
    assert "beyond the stamp" in rejected["11"]
    assert "signal-to-noise" in rejected["122743"]


def test_real_fluxes_are_the_catalogues_with_the_zero_point(cosmos):
    table, _, _ = cosmos
    raw = Table.read(shared("galsim-cosmos") / CATALOGUE)
    assert np.ptp(raw["MAG"] + 2.5 * np.log10(raw["stamp_flux"])) < 1e-4
    assert np.mean(raw["MAG"] + 2.5 * np.log10(raw["stamp_flux"])) == pytest.approx(ZERO_POINT, abs=1e-4)
    offset = pc.subtract(table["mag_measured"], table["mag_catalogue"]).to_numpy()
    bright = table["mag_catalogue"].to_numpy() < 23.5
    assert np.median(offset) == pytest.approx(-0.02, abs=0.03)
    assert np.median(offset[bright]) == pytest.approx(-0.03, abs=0.03)
    assert 1.4826 * np.median(np.abs(offset - np.median(offset))) < 0.1
    assert offset[bright].std() < 0.05


def test_real_sizes_are_the_catalogues_less_the_telescopes_psf(cosmos):
    """flux_radius holds HST's PSF, the source a narrower Gaussian: a large galaxy's is the same, a small one's is smaller."""
    table, _, flux_radius = cosmos
    theirs = np.array([flux_radius[k] for k in table["source_id"].to_pylist()])
    ratio = table["half_light_radius_arcsec"].to_numpy() / theirs
    large = (theirs > 0.25) & (table["snr"].to_numpy() > 25)
    assert large.sum() >= 10
    assert np.median(ratio[large]) == pytest.approx(0.98, abs=0.04)
    assert ratio[large].std() < 0.08
    sharp = (theirs < 0.2) & (table["psf_fwhm_arcsec"].to_numpy() < 0.16)
    assert np.median(ratio[sharp]) < 0.93


def test_a_table_keeps_its_declared_columns(cosmos):
    assert cosmos[0].schema.equals(sources.SOURCES, check_metadata=True)
    assert pa.types.is_binary(cosmos[0].schema.field("image").type)
