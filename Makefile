# `make` lists what there is. Everything runs in .venv, which the first target that needs it makes.
PYTHON ?= python3
EXTRAS ?= dev
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := help
.PHONY: help install demo test lint check golden bench soak clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# A stamp per set of extras: a second run installs nothing unless pyproject.toml changed.
.venv/.installed: pyproject.toml
	@echo "Installing cnn into .venv; torch is large, so this takes a few minutes the first time."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.installed-$(EXTRAS): pyproject.toml | .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(EXTRAS)]'
	@touch $@

install: .venv/.installed ## make .venv and install cnn into it

demo: .venv/.installed ## train a digit classifier, evaluate it, show what it does (output in demo/)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/demo.sh demo

test: .venv/.installed-$(EXTRAS) ## run every test (installs what tests need)
	$(PYTEST) -n auto

lint: .venv/.installed-$(EXTRAS) ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

check: lint ## lint, fast tests, README commands
	$(PYTEST) -n auto -q -m "not slow and not browser and not gpu"
	$(PYTEST) -q tests/test_readme.py

golden: .venv/.installed-$(EXTRAS) ## rewrite the expected outputs in tests/golden (read the diff before you commit it)
	CNNCLI_WRITE_GOLDEN=1 $(PYTEST) -q -k golden

bench: .venv/.installed-$(EXTRAS) ## print the benchmark tables (minutes; not part of the tests)
	@for benchmark in tests/benchmarks/bench_*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark || exit 1; done

soak: .venv/.installed-$(EXTRAS) ## kill training at random moments, again and again, and check what is left
	$(BIN)/python tests/benchmarks/soak_kill.py

clean: ## remove caches and what the demo wrote (keeps .venv and runs/)
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find cnncli tests -name __pycache__ -type d -prune -exec rm -rf {} +
