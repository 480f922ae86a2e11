# Everything runs inside .venv, which the first target creates from the lock files.
#
#   PYTHON=/path/to/python3.13   the Python to create it with; by default the first supported one that is found
#   VENV=FOLDER                  another folder for it
#   TORCH=cpu                    PyTorch without CUDA, from PyTorch's own index (docs/installing.md)
VENV := .venv
BIN := $(VENV)/bin
PYTHONS := python3.11 python3.12 python3.13
CHECK := clipmill/python_version.py
ifeq ($(origin PYTHON),undefined)
PYTHON = $(shell for name in $(BIN)/python $(PYTHONS) python3; do $$name $(CHECK) > /dev/null 2>&1 && echo $$name && break; done)
endif

INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
TORCH_INDEX := https://download.pytorch.org/whl/cpu
ifeq ($(TORCH),cpu)
# This torch does not need CUDA libraries, so those in the lock are left out. --no-deps keeps pip from adding them again.
NOT_FOR_CPU := ^(torch|torchaudio|triton|nvidia-.*|cuda-.*)==
define install
! grep -q '^torch==' $(1) || $(INSTALL) --no-deps --index-url $(TORCH_INDEX) $$(sed -nE 's/^(torch(audio)?==[^ ]+).*/\1/p' $(1))
awk '/^[^ ]/ {keep = $$0 !~ /$(NOT_FOR_CPU)/} keep' $(1) > $(VENV)/$(1)
$(INSTALL) --no-deps --require-hashes -r $(VENV)/$(1)
endef
else
install = $(INSTALL) --require-hashes -r $(1)
endif

.PHONY: demo test test-python test-slow crash-matrix lint bench figures image-libraries image lock wheels clean python

## Refuse a Python that clipmill does not support, or that is not the one that .venv was created with
python:
	@command -v "$(PYTHON)" > /dev/null || { echo "error: $(if $(PYTHON),there is no $(PYTHON),there is none of $(PYTHONS)); name a Python with PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" $(CHECK) $(VENV)

$(VENV)/.runtime: requirements.lock pyproject.toml | python
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(call install,requirements.lock)
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.lock
	$(call install,requirements-dev.lock)
	touch $@

## Build a dataset in ./demo from a small corpus that clipmill synthesises itself
demo: $(VENV)/.runtime
	$(BIN)/clipmill demo

## Run all tests except the slow ones
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --dist loadfile

## Run the tests of everything that depends on the Python version, for versions other than the one that all tests run on
PYTHON_TESTS := python config golden_keys plan plan_scale decode containers readers segment downmix features images build rebuild readback cli \
	no_traceback exports training sandbox current_folder units
test-python: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTHON_TESTS:%=tests/test_%.py)

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

## Kill builds at every point where it could do harm, and compare the results (half an hour)
crash-matrix: $(VENV)/.dev
	$(BIN)/python tests/crash_matrix.py --full

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

## Compare clipmill with the kernels alone, datasets, lhotse, and pydub + librosa
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench

## Measure the other figures in the README and docs/performance.md (an hour)
figures: $(VENV)/.dev
	$(BIN)/python -m benchmarks.bench --hours 10 --only none
	$(BIN)/python -m benchmarks.stages
	$(BIN)/python -m benchmarks.signals
	$(BIN)/python -m benchmarks.changes
	$(BIN)/python -m benchmarks.sparse
	$(BIN)/python -m benchmarks.images --rounds 5
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.plan
	$(BIN)/python -m benchmarks.rebuild
	$(BIN)/python -m benchmarks.agreement
	$(BIN)/python -m benchmarks.loaders --hours 10 --rounds 2

## Install what an image needs into VENV (see Dockerfile): the libraries, and those of Ray's job server and cluster
image-libraries: requirements.lock requirements-cluster.lock | python
	"$(PYTHON)" -m venv $(VENV)
	$(call install,requirements.lock)
	$(call install,requirements-cluster.lock)

## Install clipmill itself there, as a copy, and remove what only installing needs
image: pyproject.toml
	$(INSTALL) --no-deps --no-build-isolation .
	$(BIN)/pip uninstall --quiet --yes pip

## Resolve the dependencies again, for all supported Pythons at once (needs uv). UPGRADE= keeps the locked versions
UPGRADE := --upgrade
COMPILE := uv pip compile --quiet --no-header --no-annotate
RESOLVE := $(COMPILE) --universal --python-version 3.11 --generate-hashes $(UPGRADE)
lock:
	$(RESOLVE) pyproject.toml -o requirements.lock
	$(RESOLVE) pyproject.toml --all-extras --group pyproject.toml:dev -c requirements.lock -o requirements-dev.lock
	$(RESOLVE) requirements-cluster.in -c requirements.lock -o requirements-cluster.lock
	$(MAKE) wheels

# The only package in the locks without a wheel. It is pure Python.
SDISTS := jsonpath-rw

## Check that each locked package has a wheel for each supported Python (needs uv)
wheels:
	for lock in requirements.lock requirements-dev.lock requirements-cluster.lock; do \
	for version in $(PYTHONS:python%=%); do for machine in x86_64 aarch64; do \
	  $(COMPILE) --python-version $$version --python-platform $$machine-manylinux_2_28 --no-deps --only-binary :all: --no-binary $(SDISTS) \
	    $$lock > /dev/null || { echo "error: $$lock: not all wheels are there for Python $$version on $$machine" >&2; exit 1; }; \
	done; done; done

clean:
	rm -rf $(VENV) demo build *.egg-info
