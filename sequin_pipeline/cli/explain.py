"""`sequin-pipeline explain` shows everything that is known of one record."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import click

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.completion import complete_collections, complete_record_ids
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import Session, announce, check_api, open_session, select
from sequin_pipeline.cli.tables import build_table, print_table
from sequin_pipeline.errors import PipelineError
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.postgres.warehouse import Warehouse, attempt

if TYPE_CHECKING:
    from sequin_pipeline.ledger.forgets import ForgetRequest
    from sequin_pipeline.operate.explain import Explanation, FoundMerge, LastWrite, Namesake
    from sequin_pipeline.records.forgotten import Subject
    from sequin_pipeline.sources import Source

SHOWN_CHARACTERS = 400
UNKNOWN = 1
"""The command exits with this for a record that nobody has heard of."""


@click.command()
@click.argument("label", metavar="PROVIDER/NAME", callback=read_labels, shell_complete=complete_collections)
@click.argument("record_id", metavar="ID", shell_complete=complete_record_ids)
@click.option("--sync-id", metavar="ID", help="Where several syncs have this id of the provider, the one that is meant.")
@click.option(
    "--pages",
    "max_pages",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    help="How many pages of the source to look through; 0: do not ask it.",
)
@click.option("--sandbox", is_flag=True, help="Look at the sandbox's records in the database that WAREHOUSE_URL names.")
def command(*, label: str, record_id: str, sync_id: str | None, max_pages: int, sandbox: bool) -> None:
    """Show a record's row, version or tombstone, rejects and history, the merge that last wrote it, and what the source holds now.

    ID is the record's own, or the object's at the provider (upstream_id): if several syncs have that one, they are listed.

    Exit status: 0 the record is known, 1 nobody has heard of it, or a server cannot be reached, 2 wrong usage.
    """
    session = open_session(wants_sandbox=sandbox, labels=(label,))
    (collection,) = select(session, providers=(), labels=(label,))
    announce(session)
    found, namesakes = _find(session, collection, record_id, sync_id)
    if len(namesakes) > 1:
        _list(collection, record_id, namesakes)
        return
    asked, said = record_id, ""
    for namesake in namesakes:
        asked, said = namesake.id, f", with upstream_id {record_id!r} in sync {namesake.sync_id!r}"
    click.echo(f"record {asked!r} of {label}, table {collection.table}{said}\n")
    for part in (
        _forgotten(found.forgotten),
        _row(found),
        _last_write(found.last_write),
        _rejects(found),
        _history(collection, found),
        _versions(collection, found),
    ):
        for line in part:
            click.echo(line)
    wanted = Wanted(asked, upstream_id=record_id, sync_id=sync_id)
    answer = _source(session, collection, wanted, found=found, max_pages=max_pages)
    click.echo(f"source      {answer.said}")
    request = None if found.forgotten else _find_forgotten(session, collection, answer.subjects)
    for line in _forgotten(request):
        click.echo(line)
    if not (found.is_known or answer.holds):
        raise SystemExit(UNKNOWN)


def _find(session: Session, collection: Collection, record_id: str, sync_id: str | None) -> "tuple[Explanation, list[Namesake]]":
    """Returns what is known of the record by its own id; else by the provider's, with the records that have that one."""
    from sequin_pipeline.ledger.ledger import Ledger
    from sequin_pipeline.operate.explain import explain_record, find_by_upstream_id

    ledger = Ledger(str(collection.table), collection.label)

    def look() -> "tuple[Explanation, list[Namesake]]":
        with Warehouse(session.settings.warehouse_url).connect() as connection:
            migrate(connection)
            found = explain_record(connection, collection, ledger, record_id, sync_id=sync_id)
            if found.is_known:
                return found, []
            namesakes = find_by_upstream_id(connection, collection, ledger, record_id, sync_id=sync_id)
            if len(namesakes) == 1:
                found = explain_record(connection, collection, ledger, namesakes[0].id, sync_id=sync_id)
            return found, namesakes

    return attempt(look, f"looking for record {record_id!r} of {collection.label!r}")


def _list(collection: Collection, upstream_id: str, namesakes: "Sequence[Namesake]") -> None:
    click.echo(f"{len(namesakes):,} records of {collection.label} have upstream_id {upstream_id!r}:\n")
    rows = [[namesake.sync_id or "", namesake.id] for namesake in namesakes]
    print_table(build_table(("sync", "record"), rows), build_table(("sync", "record"), rows, wraps=("sync", "record")))
    click.echo("\n`--sync-id ID`, or the id of the record in its place, explains one of them.")


