# Every target makes the virtual environment .venv by itself when it is missing or older than the lock.
# Needed: python3 (3.11 to 3.14) with venv, and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := $(BIN)/sequin-pipeline
PEERS := .venv-bench

.PHONY: sync test soak load fuzz interop ui db bench check lock audit screenshots browser pooler

sync: $(STAMP)
	$(RUN) sync

# The browser tests are left out, in one line, where there is no Chromium and none can be installed.
test: $(STAMP)
	@$(MAKE) --silent browser || true
	@$(MAKE) --silent pooler || true
	$(BIN)/python -m pytest $(PYTEST)

# The example applications and the pipeline on one table: part of `make test` too, where npm is installed.
interop: $(STAMP)
	@command -v npm >/dev/null || { echo "make: npm was not found; Node 20 and npm are needed" >&2; exit 1; }
	INTEROP_REQUIRED=1 $(BIN)/python -m pytest tests/interop $(PYTEST)

# The random tests for long, with other data each time.
fuzz: $(STAMP)
	SEQUIN_PIPELINE_TEST_EFFORT=$${SEQUIN_PIPELINE_TEST_EFFORT:-20} $(BIN)/python -m pytest tests/hostile tests/faults/test_source_histories.py --timeout 0 $(PYTEST)

# Random faults for SOAK="--minutes 10 --seed 1": printed with what they did, compared at every quiet point.
soak: $(STAMP)
	$(BIN)/python -m tests.soak $(SOAK)

# Many collections that change all the time, synced each minute, for ten minutes.
load: $(STAMP)
	$(BIN)/python -m tests.load $(LOAD)

ui: $(STAMP)
	$(RUN) ui

# The pictures of docs/ui.md, by the tests of the pages that they show.
screenshots: $(STAMP)
	$(BIN)/python -m pytest tests/ui/test_pages.py --screenshots docs/images

# Chromium for the tests of the UI's pages; root of a Debian gets it installed, everybody else is told.
browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || \
	  { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } || \
	  { echo "make: no Chromium was found, and it was not installed: apt-get install chromium" >&2; exit 1; }

# pgbouncer for the test that puts a transaction pooler in front of Postgres; as the browser.
pooler:
	@test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || \
	  { test "$$(id -u)" = 0 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer; } || \
	  { echo "make: no pgbouncer was found, and it was not installed: apt-get install pgbouncer" >&2; exit 1; }

db: $(STAMP)
	$(RUN) db start

bench: $(STAMP) $(PEERS)/.installed
	$(BIN)/python -m bench $(BENCH)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/dg check toml
	# One folder at a time: without a path dg 1.13.27 looks at one file per component type only.
	for folder in sequin_pipeline/defs/*/; do $(BIN)/dg check yaml "$$folder" || exit 1; done
	$(BIN)/dg check defs

lock: $(STAMP)
	UV=$$(command -v uv || echo $(BIN)/uv); $$UV pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --extra embedded --group dev pyproject.toml -o requirements.lock && \
	$$UV pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --group bench -o bench/peers/requirements.lock

# Known weaknesses of the locked packages; fails too where the advisories cannot be had.
audit: $(STAMP)
	UV=$$(command -v uv || echo $(BIN)/uv); $$UV tool run --quiet pip-audit@2.10.0 --strict --disable-pip --require-hashes -r requirements.lock

# uv where it is present, else bootstrapped into the environment it fills.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "make: $(PYTHON) is $$($(PYTHON) -V 2>&1); Python 3.11 to 3.14 is needed: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "make: '$(PYTHON) -m venv' does not work here; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "make: installing the locked packages into $(VENV), about half a minute"
	@UV=$$(command -v uv || echo $(BIN)/uv); export VIRTUAL_ENV=$(CURDIR)/$(VENV); \
	  $$UV pip install --quiet --compile-bytecode --require-hashes -r requirements.lock && \
	  $$UV pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Other tools to measure against. The bench runs without them too, and says which did not run.
$(PEERS)/.installed: bench/peers/requirements.lock bench/peers/drizzle/package-lock.json
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	-UV=$$(command -v uv || echo $(BIN)/uv); $$UV venv --quiet --clear --python $(BIN)/python $(PEERS) && \
	  VIRTUAL_ENV=$(CURDIR)/$(PEERS) $$UV pip install --quiet --require-hashes -r bench/peers/requirements.lock
	-command -v npm >/dev/null && npm ci --silent --ignore-scripts --prefix bench/peers/drizzle
	@mkdir -p $(PEERS) && touch $@
