"""`sequin-pipeline status` shows how collections stand, and where declaration and API differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

import click
from rich.console import Group

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.age import age_of
from sequin_pipeline.cli.completion import complete_collections
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.offered import offers
from sequin_pipeline.cli.session import announce, check_warehouse, open_session, select
from sequin_pipeline.cli.tables import build_table, print_table
from sequin_pipeline.ledger.held_deletes import HeldDeletes, held_by_table
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.shards import shards_left, which_are
from sequin_pipeline.ledger.status import TableStatus, table_statuses
from sequin_pipeline.postgres.warehouse import Warehouse, attempt

NEVER = "never synced"
MINUTES = len("2026-01-01 12:00")
"""A narrow terminal is shown this much of a time, in UTC as everywhere."""


@click.command()
@click.argument("labels", nargs=-1, metavar="[PROVIDER/NAME]…", callback=read_labels, shell_complete=complete_collections)
@click.option(
    "--by", type=click.Choice(["sync"]), help="Show each sync of each collection: its tenant, records, lag and rejects."
)
@click.option("--verbose", "-v", "is_verbose", is_flag=True, help="Show the live cursor of each collection too.")
@click.option("--sandbox", is_flag=True, help="Look at the sandbox's records in the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(*, labels: Sequence[str], by: str | None, is_verbose: bool, sandbox: bool, as_json: bool) -> None:
    """Show rows, the age of the newest record read (the lag is that at most), last merge and open rejects of each collection.

    Of all declared collections, or of those named. Says too which shards of a first load are left, which deletes are held, what the API
    offers and nobody has declared, and what is declared and the API does not offer.
    """
    session = open_session(wants_sandbox=sandbox, labels=labels)
    collections = select(session, providers=(), labels=labels)
    announce(session)
    check_warehouse(session)
    warehouse = Warehouse(session.settings.warehouse_url)
    if by is not None:
        from sequin_pipeline.cli.sync_status import tell_syncs

        tell_syncs(warehouse, collections, as_json=as_json)
        return

    def read() -> tuple[dict[str, TableStatus], dict[str, tuple[HeldDeletes, ...]], Mapping[str, tuple[int, ...]]]:
        with warehouse.connect() as connection:
            migrate(connection)
            return table_statuses(connection), held_by_table(connection), shards_left(connection)

    statuses, held, loading = attempt(read, "reading the ledger")
    if not as_json:
        _print(collections, statuses, is_verbose=is_verbose)
    found = offers(session.collections.values())
    undeclared = sorted(collection_id for offer in found for collection_id in offer.undeclared)
    unknown = {
        collection.label: sentence for offer in found for collection, sentence in offer.unknown() if collection in collections
    }
    if as_json:
        standing = [
            _told(
                collection,
                statuses.get(str(collection.table)),
                held.get(str(collection.table), ()),
                loading.get(collection.label, ()),
            )
            | _told_children(collection, statuses)
            for collection in collections
        ]
        told = {"collections": standing, "not_declared": undeclared, "not_offered": sorted(unknown)}
        click.echo(json.dumps(told, indent=2, default=lambda moment: moment.isoformat()))
        return
    for collection in collections:
        if left := loading.get(collection.label):
            click.echo(f"\nThe first load of {collection.label} is under way, by shards of which {which_are(left)} left")
        for one in held.get(str(collection.table), ()):
            click.echo(f"\n{one.told(collection.label)}")
    if undeclared and not labels:
        click.echo(f"\nThe API offers, and no defs.yaml declares: {', '.join(undeclared)}")
    for sentence in unknown.values():
        click.echo(f"\n{sentence}")


def _told(
    collection: Collection, status: TableStatus | None, held: Sequence[HeldDeletes], shards_left: Sequence[int]
) -> dict[str, object]:
    """Returns what programs are told; all but the names is null for a collection that has never been synced."""
    return {
        "collection": collection.label,
        "table": str(collection.table),
        "source": status and status.source,
        "rows": status and status.rows,
        "cursor": status and status.cursor,
        "newest_record_at": status and status.stream_time,
        "last_merge_at": status and status.last_merge_at,
        "open_rejects": status and status.open_rejects,
        "held_deletes": status and sum(one.rows for one in held),
        "shards_left": status and list(shards_left),
    }


def _told_children(collection: Collection, statuses: Mapping[str, TableStatus]) -> dict[str, object]:
    """Returns the rows of each child table, null for one that is not there yet; nothing of a collection without any."""
    tables = [str(child.table) for child in collection.children]
    return {"children": {table: statuses[table].rows if table in statuses else None for table in tables}} if tables else {}


def _print(collections: Sequence[Collection], statuses: Mapping[str, TableStatus], *, is_verbose: bool) -> None:
    _print_collections(collections, statuses, is_verbose=is_verbose)
    for line in _child_lines(collections, statuses):
        click.echo(line)


def _print_collections(collections: Sequence[Collection], statuses: Mapping[str, TableStatus], *, is_verbose: bool) -> None:
    now = datetime.now(UTC)
    standing = [(collection, statuses.get(str(collection.table))) for collection in collections]
    rows = [[collection.label, str(collection.table), *_cells(status, now)] for collection, status in standing]
    cursors = ["" if status is None else status.cursor or "none" for _, status in standing]
    headings = ["collection", "table", "rows", "newest record", "last merge", "open rejects"]
    narrow = build_table(
        [headings[0], *headings[2:5], "rejects"],
        [[label, count, newest, merged[:MINUTES], rejects] for label, _, count, newest, merged, rejects in rows],
        wraps=["collection"],
    )
    if not is_verbose:
        print_table(build_table(headings, rows), narrow)
        return
    wide = [[*row[:3], cursor, *row[3:]] for row, cursor in zip(rows, cursors, strict=True)]
    places = [[*row[:2], cursor] for row, cursor in zip(rows, cursors, strict=True)]
    below = build_table([*headings[:2], "live cursor"], places, wraps=[*headings[:2], "live cursor"])
    print_table(build_table([*headings[:3], "live cursor", *headings[3:]], wide), Group(narrow, "", below))


def _child_lines(collections: Sequence[Collection], statuses: Mapping[str, TableStatus]) -> Iterator[str]:
    """Yields a line for each child table, which is written with its parent and has a count of its own only."""
    for collection in collections:
        for place, child in enumerate(collection.children):
            status = statuses.get(str(child.table))
            rows = NEVER if status is None else f"{status.rows:,} row{'' if status.rows == 1 else 's'}"
            yield f"{'' if place else chr(10)}child table {child.table} of {collection.label}: {rows}"


def _cells(status: TableStatus | None, now: datetime) -> Iterator[str]:
    if status is None:
        yield from ("", "", NEVER, "")
        return
    yield f"{status.rows:,}"
    yield age_of(status.stream_time, now)
    yield "never" if status.last_merge_at is None else f"{status.last_merge_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    yield f"{status.open_rejects:,}"
