"""Every table, declared once, in Arrow: name, type, unit, meaning, physical range, nullable.

Spark's types, the gates of ``validation`` and ``docs/tables.md`` are derived from here.
"""

import pyarrow as pa

VERSION = "1"
BANDS = ("g", "r", "z")
ROLES = ("injected", "paired_control", "unpaired_control", "hard_negative")
SPLITS = ("train", "val", "test")
ENCODINGS = ("split", "rounded", "npz")
SHAPE = (  # of lens and source, in TASK or LENS
    "theta_e_arcsec", "lens_e", "lens_phi_rad", "shear", "shear_phi_rad", "src_x_arcsec", "src_y_arcsec", "src_n", "src_reff_arcsec",
    "src_e", "src_phi_rad",
)  # fmt: skip
MAGNITUDES = ("mag_r_observed", "src_dmag", "src_gr", "src_rz")


def column(name, kind, meaning, unit="", *, nullable=False, low=None, high=None):
    """A field; ``low`` and ``high`` are the inclusive physical range of its values."""
    facts = {"meaning": meaning, "unit": unit, "low": low, "high": high}
    text = {k: str(v) for k, v in facts.items() if v not in (None, "")}
    return pa.field(name, kind, nullable=nullable, metadata=text)


def fact(field: pa.Field, name: str) -> str:
    """One of a field's facts (``meaning``, ``unit``, ``low``, ``high``), or ''."""
    return (field.metadata or {}).get(name.encode(), b"").decode()


def _bands(template, kind, meaning, unit="", **facts):
    return [column(template.format(b=b), kind, meaning.format(b=b), unit, **facts) for b in BANDS]


s, f, d, i, n, y, t = pa.string(), pa.float32(), pa.float64(), pa.int32(), pa.int64(), pa.binary(), pa.bool_()

GALAXY = [
    column("galaxy_id", n, "release << 42 | brickid << 20 | objid: one number for one catalogue row"),
    column("brickname", s, "brick that holds the galaxy in its unique area"),
    column("objid", i, "number of the object in its brick", low=0),
    column("ra_deg", d, "right ascension, ICRS", "deg", low=0, high=360),
    column("dec_deg", d, "declination, ICRS", "deg", low=-90, high=90),
]
BRICK = [
    column("brick_ra_deg", d, "right ascension of the brick's centre", "deg", low=0, high=360),
    column("brick_dec_deg", d, "declination of the brick's centre", "deg", low=-90, high=90),
]
HOST = [
    column("type", s, "morphological type of the catalogue's best fit"),
    *_bands("mag_{b}", f, "AB magnitude, corrected for Galactic extinction", "mag", nullable=True, low=5, high=35),
    *_bands("mag_{b}_observed", f, "AB magnitude as observed", "mag", nullable=True, low=5, high=35),
    column("shape_r_arcsec", f, "half-light radius along the major axis", "arcsec", nullable=True, low=0, high=200),
    column("shape_e1", f, "ellipticity component e cos 2PA, e = (1-q)/(1+q)", nullable=True, low=-1, high=1),
    column("shape_e2", f, "ellipticity component e sin 2PA", nullable=True, low=-1, high=1),
    *_bands("nobs_{b}", i, "exposures at the galaxy", nullable=True, low=0),
    *_bands("fracmasked_{b}", f, "share of the profile's weight on masked pixels", nullable=True, low=0, high=1),
    *_bands("psfsize_{b}_arcsec", f, "PSF size of the catalogue (noise-equivalent; not a FWHM)", "arcsec", nullable=True, low=0, high=20),
    *_bands("brick_psfsize_{b}_arcsec", f, "the brick's mean PSF size (noise-equivalent)", "arcsec", nullable=True, low=0, high=20),
    *_bands("psfdepth_{b}_mag", f, "5-sigma point source depth, AB", "mag", nullable=True, low=10, high=35),
    column("ebv_mag", f, "Galactic reddening E(B-V)", "mag", nullable=True, low=0, high=20),
    column("maskbits", i, "the catalogue's mask bits at the galaxy"),
]  # fmt: skip
CELL = [
    column("sky_cell", n, "HEALPix cell, nested, nside in the config", low=0),
    column("split", s, "train, val or test: a function of the sky cell only"),
]
PARENT = pa.schema([
    *GALAXY,
    column("release", i, "data release number of the catalogue row"),
    column("brickid", i, "public number of the brick", low=1),
    *BRICK,
    *HOST,
    *CELL,
    column("split_guard", t, "a cell of another split is nearer than the farthest corner of its stamp can be: not used as a host"),
    column("selections", pa.list_(s), "named selections that the galaxy passes, first the one that makes it a parent"),
])  # fmt: skip

