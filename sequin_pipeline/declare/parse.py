"""From the models of a defs.yaml to collections of the catalog, or to a CatalogError with file and line of the node at fault.

Knows neither Dagster nor the warehouse. What only shows among several files is checked by component.py and catalog.check_tables.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches

import yaml

from sequin_pipeline.catalog import (
    RECORD_COLUMNS,
    RESERVED_SCHEMAS,
    Collection,
    Column,
    Queue,
    SourceAccount,
    SourceDeclaration,
    TableName,
    UnmanagedTable,
    Windows,
    default_table,
    parse_path,
)
from sequin_pipeline.declare.yaml_models import (
    COLLECTION_PATTERN,
    COLUMN_PATTERN,
    HISTORY_PATTERN,
    OWNER_PATTERN,
    PROVIDER_PATTERN,
    START_PATTERN,
    SYNC_PATTERN,
    TABLE_PATTERN,
    TAG_PATTERN,
    TAG_VALUE_PATTERN,
    UNMANAGED_COLUMN_PATTERN,
    UNMANAGED_TABLE_PATTERN,
    VARIABLE_PATTERN,
    CollectionModel,
    ColumnModel,
    ProviderModel,
    SyncModel,
    TableModel,
    WindowsModel,
)
from sequin_pipeline.errors import CatalogError
from sequin_pipeline.sources.registry import KINDS
from sequin_pipeline.windows import check_windows

DEFAULT_ACCOUNTS = (SourceAccount("default", SyncModel(name="default").key),)
"""The one account of a provider that declares none."""

SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Postgres refuses them as names of columns (Postgres documentation, 5.6)."""


@dataclass(frozen=True)
class Node:
    """A place in the YAML: `origin_of` gives `file:line` of a path of keys, or of its nearest ancestor that the file has."""

    origin_of: Callable[[tuple[str | int, ...]], str | None]
    path: tuple[str | int, ...] = ()

    def __truediv__(self, key: str | int) -> "Node":
        return Node(self.origin_of, (*self.path, key))

    @property
    def origin(self) -> str | None:
        """`file:line`, where the declaration came from a file."""
        return self.origin_of(self.path)

    def refused(self, message: str) -> CatalogError:
        """The error to raise about this place."""
        return CatalogError(message, self.origin)


def collections_of(provider: ProviderModel, node: Node, *, now: datetime) -> tuple[Collection, ...]:
    """The collections that a file declares, in its order. `now` bounds how many windows there may be."""
    _check(
        "provider",
        provider.provider,
        PROVIDER_PATTERN,
        node=node / "provider",
        rule="letters, digits, - and _, a letter or digit first, at most 63",
    )
    _check_labels(provider.owners, provider.tags, node)
    windows = _windows(provider.windows, node / "windows", now=now)
    source = _source(provider, node)
    return tuple(
        _collection(provider, name, model or CollectionModel(), node=node / "collections" / name, windows=windows, source=source)
        for name, model in provider.collections.items()
    )


def check_keys(text: str, filename: str) -> None:
    """Raises CatalogError for a key that stands twice in one mapping: YAML's readers take the last one in silence."""
    documents = yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    nodes: list[yaml.Node] = [document for document in documents if document is not None]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            nodes.extend(node.value)
        if not isinstance(node, yaml.MappingNode):
            continue
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            first = seen.setdefault(str(key.value), line)
            if first != line:
                raise CatalogError(
                    f"key {key.value!r} stands here for the second time, after line {first}: remove one of the two",
                    f"{filename}:{line}",
                )
            nodes.append(value)


def _source(provider: ProviderModel, node: Node) -> SourceDeclaration:
    kind = KINDS[provider.source]
    for key in ("syncs", "relist_hours"):
        if key in provider.model_fields_set and not kind.reads_accounts:
            raise (node / key).refused(
                f"{key!r} means nothing to source {provider.source!r}, whose records come from one place: remove it"
            )
    names = [sync.name for sync in provider.syncs]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise (node / "syncs").refused(f"sync {repeated!r} is declared more than once: give each account a name of its own")
    accounts = tuple(_account(sync, node / "syncs" / index) for index, sync in enumerate(provider.syncs))
    if kind.reads_accounts and not accounts:
        accounts = DEFAULT_ACCOUNTS
    return SourceDeclaration(provider.source, accounts, provider.relist_hours, _queue(provider, node))


def _queue(provider: ProviderModel, node: Node) -> Queue | None:
    """None for a source that can be read again."""
    if KINDS[provider.source].can_reread:
        if provider.queue is not None:
            raise (node / "queue").refused(f"'queue' means nothing to source {provider.source!r}, which is none: remove it")
        return None
    if "windows" in provider.model_fields_set:
        raise (node / "windows").refused(
            f"source {provider.source!r} is a queue, whose records cannot be asked for by time, nor a second time: remove 'windows'"
        )
    if provider.queue is None:
        raise (node / "source").refused(
            f"source {provider.source!r} is a queue: say which consumer is drained, as in queue: {{consumer: my-consumer}}"
        )
    return Queue(provider.queue.consumer, provider.queue.max_records, provider.queue.max_seconds)


