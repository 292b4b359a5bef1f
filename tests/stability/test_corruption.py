import numpy as np
import pytest

from tokred_sci.errors import InputError
from tokred_sci.stability.corruption import (
    add_noise,
    cut_gaps,
    follow,
    insert_delete,
    other_strand,
    resample,
    shift,
    substitute,
)

DNA = "ACGTNacgtnRY" * 50


def rng(seed=0):
    return np.random.default_rng(seed)


def waves(steps=4000, dtype=np.float64):
    series = np.stack([np.sin(np.arange(steps) / 9), 100 + 5 * np.cos(np.arange(steps) / 7)]).astype(dtype)
    series[0, 10:20] = np.nan
    return series


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_damage_gives_back_every_bit(dtype):
    series = waves(dtype=dtype)
    for same in (add_noise(series, np.inf, rng()), cut_gaps(series, 0, 5, rng()), resample(series, 1).record):
        assert same.tobytes() == series.tobytes()
        assert same.dtype == dtype
        assert same is not series
    for same in (substitute(DNA, 0, rng()), insert_delete(DNA, 0, rng()), shift(DNA, 0)):
        assert same.record == DNA
        assert np.array_equal(same.origin, np.arange(len(DNA)))


@pytest.mark.parametrize("snr", [20.0, 10.0, 0.0, -5.0])
def test_noise_has_the_power_asked_for_in_each_channel(snr):
    series = waves(40_000)
    noisy = add_noise(series, snr, rng())
    assert np.array_equal(np.isnan(noisy), np.isnan(series))
    noise = np.nanvar(noisy - series, axis=1)
    assert 10 * np.log10(np.nanvar(series, axis=1) / noise) == pytest.approx([snr, snr], abs=0.15)
    assert add_noise(series.astype(np.float32), snr, rng()).dtype == np.float32


def test_channels_without_signal_stay_as_they_are():
    series = np.stack([np.full(50, 3.0), np.full(50, np.nan)])
    assert np.array_equal(add_noise(series, 0.0, rng()), series, equal_nan=True)