TASK = [
    column("task_id", s, "hash of (galaxy, config, replicate, role) and of the tier's seed"),
    column("pair_id", s, "task of the injection that a control belongs to; its own for an injection and for a hard negative"),
    column("role", s, "one of " + ", ".join(ROLES)),
    column("tier", s, "recipe the row was made by"),
    column("dataset", s, "name of the data set"),
    column("experiment_id", s, "{tier}_stamp{N}_bands{grz}_grid{name}"),
]
LENS = [
    column("config_id", s, "grid name and number of the grid point"),
    column("theta_e_arcsec", f, "Einstein radius, intermediate axis; 0 for a control", "arcsec", low=0, high=10),
    column("src_dmag", f, "source magnitude fainter than the host's, r, both as observed", "mag", low=-5, high=15),
    column("src_reff_arcsec", f, "circularised effective radius", "arcsec", low=0.001, high=10),
    column("src_n", f, "Sersic index", low=0.3, high=6),
    column("src_e", f, "source ellipticity (1-q)/(1+q)", low=0, high=0.9),
    column("shear", f, "external shear", low=0, high=0.5),
    column("lens_e", f, "lens ellipticity (1-q)/(1+q)", low=0, high=0.9),
    column("lens_phi_rad", f, "major axis of the lens, anticlockwise from +x of the stamp", "rad", low=-7, high=7),
    column("shear_phi_rad", f, "direction of the shear, same sense", "rad", low=-7, high=7),
    column("src_phi_rad", f, "major axis of the source, same sense", "rad", low=-7, high=7),
    column("lens_pa_deg", f, "major axis of the lens, east of north", "deg", low=0, high=180),
    column("shear_pa_deg", f, "direction of the shear, east of north", "deg", low=0, high=180),
    column("src_pa_deg", f, "major axis of the source, east of north", "deg", low=0, high=180),
    column("src_x_arcsec", f, "source centre from the lens, +x of the stamp", "arcsec", low=-10, high=10),
    column("src_y_arcsec", f, "source centre from the lens, +y of the stamp", "arcsec", low=-10, high=10),
    column("src_gr", f, "source colour g - r, as observed", "mag", low=-3, high=5),
    column("src_rz", f, "source colour r - z, as observed", "mag", low=-3, high=5),
    column("source_model", s, "sersic; none for a control"),
    column("replicate", i, "number of the repetition", low=0),
    column("seed", n, "seed of the row's noise"),
    column("stamp_side_pix", i, "side of the square stamp", "pixel", low=1, high=1024),
    column("match_rung", i, "rung of the tolerance ladder on which an unpaired control was matched", nullable=True, low=0),
    column("match_distance", f, "distance of the match in tolerances", nullable=True, low=0),
]  # fmt: skip
MANIFEST = pa.schema([
    *TASK, *GALAXY, *BRICK, *HOST, *CELL, *LENS,
])  # fmt: skip

