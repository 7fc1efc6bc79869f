"""`sequin-pipeline plan` shows what the next runs would do, without doing it."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from sequin_pipeline.catalog import Collection
from sequin_pipeline.cli.completion import complete_collections
from sequin_pipeline.cli.landed import FAILED, LANDED_WITH_REJECTS
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import announce, check_api, check_warehouse, open_session, select
from sequin_pipeline.errors import PipelineError
from sequin_pipeline.ledger.counts import FATES
from sequin_pipeline.postgres.warehouse import Warehouse

if TYPE_CHECKING:
    from sequin_pipeline.operate.dry_run import DryRun
    from sequin_pipeline.table.history_table import PendingHistory

SHOWN_CHARACTERS = 60
SHOWN_CHANGES = 8


@click.command()
@click.argument("labels", nargs=-1, metavar="[PROVIDER/NAME]…", callback=read_labels, shell_complete=complete_collections)
@click.option("--sandbox", is_flag=True, help="Put the sandbox's records into the database that WAREHOUSE_URL names.")
def command(*, labels: Sequence[str], sandbox: bool) -> None:
    """Show what the next live run of each collection would do: counts, some differences, changes of its table.

    Reads from the live cursors to the end of the streams, merges in transactions that are rolled back, and leaves nothing: no row, no
    table, no cursor. Exit status: 0 all would land, 1 a run would fail, 2 wrong usage, 3 some records would be rejected.
    """
    from sequin_pipeline.operate.dry_run import dry_run
    from sequin_pipeline.sources.registry import open_source

    session = open_session(wants_sandbox=sandbox, labels=labels)
    collections = select(session, providers=(), labels=labels)
    announce(session)
    check_api(session)
    check_warehouse(session)
    failed = rejected = 0
    for collection in collections:
        if collection.is_queued:
            click.echo(
                f"{collection.label} is read from a queue: what a run would do cannot be tried without taking its messages\n"
            )
            continue
        try:
            found = dry_run(open_source(collection.source, os.environ), Warehouse(session.settings.warehouse_url), collection)
        except PipelineError as error:
            failed += 1
            click.echo(f"{collection.label} would fail: {error}\n", err=True)
            continue
        rejected += found.counts.rejected
        for line in _lines(collection, found):
            click.echo(line)
        click.echo()
    click.echo("Nothing of this was written: each transaction has been rolled back.")
    if failed:
        sys.exit(FAILED)
    if rejected:
        sys.exit(LANDED_WITH_REJECTS)


def _lines(collection: Collection, found: "DryRun") -> Iterator[str]:
    counts = found.counts
    yield f"{collection.label}, table {collection.table}{', which would be created' if found.changes is None else ''}"
    if counts.fetched:
        fates = ", ".join(f"{getattr(counts, fate):,} {fate}" for fate in FATES if getattr(counts, fate))
        records = f"{counts.fetched:,} record{'' if counts.fetched == 1 else 's'}"
        yield f"  {records} from {found.pages:,} page{'' if found.pages == 1 else 's'}: {fates}"
    else:
        yield "  no new records"
    for remark in found.remarks:
        yield f"  {remark}"
    if found.changes:
        yield "  the run would begin with (not run now):"
    for change in found.changes or ():
        yield f"    {change.statement};  -- {change.lock} lock on {collection.table}"
    yield from _child_lines(found)
    if found.filled:
        yield f"  and fill {', '.join(found.filled)} for the rows that are there, from their objects"
    yield from _history(found.history)
    if found.swept:
        yield f"  and remove {found.swept:,} rows that are marked as deleted"
    for reject in found.rejects:
        yield f"  rejected  {reject.record_id or 'without id'}: {_short(reject.reason, 200)}"
    for difference in found.differences:
        yield f"  {difference.kind:<9} {difference.record_id}{_changes(difference.changes)}"
    changed = counts.inserted + counts.updated + counts.deleted
    if changed > len(found.differences):
        yield f"  … and {changed - len(found.differences):,} more rows"


def _history(history: "PendingHistory | None") -> Iterator[str]:
    if history is None:
        return
    if history.creates:
        yield f"  and create {history.table}, with a row for each version that is delivered from then on"
    for statement in history.statements:
        yield f"  and change {history.table} first (not run now): {statement};"


def _child_lines(found: "DryRun") -> Iterator[str]:
    for table, changes in found.child_changes.items():
        counts = asdict(found.children[table]) if table in found.children else {}
        fates = ", ".join(f"{count:,} {fate}" for fate, count in counts.items() if count) or "no rows of it change"
        yield f"  child table {table}{', which would be created' if changes is None else ''}: {fates}"
        for change in changes or ():
            yield f"    {change.statement};  -- {change.lock} lock on {table}"


def _changes(changes: Sequence[tuple[str, str | None, str | None]]) -> str:
    told = [f"{name} {_value(old)} -> {_value(new)}" for name, old, new in changes[:SHOWN_CHANGES]]
    if len(changes) > SHOWN_CHANGES:
        told.append(f"and {len(changes) - SHOWN_CHANGES} more")
    return f": {', '.join(told)}" if told else ""


def _value(text: str | None) -> str:
    return "null" if text is None else _short(text, SHOWN_CHARACTERS)


def _short(text: str, characters: int) -> str:
    flat = "".join(character if character.isprintable() else "�" for character in text)
    return flat if len(flat) <= characters else f"{flat[: characters - 1]}…"
