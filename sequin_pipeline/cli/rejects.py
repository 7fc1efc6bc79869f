"""`sequin-pipeline rejects` lists, shows, replays and discards records that could not be stored."""

import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import click

from sequin_pipeline.cli.completion import complete_collections, complete_rejects
from sequin_pipeline.cli.groups import Group
from sequin_pipeline.cli.landed import LANDED_WITH_REJECTS
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import Session, open_session, select
from sequin_pipeline.cli.tables import build_table, print_table
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.postgres.warehouse import Connection, Warehouse, attempt

if TYPE_CHECKING:
    from sequin_pipeline.ledger.rejects import KeptReject, RejectGroup

Result = TypeVar("Result")

SHOWN = 10
PIPE_COLUMNS = 250
DISCARDED = "discarded"
REASON_CHARACTERS = 120
"""A single reject shows this much of its reason, so that it is one line; its group has the whole reason."""
HEADINGS = ("collection", "reject", "record", "version", "class", "seen", "last seen", "reason")


@click.group(cls=Group)
@click.option("--sandbox", is_flag=True, help="Look at the sandbox's records in the database that WAREHOUSE_URL names.")
@click.pass_context
def command(context: click.Context, *, sandbox: bool) -> None:
    """Deal with records that could not be stored: each is kept whole until it is replayed, discarded, or overtaken by a good version."""
    context.obj = sandbox


@command.command("list")
@click.argument("labels", metavar="[P/N]...", nargs=-1, callback=read_labels, shell_complete=complete_collections)
@click.option("--all", "shows_all", is_flag=True, help=f"Show every open reject, not the newest {SHOWN} of each collection.")
@click.pass_obj
def list_(sandbox: bool, labels: Sequence[str], *, shows_all: bool) -> None:  # noqa: FBT001 - click's
    """Count the open rejects by reason, and show the newest; of all collections, or of those named."""
    from sequin_pipeline.ledger.rejects import newest_rejects, reject_groups

    session = open_session(wants_sandbox=sandbox, labels=labels)
    limit = None if shows_all else SHOWN
    groups: list[tuple[str, RejectGroup]] = []
    newest: list[tuple[str, KeptReject]] = []
    for ledger in _ledgers(session, labels):
        groups += [(ledger.label, group) for group in _read(session, ledger, reject_groups)]
        newest += [(ledger.label, reject) for reject in _read(session, ledger, partial(newest_rejects, limit=limit))]
    waiting = sum(group.count for _, group in groups)
    if not waiting:
        click.echo("No open rejects.")
        return
    _print_groups(groups)
    _print_newest(newest)
    if len(newest) < waiting:
        click.echo(f"{len(newest):,} of {waiting:,} open rejects are shown: `--all` shows them all.")
    click.echo("`sequin-pipeline rejects show P/N REJECT` shows one whole; `replay` tries again, `discard` gives up.")


@command.command()
@click.argument("label", metavar="P/N", callback=read_labels, shell_complete=complete_collections)
@click.argument("number", metavar="REJECT", shell_complete=complete_rejects)
@click.pass_obj
def show(sandbox: bool, label: str, number: str) -> None:  # noqa: FBT001 - click's
    """Show one reject: why, and the record as it came."""
    session = open_session(wants_sandbox=sandbox, labels=(label,))
    (ledger,) = _ledgers(session, (label,))
    for reject in _named(session, ledger, (number,)):
        click.echo(f"record    {reject.record_id or 'without id'}, version {reject.version}")
        click.echo(f"reason    {reject.reason}")
        click.echo(f"class     {reject.reject_class} {reject.sqlstate or ''}")
        click.echo(f"seen      {reject.seen} times, {reject.first_seen_at} to {reject.last_seen_at}, last by run {reject.run_id}")
        # Control characters of somebody else's data do not belong on a terminal.
        click.echo(json.dumps(reject.raw.decode(errors="backslashreplace"), ensure_ascii=False)[1:-1].replace('\\"', '"'))


@command.command(name="replay")
@click.argument("label", metavar="P/N", callback=read_labels, shell_complete=complete_collections)
@click.argument("numbers", metavar="[REJECT]...", nargs=-1, shell_complete=complete_rejects)
@click.pass_obj
def replay_(sandbox: bool, label: str, numbers: Sequence[str]) -> None:  # noqa: FBT001 - click's
    """Try rejects of a collection again, as it is declared now; all open ones, or those named.

    Exit status: 0 all of them have been settled, 1 the warehouse failed, 2 wrong usage, 3 some still cannot be stored.
    """
    from sequin_pipeline.runs.replay_rejects import replay

    session = open_session(wants_sandbox=sandbox, labels=(label,))
    (ledger,) = _ledgers(session, (label,))
    if label not in session.collections:
        raise ConfigurationError(f"records of {label!r} wait for its declaration: declare it in a defs.yaml, then replay them")
    wanted = sorted({reject.number for reject in _named(session, ledger, numbers)})
    counts = replay(
        _warehouse(session),
        session.collections[label],
        ledger,
        run_id=f"replay-{uuid4()}",
        numbers=wanted,
    )
    click.echo(f"{counts.fetched - counts.rejected:,} of {counts.fetched:,} rejects of {label} have been settled.")
    if counts.rejected:
        click.echo(f"{counts.rejected:,} still cannot be stored: `sequin-pipeline rejects list {label}` says why.")
        sys.exit(LANDED_WITH_REJECTS)


