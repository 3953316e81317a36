PYTHON ?= python3
BENCH = .venv/bin/bench
PYTEST = .venv/bin/python -m pytest

.PHONY: run test test-all test-here test-slurm lint clean

run: .venv/installed
	$(BENCH) run --method raft --seeds 5 $(ARGS)

test: lint
	$(PYTEST) -n 2 -m "not slow and not slurm"

test-all: lint
	$(MAKE) --jobs 2 test-here test-slurm  # the latter mostly wait; their dots mix

test-here:
	$(PYTEST) -n 2 -m "not slurm"

test-slurm:
	$(PYTEST) -n 2 --dist loadfile -m slurm  # a cluster a file

lint: .venv/installed-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml
	.venv/bin/pip install --quiet --editable .
	touch $@

.venv/installed-dev: .venv/bin/python pyproject.toml
	.venv/bin/pip install --quiet --editable '.[dev]'
	touch $@
