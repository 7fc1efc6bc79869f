"""This module completes the records of a page whose messages left values out, from the versions before them.

Those are in the page, and in the table. So that everything behind this (casts, hash, merge, refill, history) sees whole objects
only. What cannot be completed stays as it came, and is rejected. The ledger remembers which values a version took from an older
one, so that a version between the two, should it come late, tells them still.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from sequin_pipeline.ledger.forgets import hold_forgets, read_forgotten
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.rejects import storable
from sequin_pipeline.postgres.warehouse import Connection, held_text
from sequin_pipeline.records import json_text
from sequin_pipeline.records.forgotten import Forgotten, Origin, read_origin
from sequin_pipeline.records.partial import MARK, Version, put_behind, read_version
from sequin_pipeline.table.target import Target

FIELDS_OF_KEY = ("id", "upstream_id", "sync_id")
"""By these columns of a key a row can be found from a record as it came."""

BIGINT = range(-(2**63), 2**63)


class _Identified(msgspec.Struct):
    id: object = None


_identified = msgspec.json.Decoder(list[_Identified])


class Completion:
    """This class completes the pages of one table, one after the other.

    Each is completed before the next is read, and once the last has been committed. Another run may drain the same queue: what it
    has committed before a page is completed counts, but not what it commits between then and the commit of the page.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._has_borrowed = False

    def __call__(self, connection: Connection, target: Target, records: bytes) -> bytes:
        """Returns the page with whole records wherever they can be told; raises psycopg.Error."""
        # Asked again for as long as the answer is no: another run may have borrowed meanwhile.
        self._has_borrowed = self._has_borrowed or _has_borrowed(connection, self._ledger)
        if not self._has_borrowed and MARK not in records:
            return records
        with connection.transaction():
            hold_forgets(connection, self._ledger.schema)
            forgotten = read_forgotten(connection, self._ledger.schema)
            return _complete(connection, self._ledger, target, records, forgotten)


def _complete(connection: Connection, ledger: Ledger, target: Target, records: bytes, forgotten: Forgotten) -> bytes:
    """Takes apart only what is concerned: that costs many times as much as finding the ids."""
    ids = _ids(records)
    borrowed = _borrowed(connection, ledger, {one for one in ids if one is not None})
    if not borrowed and MARK not in records:
        return records
    elements = json_text.elements(records)
    wanted = {*borrowed, *(one for one, element in zip(ids, elements, strict=True) if MARK in element)}
    arrived: dict[str, list[tuple[int, Version]]] = defaultdict(list)
    for place, (record_id, element) in enumerate(zip(ids, elements, strict=True)):
        if record_id is None or record_id not in wanted or forgotten.holds_raw(ledger.label, element):
            continue
        try:
            arrived[record_id].append((place, read_version(element)))
        except ValueError:
            continue
    concerned = {
        record_id: versions
        for record_id, versions in arrived.items()
        if record_id in borrowed or any(version.unknown for _, version in versions)
    }
    if not concerned:
        return records
    held = _stored(connection, ledger, target, {record_id: versions[0][1] for record_id, versions in concerned.items()})
    completed, reached = list(elements), dict[str, Version]()
    for record_id, versions in concerned.items():
        stored = held.get(record_id)
        if stored is not None:
            stored = replace(stored, since=borrowed.get(record_id, {}).get(stored.number, {}))
        last, instead = _fold(stored, versions)
        for place, version in instead.items():
            completed[place] = version.record()
        if last is not None:
            reached[record_id] = last
    _note(
        connection,
        ledger,
        reached,
        held,
        borrowed,
        {one: read_origin(ledger.label, elements[arrived[one][-1][0]]) for one in reached},
    )
    return b"[" + b",".join(completed) + b"]"


def _ids(records: bytes) -> list[str | None]:
    """Returns the id of each record of a page, and None for one that has no text there."""
    try:
        return [one.id if isinstance(one.id, str) else None for one in _identified.decode(records)]
    except json_text.REFUSALS:
        return [_id_of(element) for element in json_text.elements(records)]


