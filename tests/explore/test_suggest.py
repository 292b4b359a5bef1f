"""Suggestions: what is redundant is found, what is not is said so, and the numbers are those of the sample."""

import json

import numpy as np
import pytest

from tokred_sci.datasets.sample import load_sample
from tokred_sci.errors import InputError
from tokred_sci.explore.reduce import reduce_file
from tokred_sci.explore.suggest import KEEPS, suggest


@pytest.fixture
def fasta(tmp_path):
    def write(letters, copies=1):
        path = tmp_path / "letters.fa"
        path.write_text("".join(f">{copy}\n{letters}\n" for copy in range(copies)))
        return path

    return write


def save(path, values):
    np.save(path, values)
    return path


@pytest.fixture
def smooth(tmp_path):
    steps = np.arange(8_000)
    return save(tmp_path / "smooth.npy", np.sin(steps / 300) + 3 * (steps > 4_000))


def curves(told):
    return {(curve.method, curve.window): curve.lost for curve in told.curves}


def test_real_dna_is_not_redundant_and_it_is_said_why(fasta):
    told = suggest(fasta(load_sample("dna").records[0][:65_536]))
    assert told.proposal is None
    assert "hardly ever alike" in told.verdict and "learned" in told.verdict and "5 %" in told.verdict
    assert "window=16" in told.advice


def test_a_repeat_is_redundant_and_a_larger_patch_would_do(fasta):
    told = suggest(fasta("ACGTTGCA" * 1024, copies=3))
    assert told.proposal.reduce.keep == KEEPS[-1] and told.proposal.lost == 0
    assert told.proposal.larger_patch and "larger patch" in told.verdict
    assert told.proposal.tokens == (3 * 512, 3 * 32)


def test_two_alternating_motifs_need_a_look_at_the_content(fasta):
    """Merging neighbours blindly averages the motifs; peaks put all of one kind together."""
    told = suggest(fasta(("ACGTACGTACGTACGT" + "T" * 16) * 256))
    assert told.proposal.reduce.method == "peaks" and not told.proposal.larger_patch
    lost = curves(told)
    assert lost["peaks", 64][3] < 0.01 < 0.9 < lost["stride", None][0]


def test_a_smooth_series_is_redundant_and_saving_is_told(smooth):
    told = suggest(smooth)
    proposal = told.proposal
    assert proposal.lost <= told.tolerance
    assert proposal.tokens[0] == 500 and proposal.tokens[1] == -(-500 * proposal.reduce.keep // 1)
    assert all(after < before for before, after in (proposal.bytes, proposal.flops))


def test_the_proposal_is_the_least_of_what_stays_within_the_tolerance(smooth):
    for tolerance in (0.001, 0.004, 0.2):
        told = suggest(smooth, tolerance)
        within = [
            keep
            for curve in told.curves
            if not curve.control
            for keep, lost in zip(KEEPS, curve.lost, strict=True)
            if lost <= tolerance
        ]
        assert told.proposal.reduce.keep == min(within)


def test_a_level_that_all_tokens_share_does_not_hide_differences(tmp_path):
    values = np.random.default_rng(0).normal(size=4096)
    near, far = (suggest(save(tmp_path / f"{level}.npy", values + level)) for level in (0, 1e6))
    for a, b in zip(near.curves, far.curves, strict=True):
        assert a.lost == pytest.approx(b.lost, abs=0.03)


def test_less_kept_is_more_lost_by_controls_and_structure_beats_them(tmp_path):
    cloud = save(tmp_path / "cloud.npy", load_sample("points").records[0][:, :3])
    lost = curves(suggest(cloud, settings={"tokens": 1024, "neighbours": 8}))
    assert ("voxel", None) in lost
    for control in ("random", "stride"):
        assert list(lost[control, None]) == sorted(lost[control, None])
        assert all(a < b for a, b in zip(lost["peaks", 64], lost[control, None], strict=True))


def test_the_numbers_are_those_of_reduce(smooth):
    told = suggest(smooth)
    for curve in told.curves:
        if curve.method in ("peaks", "links"):
            again = reduce_file(smooth, None, curve.method, 0.25, curve.window)
            assert again.variance_lost == pytest.approx(curve.lost[1])


def test_twice_is_the_same(smooth):
    assert suggest(smooth) == suggest(smooth)


@pytest.mark.parametrize("tolerance", [0, 1, -0.1, float("nan")])
def test_a_tolerance_that_is_none_is_refused(smooth, tolerance):
    with pytest.raises(InputError, match="tolerance"):
        suggest(smooth, tolerance)


@pytest.mark.parametrize("settings", [{"scheme": "kmer", "patch": 6}, {"compact": True}])
def test_ids_and_codes_are_refused(fasta, settings):
    with pytest.raises(InputError, match="averaged"):
        suggest(fasta("ACGT" * 100), settings=settings)


def test_the_smallest_file_has_an_answer(fasta):
    told = suggest(fasta("A"))
    assert told.proposal.tokens == (1, 1) and json.dumps(told.text())
