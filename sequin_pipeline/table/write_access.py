"""This module finds what stands between a table and whoever writes it.

That is its kind, rules, row-level security, triggers, and the rights of our role. Managed and unmanaged tables are looked at
alike, before anything is requested of a source. Reads only the catalog.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.errors import TableRefused
from sequin_pipeline.postgres.rows import fetch_row
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.row_security import POLICY
from sequin_pipeline.table.target import Target

KINDS = {"v": "a view", "m": "a materialized view", "f": "a table of another server"}


@dataclass(frozen=True)
class WriteAccess:
    """This value says what our role may do with a table.

    `kind` is pg_class.relkind. `lacking` are privileges that `role` does not have, `hides_rows` tells that row-level security
    applies to it, `owns` that it may alter the table. `triggers` run before a row is written, and may leave it out.
    `has_tenant_policy`: the table has the policy of row_security.py.
    """

    oid: int
    kind: str
    role: str
    lacking: tuple[str, ...]
    owns: bool = True
    has_children: bool = False
    has_rules: bool = False
    hides_rows: bool = False
    triggers: tuple[str, ...] = ()
    has_tenant_policy: bool = False


def find_access(connection: Connection, table: TableName) -> WriteAccess | None:
    """Returns None where there is no table of that name. Raises psycopg.Error."""
    return fetch_row(
        connection,
        _access,
        "select c.oid::bigint, c.relkind::text, current_user::text,"
        " array(select wanted from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) wanted"
        " where not has_table_privilege(c.oid, wanted))"
        " || case when has_schema_privilege(n.oid, 'USAGE') then '{}' else array['USAGE'] end,"
        " pg_has_role(c.relowner, 'USAGE'),"
        " c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid),"
        " exists (select from pg_rewrite w where w.ev_class = c.oid and w.ev_type in ('2', '3', '4') and w.ev_enabled <> 'D'),"
        " row_security_active(c.oid),"
        # Of tgtype, bit 0 says for each row, bit 1 before.
        " array(select distinct g.tgname::text from pg_trigger g where not g.tgisinternal and g.tgenabled <> 'D' and g.tgtype & 3 = 3"
        " and (g.tgrelid = c.oid or g.tgrelid in (select relid from pg_partition_tree(c.oid))) order by 1),"
        " exists (select from pg_policy p where p.polrelid = c.oid and p.polname = %s)"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relname = %s and c.relkind in ('r', 'p', 'v', 'm', 'f')",
        (POLICY, table.schema, table.name),
    )


def _access(oid: int, kind: str, role: str, lacking: list[str], *told: object) -> WriteAccess:
    owns, has_children, has_rules, hides_rows, triggers, has_tenant_policy = told
    assert isinstance(triggers, list)  # noqa: S101 - an array
    return WriteAccess(
        oid,
        kind,
        role,
        tuple(lacking),
        owns=bool(owns),
        has_children=bool(has_children),
        has_rules=bool(has_rules),
        hides_rows=bool(hides_rows),
        triggers=tuple(map(str, triggers)),
        has_tenant_policy=bool(has_tenant_policy),
    )


def check_access(target: Target, access: WriteAccess) -> None:
    """Raises TableRefused where rows could not be written, or where one that is hidden would be taken for missing."""
    if access.kind in KINDS:
        raise _refused(target, f"is {KINDS[access.kind]}: name the table behind it")
    if access.kind == "p" and target.tombstone is not None and not target.is_unmanaged:
        raise _refused(
            target,
            "is partitioned, and of such a table Postgres does not tell which rows an upsert inserted: let a plain table of that name take "
            "its place, or declare it with `managed: false` and its columns (docs/your-tables.md), which may be partitioned",
        )
    if access.has_children:
        raise _refused(target, "has tables that inherit from it, in which no unique index is shared: name one of them")
    if access.has_rules:
        raise _refused(
            target,
            "has rules for inserts, updates or deletes, with which Postgres allows no upsert or reports no row: "
            "use triggers in their place",
        )
    lacking = [wanted for wanted in access.lacking if wanted != "DELETE" or target.removes]
    if lacking:
        fixes = "; ".join(grant(access.role, target.table, wanted) for wanted in lacking)
        raise TableRefused(
            f"role {access.role!r} lacks the right to {', '.join(lacking).lower()} on table {str(target.table)!r} "
            f"of {target.label!r}: run `{fixes}`"
        )
    if access.hides_rows:
        raise _refused(
            target,
            f"has row-level security that applies to role {access.role!r}, so that rows it hides would be taken for missing, and no "
            f"grant changes that: {_way_around(target, access)}",
        )


def _way_around(target: Target, access: WriteAccess) -> str:
    bypass = f"`alter role {sql.Identifier(access.role).as_string()} bypassrls`"
    table = sql.Identifier(target.table.schema, target.table.name).as_string()
    if access.owns:
        return f"run `alter table {table} no force row level security`, or {bypass}"
    return f"let the pipeline connect as a role with BYPASSRLS, as in {bypass}, or as the owner of the table"


def tell_access(connection: Connection, target: Target) -> tuple[str, ...]:
    """Returns a sentence about triggers that may leave rows out, and one about a policy of ours that nobody declares any more."""
    access = find_access(connection, target.table)
    if access is None:
        return ()
    named = ", ".join(map(repr, access.triggers))
    triggers = (
        f"trigger {named} of table {str(target.table)!r} runs before rows are written: a row that it leaves out becomes a reject"
    )
    is_left = access.has_tenant_policy and target.row_security is None
    return (*([triggers] if access.triggers else []), *([_left_policy(target)] if is_left else []))


def _left_policy(target: Target) -> str:
    table = sql.Identifier(target.table.schema, target.table.name).as_string()
    return (
        f"table {str(target.table)!r} of {target.label!r} still shows readers the rows of one tenant only, by its policy {POLICY!r}, which "
        f"its declaration does not ask for: say `row_security: tenant` again, or open it by `drop policy {POLICY} on {table}; alter table "
        f"{table} disable row level security`"
    )


def check_ownership(target: Target, access: WriteAccess, statements: Sequence[str]) -> None:
    """Raises TableRefused where the table has to be altered first, which only its owner may do."""
    if statements and not access.owns:
        raise _refused(
            target,
            f"has to be changed first, which only its owner may do, and role {access.role!r} is not: "
            f"run as its owner `{'; '.join(statements)}`",
        )


def grant(role: str, table: TableName, wanted: str) -> str:
    """Returns the statement that would give this role a right."""
    name = sql.Identifier(role).as_string()
    if wanted == "USAGE":
        return f"grant usage on schema {sql.Identifier(table.schema).as_string()} to {name}"
    return f"grant {wanted.lower()} on {sql.Identifier(table.schema, table.name).as_string()} to {name}"


def _refused(target: Target, what: str) -> TableRefused:
    return TableRefused(f"table {str(target.table)!r} of {target.label!r} {what}")
