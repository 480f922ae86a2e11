# Everything runs inside .venv, which the first target makes from the lock files.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow crash-matrix lint bench figures lock clean

$(VENV)/.runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	touch $@

## Build a small corpus that clipmill synthesises itself, into ./demo
demo: $(VENV)/.runtime
	$(BIN)/clipmill demo

## All tests but the slow ones
test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

## Kill builds wherever it could hurt and compare what becomes of them (half an hour)
crash-matrix: $(VENV)/.dev
	$(BIN)/python tests/crash_matrix.py --full

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## clipmill beside the kernels alone, datasets, lhotse, and pydub + librosa
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench

## Measure what else the README and docs/performance.md say (an hour)
figures: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench --hours 10 --only none
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.changes
	$(BIN)/python -m benchmarks.sparse
	$(BIN)/python -m benchmarks.images --rounds 5
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.rebuild
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.loaders --hours 10 --rounds 2

## Resolve the dependencies anew (needs uv)
lock:
	uv pip compile -q --upgrade --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml -o requirements.lock
	uv pip compile -q --python-version 3.11 --generate-hashes --no-header --no-annotate --group pyproject.toml:dev pyproject.toml -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf $(VENV) demo build *.egg-info
