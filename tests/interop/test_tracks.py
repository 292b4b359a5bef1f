"""Tokens and answers in xarray, AnnData and pandas: there and back without loss, and what is refused."""

import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokred_sci.errors import InputError, MissingExtra
from tokred_sci.interop.tracks import from_anndata, from_frame, from_xarray, to_anndata, to_frame, to_xarray
from tokred_sci.reduction.chain import links
from tokred_sci.reduction.control import truncate
from tokred_sci.reduction.merge import merge, to_source
from tokred_sci.tokenizers import DNATokenizer, PointTokenizer, SeriesTokenizer
from tokred_sci.tokens import Tokens, stack

pandas, xarray, anndata = (pytest.importorskip(name) for name in ("pandas", "xarray", "anndata"))


def batch(seed=0, axes=1, dtype=torch.float32, counts=(5, 1, 8)):
    """Records of tokens that hold 1 to 3 elements each, with zeros in padding."""
    draw, records = torch.Generator().manual_seed(seed), []
    for count in counts:
        sizes = torch.randint(1, 4, (count,), generator=draw)
        source = torch.arange(count).repeat_interleave(sizes)[torch.randperm(int(sizes.sum()), generator=draw)]
        x, places = (torch.randn(1, count, k, generator=draw, dtype=torch.float64) for k in (4, axes))
        x = (100 * x).abs().to(dtype) if dtype == torch.uint8 else x.to(dtype)
        records.append(Tokens(x, places, sizes.float()[None], source[None]))
    return stack(records)


def same(a, b):
    for field in fields(a):
        one, two = getattr(a, field.name), getattr(b, field.name)
        assert one.dtype == two.dtype and torch.equal(one, two), field.name


def clock(count=4, zone=None):
    return pandas.date_range("2024-03-30 22:00", periods=count, freq="h", tz=zone)


@settings(max_examples=25)
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    axes=st.sampled_from([1, 3]),
    dtype=st.sampled_from([torch.float16, torch.float32, torch.float64, torch.uint8]),
)
def test_the_way_there_and_back_keeps_every_field(counts, seed, axes, dtype):
    tokens = batch(seed, axes, dtype, counts)
    same(from_xarray(to_xarray(tokens)), tokens)
    same(from_anndata(to_anndata(tokens)), tokens)


@pytest.mark.parametrize("method", [links, truncate])
def test_merged_and_pruned_tokens_come_back_with_their_gaps(method):
    tokens = batch()
    merged = merge(tokens, method(tokens.features, tokens, torch.tensor([2, 1, 3])))
    same(from_xarray(to_xarray(merged)), merged)
    same(from_anndata(to_anndata(merged)), merged)
    hollow = replace(merged, features=merged.features.flip(1), positions=merged.positions.flip(1))
    hollow = replace(hollow, sizes=merged.sizes.flip(1), source=torch.where(merged.source < 0, -1, 2 - merged.source))
    same(from_anndata(to_anndata(hollow)), hollow)  # padding first


def test_tokens_of_every_domain_go_through_files(tmp_path):
    cloud = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    for tokens in (DNATokenizer(4)("ACGTNNacg"), PointTokenizer(8)(cloud), SeriesTokenizer(2)([1.0, np.nan, 3.0])):
        to_xarray(tokens).to_zarr(tmp_path / f"{tokens.source.shape[1]}.zarr", zarr_format=2)
        same(from_xarray(xarray.open_zarr(tmp_path / f"{tokens.source.shape[1]}.zarr")), tokens)
        to_anndata(tokens, unit="steps").write_h5ad(tmp_path / "tokens.h5ad")
        read = anndata.read_h5ad(tmp_path / "tokens.h5ad")
        same(from_anndata(read), tokens)
        assert read.uns["tokred_sci"]["unit"] == "steps"


