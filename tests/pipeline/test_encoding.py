"""Pixels to columns and back, and files of which only what is asked for is read."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lib import config, encoding, parquet, place, reader, rows, runs, tiers
from lib.errors import ConfigError
from lib.injection import inject
from lib.schemas import ENCODINGS, PLANES, STAMPS
from tests import tables

ODD = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, -1e-40, 3.4e38, 1.0, 1e-3], np.float32)
SIDE = 8


def tier_of(pixels: str) -> tiers.Tier:
    return dataclasses.replace(tiers.load("demo"), output=tiers.Output(pixels))


def pixels(n: int, side: int = SIDE):
    """(stamp, arc, invvar, mask) of noise of 1/50, with an arc in every other row and a corner without weight."""
    rng = np.random.default_rng(5)
    shape = (n, 3, side, side)
    invvar = rng.uniform(2000, 3000, shape).astype(np.float32)
    invvar[..., :2, :2] = 0
    arc = rng.uniform(0, 1, shape).astype(np.float32) * (np.arange(n) % 2)[:, None, None, None].astype(np.float32)
    stamp = rng.normal(0, 0.02, shape).astype(np.float32) + arc
    return stamp, arc, invvar, rng.integers(0, 256, (n, side, side)).astype(np.uint8)


def table(kind: str, n: int = 6, made=None, **change) -> pa.Table:
    """STAMPS rows."""
    plain = {"task_id": [f"t{k}" for k in range(n)], "stamp_side_pix": [SIDE] * n}
    plain |= dict.fromkeys(("split", "brickname", "role", "status"), ["x"] * n) | {"bands": ["grz"] * n}
    return rows.table(plain | encoding.pixel_columns(*pixels(n), tier_of(kind), made) | change, STAMPS)


def same_bits(a, b) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# a plane -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODINGS)
def test_rows_come_in_the_order_that_is_asked_for(kind):
    rows_of = table(kind, made=np.array([True, True, False, True, True, True]))
    cut = pa.concat_tables([rows_of.slice(0, 2), rows_of.slice(2)])  # in chunks
    order = np.array([4, 2, 0, 5, 1, 3])
    plain, ordered = reader.batch(cut), reader.batch(cut, order)
    assert all(same_bits(ordered[name], plain[name][order]) for name in plain)


@settings(deadline=None)  # the first call may compile
@given(words=arrays.arrays(np.uint32, st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(1, 7))), data=st.data())
def test_any_bits_come_back(words, data):
    planes = words.view(np.float32)
    made = np.array(data.draw(st.lists(st.booleans(), min_size=len(planes), max_size=len(planes))), bool)
    column = encoding.encode(planes, made)
    column.validate(full=True)
    assert column.is_valid().to_pylist() == list(made)
    found = encoding.decode(column, planes.shape[1:])
    assert same_bits(found[made], planes[made])
    assert np.isnan(found[~made]).all()


@pytest.mark.parametrize(
    "planes", [np.stack([ODD, ODD[::-1]]), np.zeros((3, 10), np.float32), np.arange(20, dtype=np.uint8).reshape(2, 10)]
)
def test_odd_numbers_zeros_and_bytes_come_back(planes):
    assert same_bits(encoding.decode(encoding.encode(planes), planes.shape[1:], planes.dtype), planes)


def test_planes_that_do_not_lie_together_are_the_same_column():
    wide = np.arange(48, dtype=np.float32).reshape(2, 4, 6)
    assert encoding.encode(wide[:, ::2, 1:4]).equals(encoding.encode(wide[:, ::2, 1:4].copy()))


def test_columns_in_chunks_slices_and_large_binaries_are_read():
    planes = np.arange(60, dtype=np.float32).reshape(6, 10)
    column = encoding.encode(planes, np.array([1, 1, 0, 1, 1, 1], bool))
    chunked = pa.chunked_array([column.slice(1, 3), column.slice(4), column.slice(0, 0)]).cast(pa.large_binary())
    found = encoding.decode(chunked, (10,))
    assert np.array_equal(found[[0, 2, 3, 4]], planes[[1, 3, 4, 5]])
    assert np.isnan(found[1]).all()


def test_numpy_alone_reads_a_row_as_the_docstring_says():
    stamp = pixels(1)[0]
    blob = encoding.encode(stamp)[0].as_py()
    assert same_bits(np.frombuffer(blob, np.uint8).reshape(4, -1).T.copy().view("<f4").reshape(3, SIDE, SIDE), stamp[0])


def test_a_plane_of_another_size_is_an_error_with_its_row():
    column = pa.chunked_array([encoding.encode(np.zeros((2, 10), np.float32)), encoding.encode(np.zeros((1, 9), np.float32))])
    with pytest.raises(ValueError, match=r"^36 bytes, not 40, in row 2$"):
        encoding.decode(column, (10,))


def test_other_numbers_than_float32_and_bytes_are_refused():
    with pytest.raises(ValueError, match="must be float32 or uint8, got float64"):
        encoding.encode(np.zeros((1, 4)))


# rows ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ENCODINGS)
def test_a_batch_is_its_rows_one_by_one(kind):
    made = np.array([1, 0, 1, 1, 0, 1], bool)
    data = table(kind, made=made)
    assert set(data["encoding"].to_pylist()) == {kind}
    found = reader.batch(data)
    assert list(found.pop("made")) == list(made)
    assert set(found) == {*reader.PLANES, "mask"}
    for k, row in enumerate(data.to_pylist()):
        if made[k]:
            one = reader.planes(row)
            assert all(same_bits(found[name][k], one[name]) for name in found)
        else:
            assert all(np.isnan(found[name][k]).all() for name in reader.PLANES) and (found["mask"][k] == 255).all()
            with pytest.raises(ValueError, match="no pixels in stamp"):
                reader.planes(row)


@pytest.mark.parametrize("kind", ["split", "npz"])
def test_the_lossless_encodings_keep_every_bit(kind):
    found = reader.batch(table(kind).combine_chunks().to_batches()[0])
    for name, plane in zip((*reader.PLANES, "mask"), pixels(6), strict=True):
        assert same_bits(found[name], plane)


def test_rounded_pixels_are_as_near_as_they_say():
    found = reader.batch(table("rounded", n=64))
    stamp, arc, invvar, mask = pixels(64)
    sigma = 2500**-0.5
    off = (found["stamp"] - stamp) / sigma
    assert np.abs(off).max() <= 1 / 16 and 0.018 < off.std() <= 0.037 and abs(off.mean()) < 0.001
    assert (np.abs(found["arc"] - arc) <= 2.0**-14 * arc).all() and same_bits(found["arc"][::2], arc[::2])
    assert (np.abs(found["invvar"] - invvar) <= 2.0**-9 * invvar).all() and not found["invvar"][..., :2, :2].any()
    assert same_bits(found["mask"], mask)


def test_rounding_leaves_what_is_no_number_and_stamps_without_weight():
    stamp, arc, invvar, _ = pixels(2)
    stamp[0, 0, 0, : len(ODD)] = ODD[:SIDE]
    invvar[1] = 0
    arc[1, 0, 0, :3] = np.float32([np.nan, np.inf, -np.inf])
    arc[1, 0, 0, 3:5] = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)  # NaN that rounding up would make numbers
    seen, light, weight = encoding.rounded(stamp, arc, invvar)
    assert same_bits(np.isfinite(seen), np.isfinite(stamp)) and same_bits(seen[1], stamp[1])
    assert same_bits(light[1, 0, 0, 1:3], arc[1, 0, 0, 1:3]) and np.isnan(light[1, 0, 0, [0, 3, 4]]).all()
    assert not weight[1].any()


def test_an_archive_is_numpy_s():
    row = table("npz").to_pylist()[1]
    assert [row[name] for name in ("stamp", "arc", "invvar", "mask")] == [None] * 4
    with np.load(io.BytesIO(row["stamp_npz"])) as archive:
        assert sorted(archive) == ["arc", "invvar", "mask", "stamp"] and same_bits(archive["stamp"], pixels(6)[0][1])


@pytest.mark.parametrize("change, message", [
    ({"encoding": ["split"] * 5 + ["gzip"]}, r"one encoding, got \['gzip', 'split'\]"),
    ({"encoding": ["split"] * 5 + ["npz"]}, r"one encoding, got \['npz', 'split'\]"),
    ({"encoding": ["gzip"] * 6}, r"^unknown encoding 'gzip'; known: split, rounded, npz$"),
    ({"stamp_side_pix": [SIDE] * 5 + [4]}, r"one stamp_side_pix, got \[4, 8\]"),
    ({"bands": ["grz"] * 5 + ["gr"]}, r"one bands, got \['gr', 'grz'\]"),
    ({"stamp_side_pix": [4] * 6}, r"^stamp has 768 bytes, not 192, in row 0$"),
])  # fmt: skip
def test_rows_that_cannot_be_read_together_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        reader.batch(table("split", **change))


def test_an_archive_of_another_size_is_named():
    with pytest.raises(ValueError, match=r"stamp of the archive in row 0 is \(3, 8, 8\), not \(3, 4, 4\)"):
        reader.batch(table("npz", stamp_side_pix=[4] * 6))


def test_only_planes_whose_columns_are_there_are_returned_and_no_rows_are_no_error():
    data = table("split").select([*reader.NEEDED, "arc"])
    assert set(reader.batch(data)) == {"arc", "made"}
    assert [len(v) for v in reader.batch(data.slice(0, 0)).values()] == [0, 0]
    with pytest.raises(ValueError, match="without the columns encoding, bands"):
        reader.batch(data.drop(["encoding", "bands"]))


@pytest.mark.parametrize("values, message", [
    ({"pixels": "splt"}, "pixels must be one of split, rounded, npz, got 'splt'"),
    ({"pixel": "split"}, r"unknown key pixel \(did you mean pixels\?\); known: pixels"),
])  # fmt: skip
def test_a_misspelt_encoding_is_refused_with_the_known_ones(values, message):
    with pytest.raises(ConfigError, match=message):
        config.build(tiers.Output, values)


def test_another_encoding_is_another_config_of_inject_alone():
    plain = [config.plain(tier_of(kind)) for kind in ("split", "npz")]
    differ = [job for job in tiers.PARTS if tiers.parts(plain[0], job) != tiers.parts(plain[1], job)]
    assert differ == ["inject"]


def test_stamps_are_injected_in_the_tier_s_encoding(tiny_dataset, tiny_survey, tiny_tier):
    tasks = runs.read(tiny_dataset, "manifest")
    tasks = rows.where(tasks, brickname=tasks["brickname"][0].as_py()).slice(0, 6)
    tier = tiers.load(str(tiny_tier))
    made = {k: inject(tasks, place.at(tiny_survey), dataclasses.replace(tier, output=tiers.Output(k)))["stamps"] for k in ENCODINGS}
    split, rounded, npz = (reader.batch(made[k]) for k in ENCODINGS)
    assert split["made"].all()
    assert all(same_bits(split[name], npz[name]) for name in split)
    assert not same_bits(split["stamp"], rounded["stamp"])
    assert np.allclose(split["stamp"], rounded["stamp"], rtol=0, atol=0.012 / 16)
    assert runs.read(tiny_dataset, "stamps", ["encoding"])["encoding"].unique().to_pylist() == ["split"]


# files ---------------------------------------------------------------------------------------------------------------


class Counting(io.FileIO):
    """A file that counts what is read from it."""

    read_bytes = 0

    def read(self, size=-1):
        found = super().read(size)
        self.read_bytes += len(found)
        return found

    def readinto(self, buffer):
        count = super().readinto(buffer)
        self.read_bytes += count or 0
        return count


@pytest.fixture
def file(tmp_path):
    """(path, table) of 700 stamps written a few at a time; a footer."""
    data = table("split", n=700)
    path = tmp_path / "stamps.parquet"
    writer = parquet.Writer(path, "stamps", {"run_id": "r1"})
    for start in (0, 1, 300, 301):
        writer.write(data.slice(start, {0: 1, 1: 299, 300: 1, 301: 399}[start]))
    assert writer.rows == 700
    writer.close()
    return path, data


def test_row_groups_are_full_however_few_rows_come_at_once(file):
    path, data = file
    found = pq.ParquetFile(path)
    assert [found.metadata.row_group(k).num_rows for k in range(found.num_row_groups)] == [256, 256, 188]
    assert found.read().equals(data) and found.schema_arrow.metadata[b"run_id"] == b"r1"


def test_pixels_have_no_dictionary_and_no_statistics_and_labels_have_both(file):
    group = pq.read_metadata(file[0]).row_group(0)
    told = {group.column(k).path_in_schema: group.column(k) for k in range(group.num_columns)}
    for name in PLANES:
        assert told[name].statistics is None and told[name].dictionary_page_offset is None
    for name in ("role", "brickname", "encoding", "stamp_side_pix"):
        assert told[name].statistics is not None and told[name].dictionary_page_offset is not None


def test_labels_are_read_without_pixels(file):
    path, data = file
    with Counting(path) as counted:
        found = pq.ParquetFile(counted).read(columns=["role"], use_threads=False)
        assert found["role"].equals(data["role"])
        assert 0 < counted.read_bytes < 70_000 < 0.1 * path.stat().st_size  # of which 65,536 are Arrow's first look at the end


def test_duckdb_counts_roles_without_reading_pixels(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    if not (io_told := Path("/proc/self/io")).exists():
        pytest.skip("the system does not tell what a process reads")
    path = tmp_path / "stamps.parquet"
    writer = parquet.Writer(path, "stamps", {})
    for _ in range(40):
        writer.write(table("split", n=700))
    writer.close()
    db = duckdb.connect()

    def bytes_of(query) -> int:
        before = int(io_told.read_text().split()[1])
        db.sql(query).fetchall()
        return int(io_told.read_text().split()[1]) - before

    bytes_of(f"SELECT 1 FROM '{path}' LIMIT 1")  # what the library itself loads
    assert bytes_of(f"SELECT role, count(*) FROM '{path}' GROUP BY role") < 0.02 * path.stat().st_size
    assert bytes_of(f"SELECT sum(octet_length(stamp)) FROM '{path}'") > 0.2 * path.stat().st_size


def test_the_tiny_data_set_s_groups_hold_rows_of_several_bricks(tiny_dataset):
    sizes = [pq.read_metadata(path).num_row_groups for path in tables.paths(tiny_dataset, "stamps")]
    assert set(sizes) == {1}
    assert pc.count_distinct(runs.read(tiny_dataset, "stamps", ["brickname"])["brickname"]).as_py() >= len(sizes)
