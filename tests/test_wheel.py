"""What is shipped: the wheel's content, and public names that are documented and typed.

Installing it into an empty environment and running the demo there is `scripts/check_wheel.py`: minutes, not seconds.
"""

import importlib
import inspect
import re
import subprocess
import sys
import tarfile
from email import message_from_bytes
from pathlib import Path, PurePosixPath
from zipfile import ZipFile

import pytest

import tokred_sci

ROOT = Path(tokred_sci.__file__).parents[1]
ROOMS = ("tokred_sci", "tokred_sci.datasets", "tokred_sci.tokenizers", "tokred_sci.plotting")
CACHES = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"}


def build(source, kind, folder):
    """A distribution, built without the network."""
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    with ZipFile(build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The source distribution, unpacked."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    return source


def metadata(wheel):
    (name,) = (name for name in wheel if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel[name])


def test_the_wheel_holds_the_package_as_it_is_here_and_nothing_else(wheel):
    package = ROOT / "tokred_sci"
    here = {path.relative_to(ROOT).as_posix() for path in package.rglob("*") if path.is_file()}
    here = {name for name in here if not CACHES & set(PurePosixPath(name).parts)}
    assert {name for name in wheel if ".dist-info/" not in name} == here
    assert all(wheel[name] == (ROOT / name).read_bytes() for name in here)
    assert "tokred_sci/py.typed" in here and "tokred_sci/datasets/samples/README.md" in here


def test_every_folder_of_code_is_a_package(wheel):
    code = {PurePosixPath(name).parent for name in wheel if name.endswith(".py")}
    assert all(f"{folder}/__init__.py" in wheel for folder in code)


def test_the_wheel_says_what_it_is(wheel):
    told = metadata(wheel)
    assert (told["Name"], told["Version"]) == ("tokred-sci", tokred_sci.__version__)
    assert told["License-Expression"] == "Apache-2.0" and told["Requires-Python"] == ">=3.11"
    assert any(name.endswith("/licenses/LICENSE") for name in wheel)
    (scripts,) = (text for name, text in wheel.items() if name.endswith("/entry_points.txt"))
    assert b"tokred = tokred_sci.cli:main" in scripts


def test_the_wheel_needs_nothing_that_only_developers_have(wheel):
    needed = [line for line in metadata(wheel).get_all("Requires-Dist") if "extra ==" not in line]
    names = {re.match(r"[\w.-]+", line)[0] for line in needed}
    assert names.isdisjoint({"pytest", "ruff", "mypy", "hypothesis", "sphinx"}) and {"torch", "numpy"} <= names


def test_the_source_distribution_builds_the_same_wheel(sdist, wheel, tmp_path):
    with ZipFile(build(sdist, "wheel", tmp_path / "again")) as archive:
        again = {name: archive.read(name) for name in archive.namelist()}
    assert again.keys() == wheel.keys()
    assert [name for name in wheel if wheel[name] != again[name]] == []


def test_the_source_distribution_has_tests_and_no_caches(sdist):
    inside = {path.relative_to(sdist).as_posix() for path in sdist.rglob("*")}
    assert {"LICENSE", "README.md", "pyproject.toml", "constraints.txt", "tests/test_wheel.py"} <= inside
    assert not any(CACHES & set(PurePosixPath(name).parts) for name in inside)


def shown():
    """(module, name) of everything that examples of README and docs import."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.S):
            for module, many, few in re.findall(r"^from (tokred_sci[\w.]*) import (?:\(([^)]*)\)|(.*))$", block, re.M):
                for name in re.split(r",\s*", (many or few.partition("#")[0]).strip().rstrip(",")):
                    yield module, name.partition(" as ")[0].strip()


def public():
    """Public names, as docs/deprecation.md has them, each once, with what it stands for."""
    rooms = {(room, name) for room in ROOMS for name in importlib.import_module(room).__all__}
    errors = {("tokred_sci.errors", name) for name in vars(tokred_sci.errors) if name[0].isupper() and name != "Any"}
    found = {}
    for module, name in sorted(rooms | errors | set(shown())):
        home = importlib.import_module(module)
        value = getattr(home, name) if hasattr(home, name) else importlib.import_module(f"{module}.{name}")
        found.setdefault(id(value), (f"{module}.{name}", value))
    return list(found.values())


PUBLIC = [pytest.param(value, id=name) for name, value in public()]


def test_public_names_were_found():
    names = {param.id for param in PUBLIC}
    assert len(names) > 40 and "tokred_sci.Tokens" in names and "tokred_sci.errors.StoreError" in names


@pytest.mark.parametrize("value", PUBLIC)
def test_a_public_name_is_documented(value):
    if inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value):
        assert inspect.getdoc(value)
        assert not inspect.isclass(value) or value.__doc__.split("(")[0] != value.__name__, "a dataclass's own"


def bare(function):
    """Parameters without a type, and "return" where that is missing."""
    signature = inspect.signature(function)
    named = [p for name, p in signature.parameters.items() if name not in ("self", "cls")]
    missing = [p.name for p in named if p.annotation is p.empty]
    return missing + ["return"] * (signature.return_annotation is signature.empty and function.__name__ != "__init__")


def functions(value):
    """A function itself; of a class those of its own that are public, and how it is made."""
    if not inspect.isclass(value):
        return [value] if inspect.isfunction(value) else []
    own = [inspect.unwrap(getattr(value, name)) for name in vars(value) if name == "__init__" or name[0] != "_"]
    return [f for f in own if inspect.isroutine(f) and (f.__module__ or "").startswith("tokred_sci")]


@pytest.mark.parametrize("value", PUBLIC)
def test_a_public_name_is_typed(value):
    made = {"__init__"} if hasattr(value, "__dataclass_fields__") else set()  # written by dataclass, from its fields
    assert {f.__name__: bare(f) for f in functions(value) if f.__name__ not in made and bare(f)} == {}
