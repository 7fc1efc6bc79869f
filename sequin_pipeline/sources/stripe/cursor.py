"""Where a read of Stripe stands: for each sync what of a listing is still to come, and up to where its events have been read.

The text of it is the cursor, opaque to everybody else. Times are seconds since 1970 by Stripe's clock.
"""

import msgspec

from sequin_pipeline.errors import CursorRefused


class ListSlice(msgspec.Struct, frozen=True, omit_defaults=True):
    """Objects that are still to be listed: `lower` <= created < `upper` (None: unbounded), behind the object `after` (None: all), in the
    list with the parameter `variant` (None: there is only one)."""

    lower: int | None = None
    upper: int | None = None
    after: str | None = None
    variant: tuple[str, str] | None = None


class Listing(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything is being listed since `started`; no windows: it has been, and what it did not see is to be marked, if it `is_whole`:
    false where the key may not list the test clocks, or something in a list had no id."""

    started: int
    slices: tuple[ListSlice, ...] = msgspec.field(default=(), name="windows")
    is_whole: bool = True


class Walk(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events since the last walk are being read; it began when the clock said `started`, and goes on behind the event `after`."""

    started: int
    after: str
    newest: str | None = None
    newest_at: int = 0


class SyncState(msgspec.Struct, frozen=True, omit_defaults=True):
    """One sync: its account, the listing under way, the start of the last complete one, the second up to which changes are known, an
    event that was seen then, and the walk under way."""

    account: str | None = None
    listing: Listing | None = None
    listed: int | None = None
    known_until: int | None = None
    witness: str | None = None
    walk: Walk | None = None


States = dict[str, SyncState]

_decoder = msgspec.json.Decoder(States)
_encoder = msgspec.json.Encoder(order="sorted")


def write_cursor(states: States) -> str:
    """By the name of the sync."""
    return _encoder.encode(states).decode()


def read_cursor(cursor: str | None) -> States:
    """Raises CursorRefused for what was not written here."""
    if cursor is None:
        return {}
    try:
        return _decoder.decode(cursor)
    except msgspec.MsgspecError as error:
        raise CursorRefused(
            f"the stored cursor {cursor[:80]!r} is not one of source 'stripe': run again with --full-refresh to list everything; "
            "rows that are there stay"
        ) from error
