"""This module names tables, each part as long as Postgres can hold it. Pure."""

import hashlib
from dataclasses import dataclass

MAX_IDENTIFIER_BYTES = 63
"""This is NAMEDATALEN - 1: Postgres cuts a longer name in silence (Postgres documentation, 4.1.1)."""


@dataclass(frozen=True)
class TableName:
    """This value names a table of the warehouse, each part at most 63 bytes."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def default_table(provider: str, name: str) -> TableName:
    """Returns `<provider>.<name>`, in which dots become `_`.

    A name longer than 63 bytes is cut, and told apart by a hash of the whole.
    """
    return TableName(*(cut_identifier(part.replace(".", "_"), told_by=part) for part in (provider, name)))


def cut_identifier(name: str, *, told_by: str | None = None) -> str:
    """Returns the name where Postgres can hold it; else cuts it.

    A name that was cut is told apart from others by a hash of the whole, or of `told_by`.
    """
    encoded = name.encode()
    if len(encoded) <= MAX_IDENTIFIER_BYTES:
        return name
    mark = "_" + hashlib.blake2b((told_by or name).encode(), digest_size=4).hexdigest()
    return encoded[: MAX_IDENTIFIER_BYTES - len(mark)].decode(errors="ignore") + mark
