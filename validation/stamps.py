"""Gates on the stamps and metrics as tables and pixels."""

import json

import numpy as np
import pyarrow as pa
from pyspark.sql import functions as F

from lib import config, injection, reader, runs, schemas, tiers
from lib.errors import OK
from lib.imaging import psf
from lib.schemas import BANDS, METRICS
from validation.result import Data, gate, judged, not_applicable

TABLES = ("parent", "manifest", "stamps", "metrics")
CRITICAL = ("task_id", "role", "split", "theta_e_arcsec", "src_reff_arcsec", "ra_deg", "dec_deg", "mag_r_observed")
OF_MADE = ("psf_fwhm_used_g_arcsec", "psf_fwhm_used_r_arcsec", "psf_fwhm_used_z_arcsec", "bad_pixel_frac")
OF_ARCS = ("magnification", "magnification_expected", "n_images", "arc_snr", "arc_snr_peak",
           *(f"flux_{kind}_{b}" for kind in ("unlensed", "lensed", "stamp") for b in BANDS))  # fmt: skip


@gate("schema", "stamps", "columns, types, nullability, order and version of every file", unit="files")
def schema(data: Data, facts) -> object:
    wrong, n = [], 0
    for table in TABLES:
        wanted = schemas.TABLES[table]
        for path in data.files(table):
            n += 1
            found = runs.open_file(data.dataset, path).schema_arrow
            if found.names != wanted.names:
                odd = sorted(set(found.names) ^ set(wanted.names))
                wrong.append(f"{table}: columns {odd or 'in another order'}")
            for field in wanted:
                if field.name not in found.names:
                    continue
                other = found.field(field.name)
                if other.type != field.type or other.nullable != field.nullable:
                    wrong.append(f"{table}.{field.name}: {other.type} nullable={other.nullable}")
            version = (found.metadata or {}).get(b"schema_version", b"none").decode()
            if version != schemas.VERSION:
                wrong.append(f"{table}: schema version {version}, not {schemas.VERSION}")
    message = f"all {n} files have the declared schema" if not wrong else "; ".join(wrong[:6])
    return judged(not wrong, message, measured=len(wrong), threshold=0, n=n, examples=tuple(wrong[:5]))


@gate("one_run", "stamps", "one code version, config and run in all files of a table", unit="runs")
def one_run(data: Data, facts) -> object:
    kinds: dict[str, set] = {t: set() for t in TABLES}
    n = 0
    for table in TABLES:
        for path in data.files(table):
            n += 1
            meta = runs.open_file(data.dataset, path).schema_arrow.metadata or {}
            made = tuple(meta.get(k, b"none").decode() for k in (b"code_version", b"config_hash"))
            kinds[table].add((runs.owner(path), *made))
    mixed = [f"{t}: {sorted(k)}" for t, k in kinds.items() if len(k) != 1]
    if kinds["stamps"] != kinds["metrics"]:
        mixed.append("stamps and metrics are of different runs")
    most = max(len(k) for k in kinds.values())
    return judged(not mixed, "; ".join(mixed) or "each table is of one run, stamps and metrics of the same",
                  measured=most, threshold=1, n=n, examples=tuple(mixed[:5]))  # fmt: skip


@gate("rows_match", "stamps", "manifest, stamps and metrics hold the same tasks", unit="rows")
def rows_match(data: Data, facts) -> object:
    ids = {t: data.frame(t, ["task_id"]) for t in ("manifest", "stamps", "metrics")}
    found, examples, n = {}, [], ids["manifest"].count()
    for a, b in (("manifest", "stamps"), ("stamps", "manifest"), ("manifest", "metrics"), ("metrics", "manifest")):
        lost = ids[a].join(ids[b], "task_id", how="left_anti")
        found[f"in {a} not in {b}"] = lost.count()
        examples += [r[0] for r in lost.limit(2).collect()]
    for table in ("stamps", "metrics"):
        found[f"doubled in {table}"] = ids[table].count() - ids[table].distinct().count()
    total = sum(found.values())
    message = ", ".join(f"{v} {k}" for k, v in found.items() if v) or "the three tables hold the same tasks, once each"
    return judged(total == 0, message, measured=total, threshold=0, n=n, examples=tuple(examples))


@gate("success_rate", "metrics", "share of rows that were made", at_least=True, aggregates=lambda tier: {
    "n": F.count("*"), "ok": F.count_if(F.col("status") == OK)})  # fmt: skip
