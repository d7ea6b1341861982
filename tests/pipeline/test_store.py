"""Small facts about paths, runs, recipes, tables and random numbers; no Spark."""

import dataclasses
import json
import os

import numpy as np
import pyarrow as pa
import pytest

from lib import config, draws, place, rows, runs, schemas, store
from lib.errors import STATUSES, ConfigError, InputError, OutputError, RowError
from lib.schemas import column
from lib.store import Dataset

# draws ---------------------------------------------------------------------------------------------------------------


def test_uniform_numbers_are_multiples_of_two_to_the_minus_53_in_their_range():
    u = draws.uniform("here", 1, np.arange(100_000))
    assert u.min() >= 0.0 and u.max() < 1.0
    assert np.array_equal(u * 2.0**53, np.floor(u * 2.0**53))
    assert (np.floor(u * 2.0**53) % 2 == 1).mean() == pytest.approx(0.5, abs=0.01)  # the last bit is used
    assert u.mean() == pytest.approx(0.5, abs=4 * 12**-0.5 / 100_000**0.5)
    assert u.var() == pytest.approx(1 / 12, rel=0.02)


def test_numbers_follow_their_keys_in_whatever_order_they_come():
    galaxy, replicate = np.arange(1000), np.arange(1000) % 7
    order = np.random.default_rng(0).permutation(1000)
    u = draws.uniform("place", 3, galaxy, replicate)
    assert np.array_equal(draws.uniform("place", 3, galaxy[order], replicate[order]), u[order])
    assert [float(draws.uniform("place", 3, g, r)) for g, r in zip(galaxy[:5], replicate[:5], strict=True)] == u[:5].tolist()


@pytest.mark.parametrize("other", [("turn", 3), ("place", 4)])
def test_another_purpose_or_seed_is_another_stream(other):
    keys = np.arange(20_000)
    a, b = draws.uniform("place", 3, keys), draws.uniform(*other, keys)
    assert abs(np.corrcoef(a, b)[0, 1]) < 4 / 20_000**0.5
    assert not np.intersect1d(a, b).size


def test_neighbouring_keys_do_not_run_together():
    u = draws.uniform("place", 3, np.arange(20_000))
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4 / 20_000**0.5
    assert not np.array_equal(draws.hash64("a", 1, 2, 3), draws.hash64("a", 1, 3, 2))
    assert len(np.unique(draws.hash64("a", 1, np.arange(200_000)))) == 200_000


def test_the_numbers_stay_what_they_were():
    assert [f"{v:016x}" for v in draws.hash64("golden", 7, [0, 1, -1]).tolist()] == [
        "d3645d130e3b331b",
        "2329fccdace43c18",
        "43f04b10810018b4",
    ]


def test_normal_numbers_have_their_mean_and_width_and_are_finite():
    x = draws.normal("colour", 1, np.arange(100_000), mean=0.25, sigma=0.15)
    assert np.isfinite(x).all()
    assert (x.mean(), x.std()) == (pytest.approx(0.25, abs=0.002), pytest.approx(0.15, rel=0.01))


# rows ----------------------------------------------------------------------------------------------------------------

SCHEMA = pa.schema([column("key", pa.string(), "a key"), column("size", pa.float32(), "a size", nullable=True)])


@pytest.mark.parametrize("columns, says", [
    ({"size": [1.0]}, "missing column key"),
    ({"key": ["a"], "sise": [1.0]}, "unknown column sise"),
    ({"kye": ["a"]}, "missing column key; unknown column kye"),
    ({"key": ["a", None]}, "column key has 1 nulls"),
    ({"key": [1]}, "column key: "),
    ({"key": ["a"], "size": ["big"]}, "column size: "),
])  # fmt: skip
def test_a_table_that_is_not_its_schema_s_is_refused_and_the_columns_named(columns, says):
    with pytest.raises(ValueError, match=says):
        rows.table(columns, SCHEMA)


def test_a_nullable_column_that_is_left_out_is_null_and_the_order_is_the_schema_s():
    made = rows.table({"size": [1.5, None], "key": ["a", "b"]}, SCHEMA)
    assert made.schema.equals(SCHEMA, check_metadata=True)
    assert made.to_pylist() == [{"key": "a", "size": 1.5}, {"key": "b", "size": None}]
    assert rows.table({"key": ["a"]}, SCHEMA)["size"].null_count == 1


@pytest.mark.parametrize("data, says", [
    (pa.table({"key": ["a"]}), r"columns \['key'\] are not \['key', 'size'\]"),
    (pa.table({"key": ["a"], "size": pa.array([1.0], pa.float64())}), "column size is double, not float"),
    (pa.table({"key": pa.array([None], pa.string()), "size": pa.array([1.0], pa.float32())}), "column key has 1 nulls"),
])  # fmt: skip
def test_a_check_names_what_differs(data, says):
    with pytest.raises(ValueError, match=says):
        rows.check(data, SCHEMA)


