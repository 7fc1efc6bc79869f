"""This module finds the time limits that a role, a database or a server sets for a session, and where each comes from.

Transactions of ours take these limits off for themselves, by `set local`, so that a pooler may stand in front. What runs outside of one
(an index built concurrently, the reading of a whole table) is held to them.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import sql

LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
"""These limits end what a transaction of ours does. Postgres 13 to 16 have no transaction_timeout."""

LIFTED = (*LIMITS, "exit_on_error")
"""Transactions of ours set these to 0.

With exit_on_error a refused row would end the session, and could not be told from the others.
"""

PLAINLY = sql.SQL("(select set_config('quote_all_identifiers', 'off', true) offset 0) plainly")
"""This is joined first in a statement that compares names as Postgres shows them.

It holds for the rest of that statement's transaction.
"""

OF_SQLSTATE = {
    "57014": "statement_timeout",
    "25P03": "idle_in_transaction_session_timeout",
    "25P04": "transaction_timeout",
}


@dataclass(frozen=True)
class SessionLimit:
    """This value is a limit that is in force: `source` says where it was set, `fix` is how to take it off there."""

    name: str
    value: str
    source: str
    fix: str

    def __str__(self) -> str:
        return f"{self.name} is {self.value}, set {self.source}: {self.fix}"


def limit_of(error: psycopg.Error) -> str | None:
    """Returns the name of the limit that ended a statement or a session.

    An operator's cancel has the SQLSTATE of a statement_timeout, and only other words; a server that says them in another language is
    taken for an operator.
    """
    if error.sqlstate == "57014" and "statement timeout" not in str(error):
        return None
    return OF_SQLSTATE.get(error.sqlstate or "")


def limits_in_force(connection: "psycopg.Connection[tuple[object, ...]]") -> Iterator[SessionLimit]:
    """Yields every limit of this session that is not zero."""
    rows = connection.execute(
        "select name, current_setting(name), source, quote_ident(session_user), quote_ident(current_database())"
        " from pg_settings where name = any(%s) and setting <> '0' order by name",
        (list(LIMITS),),
    ).fetchall()
    for name, value, source, role, database in rows:
        yield _limit(str(name), str(value), str(source), f"role {role}", f"database {database}")


def _limit(name: str, value: str, source: str, role: str, database: str) -> SessionLimit:
    """Returns the limit with who has set it and what would lift it, by the source that pg_settings tells."""
    if source in ("client", "environment variable"):
        return SessionLimit(name, value, "by the options of the URL, or PGOPTIONS", "take it out there")
    setter = {"user": role, "database": database, "database user": f"{role} in {database}"}.get(source)
    fix = f"`alter {setter or role} set {name} = 0`, or a longer time"
    return SessionLimit(name, value, f"for {setter}" if setter else f"by the server ({source})", fix)
