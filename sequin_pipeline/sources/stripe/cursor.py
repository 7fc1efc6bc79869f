"""This cursor says where a read of Stripe stands: for each sync what is still to be listed, and up to where events were read.

Its text is opaque to everybody else. Times are seconds since 1970 by Stripe's clock.
"""

import msgspec

from sequin_pipeline.errors import CursorRefused


class ListSlice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A slice of a list holds objects that are still to be listed: `lower` <= created < `upper`, where None means unbounded.

    It starts behind the object `after` (None: at the beginning), in the list with the parameter `variant` (None: there is only one).
    """

    lower: int | None = None
    upper: int | None = None
    after: str | None = None
    variant: tuple[str, str] | None = None


class Listing(msgspec.Struct, frozen=True, omit_defaults=True):
    """A listing of everything has been under way since `started`.

    Without slices it is done, and what it did not see is to be marked if it `is_whole`: false where the key may not list the test
    clocks, or something in a list had no id.
    """

    started: int
    slices: tuple[ListSlice, ...] = msgspec.field(default=(), name="windows")
    is_whole: bool = True


class Walk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A walk reads the events since the last walk; it began when the clock said `started`, and goes on behind the event `after`."""

    started: int
    after: str
    newest: str | None = None
    newest_at: int = 0


class SyncState(msgspec.Struct, frozen=True, omit_defaults=True):
    """This is the state of one sync.

    It holds the account, the listing under way, the start of the last complete one, the second up to which changes are known, an event
    that was seen then, and the walk under way.
    """

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
    """Writes the states, by the name of the sync, as the text of a cursor."""
    return _encoder.encode(states).decode()


def read_cursor(cursor: str | None) -> States:
    """Reads the states from a cursor; raises CursorRefused for text that was not written here."""
    if cursor is None:
        return {}
    try:
        return _decoder.decode(cursor)
    except msgspec.MsgspecError as error:
        raise CursorRefused(
            f"the stored cursor {cursor[:80]!r} is not one of source 'stripe': run again with --full-refresh to list everything; "
            "rows that are there stay"
        ) from error
