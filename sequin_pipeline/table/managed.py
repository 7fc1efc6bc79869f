"""The managed table: created when missing, added to when the declaration grows, refused when it cannot hold what is declared.

Nothing is ever dropped or retyped here, nothing cascades. A table that the ledger does not know is somebody else's until told
otherwise.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from psycopg import sql

from sequin_pipeline.catalog import RECORD_COLUMNS
from sequin_pipeline.errors import LedgerRefused, TableRefused
from sequin_pipeline.ledger.columns import forget_columns
from sequin_pipeline.ledger.ledger import Ledger, TableRecord
from sequin_pipeline.ledger.schema import create_schema, lock_ddl
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.target import Target
from sequin_pipeline.table.unmanaged import look_up

FRAME_SOURCE = SourceIdentity("frame", "")
"""Of tables that are filled from plain DataFrames: whoever hands over the frame is the source."""


@dataclass(frozen=True)
class FoundTable:
    """A table as the catalog of Postgres shows it: types by column, whether the key can tell conflicting rows, and the privileges
    that this role lacks."""

    types: Mapping[str, str]
    comments: Mapping[str | None, str]
    has_unique_key: bool
    lacking: tuple[str, ...]
    role: str


@dataclass(frozen=True)
class Preparation:
    """What preparing found: the target as its table takes it, and the ledger's record, None for a table just created or adopted."""

    target: Target
    record: TableRecord | None
    is_adopted: bool = False


def prepare_table(
    connection: Connection,
    target: Target,
    ledger: Ledger,
    *,
    source: SourceIdentity,
    adopt: bool = False,
    full_refresh: bool = False,
) -> Preparation:
    """Makes the table ready for rows from `source`; a read of the catalogs when it is ready already.

    `adopt` takes over a table that the ledger does not know, or knows from another source, and starts it from the beginning;
    `full_refresh` may create anew one that has vanished. Raises TableRefused, LedgerRefused, psycopg.Error; then nothing has changed.
    """
    if target.is_unmanaged:
        return _prepare_foreign(connection, look_up(connection, target), ledger, source=source, adopt=adopt)
    record, found = ledger.find_table(connection), _find(connection, target)
    if (record is None) != (found is None):
        # Somebody may be creating it between the two looks: under their lock, what is there is there for good.
        with connection.transaction(), connection.cursor() as cursor:
            lock_ddl(cursor)
            record, found = ledger.find_table(connection), _find(connection, target)
    _check_source(target, record, source, adopt=adopt)
    if found is None and not full_refresh and not adopt:
        _check_not_gone(target, record)
    if found is None:
        if _create(connection, target, ledger, source):
            return Preparation(target, None)
        return prepare_table(connection, target, ledger, source=source, adopt=adopt, full_refresh=full_refresh)
    if source != FRAME_SOURCE and not adopt:
        _check_ours(target, record)
    _check_shape(connection, target, found)
    missing, stamps = _missing(target, found)
    if record is None and source == FRAME_SOURCE and missing:
        raise TableRefused(
            f"table {str(target.table)!r} exists already, this pipeline did not create it, and it has no column {missing[0]!r}: "
            "add the column, or leave it out of the frame"
        )
    is_new_owner = record is None or (record.source != source)
    if missing or stamps or not _comments(target).items() <= found.comments.items():
        _add(connection, target, ledger, (*missing, *stamps), found=found)
    if is_new_owner:
        _register(connection, target, ledger, source)
        return Preparation(target, None, is_adopted=True)
    return Preparation(target, record)


def _prepare_foreign(
    connection: Connection, target: Target, ledger: Ledger, *, source: SourceIdentity, adopt: bool
) -> Preparation:
    """All that is written is the ledger's: the declaration has said whose the table is, so it needs no `--adopt` at first."""
    record = ledger.find_table(connection)
    if record is None:
        with connection.transaction(), connection.cursor() as cursor:
            lock_ddl(cursor)
            record = ledger.find_table(connection)
            if record is None:
                _register(connection, target, ledger, source)
                return Preparation(target, None)
    _check_source(target, record, source, adopt=adopt)
    if record.source == source:
        return Preparation(target, record)
    _register(connection, target, ledger, source)
    return Preparation(target, None, is_adopted=True)