def success(data: Data, facts) -> object:
    codes = {r["status"]: r["count"] for r in data.frame("metrics").groupBy("status").count().collect()}
    share = facts["ok"] / max(facts["n"], 1)
    told = ", ".join(f"{k} {v}" for k, v in sorted(codes.items()))
    return judged(share >= data.tier.gates.ok_fraction_min, told, measured=share,
                  threshold=data.tier.gates.ok_fraction_min, n=facts["n"],
                  examples=data.examples("metrics", "status != 'ok'"))  # fmt: skip


def _null_counts(tier):
    made, arc = F.col("status") == OK, (F.col("status") == OK) & (F.col("role") == "injected")
    control = (F.col("status") == OK) & (F.col("role") != "injected")
    out = {"n": F.count("*")}
    for names, where in ((CRITICAL, F.lit(True)), (OF_MADE, made), (OF_ARCS, arc)):
        for name in names:
            empty = F.col(name).isNull()
            if pa.types.is_floating(METRICS.field(name).type):
                empty = empty | F.isnan(name)
            out[name] = F.count_if(where & empty)
    for name in ("magnification", "arc_snr"):
        out[f"{name} of a control"] = F.count_if(control & F.col(name).isNotNull())
    return out


@gate("critical_nulls", "metrics", "nothing that must be known is null, and nothing is measured on a control's arc",
      aggregates=_null_counts, unit="values")  # fmt: skip
def nulls(data: Data, facts) -> object:
    n = facts["n"]
    found = {k: v for k, v in facts.items() if v and k != "n"}
    message = ", ".join(f"{k}: {v}" for k, v in found.items()) or "no null where none may be"
    return judged(not found, message, measured=sum(found.values()), threshold=0, n=n, examples=tuple(found))


def _ranged():
    for field in METRICS:
        low, high = schemas.fact(field, "low"), schemas.fact(field, "high")
        if low or high:
            yield field.name, float(low or "-inf"), float(high or "inf")


def _range_counts(tier):
    out = {"n": F.count("*")}
    for name, low, high in _ranged():
        value = F.col(name).cast("double")
        slack = 1e-6 * max(abs(x) for x in (low, high) if np.isfinite(x))
        out[name] = F.count_if(value.isNotNull() & ~value.between(low - slack, high + slack))
    return out


@gate("ranges", "metrics", "every column within its physical range", aggregates=_range_counts, unit="values")
def ranges(data: Data, facts) -> object:
    n = facts["n"]
    found = {k: v for k, v in facts.items() if v and k != "n"}
    message = ", ".join(f"{k}: {v} outside" for k, v in found.items()) or f"{len(facts) - 1} columns are within their ranges"
    return judged(not found, message, measured=sum(found.values()), threshold=0, n=n, examples=tuple(found))


def _psf_counts(tier):
    made = F.col("status") == OK
    out = {"n": F.count_if(made)}
    first = [s for s in tier.psf.prefer if s in ("coadd", "map")]
    for b in BANDS:
        used = F.col(f"psf_fwhm_used_{b}_arcsec")
        out[f"{b} without"] = F.count_if(made & (used.isNull() | ~(used > 0)))
        source = F.col(f"psf_source_{b}")
        out[f"{b} fallback"] = F.count_if(made & (source.isNull() | ~source.isin(*first)))
    return out


@gate("psf_provenance", "metrics", "a PSF in every band, from the map or the coadd", aggregates=_psf_counts)
def provenance(data: Data, facts) -> object:
    n = facts["n"]
    limits = data.tier.gates.psf_fallback_max
    shares = {b: facts[f"{b} fallback"] / max(n, 1) for b in BANDS}
    without = sum(facts[f"{b} without"] for b in BANDS)
    over = [b for b in BANDS if shares[b] > limits[b]]
    worst = max(BANDS, key=lambda b: shares[b] / max(limits[b], 1e-12))
    told = ", ".join(f"{b} {shares[b]:.4f} (at most {limits[b]:g})" for b in BANDS)
    return judged(not over and without == 0, f"{without} rows without a PSF; share of fallbacks {told}",
                  measured=shares[worst], threshold=limits[worst], n=n)  # fmt: skip


PIXELS = "task_id string, bad string, arc_g double, arc_r double, arc_z double"


