"""The Python examples of two pages run, one after the other as in a notebook, and print what the pages say."""

import contextlib
import io
import re
import tempfile
import warnings
from pathlib import Path

import pytest

import tokred_sci

DOCS = Path(tokred_sci.__file__).parents[1] / "docs"
ROOMS = sorted(path.stem for path in (DOCS / "rooms").glob("*.md"))
PAGES = (
    "formats.md",
    "scale.md",
    "sklearn.md",
    "interop.md",
    "huggingface.md",
    "quickstart.md",
    "concept.md",
    *(f"rooms/{room}.md" for room in ROOMS),
)
PACKAGES = (
    "laspy",
    "h5py",
    "pandas",
    "pyarrow",
    "edfio",
    "wfdb",
    "xarray",
    "distributed",
    "transformers",
    "torch_geometric",
    "anndata",
    "onnxruntime",
    "onnxscript",
)


def examples(page):
    return re.findall(r"```python\n(.*?)```\n```\n(.*?)```", (DOCS / page).read_text(), re.S)


@pytest.mark.parametrize("page", PAGES)
def test_examples_print_what_is_shown(page, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 warns when it meets pandas 3
        for package in PACKAGES:
            pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = {"__name__": "__main__"}
    for code, shown in examples(page):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert printed.getvalue() == shown, code


def test_examples_were_found():
    for page in PAGES:
        assert len(examples(page)) == (DOCS / page).read_text().count("```python\n") > 0
