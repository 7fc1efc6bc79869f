"""This module keeps records that could not be stored, whole, until somebody settles them: one row per content.

An open reject is resolved by a newer or equal version of the same record that was stored, by replay, or by an operator's word.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import LiteralString

import xxhash
from psycopg import sql

from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.normalize.normalizer import Reject
from sequin_pipeline.postgres.rows import fetch_row, fetch_rows, fetch_value
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.records import json_text
from sequin_pipeline.records.envelope import MAX_UPDATED_IDX, MIN_UPDATED_IDX
from sequin_pipeline.records.forgotten import read_origin
from sequin_pipeline.records.literals import InvalidLiteral, scaled_integer

EXAMPLES = 10
"""A check shows this many open rejects; `rejects list` shows more."""

EXAMPLE_CHARACTERS = 200
"""An example shows this much of an id: it ends up in logs and metadata, and a provider's ids may be texts of any length."""


PARENT, CONFLICT, PARTIAL = WAITING = "parent", "conflict", "partial"
"""The end of a run tries rejects of these classes again.

A row is missing which a foreign key points to, another row holds a value that must be unique, or no older version tells what a
message left out.
"""

OUTDATED = "a good version was stored"


@dataclass(frozen=True)
class OpenRejects:
    """This value counts a table's open rejects, and shows a few with reasons.

    So many of them are `waiting` for another row or version.
    """

    count: int
    waiting: int
    examples: tuple[tuple[str, str], ...]


def record_rejects(connection: Connection, ledger: Ledger, rejects: Iterable[Reject], *, run_id: str) -> None:
    """Keeps the records; one that is known is seen again, and opened again unless it was discarded.

    In one statement, in order of content: two runs that meet the same bad records cannot deadlock. Bytes go in binary form (`%b`): as
    text they would hang on the server's standard_conforming_strings, and take twice the room.
    """
    by_content = {content_hash(reject.raw): reject for reject in rejects}
    ordered = sorted(by_content.items())
    if not ordered:
        return
    connection.execute(
        sql.SQL(
            "insert into {rejects} as r (table_name, label, content_hash, record_id, version, raw, reason, class, sqlstate,"
            " sync_id, run_id)"
            " select %(table)s, %(label)s, encode(content, 'hex')::uuid, record_id, version, raw, reason, class, sqlstate,"
            " sync_id, %(run)s"
            " from unnest(%(contents)b::bytea[], %(ids)s::text[], %(versions)s::bigint[], %(raws)b::bytea[],"
            " %(reasons)s::text[], %(classes)s::text[], %(sqlstates)s::text[], %(syncs)s::text[])"
            " as new (content, record_id, version, raw, reason, class, sqlstate, sync_id)"
            " on conflict (table_name, content_hash) do update set last_seen_at = now(), seen = r.seen + 1,"
            " run_id = excluded.run_id, reason = excluded.reason, sqlstate = excluded.sqlstate,"
            # What a refill wrote together no source sends: it is being replayed, and its row, there already, settles nothing.
            " class = case when r.class = 'refill' then r.class else excluded.class end,"
            " resolved_at = case when r.resolution = 'discarded' then r.resolved_at end,"
            " resolution = case when r.resolution = 'discarded' then r.resolution end"
        ).format(rejects=ledger.table("rejects")),
        {
            "table": ledger.table_name,
            "label": ledger.label,
            "run": run_id,
            "contents": [content for content, _ in ordered],
            "ids": [storable(reject.record_id, connection) for _, reject in ordered],
            "versions": [reject_version(reject.raw) for _, reject in ordered],
            "raws": [reject.raw for _, reject in ordered],
            "reasons": [storable(reject.reason, connection) for _, reject in ordered],
            "classes": [reject.reject_class for _, reject in ordered],
            "sqlstates": [reject.sqlstate for _, reject in ordered],
            "syncs": [storable(read_origin(ledger.label, reject.raw).sync_id, connection) for _, reject in ordered],
        },
    )


def content_hash(raw: bytes) -> bytes:
    """Returns what a table's rejects are told apart by."""
    return xxhash.xxh3_128_digest(raw)


def count_discarded(connection: Connection, ledger: Ledger, rejects: Iterable[Reject]) -> int:
    """Returns how many of these an operator has given up before: content that was discarded and came again."""
    return _count(connection, ledger, rejects, "r.resolution = 'discarded'")


def count_known(connection: Connection, ledger: Ledger, rejects: Iterable[Reject]) -> int:
    """Returns how many of these wait already, or were discarded: content that a run would only see again."""
    return _count(connection, ledger, rejects, "r.resolved_at is null or r.resolution = 'discarded'")


def _count(connection: Connection, ledger: Ledger, rejects: Iterable[Reject], condition: LiteralString) -> int:
    contents = [content_hash(reject.raw) for reject in rejects]
    counting = sql.SQL(
        "select count(*) from unnest(%s::bytea[]) content join {rejects} r"
        " on r.table_name = %s and r.content_hash = encode(content, 'hex')::uuid where {condition}"
    ).format(rejects=ledger.table("rejects"), condition=sql.SQL(condition))
    return int(fetch_value(connection, counting, (contents, ledger.table_name))) if contents else 0


