"""This module prints what a command that ran collections did: a line for each with the fate of its records, and an exit status."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import click

from sequin_pipeline.cli.offered import offers
from sequin_pipeline.cli.running import is_in_checkout, program, still_running
from sequin_pipeline.cli.session import Session
from sequin_pipeline.cli.tables import build_table, print_table
from sequin_pipeline.ledger.counts import FATES, Counts
from sequin_pipeline.ledger.held_deletes import HeldDeletes, held_by_table
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.status import RunSummary, run_summaries
from sequin_pipeline.postgres.urls import mask_url
from sequin_pipeline.postgres.warehouse import Warehouse

if TYPE_CHECKING:
    from sequin_pipeline.orchestration.launch import FinishedRun

FAILED, LANDED_WITH_REJECTS = 1, 3
FATE = "fate of the records"


@dataclass(frozen=True)
class Landed:
    """This value says what a run did to one collection; `failure` says why it did not come to its end, `bottleneck` what set its pace."""

    collection: str
    table: str
    counts: Counts
    rows: int | None
    seconds: float
    filled: int = 0
    failure: str | None = None
    held_deletes: tuple[HeldDeletes, ...] = ()
    bottleneck: str | None = None

    @property
    def has_never_had_records(self) -> bool:
        """This is true where all went well, and nothing came, now or before."""
        return self.failure is None and not self.counts.fetched and not self.rows


def landed(warehouse: Warehouse, runs: "Iterable[FinishedRun]") -> list[Landed]:
    """Pulls the runs one after the other, and asks the ledger after each what it did."""
    return [one for run in runs for one in _landed(warehouse, run)]


def together(results: Iterable[Landed]) -> list[Landed]:
    """Returns one result for each collection, of which several runs read parts beside each other."""
    summed: dict[str, Landed] = {}
    for one in results:
        other = summed.get(one.collection)
        summed[one.collection] = one if other is None else _sum(other, one)
    return list(summed.values())


def _sum(one: Landed, other: Landed) -> Landed:
    return replace(
        other,
        counts=one.counts + other.counts,
        rows=one.rows if other.rows is None else other.rows,
        seconds=max(one.seconds, other.seconds),
        filled=one.filled + other.filled,
        failure="\n".join(filter(None, [one.failure, other.failure])) or None,
    )


def tell(session: Session, results: Sequence[Landed], *, as_json: bool, accepted: int | None = None) -> None:
    """Prints the results, names the collections of which nothing can come, and ends the process with the exit status.

    That is 1 where a run failed, 3 where records were rejected or deletes are held; up to `accepted` of them were asked for.
    """
    if as_json:
        click.echo(json.dumps([{**asdict(one), "counts": asdict(one.counts)} for one in results], indent=2))
    else:
        _print(session, results)
    for one in results:
        for held in one.held_deletes:
            click.echo(f"\n{_told_held(one, held, accepted)}", err=True)
    silent = [session.collections[one.collection] for one in results if one.has_never_had_records]
    for unknown in (sentence for offer in offers(silent) for _, sentence in offer.unknown()):
        click.echo(f"\n{unknown}", err=True)
    if any(one.failure for one in results):
        sys.exit(FAILED)
    if any(one.counts.rejected or one.held_deletes for one in results):
        sys.exit(LANDED_WITH_REJECTS)


def _landed(warehouse: Warehouse, run: "FinishedRun") -> list[Landed]:
    from sequin_pipeline.ledger.undeclared import undeclared_of_run

    with warehouse.connect() as connection:
        migrate(connection)
        summaries = run_summaries(connection, run.run_id)
        undeclared = undeclared_of_run(connection, run.run_id)
        held = held_by_table(connection)
    nothing = RunSummary(Counts(), rows=None, seconds=0.0)
    results = []
    for collection in run.collections:
        did = summaries.get(collection.label, nothing)
        failure = run.failures.get(collection.label)
        table = str(collection.table)
        waiting = held.get(table, ())
        pace = run.bottlenecks.get(collection.label)
        results.append(Landed(collection.label, table, did.counts, did.rows, did.seconds, did.filled, failure, waiting, pace))
    for label, count in undeclared.items():
        results.append(Landed(label, "not declared", Counts(fetched=count, rejected=count), rows=None, seconds=0.0))
    labels = {collection.label for collection in run.collections}
    others = [(label, failure) for label, failure in run.failures.items() if label not in labels]
    return results + [Landed(label, "", Counts(), rows=None, seconds=0.0, failure=failure) for label, failure in others]


def _told_held(one: Landed, held: HeldDeletes, accepted: int | None) -> str:
    told = held.told(one.collection)
    return told if accepted is None else f"{told} (--accept-deletes {accepted} is fewer than {held.rows})"


def _print(session: Session, results: Sequence[Landed]) -> None:
    fates = FATES if any(one.counts.forgotten for one in results) else FATES[:-1]
    rows = [[one.collection, one.table, *_cells(one, fates)] for one in results]
    headings = ["collection", "table", *fates, "rows", "seconds"]
    there = [fate for fate in fates if any(getattr(one.counts, fate) for one in results)]
    shown = [headings.index(heading) for heading in ("collection", *there, "rows", "seconds")]
    narrow = build_table([headings[index] for index in shown], [[row[index] for index in shown] for row in rows])
    told = [[one.collection, _rows(one), ", ".join(_told(one))] for one in results]
    narrowest = build_table(["collection", "rows", FATE], told, wraps=["collection", FATE])
    print_table(build_table(headings, rows), narrow, narrowest)
    for one in results:
        if one.failure:
            click.echo(f"\n{one.collection} failed: {one.failure}", err=True)
    click.echo()
    for sentence in (*_summary(results), *_pace(results)):
        click.echo(sentence)
    click.echo(f"database  {mask_url(session.settings.warehouse_url)}")
    click.echo(f"UI        {_ui_command()}, then http://127.0.0.1:3000")
    if going_on := still_running(session.settings):
        click.echo(f"running   {going_on}")


def _cells(one: Landed, fates: Sequence[str]) -> list[str]:
    return [*(f"{getattr(one.counts, fate):,}" for fate in fates), _rows(one), f"{one.seconds:.1f}"]


def _rows(one: Landed) -> str:
    return "" if one.rows is None else f"{one.rows:,}"


def _told(one: Landed) -> Iterator[str]:
    """Yields what became of records in words, for a terminal that has no room for columns."""
    counts = [(getattr(one.counts, fate), fate) for fate in FATES]
    yield from (f"{count:,} {fate}" for count, fate in counts if count)
    if not one.counts.fetched:
        yield "nothing new"
    yield f"{one.seconds:.1f} s"


def _ui_command() -> str:
    return "make ui" if is_in_checkout() else f"{program()} ui"


def _pace(results: Sequence[Landed]) -> Iterator[str]:
    """Yields what would have made the longest of the runs shorter."""
    told = [one for one in results if one.bottleneck]
    if told:
        longest = max(told, key=lambda one: one.seconds)
        yield f"Bottleneck of {longest.collection}: {longest.bottleneck}."


def _summary(results: Sequence[Landed]) -> Iterator[str]:
    total = sum((one.counts for one in results), Counts())
    changed = total.inserted + total.updated + total.deleted
    filled, failed = sum(one.filled for one in results), sum(one.failure is not None for one in results)
    if failed:
        yield f"{failed} of {len(results)} failed; the next run continues where they stopped."
    if filled:
        yield f"{filled:,} rows filled with new or changed columns."
    if total.rejected:
        yield f"{changed:,} rows written, {total.rejected:,} records rejected: `sequin-pipeline rejects list` says why."
    elif changed:
        yield f"{changed:,} rows written from {total.fetched:,} records."
    elif total.fetched:
        known = "all known or forgotten" if total.forgotten else "all known"
        yield f"Nothing was written: {total.fetched:,} records fetched, {known}."
    elif not failed and not filled:
        yield "Nothing new: nothing was written."
