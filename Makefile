# Everything runs from a virtual environment in .venv, with the packages of requirements/dev.txt, whose files are
# checked against their hashes. That file is made by the command at its top, requirements/lock.txt has the versions.
PYTHON ?= python3
BIN := .venv/bin
WORKDIR ?= runs/avoiding_bmd

.PHONY: train smoke test test-all lint check audit bench docs clean

train: .venv
	$(BIN)/python -m mmbc_jax.train --workdir $(WORKDIR)

smoke: .venv
	$(BIN)/python -m mmbc_jax.train --config configs/smoke.py --workdir runs/smoke

test: .venv
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not statistical"

test-all: .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/lock.txt -e '.[onnx]'
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(BIN)/python -m pytest -n auto --dist loadfile

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The inner loop, under a minute: what needs no network, or only traces one.
check: lint
	@if [ -x $(BIN)/pip-audit ]; then $(MAKE) -s audit; else echo "known vulnerabilities: not looked up (make audit)"; fi
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not statistical and not heavy" \
	  tests/test_architecture.py tests/test_contracts.py tests/core tests/ops tests/runs/test_grid.py tests/runs/test_setup.py

# Looks up the packages of requirements/dev.txt among known vulnerabilities; needs a network.
audit: .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check pip-audit
	$(BIN)/pip-audit -r requirements/dev.txt --require-hashes --disable-pip --progress-spinner off

# Everything that is here; BENCH="--peer dppo=FOLDER" adds peers (benchmarks/README.md).
bench: .venv
	$(BIN)/python -m pip install -q -c requirements/lock.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.run $(BENCH)

# The documentation as a site in site/; a dead link, within or to a heading, is an error.
docs: .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c requirements/lock.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict -q

.venv: .venv/.installed
.venv/.installed: pyproject.toml requirements/dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache
