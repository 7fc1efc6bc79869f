"""`sequin-pipeline sync` reads every declared collection once through Dagster, from its live cursor to the end of the stream."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypedDict, Unpack

import click
from rich.console import Console

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.completion import complete_collections, complete_providers
from sequin_pipeline.cli.interrupts import interruptible
from sequin_pipeline.cli.landed import Landed, landed, tell, together
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import Session, announce, check_api, check_dagster_storage, check_warehouse, open_session, select
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.warehouse import Warehouse

if TYPE_CHECKING:
    from sequin_pipeline.ledger.census import Others
    from sequin_pipeline.orchestration.launch import Groups, Request
    from sequin_pipeline.orchestration.parts import Part
    from sequin_pipeline.orchestration.resources import LiveState


class Asked(TypedDict):
    """These options are what the runs are asked for."""

    full_refresh: bool
    sync_id: str | None
    adopt: bool
    others: "Others"
    accept_deletes: int | None


@click.command()
@click.option(
    "--provider",
    "providers",
    multiple=True,
    metavar="P",
    shell_complete=complete_providers,
    help="Only this provider's collections; may be repeated.",
)
@click.option(
    "--collection",
    "labels",
    multiple=True,
    metavar="P/N",
    callback=read_labels,
    shell_complete=complete_collections,
    help="Only this collection; may be repeated.",
)
@click.option(
    "--full-refresh", is_flag=True, help="Read each stream again from its earliest record; what is known is not written."
)
@click.option("--sync-id", metavar="ID", help="Only the records of this sync; moves no cursor.")
@click.option("--adopt", is_flag=True, help="Take over tables that exist already, or were filled from another URL.")
@click.option(
    "--others",
    type=click.Choice(["keep", "mark"]),
    default="keep",
    show_default=True,
    help="With --adopt or --full-refresh, what becomes of rows that the API does not have: they stay, and are counted after --adopt, "
    "or are marked as deleted.",
)
@click.option(
    "--accept-deletes",
    type=click.IntRange(min=1),
    metavar="N",
    help="Mark up to N rows of each sync as deleted that a listing does not have any more; needs --collection.",
)
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print what landed as JSON.")
def command(*, providers: Sequence[str], labels: Sequence[str], sandbox: bool, as_json: bool, **asked: Unpack[Asked]) -> None:
    """Read every collection once, from where the last run ended, and merge it into its table.

    Exit status: 0 all landed, 1 a run failed, 2 wrong usage, 3 landed, but some records were rejected, or deletes are held.
    """
    _refuse_contradictions(asked, names_collections=bool(labels) and not providers)
    from sequin_pipeline.orchestration.launch import Request

    session = open_session(wants_sandbox=sandbox, providers=providers, labels=labels)
    collections = select(session, providers=providers, labels=labels)
    accepted = asked["accept_deletes"]
    if accepted is not None:
        _check_listed(collections)
    announce(session)
    check_warehouse(session)
    check_dagster_storage(session)
    check_api(session)
    request = Request("backfill" if asked["sync_id"] else "live", **asked)
    tell(session, _run(session, collections, request), as_json=as_json, accepted=accepted)


def _refuse_contradictions(asked: Asked, *, names_collections: bool) -> None:
    if asked["sync_id"] is not None and asked["full_refresh"]:
        raise ConfigurationError("--sync-id and --full-refresh exclude each other: a read of one sync moves no cursor")
    if asked["others"] == "mark" and not (asked["adopt"] or asked["full_refresh"]):
        raise ConfigurationError(
            "--others mark needs --adopt or --full-refresh: only a read from the beginning tells which rows the API does not have"
        )
    if asked["accept_deletes"] is not None and not names_collections:
        raise ConfigurationError(
            "--accept-deletes needs --collection, and no --provider: name each collection whose deletes you have looked at"
        )


def _check_listed(collections: Sequence[Collection]) -> None:
    unlisted = [collection for collection in collections if not collection.is_listed]
    if unlisted:
        raise ConfigurationError(
            f"--accept-deletes is of no use for {', '.join(one.label for one in unlisted)}: source {unlisted[0].source.kind!r} tells of "
            "each deletion, so that nothing is marked because a listing does not have it"
        )


def _run(session: Session, collections: Sequence[Collection], request: "Request") -> list[Landed]:
    from sequin_pipeline.cli.progress import shown
    from sequin_pipeline.orchestration.launch import live_groups, run_groups, times_of, whole_queues
    from sequin_pipeline.orchestration.parts import run_parts
    from sequin_pipeline.orchestration.resources import read_live_state

    warehouse = Warehouse(session.settings.warehouse_url)
    state = read_live_state(warehouse)
    collections = whole_queues(collections, session.collections.values())
    groups = live_groups(collections, times_of(collections, state), request, now=datetime.now(UTC))
    groups, parts = _divide(groups, request, state)
    with shown(Console(stderr=True)):
        return interruptible(
            lambda: landed(warehouse, run_groups(groups, request)) + together(landed(warehouse, run_parts(parts)))
        )


def _divide(groups: "Groups", request: "Request", state: "LiveState") -> "tuple[Groups, list[Part]]":
    """Takes the collections out whose first load is divided, and returns what runs beside each other for them."""
    from sequin_pipeline.orchestration.launch import Request
    from sequin_pipeline.orchestration.parts import parts_of_load
    from sequin_pipeline.orchestration.shard_runs import shards_to_read

    if request != Request("live"):
        return groups, []
    whole, parts = {}, []
    for (run, asked), members in groups.items():
        shards = {one.label: shards_to_read(one, state) for one in members}
        if undivided := tuple(one for one in members if len(shards[one.label]) < 2):
            whole[run, asked] = undivided
        for one in members:
            if asked is not None and len(shards[one.label]) > 1:
                parts += parts_of_load(one, asked, shards[one.label], request)
    return whole, parts
