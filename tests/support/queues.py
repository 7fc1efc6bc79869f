"""Queues for tests: one in memory that plays any history of deliveries, and the two real ones against a sandbox."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.queue import DEFAULT_OPTIONS, QueueSource
from sequin_pipeline.sources.sequin_consumer import SequinConsumerSource
from sequin_pipeline.sources.sequin_stream import SequinStreamSource
from tests.support.builders import record

CONSUMER = "c1"


@dataclass
class ListQueue:
    """Hands out the given deliveries, one a page, each once; remembers which were acknowledged, and which were given back."""

    deliveries: Sequence[Sequence[Mapping[str, object]]]
    identity: SourceIdentity = field(default_factory=lambda: SourceIdentity("list_queue", "http://demo"))
    can_reread: bool = False
    observes_time: bool = False
    acknowledged: list[int] = field(default_factory=list)
    given_back: list[int] = field(default_factory=list)
    delivered: int = 0

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        try:
            while self.delivered < len(self.deliveries):
                number, self.delivered = self.delivered, self.delivered + 1
                records = json.dumps(list(self.deliveries[number])).encode()
                yield Page(records, str(number), datetime(2030, 1, 1, tzinfo=UTC))
        finally:
            self.given_back = [number for number in range(self.delivered) if number not in self.acknowledged]

    def committed(self, cursor: str) -> None:
        self.acknowledged.append(int(cursor))

    def head(self, collection_id: str) -> str | None:
        return None

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        return ()

    def collection_ids(self) -> frozenset[str] | None:
        return None


def other(record_id: str = "o1", version: int = 1, **overrides: object) -> dict[str, object]:
    """A record of a second collection, demo:other."""
    return record(record_id, version, **{"collection_id": "demo:other", **overrides})


def lines_of(*records: Mapping[str, object]) -> list[bytes]:
    return [json.dumps(one).encode() for one in records]


def feed_of(*records: Mapping[str, object]) -> RecordedFeed:
    return RecordedFeed(lines_of(*records))


def queue_of(kind: str, url: str, *, token: str | None = None, options: HttpOptions = DEFAULT_OPTIONS) -> QueueSource:
    """The source that drains the sandbox at `url`, waiting as short as its queue lets it."""
    if kind == "stream":
        return SequinStreamSource(url, token, consumer=CONSUMER, wait_milliseconds=500, options=options)
    return SequinConsumerSource(url, token, consumer=CONSUMER, wait_milliseconds=10, options=options)
