"""This module turns the models of a defs.yaml into collections, or into a CatalogError with file and line of the faulty node.

It knows neither Dagster nor the warehouse. What only shows across several files is checked by component.py and catalog.check_tables.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from sequin_pipeline.catalog import (
    MAX_COLUMNS,
    Collection,
    DataType,
    Queue,
    SourceAccount,
    SourceDeclaration,
    Windows,
)
from sequin_pipeline.declare.node import Node, check_text
from sequin_pipeline.declare.parse_children import parse_children
from sequin_pipeline.declare.parse_columns import parse_column
from sequin_pipeline.declare.parse_connector import parse_connector
from sequin_pipeline.declare.parse_rest import parse_api
from sequin_pipeline.declare.parse_table import (
    parse_history_table,
    parse_indexes,
    parse_row_security,
    parse_table,
    parse_unmanaged,
)
from sequin_pipeline.declare.strict_model import VARIABLE_PATTERN
from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.declare.yaml_models import (
    COLLECTION_PATTERN,
    HISTORY_PATTERN,
    OWNER_PATTERN,
    PROVIDER_PATTERN,
    START_PATTERN,
    SYNC_PATTERN,
    TAG_PATTERN,
    TAG_VALUE_PATTERN,
    CollectionModel,
    ProviderModel,
    SyncModel,
    WindowsModel,
)
from sequin_pipeline.errors import CatalogError, ConfigurationError
from sequin_pipeline.reads import with_variables
from sequin_pipeline.records.fields import RECORD_COLUMNS
from sequin_pipeline.sources.external import offered_names
from sequin_pipeline.sources.kind import SourceKind
from sequin_pipeline.sources.registry import KINDS, source_kind
from sequin_pipeline.windows import check_windows

DEFAULT_ACCOUNTS = (SourceAccount("default", SyncModel(name="default").key),)
"""A provider that declares no account has this one."""


def collections_of(provider: ProviderModel, node: Node, *, now: datetime) -> tuple[Collection, ...]:
    """Returns the collections that a file declares, in its order; `now` bounds how many windows there may be."""
    check_text(
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


def _source(provider: ProviderModel, node: Node) -> SourceDeclaration:
    kind = _kind(provider.source, node / "source")
    takes = {"syncs": kind.reads_accounts, "relist_hours": kind.lists_again}
    for key, is_taken in takes.items():
        if key in provider.model_fields_set and not is_taken:
            raise (node / key).refused(
                f"source {provider.source!r} takes no {key!r}, since its records come from one place: remove it"
            )
    if provider.options and not kind.takes_options:
        raise (node / "options").refused(
            f"source {provider.source!r} takes no 'options', which are for a class of your own (source: package.module:Class): remove them"
        )
    names = [sync.name for sync in provider.syncs]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise (node / "syncs").refused(f"sync {repeated!r} is declared more than once: give each account a name of its own")
    accounts = tuple(_account(sync, node / "syncs" / index) for index, sync in enumerate(provider.syncs))
    if kind.reads_accounts and not accounts:
        accounts = DEFAULT_ACCOUNTS
    return SourceDeclaration(
        provider.source,
        accounts,
        provider.relist_hours,
        _queue(provider, kind, node),
        rest=parse_api(provider, node),
        connector=parse_connector(provider, node),
        options={key: with_variables(value) for key, value in provider.options.items()},
    )


def _kind(name: str, node: Node) -> SourceKind:
    known = (*KINDS, *offered_names())
    if ":" not in name and name not in known:
        said = suggestion(name, known)
        said += "" if said.endswith("?") else "."
        raise node.refused(f"there is no source {name!r}: {said} A class of your own is named as in package.module:Class")
    try:
        return source_kind(name)
    except ConfigurationError as error:
        raise node.refused(str(error)) from error


def _queue(provider: ProviderModel, kind: SourceKind, node: Node) -> Queue | None:
    """Returns the queue of the declaration, or None for a source that can be read again."""
    if kind.can_reread:
        if provider.queue is not None:
            raise (node / "queue").refused(f"source {provider.source!r} is not a queue and takes no 'queue': remove it")
        return None
    if "windows" in provider.model_fields_set:
        raise (node / "windows").refused(
            f"source {provider.source!r} is a queue, whose records can be read neither by time nor twice: remove 'windows'"
        )
    if provider.queue is None:
        raise (node / "source").refused(
            f"source {provider.source!r} is a queue: say which consumer is drained, as in queue: {{consumer: my-consumer}}"
        )
    queue = provider.queue
    return Queue(queue.consumer, queue.max_records, queue.max_seconds, queue.consumers)


def _account(sync: SyncModel, node: Node) -> SourceAccount:
    check_text("sync", sync.name, SYNC_PATTERN, node=node, rule="letters, digits, ., - and _, at most 63")
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
    check_text(
        "collection",
        name,
        COLLECTION_PATTERN,
        node=node,
        rule="letters, digits, ., - and _, a letter, digit or _ first, at most 200",
    )
    _check_listable(name, source, node)
    _check_labels(model.owners, model.tags, node)
    most = MAX_COLUMNS - len(RECORD_COLUMNS)
    if len(model.columns) > most:
        raise (node / "columns").refused(
            f"{name!r} declares {len(model.columns):,} columns, and beside the record's own {len(RECORD_COLUMNS)} a table of Postgres has "
            f"room for {most:,}: leave out what is not asked for by name; the whole object stands in `data`"
        )
    data_type = _data_type(provider, name, model, node / "data")
    table = parse_table(provider.provider, name, model.table, node=node)
    _check_shards(model.shards, source, node / "shards")
    table = parse_table(provider.provider, name, model.table, node=node)
    return Collection(
        provider=provider.provider,
        name=name,
        table=table,
        windows=windows,
        columns=tuple(
            parse_column(column_name, column, node / "columns" / column_name, prefix=provider.provider)
            for column_name, column in model.columns.items()
        ),
        unmanaged=parse_unmanaged(name, model, node) if model.table and not model.table.managed else None,
        indexes=parse_indexes(name, model, node / "indexes", data_type=data_type),
        description=model.description,
        on_delete=model.on_delete,
        owners=tuple(model.owners or provider.owners),
        tags={**provider.tags, **model.tags},
        lanes=model.lanes,
        shards=model.shards,
        history=_history(model.history, node / "history"),
        history_table=parse_history_table(name, model, table, node),
        reject_limit_records=model.rejects.limit_records,
        reject_limit_share=model.rejects.limit_share,
        origin=node.origin,
        source=source,
        observes_time=source_kind(source.kind).observes_time_of(name),
        lists_from_a_start=source_kind(source.kind).lists_from_a_start,
        data_type=data_type,
        row_security=parse_row_security(name, model, node / "row_security"),
        children=parse_children(name, model, node, table=table, data_type=data_type),
    )


def _check_shards(shards: int, source: SourceDeclaration, node: Node) -> None:
    if shards == 1 or source.kind == "sequin" or source.kind not in KINDS:
        return
    instead = {
        "stripe": "it reads eight spans of time at once, as fast as an account may be asked",
        "sequin_consumer": "a queue is drained by several steps with queue: {consumers: N}",
        "sequin_stream": "a queue is drained by several steps with queue: {consumers: N}",
    }.get(source.kind, "it cannot be asked for the records of one sync")
    raise node.refused(f"source {source.kind!r} takes no 'shards', into which a first load is divided: {instead}; remove it")


def _data_type(provider: ProviderModel, name: str, model: CollectionModel, node: Node) -> DataType:
    if model.table is None or model.table.managed:
        return model.data or provider.data
    if model.data is not None:
        raise node.refused(
            f"collection {name!r} names a type for `data`, but its table belongs to an application, whose own column decides: remove 'data'"
        )
    return "jsonb"


def _check_listable(name: str, source: SourceDeclaration, node: Node) -> None:
    listable = source_kind(source.kind).collections
    if listable is None or name in listable:
        return
    raise node.refused(f"source {source.kind!r} cannot list {name!r}: {suggestion(name, sorted(listable), are='it has')}")


def _history(text: str | None, node: Node) -> timedelta | None:
    if text is None:
        return None
    check_text("history", text, HISTORY_PATTERN, node=node, rule="a number of days from 1d to 9999d, as in 30d")
    return timedelta(days=int(text.removesuffix("d")))


def _windows(model: WindowsModel, node: Node, *, now: datetime) -> Windows:
    check_text(
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
        check_text("owner", owner, OWNER_PATTERN, node=node / "owners", rule="an e-mail address, or team: and a name")
    for key, value in tags.items():
        place = node / "tags" / key
        check_text(
            "tag",
            key,
            TAG_PATTERN,
            node=place,
            rule="letters, digits, ., - and _, at most 63, and at most one / with the same before it",
        )
        check_text(
            f"tag {key!r} with value", value, TAG_VALUE_PATTERN, node=place, rule="letters, digits, ., - and _, at most 63"
        )