# schemas and errors --------------------------------------------------------------------------------------------------


def test_every_column_says_what_it_means_and_no_table_has_one_twice():
    for name, schema in schemas.TABLES.items():
        assert len(set(schema.names)) == len(schema.names), name
        assert [f.name for f in schema if not schemas.fact(f, "meaning")] == []
        lows = [(f.name, float(schemas.fact(f, "low") or "-inf"), float(schemas.fact(f, "high") or "inf")) for f in schema]
        assert [name for name, low, high in lows if low >= high] == []


def test_a_row_error_has_a_known_status_and_is_never_ok():
    assert RowError("edge", "too far out").code == "edge"
    for code in ("ok", "egde"):
        with pytest.raises(ValueError, match="unknown status"):
            RowError(code, "")
    assert all(STATUSES.values())


# config --------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Inner:
    width: float
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    sizes: dict[str, float]
    pair: tuple[float, float] = (0.0, 1.0)
    count: int = 1

    def __post_init__(self):
        if self.count < 0:
            raise ValueError(f"count must not be negative, got {self.count}")


def test_a_recipe_is_built_with_its_defaults_and_whole_numbers_are_numbers():
    made = config.build(Outer, {"inner": {"width": 2, "names": ["a"]}, "sizes": {"g": 1}, "pair": [1, 2]})
    assert made == Outer(Inner(2.0, ("a",)), {"g": 1.0}, (1.0, 2.0), 1)
    assert type(made.inner.width) is float
    assert config.build(Outer, config.plain(made)) == made


@pytest.mark.parametrize("values, says", [
    ({"inner": {"widht": 2}, "sizes": {}}, ["unknown key inner.widht (did you mean width?); known: names, width", "missing key inner.width"]),
    ({"inner": 3, "sizes": []}, ["inner. must be a table of keys, got 3", "sizes must be"]),
    ({"inner": {"width": True}, "sizes": {"g": "big"}}, ["inner.width must be float, got True", "sizes.g must be float, got 'big'"]),
    ({"inner": {"width": 1.0}, "sizes": {}, "pair": [1]}, ["pair must have 2 values, got [1]"]),
    ({"inner": {"width": 1.0}, "sizes": {}, "count": -1}, ["count must not be negative, got -1"]),
    ({"inner": {"width": 1.0}, "sizes": {}, "count": 1.5}, ["count must be int, got 1.5"]),
])  # fmt: skip
def test_all_that_is_wrong_in_a_recipe_is_named(values, says):
    with pytest.raises(ConfigError) as error:
        config.build(Outer, values)
    assert [text for text in says if text not in str(error.value)] == []


def test_digests_follow_the_content_and_differences_name_the_keys():
    a, b = {"x": 1, "y": {"z": 2.0, "w": "same"}}, {"y": {"w": "same", "z": 2.5}, "x": 1}
    assert config.digest(a) == config.digest(dict(reversed(a.items()))) != config.digest(b)
    assert config.differences(a, b) == ["y.z: 2.0 -> 2.5"]
    assert config.differences({}, {"new": 1}) == ["new: None -> 1"]
    one, two = {"name": "a", "r": 1}, {"name": "b", "r": 2}
    assert config.differences({"list": [one, two]}, {"list": [one | {"r": 3}]}) == ["list.a.r: 1 -> 3", "[list.b] is gone"]
    assert config.differences({"list": [], "table": None}, {"list": [one], "table": {"x": 1}}) == ["[list] is new", "[table] is new"]
    assert config.differences({"values": []}, {"values": [1]}) == ["values: [] -> [1]"]


def test_what_a_run_read_that_differs_is_told_in_words(tmp_path):
    then = {"parent": ["20260101T000000-aaaaaa"], "coadds": "1f", "scores": {"/s/a.csv": [1, 2], "/s/b.csv": [1, 2]}, "known lenses": [],
            "--allow-missing": 0, "controls": "paired"}  # fmt: skip
    now = {"parent": ["20260102T000000-bbbbbb"], "coadds": "2e", "scores": {"/s/b.csv": [1, 3], "/s/c.csv": [1, 2]}, "known lenses": ["/l.csv"],
           "--allow-missing": 2, "controls": None}  # fmt: skip
    with runs.start(dataset(tmp_path), "job", [], {}, then) as made:
        made.commit({"rows": {}}, 0.0)
    with pytest.raises(ConfigError) as error, runs.start(dataset(tmp_path), "job", [], {}, now):
        pass
    assert str(error.value) == (
        f"the table was made by run {made.run_id} with other settings (--allow-missing: 0 -> 2; "
        "the survey's coadd files of these bricks are others, or have changed; controls: paired -> not given; known lenses: none -> /l.csv; "
        "table parent: of run 20260101T000000-aaaaaa then, of 20260102T000000-bbbbbb now; "
        "file /s/a.csv is not read any more; file /s/b.csv has changed; file /s/c.csv is new): "
        "give --replace to make it anew, or another --dataset to keep this one"
    )