def _id_of(element: bytes) -> str | None:
    try:
        record_id: str | None = msgspec.json.decode(json_text.members(element).get("id", b"null"), type=str | None)
    except ValueError:
        return None
    return record_id


def _fold(held: Version | None, versions: Sequence[tuple[int, Version]]) -> tuple[Version | None, dict[int, Version]]:
    """Returns what is held in the end, and by place what is delivered instead of the record that came."""
    instead: dict[int, Version] = {}
    for place, came in sorted(versions, key=lambda one: one[1].number):
        held, better = put_behind(held, came)
        if better is not None:
            instead[place] = better
    if held is not None:
        # The same version may have been bettered several times, and the last of equal ones counts, in the order in which they came.
        instead = {place: held if better.number == held.number else better for place, better in instead.items()}
    return held, instead


def _has_borrowed(connection: Connection, ledger: Ledger) -> bool:
    row = connection.execute(
        sql.SQL("select exists (select from {} where table_name = %s)").format(ledger.table("borrowed")), (ledger.table_name,)
    ).fetchone()
    return row == (True,)


def _borrowed(connection: Connection, ledger: Ledger, record_ids: Iterable[str]) -> dict[str, dict[int, dict[str, int]]]:
    """Returns by id and version, for each value taken from an older version, which version that is."""
    rows = connection.execute(
        sql.SQL("select id, version, since from {} where table_name = %s and id = any(%s)").format(ledger.table("borrowed")),
        (ledger.table_name, [record_id for record_id in record_ids if _is_held(record_id, connection)]),
    ).fetchall()
    found: dict[str, dict[int, dict[str, int]]] = defaultdict(dict)
    for record_id, version, since in rows:
        found[str(record_id)][int(str(version))] = since  # type: ignore[assignment]  # by the column's writer
    return found


def _note(
    connection: Connection,
    ledger: Ledger,
    reached: Mapping[str, Version],
    held: Mapping[str, Version],
    borrowed: Mapping[str, Mapping[int, object]],
    origins: Mapping[str, Origin],
) -> None:
    """Notes what is borrowed before the rows are committed: should they never be, the stored version keeps its own entry.

    It says whose they are: their rows may be forgotten before there are any.
    """
    taking = sorted(
        (record_id, version)
        for record_id, version in reached.items()
        # Else the completed record is a reject, too.
        if version.since and version.number in BIGINT and all(_is_held(one, connection) for one in (record_id, *version.since))
    )
    gone = [
        (record_id, number)
        for record_id, numbers in sorted(borrowed.items())
        for number in numbers
        if record_id in held and number < held[record_id].number
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            sql.SQL(
                "insert into {} (table_name, id, version, since, sync_id, internal_id) values (%s, %s, %s, %s, %s, %s)"
                " on conflict (table_name, id, version) do update set since = excluded.since, noted_at = now()"
            ).format(ledger.table("borrowed")),
            [
                (
                    ledger.table_name,
                    record_id,
                    version.number,
                    Jsonb(dict(version.since)),
                    storable(origins[record_id].sync_id, connection),
                    storable(origins[record_id].internal_id, connection),
                )
                for record_id, version in taking
            ],
        )
        cursor.executemany(
            sql.SQL("delete from {} where table_name = %s and id = %s and version = %s").format(ledger.table("borrowed")),
            [(ledger.table_name, record_id, number) for record_id, number in gone],
        )