def _pixels(batches):
    """For each stamp: what is wrong with its planes, and the arc's flux in each band."""
    kinds = [pa.string()] * 2 + [pa.float64()] * 3
    fields = [pa.field(k.split()[0], t) for k, t in zip(PIXELS.split(", "), kinds, strict=True)]
    for batch in batches:
        out: list[dict] = []
        for row in batch.to_pylist():
            told: dict = {"task_id": row["task_id"]} | dict.fromkeys(f"arc_{b}" for b in BANDS)
            try:
                cubes = reader.planes(row)
            except ValueError as error:
                out.append(told | {"bad": str(error)})
                continue
            bad = [f"{k} is not finite" for k in reader.PLANES if not np.isfinite(cubes[k]).all()]
            if (np.ptp(cubes["stamp"], axis=(1, 2)) == 0).any():
                bad.append("stamp plane is constant")
            if (cubes["invvar"] < 0).any() or (cubes["invvar"] == 0).all():
                bad.append("invvar is negative or zero everywhere")
            if row["role"] != "injected" and cubes["arc"].any():
                bad.append("a control has an arc")
            flux = cubes["arc"].sum(axis=(1, 2), dtype=float)
            out.append(told | {"bad": "; ".join(bad) or None} | {f"arc_{b}": float(v) for b, v in zip(BANDS, flux, strict=True)})
        yield pa.RecordBatch.from_pylist(out, schema=pa.schema(fields))


def _scan(data: Data):
    columns = ["task_id", "role", *reader.NEEDED, *schemas.PLANES]
    made = data.frame("stamps", list(dict.fromkeys([*columns, "status"]))).filter("status = 'ok'").select(*columns)
    return made.mapInArrow(_pixels, PIXELS)


@gate("planes", "stamps", "no NaN, constant or missing plane in a row that was made; none with an arc in a control", unit="rows")
def planes(data: Data, facts) -> object:
    scan = _scan(data).select("task_id", "bad").collect()
    wrong = [r for r in scan if r["bad"]]
    message = "; ".join(sorted({r["bad"] for r in wrong})[:5]) or "all planes are whole and finite"
    return judged(not wrong, message, measured=len(wrong), threshold=0, n=len(scan),
                  examples=tuple(r["task_id"] for r in wrong[:5]))  # fmt: skip


@gate("arc_flux", "stamps", "the arc's pixels add up to the flux in metrics, band by band")
def arc_flux(data: Data, facts) -> object:
    wanted = data.frame("metrics").filter("status = 'ok' AND role = 'injected'")
    joined = wanted.join(_scan(data), "task_id", how="inner")
    off = F.greatest(*[F.abs(F.try_divide(F.col(f"arc_{b}"), F.col(f"flux_stamp_{b}")) - 1.0) for b in BANDS])
    limit = data.tier.gates.pixel_tolerance
    found = joined.select("task_id", off.alias("off")).collect()
    worst = max((r["off"] if r["off"] is not None else np.inf for r in found), default=0.0)
    bad = tuple(r["task_id"] for r in found if r["off"] is None or not r["off"] <= limit)
    return judged(not bad, f"{len(bad)} arcs differ from flux_stamp by more than {limit:g}", measured=worst,
                  threshold=limit, n=len(found), examples=bad[:5])  # fmt: skip


@gate("rerender", "stamps", "sampled arcs, rendered again from the manifest, are the stored ones", unit="of the peak")
def rerender(data: Data, facts) -> object:
    if not data.sample:
        return judged(False, "no arc to judge")
    limits = data.tier.gates
    picked = [r for r in data.sample if "coadd" not in (r["psf_source_g"], r["psf_source_r"], r["psf_source_z"])][: limits.rerender_rows]
    if not picked:
        reason = "every sampled PSF is a coadd image, which is not stored in the tables"
        return not_applicable(reason) if limits.small_tier else judged(False, reason, n=len(data.sample))
    stored = _stamps(data, [r["task_id"] for r in picked])
    worst, bad = 0.0, []
    for row in picked:
        stamp = stored[row["task_id"]]
        psfs = [_psf(row, b, data.tier) for b in BANDS]
        side, fluxes = row["stamp_side_pix"], injection.source_fluxes(row)
        (made,), _ = injection.light([row], [stamp["x_pix"]], [stamp["y_pix"]], side, [psfs], [fluxes], row["pixel_scale_arcsec"])
        off = float(np.abs(reader.planes(stamp)["arc"] - made).max() / np.abs(made).max())
        worst = max(worst, off)
        if not off < limits.pixel_tolerance:
            bad.append(row["task_id"])
    return judged(not bad, f"{len(bad)} of {len(picked)} arcs differ from their row's parameters", measured=worst,
                  threshold=limits.pixel_tolerance, n=len(picked), examples=tuple(bad[:5]))  # fmt: skip


