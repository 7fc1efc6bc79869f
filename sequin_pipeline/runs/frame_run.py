"""Plain DataFrames in and out: any frame with a key merged into its table, and a table read back as a typed frame.

What makes the IO manager useful to assets that are no collections. No Dagster.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
import pyarrow as pa
from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.errors import TableRefused, TooManyRejects
from sequin_pipeline.ledger.ledger import Counts, Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.normalize.normalizer import NormalizedPages
from sequin_pipeline.normalize.page_reader import POSITION
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, attempt
from sequin_pipeline.sources import TimeWindow
from sequin_pipeline.table.managed import FRAME_SOURCE, prepare_table
from sequin_pipeline.table.target import frame_target
from sequin_pipeline.write.prepare import Delivery
from sequin_pipeline.write.writer import TableWriter

FRAME_BATCH_ROWS = 5_000
READ_ROWS = 10_000


@dataclass(frozen=True)
class ReadNames:
    """What a table calls its tombstones and its stream time; None where it has no column for it."""

    tombstone: str | None = "deleted"
    stream_time: str | None = "record_inserted_at"


MANAGED_NAMES = ReadNames()


@dataclass(frozen=True)
class FrameOutcome:
    """Counts of the rows of one frame, and how many the table has now."""

    counts: Counts
    rows: int


@dataclass(frozen=True)
class FramePage(NormalizedPages):
    """A slice of a frame, in place of pages of records."""

    def raw_record(self, position: int) -> bytes:
        """The row as a JSON object: what a reject keeps."""
        row = self.frame[self.frame[POSITION] == position].drop(columns=POSITION)
        return str(row.to_json(orient="records", date_format="iso", date_unit="us", lines=True)).strip().encode()


def write_frame(
    warehouse: Warehouse,
    table: TableName,
    frame: pd.DataFrame,
    *,
    key: tuple[str, ...],
    version: str | None,
    run_id: str,
    window_key: str = "",
    schema: str = DEFAULT_SCHEMA,
) -> FrameOutcome:
    """Merges the frame by `key`; rows that it does not hold are left alone.

    With `version` (an integer column) the greatest wins; without, each delivery is newest. Raises TableRefused for null keys, for
    repeated keys without version, and for what the table cannot hold; then nothing has been written. Raises TooManyRejects after
    everything good has been committed, when Postgres refused single rows.
    """
    target = frame_target(table, frame, key=key, version=version)
    _check_key(str(table), frame, key=key, version=version)
    ledger = Ledger(str(table), str(table), schema)
    columns = frame[list(target.column_names)].reset_index(drop=True)
    counts = Counts()
    with TableWriter(warehouse, target, ledger, run_id=run_id, mode="frame", window_keys=(window_key,)) as writer:

        def prepare(connection: Connection) -> None:
            migrate(connection, schema)
            prepare_table(connection, target, ledger, source=FRAME_SOURCE)

        writer.attempt(prepare, f"preparing table {str(table)!r}")
        for start in range(0, len(columns), FRAME_BATCH_ROWS):
            part = columns.iloc[start : start + FRAME_BATCH_ROWS].reset_index(drop=True)
            part[POSITION] = pd.array(range(len(part)), dtype=pd.ArrowDtype(pa.int32()))
            committed = writer.commit(writer.prepare(Delivery(pages=(FramePage(pages=(), frame=part, rejects=()),))))
            counts = sum(committed.counts.values(), counts)
        record = writer.attempt(ledger.find_table, "reading the ledger")
    if counts.rejected:
        raise TooManyRejects(
            f"{counts.rejected} of {counts.fetched} rows of the frame for table {str(table)!r} were refused by Postgres, the others have "
            f"been merged: the ledger's table `rejects` holds them with their reasons; mend those rows and materialize again"
        )
    return FrameOutcome(counts, record.row_count if record else 0)


def _check_key(table: str, frame: pd.DataFrame, *, key: tuple[str, ...], version: str | None) -> None:
    names = list(key)
    missing = frame[names].isna().any(axis=1)
    if missing.any():
        raise TableRefused(
            f"{int(missing.sum())} rows of the frame for table {table!r} have no value in the key ({', '.join(names)}): "
            "a row without a key cannot be found again; fill it or drop those rows"
        )
    if version is not None:
        if frame[version].isna().any():
            raise TableRefused(f"some rows of the frame for table {table!r} have no version in {version!r}: fill it")
        return
    repeated = frame.duplicated(subset=names)
    if repeated.any():
        example = tuple(str(value) for value in frame.loc[repeated, names].iloc[0])
        raise TableRefused(
            f"the frame for table {table!r} holds the key {example!r} more than once, and no version says which is newest: "
            "drop the duplicates, or name a version column with the metadata sequin_pipeline/version"
        )


_READ: Mapping[str, tuple[str | None, pa.DataType]] = {
    "text": (None, pa.string()),
    "character varying": ("text", pa.string()),
    "boolean": (None, pa.bool_()),
    "smallint": (None, pa.int32()),
    "integer": (None, pa.int32()),
    "bigint": (None, pa.int64()),
    "real": (None, pa.float64()),
    "double precision": (None, pa.float64()),
    "date": (None, pa.date32()),
    "timestamp with time zone": (None, pa.timestamp("us", "UTC")),
    "timestamp without time zone": (None, pa.timestamp("us")),
    "text[]": (None, pa.list_(pa.string())),
}
"""By type: what it is read as, and its column in the frame; every other type (numeric, jsonb, uuid, …) travels as its text, whole."""


def read_frame(
    warehouse: Warehouse,
    table: TableName,
    *,
    columns: Sequence[str] | None = None,
    live_only: bool = False,
    window: TimeWindow | None = None,
    names: ReadNames = MANAGED_NAMES,
) -> pd.DataFrame:
    """The table as a DataFrame with pyarrow-backed columns, in no particular order.

    `live_only` leaves out tombstones, which a table without a column for them has none of; `window` keeps the rows whose stream time
    lies in it. Raises TableRefused for a table or column that is not there, WarehouseError.
    """

    def work() -> pd.DataFrame:
        with warehouse.connect() as connection:
            return _read(
                connection, table, columns=columns, tombstone=names.tombstone if live_only else None, window=window, names=names
            )

    return attempt(work, f"reading table {str(table)!r}")


def _read(
    connection: Connection,
    table: TableName,
    *,
    columns: Sequence[str] | None,
    tombstone: str | None,
    window: TimeWindow | None,
    names: ReadNames,
) -> pd.DataFrame:
    types = _column_types(connection, table)
    wanted = list(types) if columns is None else list(columns)
    if window is not None and names.stream_time is None:
        raise TableRefused(
            f"table {str(table)!r} has no column for the time at which a version entered the stream, so that no window of it can be read: "
            "map `record_inserted_at` to one, or have the input depend on all partitions"
        )
    filtered = [name for name in (tombstone, names.stream_time if window else None) if name is not None]
    for name in (*wanted, *filtered):
        if name not in types:
            raise TableRefused(f"table {str(table)!r} has no column {name!r}: its columns are {', '.join(map(repr, types))}")
    reads = {name: _READ.get(types[name], ("text", pa.string())) for name in wanted}
    selected = [
        sql.SQL("{}::{}").format(sql.Identifier(name), sql.SQL(cast)) if cast else sql.Identifier(name)
        for name, (cast, _) in reads.items()
    ]
    conditions = [sql.SQL("{} is not true").format(sql.Identifier(tombstone))] if tombstone else []
    if window is not None:
        time: sql.Composable = sql.Identifier(names.stream_time or "")
        if types[names.stream_time or ""] == "timestamp without time zone":
            time = sql.SQL("({} at time zone 'UTC')").format(time)
        # A row without a time is in the first window, which is open to the left.
        within = "{time} >= {start} and {time} < {end}" if window.start else "({time} < {end} or {time} is null)"
        conditions.append(sql.SQL(within).format(time=time, start=sql.Literal(window.start), end=sql.Literal(window.end)))
    statement = sql.SQL("select {} from {} where {}").format(
        sql.SQL(", ").join(selected),
        sql.Identifier(table.schema, table.name),
        sql.SQL(" and ").join(conditions) if conditions else sql.SQL("true"),
    )
    schema = pa.schema([(name, arrow) for name, (_, arrow) in reads.items()])
    batches = []
    with connection.transaction(), connection.cursor(name="sequin_read", binary=True) as cursor:
        cursor.execute(statement)
        while rows := cursor.fetchmany(READ_ROWS):
            arrays = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
            batches.append(pa.record_batch(arrays, schema=schema))
    frame: pd.DataFrame = pa.Table.from_batches(batches, schema).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _column_types(connection: Connection, table: TableName) -> dict[str, str]:
    rows = connection.execute(
        "select attname, format_type(atttypid, null) from pg_attribute where attrelid = to_regclass(%s)"
        " and attnum > 0 and not attisdropped order by attnum",
        (sql.Identifier(table.schema, table.name).as_string(connection),),
    ).fetchall()
    if not rows:
        raise TableRefused(f"there is no table {str(table)!r}, or this role may not see it: materialize its asset first")
    return {str(name): str(kind) for name, kind in rows}