PIXELS = "(bands, side, side), bands in the order of the column bands; null with npz"
STAMPS = pa.schema([
    column("task_id", s, "key into manifest and metrics"),
    column("split", s, "train, val or test"),
    column("brickname", s, "brick that the pixels come from"),
    column("role", s, "as in manifest"),
    column("status", s, "one of lib.errors.STATUSES"),
    column("error", s, "why status is not ok", nullable=True),
    column("bands", s, "bands of the planes, in order"),
    column("stamp_side_pix", i, "side of a plane", "pixel", low=1),
    column("x_pix", f, "host position in the stamp, 0 at the first pixel's centre", "pixel", nullable=True),
    column("y_pix", f, "host position in the stamp, 0 at the first pixel's centre", "pixel", nullable=True),
    column("encoding", s, "of the planes, as lib.encoding says: split keeps every bit, rounded does not; both are read alike; or npz"),
    column("stamp", y, f"split float32, survey pixels with the arc and its noise; {PIXELS}", "nanomaggy", nullable=True),
    column("arc", y, f"split float32, the added light alone, without noise; {PIXELS}", "nanomaggy", nullable=True),
    column("invvar", y, f"split float32, with the arc's own variance; {PIXELS}", "1/nanomaggy2", nullable=True),
    column("mask", y, "uint8 (side, side): bit b set where band b is bad, bit 7 where a bright-star or WISE mask is; null with npz", nullable=True),
    column("stamp_npz", y, "a NumPy archive of stamp, arc, invvar and mask; null unless encoding is npz", nullable=True),
])  # fmt: skip

METRICS = pa.schema([
    *MANIFEST,
    column("status", s, "one of lib.errors.STATUSES"),
    column("error", s, "why status is not ok", nullable=True),
    *_bands("psf_fwhm_used_{b}_arcsec", f, "full width at half maximum of the PSF used", "arcsec", nullable=True, low=0.1, high=20),
    *_bands("psfsize_used_{b}_arcsec", f, "its noise-equivalent size, the surveys' psfsize", "arcsec", nullable=True, low=0.1, high=20),
    *_bands("psf_source_{b}", s, "where the PSF came from: coadd, map, brick or catalogue", nullable=True),
    *_bands("flux_unlensed_{b}", f, "analytic flux of the source", "nanomaggy", nullable=True, low=0),
    *_bands("flux_lensed_{b}", f, "lensed flux on the unbounded plane, before the PSF", "nanomaggy", nullable=True, low=0),
    *_bands("flux_stamp_{b}", f, "flux added inside the stamp, after the PSF", "nanomaggy", nullable=True),
    column("magnification", f, "flux_lensed_r / flux_unlensed_r", nullable=True, low=0, high=1000),
    column("magnification_expected", f, "the same by rays from the lens centre, an independent method", nullable=True, low=0, high=1000),
    column("n_images", i, "images of a point at the source's centre", nullable=True, low=0, high=9),
    column("stamp_flux_fraction", f, "flux_stamp_r / flux_lensed_r", nullable=True, low=-0.01, high=1.01),
    column("arc_snr", f, "matched filter, sqrt(sum s^2 invvar), r", nullable=True, low=0),
    column("arc_snr_total", f, "sum s / sqrt(sum var) over the pixels with 95 % of the arc's flux, r", nullable=True),
    column("arc_snr_peak", f, "max(s sqrt(invvar)), r", nullable=True, low=0),
    column("theta_e_over_psf", f, "Einstein radius over the FWHM in r; resolved above 1", nullable=True, low=0),
    column("detectable", t, "theta_e^2 > r_eff^2 + (FWHM/2)^2, magnification r_eff > FWHM, magnification >= 3, arc_snr >= 20; r", nullable=True),
    column("bad_pixel_frac", f, "share of the stamp's pixels bad in any band", nullable=True, low=0, high=1),
    column("arc_bad_pixel_frac", f, "share of the arc's light on bad pixels", nullable=True, low=-0.01, high=1.01),
    column("wise_brightmask_frac", f, "share of the stamp under the WISE bright-star masks; null without maskbits", nullable=True, low=0, high=1),
    column("core_flux_fraction", f, "share of the arc's flux within 5 px of the host, r", nullable=True, low=-0.5, high=1.5),
    column("pixel_scale_arcsec", f, "local pixel scale of the WCS", "arcsec", nullable=True, low=0.01, high=10),
])  # fmt: skip

