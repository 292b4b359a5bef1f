"""README's examples run and print what README says they print."""

import contextlib
import io
import re
from pathlib import Path

import pytest

import tokred_sci

README = (Path(tokred_sci.__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", README, re.S)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_prints_what_is_shown(example):
    code, shown = example
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    assert printed.getvalue() == shown


def test_both_examples_were_found():
    assert len(EXAMPLES) == 3
