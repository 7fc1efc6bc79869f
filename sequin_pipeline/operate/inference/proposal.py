"""A proposal is a declaration: its columns, what the sample says about each, and the YAML that declares it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import yaml

from sequin_pipeline.catalog import Collection, Column, Path, SourceDeclaration
from sequin_pipeline.declare.parse import DEFAULT_ACCOUNTS
from sequin_pipeline.operate.inference.children import ProposedChild, propose_children
from sequin_pipeline.operate.inference.connector_keys import connector_keys, option_keys, stream_keys
from sequin_pipeline.operate.inference.examples import example_of
from sequin_pipeline.operate.inference.names import column_names
from sequin_pipeline.operate.inference.rest_keys import api_keys, read_keys
from sequin_pipeline.operate.inference.sample import Sample, SampledField, fields_of
from sequin_pipeline.operate.inference.types import propose_column
from sequin_pipeline.sources import FieldDescription

_EMPTY_VALUES = (b'""', b"[]", b"{}")


@dataclass(frozen=True)
class ProposedColumn:
    """This value is a column, and the field whose every value it takes."""

    column: Column
    field: SampledField


@dataclass(frozen=True)
class Proposal:
    """A proposal has columns, `keys` as further YAML values of the collection, and `remarks` as comments; the sample is from `source`.

    `children` are lists that could be tables, written as comments.

    `untold` are columns of fields that are null throughout the sample, so that nothing tells their types: they are written as comments.

    `refused_records` of the sample are those that the table would refuse though they fit the declaration; `is_refused`: it would
    refuse all of them.
    """

    provider: str
    name: str
    columns: tuple[ProposedColumn, ...]
    keys: Mapping[str, object] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    source: SourceDeclaration = field(default_factory=SourceDeclaration)
    refused_records: int = 0
    is_refused: bool = False
    untold: tuple[ProposedColumn, ...] = ()
    children: tuple[ProposedChild, ...] = ()


def propose(collection: Collection, sample: Sample, described: Sequence[FieldDescription]) -> Proposal:
    """Proposes a column for each field of the sample, and for each that the source describes and the sample does not have.

    Fields of which the sample has no value are left to whoever reads the proposal, unless there is no record to tell more.
    """
    words = {description.path: description.type for description in described}
    sampled = fields_of(sample)
    known = {field.steps[0] for field in sampled}
    unseen = tuple(SampledField((path,), (), len(sample.objects)) for path in words if path not in known)
    fields = (*sampled, *unseen)
    names = column_names(collection.provider, [field.steps for field in fields])
    columns = [
        ProposedColumn(propose_column(names[field.steps], field, described_as=words.get(".".join(field.steps), "")), field)
        for field in fields
    ]
    is_told = [bool(column.field.values) or not sample.objects for column in columns]
    return Proposal(
        collection.provider,
        collection.name,
        tuple(column for column, told in zip(columns, is_told, strict=True) if told),
        source=collection.source,
        untold=tuple(column for column, told in zip(columns, is_told, strict=True) if not told),
        children=propose_children(collection.provider, sample),
    )


def written(proposal: Proposal, heading: Sequence[str] = ()) -> str:
    """Returns a whole defs.yaml: the heading as comments first, behind each column how often it is null and an example."""
    lines = [f"# {line}" for line in heading]
    lines += ["type: sequin_pipeline.component.CollectionSync", "attributes:", f"  {_flow({'provider': proposal.provider})}"]
    lines += [f"  {_flow({key: value})}" for key, value in _source_keys(proposal.source).items()]
    lines += ["  collections:", f"    {_flow(proposal.name)}:"]
    lines += [f"      # {remark}" for remark in proposal.remarks]
    read = {**stream_keys(proposal.source, proposal.name), **read_keys(proposal.source, proposal.name)}
    of_collection = {**proposal.keys, **read}
    lines += [f"      {_flow({key: value})}" for key, value in of_collection.items()]
    lines.append("      columns:" if proposal.columns else "      columns: {}")
    lines += [f"        {_declaration(item)}  # {_remark(item)}" for item in proposal.columns]
    lines += [f"        # {_declaration(item)}  # {_remark(item)}" for item in proposal.untold]
    if proposal.children:
        lines.append("      # Lists that could be tables of their own:")
        lines += [f"      # {line}" for line in children_lines(proposal.children)]
    return "\n".join(lines) + "\n"


def children_lines(children: Sequence[ProposedChild]) -> list[str]:
    """Returns the key of a collection that makes tables of these lists, line by line."""
    lines = ["children:"]
    for child in children:
        lines += [f"  {_flow(child.name)}:", f"    {_flow({'path': path_text(child.path)})}"]
        lines += ["    key: [id]"] if child.has_key else []
        lines += ["    columns:"] if child.columns else []
        lines += [f"      {_flow({column.name: _keys_of(column)})}" for column in child.columns]
    return lines


def _source_keys(source: SourceDeclaration) -> dict[str, object]:
    """Returns the keys that say where the records come from, unless a file without them means the same."""
    accounts = [
        {
            "name": account.name,
            "key": account.key_variable,
            **({"account": account.connected_account} if account.connected_account else {}),
            **({"external_id": account.external_id} if account.external_id else {}),
            **({"metadata": dict(account.metadata)} if account.metadata else {}),
        }
        for account in source.accounts
        if source.accounts != DEFAULT_ACCOUNTS
    ]
    kind = {} if source.kind == SourceDeclaration().kind else {"source": source.kind}
    syncs = {"syncs": accounts} if accounts else {}
    return {**kind, **syncs, **option_keys(source), **connector_keys(source), **api_keys(source)}


def _declaration(item: ProposedColumn) -> str:
    return _flow({item.column.name: _keys_of(item.column)})


def _keys_of(column: Column) -> dict[str, object]:
    keys: dict[str, object] = {"path": path_text(column.path), "type": column.type}
    if column.time_format != "iso":
        keys["format"] = column.time_format
    if column.empty_as_null:
        keys["empty_as_null"] = True
    if column.rejects_nulls:
        keys["nulls"] = "reject"
    return keys


def path_text(path: Path) -> str:
    """Returns the path as people write it: without the leading `$` where it means the same."""
    text = str(path)
    return text if text.startswith("$.record") else text.removeprefix("$").removeprefix(".")


def _remark(item: ProposedColumn) -> str:
    field = item.field
    if not field.values:
        return "always null in the sample"
    telling = [value for value in field.values if value not in _EMPTY_VALUES] or field.values
    return f"{_nulls(field.null_share)}, as in {example_of(min(telling, key=len), steps=field.steps)}{_null_elements(item)}"


def _null_elements(item: ProposedColumn) -> str:
    """Tells of nulls within arrays, which not every reader of a text[] takes."""
    if item.column.type != "text[]" or item.column.rejects_nulls:
        return ""
    holders = sum(None in msgspec.json.decode(value) for value in item.field.values)
    return f"; {holders:,} with nulls within, which Prisma does not read (`nulls: reject` keeps them out)" if holders else ""


def _nulls(share: float) -> str:
    if not share:
        return "never null"
    percent = min(99.9, max(0.1, round(100 * share, 1)))
    return f"null in {percent:g} %"


class _OneLine(yaml.SafeDumper):
    """This dumper writes line breaks in a text as escapes: in single quotes they would end the line, and the comment that it is."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_OneLine.add_representer(str, _represent_text)


def _flow(value: object) -> str:
    """Returns one line of YAML: a scalar, or a mapping of one key as a line of a block."""
    if isinstance(value, dict):
        ((key, inner),) = value.items()
        return f"{_flow(key)}: {_flow_value(inner)}"
    return _flow_value(value)


def _flow_value(value: object) -> str:
    # PyYAML writes some line breaks of Unicode as they are, and reads them back as spaces.
    is_printable = json.dumps(value, ensure_ascii=False).isprintable()
    text = yaml.dump(
        value, Dumper=_OneLine, default_flow_style=True, width=float("inf"), allow_unicode=is_printable, sort_keys=False
    )
    return text.strip().removesuffix("\n...").strip()
