"""Gates on stamps and metrics as tables: files, rows, statuses, values."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa

from lib import config, runs, schemas, tiers
from lib.schemas import BANDS, METRICS
from validation.data import Data
from validation.result import gate, judged, not_applicable, too_few
from validation.tally import Few, Least, Most, Rows

TABLES = ("parent", "manifest", "stamps", "metrics")
CRITICAL = ("task_id", "role", "split", "theta_e_arcsec", "src_reff_arcsec", "ra_deg", "dec_deg", "mag_r_observed")
OF_MADE = ("psf_fwhm_used_g_arcsec", "psf_fwhm_used_r_arcsec", "psf_fwhm_used_z_arcsec", "bad_pixel_frac")
OF_ARCS = ("magnification", "magnification_expected", "n_images", "arc_snr", "arc_snr_peak",
           *(f"flux_{kind}_{b}" for kind in ("unlensed", "lensed", "stamp") for b in BANDS))  # fmt: skip
NOT_OF_CONTROLS = ("magnification", "arc_snr", "arc_snr_peak")
BUCKETS = 4096  # of ids: two tables whose sums agree in each hold the same ids
WIDTHS = np.linspace(0.0, 5.0, 501)  # arcsec: PSF sizes, of which deciles are made
SURE = 3.5  # sigma: a difference in one of some thirty bins that is no chance


@gate("schema", "stamps", "columns, types, nullability, order and version of every file", unit="files")
def schema(data: Data, facts) -> object:
    wrong, n = [], 0
    for table in TABLES:
        wanted = schemas.TABLES[table]
        for path in data.files(table):
            n += 1
            with runs.open_file(data.dataset, path) as file:
                wrong += [f"{table}{told}" for told in drift(file.schema_arrow, wanted)]
    message = f"all {n} files have the declared schema" if not wrong else "; ".join(dict.fromkeys(wrong[:600]))[:2000]
    return judged(not wrong, message, measured=len(wrong), threshold=0, n=n, examples=tuple(dict.fromkeys(wrong))[:5])


def drift(found: pa.Schema, wanted: pa.Schema) -> list[str]:
    """How a file's schema differs from the declared one; a column that has another name is told as that."""
    gone, new = ([f for f in a if f.name not in b.names] for a, b in ((wanted, found), (found, wanted)))
    wrong = []
    for field in list(gone):
        place = wanted.names.index(field.name)
        other = found.field(place) if place < len(found) else None
        if other is not None and other in new and other.type == field.type:
            wrong.append(f": column {field.name} is called {other.name}")
            gone.remove(field)
            new.remove(other)
    if gone or new:
        wrong.append(f": columns {sorted(f.name for f in (*gone, *new))} ({len(gone)} missing, {len(new)} unknown)")
    elif not wrong and found.names != wanted.names:
        wrong.append(": columns in another order")
    for field in wanted:
        other = found.field(field.name) if field.name in found.names else field
        if other.type != field.type or other.nullable != field.nullable:
            wrong.append(f".{field.name}: {other.type} nullable={other.nullable}, not {field.type} nullable={field.nullable}")
    version = (found.metadata or {}).get(b"schema_version", b"none").decode()
    return wrong + ([f": schema version {version}, not {schemas.VERSION}"] if version != schemas.VERSION else [])


@gate("one_run", "stamps", "one code version, config and run in all files of a table", unit="runs")
def one_run(data: Data, facts) -> object:
    kinds: dict[str, Counter] = {t: Counter() for t in TABLES}
    for table in TABLES:
        for path in data.files(table):
            with runs.open_file(data.dataset, path) as file:
                meta = file.schema_arrow.metadata or {}
            code, settings = (meta.get(k, b"none").decode() for k in (b"code_version", b"config_hash"))
            kinds[table][f"run {runs.owner(path)}, code {code}, config {settings}"] += 1
    mixed = [f"{t}: " + "; ".join(f"{n} files of {k}" for k, n in sorted(of.items())) for t, of in kinds.items() if len(of) != 1]
    if kinds["stamps"].keys() != kinds["metrics"].keys():
        mixed.append("stamps and metrics are of different runs")
    most = max(len(of) for of in kinds.values())
    return judged(not mixed, "; ".join(mixed) or "each table is of one run, stamps and metrics of the same",
                  measured=most, threshold=1, n=sum(of.total() for of in kinds.values()), examples=tuple(mixed[:5]))  # fmt: skip


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


