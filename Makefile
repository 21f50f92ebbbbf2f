# `make quickstart` trains and scores a first model; `make test` checks everything. Both set themselves up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TESTS ?= tests
QUICKSTART := runs/quickstart

# Waiting threads sleep instead of spinning: where other programs share the cores, training is ten times faster so.
export OMP_WAIT_POLICY ?= passive

# One thread per process: the tests run side by side, and small models are fastest so. Bytecode is kept, also where the
# environment says otherwise: pytest takes many seconds in each of its processes to rewrite all asserts anew.
TEST_ENV := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

.DEFAULT_GOAL := help
.PHONY: help quickstart install install-dev test lint format docs wheel embedded clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

quickstart: install ## train 3 minutes on the embedded molecules, score, sample and draw
	rm -rf $(QUICKSTART)
	$(BIN)/unite-mm train --modality qm9 --data embedded --max-time 3m --out $(QUICKSTART)
	$(BIN)/unite-mm evaluate $(QUICKSTART) --samples 1000
	$(BIN)/unite-mm sample $(QUICKSTART) -n 1000 -o $(QUICKSTART)/molecules.sdf --picture $(QUICKSTART)/molecules.png
	@printf '%s\n' "" "Left in $(QUICKSTART):" \
		"  evaluation/report.html     all of it, for a browser" "  evaluation/metrics.json    the scores above" \
		"  evaluation/*.png           held-out molecules beside their reconstructions, and generated ones" \
		"  molecules.sdf, .png        1,000 generated molecules, and a picture of some"

install: $(VENV)/.installed ## set up $(VENV) with what users get

install-dev: $(VENV)/.installed-dev ## set up $(VENV) with the development tools as well

# The stamps make this a no-op until the project's metadata or the pinned versions change.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,eval,features,hub,parquet,qm9]'
	@touch $@ $(VENV)/.installed

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "unite-mm needs Python 3.11 or newer, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1);" \
		       "name another one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

test: lint ## lint, type check and run every test
	$(TEST_ENV) $(BIN)/python -m pytest -n 2 --dist worksteal -q $(TESTS)

lint: install-dev ## ruff, ruff format and a strict type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install-dev ## let ruff format, and fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install-dev ## build the documentation site into site/, strictly and without a network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

wheel: install-dev ## build source archive and wheel into dist/
	$(BIN)/python -m build --outdir dist .

embedded: install-dev ## make the embedded molecules again (a few minutes; the result is committed)
	$(BIN)/python scripts/make_embedded.py

clean: ## remove builds and caches; runs and the virtual environment stay
	rm -rf build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find schemas unite_mm plugins tests scripts benchmarks -name __pycache__ -prune -exec rm -rf {} +