def _stamps(data: Data, ids: list[str]) -> dict[str, dict]:
    found = data.frame("stamps", schemas.STAMPS.names).filter(F.col("task_id").isin(ids) & (F.col("status") == OK)).collect()
    return {r["task_id"]: r.asDict() for r in found}


@gate("stamp_content", "stamps", "stamp and invvar are the survey's pixels plus the arc and its noise, exactly: against paired controls",
      unit="of the peak")  # fmt: skip
def content(data: Data, facts) -> object:
    """A paired control is the survey's own cut-out; the noise of an arc is seeded by its row. So the injection can be made again."""
    if not data.sample:
        return judged(False, "no arc to judge")
    if data.tier.output.pixels == "rounded":
        return not_applicable("the tier rounds its pixels, so a stamp cannot be made again to the bit")
    limits = data.tier.gates
    metrics = data.frame("metrics").filter("status = 'ok'")
    pairs = metrics.filter("role = 'paired_control'").select(F.col("task_id").alias("control"), F.col("pair_id").alias("arc_id"))
    arcs = metrics.filter("role = 'injected'").join(pairs, F.col("task_id") == F.col("arc_id"), how="inner")
    picked = [r.asDict() for r in arcs.orderBy("task_id").limit(4 * limits.rerender_rows).collect()]
    if not picked:
        return not_applicable("no injection has a paired control to compare it with")
    stored = _stamps(data, [r["task_id"] for r in picked] + [r["control"] for r in picked])
    worst, bad = 0.0, list[str]()
    for row in picked:
        try:
            mine, survey = reader.planes(stored[row["task_id"]]), reader.planes(stored[row["control"]])
        except (KeyError, ValueError):
            worst, bad = np.inf, [*bad, row["task_id"]]
            continue
        seen, weight = injection.expose(row, survey["stamp"], survey["invvar"], mine["arc"], data.tier)
        off = float(np.abs(mine["stamp"] - seen).max() / mine["arc"].max())
        off = max(off, float((np.abs(mine["invvar"] - weight) / np.maximum(weight, 1e-6)).max()))
        off = off if np.array_equal(mine["mask"], survey["mask"]) else np.inf
        worst = max(worst, off if np.isfinite(off) else np.inf)
        if not off < limits.pixel_tolerance:
            bad.append(row["task_id"])
    return judged(not bad, f"{len(bad)} of {len(picked)} stamps are not their control plus the arc and its noise", measured=worst,
                  threshold=limits.pixel_tolerance, n=len(picked), examples=tuple(bad[:5]))  # fmt: skip


@gate("lineage", "stamps", "each table was made from the tables that are here, and with this tier's settings", unit="breaks")
def lineage(data: Data, facts) -> object:
    latest = {r["command"]: r for r in runs.records(data.dataset)}
    wrong, n = [], 0
    for job, inputs in (("parent", ()), ("manifest", ("parent",)), ("inject", ("manifest",))):
        if job not in latest:
            wrong.append(f"no run of {job} is recorded")
            continue
        n += 1
        for table in inputs:
            read = json.loads(latest[job]["inputs"])[table]
            if read != runs.committed(data.dataset, table):
                here = ", ".join(runs.committed(data.dataset, table)) or "none"
                wrong.append(f"{job} read {table} of run {', '.join(read)}, the one here is {here}: run {job} again with --replace")
        made, now = (tiers.parts(c, job) for c in (json.loads(latest[job]["config"]), json.loads(json.dumps(config.plain(data.tier)))))
        wrong += [f"{job} was made with {d}" for d in config.differences(made, now)]
    return judged(not wrong, "; ".join(wrong[:5]) or "parent, manifest and stamps follow from each other", measured=len(wrong),
                  threshold=0, n=n, examples=tuple(wrong[:5]))  # fmt: skip


def _psf(row: dict, band: str, tier):
    size = row[f"psfsize_used_{band}_arcsec"]
    return psf.gaussian_from_psfsize(size) if tier.psf.profile == "gaussian" else psf.moffat_from_psfsize(size, tier.psf.beta[band])


GATES = (schema, one_run, lineage, rows_match, success, nulls, ranges, provenance, planes, arc_flux, rerender, content)
