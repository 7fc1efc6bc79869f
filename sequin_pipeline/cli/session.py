"""This module holds what commands share: databases and API brought up, the environment of Dagster's processes, the catalog."""

import os
import socket
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import click

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.names import unknown_collection
from sequin_pipeline.declare.suggestions import suggestion
from sequin_pipeline.environment import settings as environment
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.errors import ConfigurationError, PipelineError, SourceUnavailable, WarehouseUnavailable
from sequin_pipeline.postgres.urls import plain_postgres_url
from sequin_pipeline.postgres.warehouse import Warehouse

CHECK_SECONDS = 10.0

DAGSTER_EVENTS = {
    "DAGSTER_EVENT_BATCH_SIZE": "1000",
    "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "true",
}
"""Dagster then writes down that a run covers many windows in batches, with one planned event for all of them.

One by one, a first load over 1,000 daily windows spends a minute and a half on events. The price: the windows of a run that failed
look missing rather than failed.
"""

KEPT_MEMORY: Mapping[str, str] = {
    **dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(256 * 1024 * 1024)),
    "MALLOC_ARENA_MAX": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}
"""Processes that we start keep the megabytes of a page for the next one instead of giving them back to the system each time.

glibc then has one place for all threads and for Arrow. This costs a client a fifth less CPU, and holds its memory at one level. It is
read when a process begins; other allocators ignore it.
"""


@dataclass(frozen=True)
class Session:
    """A session is a command's surroundings: everything that it names is up.

    `api_url` None: no provider reads the records API.
    """

    settings: Settings
    api_url: str | None = field(repr=False)
    collections: Mapping[str, Collection]


def open_session(
    *,
    wants_sandbox: bool = False,
    collections: Mapping[str, Collection] | None = None,
    providers: Iterable[str] = (),
    labels: Iterable[str] = (),
) -> Session:
    """Starts or adopts what is missing, says so loudly, and sets this process's environment as Dagster's code expects it.

    `collections` None: those of the files. Where `providers` or `labels` name some of them, the variables of the others' sources are
    not asked for. Raises ConfigurationError or CatalogError before anything else has happened.
    """
    from sequin_pipeline.cli.surroundings import bring_up
    from sequin_pipeline.orchestration.catalog_files import load_collections

    if collections is None:
        collections = load_collections(environment.merge_dotenv(os.environ, environment.find_project(Path.cwd())))
    asked = _asked(collections, set(providers), set(labels))
    settings, variables = bring_up(collections.values(), wants_sandbox=wants_sandbox, asked=asked)
    if settings.reads_records_api and environment.SEQUIN_API_TOKEN not in variables:
        raise ConfigurationError(
            f"{environment.SEQUIN_API_URL} is set, but {environment.SEQUIN_API_TOKEN} is not: set it to the token of the records API"
        )
    kept_memory = {name: os.environ.get(name, value) for name, value in KEPT_MEMORY.items()}
    os.environ.update({**DAGSTER_EVENTS, **kept_memory, **variables})
    return Session(settings, variables[environment.SEQUIN_API_URL] if settings.reads_records_api else None, collections)


def announce(session: Session) -> None:
    """Prints where everything is, on stderr, so that stdout holds results only."""
    for line in session.settings.describe():
        click.echo(line, err=True)
    click.echo(err=True)


def check_warehouse(session: Session) -> None:
    """Checks once, while somebody watches, that the warehouse lets us in: each run would ask again for half a minute.

    Raises ConfigurationError where WAREHOUSE_URL is to be fixed, WarehouseUnavailable where nothing answers there.
    """
    try:
        with Warehouse(session.settings.warehouse_url).connect():
            return
    except WarehouseUnavailable as error:
        raise WarehouseUnavailable(f"{error} If your Postgres is elsewhere, fix {environment.WAREHOUSE_URL}") from error


def check_dagster_storage(session: Session) -> None:
    """Checks that the Postgres of Dagster's runs lets us in: Dagster itself would try for ten seconds and end in a traceback.

    Raises ConfigurationError where DAGSTER_POSTGRES_URL is to be fixed, WarehouseUnavailable where nothing answers there.
    """
    url = plain_postgres_url(session.settings.dagster_postgres_url, environment.DAGSTER_POSTGRES_URL)
    try:
        with Warehouse(url, refuses_sql_ascii=False).connect():
            return
    except PipelineError as error:
        # The message of a connection names the warehouse's variable.
        said = str(error).replace(environment.WAREHOUSE_URL, environment.DAGSTER_POSTGRES_URL)
        if isinstance(error, WarehouseUnavailable):
            said += f" If the Postgres of Dagster's runs is elsewhere, fix {environment.DAGSTER_POSTGRES_URL}"
        raise type(error)(said) from error


def check_api(session: Session) -> None:
    """Checks that somebody answers: a wrong name or port is told now, rather than after all the retries of a run.

    It only connects: nothing is asked of an API before the ledger has agreed that it is the right one. Raises SourceUnavailable.
    """
    from sequin_pipeline.sources.http.endpoint import Endpoint
    from sequin_pipeline.sources.http.proxies import refuse_unusable_proxies

    if session.api_url is None:
        return
    endpoint = Endpoint(session.api_url)
    address = urlsplit(endpoint.base_url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    if not endpoint.is_loopback:
        refuse_unusable_proxies()
    if {address.scheme, "all"} & getproxies().keys() and not proxy_bypass(host):
        return  # the proxy will tell
    try:
        socket.create_connection((host, port), timeout=CHECK_SECONDS).close()
    except OSError as error:
        raise SourceUnavailable(
            f"nothing answers at {host}:{port}, where {environment.SEQUIN_API_URL} says that the records API is "
            f"({error.strerror or error}): start it, or fix the address"
        ) from error


def select(session: Session, *, providers: Iterable[str], labels: Iterable[str]) -> tuple[Collection, ...]:
    """Returns the collections that a command was asked for, or all where it names none; raises ConfigurationError for unknown names."""
    wanted_providers, wanted_labels = set(providers), set(labels)
    known_providers = {collection.provider for collection in session.collections.values()}
    for name in sorted(wanted_providers - known_providers):
        raise ConfigurationError(f"no provider {name!r} is declared: {suggestion(name, sorted(known_providers))}")
    for name in sorted(wanted_labels - session.collections.keys()):
        raise unknown_collection(name, session.collections)
    return _asked(session.collections, wanted_providers, wanted_labels)


def _asked(collections: Mapping[str, Collection], providers: Set[str], labels: Set[str]) -> tuple[Collection, ...]:
    if not providers and not labels:
        return tuple(collections.values())
    return tuple(collection for label, collection in collections.items() if label in labels or collection.provider in providers)
