.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-all test-versions check bench gpu docs docs-serve browser figures clean
PYTHON ?= python3
BIN := .venv/bin

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: .venv/installed  ## See in a minute which networks still learn after thirty tasks in a row
	$(BIN)/python -m funcbio demo

check: .venv/installed  ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

test: check  ## Lint, types, and the quick tests: ten minutes
	$(BIN)/python -m pytest --numprocesses 2

test-slow: .venv/installed  ## Only the slow ones: an hour
	$(BIN)/python -m pytest --numprocesses 2 -m slow

test-all:  ## The quick ones, and if they pass the slow ones
	$(MAKE) test
	$(MAKE) test-slow

test-versions: .venv/installed  ## The quick ones with the oldest, the tested and the newest torch: 3 environments, one after another
	$(PYTHON) tests/versions.py $(ARGS)
	$(BIN)/python -m pytest tests/test_versions.py

bench: .venv/installed  ## Steps and sweeps against release 0.0.5, a classic loop and JAX: an hour on a quiet machine; ARGS=--quick, minutes
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python benchmarks/steps.py $(ARGS)
	$(BIN)/python benchmarks/small.py
	$(BIN)/python benchmarks/sweep.py $(ARGS)

.venvs/gpu/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venvs/gpu
	.venvs/gpu/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	.venvs/gpu/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

gpu: .venvs/gpu/installed  ## On a CUDA GPU: its tests, the steps and the sweeps, into results/gpu.json; TORCH_INDEX=... names another build of torch
	.venvs/gpu/bin/python benchmarks/gpu.py $(ARGS)

.venv/docs: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $@

docs: .venv/docs  ## The site, in site/; every warning is an error, links and anchors are checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

docs-serve: .venv/docs  ## The site on this machine, rebuilt at every change
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

.venv/browser: .venv/docs
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[browser]'
	@touch $@

browser: .venv/browser  ## Install what tests the site in the system's chromium, and test it
	FUNCBIO_BROWSER=1 $(BIN)/python -m pytest --numprocesses 2 tests/docs/test_site.py tests/docs/test_browser.py

figures: .venv/installed  ## Draw the figures of the documents and run their notebooks anew: some ten minutes
	$(BIN)/python docs/figures.py
	MPLBACKEND=agg $(BIN)/python docs/notebooks.py

clean:  ## Remove the environment and caches
	rm -rf .venv .venvs .pytest_cache .ruff_cache .hypothesis results site
