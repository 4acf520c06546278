# Two commands matter: `make demo` and `make test`. Both do their own set-up on a machine
# that has make and Python 3.11 or newer.

VENV   ?= .venv
BIN    := $(VENV)/bin
NODE   := tests/e2e/node
JOBS   ?= 2
CALLS  ?= 100000
SECONDS ?= 20
PYTHON ?= $(shell for candidate in python3 python3.11 python3.12 python3.13 python3.14 python; do \
	$$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$candidate && break; done)

.DEFAULT_GOAL := help
.PHONY: help venv install demo test lint format types arch unit e2e bench bench-peers soak fuzz lock sbom clean nginx node chromium servers clients

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.outgate ## start the proxy on loopback and send three real calls through it
	$(BIN)/outgate demo

test: $(VENV)/.outgate-test nginx node servers chromium clients ## run everything: lint, types, architecture, tests, coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder --cov --cov-report=term

venv: $(BIN)/python ## make the virtual environment

install: $(VENV)/.outgate-test ## install Outgate, editable, with all that its tests need

lint: $(VENV)/.outgate-test ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.outgate-test ## repair style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.outgate-test ## check types, strictly
	$(BIN)/mypy

arch: $(VENV)/.outgate-test ## check which module may import which
	$(BIN)/lint-imports

unit: $(VENV)/.outgate-test servers ## run the tests of single modules
	$(BIN)/pytest -n $(JOBS) --dist loadgroup --no-loadscope-reorder --ignore tests/e2e

e2e: $(VENV)/.outgate-test nginx node servers chromium clients ## run the tests through the real nginx and gunicorn
	$(BIN)/pytest tests/e2e

bench-peers: $(BIN)/python ## install Portkey's gateway and LiteLLM's proxy, to be measured beside
	cd bench && mkdir -p peers && npm install --silent --prefix peers --ignore-scripts --no-audit --no-fund @portkey-ai/gateway
	$(BIN)/python -m venv bench/peers/venv
	bench/peers/venv/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]'

bench: $(VENV)/.outgate-test nginx ## measure what the proxy costs, as ratios in one run
	$(BIN)/python bench/run.py

soak: $(VENV)/.outgate-test ## make CALLS=100000 calls with everything on, and print what the worker holds
	$(BIN)/python -m tests.e2e.soak $(CALLS)

fuzz: $(VENV)/.outgate-test ## search SECONDS=20 seconds each for input that breaks the readers
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
		|| $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris --editable '.[fuzz]' \
		|| echo "atheris could not be installed: nothing is searched"
	@if $(BIN)/python -c 'import atheris' 2>/dev/null; then \
		for name in json sse redactor config; do \
			echo "fuzzing $$name"; $(BIN)/python -m tests.fuzz $$name $(SECONDS) || exit 1; \
		done; \
	fi

lock: $(VENV)/.outgate-release ## renew deploy/constraints.txt: every dependency of the image, with its digest
	$(BIN)/uv pip compile setup.cfg --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate --upgrade --extra jwt --extra otel --extra postgres --extra redis --output-file deploy/constraints.txt

sbom: $(VENV)/.outgate-release ## write dist/sbom.json: what the image is made of, as CycloneDX
	@mkdir -p dist
	$(BIN)/cyclonedx-py requirements deploy/constraints.txt --output-reproducible --of JSON --output-file dist/sbom.json

clean: ## remove all that was built, the virtual environment too
	rm -rf $(VENV) $(NODE)/node_modules build dist ./*.egg-info htmlcov .coverage .coverage.*
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Outgate needs Python 3.11 or newer: install it, or name it with PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(MAKE) --no-print-directory .ensurepip
	$(PYTHON) -m venv $(VENV)
	@# The pip that came with an older Python can take many minutes to choose among versions.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip \
		|| echo 'pip could not be renewed: what follows may take long'

# Debian keeps a part of the standard library in a package of its own.
.PHONY: .ensurepip
.ensurepip:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-venv; \
	else \
		echo "$(PYTHON) cannot make virtual environments: install python3-venv"; exit 1; \
	fi

# The stamps are older than setup.cfg exactly when the dependencies may have changed.
$(VENV)/.outgate: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.outgate-test: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $(VENV)/.outgate $@

$(VENV)/.outgate-release: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[release]'
	@touch $@

# Without nginx, node, chromium, the servers or the rights to install them, the tests that need them skip and say so.
# RUNLEVEL=1 keeps the package from starting a server of its own.
nginx:
	@if command -v nginx >/dev/null || [ -x /usr/sbin/nginx ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends nginx \
		|| echo "nginx could not be installed: the tests that need it are skipped"; \
	else \
		echo "nginx is not installed: the tests that need it are skipped"; \
	fi

clients: $(VENV)/clients/.installed

$(VENV)/clients/.installed: | $(BIN)/python
	@{ $(BIN)/python -m venv $(VENV)/clients && $(VENV)/clients/bin/python -m pip install --quiet \
		--disable-pip-version-check 'llama-index-llms-openai-like>=0.8' 'llm>=0.32' && touch $@; } \
		|| echo "llama-index and llm could not be installed: the tests that need them are skipped"

servers:
	@for server in postgresql:postgres redis-server:redis-server libc-icap-mod-contentfiltering:c-icap; do \
		package=$${server%:*}; program=$${server#*:}; \
		if command -v $$program >/dev/null || ls /usr/lib/postgresql/*/bin/$$program >/dev/null 2>&1; then :; \
		elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq --no-install-recommends $$package \
			|| echo "$$package could not be installed: the tests that need it are skipped"; \
		else \
			echo "$$package is not installed: the tests that need it are skipped"; \
		fi; \
	done

chromium:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver \
		|| echo "chromium could not be installed: the tests that need it are skipped"; \
	else \
		echo "chromium or chromedriver is not installed: the tests that need them are skipped"; \
	fi

node:
	@if command -v npm >/dev/null && command -v node >/dev/null; then \
		$(MAKE) --no-print-directory $(NODE)/node_modules/.installed \
		|| echo "the npm packages could not be installed: the tests that need them are skipped"; \
	else \
		echo "node or npm is not installed: the tests that need them are skipped"; \
	fi

$(NODE)/node_modules/.installed: $(NODE)/package.json $(NODE)/package-lock.json
	cd $(NODE) && npm ci --silent --ignore-scripts --no-audit --no-fund
	@touch $@
