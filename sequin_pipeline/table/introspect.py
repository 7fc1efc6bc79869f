"""This module reads a table as the catalog of Postgres shows it to a writer.

That is its columns' real types, what it requires, what it would not let through. Reads only, and only the catalog. What that
means for a declaration is decided in unmanaged.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.postgres.session_limits import PLAINLY
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.write_access import WriteAccess, find_access


@dataclass(frozen=True)
class IntrospectedColumn:
    """This value is a column, seen through its domains.

    `shown` is its type as people write it, `type` without domain, length and precision; `cast` the type's full name, for enums,
    whatever the search path is. Numbers are None where the type has no such bound. `folds`: its collation takes different texts
    for equal.
    """

    name: str
    shown: str
    type: str
    cast: str
    is_enum: bool = False
    characters: int | None = None
    decimals: int | None = None
    second_digits: int | None = None
    is_not_null: bool = False
    has_default: bool = False
    is_generated: bool = False
    is_always_identity: bool = False
    folds: bool = False


@dataclass(frozen=True)
class IntrospectedTable:
    """This value is a table as it was read.

    `keys` are the sets of columns by which an upsert can find rows, `access` says what stands in a writer's way.
    """

    access: WriteAccess
    columns: Mapping[str, IntrospectedColumn]
    keys: frozenset[frozenset[str]]

    @property
    def kind(self) -> str:
        """This is its pg_class.relkind."""
        return self.access.kind


def introspect(connection: Connection, table: TableName) -> IntrospectedTable | None:
    """Reads the table; None where there is no such table, or nothing of that name. Raises psycopg.Error."""
    access = find_access(connection, table)
    if access is None:
        return None
    return IntrospectedTable(
        access=access,
        columns={column.name: column for column in _columns(connection, access.oid)},
        keys=_keys(connection, access.oid),
    )


def _columns(connection: Connection, oid: object) -> list[IntrospectedColumn]:
    rows = connection.execute(
        # Down through domains to the type that values are stored as; each may bring a length, a default and a not null.
        sql.SQL(
            "with recursive seen as (select a.attnum, a.attname::text as name, format_type(a.atttypid, a.atttypmod) as shown,"
            " a.atttypid as type, a.atttypmod as modifier, a.attnotnull as is_not_null, a.atthasdef or a.attidentity <> '' as has_default,"
            " a.attgenerated <> '' as is_generated, a.attidentity = 'a' as is_always_identity, a.attcollation as collation"
            " from {plainly}, pg_attribute a where a.attrelid = %s and a.attnum > 0 and not a.attisdropped"
            " union all select s.attnum, s.name, s.shown, d.typbasetype, d.typtypmod, s.is_not_null or d.typnotnull,"
            " s.has_default or d.typdefault is not null, s.is_generated, s.is_always_identity, s.collation"
            " from seen s join pg_type d on d.oid = s.type where d.typtype = 'd')"
            " select s.name, s.shown, format_type(s.type, null), coalesce(e.typtype, t.typtype) = 'e',"
            " format('%%I.%%I', n.nspname, coalesce(e.typname, t.typname)) || case when e.oid is null then '' else '[]' end,"
            " s.modifier, s.is_not_null, s.has_default, s.is_generated, s.is_always_identity, not coalesce(c.collisdeterministic, true)"
            " from seen s join pg_type t on t.oid = s.type left join pg_type e on e.oid = t.typelem and t.typcategory = 'A'"
            " join pg_namespace n on n.oid = coalesce(e.typnamespace, t.typnamespace)"
            " left join pg_collation c on c.oid = s.collation where t.typtype <> 'd' order by s.attnum"
        ).format(plainly=PLAINLY),
        (oid,),
    ).fetchall()
    return [_column(*row) for row in rows]  # type: ignore[arg-type]  # as the statement casts them


def _column(
    name: str,
    shown: str,
    type_name: str,
    is_enum: bool,  # noqa: FBT001 - a row of the statement above
    cast: str,
    modifier: int,
    *flags: bool,
) -> IntrospectedColumn:
    is_not_null, has_default, is_generated, is_always_identity, folds = flags
    has_modifier = modifier >= 0
    return IntrospectedColumn(
        name=name,
        shown=shown,
        type=type_name,
        cast=cast,
        is_enum=is_enum,
        characters=modifier - 4 if has_modifier and type_name.startswith("character") else None,
        decimals=_scale(modifier) if has_modifier and type_name == "numeric" else None,
        second_digits=modifier if has_modifier and type_name.startswith("timestamp") else None,
        is_not_null=is_not_null,
        has_default=has_default,
        is_generated=is_generated,
        is_always_identity=is_always_identity,
        folds=folds,
    )


def _scale(modifier: int) -> int:
    """Returns the scale of a numeric: eleven bits with a sign, as numeric.c packs them since Postgres 15.

    Before, scales were never negative.
    """
    return (((modifier - 4) & 0x7FF) ^ 1024) - 1024


def _keys(connection: Connection, oid: object) -> frozenset[frozenset[str]]:
    """Returns the unique indexes that tell conflicts at once, for all rows, by whole columns, byte for byte."""
    rows = connection.execute(
        "select array(select a.attname::text from pg_attribute a where a.attrelid = i.indrelid"
        " and a.attnum = any(i.indkey[0:i.indnkeyatts - 1])) from pg_index i where i.indrelid = %s and i.indisunique and i.indimmediate"
        " and i.indisvalid and i.indpred is null and i.indexprs is null and not exists (select from pg_collation c"
        " where c.oid = any(i.indcollation) and not c.collisdeterministic)",
        (oid,),
    ).fetchall()
    return frozenset(frozenset(map(str, names)) for (names,) in rows)  # type: ignore[call-overload]  # a text[]