def _find_forgotten(session: Session, collection: Collection, subjects: "Sequence[Subject]") -> "ForgetRequest | None":
    """Looks for a request for what the source says of a record, of which nothing else is left."""
    from sequin_pipeline.ledger.ledger import Ledger
    from sequin_pipeline.operate.explain import find_forgotten

    def look() -> "ForgetRequest | None":
        with Warehouse(session.settings.warehouse_url).connect() as connection:
            return find_forgotten(connection, Ledger(str(collection.table), collection.label), subjects)

    return attempt(look, f"looking for requests to forget records of {collection.label!r}") if subjects else None


def _forgotten(request: "ForgetRequest | None") -> Iterator[str]:
    if request is None:
        return
    named = {"internal_id": "its tenant", "sync_id": "its sync"}.get(request.kind, "this record")
    state = "" if request.completed_at else ", which has not come to its end: run it again"
    yield f"forgotten   by request {request.generation} of {_time(request.requested_at)} to forget {named}{state}"
    yield "            no run writes it until `sequin-pipeline forget … --undo`"


def _row(found: "Explanation") -> Iterator[str]:
    if found.table is None:
        yield "row         none: the collection has never been synced"
    elif found.row is not None:
        version = "kept in the ledger" if found.row.version is None else found.row.version
        yield f"row         version {version}, {'a tombstone: deleted at the provider' if found.row.is_deleted else 'not deleted'}"
        for name, value in found.row.values.items():
            yield f"  {name:<22} {'null' if value is None else _short(value)}"
    elif not found.tells_id:
        yield "row         cannot be looked for: the table has no column for the record's id"
    elif found.removed is None:
        yield "row         none"
    for table, rows in found.children.items():
        yield f"children    {rows:,} row{'' if rows == 1 else 's'} in {table}"
    if found.removed is None:
        return
    number, at = found.removed
    if found.row is None and found.tells_id:
        yield f"removed     by the tombstone of version {number} at {_time(at)}; no older version brings it back"
    elif found.row is not None and found.row.version is not None:
        yield f"removed     once, by the tombstone of version {number} at {_time(at)}; a newer version came since"
    else:
        yield f"version     {number} is the last that the ledger knows, of {_time(at)}"


def _last_write(last: "LastWrite | None") -> Iterator[str]:
    if last is None:
        return
    if len(last.exact) == 1:
        (merge,) = last.exact
        yield f"written     by batch {merge.batch_id} of {merge.mode} run {merge.run_id}, at {_time(merge.committed_at)}"
        return
    if last.exact:
        batches = " or ".join(f"batch {merge.batch_id} of {merge.mode} run {merge.run_id}" for merge in last.exact)
        yield f"written     at {_time(last.at)}, by {batches}: they began in the same microsecond"
        return
    bounds = [f"{word} batch {merge.batch_id} at {_time(merge.committed_at)}" for word, merge in _bounds(last)]
    yield f"written     at {_time(last.at)}, by no merge in the ledger, which keeps merges for 90 days; other writers leave none"
    if bounds:
        yield f"            only a bracket: {' and '.join(bounds)}"


def _bounds(last: "LastWrite") -> Iterator[tuple[str, "FoundMerge"]]:
    if last.before is not None:
        yield "after", last.before
    if last.after is not None:
        yield "before", last.after


def _rejects(found: "Explanation") -> Iterator[str]:
    if not found.rejects:
        yield "rejects     none"
    for reject, resolution in found.rejects:
        state = f"settled ({resolution})" if resolution else "open"
        yield f"reject      {reject.number}, version {reject.version}, {state}, last seen {_time(reject.last_seen_at)}"
        yield f"            {_short(reject.reason)}"


def _history(collection: Collection, found: "Explanation") -> Iterator[str]:
    if collection.history is None and not found.history:
        yield "history     is not kept: `history: 30d` in the YAML of the collection keeps it from then on"
    elif not found.history:
        yield f"history     nothing in the last {collection.history.days if collection.history else 0} days"
    for entry in found.history:
        yield f"history     {_time(entry.at)}  {entry.fate} version {entry.version} ({entry.mode} run {entry.run_id}): {_short(entry.why)}"


def _versions(collection: Collection, found: "Explanation") -> Iterator[str]:
    if collection.history_table is None:
        return
    if not found.versions:
        yield f"versions    none in {collection.history_table.name}"
    for one in found.versions:
        until = "now" if one.valid_to is None else _time(one.valid_to)
        yield f"version     {one.version}, from {_time(one.valid_from)} to {until}{', deleted' if one.is_deleted else ''}"


