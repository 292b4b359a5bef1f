# Needs Python >= 3.11 and make. `make demo` and `make test` set everything up in .venv first.
PYTHON ?= python3
BIN := .venv/bin
# once more with every shape annotation enforced, which tracing cannot follow; refusals hand in wrong shapes on purpose,
# and measures of plain numbers are left out: to Python a whole number is a float, to the checker it is not
SHAPED := tests/reduction tests/models tests/training tests/stability tests/test_experiment.py \
	--ignore=tests/reduction/test_cases.py --ignore=tests/reduction/test_trace.py \
	--ignore=tests/stability/test_corruption.py --ignore=tests/stability/test_statistics.py \
	--ignore=tests/stability/test_training.py --ignore=tests/stability/test_tasks_public.py \
	--ignore=tests/stability/test_benchmark.py

.PHONY: demo test lint docs reliability clean

demo: .venv/ready
	$(BIN)/tokred demo

test: lint
	$(BIN)/pytest
	$(BIN)/pytest -k "not refused" --jaxtyping-packages=tokred_sci,beartype.beartype $(SHAPED)

docs: .venv/ready
	$(BIN)/sphinx-build -W -b html docs docs/_build

reliability: .venv/ready
	$(BIN)/python scripts/reliability.py
	$(BIN)/python scripts/reliability_training.py --kills 50 --into docs/reliability.md

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --progress-bar on -e ".[dev]" -c constraints.txt
	touch $@

clean:
	rm -rf .venv