def _stored(connection: Connection, ledger: Ledger, target: Target, wanted: Mapping[str, Version]) -> dict[str, Version]:
    """Returns by id what the table holds of these records, and of a removed row the version; leans on the index of the key.

    Of a table that does not keep the object nothing can be told.
    """
    if not wanted or not target.is_stored(target.data) or not set(target.key) <= {*FIELDS_OF_KEY}:
        return {}
    ids = list(wanted)
    keys = {name: [_text(wanted[record_id].fields.get(name, b"null"), connection) for record_id in ids] for name in target.key}
    try:
        with connection.transaction():
            rows = connection.execute(_reading(ledger, target, by_text=False), {**keys, "table": ledger.table_name}).fetchall()
    except psycopg.errors.DataError:
        # A key that is no value of the column's type, a uuid for one, and so none of the table's rows.
        rows = connection.execute(_reading(ledger, target, by_text=True), {**keys, "table": ledger.table_name}).fetchall()
    found = {}
    for ordinal, version, is_deleted, inserted_at, data, removed_at in rows:
        record_id = ids[int(str(ordinal)) - 1]
        if version is None and removed_at is None:
            continue
        found[record_id] = Version(
            number=int(str(version if version is not None else removed_at)),
            is_deleted=bool(is_deleted) or version is None,
            inserted_at=msgspec.json.encode(inserted_at.isoformat())
            if isinstance(inserted_at, datetime)
            else wanted[record_id].inserted_at,
            values=json_text.members(str(data).encode()) if data is not None else None,
            fields=wanted[record_id].fields,
        )
    return found


def _text(raw: bytes, connection: Connection) -> str | None:
    try:
        text: str | None = msgspec.json.decode(raw, type=str | None)
    except ValueError:
        return None
    return text if text is not None and _is_held(text, connection) else None


def _is_held(text: str, connection: Connection) -> bool:
    """Tells whether the database can hold a text; a statement with one that it cannot hold fails for all records of a page."""
    return "\x00" not in text and held_text(text, connection) == text


def _reading(ledger: Ledger, target: Target, *, by_text: bool) -> sql.Composed:
    def stored(name: str | None, otherwise: str) -> sql.Composable:
        is_there = name is not None and target.is_stored(name)
        return sql.SQL("t.{}").format(sql.Identifier(target.column(name).table_name)) if is_there and name else sql.SQL(otherwise)

    def equal(name: str) -> sql.Composed:
        column = target.column(name)
        if by_text:
            return sql.SQL("t.{}::text = w.{}").format(sql.Identifier(column.table_name), sql.Identifier(name))
        cast = sql.SQL(f"::{column.cast}" if column.cast else "")
        return sql.SQL("t.{} = w.{}{}").format(sql.Identifier(column.table_name), sql.Identifier(name), cast)

    version = sql.SQL("k.updated_idx") if target.keeps_versions else stored(target.version, "null")
    return sql.SQL(
        "select w.ordinal, case when t.is_there then t.version end, t.is_deleted, t.inserted_at, t.data,"
        " case when t.is_there then null else k.updated_idx end"
        " from unnest({arrays}) with ordinality w ({names}, ordinal)"
        " left join lateral (select k.updated_idx from {versions} k where k.table_name = %(table)s and k.id = {id} offset 0) k on true"
        " left join lateral (select true as is_there, {version} as version, {deleted} as is_deleted, {inserted_at} as inserted_at,"
        " {data}::text as data from {table} t where {equal} offset 0) t on true"
    ).format(
        arrays=sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Placeholder(name)) for name in target.key),
        names=sql.SQL(", ").join(map(sql.Identifier, target.key)),
        versions=ledger.table("versions"),
        id=_row_id(target),
        version=version,
        deleted=stored(target.tombstone, "false"),
        inserted_at=stored(target.stream_time, "null::timestamptz"),
        data=stored(target.data, "null"),
        table=sql.Identifier(target.table.schema, target.table.name),
        equal=sql.SQL(" and ").join(map(equal, target.key)),
    )


def _row_id(target: Target) -> sql.Composed:
    """Composes what the ledger calls a row, as `row_id` does for staged ones."""
    parts = [sql.SQL("w.{}").format(sql.Identifier(name)) for name in target.key]
    return parts[0] if len(parts) == 1 else sql.SQL("array[{}]::text").format(sql.SQL(", ").join(parts))
