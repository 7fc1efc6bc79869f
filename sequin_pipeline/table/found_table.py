"""This module reads a managed table as it was found: what the catalog of Postgres says of it, and for what it is refused."""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.catalog import POSITION
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.postgres.session_limits import PLAINLY
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.conversions import change_type
from sequin_pipeline.table.target import Target
from sequin_pipeline.table.write_access import WriteAccess, check_access, find_access


@dataclass(frozen=True)
class FoundTable:
    """This value is a table as the catalog of Postgres shows it.

    It holds types by column, the columns that have a default, whether the key can tell conflicting rows, and what stands in a
    writer's way.
    """

    types: Mapping[str, str]
    defaulted: frozenset[str]
    comments: Mapping[str | None, str]
    has_unique_key: bool
    access: WriteAccess


def find_table_in_catalog(connection: Connection, target: Target) -> FoundTable | None:
    access = find_access(connection, target.table)
    if access is None:
        return None
    types = connection.execute(
        sql.SQL(
            "select attname, format_type(atttypid, atttypmod), atthasdef and attgenerated = '' from {}, pg_attribute"
            " where attrelid = %s and attnum > 0 and not attisdropped"
        ).format(PLAINLY),
        (access.oid,),
    ).fetchall()
    comments = connection.execute(
        "select a.attname, d.description from pg_description d left join pg_attribute a on a.attrelid = d.objoid"
        " and a.attnum = d.objsubid and d.objsubid > 0 where d.objoid = %s and d.classoid = 'pg_class'::regclass",
        (access.oid,),
    ).fetchall()
    unique = connection.execute(
        "select exists (select from pg_index i where i.indrelid = %s and i.indisunique and i.indimmediate and i.indisvalid"
        " and i.indpred is null and i.indexprs is null and i.indnkeyatts = %s and (select array_agg(a.attname::text order by a.attname)"
        " from pg_attribute a where a.attrelid = i.indrelid and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])) = %s)",
        (access.oid, len(target.key), sorted(target.key)),
    ).fetchone()
    return FoundTable(
        types={str(name): str(kind) for name, kind, _ in types},
        defaulted=frozenset(str(name) for name, _, has_default in types if has_default),
        comments={None if name is None else str(name): str(text) for name, text in comments},
        has_unique_key=unique == (True,),
        access=access,
    )


_SPELLED = {"timestamptz": "timestamp with time zone"}


def check_found(connection: Connection, target: Target, found: FoundTable) -> None:
    table = str(target.table)
    check_access(target, found.access)
    for name in target.key:
        if name not in found.types:
            raise TableRefused(
                f"table {table!r} of {target.label!r} has no column {name!r}, which is its key: this is not a table of records; "
                "name another one in the YAML with `table: {name: schema.table}`"
            )
    if target.is_child and POSITION.name in found.types and POSITION.name not in target.column_names:
        raise _refused_position(connection, target)
    for column in target.columns:
        wanted, is_there = _SPELLED.get(column.type, column.type), found.types.get(column.name, "")
        if is_there and is_there != wanted:
            alter = change_type(
                target.table,
                column.name,
                is_there,
                column.type,
                has_default=column.name in found.defaulted,
            )
            views = _dependent_views(connection, target)
            hindrance = f"; drop and create again what depends on it: {', '.join(views)}" if views else ""
            raise TableRefused(
                f"column {column.name!r} of table {table!r} is of type {is_there!r}, and {target.label!r} declares {column.type!r}: "
                f"declare the type that is there, or run `{alter.as_string(connection)}`{hindrance}"
            )
    if not found.has_unique_key:
        key = ", ".join(target.key)
        alter = sql.SQL("alter table {} add primary key ({})").format(
            sql.Identifier(target.table.schema, target.table.name), sql.SQL(", ").join(map(sql.Identifier, target.key))
        )
        raise TableRefused(
            f"table {table!r} of {target.label!r} has no primary key or unique constraint on ({key}), by which versions of a row "
            f"replace each other: add one, as in `{alter.as_string(connection)}`"
        )


def _refused_position(connection: Connection, target: Target) -> TableRefused:
    alter = sql.SQL("alter table {} drop column {}").format(
        sql.Identifier(target.table.schema, target.table.name), sql.Identifier(POSITION.name)
    )
    return TableRefused(
        f"table {str(target.table)!r} of {target.label!r} has a column {POSITION.name!r}, since its rows were elements of a list: now they "
        "are the members of an object, which have no positions. Name another table in the YAML with `table: {name: schema.table}`, drop "
        f"this one, or run `{alter.as_string(connection)}`"
    )


def _dependent_views(connection: Connection, target: Target) -> list[str]:
    rows = connection.execute(
        "select distinct v.oid::regclass::text from pg_depend d join pg_rewrite r on r.oid = d.objid join pg_class v on v.oid = r.ev_class"
        " where d.classid = 'pg_rewrite'::regclass and d.refobjid = to_regclass(%s) and v.oid <> d.refobjid order by 1",
        (sql.Identifier(target.table.schema, target.table.name).as_string(connection),),
    ).fetchall()
    return [str(row[0]) for row in rows]
