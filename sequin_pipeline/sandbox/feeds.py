"""A feed gives a sandbox its records, from a file of records or a source of made-up changes.

It owns its stream and is the only one to append to it. Nothing here knows HTTP.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.journal import Journal
from sequin_pipeline.sandbox.records import ChangeSource, FieldInfo, SyncInfo
from sequin_pipeline.sandbox.stream import EVERYTHING, START, Entry, Stream
from sequin_pipeline.sandbox.wire import entry_of_change, entry_of_line, sync_of

Follower = Callable[[Entry], None]
"""This function is told of every version that comes into the stream."""


class BadLine(ValueError):
    """A line of a file or a request is not JSON; `line_number` counts from 1."""

    def __init__(self, line_number: int, reason: str) -> None:
        super().__init__(f"line {line_number} is not JSON: {reason}")
        self.line_number = line_number


class Feed(Protocol):
    """A feed is what a sandbox serves."""

    stream: Stream

    def catch_up(self) -> None:
        """Appends what has happened since the last call."""
        ...

    def seconds_to_next_change(self) -> float | None:
        """Returns the time to the next change, or None where nothing will happen by itself."""
        ...

    def syncs(self) -> tuple[SyncInfo, ...]: ...

    def fields(self, collection_id: str) -> tuple[FieldInfo, ...]: ...


def append_lines(stream: Stream, lines: Iterable[bytes]) -> int:
    """Appends each line of JSON as the newest version of its record, byte for byte; empty lines are ignored.

    It appends all or nothing: raises BadLine before anything is appended. Returns how many there were.
    """
    entries: list[Entry] = []
    for line_number, line in enumerate(lines, start=1):
        text = line.strip(b" \t\r\n")
        if text:
            try:
                entries.append(entry_of_line(text, stream.head + len(entries) + 1))
            except ValueError as error:
                raise BadLine(line_number, str(error)) from error
    for entry in entries:
        stream.append(entry)
    return len(entries)


class RecordedFeed:
    """This feed serves records as they were given, in the order in which they were given; nothing happens by itself."""

    def __init__(self, lines: Iterable[bytes] = (), *, is_compacted: bool = True, follower: Follower | None = None) -> None:
        self.stream = Stream(is_compacted=is_compacted, follower=follower)
        append_lines(self.stream, lines)

    def catch_up(self) -> None:
        pass

    def seconds_to_next_change(self) -> float | None:
        return None

    def syncs(self) -> tuple[SyncInfo, ...]:
        """Returns the syncs that the records name, each as its newest record describes it."""
        newest: dict[str, Entry] = {}
        collection_ids: dict[str, set[str]] = {}
        for entry in self.stream.after(START, len(self.stream), EVERYTHING):
            if entry.sync_id is not None and entry.collection_id is not None:
                newest[entry.sync_id] = entry
                collection_ids.setdefault(entry.sync_id, set()).add(entry.collection_id)
        return tuple(_described_sync(sync_id, entry, collection_ids[sync_id]) for sync_id, entry in newest.items())

    def fields(self, collection_id: str) -> tuple[FieldInfo, ...]:
        """Returns nothing: a file of records describes no fields."""
        return ()


def _described_sync(sync_id: str, entry: Entry, collection_ids: Iterable[str]) -> SyncInfo:
    external_id, metadata = sync_of(entry.body)
    return SyncInfo(
        id=sync_id,
        name=sync_id,
        provider=entry.provider or "",
        stream_id="recorded",
        collection_ids=tuple(sorted(collection_ids)),
        external_id=external_id,
        metadata=metadata,
    )


def feed_of_file(path: Path, *, is_compacted: bool = True, follower: Follower | None = None) -> RecordedFeed:
    """Reads a file of one JSON record a line; raises ConfigurationError when it cannot be read or a line is not JSON."""
    try:
        with path.open("rb") as lines:
            return RecordedFeed(lines, is_compacted=is_compacted, follower=follower)
    except OSError as error:
        raise ConfigurationError(f"the sandbox cannot read the records of {str(path)!r}: {error.strerror}") from error
    except BadLine as error:
        raise ConfigurationError(
            f"the sandbox was to serve {str(path)!r}, which must hold one JSON record a line: {error}. Nothing is served; fix the line."
        ) from error


class GeneratedFeed:
    """This feed serves made-up objects, and `rate` changes a second for as long as the sandbox runs.

    `clock` gives aware times in UTC. The journal remembers how many changes there were and when, so that positions and versions go
    on after a restart.
    """

    def __init__(
        self,
        source: ChangeSource,
        journal: Journal,
        *,
        rate: float = 0.0,
        clock: Callable[[], datetime],
        is_compacted: bool = True,
        follower: Follower | None = None,
    ) -> None:
        self._source = source
        self._journal = journal
        self._clock = clock
        self.stream = Stream(is_compacted=is_compacted, follower=follower)
        now = ends_at = clock()
        for change in source.initial():
            self.stream.append(entry_of_change(change, self.stream.head + 1))
            ends_at = change.changed_at
        for at in journal.changes_at():
            self._append_next(at)
        journal.begin_run(now, rate, not_before=ends_at)

    def catch_up(self) -> None:
        due = self._journal.due_at(self._clock())
        if due:
            # Before anything is served: a position that a reader has seen exists after a restart.
            self._journal.record(len(due))
            for at in due:
                self._append_next(at)

    def seconds_to_next_change(self) -> float | None:
        return self._journal.seconds_to_next(self._clock())

    def syncs(self) -> tuple[SyncInfo, ...]:
        return self._source.syncs()

    def fields(self, collection_id: str) -> tuple[FieldInfo, ...]:
        return self._source.fields(collection_id)

    def _append_next(self, at: datetime) -> None:
        self.stream.append(entry_of_change(self._source.next_change(at), self.stream.head + 1))
