"""`sequin-pipeline forget` removes a tenant, a sync or a single record from everything that the pipeline writes, for good."""

import json
import sys
from typing import TYPE_CHECKING

import click

from sequin_pipeline.cli.completion import complete_collections, complete_record_ids
from sequin_pipeline.cli.names import read_labels
from sequin_pipeline.cli.session import Session, announce, check_warehouse, open_session, select
from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.warehouse import Warehouse, attempt

if TYPE_CHECKING:
    from sequin_pipeline.operate.forgetting.report import ForgetReport
    from sequin_pipeline.records.forgotten import Subject

INCOMPLETE = 3
"""The command exits with this where something of the subject is left."""


@click.command()
@click.argument("label", metavar="[PROVIDER/NAME", required=False, callback=read_labels, shell_complete=complete_collections)
@click.argument("record_id", metavar="ID]", required=False, shell_complete=complete_record_ids)
@click.option("--internal-id", metavar="T", help="Forget the tenant: every record whose sync.external_id this is.")
@click.option("--sync-id", metavar="S", help="Forget every record of this sync.")
@click.option("--dry-run", is_flag=True, help="Count what would be removed, and change nothing.")
@click.option(
    "--undo", "undoes", is_flag=True, help="Let runs write its records again; what was removed is read again only if you say so."
)
@click.option(
    "--leave-applications",
    is_flag=True,
    help="Leave rows of tables that belong to applications, where they may not be deleted or cannot be told.",
)
@click.option("--sandbox", is_flag=True, help="Forget in the sandbox's records in the database that WAREHOUSE_URL names.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def command(
    *,
    label: str | None,
    record_id: str | None,
    dry_run: bool,
    undoes: bool,
    leave_applications: bool,
    sandbox: bool,
    as_json: bool,
    **named: str | None,
) -> None:
    """Remove a tenant (--internal-id), a sync (--sync-id) or one record (PROVIDER/NAME ID) from all tables and the ledger.

    Rows, rejects with their bytes, remembered versions, history and whatever names them go; the request is kept as a salted hash, so
    that no run writes them again until --undo. Interrupted, the same command goes on. Records that runs meet later count as forgotten.

    Exit status: 0 nothing is left, 1 the warehouse failed (run it again), 2 wrong usage, 3 something is left, as the report says.
    """
    from sequin_pipeline.operate.forgetting.forget import dry_forget, forget, undo

    if undoes and dry_run:
        raise ConfigurationError("--dry-run counts what would be removed, and --undo removes nothing: give one of them")
    subject = _subject(label, record_id, **named)
    labels = (subject.label,) if subject.label else ()
    session = open_session(wants_sandbox=sandbox, labels=labels)
    select(session, providers=(), labels=labels)
    announce(session)
    check_warehouse(session)
    warehouse, collections = Warehouse(session.settings.warehouse_url), session.collections.values()
    if undoes:
        _tell_undone(subject, was_forgotten=undo(warehouse, subject), as_json=as_json)
        return
    subject = _resolved(session, warehouse, subject)
    if dry_run:
        report = dry_forget(warehouse, subject, collections)
    else:
        report = forget(warehouse, subject, collections, leaves_applications=leave_applications)
    _print(report, as_json=as_json)


def _subject(label: str | None, record_id: str | None, *, internal_id: str | None, sync_id: str | None) -> "Subject":
    from sequin_pipeline.records.forgotten import Subject

    given = [one for one in (internal_id, sync_id, label) if one is not None]
    if len(given) != 1 or (label is not None and not record_id) or "" in given:
        raise ConfigurationError("name one of them: --internal-id T, --sync-id S, or PROVIDER/NAME and the ID of a record")
    if any("\udc80" <= character <= "\udcff" for one in (*given, record_id or "") for character in one):
        raise ConfigurationError("what is to be forgotten is named in bytes that are no UTF-8, as no id of a record is")
    if label is not None:
        return Subject("record", record_id or "", label)
    return Subject("internal_id", internal_id) if internal_id is not None else Subject("sync_id", sync_id or "")


def _resolved(session: Session, warehouse: Warehouse, subject: "Subject") -> "Subject":
    """Returns the record by its own id, where it was named by the one at the provider."""
    from sequin_pipeline.ledger.ledger import Ledger
    from sequin_pipeline.ledger.schema import migrate
    from sequin_pipeline.operate.explain import find_by_upstream_id
    from sequin_pipeline.records.forgotten import Subject

    if subject.kind != "record":
        return subject
    collection = session.collections[subject.label]

    def look() -> list[str]:
        with warehouse.connect() as connection:
            migrate(connection)
            ledger = Ledger(str(collection.table), collection.label)
            return [one.id for one in find_by_upstream_id(connection, collection, ledger, subject.value, sync_id=None)]

    ids = attempt(look, f"looking for {subject}")
    if len(ids) == 1 and ids[0] != subject.value:
        # Whoever is interrupted needs it: once its row is gone, nothing leads from the provider's id to it.
        click.echo(f"record {ids[0]!r} of {subject.label}", err=True)
    if len(ids) > 1:
        raise ConfigurationError(
            f"{subject.value!r} is the provider's id of several records of {subject.label!r}: {', '.join(ids)}. Name one of them"
        )
    return Subject("record", ids[0], subject.label) if ids else subject


def _print(report: "ForgetReport", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(report.told(), indent=2, default=lambda moment: moment.isoformat()))
    else:
        for line in report.lines():
            click.echo(line)
        if report.is_dry_run:
            click.echo("Nothing was changed.")
        else:
            click.echo(
                "Dagster's event log may name it in metadata of earlier runs: docs/tenants.md says where, and what clears it."
            )
    if not report.is_complete:
        sys.exit(INCOMPLETE)


def _tell_undone(subject: "Subject", *, was_forgotten: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"kind": subject.kind, "collection": subject.label or None, "undone": was_forgotten}, indent=2))
        return
    if not was_forgotten:
        hint = " A record is named by its own id here, not by the provider's." if subject.label else ""
        click.echo(f"{subject} is not forgotten: nothing to undo.{hint}")
        return
    collection = f" --collection {subject.label}" if subject.label else ""
    click.echo(
        f"Runs write records of {subject} again. New versions land by themselves; to read the others again: "
        f"`sequin-pipeline sync --full-refresh{collection}`, or `sequin-pipeline backfill` for a range of time. What a queue has handed "
        "out since does not come back."
    )