CACHE = pa.schema([
    column("brickname", s, "brick that the file belongs to"),
    column("file", s, "path under the survey root; *.sha256sum where the folder has no list of checksums"),
    column("needed", t, "stamps of the brick cannot be made without it"),
    column("status", s, "copied; present: whole already; absent: optional, and the source lacks it; missing: needed, and it lacks it; failed: not to be had"),
    column("bytes", n, "size of the copy", "byte", nullable=True, low=0),
    column("sha256", s, "of the copy", nullable=True),
    column("check", s, "what the copy agrees with: sha256 (the survey's), datasum (the file's), fits (it decodes), list", nullable=True),
    column("attempts", i, "how often it was asked for; 0 if it was there", low=0),
    column("seconds", d, "time it took, with the pauses", "s", low=0),
    column("error", s, "what went wrong last, if anything, even if a later attempt went well", nullable=True),
])  # fmt: skip

NEGATIVES = pa.schema([
    column("rank", i, "1 is the highest score; of equal scores the smaller galaxy_id comes first; galaxies of a list follow, by kind and galaxy_id", low=1),
    column("galaxy_id", n, "galaxy that looks like a lens, to the network or to the eye; each is there once"),
    column("split", s, "the galaxy's own"),
    column("kind", s, "what a list says that it is (ring, spiral, edge_on, merger); scored where none does"),
    column("task_id", s, "its control with the highest score; null, as what follows, of a galaxy that was not taken for its score", nullable=True),
    column("role", s, "of that control: paired_control or unpaired_control", nullable=True),
    column("score", d, "of that control, as it was given", nullable=True),
    column("threshold", d, "lowest score that is taken", nullable=True),
    column("false_positive_rate", d, "share of the scored controls (rows, not galaxies) at or above the threshold", nullable=True, low=0, high=1),
    column("n_controls", n, "scored controls: what the rate is a share of", nullable=True, low=1),
])  # fmt: skip

SELECTION = pa.schema([
    column("recovery", s, "when a lens counts as found: scores, at a rate of false positives; or proxy, arc_snr >= 5 and theta_e_over_psf >= 0.8"),
    column("false_positive_rate", d, "as asked for; null for the proxy", nullable=True, low=0, high=1),
    column("false_positive_rate_reached", d, "share of the scored controls at or above the threshold", nullable=True, low=0, high=1),
    column("threshold", d, "score from which a stamp counts as a lens", nullable=True),
    column("n_controls", n, "scored controls that the rate is a share of", nullable=True, low=1),
    column("region", s, "all, or a HEALPix cell of the sky: nside{n}-{cell}, nested"),
    column("x", s, "what the bins are of: a column of metrics, or src_mag_r, the source's unlensed magnitude"),
    column("x_low", d, "lower edge of the bin; the first one of its axis holds what is below"),
    column("x_high", d, "upper edge of the bin; the last one of its axis holds what is above"),
    column("y", s, "the second axis of a surface", nullable=True),
    column("y_low", d, "as x_low", nullable=True),
    column("y_high", d, "as x_high", nullable=True),
    column("n", n, "injected lenses in the bin", low=0),
    column("n_recovered", n, "of them found", low=0),
    column("completeness", d, "n_recovered / n; null in bins of too few lenses", nullable=True, low=0, high=1),
    column("low", d, "lower end of its 95 % interval (Wilson)", nullable=True, low=0, high=1),
    column("high", d, "upper end of its 95 % interval (Wilson)", nullable=True, low=0, high=1),
    column("smooth", d, "completeness by a smooth curve or surface through all bins, at the bin's middle", low=0, high=1),
    column("smooth_error", d, "its standard error", low=0),
])  # fmt: skip

