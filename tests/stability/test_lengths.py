import subprocess
import sys

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.stability.lengths import (
    agreement,
    answers_at_budgets,
    break_even,
    effective_length,
    largest_change,
    look_back_curve,
    measure,
    slope_per_octave,
    worst_fall,
)


def test_slope_of_a_line_in_octaves():
    assert slope_per_octave([1, 2, 4, 8], [1.0, 0.75, 0.5, 0.25]) == pytest.approx(-0.25)
    assert slope_per_octave([1, 4], [0.5, 0.5]) == 0
    with pytest.raises(InputError, match="two or more"):
        slope_per_octave([1], [1.0])


def test_break_even_is_where_the_ratio_of_times_falls_to_1_for_good():
    assert break_even([1, 2, 4], [1.0, 1.0, 1.0], [1.0, 2.0, 4.0]) == 1.0
    assert break_even([1, 2, 4], [2.0, 2.0, 9.0], [1.0, 2.0, 4.0]) is None
    assert break_even([1, 4, 16], [2.0, 1.0, 8.0], [1.0, 2.0, 8.0]) == pytest.approx(2.0)
    assert break_even([1, 2, 4], [0.5, 4.0, 2.0], [1.0, 2.0, 4.0]) == pytest.approx(2**1.5)  # a dip does not count


def test_effective_length_stops_at_the_first_fall():
    assert effective_length([1, 2, 4], [1.0, 0.9, 0.86]) == 4
    assert effective_length([1, 2, 4], [1.0, 0.8, 0.99]) == 1
    assert effective_length([1, 2, 4], [1.0, 0.8, 0.99], share=0.8) == 4


def test_measure_counts_right_answers_and_tokens_per_layer():
    model = Model(ModelConfig("dna", {"patch": 4}, dim=16, depth=2, heads=2, reduce=(Reduce(0, "stride", 3),)))
    with torch.no_grad():
        model.head.out.weight.zero_()
        model.head.out.bias.copy_(torch.tensor([1.0, 0.0]))  # always says class 0
    records = [model.tokenize("ACGT" * 10) for _ in range(4)]
    told = measure(model, records, torch.tensor([0, 0, 0, 1]), multiple=2, batch=3)
    assert (told.multiple, told.accuracy, told.tokens) == (2, 0.75, [10, 3, 3])
    assert told.error == pytest.approx(0.2165, abs=1e-4)
    assert told.seconds > 0


def test_look_back_shows_the_end_of_each_record():
    series = [torch.arange(8.0).view(1, 8), torch.arange(8.0).view(1, 8) + 10]
    mean_error = lambda answers: -sum(answers) / len(answers)  # noqa: E731
    answer = lambda records: [float(r[0, -1] - r.mean()) for r in records]  # noqa: E731
    assert look_back_curve(answer, series, mean_error, [1, 3, 5]) == [0, -1, -2]
    assert look_back_curve(len, ["ACGT", "AC"], float, [2]) == [2.0]


def test_worst_fall_is_against_the_best_before():
    assert worst_fall([0.2, 0.4, 0.9]) == 0
    assert worst_fall([0.75, 0.5, 1.0, 0.25, 0.75]) == 0.75


def test_agreement_is_a_share_of_places_where_all_answered():
    classes = torch.tensor([[[0, 1], [2, -1]], [[0, 2], [2, 5]]])
    assert agreement(classes).tolist() == [[1, 2 / 3], [2 / 3, 1]]
    assert agreement(classes[[0, 0]]).tolist() == [[1, 1], [1, 1]]


def test_budgets_agree_with_themselves_and_are_put_back():
    model = Model(ModelConfig("dna", {"patch": 4}, dim=16, depth=2, heads=2, reduce=(Reduce(0, "links", 3),)))
    records = [model.tokenize("ACGGTTCATGCATTGACCAT"[i:] + "ACGT" * 5) for i in range(6)]
    before = answers_at_budgets(model, records, [1.0])
    answers = answers_at_budgets(model, records, [1.0, 0.5, 1.0], batch=4)
    assert answers.shape == (3, 6, 2)
    assert largest_change(answers[[0, 2]]) == 0
    assert largest_change(answers) > 0
    assert torch.allclose(before[0], answers[0], atol=1e-6)
    shared = agreement(answers.argmax(-1))
    assert shared[0, 2] == 1
    assert torch.equal(shared, shared.mT)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: look_back_curve(len, ["ACGT"], float, [5]), "shortest record"),
        (lambda: look_back_curve(len, ["ACGT"], float, [0]), "shortest record"),
        (lambda: look_back_curve(len, [4], float, [1]), "text, or arrays"),
        (lambda: worst_fall([]), "one or more"),
        (lambda: agreement(torch.ones(2, 3)), "argmax"),
        (lambda: agreement(torch.tensor([[1, 2]])), "two or more variants"),
        (lambda: agreement(torch.tensor([[-1], [1]])), "from every variant"),
        (lambda: largest_change(torch.tensor([[1.0], [torch.nan]])), "finite"),
        (lambda: answers_at_budgets(None, [], []), "one or more shares"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's peak counter is Linux's")
def test_peak_memory_forgets_what_came_before():
    """In a process of its own: what other tests leave to the allocator would be counted, or given back in between."""
    code = (
        "import torch; from tokred_sci.stability.lengths import peak, reset_peak\n"
        "block = torch.ones(50_000_000); del block\n"
        "assert reset_peak(); before = peak()\n"
        "block = torch.ones(25_000_000)\n"
        "print(peak() - before)"
    )
    grown = float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
    assert 80 < grown < 140