def reject_version(raw: bytes) -> int | None:
    """Returns the record's version where it has a sound one: a reject without can only be settled by hand."""
    try:
        version = scaled_integer(json_text.members(raw).get("updated_idx", b"").decode(), 0)
    except (ValueError, InvalidLiteral):
        return None
    return version if MIN_UPDATED_IDX <= version <= MAX_UPDATED_IDX else None


def storable(text: str | None, connection: Connection) -> str | None:
    """Escapes what this database cannot hold of an id or a reason; the record itself is kept as bytes."""
    if text is None:
        return None
    return held_text(text.replace("\x00", "\\u0000").encode("utf-8", "backslashreplace").decode(), connection)


def settle_delivered(connection: Connection, ledger: Ledger, ids: Sequence[str], versions: Sequence[int]) -> None:
    """Settles open rejects of records of which this version, the same or a newer one, is being stored."""
    connection.execute(
        sql.SQL(
            "update {rejects} r set resolved_at = now(), resolution = {resolution}"
            " from unnest(%(ids)s::text[], %(versions)s::bigint[]) s (id, version)"
            " where r.table_name = %(table)s and r.resolved_at is null and r.record_id = s.id and r.version <= s.version"
        ).format(rejects=ledger.table("rejects"), resolution=sql.Literal(OUTDATED)),
        {"table": ledger.table_name, "ids": list(ids), "versions": list(versions)},
    )


def open_rejects(connection: Connection, ledger: Ledger) -> OpenRejects:
    """Returns what waits for this table; the examples begin with records that no other row or version will help."""
    counts = fetch_row(
        connection,
        lambda count, waiting: (count, waiting),
        sql.SQL(
            "select count(*), count(*) filter (where class = any(%s)) from {rejects} where table_name = %s and resolved_at is null"
        ).format(rejects=ledger.table("rejects")),
        ([*WAITING], ledger.table_name),
    )
    count, waiting = counts or (0, 0)
    if not count:
        return OpenRejects(0, 0, ())
    examples = fetch_rows(
        connection,
        lambda record_id, reason: (_shortened(record_id), reason),
        sql.SQL(
            "select coalesce(left(record_id, %(length)s + 1), 'without id'), reason from {rejects}"
            " where table_name = %(table)s and resolved_at is null"
            " order by class = any(%(waiting)s), last_seen_at desc, content_hash limit %(limit)s"
        ).format(rejects=ledger.table("rejects")),
        {"table": ledger.table_name, "waiting": [*WAITING], "limit": EXAMPLES, "length": EXAMPLE_CHARACTERS},
    )
    return OpenRejects(count, waiting, tuple(examples))


def _shortened(record_id: str) -> str:
    return record_id if len(record_id) <= EXAMPLE_CHARACTERS else f"{record_id[:EXAMPLE_CHARACTERS]}…"


@dataclass(frozen=True)
class KeptReject:
    """This value is a reject as the ledger keeps it.

    `number` is what commands name it by: the first eight digits of its content's hash.
    """

    number: str
    record_id: str | None
    version: int | None
    raw: bytes = field(repr=False)
    reason: str
    reject_class: str
    sqlstate: str | None
    first_seen_at: datetime
    last_seen_at: datetime
    seen: int
    run_id: str


_KEPT = (
    "select left(content_hash::text, 8), record_id, version, raw, reason, class, sqlstate, first_seen_at, last_seen_at, seen, run_id"
    " from {rejects} where table_name = %(table)s and resolved_at is null"
)


def list_rejects(connection: Connection, ledger: Ledger, *, numbers: Sequence[str] = ()) -> list[KeptReject]:
    """Returns open rejects of the table, oldest version first; only those with these `numbers`, where asked."""
    return fetch_rows(
        connection,
        KeptReject,
        sql.SQL(
            _KEPT + " and (%(numbers)s::text[] = '{{}}' or left(content_hash::text, 8) = any(%(numbers)s))"
            " order by version nulls last, first_seen_at, content_hash"
        ).format(rejects=ledger.table("rejects")),
        {"table": ledger.table_name, "numbers": list(numbers)},
    )


def rejects_holding(connection: Connection, ledger: Ledger, text: str) -> list[KeptReject]:
    """Returns open rejects of the table whose record holds these bytes somewhere."""
    return fetch_rows(
        connection,
        KeptReject,
        sql.SQL(_KEPT + " and position(%(text)s::bytea in raw) > 0 order by content_hash").format(
            rejects=ledger.table("rejects")
        ),
        {"table": ledger.table_name, "text": text.encode()},
    )


@dataclass(frozen=True)
class WaitingReject:
    """This value is an open reject that waits for another row or version, without its record."""

    number: str
    content_hash: bytes
    record_id: str | None
    version: int | None
    reject_class: str
    run_id: str