FRAMES = pa.schema([
    column("frame_id", s, "path of the file under the folder of frames, and its HDU"),
    column("path", s, "path under the folder of frames"),
    column("hdu", i, "number of the HDU", low=0),
    column("kind", s, "image, bayer (one-shot colour) or ccd (with weight and mask beside it)"),
    column("status", s, "ok, or why it is left out: a status of lib.errors"),
    column("error", s, "why status is not ok", nullable=True),
    column("band", s, "filter; frames of different bands make different mosaics"),
    column("planes", i, "planes of pixels: 1, or 3 in colour", nullable=True, low=1),
    column("ny", i, "rows", "pixel", nullable=True, low=1),
    column("nx", i, "columns", "pixel", nullable=True, low=1),
    column("ra_deg", d, "centre, ICRS", "deg", nullable=True, low=0, high=360),
    column("dec_deg", d, "centre, ICRS", "deg", nullable=True, low=-90, high=90),
    column("pixel_arcsec", d, "pixel scale", "arcsec", nullable=True, low=0),
    column("unit", s, "unit of the pixels after scale"),
    column("scale", d, "factor from the file's pixels to unit"),
    column("weight_path", s, "file of inverse variances", nullable=True),
    column("mask_path", s, "file of masks, 0 where good", nullable=True),
    column("wcs", s, "header cards of the WCS", nullable=True),
    column("bytes", n, "size of the file", "byte", low=0),
])  # fmt: skip

TILES = pa.schema([
    column("tile_id", s, "band, level and number"),
    column("level", i, "0 is made from frames, later ones from the tiles of the one before", low=0),
    column("level_name", s, "name of the level in the recipe"),
    column("band", s, "as in frames"),
    column("planes", i, "planes of pixels", low=1),
    column("y0", i, "first row on its lattice", "pixel"),
    column("x0", i, "first column on its lattice", "pixel"),
    column("ny", i, "rows", "pixel", low=1),
    column("nx", i, "columns", "pixel", low=1),
    column("lattice", s, "header cards of its lattice's WCS"),
    column("lattice_ny", i, "rows of the lattice", "pixel", low=1),
    column("lattice_nx", i, "columns of the lattice", "pixel", low=1),
    column("inputs", pa.list_(s), "ids of the frames, or tiles of the level before, that may meet it"),
])  # fmt: skip

OVERLAPS = pa.schema([
    column("level", i, "level whose images are compared", low=0),
    column("one", s, "image x"),
    column("other", s, "image y"),
    column("plane", i, "plane of pixels", low=0),
    column("n", i, "bins of 8x8 px in common", low=0),
    column("slope", d, "y = slope x + intercept"),
    column("intercept", d, "y = slope x + intercept"),
    column("information", d, "1 / variance of log slope", low=0),
    column("x", d, "mean of x"),
    column("y", d, "mean of y"),
    column("residual", d, "scatter about the line", low=0),
    column("sigma_x", d, "scatter of a bin of x", low=0),
    column("sigma_y", d, "scatter of a bin of y", low=0),
    column("middle", pa.list_(d), "mean place of the bins, y and x on the lattice", "pixel"),
    column("tilt_x", pa.list_(d), "plane through x: value, slopes along y and x"),
    column("tilt_y", pa.list_(d), "plane through y"),
    column("normal", pa.list_(d), "3x3 matrix of the planes' normal equations"),
])  # fmt: skip

NORMALISATION = pa.schema([
    column("level", i, "level whose images are corrected", low=0),
    column("image", s, "frame or tile"),
    column("plane", i, "plane of pixels", low=0),
    column("gain", f, "pixels become gain x + offset + slope"),
    column("offset", f, "pixels become gain x + offset + slope"),
    column("slope_y", d, "a pixel of the lattice along y"),
    column("slope_x", d, "a pixel of the lattice along x"),
    column("middle_y", d, "where the slope is nothing", "pixel"),
    column("middle_x", d, "where the slope is nothing", "pixel"),
    column("sigma", f, "noise of a pixel, before the gain", low=0),
    column("sky", f, "median of the pixels, before the gain", nullable=True),
    column("pairs", i, "overlaps that it is from", low=0),
    column("n", n, "bins in them", low=0),
    column("residual", f, "what its overlaps still differ by", low=0),
    column("clipped", t, "the gain is at a limit"),
    column("component", i, "group of images that overlap", low=0),
    column("anchor", s, "image that keeps its scale in the group", nullable=True),
    column("healthy", t, "false: no pixels, or absurd ones; it takes part in no mosaic"),
])  # fmt: skip

