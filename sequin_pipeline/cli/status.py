"""`sequin-pipeline status` shows how every collection stands, and where declaration and API differ."""

from datetime import UTC, datetime

import click
from rich.console import Console
from rich.table import Table

from sequin_pipeline.cli.offered import offers
from sequin_pipeline.cli.session import Session, announce, check_warehouse, open_session
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.ledger.status import TableStatus, table_statuses
from sequin_pipeline.postgres.warehouse import Warehouse, attempt


@click.command()
@click.option("--sandbox", is_flag=True, help="Look at the sandbox's records in the database that WAREHOUSE_URL names.")
def command(*, sandbox: bool) -> None:
    """Show rows, live cursor, the age of the newest record read (the lag is that at most), last merge and open rejects."""
    session = open_session(wants_sandbox=sandbox)
    announce(session)
    check_warehouse(session)
    warehouse = Warehouse(session.settings.warehouse_url)

    def read() -> dict[str, TableStatus]:
        with warehouse.connect() as connection:
            migrate(connection)
            return table_statuses(connection)

    _print(session, attempt(read, "reading the ledger"))
    found = offers(session.collections.values())
    undeclared = sorted(collection_id for offer in found for collection_id in offer.undeclared)
    if undeclared:
        click.echo(f"\nThe API offers, and no defs.yaml declares: {', '.join(undeclared)}")
    for unknown in (sentence for offer in found for sentence in offer.unknown()):
        click.echo(f"\n{unknown}")


def _print(session: Session, statuses: dict[str, TableStatus]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("collection", "table", "rows", "live cursor", "newest record", "last merge", "open rejects"):
        table.add_column(
            heading, justify="right" if heading in ("rows", "newest record", "open rejects") else "left", no_wrap=True
        )
    now = datetime.now(UTC)
    for label, collection in session.collections.items():
        status = statuses.get(str(collection.table))
        if status is None:
            table.add_row(label, str(collection.table), "", "never synced")
            continue
        table.add_row(
            label,
            str(collection.table),
            f"{status.rows:,}",
            status.cursor or "none",
            _age(status.stream_time, now),
            "never" if status.last_merge_at is None else f"{status.last_merge_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}",
            f"{status.open_rejects:,}",
        )
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


def _age(moment: datetime | None, now: datetime) -> str:
    """Returns how old the last record read is: nothing newer has been read, and there may be nothing newer.

    A source whose clock is wrong may be ahead of us.
    """
    if moment is None:
        return ""
    seconds = int((now - moment).total_seconds())
    side, seconds = ("ago", seconds) if seconds >= 0 else ("ahead", -seconds)
    days, hours, minutes = seconds // 86_400, seconds % 86_400 // 3_600, seconds % 3_600 // 60
    return (
        f"{days}d {hours}h {side}" if days else f"{hours}h {minutes}m {side}" if hours else f"{minutes}m {seconds % 60}s {side}"
    )