def test_answers_stand_at_their_bases_and_are_nan_where_no_token_holds_one():
    tokens, reach = batch(), torch.arange(1000, 1000 + batch().source.shape[1])
    answers = to_source(replace(tokens, features=tokens.features[..., :2] + 5))
    made = to_xarray(tokens, answers, names=["chr1", "chr2", "chrM"], places=reach, outputs=["a", "b"], unit="bases")
    held = tokens.source >= 0
    assert torch.equal(torch.from_numpy(made.answers.values)[held], answers[held])
    assert np.isnan(made.answers.values[~held.numpy()]).all() and (~held).any()
    one = made.sel(record="chrM", output="b").set_index(element="place")
    assert one.answers.sel(element=1003).item() == answers[2, 3, 1]
    assert made.positions.attrs["unit"] == "bases" and made.answers.dims == ("record", "element", "output")
    assert to_xarray(tokens, answers[..., 0]).answers.shape == (*tokens.source.shape, 1)


def test_answers_may_stand_at_dates():
    tokens = SeriesTokenizer(2)([1.0, 2.0, 3.0])
    stamps = np.array(["2024-01-01", "2024-01-02", "2024-01-05"], "datetime64[ns]")
    assert (to_xarray(tokens, torch.zeros(1, 3), places=stamps).place.values[0] == stamps).all()


def test_dimensions_and_rows_may_come_in_any_order():
    tokens = batch(axes=3)
    same(from_xarray(to_xarray(tokens).transpose("token", "element", "axis", "feature", "record")), tokens)
    table = to_anndata(tokens, names=["a", "b", "c"])
    order = torch.randperm(table.n_obs, generator=torch.Generator().manual_seed(0)).numpy()
    same(from_anndata(table[order].copy()), tokens)
    assert table.obs_names[5] == "b:0" and list(table.obs) == ["record", "token", "x", "y", "z", "size"]


def test_arrays_that_are_not_ours_are_refused():
    tokens = batch()
    made = to_xarray(tokens)
    with pytest.raises(InputError, match="variable 'source'"):
        from_xarray(made.drop_vars("source"))
    with pytest.raises(InputError, match="variable 'sizes'"):
        from_xarray(made.assign(sizes=made["sizes"].isel(record=0)))
    with pytest.raises(InputError, match="'source' in"):
        from_xarray(made.isel(token=slice(0, 3)))
    with pytest.raises(InputError, match="whole numbers"):
        from_xarray(made.assign(source=made.source.where(made.source >= 0)))
    with pytest.raises(InputError, match=r"leave none out"):
        from_anndata(to_anndata(tokens)[1:].copy())
    table = to_anndata(tokens)
    table.obs["record"] = "renamed"
    with pytest.raises(InputError, match="leave none out"):
        from_anndata(table)
    with pytest.raises(InputError, match="or part of uns"):
        from_anndata(anndata.AnnData(np.zeros((2, 2), np.float32)))


def test_names_places_and_answers_that_do_not_fit_are_refused():
    tokens = batch()
    for make in (to_xarray, to_anndata):
        with pytest.raises(InputError, match="'a' again"):
            make(tokens, names=["a", "b", "a"])
        with pytest.raises(InputError, match="3 names"):
            make(tokens, names=["a"])
        with pytest.raises(InputError, match="bfloat16"):
            make(tokens.to(torch.bfloat16))
    with pytest.raises(InputError, match="'places'"):
        to_xarray(tokens, places=[1, 2])
    with pytest.raises(InputError, match="one for each element"):
        to_xarray(tokens, torch.zeros(3, 2, 1))
    with pytest.raises(InputError, match="2 outputs"):
        to_xarray(tokens, torch.zeros(*tokens.source.shape, 2), outputs=["a"])


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Zurich"])
@pytest.mark.parametrize("channels", ["mix", "independent"])
def test_a_frame_comes_back_from_its_tokens_at_the_same_stamps(zone, channels):
    """The clock goes forward in the night of 31 March: in Zurich an hour is missing, in UTC none."""
    values = np.random.default_rng(0).normal(size=(7, 2)) * [1, 1000]
    values[2, 1] = np.nan
    frame = pandas.DataFrame(values, clock(7, zone), ["flow", "level"]).drop(index=clock(7, zone)[4])
    tokenizer = SeriesTokenizer(2, in_channels=2, channels=channels)
    tokens = from_frame(frame, tokenizer)
    back = to_frame(tokenizer.detokenize(tokens).T, frame.index, frame.columns)
    pandas.testing.assert_frame_equal(back, frame, rtol=1e-5)
    assert back.index is frame.index
    start = pandas.Timestamp("2024-03-30 22:00", tz=zone or "UTC").timestamp()
    expected = start + 3600 * torch.tensor([0.5, 2.5, 5.5]).double()  # the fifth hour is not there
    assert torch.equal(tokens.positions[0, :, 0], expected)


