"""This module matches what is declared against a table that belongs to an application, before the first row.

The table is never created, altered or commented on. What cannot work is refused here, with the column and its fix; what may fail for
single rows (a text too long, a CHECK, a parent that is missing) becomes a reject of those rows alone. Not about foreign data wrappers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sequin_pipeline.errors import TableRefused
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.conversions import change_type
from sequin_pipeline.table.introspect import IntrospectedColumn, IntrospectedTable, introspect
from sequin_pipeline.table.target import DIGIT_KEEPING_TYPES, PARENT_ID, Target, TargetColumn
from sequin_pipeline.table.type_limits import (
    CANONICAL_INTEGER,
    CANONICAL_UUID,
    Decimals,
    Limit,
    MaxCharacters,
    NotNull,
    SecondDigits,
    WholeNumbers,
)
from sequin_pipeline.table.write_access import check_access, find_access

UTC_WITHOUT_ZONE = "timestamptz at time zone 'UTC'"
"""A `timestamp` that says no zone holds UTC, whatever the time zone of the session."""


@dataclass(frozen=True)
class TypeMapping:
    """This value says how values of a declared type are written to a column: see TargetColumn."""

    cast: str | None = None
    compared_as: str | None = None
    limits: tuple[Limit, ...] = ()


TAKES: Mapping[str, Mapping[str, TypeMapping]] = {
    "text": {"text": TypeMapping(), "character varying": TypeMapping()},
    "boolean": {"boolean": TypeMapping()},
    "integer": {"integer": TypeMapping(), "bigint": TypeMapping(), "smallint": TypeMapping(), "numeric": TypeMapping()},
    "bigint": {"bigint": TypeMapping(), "integer": TypeMapping(), "smallint": TypeMapping(), "numeric": TypeMapping()},
    "numeric": {"numeric": TypeMapping("numeric")},
    "double precision": {"double precision": TypeMapping()},
    "date": {"date": TypeMapping()},
    "timestamptz": {"timestamp with time zone": TypeMapping(), "timestamp without time zone": TypeMapping(UTC_WITHOUT_ZONE)},
    "uuid": {"uuid": TypeMapping("uuid")},
    "text[]": {"text[]": TypeMapping("text[]"), "character varying[]": TypeMapping("character varying[]")},
    # json keeps the text it is given and has no equality: jsonb's form of it is written, and compared.
    "jsonb": {"jsonb": TypeMapping("jsonb"), "json": TypeMapping("jsonb::json", compared_as="text")},
}
"""These mappings stand by declared type and the table's own, without length and precision.

Enums take `text` and `text[]` by their own name.
"""

INTEGER_BITS: Mapping[str, int] = {"smallint": 16, "integer": 32}

IDENTIFIERS: Mapping[str, TypeMapping] = {
    "uuid": TypeMapping("uuid", limits=(CANONICAL_UUID,)),
    "bigint": TypeMapping("bigint", limits=(CANONICAL_INTEGER,)),
    "integer": TypeMapping("integer", limits=(CANONICAL_INTEGER,)),
}
"""The record's own ids may be kept in these types besides."""

RECORD_IDS = ("id", "upstream_id", "internal_id", "sync_id")


def look_up(connection: Connection, target: Target) -> Target:
    """Returns the target as its table takes it; one that the pipeline manages as it is, once nothing stands in a writer's way.

    That takes a few reads of the catalog. Raises TableRefused where table and declaration do not go together, psycopg.Error.
    """
    if target.unmanaged is None:
        access = find_access(connection, target.table)
        if access is not None:
            check_access(target, access)
        return target
    introspected = introspect(connection, target.table)
    if introspected is None:
        raise TableRefused(
            f"table {str(target.table)!r} of {target.label!r} does not exist, and `managed: false` says that an application creates it: "
            "run its migrations, or fix the name in the YAML (upper and lower case count)"
        )
    return fitted(target, introspected)


def fitted(target: Target, introspected: IntrospectedTable) -> Target:
    """Returns the target with casts and limits of the table's own types. Raises TableRefused."""
    check_access(target, introspected.access)
    match = _Match(target, introspected)
    columns = tuple(match.column(column) if column.scope == "table" else column for column in target.columns)
    match.check_key()
    match.check_required()
    return replace(
        target,
        columns=tuple(match.key_column(column) if column.name in target.key else column for column in columns),
        stamp_casts=match.stamp_casts(),
        is_partitioned=introspected.kind == "p",
    )


