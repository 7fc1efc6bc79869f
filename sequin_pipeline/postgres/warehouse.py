"""This module connects to the warehouse and says what its errors mean.

Which SQLSTATE may pass by itself is data here, and nowhere else. There are no session locks, no prepared statements and no session
settings: a transaction pooler may stand in front of Postgres.
"""

import codecs
import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo, pq
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import Loader

from sequin_pipeline.errors import ConfigurationError, PipelineError, TableRefused, WarehouseError, WarehouseUnavailable
from sequin_pipeline.postgres.libpq import closed_conninfo
from sequin_pipeline.postgres.percent_signs import BinaryCursor, ServerCursor
from sequin_pipeline.postgres.session_limits import LIFTED, SessionLimit, limit_of, limits_in_force
from sequin_pipeline.postgres.urls import not_understood, refuse_unescaped, refuse_unknown_parameters

logger = logging.getLogger("sequin_pipeline.warehouse")

Result = TypeVar("Result")

RETRYABLE_SQLSTATES = frozenset(
    {
        "40001",  # serialization_failure
        "40P01",  # deadlock_detected
        "53300",  # too_many_connections
        "55P03",  # lock_not_available: lock_timeout
        "57014",  # query_canceled: by an operator
        "57P01",  # admin_shutdown
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now: starting up, shutting down, in recovery
        "57P05",  # idle_session_timeout
        "08P01",  # protocol_violation: what pgbouncer says when its pool is exhausted
    }
)
RETRYABLE_CLASSES = ("08",)  # connection exceptions
RECORD_CLASSES = ("22", "23", "54", "P0")
"""These errors are the fault of single rows.

They are data exceptions, integrity violations, limits (a key too long for its index, an object nested too deeply), and what triggers
raise.
"""

TURNED_AWAY = re.compile(
    r'password authentication failed|no password supplied|(database|role) "[^"]*" does not exist|pg_hba\.conf'
    r"|permission denied for database|is not permitted to log in"
)
"""For a connection that was refused, libpq gives no SQLSTATE, only words.

A server that says them in another language is taken for one that may let us in later.
"""

ATTEMPTS = 6
"""With the waits below this takes about half a minute: longer than a failover's reconnect, shorter than a person's patience."""
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 15.0

LOCK_TIMEOUT_SECONDS = 30.0
"""We wait this long for a row or a table that somebody else holds: longer than any batch of ours, too short to go unseen."""

CLIENT_ENCODING = "UTF8"
"""This is the encoding of our bytes, said when a connection begins.

That outranks every default, and pgbouncer keeps it for each client. It is in the server's own spelling, so that a pooler sees nothing
to change.
"""

