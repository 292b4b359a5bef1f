"""The site: `sphinx-build -W -b html docs docs/_build`. The gallery is drawn, and notebooks are copied, on the way."""

import re
import shutil
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import gallery  # noqa: E402

import tokred_sci  # noqa: E402

project = "tokred_sci"
author = "The tokred_sci authors"
copyright = "The tokred_sci authors, Apache-2.0"
version = release = tokred_sci.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb"]
exclude_patterns = ["_build", "_generated", "jupyter_execute"]  # the last is where myst-nb puts copies
myst_enable_extensions = ["attrs_block", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are kept with their outputs

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = [("Call it with", "params_style")]

html_theme = "furo"
html_title = "tokred_sci"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False

PART = re.compile(r"^(\s*)(Laws?|Facts|References?|Layout[^:\n]*): ?", re.M)
CODE = re.compile(r"(``[^`]+``|`[^`]+`)")
NAMED = re.compile(r"^( *\*{0,2}\w[\w, *]*: )", re.M)  # arguments: napoleon knows what to do with their names


def as_restructured(text: str) -> str:
    """Plain text with backticks, as docstrings are written, in the markup that Sphinx reads."""
    text = PART.sub(r"\n\1**\2.** ", text) if PART.search(text) else text
    pieces = CODE.split(text)
    for i, piece in enumerate(pieces):
        if i % 2:
            after = pieces[i + 1][:1]
            pieces[i] = f"``{piece.strip('`')}``" + ("\\ " if after.isalnum() else "")
        else:
            pieces[i] = escape(piece)
    return "".join(pieces)


def escape(text: str) -> str:
    """No accidental emphasis, substitution or link."""
    names = NAMED.split(text)
    for i in range(0, len(names), 2):
        plain = re.sub(r"(?<!\*)\*(?!\*)|\|", r"\\\g<0>", names[i])
        names[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", plain)
    return "".join(names)


def read_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Examples stay as they are. Of an attribute napoleon would take what is before a colon as its type."""
    if what in ("property", "attribute", "data") and lines:
        lines[0] = lines[0].replace(": ", " \u2013 ")
    blocks = re.split(r"(^ *>>>.*?(?:\n\s*\n|\Z))", "\n".join(lines), flags=re.M | re.S)
    lines[:] = "".join(part if i % 2 else as_restructured(part) for i, part in enumerate(blocks)).split("\n")


def copy_notebooks(folder: Path) -> None:
    """Notebooks with their outputs, from where people open them."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        shutil.copy(path, folder)


def skip_absent(app: Any, docname: str, source: list[str]) -> None:
    """No entry in a table of contents for pages that are not there yet."""
    for entry in ("stability", "long", "deprecation", "_notebooks/*"):
        if not any(HERE.glob(f"{entry}.*")):
            source[0] = source[0].replace(f"\n{entry}\n", "\n")


def skip_alias(app: Any, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples: the docstring of the tuple says what they are."""
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def prepare(app: Any) -> None:
    copy_notebooks(HERE / "_notebooks")
    gallery.write(HERE / "_generated")


def setup(app: Any) -> None:
    app.connect("builder-inited", prepare)
    app.connect("source-read", skip_absent)
    app.connect("autodoc-skip-member", skip_alias)
    app.connect("autodoc-process-docstring", read_docstring, priority=400)  # before napoleon
