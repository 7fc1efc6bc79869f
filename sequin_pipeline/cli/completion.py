"""This module completes the names of collections, and the ids of records and rejects, in shells that ask for it.

A shell waits for each answer, so nothing is started here, Dagster is not imported, and whoever cannot answer at once answers nothing: an
error would stand in the middle of somebody's command.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString

import click
from click.shell_completion import CompletionItem

from sequin_pipeline.cli.names import plain_label
from sequin_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from sequin_pipeline.postgres.warehouse import Connection

MOST = 50
"""A shell shows this many at once; whoever types on gets others."""
CONNECT_SECONDS = 2
"""libpq knows nothing shorter."""


def complete_collections(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns the declared collections that begin so, separated as what is there is."""
    separator = next((character for character in incomplete if character in "/:."), "/")
    names = [label.replace("/", separator, 1) for label in _declared()]
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_providers(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns the declared providers that begin so."""
    providers = dict.fromkeys(label.partition("/")[0] for label in _declared())
    return [CompletionItem(name) for name in providers if name.startswith(incomplete)]


def complete_record_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns ids of the collection's table that begin so; along the index of the key, in its order."""
    label = plain_label(str(ctx.params.get("label") or ""))
    declared = _declared().get(label)
    if declared is None:
        return []
    schema, table, column = _place(label, declared)

    def read(connection: "Connection") -> list[CompletionItem]:
        from psycopg import sql

        reading = sql.SQL("select {id}::text from {table} where {id} >= %s order by {id} limit {most}").format(
            id=sql.Identifier(column), table=sql.Identifier(schema, table), most=MOST
        )
        return [CompletionItem(one) for (one,) in connection.execute(reading, (incomplete,)) if str(one).startswith(incomplete)]

    return _asked(ctx, read)


def complete_rejects(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Returns the numbers of the collection's open rejects that begin so, each with the id of its record."""
    label = plain_label(str(ctx.params.get("label") or ""))

    def read(connection: "Connection") -> list[CompletionItem]:
        from psycopg import sql

        from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA

        statement: LiteralString = (
            "select left(r.content_hash::text, 8), r.record_id from {schema}.rejects r join {schema}.tables t using (table_name)"
            " where t.label = %s and r.resolved_at is null and starts_with(r.content_hash::text, %s)"
            " order by r.last_seen_at desc limit {most}"
        )
        reading = sql.SQL(statement).format(schema=sql.Identifier(DEFAULT_SCHEMA), most=MOST)
        found = connection.execute(reading, (label, incomplete)).fetchall()
        return [CompletionItem(number, help=None if record_id is None else str(record_id)) for number, record_id in found]

    return _asked(ctx, read)


def _declared() -> dict[str, Mapping[str, Any]]:
    """Returns what the files say of each collection, read without Dagster; nothing where they cannot be read."""
    import yaml

    from sequin_pipeline.declare.yaml_text import raw_collections

    with suppress(PipelineError, OSError, yaml.YAMLError):
        named = _environ().get("SEQUIN_COLLECTIONS")
        folder = Path(named).expanduser() if named else Path(__file__).resolve().parents[1] / "defs"
        return dict(raw_collections(folder))
    return {}


def _place(label: str, declared: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns schema, table, and the column of the record's id."""
    from sequin_pipeline.catalog import default_table

    table = declared.get("table") or {}
    provider, _, name = label.partition("/")
    found = default_table(provider, name)
    schema, _, table_name = str(table.get("name") or f"{found.schema}.{found.name}").partition(".")
    return schema, table_name, str((table.get("columns") or {}).get("id", "id"))


def _asked(ctx: click.Context, read: "Callable[[Connection], list[CompletionItem]]") -> list[CompletionItem]:
    import psycopg

    from sequin_pipeline.postgres.warehouse import Warehouse

    with suppress(PipelineError, psycopg.Error, OSError):
        for url in _warehouse_urls(ctx):
            with Warehouse(url).connect() as connection:
                return read(connection)
    return []


def _warehouse_urls(ctx: click.Context) -> Iterator[str]:
    """Yields the URL of the warehouse that the command would use, unless that is an embedded server that does not run."""
    from sequin_pipeline.environment import embedded
    from sequin_pipeline.environment import settings as environment
    from sequin_pipeline.sources.registry import KINDS

    given = _environ()
    sources = {str(declared.get("source") or "sequin") for declared in _declared().values()}
    home = embedded.find_home(given) if embedded.is_available(given) else None
    settings = environment.read_settings(
        given,
        environment.find_dagster_home(given, environment.find_project(Path.cwd())),
        embedded_home=home,
        wants_sandbox=any(parent.params.get("sandbox") for parent in (ctx, ctx.parent) if parent is not None),
        reads_records_api=any(kind.reads_records_api for name, kind in KINDS.items() if name in sources),
    )
    if environment.WAREHOUSE_URL not in settings.embedded_variables or embedded.status(given) is not None:
        url = settings.warehouse_url
        yield url if "connect_timeout=" in url else f"{url}{'&' if '?' in url else '?'}connect_timeout={CONNECT_SECONDS}"


def _environ() -> dict[str, str]:
    from sequin_pipeline.environment import settings as environment

    return environment.merge_dotenv(os.environ, environment.find_project(Path.cwd()))