@dataclass(frozen=True)
class PendingChange:
    """A statement that the next run would begin with, and the lock that it takes on the table."""

    statement: str
    lock: str


def pending_changes(
    connection: Connection, target: Target, record: TableRecord | None, *, source: SourceIdentity
) -> tuple[PendingChange, ...] | None:
    """What `prepare_table` would do to a table that exists, None where it would create it; changes nothing.

    Raises TableRefused and LedgerRefused as that would.
    """
    if target.is_unmanaged:
        look_up(connection, target)
        _check_source(target, record, source, adopt=False)
        return ()
    found = _find(connection, target)
    _check_source(target, record, source, adopt=False)
    if found is None:
        _check_not_gone(target, record)
        return None
    _check_ours(target, record)
    _check_shape(connection, target, found)
    missing, stamps = _missing(target, found)
    added = _add_statements(target, (*missing, *stamps))
    commented = _comment_statements(connection, target, found.comments)
    return (
        *(PendingChange(statement.as_string(connection), "access exclusive") for statement in added),
        *(PendingChange(statement.as_string(connection), "share update exclusive") for statement in commented),
    )


def existing_columns(connection: Connection, target: Target) -> Target:
    """The target as its table takes it, without the columns that are not there yet."""
    if target.is_unmanaged:
        return look_up(connection, target)
    found = _find(connection, target)
    has = found.types if found else {}
    return replace(
        target,
        columns=tuple(column for column in target.columns if column.name in has),
        created_at=target.created_at if target.created_at in has else None,
        changed_at=target.changed_at if target.changed_at in has else None,
    )


def create_table(connection: Connection, target: Target) -> None:
    """In the open transaction, with its schema where that is missing."""
    with connection.cursor() as cursor:
        create_schema(cursor, target.table.schema)
        cursor.execute(_create_statement(target, has_lz4=_has_lz4(connection)))
    _comment(connection, target, {})


