"""The site builds without a warning, and holds every page, every public name and every method."""

import os
import re
import subprocess
import sys
import zlib
from importlib import import_module
from pathlib import Path

import pytest

import tokred_sci
from tokred_sci.experiment import LEARNED, REDUCTIONS

DOCS = Path(tokred_sci.__file__).parents[1] / "docs"
FACES = ("tokred_sci", "tokred_sci.datasets", "tokred_sci.tokenizers", "tokred_sci.plotting")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for package in ("sphinx", "myst_nb", "furo"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-d",
        folder / "trees",
        DOCS,
        folder / "html",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-4_000:]
    return folder / "html"


@pytest.fixture(scope="module")
def objects(site):
    """Full names of all that has an entry."""
    packed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(packed).decode().splitlines()
    return {line.split()[0] for line in lines if re.match(r"\S+ py:", line)}


def test_every_page_is_reached_from_the_index(site):
    linked = set(re.findall(r'href="([\w/-]+)\.html', (site / "index.html").read_text()))
    pages = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.rglob("*.md")}
    assert {page for page in pages if not page.startswith("_")} - {"index"} <= linked


@pytest.mark.parametrize("face", FACES)
def test_every_public_name_has_an_entry(objects, face):
    last = {name.rpartition(".")[2] for name in objects}
    assert set(import_module(face).__all__) <= last


@pytest.mark.parametrize("name", [*REDUCTIONS, *LEARNED])
def test_every_method_has_a_section_and_a_picture(site, name):
    page = (site / "methods.html").read_text()
    section = page[page.index(f'<section id="{name}">') :].split("</section>")[0]
    picture = re.search(r'<img [^>]*src="(_images/[^"]+)"', section)[1]
    assert (site / picture).stat().st_size > 5_000
    assert re.search(r'href="rooms/\w+\.html#tokred_sci\.', section)
    assert "Reach: " in section
    assert "Cost: O(" in section
