"""`sequin-pipeline backfill` reads windows of collections again through Dagster, beside whatever else runs."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from rich.console import Console

from sequin_pipeline.cli.completion import complete_collections
from sequin_pipeline.cli.interrupts import interruptible
from sequin_pipeline.cli.landed import Landed, landed, tell, together
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import (
    Session,
    announce,
    check_api,
    check_dagster_storage,
    check_warehouse,
    open_session,
    select,
)
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.warehouse import Warehouse

if TYPE_CHECKING:
    from sequin_pipeline.orchestration.launch import Groups, Request
    from sequin_pipeline.orchestration.parts import Part

MOST_PARTS = 64
"""More runs of one collection at once than this no source answers faster."""


class Asked(TypedDict):
    """These options say how the windows are read."""

    sync_id: str | None
    parallel: int | None
    resume: bool
    dry_run: bool


@click.command()
@click.argument(
    "labels", nargs=-1, required=True, metavar="PROVIDER/NAME…", callback=read_labels, shell_complete=complete_collections
)
@click.option(
    "--from", "first", required=True, metavar="KEY|DATE", help="The first window: its key, or a day or time that it holds."
)
@click.option("--to", "last", metavar="KEY|DATE", help="The last window, included; the present one unless named.")
@click.option("--sync-id", metavar="ID", help="Only the records of this sync; the windows do not count as done then.")
@click.option(
    "--parallel",
    type=click.IntRange(1, MOST_PARTS),
    metavar="N",
    help="Cut each collection's windows into up to N parts of about equal work, read by runs beside each other.",
)
@click.option("--resume", is_flag=True, help="With --parallel, only what the last such backfill of these windows left undone.")
@click.option("--dry-run", is_flag=True, help="Only print the windows that each run would read.")
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print what landed as JSON.")
def command(*, labels: Sequence[str], first: str, last: str | None, sandbox: bool, as_json: bool, **asked: Unpack[Asked]) -> None:
    """Read windows of collections again and merge them; live cursors stay where they are.

    One run for each provider and width of windows; with --parallel, several for each collection. Exit status: 0 all landed, 1 a run
    failed, 2 wrong usage, 3 landed, but some records were rejected.
    """
    from sequin_pipeline.orchestration.launch import Request, backfill_groups

    if asked["resume"] and asked["parallel"] is None:
        raise ConfigurationError("--resume needs --parallel: a backfill by one run leaves no part that could be resumed")
    session = open_session(wants_sandbox=sandbox, labels=labels)
    collections = select(session, providers=(), labels=labels)
    groups = backfill_groups(collections, first, last, now=datetime.now(UTC))
    announce(session)
    check_warehouse(session)
    check_dagster_storage(session)
    request = Request("backfill", sync_id=asked["sync_id"])
    most = asked["parallel"]
    parts = None if most is None else _cut(session, groups, request, most=most, resume=asked["resume"])
    if asked["dry_run"]:
        _print_cut(groups, parts, as_json=as_json)
        return
    check_api(session)
    tell(session, _run(session, groups, parts, request), as_json=as_json)


def _run(session: Session, groups: "Groups", parts: "list[Part] | None", request: "Request") -> list[Landed]:
    from sequin_pipeline.cli.progress import shown
    from sequin_pipeline.orchestration.launch import run_groups
    from sequin_pipeline.orchestration.parts import run_parts

    warehouse = Warehouse(session.settings.warehouse_url)
    with shown(Console(stderr=True)):
        if parts is None:
            return interruptible(lambda: landed(warehouse, run_groups(groups, request)))
        results = interruptible(lambda: together(landed(warehouse, run_parts(parts))))
    if any(one.failure for one in results):
        click.echo("\nWindows that were completed stay so: the same command with --resume reads the others.", err=True)
    return results


def _cut(session: Session, groups: "Groups", request: "Request", *, most: int, resume: bool) -> "list[Part]":
    """Cuts what is to be read, and says what each run will read."""
    import dagster as dg

    from sequin_pipeline.ledger.schema import migrate
    from sequin_pipeline.operate.range_cut import cut_range
    from sequin_pipeline.orchestration import parts as beside

    parts = []
    with Warehouse(session.settings.warehouse_url).connect() as connection, dg.DagsterInstance.get() as instance:
        migrate(connection)
        for (_, asked), members in groups.items():
            for collection in members:
                assert asked is not None  # noqa: S101 - queues have been refused
                left = beside.resume(instance, collection, asked, request) if resume else beside.begin(collection, asked)
                if not left.keys:
                    click.echo(f"{collection.label}: nothing is left to be read of {asked.first} to {asked.last}", err=True)
                    continue
                cut = cut_range(connection, collection, left.keys, most)
                if cut.note:
                    click.echo(cut.note, err=True)
                parts += beside.parts_of_cut(collection, asked, left, cut.parts, request)
    for part in parts:
        click.echo(f"{part.collection.label}: run {part.name} reads {part.windows}", err=True)
    click.echo(err=True)
    return parts


def _print_cut(groups: "Groups", parts: "list[Part] | None", *, as_json: bool) -> None:
    if parts is None:
        ranges = [(collection.label, asked) for (_, asked), members in groups.items() for collection in members]
    else:
        ranges = [(part.collection.label, part.asked) for part in parts]
    told = [{"collection": label, "first": asked.first, "last": asked.last} for label, asked in ranges if asked is not None]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told:
        click.echo(f"{one['collection']} {one['first']}...{one['last']}")
