"""The examples of docs/tasks.md run: the first prints what is shown, the second measures."""

import contextlib
import io
import re
from pathlib import Path

from tokred_sci.stability.tasks import TASKS

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()


def test_the_first_example_prints_what_is_shown():
    code, shown = re.findall(r"```python\n(.*?)```\n```\n(.*?)```", PAGE, re.S)[0]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {"__name__": "__main__"})
    assert printed.getvalue() == shown


def test_the_second_example_measures():
    names: dict = {"__name__": "__main__"}
    exec(re.findall(r"```python\n(.*?)```", PAGE, re.S)[1], names)
    for task in ("dna/fragment-place", "series/exercise"):
        accuracy, commonest = names["measure"](task, steps=2, pool=16, test=6)
        assert 0 <= accuracy <= 1 and commonest in (1 / 2, 1 / 6)


def test_every_task_is_on_the_page():
    table = PAGE.split("## The tasks")[1].split("\n## ")[0]
    assert {name for name in TASKS if "/" in name} == set(re.findall(r"^\| `([a-z-]+/[a-z-]+)` \|", table, re.M))
