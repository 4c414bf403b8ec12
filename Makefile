# Each target makes the virtual environment it needs; nothing has to be installed by hand.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := store engine seedconv_tui tests benchmarks docs examples

# What is imported is compiled once, as for every user, and not by each of some hundred processes.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo reproduce test check lint docs ci compat package soak bench gpu picture clean

demo: $(VENV)/engine
	$(BIN)/seedconv demo $(ARGS)

# What the paper found, at small scale: two sizes x 4 seeds, some six minutes of two cores.
reproduce: $(VENV)/engine
	$(BIN)/python -m seedconv_tui.demo.reproduce $(ARGS)

# A few files of tests at once, each on one core, and one more, as some wait for another process or
# for the disk; in their order, as short ones come last in it.
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
SPREAD := --numprocesses=$(shell echo $$(($(CORES) + 1))) --maxprocesses=4 --dist=loadfile --no-loadscope-reorder
test check: export OMP_NUM_THREADS := 1

# In memory, where 8 GB of it are free: most of what a test waits for is the disk. `check` has a disk.
test: export PYTEST_DEBUG_TEMPROOT ?= $(shell \
	[ "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $$4 }')" -gt 8000000 ] 2>/dev/null \
	&& echo /dev/shm)
test: $(VENV)/dev
	$(BIN)/python -m pytest $(SPREAD) -m "not long" $(ARGS)

COVERED := --cov --cov-report=term:skip-covered --cov-fail-under=85

check: lint package
	$(BIN)/python -m pytest $(SPREAD) $(COVERED)

lint: docs
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m benchmarks.pages --check
	$(BIN)/python docs/reference.py --check
	$(BIN)/python docs/prose.py README.md CHANGELOG.md CONTRIBUTING.md docs/*.md docs/picture.py \
		docs/animation.py store engine seedconv_tui benchmarks examples

# The documentation as a site, in build/site; what is wrong with a page or a link ends it.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(VENV)/dev
	$(BIN)/mkdocs build --strict  # with --quiet, no warning would fail

# On every change, within a quarter of an hour: without coverage and without the longest attacks,
# which `make check` has.
ci: test lint

# Tests with the lowest and the newest packages allowed, on each Python: some GB, half an hour.
# ARGS="viewer-3.11-lowest" for one of them.
compat: $(VENV)/dev
	$(BIN)/python -m tests.compat $(ARGS)

# What would be published, built from the files in git and held against what indexes ask for.
package: $(VENV)/dev
	rm -rf dist build
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

# Some minutes under fire, and the same in peace; ARGS="--seconds 600 --random-seed 7".
soak: $(VENV)/dev
	$(BIN)/python -m tests.soak $(ARGS)

bench: $(VENV)/dev
	$(BIN)/python -m benchmarks $(ARGS)

# On a machine with a GPU, with the packages that are there: OUT=results make gpu. No network.
gpu:
	$(or $(wildcard $(BIN)/python),$(PYTHON)) -m benchmarks.gpu $(ARGS)

picture: $(VENV)/dev
	$(BIN)/python docs/picture.py seedconv-demo/study.zarr docs
	$(BIN)/python docs/animation.py docs

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage

# Without `ensurepip`, which Debian packs apart, `venv` leaves half an environment behind.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON): Python 3.11 or newer is needed. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null || { \
		echo "$(PYTHON): has no ensurepip. Install it (Debian, Ubuntu: apt install python3-venv), or" \
			"name another Python: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# One file marks each finished installation, so that a broken one is done again.
$(VENV)/engine: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[engine]'
	touch $@

$(VENV)/dev: $(VENV)/engine
	$(PIP) --editable '.[analysis,datasets,engine,metrics,ray,remote,report,tensorboard,web,xarray]' \
		accelerate build check-wheel-contents flask flask-cors import-linter latex2mathml \
		mkdocs-material mypy 'moto[s3]' pandas py-spy pyte pytest pytest-asyncio pytest-cov \
		pytest-xdist ruff tensorboard tensorstore twine uv
	touch $@
