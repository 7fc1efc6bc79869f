"""This module keeps in the ledger whose records are forgotten, and sees to it that no batch at work writes them again.

A request is a row of `forgets`: a salted hash, times and counts, and nothing that names anybody. It is committed under a lock that
every batch holds in the shared mode. So a batch has either committed before the request, and its rows are found and removed; or it
reads, behind the lock, a generation that it did not know, and is put together again without what is forgotten.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from psycopg import sql
from psycopg.types.json import Jsonb

from sequin_pipeline.ledger.schema import DEFAULT_SCHEMA
from sequin_pipeline.postgres.percent_signs import with_parameters
from sequin_pipeline.postgres.rows import fetch_row, fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import LOCK_TIMEOUT_SECONDS, Connection, limit_lock_waits, session_limits
from sequin_pipeline.records.forgotten import Forgotten, Subject

SALT_BYTES = 16


@dataclass(frozen=True)
class ForgetRequest:
    """This value is a request as the ledger keeps it: `completed_at` is None as long as rows may be left."""

    generation: int
    kind: str
    label: str
    requested_at: datetime
    completed_at: datetime | None
    removed: Mapping[str, int]


def hold_forgets(connection: Connection, schema: str) -> None:
    """Keeps new requests from being committed until the open transaction ends; to be called before the generation is read in it.

    Must be a statement of its own: one that waits here still sees what was there before.
    """
    connection.execute("select pg_advisory_xact_lock_shared(%s)", (_lock_key(schema),))


def begin_batch(connection: Connection, schema: str, lock_timeout_seconds: float) -> None:
    """Does what `limit_lock_waits` and `hold_forgets` do, each in a statement of its own, and waits for one answer only."""
    with connection.cursor() as cursor:
        # As text, since only then both go in one message.
        cursor.execute(
            _batch_beginning(schema, lock_timeout_seconds, tuple(session_limits(connection))), prepare=False, binary=False
        )


@cache
def _batch_beginning(schema: str, lock_timeout_seconds: float, limits: tuple[str, ...]) -> bytes:
    # Without parameters, so that Postgres takes both statements at once: limits of time count for each by itself.
    statement = sql.SQL(
        "select set_config('lock_timeout', {}, true), (select count(set_config(name, '0', true)) from unnest({}::text[]) name);"
        " select pg_advisory_xact_lock_shared({})"
    ).format(f"{round(lock_timeout_seconds * 1000)}ms", list(limits), _lock_key(schema))
    return statement.as_bytes()


class ForgottenMeanwhile(Exception):
    """Something has been forgotten since the batch was prepared; nothing of it was written."""


def check_generation(connection: Connection, schema: str, generation: int) -> str:
    """Raises ForgottenMeanwhile where this is not the generation of what is forgotten; returns where the write-ahead log stands."""
    found = fetch_row(connection, lambda *columns: columns, _beginning(schema))
    assert found is not None  # noqa: S101 - a select without a table
    if found[0] != generation:
        raise ForgottenMeanwhile
    return str(found[1])


@cache
def _beginning(schema: str) -> bytes:
    return with_parameters(sql.SQL("select {}, pg_current_wal_insert_lsn()::text").format(_generation(schema))).as_bytes()


def _generation(schema: str) -> sql.Composed:
    return sql.SQL("coalesce((select max(generation) from {}), 0)").format(sql.Identifier(schema, "forgets"))


def read_forgotten(connection: Connection, schema: str = DEFAULT_SCHEMA) -> Forgotten:
    """Returns what is forgotten now."""
    found = fetch_rows(
        connection,
        lambda *columns: columns,
        sql.SQL("select generation, salt, hash, label, undone_at is null from {}").format(sql.Identifier(schema, "forgets")),
    )
    in_force = [(content, label) for _, _, content, label, holds in found if holds]
    return Forgotten(
        max((row[0] for row in found), default=0),
        bytes(found[0][1]) if found else b"",
        frozenset(bytes(content) for content, _ in in_force),
        frozenset(label for _, label in in_force if label),
    )


def has_forgotten_lately(schema: str) -> sql.Composed:
    """Composes whether something has been forgotten within a day: longer than a run holds on to what it has read."""
    return sql.SQL("exists (select from {} where requested_at > now() - interval '1 day')").format(
        sql.Identifier(schema, "forgets")
    )


def begin_forget(connection: Connection, subject: Subject, schema: str = DEFAULT_SCHEMA) -> ForgetRequest:
    """Writes the request down, or finds the one that is in force; from here on no batch commits what it names.

    In a transaction of its own, for which batches at work are waited for and new ones wait.
    """
    with connection.transaction():
        _bar_batches(connection, schema)
        salt = _salt(connection, schema)
        connection.execute(
            sql.SQL(
                "insert into {forgets} (generation, kind, label, salt, hash) select {generation} + 1, %(kind)s, %(label)s, %(salt)s,"
                " %(hash)s where not exists (select from {forgets} where hash = %(hash)s and undone_at is null)"
            ).format(forgets=sql.Identifier(schema, "forgets"), generation=_generation(schema)),
            {"kind": subject.kind, "label": subject.label, "salt": salt, "hash": subject.hashed(salt)},
        )
        found = find_forget(connection, subject, schema)
    assert found is not None  # noqa: S101 - just written
    return found


def find_forget(connection: Connection, subject: Subject, schema: str = DEFAULT_SCHEMA) -> ForgetRequest | None:
    """Returns the request that is in force for this subject; None where there is none."""
    return fetch_row(
        connection,
        ForgetRequest,
        sql.SQL(
            "select generation, kind, label, requested_at, completed_at, removed from {} where hash = %s and undone_at is null"
        ).format(sql.Identifier(schema, "forgets")),
        (subject.hashed(_salt(connection, schema)),),
    )


def note_removed(
    connection: Connection, request: ForgetRequest, removed: Mapping[str, int], *, is_complete: bool, schema: str = DEFAULT_SCHEMA
) -> None:
    """Notes how many entries of each kind a call has removed; `is_complete` once it has looked everywhere."""
    connection.execute(
        sql.SQL(
            "update {} set removed = (select coalesce(jsonb_object_agg(key, total), '{{}}') from (select key, sum(value::bigint) as total"
            " from (select * from jsonb_each_text(removed) union all select * from jsonb_each_text(%s)) one group by key) sums),"
            " completed_at = case when %s then now() else completed_at end where generation = %s"
        ).format(sql.Identifier(schema, "forgets")),
        (Jsonb(dict(removed)), is_complete, request.generation),
    )


def undo_forget(connection: Connection, subject: Subject, schema: str = DEFAULT_SCHEMA) -> bool:
    """Lets records of the subject be written again; False where nothing of it is forgotten."""
    with connection.transaction():
        _bar_batches(connection, schema)
        undone = connection.execute(
            sql.SQL("update {} set undone_at = now(), generation = {} + 1 where hash = %s and undone_at is null").format(
                sql.Identifier(schema, "forgets"), _generation(schema)
            ),
            (subject.hashed(_salt(connection, schema)),),
        ).rowcount
    return undone > 0


def open_forgets(connection: Connection, schema: str = DEFAULT_SCHEMA) -> list[ForgetRequest]:
    """Returns the requests in force whose removal has not come to its end, the oldest first."""
    return fetch_rows(
        connection,
        ForgetRequest,
        sql.SQL(
            "select generation, kind, label, requested_at, completed_at, removed from {}"
            " where undone_at is null and completed_at is null order by requested_at, generation"
        ).format(sql.Identifier(schema, "forgets")),
    )


def _bar_batches(connection: Connection, schema: str) -> None:
    limit_lock_waits(connection, LOCK_TIMEOUT_SECONDS)
    connection.execute("select pg_advisory_xact_lock(%s)", (_lock_key(schema),))


def _salt(connection: Connection, schema: str) -> bytes:
    """Returns the ledger's salt: that of its first request, made with it."""
    found = fetch_value(
        connection,
        sql.SQL("select (select salt from {} order by generation limit 1)").format(sql.Identifier(schema, "forgets")),
    )
    return bytes(found) if found is not None else os.urandom(SALT_BYTES)


def _lock_key(schema: str) -> int:
    digest = hashlib.blake2b(f"sequin_pipeline forgets {schema}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