@dataclass(frozen=True)
class _Match:
    target: Target
    introspected: IntrospectedTable

    def column(self, column: TargetColumn) -> TargetColumn:
        found = self._found(column.table_name, column.name)
        fit = self._fit(column, found)
        if fit is None:
            raise self._refused(
                f"has column {found.name!r} of type {found.shown!r}, in which {column.name!r} of type {column.type!r} cannot be kept: "
                f"{self._fix(column, found)}"
            )
        limits, rounds_to = [*fit.limits], None
        if found.characters is not None:
            limits.append(MaxCharacters(found.characters))
        if column.type in ("integer", "bigint") and found.type in INTEGER_BITS and found.type != column.type:
            limits.append(WholeNumbers(INTEGER_BITS[found.type]))
        if found.decimals is not None and column.type == "numeric":
            limits.append(Decimals(found.decimals))
        if found.second_digits is not None and found.second_digits < 6:
            rounds_to = found.second_digits if self._rounds else None
            limits += [] if self._rounds else [SecondDigits(found.second_digits)]
        compared_as = 'text collate "C"' if found.folds else fit.compared_as
        return replace(
            column,
            cast=fit.cast,
            compared_as=compared_as,
            keeps_digits=column.type in DIGIT_KEEPING_TYPES and compared_as is None and found.decimals is None,
            limits=tuple(limits),
            rounds_to=rounds_to,
        )

    def key_column(self, column: TargetColumn) -> TargetColumn:
        if self.introspected.columns[column.table_name].folds:
            raise self._refused(
                f"has key column {column.table_name!r} with a collation that takes different texts for equal, so that two records could be "
                "one row: give it a deterministic one"
            )
        return replace(column, limits=(NotNull(), *column.limits))

    def check_key(self) -> None:
        names = [self.target.column(name).table_name for name in self.target.key]
        if frozenset(names) in self.introspected.keys:
            return
        raise self._refused(
            f"has no primary key or unique index on exactly ({', '.join(names)}), by which versions of a record replace each other "
            "(a deferrable, partial or invalid one does not serve): add one, or name with `key` the columns that have one"
        )

    def check_required(self) -> None:
        """Checks what an insert must bring, and what nobody may bring."""
        written = {column.table_name: column.name for column in self.target.stored}
        written |= {name: ours for ours, name in self.target.stamps.items()}
        for found in self.introspected.columns.values():
            if found.name in written and (found.is_generated or found.is_always_identity):
                raise self._refused(
                    f"has column {found.name!r}, which Postgres fills by itself, and {written[found.name]!r} is mapped to it: "
                    "take it out of the mapping"
                )
            if found.name not in written and found.is_not_null and not (found.has_default or found.is_generated):
                raise self._refused(
                    f"requires a value in column {found.name!r}, and nothing is mapped to it: map one of {', '.join(self._unmapped())} "
                    "or a declared column to it, give it a default, or drop its NOT NULL"
                )

    def stamp_casts(self) -> Mapping[str, str]:
        casts = {}
        for ours, name in self.target.stamps.items():
            found = self._found(name, ours)
            if found.type == "timestamp without time zone":
                casts[name] = UTC_WITHOUT_ZONE
            elif found.type != "timestamp with time zone":
                raise self._refused(
                    f"has column {name!r} of type {found.shown!r}, and {ours!r} is the time of a change: "
                    "map it to a timestamptz or timestamp column"
                )
        return casts

    @property
    def _rounds(self) -> bool:
        return self.target.unmanaged is not None and self.target.unmanaged.rounds

    def _fit(self, column: TargetColumn, found: IntrospectedColumn) -> TypeMapping | None:
        if found.is_enum and column.type == ("text[]" if found.cast.endswith("[]") else "text"):
            return TypeMapping(found.cast)
        if column.name == self.target.version and (found.type, found.decimals) not in (("bigint", None), ("numeric", None)):
            return None
        if column.type in ("integer", "bigint") and found.decimals is not None and found.decimals < 0:
            return None
        if found.type == "character varying[]" and found.shown != "character varying[]":
            return None
        if (column.name in RECORD_IDS or self._is_parent_id(column)) and found.type in IDENTIFIERS:
            return IDENTIFIERS[found.type]
        return TAKES[column.type].get(found.type)

    def _is_parent_id(self, column: TargetColumn) -> bool:
        return self.target.is_child and column.name == PARENT_ID

    def _fix(self, column: TargetColumn, found: IntrospectedColumn) -> str:
        if column.name == self.target.version:
            # Only if the application agrees: the table is its own.
            alter = change_type(self.target.table, found.name, found.shown, "bigint", has_default=found.has_default)
            return f"versions exceed 32 bits, so `{alter.as_string()}`, or leave it out of the mapping"
        taken = ", ".join(TAKES[column.type])
        other = next((declared for declared, types in TAKES.items() if found.type in types), None)
        is_declared = column.name not in (*RECORD_IDS, self.target.tombstone, self.target.data) and not self._is_parent_id(column)
        declare = f"declare it as {other!r}, or " if other and is_declared and other != column.type else ""
        return f"{declare}map it to a column of type {taken}"

    def _unmapped(self) -> list[str]:
        stamps = [ours for ours in ("inserted_at", "updated_at") if ours not in self.target.stamps]
        return [*(column.name for column in self.target.columns if column.scope != "table"), *stamps]

    def _found(self, name: str, ours: str) -> IntrospectedColumn:
        if name not in self.introspected.columns:
            raise self._refused(
                f"has no column {name!r}, to which {ours!r} is mapped: its columns are {', '.join(map(repr, self.introspected.columns))} "
                "(upper and lower case count)"
            )
        return self.introspected.columns[name]

    def _refused(self, what: str) -> TableRefused:
        return TableRefused(f"table {str(self.target.table)!r} of {self.target.label!r} {what}")