def waiting_rejects(connection: Connection, ledger: Ledger, *, resting_seconds: float) -> list[WaitingReject]:
    """Returns the waiting rejects of the table that were last tried at least so long ago, the longest ago first."""
    return fetch_rows(
        connection,
        WaitingReject,
        sql.SQL(
            "select left(content_hash::text, 8), uuid_send(content_hash), record_id, version, class, run_id from {rejects}"
            " where table_name = %s and resolved_at is null and class = any(%s) and last_seen_at <= now() - %s * interval '1 second'"
            " order by last_seen_at, version, content_hash"
        ).format(rejects=ledger.table("rejects")),
        (ledger.table_name, [*WAITING], resting_seconds),
    )


def open_versions(connection: Connection, ledger: Ledger) -> set[tuple[str | None, int | None]]:
    """Returns the records of the table's open rejects, by id and version."""
    found = fetch_rows(
        connection,
        lambda record_id, version: (record_id, version),
        sql.SQL("select distinct record_id, version from {rejects} where table_name = %s and resolved_at is null").format(
            rejects=ledger.table("rejects")
        ),
        (ledger.table_name,),
    )
    return set(found)


def newest_rejects(connection: Connection, ledger: Ledger, *, limit: int | None) -> list[KeptReject]:
    """Returns open rejects of the table, those that were seen last first; None: all of them."""
    return fetch_rows(
        connection,
        KeptReject,
        sql.SQL(_KEPT + " order by last_seen_at desc, record_id, content_hash limit %(limit)s").format(
            rejects=ledger.table("rejects")
        ),
        {"table": ledger.table_name, "limit": limit},
    )


def rejects_of_record(connection: Connection, ledger: Ledger, record_id: str) -> list[tuple[KeptReject, str | None]]:
    """Returns all rejects of one record, settled ones too, newest version first; with each how it was settled."""
    return fetch_rows(
        connection,
        lambda *columns: (KeptReject(*columns[:-1]), columns[-1]),
        sql.SQL(
            "select left(content_hash::text, 8), record_id, version, raw, reason, class, sqlstate, first_seen_at, last_seen_at, seen,"
            " run_id, resolution from {rejects} where table_name = %s and record_id = %s order by version desc nulls first, last_seen_at"
        ).format(rejects=ledger.table("rejects")),
        (ledger.table_name, record_id),
    )


@dataclass(frozen=True)
class RejectGroup:
    """This value is the open rejects with one reason, in which `…` stands for the value at fault."""

    count: int
    reject_class: str
    last_seen_at: datetime
    reason: str


def reject_groups(connection: Connection, ledger: Ledger) -> list[RejectGroup]:
    """Returns the table's open rejects by reason, the commonest first."""
    return fetch_rows(
        connection,
        RejectGroup,
        sql.SQL(
            "select count(*), class, max(last_seen_at),"
            " regexp_replace(regexp_replace(reason, 'found .*?, where', 'found …, where', 'g'), '=\\(.*?\\)', '=(…)', 'g') as shape"
            " from {rejects} where table_name = %s and resolved_at is null group by class, shape order by 1 desc, shape"
        ).format(rejects=ledger.table("rejects")),
        (ledger.table_name,),
    )


def settle_refilled(connection: Connection, ledger: Ledger, record_ids: Iterable[str]) -> None:
    """Resolves what waited because a value did not fit when its column was refilled: it fits now."""
    connection.execute(
        sql.SQL(
            "update {rejects} set resolved_at = now(), resolution = 'refilled'"
            " where table_name = %s and resolved_at is null and class = 'refill' and record_id = any(%s)"
        ).format(rejects=ledger.table("rejects")),
        (ledger.table_name, list(record_ids)),
    )


def settle_by_reason(connection: Connection, ledger: Ledger, *, reason: str, resolution: str) -> int:
    """Resolves the table's open rejects whose reason holds this text, all of them where it is empty; returns how many.

    `…` stands for anything, and space for any space: what `reject_groups` shows can be given back, also from several lines.
    """
    parts = [r"\s+".join(map(re.escape, part.split())) for part in reason.split("…")]
    return connection.execute(
        sql.SQL(
            "update {rejects} set resolved_at = now(), resolution = %s where table_name = %s and resolved_at is null and reason ~ %s"
        ).format(rejects=ledger.table("rejects")),
        (resolution, ledger.table_name, ".*".join(parts)),
    ).rowcount


def settle(connection: Connection, ledger: Ledger, raws: Iterable[bytes], *, resolution: str) -> int:
    """Resolves the open rejects with this content; returns how many."""
    contents = [content_hash(raw) for raw in raws]
    return connection.execute(
        sql.SQL(
            "update {rejects} set resolved_at = now(), resolution = %s where table_name = %s and resolved_at is null"
            " and content_hash in (select encode(content, 'hex')::uuid from unnest(%b::bytea[]) content)"
        ).format(rejects=ledger.table("rejects")),
        (resolution, ledger.table_name, contents),
    ).rowcount
