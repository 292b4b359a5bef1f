"""The table of methods: every docstring has the line of facts it is made from, and README shows it as it is."""

from pathlib import Path

import pytest

import tokred_sci
from tokred_sci.experiment import LEARNED, REDUCTIONS
from tokred_sci.methods import as_markdown, as_text, methods

README = (Path(tokred_sci.__file__).parents[1] / "README.md").read_text()
CONTROLS = {"none", "stride", "random", "truncate"}


def test_readme_shows_the_table_as_it_is():
    assert as_markdown(methods()) in README, "run: tokred methods --markdown"


@pytest.mark.parametrize("method", methods(), ids=lambda method: method.name)
def test_every_method_states_its_facts_and_its_source(method):
    assert method.reach in ("local", "global", "local in space")
    assert method.order.startswith(("kept", "of "))
    assert method.count.startswith(("exact", "at most keep", "all of them"))
    assert method.cost.startswith("O(")
    assert (method.reference == "control") == (method.name in CONTROLS)
    assert method.name in CONTROLS or method.url.startswith("https://")


def test_the_table_has_a_line_for_every_method():
    lines = as_text(methods()).splitlines()
    assert [line.split()[0] for line in lines] == ["name", *REDUCTIONS, *LEARNED]