COADDS = pa.schema([
    column("tile_id", s, "as in tiles"),
    column("level", i, "as in tiles", low=0),
    column("level_name", s, "as in tiles; polished for the mosaic itself"),
    column("band", s, "as in frames"),
    column("status", s, "ok, or no_coverage"),
    column("error", s, "why status is not ok", nullable=True),
    column("y0", i, "first row on its lattice", "pixel"),
    column("x0", i, "first column on its lattice", "pixel"),
    column("ny", i, "rows", "pixel", low=0),
    column("nx", i, "columns", "pixel", low=0),
    column("inputs", i, "images that met it", low=0),
    column("resampled", i, "images that were resampled: the others lay on the lattice", low=0),
    column("unit", s, "unit of the pixels"),
    column("covered", f, "share of its pixels that have a value", low=0, high=1),
    column("coverage_median", f, "of covered pixels: images", nullable=True, low=0),
    column("coverage_max", i, "images", nullable=True, low=0),
    column("rejected", f, "share of samples that were rejected", low=0, high=1),
    column("sky", f, "median of its pixels, first plane", nullable=True),
    column("noise", f, "of its pixels, first plane", nullable=True, low=0),
    column("weight", f, "median weight of its pixels, 1 / variance", nullable=True, low=0),
    column("path", s, "science image, coverage, weight and rejected: FITS, in the data set", nullable=True),
    column("preview", s, "PNG, in the data set", nullable=True),
    column("bytes", n, "size of the FITS file", "byte", nullable=True, low=0),
    column("sha256", s, "of the FITS file", nullable=True),
    column("backend", s, "numba or cupy"),
    column("seconds", d, "processor time", "s", low=0),
])  # fmt: skip

VALIDATION = pa.schema([
    column("gate", s, "name of the check"),
    column("table", s, "table it reads"),
    column("tier", s, "tier it judged"),
    column("outcome", s, "pass, fail, error or not_applicable"),
    column("severity", s, "block or warn"),
    column("measured", d, "what was measured", nullable=True),
    column("threshold", d, "the limit it is held to", nullable=True),
    column("unit", s, "unit of both"),
    column("n", n, "rows that were judged", low=0),
    column("message", s, "what it means, in a sentence"),
    column("examples", s, "a few offending keys, as JSON"),
    column("run_id", s, "validation run"),
])  # fmt: skip

RUNS = pa.schema([
    column("run_id", s, "id of the run, in the path of the files it wrote"),
    column("command", s, "job"),
    column("tier", s, "tier"),
    column("key", s, "hash of command, code, inputs and the parts of the config that the job depends on: equal keys make equal data"),
    column("config_hash", s, "hash of the tier's config"),
    column("config", s, "the whole config, as JSON"),
    column("code_version", s, "version and content hash of the code"),
    column("inputs", s, "inputs with their fingerprints, as JSON"),
    column("counts", s, "rows by table and by status, as JSON"),
    column("files", pa.list_(pa.struct([("table", s), ("path", s), ("rows", n), ("bytes", n), ("sha256", s)])),
           "the files that are the tables, by their paths in the data set"),
    column("core_seconds", d, "CPU time of the workers' Python", "s", low=0),
    column("started", s, "UTC, ISO 8601"),
    column("ended", s, "UTC, ISO 8601"),
    column("outcome", s, "ok: its files are the table"),
])  # fmt: skip

PLANES = ("stamp", "arc", "invvar", "mask", "stamp_npz")  # the columns of STAMPS that are pixels

IDS = ("task_id", "pair_id", "galaxy_id", "seed")

TABLES = {
    "parent": PARENT, "manifest": MANIFEST, "stamps": STAMPS, "metrics": METRICS,
    "negatives": NEGATIVES, "selection": SELECTION, "cache": CACHE, "validation": VALIDATION, "runs": RUNS,
    "frames": FRAMES, "tiles": TILES, "overlaps": OVERLAPS, "normalisation": NORMALISATION, "coadds": COADDS,
}  # fmt: skip
del s, f, d, i, n, y, t