def _missing(target: Target, found: FoundTable) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns to add: those of records, and the stamps."""
    missing = tuple(column.name for column in target.columns if column.name not in found.types)
    stamps = tuple(name for name in (target.created_at, target.changed_at) if name and name not in found.types)
    return missing, stamps


def _check_not_gone(target: Target, record: TableRecord | None) -> None:
    if record is not None:
        raise LedgerRefused(
            f"table {str(target.table)!r} of {target.label!r} is gone, while the ledger says that it has {record.row_count} rows and that "
            "the stream has been read up to its cursor: restore the table, or fill it again from the beginning with --full-refresh"
        )


def _check_ours(target: Target, record: TableRecord | None) -> None:
    if record is None:
        raise TableRefused(
            f"table {str(target.table)!r} of {target.label!r} exists already, and this pipeline did not create it: name another table "
            "in the YAML with `table: {name: schema.table}`, or let the pipeline take it over with --adopt"
        )


def _check_source(target: Target, record: TableRecord | None, source: SourceIdentity, *, adopt: bool) -> None:
    if record is not None and record.source != source and not adopt:
        raise LedgerRefused(
            f"table {str(target.table)!r} of {target.label!r} has been filled from {record.source}, and this run would read "
            f"{source}, whose cursors and ids are others: point the run at the first one, name another table, or take the table over "
            "with --adopt, which reads the new one from its beginning"
        )


def _find(connection: Connection, target: Target) -> FoundTable | None:
    names = {"schema": target.table.schema, "table": target.table.name}
    row = connection.execute(
        "select c.oid, array(select wanted from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) wanted"
        " where not has_table_privilege(c.oid, wanted)), current_user from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %(schema)s and c.relname = %(table)s and c.relkind in ('r', 'p', 'v', 'm', 'f')",
        names,
    ).fetchone()
    if row is None:
        return None
    oid, lacking, role = row
    assert isinstance(lacking, list)  # noqa: S101 - an array
    types = connection.execute(
        "select attname, format_type(atttypid, atttypmod) from pg_attribute where attrelid = %s and attnum > 0 and not attisdropped",
        (oid,),
    ).fetchall()
    comments = connection.execute(
        "select a.attname, d.description from pg_description d left join pg_attribute a on a.attrelid = d.objoid"
        " and a.attnum = d.objsubid and d.objsubid > 0 where d.objoid = %s and d.classoid = 'pg_class'::regclass",
        (oid,),
    ).fetchall()
    unique = connection.execute(
        "select exists (select from pg_index i where i.indrelid = %s and i.indisunique and i.indimmediate and i.indisvalid"
        " and i.indpred is null and i.indexprs is null and i.indnkeyatts = %s and (select array_agg(a.attname::text order by a.attname)"
        " from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])) = %s)",
        (oid, len(target.key), sorted(target.key)),
    ).fetchone()
    return FoundTable(
        types={str(name): str(kind) for name, kind in types},
        comments={None if name is None else str(name): str(text) for name, text in comments},
        has_unique_key=unique == (True,),
        lacking=tuple(map(str, lacking)),
        role=str(role),
    )


_SPELLED = {"timestamptz": "timestamp with time zone"}


def _check_shape(connection: Connection, target: Target, found: FoundTable) -> None:
    table = str(target.table)
    for name in target.key:
        if name not in found.types:
            raise TableRefused(
                f"table {table!r} of {target.label!r} has no column {name!r}, which is its key: this is not a table of records; "
                "name another one in the YAML with `table: {name: schema.table}`"
            )
    for column in target.columns:
        wanted, is_there = _SPELLED.get(column.type, column.type), found.types.get(column.name, "")
        if is_there and is_there != wanted:
            alter = sql.SQL("alter table {} alter column {} type {}").format(
                sql.Identifier(target.table.schema, target.table.name), sql.Identifier(column.name), sql.SQL(column.type)
            )
            views = _dependent_views(connection, target)
            hindrance = f"; drop and create again what depends on it: {', '.join(views)}" if views else ""
            raise TableRefused(
                f"column {column.name!r} of table {table!r} is of type {is_there!r}, and {target.label!r} declares {column.type!r}: "
                f"declare the type that is there, or run `{alter.as_string(connection)}`{hindrance}"
            )
    if not found.has_unique_key:
        key = ", ".join(target.key)
        raise TableRefused(
            f"table {table!r} of {target.label!r} has no primary key or unique constraint on ({key}), by which versions of a row "
            f"replace each other: add one, as in `alter table {table} add primary key ({key})`"
        )
    lacking = [privilege for privilege in found.lacking if privilege != "DELETE" or target.removes]
    if lacking:
        wanted = ", ".join(lacking).lower()
        raise TableRefused(
            f"role {found.role!r} may not {wanted} on table {table!r} of {target.label!r}: "
            f"give it the right with `grant {wanted} on {table} to {found.role}`"
        )


def _dependent_views(connection: Connection, target: Target) -> list[str]:
    rows = connection.execute(
        "select distinct v.oid::regclass::text from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class"
        " where d.classid = 'pg_rewrite'::regclass and d.refobjid = to_regclass(%s) and v.oid <> d.refobjid order by 1",
        (sql.Identifier(target.table.schema, target.table.name).as_string(connection),),
    ).fetchall()
    return [str(row[0]) for row in rows]


def _create(connection: Connection, target: Target, ledger: Ledger, source: SourceIdentity) -> bool:
    """False when somebody else has just created it, and may have read into it: then nothing has changed."""
    with connection.transaction(), connection.cursor() as cursor:
        lock_ddl(cursor)
        if _find(connection, target) is not None:
            return False
        create_table(connection, target)
        ledger.register_table(connection, source, on_delete=target.on_delete, row_count=0)
    return True


def _create_statement(target: Target, *, has_lz4: bool) -> sql.Composed:
    definitions = [
        sql.SQL("{} {}{}{}").format(
            sql.Identifier(column.name),
            sql.SQL(column.type),
            sql.SQL(" compression lz4" if has_lz4 and column.name == target.data else ""),
            sql.SQL("" if column.is_nullable else " not null"),
        )
        for column in target.columns
    ]
    stamps = [
        sql.SQL("{} timestamptz not null").format(sql.Identifier(name)) for name in (target.created_at, target.changed_at) if name
    ]
    key = sql.SQL("primary key ({})").format(sql.SQL(", ").join(map(sql.Identifier, target.key)))
    return sql.SQL("create table {} ({}){}").format(
        sql.Identifier(target.table.schema, target.table.name),
        sql.SQL(", ").join([*definitions, *stamps, key]),
        sql.SQL("" if has_lz4 else " with (toast_tuple_target = 8160)"),
    )


def _has_lz4(connection: Connection) -> bool:
    """The embedded server and those before 14 have none. Compressing by pglz would cost a third of the whole merge: there, rows of
    up to 8 kB stay as they are."""
    row = connection.execute("select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression'").fetchone()
    return row == (True,)


def _add(connection: Connection, target: Target, ledger: Ledger, names: tuple[str, ...], *, found: FoundTable) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        lock_ddl(cursor)
        # An ALTER that waits makes every reader queue behind it: give up soon, the caller tries again.
        cursor.execute("set local lock_timeout = '5s'")
        for statement in _add_statements(target, names):
            cursor.execute(statement)
        # One that stood there before, and that somebody dropped, has to be filled again.
        forget_columns(connection, ledger, names)
        _comment(connection, target, found.comments)


def _add_statements(target: Target, names: tuple[str, ...]) -> list[sql.Composed]:
    types: dict[str, str] = {column.name: column.type for column in target.columns}
    stamp = sql.SQL("timestamptz not null default now()")
    return [
        sql.SQL("alter table {} add column if not exists {} {}").format(
            sql.Identifier(target.table.schema, target.table.name),
            sql.Identifier(name),
            sql.SQL(types[name]) if name in types else stamp,
        )
        for name in names
    ]


def _register(connection: Connection, target: Target, ledger: Ledger, source: SourceIdentity) -> None:
    with connection.transaction():
        row = connection.execute(
            sql.SQL("select count(*) from {}").format(sql.Identifier(target.table.schema, target.table.name))
        ).fetchone()
        assert row is not None  # noqa: S101 - an aggregate has one row
        ledger.register_table(connection, source, on_delete=target.on_delete, row_count=int(str(row[0])))


def _comments(target: Target) -> dict[str | None, str]:
    """What the pipeline says about the table (None) and its columns."""
    comments: dict[str | None, str] = {column.name: column.description for column in target.columns if column.description}
    stamps = [name for name in (target.created_at, target.changed_at) if name]
    comments |= {name: RECORD_COLUMNS[name] for name in stamps if name in RECORD_COLUMNS}
    return comments | ({None: target.description} if target.description else {})


def _comment(connection: Connection, target: Target, existing: Mapping[str | None, str]) -> None:
    for statement in _comment_statements(connection, target, existing):
        connection.execute(statement)


def _comment_statements(connection: Connection, target: Target, existing: Mapping[str | None, str]) -> Iterator[sql.Composed]:
    table = sql.Identifier(target.table.schema, target.table.name)
    for name, description in _comments(target).items():
        text = held_text(description, connection)
        if existing.get(name) == text:
            continue
        subject = (
            sql.SQL("table {}").format(table)
            if name is None
            else sql.SQL("column {}").format(sql.Identifier(target.table.schema, target.table.name, name))
        )
        yield sql.SQL("comment on {} is {}").format(subject, sql.Literal(text))
