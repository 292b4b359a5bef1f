"""Run notebooks from their .py halves and keep the outputs in the .ipynb: python notebooks/execute.py [0_idea ...]."""

import os
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
METADATA = {
    "jupytext": {"formats": "ipynb,py:percent"},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def sources() -> list[Path]:
    """The .py halves, in the order in which they are read."""
    return sorted(FOLDER.glob("[0-9]_*.py"))


def execute(source: Path) -> nbformat.NotebookNode:
    """The notebook of a .py half with its outputs; nothing in it names the machine or the hour."""
    notebook = jupytext.read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"{number:02d}"
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        extra_arguments=["--log-level=ERROR"],
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    client.execute(env={**os.environ, "PYTHONWARNINGS": "ignore:IProgress"})  # tqdm asks for ipywidgets: no bars here
    notebook.metadata = nbformat.from_dict(METADATA)
    return notebook


def main(names: list[str]) -> None:
    for source in sources():
        if names and source.stem not in names:
            continue
        start = time.perf_counter()
        nbformat.write(execute(source), source.with_suffix(".ipynb"))
        print(f"{source.stem}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
