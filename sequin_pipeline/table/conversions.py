"""This module writes the statement by which somebody may turn a column into another type; the pipeline itself never runs it.

A value that the other type cannot hold ends the statement with an error, and leaves the table as it was: nothing is rounded or cut.
"""

from collections.abc import Mapping

from psycopg import sql

from sequin_pipeline.catalog import TableName

_TEXT = frozenset({"text", "character varying", "character", "name", "citext"})
_WHOLE = frozenset({"smallint", "integer", "bigint"})
_FRACTIONS = frozenset({"numeric", "real", "double precision"})
_JSON = frozenset({"json", "jsonb"})

_FROM_NUMBERS: Mapping[str, str] = {
    "boolean": "{c} <> 0",
    "timestamptz": "to_timestamp({c})",
    "date": "(to_timestamp({c}) at time zone 'UTC')::date",
}


def change_type(table: TableName, column: str, found: str, wanted: str, *, has_default: bool = False) -> sql.Composed:
    """Returns an `alter table` that turns the column from type `found`, as `format_type` shows it, into `wanted`, whatever rows there are.

    Numbers are seconds where a time is wanted. A default of the old type is dropped: Postgres converts none by `using`.
    """
    name = sql.Identifier(column)
    using = sql.SQL(_conversion(found, wanted)).format(c=name)
    dropping = sql.SQL("alter column {} drop default, ").format(name) if has_default else sql.SQL("")
    return sql.SQL("alter table {} {}alter column {} type {} using {}").format(
        sql.Identifier(table.schema, table.name), dropping, name, sql.SQL(wanted), using
    )


def _conversion(found: str, wanted: str) -> str:
    kind = _kind(found)
    if wanted in _JSON:
        return f"{{c}}::{wanted}" if kind in _TEXT | _JSON else f"to_{wanted}({{c}})"
    if kind in _JSON:
        return _from_json(wanted)
    if wanted == "text[]":
        return "{c}::text[]" if kind == "array" else "case when {c} is not null then array[{c}::text] end"
    if wanted == "timestamptz" and kind == "timestamp" and found.endswith("without time zone"):
        return "{c} at time zone 'UTC'"
    if kind == "timestamp" and wanted == "date":
        return "({c} at time zone 'UTC')::date" if found.endswith("with time zone") else "{c}::date"
    if kind == "date" and wanted == "timestamptz":
        return "{c}::timestamp at time zone 'UTC'"
    return _scalar(kind, wanted)


def _kind(found: str) -> str:
    if found.endswith("[]"):
        return "array"
    return "timestamp" if found.startswith("timestamp") else found.partition("(")[0]


def _from_json(wanted: str) -> str:
    """Returns a value of JSON as text, without the quotes of a string.

    An array of strings is spelled as Postgres spells arrays.
    """
    if wanted == "text[]":
        return "translate({c}::text, '[]', '{{}}')::text[]"
    unquoted = "({c} #>> '{{}}')"
    return unquoted if wanted == "text" else f"{unquoted}::{wanted}"


def _scalar(kind: str, wanted: str) -> str:
    if kind in _WHOLE | _FRACTIONS and wanted in _FROM_NUMBERS:
        return _FROM_NUMBERS[wanted]
    if kind in _FRACTIONS and wanted in ("integer", "bigint"):
        # By its digits: a cast would round.
        return "trim_scale({c}::numeric)::text::" + wanted
    if kind == "boolean" and wanted in ("integer", "bigint", "numeric", "double precision"):
        return "{c}::integer::" + wanted
    if kind in ("timestamp", "date") and wanted in ("integer", "bigint", "numeric", "double precision"):
        seconds = "extract(epoch from {c})::numeric"
        return f"trim_scale({seconds})::text::{wanted}" if wanted in ("integer", "bigint") else f"{seconds}::{wanted}"
    has_cast = kind in _TEXT or wanted == "text" or (kind in _WHOLE | _FRACTIONS and wanted in _WHOLE | _FRACTIONS)
    return "{c}::" + wanted if has_cast else "{c}::text::" + wanted
