"""These checks look at the warehouse: is it there, may we write, and does the ledger fit this code? They only read."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from psycopg import sql

from sequin_pipeline.errors import PipelineError
from sequin_pipeline.ledger.forgets import open_forgets
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA, OLDEST_POSTGRES, VERSION, ledger_version
from sequin_pipeline.operate.doctor.advice import server_settings, storage
from sequin_pipeline.operate.doctor.encoding import encoding
from sequin_pipeline.operate.doctor.finding import Finding, Patient, clock_finding
from sequin_pipeline.postgres.session_limits import limits_in_force
from sequin_pipeline.postgres.warehouse import Connection, Warehouse
from sequin_pipeline.sources.registry import open_source
from sequin_pipeline.table.child_tables import pending_children
from sequin_pipeline.table.history_table import pending_history
from sequin_pipeline.table.managed import pending_changes
from sequin_pipeline.table.row_security import open_ways
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.table.write_access import tell_access

NEWEST = 18
"""The tests run on these versions of Postgres."""
FREE_CONNECTIONS = 10
"""A run of two lanes holds four."""

Check = Callable[[Connection, Patient], Iterator[Finding]]


def warehouse(patient: Patient) -> Iterator[Finding]:
    """Yields everything that one connection can tell; raises PipelineError when there is none."""
    with Warehouse(patient.settings.warehouse_url).connect() as connection:
        yield Finding("warehouse", "ok", f"connected as {Warehouse(patient.settings.warehouse_url).name}")
        for check in CHECKS:
            yield from check(connection, patient)


def server(connection: Connection, patient: Patient) -> Iterator[Finding]:
    row = connection.execute(
        "select current_setting('server_version'), current_setting('server_version_num')::int / 10000, pg_is_in_recovery(),"
        " current_setting('default_transaction_read_only') = 'on',"
        " current_setting('max_connections')::int - (select count(*) from pg_stat_activity where backend_type = 'client backend'),"
        " pg_size_pretty(pg_database_size(current_database()))"
    ).fetchone()
    assert row is not None  # noqa: S101 - functions' values
    shown, major, is_replica, is_read_only, free, size = row
    told = f"Postgres {shown}, the database has {size}"
    if int(str(major)) < OLDEST_POSTGRES:
        yield Finding(
            "warehouse", "problem", f"{told}: older than any supported version", f"upgrade to {OLDEST_POSTGRES} or newer"
        )
    elif int(str(major)) > NEWEST:
        yield Finding("warehouse", "warning", f"{told}: newer than any version that was tested", "upgrade this installation")
    else:
        yield Finding("warehouse", "ok", told)
    if is_replica or is_read_only:
        said = "is a replica, which cannot be written" if is_replica else "begins transactions read-only"
        yield Finding(
            "warehouse", "problem", f"the server {said}", "point WAREHOUSE_URL at the primary server, with a role that writes"
        )
    if int(str(free)) < FREE_CONNECTIONS:
        yield Finding("warehouse", "warning", f"only {free} connections are left", "end idle ones, or raise max_connections")


def clock(connection: Connection, patient: Patient) -> Iterator[Finding]:
    asked_at = datetime.now(UTC)
    row = connection.execute("select clock_timestamp()").fetchone()
    answered_at = datetime.now(UTC)
    assert row is not None  # noqa: S101 - a function's value
    theirs = row[0]
    assert isinstance(theirs, datetime)  # noqa: S101 - a timestamptz
    yield clock_finding("database clock", theirs, asked_at + (answered_at - asked_at) / 2)


def rights(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Checks the rights on the schemas and the ledger, as far as a run would need them now; `tables` checks those on the tables."""
    row = connection.execute(
        "select current_user::text, current_database()::text, has_database_privilege(current_database(), 'TEMPORARY'),"
        " has_database_privilege(current_database(), 'CREATE')"
    ).fetchone()
    assert row is not None  # noqa: S101 - functions' values
    role, database, has_temporary, has_create = row
    managed = {one.table for one in patient.collections.values() if one.unmanaged is None}
    managed |= {one.history_table.name for one in patient.collections.values() if one.history_table}
    managed |= {child.table for one in patient.collections.values() for child in one.children if child.unmanaged is None}
    schemas = {DEFAULT_SCHEMA, *(table.schema for table in managed)}
    there = connection.execute(
        "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = any(%s)",
        (sorted(schemas),),
    ).fetchall()
    growing = {table.schema for table in managed if (table.schema, table.name) not in there}
    if ledger_version(connection) != VERSION:
        growing.add(DEFAULT_SCHEMA)
    lacking: list[tuple[str, sql.Composed]] = []
    if not has_temporary:
        lacking.append(("make temporary tables", sql.SQL("grant temporary on database {} to {}").format(*_names(database, role))))
    found = connection.execute(
        "select nspname::text, has_schema_privilege(oid, 'USAGE') and (has_schema_privilege(oid, 'CREATE') or nspname <> all(%s))"
        " from pg_namespace where nspname = any(%s)",
        (sorted(growing), sorted(schemas)),
    ).fetchall()
    missing = sorted(schemas - {str(name) for name, _ in found})
    if missing and not has_create:
        lacking.append(
            (f"create schema {missing[0]}", sql.SQL("grant create on database {} to {}").format(*_names(database, role)))
        )
    lacking += [
        (f"create tables in schema {name}", sql.SQL("grant usage, create on schema {} to {}").format(*_names(name, role)))
        for name, is_allowed in sorted(found)
        if not is_allowed
    ]
    lacking += [
        (
            f"write {DEFAULT_SCHEMA}.{name}",
            sql.SQL("grant select, insert, update, delete on all tables in schema {} to {}").format(
                *_names(DEFAULT_SCHEMA, role)
            ),
        )
        for (name,) in connection.execute(
            "select c.relname::text from pg_class c where c.relnamespace = to_regnamespace(%s) and c.relkind = 'r' and exists ("
            "select from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) wanted where not has_table_privilege(c.oid, wanted))",
            (DEFAULT_SCHEMA,),
        ).fetchall()
    ]
    for what, fix in lacking:
        yield Finding("rights", "problem", f"role {role} may not {what}", fix.as_string(connection))
    if not lacking:
        yield Finding("rights", "ok", f"role {role} may create what is missing, and write the ledger")