def _ids(rows, asked):
    """How many ids there are in each bucket, and the sum of their numbers, modulo 2**64."""
    ids = rows.ids
    bucket = (ids >> np.uint64(52)).astype(np.int64)
    order = np.argsort(bucket, kind="stable")
    count = np.bincount(bucket, minlength=BUCKETS)
    sums = np.zeros(BUCKETS, np.uint64)
    if len(ids):
        sums[np.flatnonzero(count)] = np.add.reduceat(ids[order], np.cumsum(count)[count > 0] - count[count > 0])
    return {"count": count, "sum": sums}


@gate("rows_match", "stamps", "manifest, stamps and metrics hold the same tasks",
      notes=dict.fromkeys(("manifest", "stamps", "metrics"), _ids), unit="rows")  # fmt: skip
def rows_match(data: Data, facts) -> object:
    n = int(facts["manifest"]["count"].sum())
    differ = np.zeros(BUCKETS, bool)
    for table in ("stamps", "metrics"):
        for what in ("count", "sum"):
            differ |= facts[table][what] != facts["manifest"][what]
    if not differ.any():
        return judged(True, "the three tables hold the same tasks, once each", measured=0, threshold=0, n=n)

    def of(piece):  # only ids of buckets that differ are looked at one by one
        rows = Rows(piece)
        return rows.texts("task_id")[differ[(rows.ids >> np.uint64(52)).astype(np.int64)]].tolist()

    ids = {t: Counter(i for some in data.over(t).map(of, ["task_id"]) for i in some) for t in facts}
    found, examples = {}, list[str]()
    for a, b in (("manifest", "stamps"), ("stamps", "manifest"), ("manifest", "metrics"), ("metrics", "manifest")):
        lost = sorted(ids[a].keys() - ids[b].keys())
        found[f"in {a} not in {b}"] = len(lost)
        examples += lost[:2]
    for table in ("stamps", "metrics"):
        found[f"doubled in {table}"] = ids[table].total() - len(ids[table])
    total = sum(found.values())
    message = ", ".join(f"{v} {k}" for k, v in found.items() if v) or "tasks are doubled in the manifest"
    return judged(False, message, measured=total, threshold=0, n=n, examples=tuple(examples))


def _statuses(rows, asked):
    bad = ~rows.made
    return {"by": Counter({k[0]: n for k, n in rows.counts("status").items()}), "examples": rows.few(bad)}


@gate("success_rate", "metrics", "share of rows that were made", notes=_statuses, at_least=True)
def success(data: Data, facts) -> object:
    n = facts["by"].total()
    share, limit = facts["by"]["ok"] / max(n, 1), data.tier.gates.ok_fraction_min
    told = ", ".join(f"{k} {v}" for k, v in sorted(facts["by"].items()))
    return judged(share >= limit, told, measured=share, threshold=limit, n=n, examples=facts["examples"].values)


def _failures(rows, asked):
    """(injections and controls, made and not, bins of PSF size) in each band, and statuses by class."""
    out: dict = {"statuses": Counter(rows.counts("role", "status"))}
    sides = (rows.injected, ~rows.injected & ~rows.isin("role", ["hard_negative"]))
    for b in BANDS:
        size = rows[f"psfsize_{b}_arcsec"]
        at = np.where(np.isnan(size), 0, np.clip(np.digitize(size, WIDTHS), 1, len(WIDTHS) - 1))
        out[b] = np.array([[np.bincount(at[side & made], minlength=len(WIDTHS)) for made in (rows.made, ~rows.made)] for side in sides])
    return out