@dataclass(frozen=True)
class Answer:
    """This value says whether the source holds a record, what to report about it, and what it could be forgotten by."""

    holds: bool
    said: str
    subjects: "Sequence[Subject]" = ()


@dataclass(frozen=True)
class Wanted:
    """This value is a record to be found at its source: by its own id, or by what was typed, which may be the provider's."""

    record_id: str
    upstream_id: str
    sync_id: str | None


def _source(session: Session, collection: Collection, wanted: Wanted, *, found: "Explanation", max_pages: int) -> Answer:
    from sequin_pipeline.operate.explain import ask_source
    from sequin_pipeline.sources.registry import open_source

    record_id = wanted.record_id

    if not max_pages:
        return Answer(False, "was not asked")
    try:
        source = open_source(collection.source, os.environ)
        if not source.can_reread:
            return Answer(False, f"{source.identity} is a queue, which gives each message once: it cannot be asked")
        if found.table is not None and found.table.source != source.identity:
            return Answer(
                False, f"was not asked: the table has been filled from {found.table.source}, and {source.identity} is set now"
            )
        check_api(session)
        looked = _look_up(source, collection, wanted, found)
        if looked is not None:
            return looked
        answer = ask_source(source, collection, record_id, explanation=found, max_pages=max_pages)
    except PipelineError as error:
        return Answer(False, f"could not be asked: {error}")
    pages = f"{answer.pages:,} page{'' if answer.pages == 1 else 's'}"
    searched = (
        f"{pages} read {'behind the stored version' if found.position else 'from the beginning'}; the source has no lookup by id"
    )
    if answer.reason is not None:
        return Answer(True, f"holds it, and it is rejected: {_short(answer.reason)} ({searched})")
    if answer.version is None:
        where = "to the end of the stream" if answer.reached_end else "it may stand further on: `--pages` reads more"
        return Answer(False, f"not found, {where} ({searched})")
    stored = found.row.version if found.row else found.removed[0] if found.removed else None
    compared = (
        "which is not stored"
        if stored is None
        else "which is what is stored"
        if answer.version == stored or answer.is_as_stored
        else f"{'newer' if answer.version > stored else 'older'} than version {stored}, which is stored"
    )
    held = f"version {answer.version}{' (deleted)' if answer.is_deleted else ''}"
    if answer.record_id != record_id:
        held += f" of record {answer.record_id!r}, whose upstream_id that is"
    return Answer(True, f"holds {held}, {compared} ({searched})", answer.subjects)


def _look_up(source: "Source", collection: Collection, wanted: Wanted, found: "Explanation") -> Answer | None:
    """Asks for the object by the provider's id, if the source can be asked so; None: it has to be looked for page by page."""
    from sequin_pipeline.operate.source_lookup import look_up
    from sequin_pipeline.table.target import collection_target

    row = found.row
    stored, target = row.values if row else {}, collection_target(collection)
    column = target.column("upstream_id").table_name if target.is_stored("upstream_id") else ""
    upstream_id = stored.get(column) if row else wanted.upstream_id
    if upstream_id is None or (row is None and _is_uuid(upstream_id)):
        return None
    sync_id = row.sync_id if row and row.sync_id else wanted.sync_id
    answer = look_up(source, collection, wanted.record_id, upstream_id=upstream_id, sync_id=sync_id, stored=stored)
    if answer is None:
        return None
    how = f"(asked for {upstream_id!r})"
    if answer.reason is not None:
        return Answer(True, f"holds it, and it is rejected: {_short(answer.reason)} {how}")
    if answer.record_id is None:
        return Answer(False, f"does not have it{' any more' if row and not row.is_deleted else ''} {how}")
    if row is None:
        return Answer(True, f"holds it as record {answer.record_id!r}, which is not stored {how}", answer.subjects)
    if row.is_deleted:
        return Answer(True, f"holds it, while the row is a tombstone {how}")
    if answer.is_as_stored is None:
        return Answer(True, f"holds it {how}")
    return Answer(True, f"holds it {'as it is stored' if answer.is_as_stored else 'otherwise than it is stored'} {how}")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S%z}".replace("+0000", "Z")


def _short(text: str) -> str:
    flat = "".join(character if character.isprintable() else "�" for character in text)
    return flat if len(flat) <= SHOWN_CHARACTERS else f"{flat[:SHOWN_CHARACTERS]}… ({len(flat):,} characters)"