def ledger(connection: Connection, patient: Patient) -> Iterator[Finding]:
    found = ledger_version(connection)
    if found is None:
        yield Finding("ledger", "ok", f"none yet: the first run creates schema {DEFAULT_SCHEMA}")
    elif found > VERSION:
        yield Finding(
            "ledger",
            "problem",
            f"version {found} was written by a newer pipeline: this one knows {VERSION}",
            "upgrade this installation",
        )
    elif found < VERSION:
        yield Finding("ledger", "ok", f"version {found}: the next run or command brings it to {VERSION}")
    else:
        yield Finding("ledger", "ok", f"version {found}")


def forgets(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Looks for requests to forget somebody that have not come to their end."""
    if ledger_version(connection) != VERSION:
        return
    for request in open_forgets(connection):
        named = {"internal_id": "a tenant", "sync_id": "a sync"}.get(request.kind, f"a record of {request.label}")
        said = (
            f"the request of {request.requested_at.astimezone(UTC):%Y-%m-%d %H:%M:%SZ} to forget {named} has not come to its end"
        )
        yield Finding(
            "forget", "warning", said, "run the same `sequin-pipeline forget` again: it goes on, and says what keeps rows"
        )


def tables(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Checks the tables as a run would find them."""
    version = ledger_version(connection)
    counts = {"ready": 0, "to be created": 0, "to be changed": 0}
    for label, collection in patient.collections.items():
        target = collection_target(collection)
        of = Ledger(str(collection.table), label)
        try:
            source = open_source(collection.source, patient.environment).identity
            record = of.find_table(connection) if version is not None else None
            changes = pending_changes(connection, target, record, source=source)
            history = pending_history(connection, target, of, has_ledger=version == VERSION)
            children = pending_children(connection, target, of, source=source, version=version)
        except PipelineError as error:
            yield Finding("tables", "problem", str(error), "the message says what to do")
            continue
        for told in tell_access(connection, target):
            yield Finding("tables", "ok", told)
        for found in (changes, *children.values()):
            counts["to be created" if found is None else "to be changed" if found else "ready"] += 1
        if history is not None:
            counts["to be created" if history.creates else "to be changed" if history.statements else "ready"] += 1
    summed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    fix = "`sequin-pipeline plan` shows the statements and their locks" if counts["to be changed"] else ""
    if summed:
        yield Finding("tables", "ok", summed, fix)


def row_security(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Looks for what shows readers more than the rows of their tenant."""
    for collection in patient.collections.values():
        children = [child.table for child in collection.children if child.unmanaged is None]
        tables = (collection.table, *children, *([collection.history_table.name] if collection.history_table else []))
        for told in (told for table in tables if collection.row_security for told in open_ways(connection, table)):
            yield Finding("row security", "warning", told, "close it, or keep tenants away from it")


def time_limits(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Reports the limits of time that a role, a database or the server sets for our sessions."""
    found = list(limits_in_force(connection))
    for limit in found:
        said = f"{limit.name} is {limit.value}, set {limit.source}: what runs outside of a transaction of ours, as an index that is built"
        yield Finding("time limits", "warning", f"{said} concurrently, ends with it", limit.fix)
    if not found:
        yield Finding("time limits", "ok", "none ends what a session of ours does")


def _names(*names: object) -> list[sql.Identifier]:
    return [sql.Identifier(str(name)) for name in names]


CHECKS: tuple[Check, ...] = (
    server,
    clock,
    rights,
    ledger,
    forgets,
    tables,
    row_security,
    encoding,
    time_limits,
    server_settings,
    storage,
)
"""The findings are reported in this order."""