@gate("failure_balance", "metrics", "injections and controls fail equally often, overall and in every tenth of the PSF sizes of each band",
      notes=_failures, unit="share")  # fmt: skip
def failures(data: Data, facts) -> object:
    """A class that fails more is missing where it fails: a network learns seeing instead of arcs.  Differences are held to their errors."""
    counts, limit = facts["r"].sum(axis=-1), data.tier.gates.failure_difference_max
    n = int(counts.sum())
    if not n:
        return judged(False, "there are no rows")
    if not counts.sum(axis=1).all():
        asked = data.tier.controls.fraction
        return judged(False, "a class has no rows", n=n) if asked else not_applicable(f"tier {data.tier.name} asks for no controls", n=n)
    found = [("all", *_difference(counts))]
    for b in BANDS:
        total = np.cumsum(facts[b].sum(axis=(0, 1)))
        tenth = np.searchsorted(total / total[-1], np.arange(1, 10) / 10.0)
        for k, part in enumerate(np.split(facts[b], np.minimum(tenth + 1, len(WIDTHS)), axis=-1)):
            if part.sum(axis=(1, 2)).all():
                found.append((f"tenth {k + 1} of the PSF sizes in {b}", *_difference(part.sum(axis=-1))))
    where, worst, error = max(found, key=lambda f: (abs(f[1]) > limit and abs(f[1]) > SURE * f[2], abs(f[1])))
    codes = ", ".join(f"{role} {status} {k}" for (role, status), k in sorted(facts["statuses"].items()) if status != "ok")
    told = (f"injections fail {100 * worst:+.3f} +- {100 * error:.3f} points more often than controls in {where}, {100 * limit:g} may be"
            f"{': ' + codes if codes else '; none failed'}")  # fmt: skip
    passed = abs(worst) <= limit or abs(worst) <= SURE * error
    if passed and found[0][2] > limit:
        least = min(counts.sum(axis=1))
        return too_few(data.tier, f"{least} rows of a class cannot tell shares of failures apart by {100 * limit:g} points ({told})", n=n)
    return judged(passed, told, measured=abs(worst), threshold=limit, n=n)


def _difference(counts: np.ndarray) -> tuple[float, float]:
    """Share that failed of injections less that of controls, and its standard error; (class, made or not) counts.

    The error is that of shares with half a failure more (Jeffreys): of no failures among few rows it is not zero.
    """
    n, bad = counts.sum(axis=1), counts[:, 1]
    p = (bad + 0.5) / (n + 1.0)
    return float(bad[0] / n[0] - bad[1] / n[1]), float(np.sqrt((p * (1.0 - p) / n).sum()))


def _nulls(rows, asked):
    control = rows.made & ~rows.injected
    found: Counter = Counter()
    for names, where in ((CRITICAL, np.ones(len(rows), bool)), (OF_MADE, rows.made), (OF_ARCS, rows.arc)):
        for name in names:
            empty = np.isnan(rows[name]) if pa.types.is_floating(METRICS.field(name).type) else rows.null(name)
            found[name] = int((where & empty).sum())
    for name in NOT_OF_CONTROLS:
        found[f"{name} of a control"] = int((control & ~np.isnan(rows[name])).sum())
        found[f"{name} of an arc is 0"] = int((rows.arc & (rows[name] == 0)).sum())  # not measured is null, not 0
    return {"n": len(rows), "found": found}


@gate("critical_nulls", "metrics", "nothing that must be known is null or stands at 0, and nothing is measured on a control's arc",
      notes=_nulls, unit="values")  # fmt: skip
def nulls(data: Data, facts) -> object:
    found = {k: v for k, v in facts["found"].items() if v}
    message = ", ".join(f"{k}: {v}" for k, v in found.items()) or "no null where none may be"
    return judged(not found, message, measured=sum(found.values()), threshold=0, n=facts["n"], examples=tuple(found))


