"""A consumer reads the stream as a work queue, at least once, with acknowledgements.

A record that changes comes again as its new version; one whose newer version has come in is not delivered in its old one.
"""

import base64
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import takewhile

from sequin_pipeline.sandbox.stream import START, Entry, Stream

_TOKEN_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/sequinstream/sequin")


@dataclass(frozen=True)
class Message:
    """A message is a delivery of a record: every delivery has an `ack_token` of its own."""

    ack_token: str
    entry: Entry


def opaque_token(delivery: int, position: int) -> str:
    """Returns a token as consumers of the records API call them."""
    return base64.urlsafe_b64encode(f"{delivery}:{position}".encode()).decode()


def uuid_token(delivery: int, position: int) -> str:
    """Returns a token as a self-hosted Sequin calls them."""
    return str(uuid.uuid5(_TOKEN_NAMESPACE, f"{delivery}:{position}"))


@dataclass(frozen=True)
class _Delivery:
    entry: Entry
    expires_at_seconds: float


class Consumer:
    """A consumer is one reader's progress through the whole stream, from its start.

    `clock` gives monotonic seconds, `build_token` a delivery's token from its number and the entry's position.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        ack_wait_seconds: float,
        max_ack_pending: int,
        clock: Callable[[], float],
        build_token: Callable[[int, int], str] = opaque_token,
    ) -> None:
        self._stream = stream
        self._ack_wait_seconds = ack_wait_seconds
        self._max_ack_pending = max_ack_pending
        self._clock = clock
        self._build_token = build_token
        self._position = START
        self._deliveries = 0
        self._again: list[Entry] = []
        self._unacknowledged: dict[str, _Delivery] = {}

    @property
    def num_pending(self) -> int:
        """This is the number of records that wait for delivery, first or repeated."""
        self._take_back_expired()
        return len(self._again) + self._stream.count_after(self._position)

    @property
    def num_ack_pending(self) -> int:
        self._take_back_expired()
        return len(self._unacknowledged)

    def next_messages(self, batch_size: int) -> list[Message]:
        """Returns up to `batch_size` messages; fewer when that many more would be unacknowledged than the consumer allows."""
        self._take_back_expired()
        room = min(batch_size, self._max_ack_pending - len(self._unacknowledged))
        repeated, self._again = self._again[:room], self._again[room:]
        fresh = self._stream.after(self._position, room - len(repeated))
        if fresh:
            self._position = fresh[-1].position
        return [self._deliver(entry) for entry in (*repeated, *fresh)]

    def ack(self, tokens: Iterable[str]) -> None:
        """Acknowledges messages; a token that is not known, or no longer, is ignored."""
        self._take_back_expired()
        for token in tokens:
            self._unacknowledged.pop(token, None)

    def nack(self, tokens: Iterable[str]) -> None:
        """Makes the messages come again at once."""
        self._take_back_expired()
        refused = (self._unacknowledged.pop(token, None) for token in tokens)
        self._again.extend(delivery.entry for delivery in refused if delivery is not None)

    def seconds_to_redelivery(self) -> float | None:
        """Returns the time until the oldest unacknowledged message comes again, or None where nothing is unacknowledged."""
        oldest = next(iter(self._unacknowledged.values()), None)
        return max(0.0, oldest.expires_at_seconds - self._clock()) if oldest else None

    def _deliver(self, entry: Entry) -> Message:
        self._deliveries += 1
        token = self._build_token(self._deliveries, entry.position)
        self._unacknowledged[token] = _Delivery(entry, self._clock() + self._ack_wait_seconds)
        return Message(token, entry)

    def _take_back_expired(self) -> None:
        """Takes back expired deliveries, which stand in the order in which they expire, since all wait equally long."""
        now = self._clock()
        expired = list(takewhile(lambda item: item[1].expires_at_seconds <= now, self._unacknowledged.items()))
        for token, delivery in expired:
            del self._unacknowledged[token]
            self._again.append(delivery.entry)
        self._again = [entry for entry in self._again if self._stream.holds(entry)]
