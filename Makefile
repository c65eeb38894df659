# Every target sets up what it needs by itself. Needed beforehand: Python 3.11+ and make; for the tests and benchmarks
# also gcc, and Node with npm.
.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first Python here that is new enough; `make PYTHON=/path/to/python3 …` names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then echo $$p; break; fi; done)
BIN := .venv/bin
# More or other arguments: `make serve ARGS="--port 9000"`, `make test ARGS="-k heartbeat"`.
ARGS ?=
# Test processes at once; `make test JOBS=0` runs everything in one.
JOBS ?= auto
LOCK_TOOL := uv==0.13.9
UV_COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-config pyproject.toml

.PHONY: help serve test test-postgres proof soak check format bench demo wheel lock clean venv venv-dev client-tools python

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

serve: venv ## Start the server here (settings: SNACKBASE_* variables, .env, ARGS="--port 9000")
	@exec $(BIN)/snackbase serve $(ARGS)

test: venv-dev client-tools ## Run every test (JOBS=0 for one process, ARGS="-k word" for some)
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory test-postgres)

# The suite of the store runs over both databases by itself; these are whole servers and services over the other one.
POSTGRES_TESTS = tests/e2e/test_records_api.py tests/e2e/test_realtime_events.py tests/e2e/test_resume.py \
	tests/e2e/test_realtime_rights.py tests/e2e/test_idempotency.py tests/e2e/test_membership_api.py \
	tests/e2e/test_collections_api.py tests/e2e/test_isolation.py tests/e2e/test_accounts_api.py \
	tests/e2e/test_writers.py tests/e2e/test_transfer.py tests/e2e/test_every_way_to_write.py \
	tests/unit/accounts/test_groups.py tests/unit/accounts/test_members.py tests/unit/test_record_batches.py

test-postgres: venv-dev client-tools ## The part of the tests that runs servers and services over PostgreSQL once more
	@TEST_DATABASE=postgres $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(POSTGRES_TESTS) $(ARGS)

soak: venv-dev ## Kill a server under load 200 times and compare everything (SOAK_KILLS=20, SOAK_NODES=3 for a cluster)
	@SOAK_KILLS=$${SOAK_KILLS:-200} $(BIN)/python -m pytest -s tests/$(if $(SOAK_NODES),nodes,fault)/test_kills.py -k random $(ARGS)

check: venv-dev ## Check formatting, lint, types, architecture and documentation
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py
	@$(BIN)/python -m pytest -q -m docs tests

format: venv-dev ## Rewrite the sources in the project's format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

proof: venv-dev client-tools ## Run the standing proof for half an hour (ARGS="--minutes 5 --nodes 3")
	@$(BIN)/python -m proof $(ARGS)

bench: venv-dev ## Measure SnackBase beside its peers (ARGS go to the benchmark)
	@$(BIN)/python -m bench $(ARGS)

demo: venv ## Show a live list in this terminal for 15 seconds, on a server and data of its own
	@exec $(BIN)/python -m examples.demo $(ARGS)

wheel: venv-dev ## Build the wheel into dist/
	@$(BIN)/python -m hatchling build -t wheel

lock: python ## Renew both lock files from pyproject.toml, and the Node lock file from tests/js/package.json
	@test -x .venv-lock/bin/uv || { $(PYTHON) -m venv .venv-lock && .venv-lock/bin/pip install -qq $(LOCK_TOOL); }
	@$(UV_COMPILE) --group build -o requirements.lock
	@$(UV_COMPILE) --group dev -c requirements.lock -o requirements-dev.lock
	@cd tests/js && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm install --package-lock-only --ignore-scripts

clean: ## Remove everything that the other targets made (data in sb_data/ stays)
	@rm -rf .venv .venv-lock build dist tests/js/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find src tests tools proof -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@test -n "$(PYTHON)" || { echo 'SnackBase needs Python 3.11 or newer and found none in PATH; name one: make PYTHON=/path/to/python3' >&2; exit 1; }

venv: python
	@$(PYTHON) tools/venv.py runtime

venv-dev: python
	@$(PYTHON) tools/venv.py dev

client-tools: venv-dev
	@$(BIN)/python -m tests.support.install
