"""This state says what is known of each partition of a list, as the feed's part of the cursor."""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

import msgspec

from sequin_pipeline.errors import CursorRefused


class State(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A state holds the newest version up to which each partition is known, in microseconds, by the partition's name.

    `changes` is the same for a list of changes beside the list; None until the list has been read whole once, which `began` then.
    `under_way` holds partitions whose list is being read in the order of its versions, with what was known before: all that is known
    should the declaration turn out to be wrong about the order.
    """

    list: Mapping[str, int] = {}
    changes: Mapping[str, int] | None = None
    began: int | None = None
    under_way: Mapping[str, int | None] = {}


_decoder = msgspec.json.Decoder(State)
_encoder = msgspec.json.Encoder(order="sorted")


def read_state(text: bytes | None) -> State:
    """Reads a state; raises CursorRefused for one that was not written here."""
    if text is None:
        return State()
    try:
        return _decoder.decode(text)
    except msgspec.MsgspecError as error:
        raise CursorRefused(
            f"the state {text[:80].decode(errors='replace')!r} in the stored cursor is not one of source 'rest': run again with "
            "--full-refresh to read everything; rows that are there stay"
        ) from error


def write_state(state: State) -> bytes:
    """Writes the state as JSON text, the same for the same state."""
    return _encoder.encode(state)


def partition_name(values: Sequence[str], *, is_secret: bool) -> str:
    """Returns the name of a partition: its values, or where one of them is held by the environment, a hash of them."""
    name = "/".join(value.replace("/", "%2F") for value in values)
    return blake2b(name.encode(), digest_size=8).hexdigest() if is_secret else name
