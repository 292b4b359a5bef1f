"""Laws of the layout: whole shards, check sums that see every change, pieces that join what lies side by side."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tokred_sci.datasets import layout
from tokred_sci.datasets.layout import Entry, Kind, Writer, chunk_rows, fields_of, lost
from tokred_sci.errors import InputError
from tokred_sci.tokens import Tokens


def tokens(count, each=2, dim=3):
    return Tokens(
        torch.arange(count * dim).float().reshape(1, count, dim),
        torch.zeros(1, count, 1),
        torch.full((1, count), float(each)),
        torch.arange(count).repeat_interleave(each)[None],
    )


@given(
    dtype=st.sampled_from(["float16", "float32", "float64", "uint8", "int64"]),
    trailing=st.lists(st.integers(0, 5000), max_size=2),
)
def test_chunks_are_a_power_of_two_of_about_a_megabyte(dtype, trailing):
    rows, row = chunk_rows(dtype, tuple(trailing)), np.dtype(dtype).itemsize * int(np.prod(trailing))
    assert rows & (rows - 1) == 0
    assert rows == 1 or rows * row <= layout.CHUNK_BYTES
    assert not row or rows * 2 * row > layout.CHUNK_BYTES


def test_lost_is_a_value_of_its_type_that_labels_do_not_take():
    for dtype in ("int8", "int64", "uint8", "uint64", "float16", "float64"):
        value = np.dtype(dtype).type(lost(dtype))
        assert value == lost(dtype)
        assert value != 0
        with pytest.raises(InputError, match="marks lost values"):
            fields_of(0, Entry(tokens(1), label=value))


def test_source_is_kept_only_where_sizes_do_not_say_it():
    plain = tokens(4)
    assert "source" not in fields_of(0, Entry(plain))
    turned = Tokens(plain.features, plain.positions, plain.sizes, plain.source.flip(1))
    assert fields_of(0, Entry(turned))["source"].tolist() == [3, 3, 2, 2, 1, 1, 0, 0]
    for odd in (float("inf"), 1e30, 0.5):  # sizes that no source has
        sizes = torch.tensor([[odd, 2.0, 2.0, 2.0]])
        assert "source" in fields_of(0, Entry(Tokens(plain.features, plain.positions, sizes, plain.source)))


def test_kind_says_what_it_is():
    kind = Kind.of(fields_of(0, Entry(tokens(2), label=[1.0, 2.0], targets=np.zeros(4, np.int8))))
    assert str(kind) == "D = 3 in float32 and P = 1 in float32, int8 targets, float64 labels of shape (2,)"
    assert kind == layout.kind_in({"kind": layout.header_of("f", kind)["kind"]})


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    dtype=st.sampled_from([np.float16, np.float32, np.float64, np.uint8, np.int64]),
    dim=st.integers(0, 5),
    data=st.data(),
)
def test_check_sum_sees_every_change(counts, dtype, dim, data):
    """A bit, two rows or two fields exchanged; and it is the same for records alone and side by side."""
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    total, begins = sum(counts), np.cumsum([0, *counts[:-1]])
    fields = {
        "features": draw.integers(0, 99, (total, dim)).astype(dtype),
        "sizes": draw.integers(0, 99, total).astype(np.float32),
    }
    both = dict.fromkeys(fields, begins)
    sums = layout._check(fields, both)
    for place, (start, count) in enumerate(zip(begins, counts, strict=True)):
        alone = {name: values[start : start + count] for name, values in fields.items()}
        assert layout._check(alone, dict.fromkeys(fields, np.zeros(1, np.int64)))[0] == sums[place]
    changed = {name: values.copy() for name, values in fields.items()}
    where = data.draw(st.integers(0, total * 4 - 1))
    changed["sizes"].view(np.uint8)[where] ^= 1 << data.draw(st.integers(0, 7))
    differs = layout._check(changed, both) != sums
    assert differs.sum() == 1
    assert differs[np.searchsorted(begins, where // 4, side="right") - 1]


def test_writer_fills_whole_shards_and_close_the_rest(monkeypatch):
    import zarr

    monkeypatch.setattr(layout, "CHUNK_BYTES", 48)
    monkeypatch.setattr(layout, "CHUNKS", 2)
    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    made = [fields_of(place, Entry(tokens(count))) for place, count in enumerate((3, 9, 1, 30))]
    layout.create_arrays(group, Kind.of(made[0]))
    shard = group["features"].shards[0]
    assert group["sizes"].shards[0] == group["positions"].shards[0] == shard
    writer = Writer(group, layout.ends_of(group))
    for fields in made:
        writer.add(fields)
    assert group["features"].shape[0] == 43 // shard * shard
    writer.close()
    assert group["features"].shape[0] == 43
    assert [row[0] for row in writer.rows] == [0, 3, 12, 13]
    assert layout.ends_of(group)["features"] % shard == 0
    assert layout.ends_of(group)["features"] - 43 < shard
    read = layout.read_records(dict(group.arrays()), np.array(writer.rows), "here")
    for (got, _), count in zip(read, (3, 9, 1, 30), strict=True):
        assert torch.equal(got.features, tokens(count).features)
        assert torch.equal(got.source, tokens(count).source)


def test_pieces_join_what_lies_side_by_side():
    one = [0, 3, -1, 6, -1, 0, 0, 0]
    rows = np.array([one, [3, 2, -1, 4, -1, 0, 0, 0], [9, 1, -1, 2, -1, 0, 0, 0], [10, 1, 0, 2, -1, 0, 0, 0]])
    assert list(layout._pieces(rows)) == [(0, 2), (2, 3), (3, 4)]


def test_elements_of_a_long_record_are_counted_exactly():
    """2^24 + 1 elements: a float32 cannot say so."""
    sizes = np.full((1 << 14) + 1, 1 << 10, np.float32)
    sizes[-1] = 1
    assert int(sizes.sum(dtype=np.float64)) == (1 << 24) + 1
    count = len(sizes)
    source = torch.from_numpy(np.repeat(np.arange(count), sizes.astype(np.int64)))[None]
    made = Tokens(torch.zeros(1, count, 1), torch.zeros(1, count, 1), torch.from_numpy(sizes)[None], source)
    fields = fields_of(0, Entry(made, targets=np.zeros((1 << 24) + 1, np.int8)))
    assert "source" not in fields
    import zarr

    group = zarr.open_group(zarr.storage.MemoryStore(), mode="w")
    layout.create_arrays(group, Kind.of(fields))
    writer = Writer(group, layout.ends_of(group))
    writer.add(fields)
    assert writer.rows[0][3] == (1 << 24) + 1