# store and runs ------------------------------------------------------------------------------------------------------


def dataset(tmp_path, tier="tiny") -> Dataset:
    return Dataset.at(str(tmp_path / "root"), "set", tier)


def gates(count: int) -> pa.Table:
    """Rows of a table of gates."""
    values = {pa.string(): "x", pa.float64(): 1.0, pa.int64(): 1}
    return rows.table({f.name: [values[f.type]] * count for f in schemas.VALIDATION}, schemas.VALIDATION)


def run(data: Dataset, settings: dict, count: int = 1, **how):
    """A run of a made-up job that writes ``count`` galaxies' worth of a table of runs."""
    with runs.start(data, "job", ["validation"], settings, {"in": 1}, **how) as made:
        if made.reused is None:
            made.write("validation", gates(count))
            made.commit({})
        return made.run_id, made.reused is not None


def test_a_uri_is_a_path_and_a_remote_one_is_refused_where_a_folder_must_be(tmp_path):
    assert store.local(f"file://{tmp_path}") == store.local(f"file:{tmp_path}") == store.local(str(tmp_path)) == tmp_path
    for uri in ("s3://bucket/x", "s3a://bucket/x"):
        with pytest.raises(ConfigError, match=uri):
            store.local(uri)
    with pytest.raises(ConfigError, match="https:// is none of a folder, a file: or an s3: address"):
        store.local("https://host/x")


def test_too_little_space_says_how_much_there_is_and_how_much_is_needed(tmp_path):
    store.require_space(place.at(tmp_path / "new"), 1)
    assert list((tmp_path / "new").iterdir()) == []
    with pytest.raises(OutputError, match=r"GB free, this run may need 1000000000\.0 GB"):
        store.require_space(place.at(tmp_path), 10**18)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "sub" / "a.json"
    store.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        store.write_json(path, {("not", "a key"): 1})
    assert json.loads(path.read_text()) == {"a": 1}
    assert os.listdir(path.parent) == ["a.json"]


def test_an_equal_run_is_reused_another_is_refused_and_replaces_on_demand(tmp_path):
    data = dataset(tmp_path)
    first, _ = run(data, {"seed": 1})
    assert run(data, {"seed": 1}) == (first, True)
    with pytest.raises(ConfigError, match=r"seed: 1 -> 2"):
        run(data, {"seed": 2})
    assert runs.committed(data, "validation") == [first]
    second, reused = run(data, {"seed": 2}, replace=True)
    assert (runs.committed(data, "validation"), reused) == ([second], False)
    third, reused = run(data, {"seed": 2}, fresh=True)
    assert (runs.committed(data, "validation"), reused) == ([third], False)
    assert third != second


def test_two_tiers_of_a_data_set_do_not_meet(tmp_path):
    a, b = dataset(tmp_path, "a"), dataset(tmp_path, "b")
    of_a, _ = run(a, {"seed": 1})
    of_b, _ = run(b, {"seed": 2})
    assert (runs.committed(a, "validation"), runs.committed(b, "validation")) == ([of_a], [of_b])
    with a.writer("one"), b.writer("two"):
        assert sorted(f.name for f in a.place.files("_lease")) == ["_lease/tier=a/00000002.json", "_lease/tier=b/00000002.json"]


def test_a_run_that_fails_is_no_run_and_leaves_nothing_staged(tmp_path):
    data = dataset(tmp_path)
    staged = []

    def fail():
        with runs.start(data, "job", ["parent"], {}, {}) as made:
            made.write("parent", schemas.PARENT.empty_table())
            staged.extend(f.name for f in data.place.files() if "/run_id=" in f.name)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert runs.committed(data, "validation") == [] and runs.records(data) == []
    assert len(staged) == 1 and staged[0] not in [f.name for f in data.place.files()]
    with data.writer("the next"):
        pass


def test_a_record_tells_the_config_the_inputs_and_the_code(tmp_path):
    data = dataset(tmp_path)
    run_id, _ = run(data, {"seed": 1}, count=3)
    (record,) = runs.records(data)
    assert (record["run_id"], record["command"], record["outcome"]) == (run_id, "job", "ok")
    assert (json.loads(record["config"]), json.loads(record["inputs"])) == ({"seed": 1}, {"in": 1})
    assert json.loads(record["counts"]) == {"rows": {"validation": 3}}
    assert record["code_version"] == runs.code_version()
    assert record["started"] <= record["ended"]


def test_a_table_that_nobody_made_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no stamps table of tier tiny in .*set: run the job inject first"):
        runs.files(dataset(tmp_path), "stamps")