def _account(sync: SyncModel, node: Node) -> SourceAccount:
    _check("sync", sync.name, SYNC_PATTERN, node=node, rule="letters, digits, ., - and _, at most 63")
    if not re.fullmatch(VARIABLE_PATTERN, sync.key) or sync.key.startswith(("sk_", "rk_")):
        # Not quoted: it may be the key itself.
        raise node.refused(
            f"the key of sync {sync.name!r} is not the name of an environment variable: name the variable that holds it, "
            "as in key: STRIPE_API_KEY, and keep the key out of this file"
        )
    return SourceAccount(sync.name, sync.key, sync.account, sync.external_id, sync.metadata)


def _collection(
    provider: ProviderModel, name: str, model: CollectionModel, *, node: Node, windows: Windows, source: SourceDeclaration
) -> Collection:
    _check(
        "collection",
        name,
        COLLECTION_PATTERN,
        node=node,
        rule="letters, digits, ., - and _, a letter, digit or _ first, at most 200",
    )
    kind = KINDS[source.kind]
    if kind.collections is not None and name not in kind.collections:
        similar = get_close_matches(name, kind.collections, n=3)
        raise node.refused(
            f"source {source.kind!r} cannot list {name!r}"
            + (
                f": did you mean {' or '.join(map(repr, similar))}?"
                if similar
                else f": it has {', '.join(sorted(kind.collections))}"
            )
        )
    _check_labels(model.owners, model.tags, node)
    return Collection(
        provider=provider.provider,
        name=name,
        table=_table(provider.provider, name, model.table, node=node),
        windows=windows,
        columns=tuple(
            _column(column_name, column, node / "columns" / column_name, prefix=provider.provider)
            for column_name, column in model.columns.items()
        ),
        unmanaged=_unmanaged(name, model, node) if model.table and not model.table.managed else None,
        indexes=_indexes(name, model, node / "indexes"),
        description=model.description,
        on_delete=model.on_delete,
        owners=tuple(model.owners or provider.owners),
        tags={**provider.tags, **model.tags},
        lanes=model.lanes,
        history=_history(model.history, node / "history"),
        reject_limit_records=model.rejects.limit_records,
        reject_limit_share=model.rejects.limit_share,
        origin=node.origin,
        source=source,
        observes_time=kind.observes_time,
    )


def _history(text: str | None, node: Node) -> timedelta | None:
    if text is None:
        return None
    _check("history", text, HISTORY_PATTERN, node=node, rule="a number of days from 1d to 9999d, as in 30d")
    return timedelta(days=int(text.removesuffix("d")))


def _column(name: str, model: ColumnModel, node: Node, *, prefix: str) -> Column:
    _check("column", name, COLUMN_PATTERN, node=node, rule="letters, digits and _, a letter or _ first, at most 63")
    if name in RECORD_COLUMNS:
        suggestion = f"{prefix.replace('-', '_').lower()}_{name}"
        raise node.refused(
            f"column {name!r} would take the name of one that every table has ({RECORD_COLUMNS[name]}): "
            f"choose another name, for example {suggestion!r}"
        )
    if name in SYSTEM_COLUMNS:
        raise node.refused(f"column {name!r} has a name that Postgres keeps for itself: choose another one")
    only_for_times = {"format": model.format, "assume_zone": model.assume_zone, "round": model.round or None}
    for key, value in only_for_times.items():
        if value is not None and model.type != "timestamptz":
            raise (node / key).refused(f"column {name!r} of type {model.type} has {key!r}, which only a timestamptz can have")
    try:
        path = parse_path(model.path)
    except CatalogError as error:
        raise (node / "path").refused(f"column {name!r}: {error}") from error
    return Column(
        name=name,
        path=path,
        type=model.type,
        time_format=model.format or "iso",
        is_required=model.required,
        empty_as_null=model.empty_as_null,
        assume_utc=model.assume_zone == "UTC",
        rounds=model.round,
        description=model.description,
    )


def _table(provider: str, name: str, model: TableModel | None, *, node: Node) -> TableName:
    if model is None:
        table, place = default_table(provider, name), node
        if table.schema == "public":
            raise node.refused(
                f"collection {name!r} of provider 'public' would land in schema 'public' without having been asked to: "
                "name its table with `table: {name: schema.table}`"
            )
    else:
        place = node / "table"
        _check_table_model(name, model, place)
        table = TableName(*model.name.split("."))
    if table.schema.startswith("pg_") or table.schema in RESERVED_SCHEMAS:
        raise place.refused(
            f"collection {name!r} would land in schema {table.schema!r}, which Postgres keeps for itself: "
            "name another table with `table: {name: schema.table}`"
        )
    return table