def test_stamps_before_1970_far_ahead_and_within_a_second_keep_their_time():
    stamps = np.array(["1969-12-31T23:59:59.25", "1970-01-01", "2024-01-01T00:00:00.000001"], "datetime64[us]")
    far = pandas.DatetimeIndex(np.array(["0800-01-01", "9000-01-01"], "datetime64[s]"))
    tokenizer = SeriesTokenizer(1)
    frame = pandas.DataFrame({"a": [1.0, 2.0, 3.0]}, pandas.DatetimeIndex(stamps))
    assert from_frame(frame, tokenizer).positions.flatten().tolist() == [-0.75, 0, 1704067200.000001]
    frame = pandas.DataFrame({"a": [1.0, 2.0]}, far)
    assert from_frame(frame, tokenizer).positions.flatten().tolist() == far.to_numpy().astype(np.int64).tolist()


def test_columns_of_whole_numbers_booleans_and_missing_values_are_channels():
    columns = {"a": pandas.array([1, None, 3, 4], "Int64"), "b": [True, False, True, False], "c": [1, 2, 3, 4]}
    frame = pandas.DataFrame(columns, clock())
    tokenizer = SeriesTokenizer(4, in_channels=3)
    series = tokenizer.detokenize(from_frame(frame, tokenizer))
    torch.testing.assert_close(
        series, torch.tensor([[1, torch.nan, 3, 4], [1, 0, 1, 0], [1, 2, 3, 4]]).double(), equal_nan=True
    )


def test_frames_whose_stamps_are_in_doubt_are_refused():
    tokenizer, frame = SeriesTokenizer(2), pandas.DataFrame({"a": [1.0, 2, 3, 4]}, clock())
    cases = {
        "go back": frame.iloc[::-1],
        "2024-03-30 23:00:00 again": pandas.concat([frame, frame.iloc[1:2]]).sort_index(),
        r"\(got 1 without\)": frame.set_index(clock().where([True, False, True, True])),
        r"DatetimeIndex \(got RangeIndex\)": frame.reset_index(drop=True),
        r"a frame with .*got Series\)": frame["a"],
        "got ndarray": frame.to_numpy(),
        "others in note": frame.assign(note="x"),
        "microsecond apart": frame.set_index(pandas.DatetimeIndex(1_700_000_000_000_000_000 + np.arange(4))),
    }
    for message, wrong in cases.items():
        with pytest.raises(InputError, match=message):
            from_frame(wrong, tokenizer)
    with pytest.raises(InputError, match="channels"):
        from_frame(frame.assign(b=1.0), tokenizer)


def test_answers_for_other_rows_are_refused():
    for answers in (torch.zeros(3, 1), torch.zeros(2, 4, 1), torch.zeros(1, 2, 4, 1)):
        with pytest.raises(InputError, match=r"\(4, K\)"):
            to_frame(answers, clock())
    with pytest.raises(InputError, match="2 columns"):
        to_frame(torch.zeros(4, 2), clock(), ["a"])
    assert to_frame(torch.zeros(1, 4, 2), clock()).shape == (4, 2)
    assert to_frame(torch.zeros(4), clock()).shape == (4, 1)


@pytest.mark.parametrize(("name", "make"), [("xarray", to_xarray), ("anndata", to_anndata)])
def test_without_the_package_the_pip_line_is_told(monkeypatch, name, make):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r'pip install "tokred-sci\[tracks\]"'):
        make(batch())