def _ranged():
    for field in METRICS:
        low, high = schemas.fact(field, "low"), schemas.fact(field, "high")
        if low or high:
            yield field.name, float(low or "-inf"), float(high or "inf")


def _outside(rows, asked):
    found: Counter = Counter()
    examples = Few()
    for name, low, high in _ranged():
        slack = 1e-6 * max(abs(x) for x in (low, high) if np.isfinite(x))
        value = rows[name]
        with np.errstate(invalid="ignore"):
            inside = (value >= low - slack) & (value <= high + slack)
        if not inside.all():
            bad = ~inside & ~rows.null(name)
            found[name] += int(bad.sum())
            examples += rows.few(bad)
    return {"n": len(rows), "found": found, "columns": Most(len(list(_ranged()))), "examples": examples}


@gate("ranges", "metrics", "every column within its physical range", notes=_outside, unit="values")
def ranges(data: Data, facts) -> object:
    found = {k: v for k, v in facts["found"].items() if v}
    message = ", ".join(f"{k}: {v} outside" for k, v in found.items()) or f"{facts['columns'].value} columns are within their ranges"
    return judged(not found, message, measured=sum(found.values()), threshold=0, n=facts["n"], examples=facts["examples"].values)


def _sources(rows, asked):
    first = [s for s in asked.tier.psf.prefer if s in ("coadd", "map")]
    out: dict = {"n": int(rows.made.sum())}
    for b in BANDS:
        with np.errstate(invalid="ignore"):
            out[f"{b} without"] = int((rows.made & ~(rows[f"psf_fwhm_used_{b}_arcsec"] > 0)).sum())
        out[f"{b} fallback"] = int((rows.made & ~rows.isin(f"psf_source_{b}", first)).sum())
    return out


@gate("psf_provenance", "metrics", "a PSF in every band, from the map or the coadd", notes=_sources)
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


MASKED = ("bad_pixel_frac", "wise_brightmask_frac", "arc_bad_pixel_frac")


def _masked(rows, asked):
    out: dict = {"n": int(rows.made.sum())}
    for name in MASKED:
        value = rows[name][rows.arc if name.startswith("arc") else rows.made]
        known = value[~np.isnan(value)]
        slack = 0.01 if name.startswith("arc") else 0.0  # a PSF's negative wings lie on pixels, too
        out |= {
            f"{name} null": len(value) - len(known), f"{name} outside": int(((known < -slack) | (known > 1 + slack)).sum()),
            f"{name} least": Least(known.min(initial=np.inf)), f"{name} most": Most(known.max(initial=-np.inf)),
        }  # fmt: skip
    return out


@gate("masks", "metrics", "masked shares are known, from 0 to 1, and not the same in all stamps", notes=_masked, unit="values")
def masks(data: Data, facts) -> object:
    n = facts["n"]
    wrong = [f"{name} is outside of 0 to 1 in {k} rows" for name in MASKED if (k := facts[f"{name} outside"])]
    wrong += [f"{name} is null in {k} rows" for name in ("bad_pixel_frac", "arc_bad_pixel_frac") if (k := facts[f"{name} null"])]
    if n and facts["wise_brightmask_frac null"] == n:
        wrong.append("wise_brightmask_frac is null in every row: no stamp's mask bits were read")
    same = [name for name in MASKED[:1] if n and facts[f"{name} least"].value == facts[f"{name} most"].value]
    told = ", ".join(f"{name} {facts[f'{name} least'].value:.4g} to {facts[f'{name} most'].value:.4g}" for name in MASKED)
    if same and not wrong:
        return too_few(
            data.tier, f"{same[0]} is {facts[f'{same[0]} least'].value:g} in all {n} stamps: nothing shows that masks are read", n=n
        )
    return judged(not wrong, "; ".join(wrong) or told, measured=len(wrong), threshold=0, n=n, examples=tuple(wrong))


GATES = (schema, one_run, lineage, rows_match, success, failures, nulls, ranges, provenance, masks)