def _check_table_model(name: str, model: TableModel, place: Node) -> None:
    if not model.managed:
        rule = "schema.table, each part at most 63 characters without dots and quotes"
        _check("table", model.name, UNMANAGED_TABLE_PATTERN, node=place / "name", rule=rule)
        return
    rule = "schema.table, each part letters, digits and _, at most 63"
    _check("table", model.name, TABLE_PATTERN, node=place / "name", rule=rule)
    for only_unmanaged in ("columns", "key", "round"):
        if only_unmanaged in model.model_fields_set:
            raise (place / only_unmanaged).refused(
                f"collection {name!r} gives {only_unmanaged!r} for a table that the pipeline manages, whose columns and key are its own: "
                f"remove {only_unmanaged!r}, or say `managed: false` for a table that belongs to an application"
            )


def _indexes(name: str, model: CollectionModel, node: Node) -> tuple[tuple[str, ...], ...]:
    if model.indexes and model.table and not model.table.managed:
        raise node.refused(
            f"collection {name!r} asks for indexes on a table that belongs to an application: create them with its migrations"
        )
    for columns in model.indexes:
        unknown = [column for column in columns if column not in RECORD_COLUMNS and column not in model.columns]
        if unknown:
            raise node.refused(
                f"collection {name!r} asks for an index on {unknown[0]!r}, which is no column of its table: "
                f"name some of {', '.join((*RECORD_COLUMNS, *model.columns))}"
            )
        if not columns or len(set(columns)) < len(columns) or model.indexes.count(columns) > 1:
            raise node.refused(f"collection {name!r} asks for the index {columns!r}: name each column once, and each index once")
    return tuple(map(tuple, model.indexes))


def _unmanaged(name: str, model: CollectionModel, node: Node) -> UnmanagedTable:
    """Only what the YAML alone can tell; the table itself is looked at before the first row (unmanaged.py)."""
    assert model.table is not None  # noqa: S101 - the caller asked
    place = node / "table"
    columns = {**{column: column for column in model.columns}, **model.table.columns}
    known = [*(column for column in RECORD_COLUMNS if column != "content_hash"), *model.columns]
    seen: dict[str, str] = {}
    for ours, theirs in columns.items():
        at = place / "columns" / ours
        if ours not in known:
            raise at.refused(
                f"collection {name!r} maps {ours!r}, which it neither declares nor has of the record: "
                f"name one of {', '.join(known)}, or declare it below `columns` of the collection"
            )
        _check("column", theirs, UNMANAGED_COLUMN_PATTERN, node=at, rule="the name of a column, at most 63 characters")
        first = seen.setdefault(theirs, ours)
        if first != ours:
            raise at.refused(f"collection {name!r} maps both {first!r} and {ours!r} to column {theirs!r}: give each its own")
    key = tuple(dict.fromkeys(model.table.key))
    for column in key:
        if column not in columns:
            raise (place / "columns").refused(
                f"collection {name!r} finds rows by {column!r}, which is mapped to no column of table {model.table.name!r}: "
                f"add `{column}: <its column>`, or name with `key` the columns that identify a row there"
            )
    if "id" not in key and not {"sync_id", "upstream_id"} <= set(key):
        raise (place / "key").refused(
            f"collection {name!r} has the key ({', '.join(key)}), which records of several syncs can share: "
            "use [id], or [sync_id, upstream_id]"
        )
    if "deleted" not in columns and model.on_delete == "mark":
        raise place.refused(
            f"collection {name!r} marks deleted records, and no column of table {model.table.name!r} takes `deleted`: "
            "map `deleted` to a boolean column, or say `on_delete: remove`"
        )
    return UnmanagedTable(columns=columns, key=key, rounds=model.table.round)


def _windows(model: WindowsModel, node: Node, *, now: datetime) -> Windows:
    _check(
        "start",
        model.start,
        START_PATTERN,
        node=node / "start",
        rule="a day or a time in UTC, as in 2024-01-01 or 2024-01-01T06:00Z",
    )
    try:
        windows = Windows(every=model.every, start=datetime.fromisoformat(model.start).replace(tzinfo=UTC))
        check_windows(windows, now)
    except ValueError as error:
        raise (node / "start").refused(f"start {model.start!r} is not a time: {error}") from error
    except CatalogError as error:
        raise (node / "start").refused(str(error)) from error
    return windows


def _check_labels(owners: list[str], tags: Mapping[str, str], node: Node) -> None:
    for owner in owners:
        _check("owner", owner, OWNER_PATTERN, node=node / "owners", rule="an e-mail address, or team: and a name")
    for key, value in tags.items():
        place = node / "tags" / key
        _check(
            "tag",
            key,
            TAG_PATTERN,
            node=place,
            rule="letters, digits, ., - and _, at most 63, and at most one / with the same before it",
        )
        _check(f"tag {key!r} with value", value, TAG_VALUE_PATTERN, node=place, rule="letters, digits, ., - and _, at most 63")


def _check(what: str, text: str, pattern: str, *, node: Node, rule: str) -> None:
    if not re.fullmatch(pattern, text):
        raise node.refused(f"{what} {text!r} cannot be used: expected {rule}")
