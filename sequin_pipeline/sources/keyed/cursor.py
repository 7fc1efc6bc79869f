"""This cursor says where a read of keyed objects stands: what the feed knows, the least version, and the listing under way.

Its text is opaque to everybody else; the states in it are opaque to us, and go back to the feed as they came.
"""

import msgspec

from sequin_pipeline.errors import CursorRefused

NO_STATE = msgspec.Raw(b"null")


class Listing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A listing of everything has been under way since `started`, up to the feed's `state`.

    It `is_whole` as long as every object in it could be told: else what it did not see does not count as deleted.
    """

    started: int
    state: msgspec.Raw = NO_STATE
    is_whole: bool = True


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A cursor holds the feed's `state`, behind which nothing has been read.

    `floor` is the version of the last listing, which no record goes below. `listed` is when the last whole listing began; of a cursor
    that has seen none, when its first read did. Times are microseconds since 1970, by our clock.
    """

    floor: int
    listed: int
    state: msgspec.Raw = NO_STATE
    listing: Listing | None = None


_decoder = msgspec.json.Decoder(Cursor)


def write_cursor(cursor: Cursor) -> str:
    """Writes the cursor as text."""
    return msgspec.json.encode(cursor).decode()


def read_cursor(text: str, *, kind: str) -> Cursor:
    """Reads a cursor from text; raises CursorRefused for what was not written here."""
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise CursorRefused(
            f"the stored cursor {text[:80]!r} is not one of source {kind!r}: run again with --full-refresh to read everything; rows that "
            "are there stay"
        ) from error


def state_of(raw: msgspec.Raw) -> bytes | None:
    """Returns the feed's own state as it gave it, None where it gave none yet."""
    state = bytes(raw)
    return None if state == b"null" else state
