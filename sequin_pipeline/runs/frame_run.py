"""This module takes plain DataFrames in and out.

Any frame with a key is merged into its table, and a table is read back as a typed frame. That makes the IO manager useful to
assets that are no collections. No Dagster.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd
import psycopg
import pyarrow as pa
from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.errors import LedgerRefused, TableRefused, TooManyRejects
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, migrate
from sequin_pipeline.normalize.normalizer import NormalizedPages
from sequin_pipeline.normalize.page_reader import ROW_NUMBER
from sequin_pipeline.postgres.percent_signs import TypeName
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.session_limits import PLAINLY
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, attempt, lift_limits
from sequin_pipeline.sources import TimeWindow
from sequin_pipeline.table.frame_owner import FrameOwner, check_database, check_owner, check_place, claim
from sequin_pipeline.table.frame_target import FrameRows, frame_rows
from sequin_pipeline.table.introspect import introspect
from sequin_pipeline.table.managed import prepare_table
from sequin_pipeline.write.job import WriteJob
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.writer import TableWriter

FRAME_BATCH_ROWS = 5_000
READ_ROWS = 10_000


@dataclass(frozen=True)
class ReadNames:
    """This value holds what a table calls its tombstones and its stream time; None where it has no column for it."""

    tombstone: str | None = "deleted"
    stream_time: str | None = "record_inserted_at"


MANAGED_NAMES = ReadNames()


@dataclass(frozen=True)
class FrameOutcome:
    """This value counts the rows of one frame, and says how many the table has now.

    `untyped` are columns that the table gets with their first value.
    """

    counts: Counts
    rows: int
    untyped: tuple[str, ...] = ()


@dataclass(frozen=True)
class FramePage(NormalizedPages):
    """This value is a slice of a frame, in place of pages of records."""

    def raw_record(self, position: int) -> bytes:
        """Returns the row as a JSON object: what a reject keeps."""
        row = self.frame[self.frame[ROW_NUMBER] == position].drop(columns=ROW_NUMBER)
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
    owner: FrameOwner | None = None,
    database: str | None = None,
) -> FrameOutcome:
    """Merges the frame by `key`; rows that it does not hold are left alone.

    With `owner` the table is that asset's from now on, and nobody else's. `database` is refused where the warehouse is another one.

    With `version` (an integer column) the greatest wins; without, each delivery is newest. Raises TableRefused for null keys, for
    repeated keys without version, and for what the table cannot hold; then nothing has been written. Raises TooManyRejects after
    everything good has been committed, when Postgres refused single rows.
    """
    ledger = Ledger(str(table), str(table), schema)
    counts, record = Counts(), None
    with Session(warehouse) as session:
        preparing = partial(
            _prepared, table=table, frame=frame, ledger=ledger, key=key, version=version, owner=owner, database=database
        )
        given = session.attempt(preparing, f"preparing table {str(table)!r}")
        if given.is_typed:
            writer = TableWriter(session, WriteJob(given.target, ledger, run_id, "frame", window_keys=(window_key,)))
            for page in _pages(given):
                committed = writer.write(PageGroup(pages=(page,)))
                counts = sum(committed.counts.values(), counts)
            record = session.attempt(ledger.find_table, "reading the ledger")
    if counts.rejected:
        raise TooManyRejects(
            f"{counts.rejected} of {counts.fetched} rows of the frame for table {str(table)!r} were refused by Postgres, the others have "
            f"been merged: the ledger's table `rejects` holds them with their reasons; fix those rows and materialize again"
        )
    return FrameOutcome(counts, record.row_count if record else 0, given.untyped)


def _prepared(
    connection: Connection,
    *,
    table: TableName,
    frame: pd.DataFrame,
    ledger: Ledger,
    key: tuple[str, ...],
    version: str | None,
    owner: FrameOwner | None,
    database: str | None,
) -> FrameRows:
    """Returns the frame as the table takes it, and makes the table ready for it."""
    check_place(connection, table, database, ledger.schema)
    introspected = introspect(connection, table)
    given = frame_rows(table, frame, key=key, version=version, introspected=introspected)
    if not given.is_typed:
        return given
    migrate(connection, ledger.schema)
    record = ledger.find_table(connection)
    source = check_owner(connection, ledger, owner, record, exists=introspected is not None)
    try:
        prepare_table(connection, given.target, ledger, source=source)
    except (TableRefused, LedgerRefused):
        now = ledger.find_table(connection)
        if introspect(connection, table) == introspected and (now and now.source) == (record and record.source):
            raise
    else:
        if owner is None or claim(connection, ledger, owner, source):
            return given
    # Another run has just created the table, added to it or claimed it: look again.
    return _prepared(
        connection, table=table, frame=frame, ledger=ledger, key=key, version=version, owner=owner, database=database
    )


def _pages(given: FrameRows) -> Iterator[FramePage]:
    for start in range(0, given.rows.num_rows, FRAME_BATCH_ROWS):
        part = given.rows.slice(start, FRAME_BATCH_ROWS)
        numbered = part.append_column(ROW_NUMBER, pa.array(range(part.num_rows), pa.int32()))
        yield FramePage(pages=(), frame=numbered.to_pandas(types_mapper=pd.ArrowDtype), rejects=())


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
    "character varying[]": ("text[]", pa.list_(pa.string())),
    "smallint[]": (None, pa.list_(pa.int64())),
    "integer[]": (None, pa.list_(pa.int64())),
    "bigint[]": (None, pa.list_(pa.int64())),
}
"""This maps a type to what it is read as, and to its column in the frame.

