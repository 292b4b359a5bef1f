import subprocess
import sys

import pytest
import torch

from tokred_sci.errors import InputError
from tokred_sci.experiment import Model, ModelConfig, Reduce
from tokred_sci.stability.lengths import effective_length, measure, slope_per_octave


def test_slope_of_a_line_in_octaves():
    assert slope_per_octave([1, 2, 4, 8], [1.0, 0.75, 0.5, 0.25]) == pytest.approx(-0.25)
    assert slope_per_octave([1, 4], [0.5, 0.5]) == 0
    with pytest.raises(InputError, match="two or more"):
        slope_per_octave([1], [1.0])


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