SQL_ASCII = "SQL_ASCII"

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True)
class Warehouse:
    """This value says where the tables are, and how long to wait there.

    `url` is what libpq takes; it is never shown, `name` is shown in its place.
    """

    url: str = field(repr=False)
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)
    refuses_sql_ascii: bool = True

    @property
    def name(self) -> str:
        """This is the name for messages and metadata, `user@host:port/database`: no password, no options."""
        refuse_unescaped(self.url, "WAREHOUSE_URL")
        try:
            parts = conninfo.conninfo_to_dict(self.url)
        except psycopg.ProgrammingError:
            refuse_unknown_parameters(self.url, "WAREHOUSE_URL")
            raise ConfigurationError(not_understood("WAREHOUSE_URL")) from None
        host = parts.get("host") or "local socket"
        return f"{parts.get('user') or ''}@{host}:{parts.get('port') or 5432}/{parts.get('dbname') or ''}"

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Opens a connection in autocommit; transactions are opened by `conn.transaction()`. Raises WarehouseError.

        It reads in binary form, times in UTC: the server's time zone and date style change nothing. It speaks UTF-8, whatever the
        environment, the URL, the role or the database say. Raises ConfigurationError for a database of encoding SQL_ASCII.
        """
        refuse_unescaped(self.url, "WAREHOUSE_URL")
        try:
            connection = _Connection.connect(
                closed_conninfo(
                    self.url, application_name="sequin_pipeline", connect_timeout="30", client_encoding=CLIENT_ENCODING
                ),
                autocommit=True,
                prepare_threshold=None,
                cursor_factory=BinaryCursor,
            )
        except psycopg.ProgrammingError:
            refuse_unknown_parameters(self.url, "WAREHOUSE_URL")
            # Without its cause, which quotes the password.
            raise ConfigurationError(not_understood("WAREHOUSE_URL")) from None
        except psycopg.OperationalError as error:
            raise explain(error, f"connecting to {self.name}") from error
        # A role or a database may default to another level, under which the merge would look at snapshots too old.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        connection.adapters.register_loader("timestamptz", _UtcLoader)
        connection.url = self.url
        connection.server_cursor_factory = ServerCursor
        with closing(connection):
            if self.refuses_sql_ascii:
                refuse_sql_ascii(connection, self.name)
            yield connection


class _Connection(psycopg.Connection[tuple[object, ...]]):
    """This connection adds to an error what its reader needs and the error does not say.

    That is which limit ended it and where that was set, and of an aborted transaction, why.
    """

    url = ""
    _first: psycopg.Error | None = None

    def wait(self, gen: PQGen[Result], *options: Any, **named: Any) -> Result:  # psycopg's own options, to which releases add
        """Waits for an answer: every exchange with the server goes through here."""
        try:
            return super().wait(gen, *options, **named)
        except psycopg.errors.InFailedSqlTransaction as error:
            raise self._first or error from None
        except psycopg.Error as error:
            self._first = error
            if limit_of(error) is not None:
                for limit in self._limits():
                    error.add_note(str(limit))
            raise

    def _limits(self) -> list[SessionLimit]:
        """Asks for the limits on another connection, since this one may be gone."""
        try:
            with psycopg.connect(closed_conninfo(self.url, connect_timeout="5"), autocommit=True) as other:
                return list(limits_in_force(other))
        except psycopg.Error:
            return []


class _UtcLoader(Loader):
    """This loader reads times in UTC.

    The text form, and psycopg's own loader, turn to the session's time zone, in which the years 1 and 9999 are left at their edges.
    """

    format = pq.Format.BINARY

    def load(self, data: Buffer) -> datetime:
        microseconds = int.from_bytes(data, "big", signed=True)
        try:
            return _POSTGRES_EPOCH + timedelta(microseconds=microseconds)
        except OverflowError as error:
            raise psycopg.DataError("a time outside the years 1 to 9999") from error


_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def refuse_sql_ascii(connection: Connection, name: str) -> None:
    """Raises ConfigurationError for a database that takes any bytes for text; costs no statement.

    Nothing converts or checks text there, and JSON with escapes is refused late.
    """
    if server_encoding(connection) == SQL_ASCII:
        raise ConfigurationError(
            f"the database {name} has the encoding SQL_ASCII, under which Postgres neither checks nor converts text: expected UTF8, "
            "found SQL_ASCII. Create a database by `create database … template template0 encoding 'UTF8'` and let WAREHOUSE_URL name it"
        )


def server_encoding(connection: Connection) -> str:
    """Returns the encoding of the database, as the server told it when the connection began."""
    return connection.info.parameter_status("server_encoding") or CLIENT_ENCODING


def held_text(text: str, connection: Connection) -> str:
    """Returns the text with every character escaped that a database of this encoding cannot hold."""
    encoding = server_encoding(connection)
    if encoding == CLIENT_ENCODING:
        return text
    codec = _codec(encoding)
    return text.encode(codec, "backslashreplace").decode(codec)


def _codec(encoding: str) -> str:
    """Returns Python's name of a server's encoding; ASCII where it has none."""
    try:
        return codecs.lookup(re.sub("^WIN(?=[0-9])", "cp", encoding.replace("KOI8", "KOI8_"))).name
    except LookupError:
        return "ascii"


def limit_lock_waits(connection: Connection, seconds: float) -> None:
    """Limits waits for locks until the open transaction ends, and lifts every other limit of time.

    Whoever waits longer for a lock gets an error that is retried.
    """
    connection.execute(
        "select set_config('lock_timeout', %s, true), (select count(set_config(name, '0', true)) from unnest(%s::text[]) name)",
        (f"{round(seconds * 1000)}ms", session_limits(connection)),
    )


def lift_limits(connection: Connection) -> None:
    """Lifts every limit of time from the open transaction, for one that works long on what nobody waits for."""
    connection.execute("select set_config(name, '0', true) from unnest(%s::text[]) name", (session_limits(connection),))


def without_limits(work: Callable[[Connection], Result]) -> Callable[[Connection], Result]:
    """Returns the same work in a transaction of its own that no limit of time ends."""

    def unlimited(connection: Connection) -> Result:
        with connection.transaction():
            lift_limits(connection)
            return work(connection)

    return unlimited


def session_limits(connection: Connection) -> list[str]:
    """Returns the names of the limits that this server knows."""
    return [name for name in LIFTED if name != "transaction_timeout" or connection.info.server_version >= 170_000]


def is_retryable(error: psycopg.Error) -> bool:
    """Says whether the same transaction may succeed later without anybody changing anything; a lost connection has no SQLSTATE."""
    state = error.sqlstate
    if limit_of(error) is not None:
        return False
    if state is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and not _was_turned_away(error)
    return state in RETRYABLE_SQLSTATES or state.startswith(RETRYABLE_CLASSES)


def _was_turned_away(error: psycopg.Error) -> bool:
    return error.sqlstate is None and TURNED_AWAY.search(str(error)) is not None


def is_about_a_record(error: psycopg.Error) -> bool:
    """Says whether Postgres refused a value rather than the statement."""
    return error.sqlstate is not None and error.sqlstate.startswith(RECORD_CLASSES)


def explain(error: psycopg.Error, doing: str) -> PipelineError:
    """Returns our error for an error of psycopg; `doing` completes "while …"."""
    state = f" (SQLSTATE {error.sqlstate})" if error.sqlstate else ""
    said = (error.diag.message_primary or str(error).strip().split("\n")[0]).rstrip(".")
    hint = f" Postgres' hint: {error.diag.message_hint}" if error.diag.message_hint else ""
    if is_retryable(error):
        return WarehouseUnavailable(f"while {doing}, Postgres said {said!r}{state}; this may be temporary: run again.{hint}")
    if _was_turned_away(error):
        return ConfigurationError(f"while {doing}, Postgres said {said!r}: fix WAREHOUSE_URL, or allow this role to connect")
    if (limit := limit_of(error)) is not None:
        where = "; ".join(getattr(error, "__notes__", ())) or f"See {limit} of this role and database in pg_settings"
        return WarehouseError(f"while {doing}, Postgres said {said!r}{state}, and would again. {where}")
    match error.sqlstate:
        case "42501":
            return TableRefused(f"while {doing}, Postgres said {said!r}{state}: {_right(said)}.{hint}")
        case "25006":
            return WarehouseError(
                f"while {doing}, Postgres said {said!r}{state}: point WAREHOUSE_URL at the primary server.{hint}"
            )
        case "53100":
            return WarehouseError(
                f"while {doing}, Postgres said {said!r}{state}: its disk is full; make room and run again.{hint}"
            )
        case _:
            return TableRefused(f"while {doing}, Postgres said {said!r}{state}.{hint}")


def _right(said: str) -> str:
    """Returns what helps this role: not everything that Postgres calls a missing privilege can be granted."""
    if said.startswith("permission denied for"):
        return "grant the right that it names to this role"
    if "row-level security" in said:
        return "no grant changes that; let the pipeline connect as a role with BYPASSRLS, or as the owner of the table"
    if said.startswith("must be owner of"):
        return "no grant changes that; let the owner do it, or make this role a member of the owner's"
    return "give this role what it asks for, or let the pipeline connect as another one"


def attempt(
    work: Callable[[], Result],
    doing: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[float, float], float] = random.uniform,
) -> Result:
    """Runs `work`, and retries it after a wait when Postgres gave up for a reason that passes.

    `work` must bring its own transaction and its own connection. Raises what `explain` makes of the last error.
    """
    for failures in range(1, ATTEMPTS + 1):
        try:
            return work()
        except psycopg.Error as error:
            explained = explain(error, doing)
            reason: Exception = error
        except WarehouseUnavailable as error:
            explained, reason = error, error
        if not explained.is_retryable or failures == ATTEMPTS:
            raise explained from reason
        wait_seconds = jitter(0, min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 4**failures))
        logger.warning("attempt %d of %d failed, the next one in %.1f s: %s", failures, ATTEMPTS, wait_seconds, explained)
        sleep(wait_seconds)
    raise AssertionError("the last attempt returns or raises")
