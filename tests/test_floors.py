"""The structure of the house, as tests: floors, light imports, no shadows."""

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

import tokred_sci

ROOT = Path(tokred_sci.__file__).parents[1]


def test_a_room_imports_only_from_floors_below():
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), cache_dir=None, no_cache=True) == 0


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def test_importing_the_package_imports_nothing_heavy():
    loaded = json.loads(fresh("import sys, json, tokred_sci; print(json.dumps(sorted(sys.modules)))"))
    assert "torch" not in loaded
    assert "numpy" not in loaded


def test_heavy_libraries_are_imported_where_they_are_used():
    face = "; ".join(f"tokred_sci.{name}" for name in tokred_sci.__all__)
    use = "tokred_sci.DNATokenizer()('ACGT')"
    code = f"import sys, json, torch, tokred_sci; {face}; {use}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(fresh(code)))
    assert loaded.isdisjoint(
        {"torch_geometric", "sklearn", "scipy", "zarr", "matplotlib", "transformers", "tokenizers"}
    )
    assert "tokred_sci.experiment" in loaded


@pytest.mark.parametrize("name", ["datasets", "tokenizers", "models"])
def test_no_folder_of_ours_shadows_a_top_level_package(name):
    spec = find_spec(name)
    assert not (ROOT / name).exists()
    assert spec is None or Path(spec.origin or "/").parent not in (ROOT / name, ROOT / "tests" / name)


def test_every_public_name_is_there_and_nothing_else():
    for name in tokred_sci.__all__:
        assert getattr(tokred_sci, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'merg'"):
        _ = tokred_sci.merg


def test_every_public_name_is_documented():
    for name in tokred_sci.__all__:
        assert getattr(tokred_sci, name).__doc__, name


def test_experiment_lists_every_grouping_function():
    experiment = importlib.import_module("tokred_sci.experiment")
    rooms = pkgutil.iter_modules(importlib.import_module("tokred_sci.reduction").__path__, "tokred_sci.reduction.")
    functions = {
        function
        for room in rooms
        for function in vars(importlib.import_module(room.name)).values()
        if inspect.isfunction(function)
        and [*inspect.signature(function).parameters][:3] == ["metric", "tokens", "keep"]
    }
    assert functions == set(experiment.REDUCTIONS.values())