@pytest.mark.parametrize("length", [1, 7, 1000])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.99, 1.0])
def test_gaps_take_exactly_their_share_in_bursts(length, share):
    series = np.ones((3, 1000), np.float32)
    cut = cut_gaps(series, share, length, rng())
    gone = np.isnan(cut)
    assert (gone == gone[0]).all()
    assert gone[0].sum() == round(share * 1000)
    assert cut.dtype == np.float32
    assert (cut[~gone] == 1).all()
    starts = int((np.diff(gone[0].astype(int), prepend=0) == 1).sum())
    assert starts <= -(-round(share * 1000) // length)


def test_bursts_are_as_long_as_asked():
    gone = np.isnan(cut_gaps(np.ones((1, 100_000)), 0.01, 10, rng()))[0]
    edges = np.flatnonzero(np.diff(gone.astype(int), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    assert set(lengths) <= {10, 20}  # two may touch


def test_resampling_by_hand():
    series = np.array([[0.0, 10.0, np.nan, 30.0]])
    record, times, nearest = resample(series, 2, times=np.array([0.0, 1.0, 2.0, 4.0]))
    assert np.array_equal(record, [[0, 5, 10, np.nan, np.nan, np.nan, 30]], equal_nan=True)
    assert times.tolist() == [0, 0.5, 1, 1.5, 2, 3, 4]
    assert nearest.tolist() == [0, 1, 1, 2, 2, 3, 3]
    assert resample(series, 0.5).times.tolist() == [0, 2]


@pytest.mark.parametrize("factor", [0.1, 1 / 3, 0.5, 0.7, 1.5, 3, 10])
def test_a_line_stays_a_line_at_every_rate(factor):
    line = (3 * np.arange(301.0) + 1)[None]
    record, times, _ = resample(line, factor)
    assert np.allclose(record[0], 3 * times + 1)
    assert len(times) == int(300 * factor + 1e-9) + 1
    assert times[-1] <= 300


def test_up_and_down_again_gives_the_series_back():
    series = waves(200)
    up = resample(series, 4)
    assert np.array_equal(resample(up.record, 0.25).record, series, equal_nan=True)


def test_substitutions_come_at_their_rate_and_never_to_the_same_base():
    sequence = "ACGTacgt" * 5000
    record, origin = substitute(sequence, 0.1, rng())
    old, new = (np.frombuffer(text.encode(), np.uint8) for text in (sequence, record))
    assert (old != new).mean() == pytest.approx(0.1, abs=0.006)
    assert np.array_equal(old & 0x20, new & 0x20)  # case stays
    assert np.array_equal(origin, np.arange(len(sequence)))
    every = substitute(DNA, 1.0, rng()).record
    assert all((a != b) == (a in "ACGTacgt") for a, b in zip(DNA, every, strict=True))
    others = {b for a, b in zip("A" * 400, substitute("A" * 400, 1.0, rng()).record, strict=True)}
    assert others == {"C", "G", "T"}


def test_indels_come_at_their_rate_with_a_map_to_the_old_bases():
    sequence = "ACGT" * 10_000
    record, origin = insert_delete(sequence, 0.1, rng())
    assert len(record) == len(origin)
    kept = origin[origin >= 0]
    assert (np.diff(kept) > 0).all()
    assert all(record[i] == sequence[origin[i]] for i in range(len(record)) if origin[i] >= 0)
    assert (origin == -1).mean() == pytest.approx(0.05, abs=0.005)
    assert 1 - len(kept) / len(sequence) == pytest.approx(0.05, abs=0.005)
    truth = np.arange(len(sequence))
    assert np.array_equal(follow(truth, origin), np.where(origin >= 0, origin, -100))


def test_shift_and_strand_carry_truth():
    sequence = "AACGTTTN"
    truth = np.arange(8)
    moved = shift(sequence, 3)
    assert (moved.record, follow(truth, moved.origin).tolist()) == ("GTTTN", [3, 4, 5, 6, 7])
    turned = other_strand(sequence)
    assert (turned.record, follow(truth, turned.origin).tolist()) == ("NAAACGTT", truth[::-1].tolist())
    assert other_strand(turned.record).record == sequence
    assert np.array_equal(follow(follow(truth, turned.origin), turned.origin), truth)


def test_empty_sequences_and_series_stay_empty():
    for damaged in (substitute("", 0.5, rng()), insert_delete("", 0.5, rng()), shift("", 0), other_strand("")):
        assert damaged.record == ""
        assert len(damaged.origin) == 0
    empty = np.zeros((2, 0))
    assert add_noise(empty, 0.0, rng()).shape == cut_gaps(empty, 0.5, 3, rng()).shape == (2, 0)
    assert resample(empty, 2).record.shape == (2, 0)


def test_the_same_generator_state_gives_the_same_damage():
    for damage in (
        lambda seed: substitute(DNA, 0.3, rng(seed)).record,
        lambda seed: insert_delete(DNA, 0.3, rng(seed)).record,
        lambda seed: add_noise(waves(), 3.0, rng(seed)).tobytes(),
        lambda seed: cut_gaps(waves(), 0.3, 4, rng(seed)).tobytes(),
    ):
        assert damage(0) == damage(0) != damage(1)


def test_truth_of_added_elements_is_what_its_type_can_say():
    origin = np.array([1, -1])
    assert follow(np.array([3, 4]), origin).tolist() == [4, -100]
    assert follow(np.array([3, 4]), origin, added=-1).tolist() == [4, -1]
    assert np.isnan(follow(np.array([3.0, 4.0]), origin)[1])
    assert follow(np.array([[1, 2], [3, 4]]), origin).tolist() == [[3, 4], [-100, -100]]
    assert follow(np.array([3, 4], np.uint8), np.array([1, 0])).dtype == np.uint8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: add_noise(np.zeros((1, 4), int), 0.0, rng()), "series as floats"),
        (lambda: add_noise(np.zeros(4), 0.0, rng()), "series as floats"),
        (lambda: add_noise(np.full((1, 4), np.inf), 0.0, rng()), "infinite"),
        (lambda: add_noise(np.zeros((1, 4)), np.nan, rng()), "'snr'"),
        (lambda: cut_gaps(np.zeros((1, 4)), 1.5, 1, rng()), "'share'"),
        (lambda: cut_gaps(np.zeros((1, 4)), 0.5, 0, rng()), "'length'"),
        (lambda: resample(np.zeros((1, 4)), 0), "'factor'"),
        (lambda: resample(np.zeros((1, 4)), 2, np.array([0.0, 1.0, 1.0, 2.0])), "rising"),
        (lambda: substitute("ACGT", -0.1, rng()), "'rate'"),
        (lambda: substitute("ACGÜ", 0.1, rng()), "ASCII"),
        (lambda: insert_delete(b"ACGT", 0.1, rng()), "got bytes"),
        (lambda: shift("ACGT", 4), "'places'"),
        (lambda: other_strand("AC!T"), "IUPAC letters"),
        (lambda: follow(np.array([1, 2]), np.array([2])), "each element"),
        (lambda: follow(np.array([1, 2], np.uint8), np.array([-1])), "'added'"),
        (lambda: follow(np.array([1, 2]), np.array([-1]), added=np.nan), "'added'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
