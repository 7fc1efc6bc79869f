"""This module finds the row that a change of a Sequin Stream ends: the one whose primary key an update has changed.

A message holds the new key's values without the names of their columns, and of columns that changed the old values by name (under
REPLICA IDENTITY FULL, else none). So the columns of the key are found by their values; where several could be meant, other messages of the
table decide. Pure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import product

import msgspec

Row = Mapping[str, bytes]
"""These are values by column, as JSON texts."""

MAX_READINGS = 64
"""A key whose columns cannot be told apart has at most this many readings: beyond it nobody compares them all."""

PLAIN = re.compile(r"[A-Za-z0-9_.-]{2,}|[A-Zac-eg-su-z0-9_.-]")
"""These values of keys stand in a message's JSON text as they are; `t` and `f` may be booleans."""


class OldKeyUnclear(ValueError):
    """An update has changed the key, or a column that looks like it; the message is the reason for a reject."""


def may_have_changed(key: Sequence[str], row: bytes, changes: bytes) -> bool:
    """Tells whether a column that an update has changed may show one of the key's values: of nearly every update none does.

    It looks at the JSON texts of the row and of its old values as bytes, since parsing them takes a third of the time that a message
    takes. One encoder wrote both: with spaces around its colons they are parsed.
    """
    if changes in (b"null", b"{}"):
        return False
    if b'": ' in changes or b'" :' in changes or b"\n" in changes:
        return True
    for value in key:
        if PLAIN.fullmatch(value) is None:
            return True
        number, text = f":{value}".encode(), f':"{value}"'.encode()
        if (number in row and _names_one(number, row, changes)) or (text in row and _names_one(text, row, changes)):
            return True
    return False


def _names_one(shown: bytes, row: bytes, changes: bytes) -> bool:
    """Tells whether a member of the row with this value may be among the changes; the end of its name is looked for there."""
    at = row.find(shown)
    while at >= 0:
        end = at + len(shown)
        if row[end : end + 1] in b",} " and row[row.rfind(b'"', 0, at - 1) : at] in changes:
            return True
        at = row.find(shown, end)
    return False


def old_key(key: Sequence[str], row: Row, changes: Row, examples: Iterable[tuple[Sequence[str], Row]]) -> list[str] | None:
    """Returns the key that the row had before, or None where it is the same. `examples` are keys and rows of other messages of the table.

    Raises OldKeyUnclear where that cannot be told.
    """
    if not any(_shows(row[name], value) for name in changes if name in row for value in key):
        # As of nearly every update.
        return None
    columns = [[name for name in row if _shows(row[name], value) and _may_be_key(changes.get(name))] for value in key]
    if not any(name in changes for names in columns for name in names):
        return None
    for other_key, other_row in examples:
        if len(other_key) == len(key):
            told = [
                [name for name in names if name in other_row and _shows(other_row[name], value)]
                for names, value in zip(columns, other_key, strict=True)
            ]
            columns = [narrowed or names for narrowed, names in zip(told, columns, strict=True)]
    readings = {
        tuple(_old_value(name, value, row, changes) for name, value in zip(names, key, strict=True))
        for names, _ in zip(product(*(names or [""] for names in columns)), range(MAX_READINGS), strict=False)
        if len({*filter(None, names)}) == len([*filter(None, names)])
    }
    if len(readings) != 1 or None in (reading := next(iter(readings))):
        changed = ", ".join(sorted({name for names in columns for name in names if name in changes}))
        raise OldKeyUnclear(
            f"an update changed {changed}, and the message does not tell whether that is the primary key, nor how it was written before: "
            "look for the row of the old key, delete it here if it is gone there, and discard this record"
        )
    told_key = [value for value in reading if value is not None]
    return None if told_key == list(key) else told_key


def _old_value(name: str, value: str, row: Row, changes: Row) -> str | None:
    """Returns None where the old value is told in another form than keys have."""
    if name not in changes:
        return value
    return _written(changes[name]) if _written(row[name]) == value else None


def _may_be_key(old: bytes | None) -> bool:
    return old is None or (old != b"null" and old[:1] not in b"[{")


def _shows(raw: bytes, value: str) -> bool:
    """Tells whether the JSON text stands for the key's value."""
    written = _written(raw)
    return written == value or (raw[:1] == b'"' and _moment(written) is not None and _moment(written) == _moment(value))


def _written(raw: bytes) -> str:
    """Writes a value as Postgres does, and a message its keys; times look otherwise."""
    if raw[:1] == b'"':
        return msgspec.json.decode(raw, type=str)
    return raw[:1].decode() if raw in (b"true", b"false") else raw.decode()


def _moment(text: str) -> datetime | None:
    """Reads a time, which messages write as ISO 8601 has it, and keys as Postgres does."""
    if len(text) < len("2024-01-01 00:00:00") or not text[:4].isdigit():
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
