# make venv | test | spark | lint | demo | faults | bench | oldest-dbt | clean. Needs Python 3.10 or later and a package index, nothing else.
PYTHON ?= $(shell for v in 3.13 3.12 3.11 3.10 3; do command -v python$$v >/dev/null 2>&1 && python$$v -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null && echo python$$v && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST := .venv-oldest-dbt
BENCH_STAMP := $(VENV)/.bench_installed

.PHONY: venv test spark lint format demo faults bench oldest-dbt clean

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.10, 3.11, 3.12 or 3.13 is needed; set PYTHON=/path/to/python."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[duckdb]" --group dev
	@touch $(STAMP)

test: $(STAMP)
	$(BIN)/python -m pytest -n auto $(ARGS)

# PySpark for the tests that run Spark; they need Java 17 or later too, and are skipped without.
spark: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group spark

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/interrogate --config pyproject.toml --quiet dbt_posthog_sync

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(STAMP)
	$(BIN)/python example_project/demo.py

faults: $(STAMP)
	PYTHONPATH=tests $(BIN)/python -m faults $(ARGS)

# What the benchmark compares with; nothing else needs it.
$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group bench
	@touch $(BENCH_STAMP)

bench: $(BENCH_STAMP)
	PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

# The post-hook in builds of the oldest dbt that is supported; the command runs on the dbt of the environment.
$(OLDEST)/.installed: $(STAMP)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check "dbt-core==1.8.*" "dbt-postgres==1.8.*" "dbt-duckdb==1.8.*" "duckdb==$$($(BIN)/python -c 'import duckdb; print(duckdb.__version__)')"
	@touch $@

oldest-dbt: $(OLDEST)/.installed
	DBT_POSTHOG_SYNC_TEST_DBT=$(CURDIR)/$(OLDEST)/bin/python $(BIN)/python -m pytest tests/integration/test_hooks.py -k "threads or order" $(ARGS)

clean:
	rm -rf $(VENV) $(OLDEST) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf example_project/.demo example_project/target example_project/logs example_project/shop.duckdb
