"""This module has a table show each reader the rows of one tenant only: by a policy on `internal_id`.

The tenant is the session's setting `app.tenant`; where it is unset or empty, no row is shown. The pipeline owns its tables, and row
security is not forced on them: an owner then passes as if there were none, so that a merge pays nothing for it and no row is hidden
from it. Nothing here takes a policy away, since whoever loses a line of YAML must not open a table.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.catalog import TableName
from sequin_pipeline.postgres.rows import fetch_rows
from sequin_pipeline.postgres.warehouse import Connection

POLICY = "sequin_pipeline_tenant"
SETTING = "app.tenant"
TENANT = "internal_id"

_CONDITION = sql.SQL("{} = nullif(current_setting({}, true), '')").format(sql.Identifier(TENANT), sql.Literal(SETTING))
"""A setting that was local to a transaction is empty from its end on, not unset."""
STORED_CONDITION = f"({TENANT} = NULLIF(current_setting('{SETTING}'::text, true), ''::text))"
"""This is the condition as Postgres 13 to 18 show it."""


@dataclass(frozen=True)
class _Part:
    """A part is the table, or one of its partitions, which have policies of their own.

    `is_as_declared` is None where the part has no policy of ours, and False where somebody has changed it.
    """

    schema: str
    name: str
    is_enabled: bool
    is_as_declared: bool | None

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


def security_statements(connection: Connection, table: TableName) -> list[sql.Composed]:
    """Returns what secures a table that is there and has `internal_id`; nothing where it is secured. They are for its owner."""
    return [
        statement
        for part in _parts(connection, table)
        for statement in _statements(part.identifier, part.is_enabled, part.is_as_declared)
    ]


def creating_statements(table: TableName) -> list[sql.Composed]:
    """Returns what secures a table that has just been created."""
    return _statements(sql.Identifier(table.schema, table.name), False, None)


def open_ways(connection: Connection, table: TableName) -> list[str]:
    """Returns what shows readers of a secured table more than their tenant's rows, each as a sentence.

    That is policies of others for every role, and views that read it as a role to which no policy applies.
    """
    name = sql.Identifier(table.schema, table.name).as_string()
    policies = fetch_rows(
        connection,
        str,
        "select polname::text from pg_policy where polrelid = to_regclass(%s) and polpermissive and polcmd in ('r', '*')"
        " and 0 = any(polroles) and polname <> %s order by 1",
        (name, POLICY),
    )
    views = fetch_rows(
        connection,
        lambda kind, view: (kind, view),
        "with recursive reading as (select to_regclass(%s)::oid as oid union select w.ev_class from reading r join pg_depend d"
        " on d.refobjid = r.oid and d.classid = 'pg_rewrite'::regclass join pg_rewrite w on w.oid = d.objid)"
        " select v.relkind::text, v.oid::regclass::text from reading r join pg_class v using (oid) join pg_roles o on o.oid = v.relowner"
        " join pg_class t on t.oid = to_regclass(%s) where v.relkind = 'm' or (v.relkind = 'v'"
        " and not exists (select from pg_options_to_table(v.reloptions) where option_name = 'security_invoker'"
        " and option_value in ('true', 'on', 'yes', '1'))"
        " and (o.rolsuper or o.rolbypassrls or pg_has_role(v.relowner, t.relowner, 'USAGE'))) order by 2",
        (name, name),
    )
    return [
        *(f"policy {policy!r} of table {str(table)!r} adds rows to those of the reader's tenant" for policy in policies),
        *(_told(kind, view, table) for kind, view in views),
    ]


def _told(kind: str, view: str, table: TableName) -> str:
    if kind == "m":
        return f"materialized view {view} holds rows of table {str(table)!r}, and no policy applies to it: let no tenant read it"
    return (
        f"view {view} reads table {str(table)!r} with the rights of its owner, to whom no policy applies: run `alter view {view} set "
        "(security_invoker = true)` (Postgres 15 and later), or give it to a role that reads as tenants do"
    )


def _statements(table: sql.Identifier, is_enabled: bool, is_as_declared: bool | None) -> list[sql.Composed]:  # noqa: FBT001 - as the catalog says
    statements = []
    if is_as_declared is False:
        statements.append(sql.SQL("drop policy {} on {}").format(sql.Identifier(POLICY), table))
    if not is_as_declared:
        statements.append(
            sql.SQL("create policy {} on {} for select using ({})").format(sql.Identifier(POLICY), table, _CONDITION)
        )
    if not is_enabled:
        statements.append(sql.SQL("alter table {} enable row level security").format(table))
    return statements


def _parts(connection: Connection, table: TableName) -> Sequence[_Part]:
    name = sql.Identifier(table.schema, table.name).as_string()
    return fetch_rows(
        connection,
        _Part,
        "select n.nspname::text, c.relname::text, c.relrowsecurity, (select p.polpermissive and p.polcmd = 'r' and p.polroles = '{0}'"
        " and pg_get_expr(p.polqual, p.polrelid) = %(condition)s from pg_policy p where p.polrelid = c.oid and p.polname = %(policy)s)"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass(%(table)s)"
        " or c.oid in (select relid from pg_partition_tree(to_regclass(%(table)s))) order by c.oid",
        {"table": name, "policy": POLICY, "condition": STORED_CONDITION},
    )
