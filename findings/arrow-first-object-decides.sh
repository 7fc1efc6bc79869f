#!/usr/bin/env bash
# What surprises: pyarrow takes the type of a column of Python objects from the first value that it sees, and what comes after is changed to it
#   without an error. [date, datetime] becomes date32 and loses the time of day; [naive, aware] becomes timestamp without zone, the second
#   value shifted to UTC; a pandas Timestamp with nanoseconds becomes microseconds; [1.5, True] becomes 1.0. The same values in the other order
#   raise, or keep what they were, so that a sample, a sort or a test that puts the rows otherwise does not show it. `safe=True`, the default
#   of Array.from_pandas and Table.from_pandas, which promises to check for overflows and lost data, does not look at any of these.
# Who meets it: whoever writes a pandas DataFrame with an object column to Parquet, a database or a dataframe with Arrow dtypes: rows of two
#   sources put together by pd.concat, where one has dates and the other has times, make such a column.
# Version: pyarrow 26.0.1 with pandas 3.1.1.
# Source: the documentation of pyarrow.Array.from_pandas ("safe: Check for overflows or other unsafe conversions");
#   https://github.com/apache/arrow/issues/41896 (open) has the date for a type that the caller names.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pyarrow==26.0.1 pandas==3.1.1
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pyarrow as pa

print(f"pyarrow {pa.__version__}, pandas {pd.__version__}")
noon = datetime(2024, 5, 1, 12)
berlin = datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
CASES = {
    "a date, then a time": ([noon.date(), noon], "date32[day]", [date(2024, 5, 1), date(2024, 5, 1)]),
    "a time without zone, then one with": ([noon, berlin], "timestamp[us]", [noon, datetime(2024, 5, 1, 10)]),
    "a float, then a flag": ([1.5, True], "double", [1.5, 1.0]),
    "a time with nanoseconds": (
        [pd.Timestamp("2024-05-01T12:00:00.123456789Z")],
        "timestamp[us, tz=UTC]",
        [datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)],
    ),
}
as_described = True
for name, (values, kind, expected) in CASES.items():
    column = pd.Series(values, dtype=object)
    try:
        found = pa.Array.from_pandas(column, safe=True)
        seen = (str(found.type), found.to_pylist())
    except Exception as error:
        seen = (type(error).__name__, str(error))
    print(f"{name}: {values} -> {seen[0]} {seen[1]}")
    as_described &= seen == (kind, expected)

table = pa.Table.from_pandas(pd.concat([pd.DataFrame({"at": [noon.date()]}), pd.DataFrame({"at": [noon]}).astype(object)]))
print("two frames by concat:", table.column("at").type, table.column("at").to_pylist())
as_described &= table.column("at").to_pylist() == [date(2024, 5, 1), date(2024, 5, 1)]
try:
    pa.Array.from_pandas(pd.Series([noon, noon.date()], dtype=object))
    as_described = False
except pa.ArrowTypeError as error:
    print("a time, then a date: raises", error)
print("as described" if as_described else "behaves otherwise now")
sys.exit(0 if as_described else 1)
PYTHON
