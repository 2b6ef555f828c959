# Two commands on a machine with Python 3.11+ and make, nothing else:
#
#   make demo    the guided tour
#   make test    the tests; make long: those that take minutes
#
# (And make chaos: orders through a storm of kills and stops, everything checked from outside.)
#
# They set up .venv first.  It is made once, and again when pyproject.toml changes; pip takes its
# settings (index, proxy, certificates) from the environment as ever.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)
VENV := .venv
BIN := $(VENV)/bin
# Tests side by side.  Most of the time goes into waiting for processes, so more than one per core.
JOBS ?= 3
# What `make bench` measures: steps, takeover, renewals, idle, training, signals or history.
BENCH ?= steps
# More words for the command behind a target: make test ARGS="tests/core -x"
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test long chaos simulation lint format types bench clean

help:
	@echo "make demo | test | long | chaos | simulation | lint | format | types | bench | clean    (ARGS=… adds words)"

demo: $(VENV)/.demo
	@$(BIN)/orchestrator demo $(ARGS)

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile $(ARGS)

# What takes minutes, and is not part of `make test`.
long: $(VENV)/.dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m long $(ARGS)

chaos: $(VENV)/.dev
	@$(BIN)/python -m tests.chaos $(ARGS)

# As many seeds as are asked for: make simulation SEEDS=10000; or one: make simulation ARGS="--seed 7"
SEEDS ?= 10000
simulation: $(VENV)/.dev
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs 2 $(ARGS)

lint: $(VENV)/.dev
	@$(BIN)/ruff check $(ARGS) && $(BIN)/ruff format --check $(ARGS)

format: $(VENV)/.dev
	@$(BIN)/ruff check --fix $(ARGS); $(BIN)/ruff format $(ARGS)

types: $(VENV)/.dev
	@$(BIN)/mypy $(ARGS)

bench: $(VENV)/.dev
	@$(BIN)/python -m benchmarks $(BENCH) $(ARGS)

clean:
	@rm -rf $(VENV) dist build .orchestrator .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- set-up --------------------------------------------------------------------------------------

# Its own stamp, and anew from nothing: a venv whose making broke off half way looks like a whole one.
$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; none is on the PATH." \
		"Name one: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual" \
		"environments (no venv or ensurepip). On Debian: apt-get install python3-venv; or name" \
		"another: make PYTHON=/path/to/python3.12 …" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version)"
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.demo: EXTRAS := embedded,plot,shop,sklearn
$(VENV)/.dev: EXTRAS := dev
$(VENV)/.demo $(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "installing celery-orchestrator[$(EXTRAS)] into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$(EXTRAS)]"
	@touch $@