@command.command()
@click.argument("label", metavar="P/N", callback=read_labels, shell_complete=complete_collections)
@click.argument("numbers", metavar="[REJECT]...", nargs=-1, shell_complete=complete_rejects)
@click.option(
    "--reason",
    metavar="TEXT",
    help="Those whose reason holds this text, of which … stands for anything, as it does in `rejects list`.",
)
@click.option("--all", "discards_all", is_flag=True, help="All open rejects of the collection.")
@click.pass_obj
def discard(sandbox: bool, label: str, numbers: Sequence[str], *, reason: str | None, discards_all: bool) -> None:  # noqa: FBT001 - click's
    """Give rejects up: they are settled without being stored, also when the same content comes again.

    Those that are named, those with a reason, or all of a collection.
    """
    from sequin_pipeline.ledger.rejects import settle, settle_by_reason

    if (bool(numbers), reason is not None, discards_all).count(True) != 1:
        raise ConfigurationError("say which rejects are given up: by their numbers, by --reason TEXT, or --all of the collection")
    if reason is not None and not reason.strip(" …"):
        raise ConfigurationError("--reason is empty, which every reject would match: write a part of the reason, or --all")
    session = open_session(wants_sandbox=sandbox, labels=(label,))
    (ledger,) = _ledgers(session, (label,))
    if numbers:
        raws = [reject.raw for reject in _named(session, ledger, numbers)]
        settled = _read(session, ledger, partial(settle, raws=raws, resolution=DISCARDED))
    else:
        settled = _read(session, ledger, partial(settle_by_reason, reason=reason or "", resolution=DISCARDED))
    if reason is not None and not settled:
        raise ConfigurationError(
            f"no open reject of {label!r} has a reason with {reason!r}: `sequin-pipeline rejects list {label}` shows the reasons"
        )
    click.echo(f"{settled:,} rejects of {label} have been discarded.")


def _named(session: Session, ledger: Ledger, numbers: Sequence[str]) -> "list[KeptReject]":
    from sequin_pipeline.ledger.rejects import list_rejects

    found = _read(session, ledger, partial(list_rejects, numbers=numbers))
    missing = sorted(set(numbers) - {reject.number for reject in found})
    if missing:
        raise ConfigurationError(
            f"{ledger.label!r} has no open reject {missing[0]!r}: `sequin-pipeline rejects list {ledger.label}` shows them"
        )
    return found


def _ledgers(session: Session, labels: Sequence[str]) -> list[Ledger]:
    """Returns the ledgers of the labels, which may be those of records that wait undeclared.

    Where none is named, they are of all declared and all undeclared ones. Raises ConfigurationError for a label that is neither.
    """
    from sequin_pipeline.ledger.undeclared import undeclared_labels, undeclared_ledger

    undeclared = [label for label in _in_warehouse(session, undeclared_labels) if label not in session.collections]
    declared = [label for label in labels if label not in undeclared]
    collections = select(session, providers=(), labels=declared) if declared or not labels else ()
    wanted = [label for label in undeclared if label in labels or not labels]
    return [
        *(Ledger(str(collection.table), collection.label) for collection in collections),
        *(undeclared_ledger(label) for label in wanted),
    ]


def _read(session: Session, ledger: Ledger, work: Callable[[Connection, Ledger], Result]) -> Result:
    from sequin_pipeline.ledger.undeclared import adopt_undeclared

    def read(connection: Connection) -> Result:
        if ledger.label in session.collections:
            adopt_undeclared(connection, ledger)
        return work(connection, ledger)

    return _in_warehouse(session, read)


def _in_warehouse(session: Session, work: Callable[[Connection], Result]) -> Result:
    def run() -> Result:
        with _warehouse(session).connect() as connection:
            migrate(connection)
            return work(connection)

    return attempt(run, "reading the rejects")


def _warehouse(session: Session) -> Warehouse:
    return Warehouse(session.settings.warehouse_url)


def _print_groups(groups: "Sequence[tuple[str, RejectGroup]]") -> None:
    headings = ("collection", "records", "class", "last seen", "reason")
    rows = [[label, f"{group.count:,}", group.reject_class, _minute(group.last_seen_at), group.reason] for label, group in groups]
    told = [[count, f"{label}, {kind}, last seen {last_seen}: {reason}"] for label, count, kind, last_seen, reason in rows]
    print_table(
        build_table(headings, rows, wraps=["reason"]),
        build_table(("records", "reason"), told, wraps=["reason"]),
        pipe_columns=PIPE_COLUMNS,
    )
    click.echo()


def _print_newest(newest: "Sequence[tuple[str, KeptReject]]") -> None:
    rows = [[label, *_cells(reject)] for label, reject in newest]
    told = [
        [number, f"{label} {record}{version and f', version {version}'}, {kind}, last seen {last_seen}: {reason}"]
        for label, number, record, version, kind, _, last_seen, reason in rows
    ]
    print_table(
        build_table(HEADINGS, rows, wraps=["reason"]),
        build_table(("reject", "record"), told, wraps=["record"]),
        pipe_columns=PIPE_COLUMNS,
    )
    click.echo()


def _cells(reject: "KeptReject") -> tuple[str, ...]:
    return (
        reject.number,
        reject.record_id or "without id",
        "" if reject.version is None else str(reject.version),
        f"{reject.reject_class} {reject.sqlstate or ''}".strip(),
        str(reject.seen),
        _minute(reject.last_seen_at),
        _short(reject.reason),
    )


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _short(reason: str) -> str:
    return reason if len(reason) <= REASON_CHARACTERS else f"{reason[: REASON_CHARACTERS - 1]}…"
