"""This module keeps pages on disk, between their source and a transaction that must not wait for it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

from sequin_pipeline.sources import Page


@dataclass(frozen=True)
class _Place:
    offset: int
    length: int
    cursor: str | None
    received_at: datetime


class Spool:
    """A spool is a nameless file in the system's temporary folder: nobody else can open it, and it is gone with the process.

    It is a context manager.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="sequin-dry-run-")  # noqa: SIM115 - closed by __exit__
        self._places: list[_Place] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()

    @property
    def bytes(self) -> int:
        """This is the size of all pages together."""
        return sum(place.length for place in self._places)

    def __len__(self) -> int:
        return len(self._places)

    def add(self, page: Page) -> None:
        """Adds a page behind the others."""
        offset = self._file.seek(0, 2)
        self._file.write(page.records)
        self._places.append(_Place(offset, len(page.records), page.cursor, page.received_at))

    def pages(self) -> Iterator[Page]:
        """Yields the pages in the order in which they came; what they cost is forgotten."""
        for place in self._places:
            self._file.seek(place.offset)
            yield Page(self._file.read(place.length), place.cursor, place.received_at)