Every other type (numeric, jsonb, uuid, …) travels as its text, whole.
"""


def read_frame(
    warehouse: Warehouse,
    table: TableName,
    *,
    columns: Sequence[str] | None = None,
    live_only: bool = False,
    window: TimeWindow | None = None,
    names: ReadNames = MANAGED_NAMES,
    database: str | None = None,
) -> pd.DataFrame:
    """Returns the table as a DataFrame with pyarrow-backed columns, in no particular order.

    `live_only` leaves out tombstones, which a table without a column for them has none of; `window` keeps the rows whose stream time
    lies in it. Raises TableRefused for a table or column that is not there, WarehouseError.
    """

    def work() -> pd.DataFrame:
        with warehouse.connect() as connection:
            check_database(connection, table, database)
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
        sql.SQL("{}::{}").format(sql.Identifier(name), TypeName(cast)) if cast else sql.Identifier(name)
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
    try:
        batches = _batches(connection, statement, schema)
    except psycopg.DataError:
        _check_years(connection, table, {name: types[name] for name in wanted})
        raise
    frame: pd.DataFrame = pa.Table.from_batches(batches, schema).to_pandas(types_mapper=pd.ArrowDtype)
    return frame


def _batches(connection: Connection, statement: sql.Composed, schema: pa.Schema) -> list[pa.RecordBatch]:
    batches = []
    with connection.transaction(), connection.cursor(name="sequin_read", binary=True) as cursor:
        lift_limits(connection)
        cursor.execute(statement)
        while rows := cursor.fetchmany(READ_ROWS):
            arrays = [_array(values, field) for values, field in zip(zip(*rows, strict=True), schema, strict=True)]
            batches.append(pa.record_batch(arrays, schema=schema))
    return batches


def _array(values: tuple[object, ...], field: pa.Field) -> pa.Array:
    try:
        return pa.array(values, field.type)
    except pa.ArrowException as error:
        raise TableRefused(
            f"column {field.name!r} holds arrays of several dimensions, which frames do not: leave it out with the input's metadata "
            "`columns`"
        ) from error


def _check_years(connection: Connection, table: TableName, types: Mapping[str, str]) -> None:
    """Raises TableRefused for the first column that holds a time which Python has not.

    Python has no year 10000, none before 1, and no infinity.
    """
    for name, kind in types.items():
        if kind not in ("date", "timestamp with time zone", "timestamp without time zone"):
            continue
        statement = sql.SQL("select exists (select from {table} where {name} < {first} or {name} >= {end})").format(
            table=sql.Identifier(table.schema, table.name),
            name=sql.Identifier(name),
            first=sql.SQL("'0001-01-01 00:00+00'::{}").format(sql.SQL(kind)),
            end=sql.SQL("'10000-01-01 00:00+00'::{}").format(sql.SQL(kind)),
        )
        if connection.execute(statement).fetchone() == (True,):
            raise TableRefused(
                f"column {name!r} of table {str(table)!r} holds a time outside the years 1 to 9999, for which Python has no value: "
                "correct it there, or leave the column out with the input's metadata `columns`"
            )


def _column_types(connection: Connection, table: TableName) -> dict[str, str]:
    rows = connection.execute(
        sql.SQL(
            "select attname, format_type(atttypid, null) from {}, pg_attribute where attrelid = to_regclass(%s)"
            " and attnum > 0 and not attisdropped order by attnum"
        ).format(PLAINLY),
        (sql.Identifier(table.schema, table.name).as_string(connection),),
    ).fetchall()
    if not rows:
        raise TableRefused(f"there is no table {str(table)!r}, or this role may not see it: materialize its asset first")
    return {str(name): str(kind) for name, kind in rows}
