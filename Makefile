# Two commands for a fresh machine: `make demo` and `make test`. Everything goes into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test docs lint types coverage clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo      compare real digits with real and with generated digits, write HTML reports"
	@echo "make test      run the whole test suite"
	@echo "make docs      build docs/_build/html, its gallery included; warnings are errors"
	@echo "make lint      ruff: rules and formatting;  make types: mypy in strict mode"
	@echo "make coverage  the suite again, with the share of lines it runs"
	@echo "make clean     remove $(VENV) and caches"

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "probmetrics needs Python 3.11 or newer; '$(PYTHON)' was not found (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "probmetrics needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version` (set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) lacks the venv module; install it (on Debian: apt install python3-venv)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]' || { \
	  echo "The installation failed: pip needs a reachable package index (see its message above)"; exit 1; }
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/probmetrics demo --out demo-report

test: $(STAMP)
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile

$(VENV)/.docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev,docs]'
	@touch $@

docs: $(VENV)/.docs
	@$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs docs/_build/html
	@echo "The documentation is in docs/_build/html/index.html"

lint: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(STAMP)
	@$(BIN)/mypy

coverage: $(STAMP)
	@$(BIN)/python -m pytest --cov --cov-report=term-missing:skip-covered --cov-fail-under=95

clean:
	rm -rf $(VENV) build dist docs/_build docs/api docs/auto_gallery docs/benchmarks docs/pictures *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage

# The peers live in an environment of their own.
BENCH ?=
.venv-bench/.installed: benchmarks/requirements.txt constraints.txt pyproject.toml
	@test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --requirement benchmarks/requirements.txt --editable .
	@# its dependency torchvision has no build beside this torch (benchmarks/stand_in.py)
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check \
	  --no-deps torch-fidelity==0.4.0
	@touch $@

.PHONY: bench
bench: .venv-bench/.installed
	@.venv-bench/bin/python benchmarks/ceilings.py --only "$(BENCH)"
	@.venv-bench/bin/python benchmarks/speed.py --only "$(BENCH)"
	@.venv-bench/bin/python benchmarks/estimators.py --only "$(BENCH)"
	@.venv-bench/bin/python benchmarks/transport.py --only "$(BENCH)"
	@.venv-bench/bin/python benchmarks/tests_speed.py --only "$(BENCH)"
	@.venv-bench/bin/python benchmarks/metrics.py --only "$(BENCH)"
	@.venv-bench/bin/python benchmarks/curves.py --only "$(BENCH)"
	@.venv-bench/bin/python benchmarks/pages.py
