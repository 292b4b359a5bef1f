"""Notebooks: both halves hold the same cells, outputs are kept and clean, and all run from top to bottom."""

import importlib.util
import re
from pathlib import Path

import pytest

import tokred_sci

jupytext, nbformat = pytest.importorskip("jupytext"), pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

FOLDER = Path(tokred_sci.__file__).parents[1] / "notebooks"
NAMES = [source.stem for source in sorted(FOLDER.glob("[0-9]_*.py"))]
ABSOLUTE = re.compile(r"(?:/(?:home|root|tmp|usr|opt|var|mnt|work|private|Users)/|[A-Z]:\\)\w")
every_notebook = pytest.mark.parametrize("name", NAMES)


def load_runner():
    """`notebooks/execute.py`, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("execute_notebooks", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kept(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def texts(output):
    """Everything in an output that can be read."""
    if output.output_type == "stream":
        return [output.text]
    return [value for kind, value in output.data.items() if kind.startswith("text/")]


def check_clean(notebook):
    """Every code cell ran, and none says something of errors, warnings or the machine."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    for output in (output for cell in cells for output in cell.outputs):
        assert output.output_type != "error" and output.get("name") != "stderr", output
        for text in texts(output):
            assert not ABSOLUTE.search(text) and "Warning" not in text and " at 0x" not in text, text


def test_all_eight_are_there():
    assert [name[0] for name in NAMES] == list("01234567")
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@every_notebook
def test_both_halves_hold_the_same_cells(name):
    script = jupytext.read(FOLDER / f"{name}.py")
    assert [(c.cell_type, c.source) for c in script.cells] == [(c.cell_type, c.source) for c in kept(name).cells]


@every_notebook
def test_outputs_are_kept_and_clean(name):
    notebook = kept(name)
    check_clean(notebook)
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert pictures and (FOLDER / f"{name}.ipynb").stat().st_size < 1_500_000
    assert notebook.metadata == load_runner().METADATA
    assert not any("execution" in cell.metadata for cell in notebook.cells)  # when it ran


@every_notebook
def test_ends_with_where_to_go_next_and_links_lead_somewhere(name):
    cells = kept(name).cells
    assert cells[0].source.startswith(f"# {name[0]}. ") and "**Next:**" in cells[-1].source
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for target in re.findall(r"\]\(([\w.]+)\)", text):
        assert (FOLDER / target).exists(), target
    for target in re.findall(r"`((?:docs|tests)/[\w/]+\.\w+|[A-Z]+\.md)`", text):
        assert (FOLDER.parent / target).exists(), target


@pytest.mark.filterwarnings("default")  # of the kernel's client in this process; those of a notebook are in its outputs
@every_notebook
def test_runs_from_top_to_bottom(name, monkeypatch):
    if name == "7_hugging_face":
        pytest.importorskip("transformers")
    monkeypatch.setenv("TOKRED_QUICK", "1")  # a few steps of training
    check_clean(load_runner().execute(FOLDER / f"{name}.py"))
