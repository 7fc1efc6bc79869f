"""What the server of the bench answers: one feed for each kind of source, made ready from pages when it is chosen.

No HTTP in here, and no waiting.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Protocol
from uuid import UUID

import msgspec

from bench.records import MANY_COLLECTIONS, MANY_PROVIDER

Compress = Callable[[bytes], bytes]

STRIPE_LIMIT = "100"


class Feed(Protocol):
    """Answers requests, each a path, its parameters and its body, by compressed bodies."""

    def answer(self, path: str, params: Mapping[str, str], content: bytes) -> bytes: ...


class Pages:
    """`/v1/records`: a cursor is the number of pages before it, and the page at the end is empty."""

    def __init__(self, pages: Sequence[bytes], compress: Compress) -> None:
        bodies = [b'{"records":%s,"cursor":"%d"}' % (page, at + 1) for at, page in enumerate(pages)]
        self._bodies = [compress(body) for body in (*bodies, b'{"records":[],"cursor":"%d"}' % len(bodies))]

    def answer(self, path: str, params: Mapping[str, str], content: bytes) -> bytes:
        """The page behind `after_cursor`."""
        return self._bodies[min(int(params.get("after_cursor", "0")), len(self._bodies) - 1)]


class ManyPages:
    """`/v1/records` of many collections, each with the same records."""

    def __init__(self, pages: Sequence[bytes], compress: Compress) -> None:
        self._collections: dict[str, Feed] = {}
        for name in MANY_COLLECTIONS:
            collection_id = f"{MANY_PROVIDER}:{name}"
            head = f'"collection_id":"{collection_id}","provider":"{MANY_PROVIDER}"'
            renamed = [
                page.replace(b'"collection_id":"stripe:subscription","provider":"stripe"', head.encode()) for page in pages
            ]
            self._collections[collection_id] = Pages(renamed, compress)

    def answer(self, path: str, params: Mapping[str, str], content: bytes) -> bytes:
        """The page of the collection that is asked for."""
        return self._collections[params["collection_id"]].answer(path, params, content)


class Deliveries:
    """A queue that gives each page once, and wants every message acknowledged; one that is empty says so at once."""

    def __init__(
        self, pages: Sequence[bytes], compress: Compress, *, messages: Callable[[bytes, int], Iterator[tuple[str, bytes]]]
    ) -> None:
        self._compress = compress
        self._deliveries = []
        for at, page in enumerate(pages):
            made = list(messages(page, at))
            body = compress(b'{"data":[%s]}' % b",".join(message for _, message in made))
            self._deliveries.append((body, [token for token, _ in made]))
        self._next = iter(self._deliveries)
        self._lock = Lock()
        self.unacknowledged: set[str] = set()

    def answer(self, path: str, params: Mapping[str, str], content: bytes) -> bytes:
        """The next delivery, or the word that something has been acknowledged."""
        with self._lock:
            if path.endswith(("/ack", "/nack")):
                (tokens,) = msgspec.json.decode(content, type=dict[str, list[str]]).values()
                self.unacknowledged.difference_update(tokens)
                return self._compress(b'{"success":true}')
            body, tokens = next(self._next, (self._compress(b'{"data":[]}'), []))
            self.unacknowledged.update(tokens)
            return body


def consumer_messages(page: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    """Of `/v1/http-consumers`, with the token of each: records as they are."""
    for number, record in enumerate(msgspec.json.decode(page, type=list[msgspec.Raw])):
        token = _token(at, number)
        yield token, b'{"ack_token":"%s","record":%s}' % (token.encode(), bytes(record))


def stream_messages(page: bytes, at: int) -> Iterator[tuple[str, bytes]]:
    """Of Sequin Stream: each object as the row of a table, in the order in which it was committed."""
    for number, record in enumerate(msgspec.json.decode(page, type=list[_Record])):
        token = _token(at, number)
        metadata = (
            b'{"table_schema":"stripe","table_name":"subscription","commit_timestamp":"%s","commit_lsn":%d,"commit_idx":%d,'
            b'"database_name":"bench"}' % (record.inserted_at.encode(), at + 1, number)
        )
        change = b'{"record":%s,"changes":null,"action":"insert","metadata":%s}' % (bytes(record.data), metadata)
        yield token, b'{"ack_id":"%s","data":%s}' % (token.encode(), change)


class StripeLists:
    """Stripe: `/v1/subscriptions`, newest first, by window of `created` and behind an object; no events."""

    def __init__(self, pages: Sequence[bytes], compress: Compress) -> None:
        self._compress = compress
        raws = [record.data for page in pages for record in msgspec.json.decode(page, type=list[_Record])]
        heads = [msgspec.json.decode(raw, type=_Head) for raw in raws]
        order = sorted(range(len(raws)), key=lambda position: -heads[position].created)
        self._objects = [bytes(raws[position]) for position in order]
        self._ages = [-heads[position].created for position in order]
        self._places = {heads[position].id: place for place, position in enumerate(order)}

    def answer(self, path: str, params: Mapping[str, str], content: bytes) -> bytes:
        """A list, or the account."""
        if path == "/v1/account":
            return self._compress(b'{"id":"acct_bench","object":"account"}')
        found: list[bytes] = []
        has_more = b"false"
        if path == "/v1/subscriptions":
            first = bisect_left(self._ages, 1 - int(params["created[lt]"])) if "created[lt]" in params else 0
            end = bisect_left(self._ages, 1 - int(params["created[gte]"])) if "created[gte]" in params else len(self._ages)
            if "starting_after" in params:
                first = max(first, self._places[params["starting_after"]] + 1)
            last = min(end, first + int(params.get("limit", STRIPE_LIMIT)))
            found, has_more = self._objects[first:last], b"true" if last < end else b"false"
        return self._compress(
            b'{"object":"list","data":[%s],"has_more":%s,"url":"%s"}' % (b",".join(found), has_more, path.encode())
        )


class RestLists:
    """A REST API: `/things`, the oldest change first, from `since` on and behind the position `after`, `limit` objects a page."""

    def __init__(self, pages: Sequence[bytes], compress: Compress) -> None:
        self._compress = compress
        records = [record for page in pages for record in msgspec.json.decode(page, type=list[_Record])]
        records.sort(key=lambda record: record.inserted_at)
        self._times = [record.inserted_at for record in records]
        self._objects = [b'{"updated_at":"%s",%s' % (record.inserted_at.encode(), bytes(record.data)[1:]) for record in records]

    def answer(self, path: str, params: Mapping[str, str], content: bytes) -> bytes:
        """A page of the list."""
        first = int(params.get("after") or bisect_left(self._times, params.get("since", "")))
        last = first + int(params.get("limit", STRIPE_LIMIT))
        following = b'"%d"' % last if last < len(self._objects) else b"null"
        return self._compress(b'{"data":[%s],"next":%s}' % (b",".join(self._objects[first:last]), following))


class _Record(msgspec.Struct):
    inserted_at: str
    data: msgspec.Raw


class _Head(msgspec.Struct):
    id: str
    created: int


def _token(at: int, number: int) -> str:
    """As long as those of either queue."""
    return str(UUID(int=at * 1_000_000 + number))


FEEDS: Mapping[str, Callable[[Sequence[bytes], Compress], Feed]] = {
    "sequin": Pages,
    "sequin_consumer": lambda pages, compress: Deliveries(pages, compress, messages=consumer_messages),
    "sequin_stream": lambda pages, compress: Deliveries(pages, compress, messages=stream_messages),
    "stripe": StripeLists,
    "rest": RestLists,
    "many": ManyPages,
}
"""By the name of the kind of source; the last one is the first, of many collections."""
