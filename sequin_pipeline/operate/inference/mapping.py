"""This module proposes a mapping onto a table that an application made, by the names and types of its columns.

Whether it holds is not decided here: what is proposed is checked against the table by table/unmanaged.py and the sample's values by
refusals.py, or says what these refuse.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sequin_pipeline.catalog import Collection, Column, TableName
from sequin_pipeline.errors import ConfigurationError, TableRefused
from sequin_pipeline.ledger.schema import check_server
from sequin_pipeline.operate.inference.names import column_names
from sequin_pipeline.operate.inference.proposal import Proposal, ProposedColumn, written
from sequin_pipeline.operate.inference.refusals import Refusal, refusals
from sequin_pipeline.operate.inference.sample import Sample, SampledField, fields_of
from sequin_pipeline.operate.inference.tried import declared
from sequin_pipeline.operate.inference.types import fitting
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.records.fields import RECORD_COLUMNS
from sequin_pipeline.table.introspect import IntrospectedColumn, IntrospectedTable
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.table.unmanaged import IDENTIFIERS, RECORD_IDS, TAKES, fitted

_ALIASES = {"externalid": "internal_id", "syncexternalid": "internal_id", "isdeleted": "deleted"}
"""Guides and applications use these names for fields of the record."""

_STAMPS = ("inserted_at", "updated_at")


@dataclass(frozen=True)
class _Match:
    """A match is what a column of the table takes: one of the record's own columns (`ours`), or a field with its declared column."""

    found: IntrospectedColumn
    ours: str
    proposed: ProposedColumn | None = None


def propose_mapping(
    connection: Connection, collection: Collection, sample: Sample, table: TableName, introspected: IntrospectedTable
) -> Proposal:
    """Proposes the columns that both sides have, by name and type, with remarks about the table's others and what would be rejected.

    A column of which no sampled value fits is matched no more. Raises ConfigurationError where no column can find a record's row
    again, or the server is older than any that a run takes, psycopg.Error.
    """
    check_server(connection.info.server_version)
    hopeless: frozenset[tuple[str, str]] = frozenset()
    while True:
        proposal = _proposed(collection, sample, table, introspected, hopeless)
        declaration = declared(written(proposal))
        try:
            target = fitted(collection_target(declaration), introspected)
        except TableRefused as refused:
            return replace(proposal, remarks=(f"A run would refuse it as it is: {refused}", *proposal.remarks), is_refused=True)
        found = refusals(connection, declaration, target, introspected, sample)
        without_values = _without_values(found) - hopeless
        if not without_values:
            rows = {row for refusal in found for row in refusal.rows}
            return replace(proposal, remarks=(*map(str, found), *proposal.remarks), refused_records=len(rows))
        hopeless |= without_values


def _without_values(found: Sequence[Refusal]) -> frozenset[tuple[str, str]]:
    """Returns declared columns of which no value fits, each with the table's."""
    refused = Counter[tuple[str, str]]()
    for refusal in found:
        if refusal.example:
            refused[refusal.column.table_name, refusal.column.name] += len(refusal.rows)
    wholes = {(refusal.column.table_name, refusal.column.name): refusal.of for refusal in found if refusal.example}
    return frozenset(pair for pair, count in refused.items() if count == wholes[pair] and pair[1] not in RECORD_COLUMNS)


def _proposed(
    collection: Collection,
    sample: Sample,
    table: TableName,
    introspected: IntrospectedTable,
    hopeless: frozenset[tuple[str, str]],
) -> Proposal:
    fields = fields_of(sample, wholes=True)
    names = column_names(collection.provider, [field.steps for field in fields])
    has_version = any(_plain(name) == "updatedidx" for name in introspected.columns)
    matches: list[_Match] = []
    remarks: list[str] = []
    for found in introspected.columns.values():
        taken = {match.ours for match in matches}
        left = {field.steps: names[field.steps] for field in fields if names[field.steps] not in taken}
        offered = [field for field in fields if field.steps in left and (found.name, left[field.steps]) not in hopeless]
        match, remark = _match(collection, found, offered, names=names)
        if (
            match is None
            and not has_version
            and _plain(found.name) == "version"
            and _takes_record(collection, "updated_idx", found)
        ):
            match, remark = (
                _Match(found, "updated_idx"),
                f"{found.name} takes updated_idx of the record: is it the version of a row?",
            )
        unfit = [steps for steps, name in left.items() if (found.name, name) in hopeless]
        if match is None and unfit:
            remark += f"; no value of {'.'.join(unfit[0])} goes into its type"
        if match is not None and match.ours not in taken:
            matches.append(match)
        if remark:
            remarks.append(remark)
    mapping = {match.ours: match.found.name for match in matches}
    keys = _keys(collection, table, mapping, rounds=any(_keeps_fewer_digits(match) for match in matches), remarks=remarks)
    columns = tuple(match.proposed for match in matches if match.proposed is not None)
    return Proposal(collection.provider, collection.name, columns, keys, tuple(remarks), collection.source)


