"""This module makes a feed of a connector: which stream a collection is, how its records tell their key, and what it sends."""

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from sequin_pipeline.errors import SourceError, SourceRefused
from sequin_pipeline.reads import StreamRead
from sequin_pipeline.sources import FieldDescription
from sequin_pipeline.sources.connectors.installed import InstalledConnector
from sequin_pipeline.sources.connectors.spoken import Heard, StreamShape
from sequin_pipeline.sources.keyed.feed import Arrival, Reading
from sequin_pipeline.sources.keyed.shape import Shape
from sequin_pipeline.sources.keyed.source import PAGE_RECORDS

PAGE_BYTES = 4 << 20
"""A page of large records has fewer of them."""

PAGE_SECONDS = 5.0
"""What a slow connector has sent is stored after this long, with the state that it has reached."""

SHOWN_STREAMS = 20
"""A message shows this many: a connector may have hundreds."""


class Spoken(Protocol):
    """This protocol is what Airbyte's protocol and Singer's have in common."""

    kind: str
    installed: InstalledConnector

    def streams(self, stop: threading.Event) -> dict[str, StreamShape]: ...
    def read(self, shape: StreamShape, state: bytes | None, stop: threading.Event) -> Iterator[Heard]: ...


class _Held:
    """This value is what has come since the last arrival: enough for a page, or as much as a few seconds brought."""

    def __init__(self, page_records: int, page_seconds: float) -> None:
        self._page_records, self._page_seconds = page_records, page_seconds
        self._begin()

    def _begin(self) -> None:
        self._records: list[bytes] = []
        self._state: bytes | None = None
        self._bytes = 0
        self._began_at = time.monotonic()

    def take(self, heard: Heard) -> None:
        self._records += heard.records
        self._bytes += sum(map(len, heard.records))
        self._state = heard.state or self._state

    def __bool__(self) -> bool:
        return bool(self._records) or self._state is not None

    def is_due(self) -> bool:
        if len(self._records) >= self._page_records or self._bytes >= PAGE_BYTES:
            return True
        return bool(self) and time.monotonic() - self._began_at >= self._page_seconds

    def arrival(self) -> Arrival:
        arrival = Arrival(self._records, self._state)
        self._begin()
        return arrival


class ConnectorFeed:
    """A feed reads one stream in one process, and asks for the catalog once before."""

    def __init__(
        self,
        protocol: Spoken,
        reads: Mapping[str, StreamRead],
        *,
        page_records: int = PAGE_RECORDS,
        page_seconds: float = PAGE_SECONDS,
    ) -> None:
        self.protocol = protocol
        self._page_records, self._page_seconds = page_records, page_seconds
        self._reads = reads
        self.stop = threading.Event()
        self._catalog: dict[str, StreamShape] | None = None

    def shape(self, name: str) -> Shape:
        """Returns how the stream's records tell their keys; raises SourceError where there is no such stream."""
        stream = self.stream(name, self.stop)
        assert stream.key is not None  # noqa: S101 - stream refuses a stream without one
        return Shape(stream.key, stream.version, deleted=stream.deleted)

    def read(self, name: str, reading: Reading) -> Generator[Arrival, None, None]:
        """Yields what the stream has. A listing, and a window, ask for everything: a connector knows no other question."""
        stream = self.stream(name, reading.stop)
        state = None if reading.lists or reading.window is not None else reading.state
        held = _Held(self._page_records, self._page_seconds)
        try:
            for heard in self.protocol.read(stream, state, reading.stop):
                held.take(heard)
                if held.is_due():
                    yield held.arrival()
        except SourceError:
            # What came before the end holds.
            if held:
                yield held.arrival()
            raise
        if held:
            yield held.arrival()
        notes = self.protocol.installed.remarks.notes()
        if notes:
            yield Arrival(notes=notes)

    def fields(self, name: str) -> tuple[FieldDescription, ...]:
        """Returns the top-level fields of the stream as the catalog has them."""
        return tuple(FieldDescription(path, kind) for path, kind in self.stream(name, threading.Event()).fields)

    def catalog(self, stop: threading.Event) -> Mapping[str, StreamShape]:
        """Returns the streams of the connector, which is asked once."""
        if self._catalog is None:
            self._catalog = self.protocol.streams(stop)
        return self._catalog

    def stream(self, name: str, stop: threading.Event) -> StreamShape:
        """Returns the stream of a collection; raises SourceRefused for one that is not there, and for one that nothing tells a key of."""
        declared = self._reads.get(name, StreamRead(name))
        catalog = self.catalog(stop)
        connector = self.protocol.installed.name
        found = catalog.get(declared.stream)
        if found is None:
            names = sorted(catalog)
            more = f" and {len(names) - SHOWN_STREAMS} more" if len(names) > SHOWN_STREAMS else ""
            raise SourceRefused(
                f"the connector {connector!r} has no stream {declared.stream!r} for collection {name!r}: it has "
                f"{', '.join(names[:SHOWN_STREAMS]) or 'none'}{more}; name one by `read: {{stream: …}}`"
            )
        shape = replace(
            found,
            key=declared.key or found.key,
            version=declared.version or found.version,
            deleted=declared.deleted or found.deleted,
        )
        if shape.key is None:
            raise SourceRefused(
                f"stream {declared.stream!r} of the connector {connector!r} says of no key what tells its records apart: declare it for "
                f"collection {name!r}, as in `read: {{stream: {declared.stream}, key: [id]}}`"
            )
        return shape