def _match(
    collection: Collection, found: IntrospectedColumn, fields: Sequence[SampledField], *, names: Mapping[tuple[str, ...], str]
) -> tuple[_Match | None, str]:
    if found.is_generated or found.is_always_identity:
        return None, f"{found.name} is filled by Postgres itself"
    name = _plain(found.name)
    ours = _ALIASES.get(name) or next(
        (known for known in RECORD_COLUMNS if _plain(known) == name and known != "content_hash"), None
    )
    if ours is not None and _takes_record(collection, ours, found):
        return _Match(found, ours), ""
    misfit = f"; {ours} of the record does not go into its type" if ours else ""
    for field, is_similar in _alike(collection.provider, found, fields):
        column = _fitting(found, field, names[field.steps])
        if column is None:
            misfit = f"; values of {_dotted(field)} do not go into its type"
            continue
        remark = f"{found.name} takes {_dotted(field)}, of a similar name: is it the same?" if is_similar else ""
        return _Match(found, column.name, ProposedColumn(column, field)), remark
    is_required = found.is_not_null and not found.has_default
    return None, f"{found.name} ({found.shown}) is not matched{misfit}{', and the table requires it' if is_required else ''}"


def _alike(provider: str, found: IntrospectedColumn, fields: Sequence[SampledField]) -> Iterator[tuple[SampledField, bool]]:
    """Yields fields of the column's name, then those of a similar one: without the provider, or without `Id` or `At`."""
    name = _plain(found.name)
    yield from ((field, False) for field in fields if _plain("".join(field.steps)) == name)
    bare = name.removeprefix(_plain(provider))
    similar = {bare, bare.removesuffix("id"), bare.removesuffix("at")} - {""}
    for field in fields:
        if _plain("".join(field.steps)) != name and {_plain("".join(field.steps)), _plain(field.steps[-1])} & {name, *similar}:
            yield field, True


def _dotted(field: SampledField) -> str:
    return ".".join(field.steps)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _takes_record(collection: Collection, ours: str, found: IntrospectedColumn) -> bool:
    if ours in _STAMPS:
        return found.type in TAKES["timestamptz"]
    column = collection_target(collection).column(ours)
    if ours == "updated_idx":
        return (found.type, found.decimals) in (("bigint", None), ("numeric", None))
    return found.type in TAKES[column.type] or (ours in RECORD_IDS and found.type in IDENTIFIERS)


def _fitting(found: IntrospectedColumn, field: SampledField, name: str) -> Column | None:
    """Returns a declaration that takes every value, of the type nearest to the column's own; of the column's limits it knows nothing."""
    if found.is_enum:
        return fitting(name, field, "text[]" if found.cast.endswith("[]") else "text")
    kinds = [declared for declared, types in TAKES.items() if found.type in types]
    for kind in sorted(kinds, key=lambda declared: declared != found.type):
        column = fitting(name, field, kind)  # type: ignore[arg-type]  # the keys of TAKES are column types
        if column is not None:
            return column
    return None


def _keeps_fewer_digits(match: _Match) -> bool:
    return match.ours not in _STAMPS and match.found.second_digits is not None and match.found.second_digits < 6


def _keys(
    collection: Collection, table: TableName, mapping: dict[str, str], *, rounds: bool, remarks: list[str]
) -> dict[str, object]:
    if "id" not in mapping and not {"sync_id", "upstream_id"} <= mapping.keys():
        raise ConfigurationError(
            f"table {str(table)!r} has no column for the id of a record of {collection.label!r}, nor for its sync_id and upstream_id, by "
            f"which a row would be found again: add one. {'. '.join(remarks)}"
        )
    declaration: dict[str, object] = {"name": str(table), "managed": False}
    if "id" not in mapping:
        declaration["key"] = ["sync_id", "upstream_id"]
    if rounds:
        declaration["round"] = True
        remarks.append("times are rounded to the digits that the table keeps; without `round` one with more is a reject")
    keys: dict[str, object] = {"table": {**declaration, "columns": mapping}}
    if "updated_idx" not in mapping:
        remarks.append("no column takes updated_idx: the ledger keeps the versions")
    if "deleted" not in mapping:
        remarks.append("no column takes deleted: a deletion removes the row")
        keys["on_delete"] = "remove"
    return keys
