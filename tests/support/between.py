"""A source between which and its reader something happens, page by page."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, Source


def nothing(number: int) -> None:
    """Happens mostly."""


@dataclass
class Between:
    """Calls `happens` with the number of each page before the next is asked for; breaks off behind page `last`, as when killed.
    `commits` are the cursors up to which everything has been said to be committed."""

    source: Source
    happens: Callable[[int], None] = nothing
    last: int | None = None
    given: list[Page] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.identity = self.source.identity
        self.can_reread = self.source.can_reread
        self.observes_time = self.source.observes_time

    def committed(self, cursor: str) -> None:
        self.commits.append(cursor)
        self.source.committed(cursor)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        pages: Any = self.source.pages(request)  # of a queue a generator, which is to be closed
        with ExitStack() as stack:
            if hasattr(pages, "close"):
                stack.enter_context(closing(pages))
            for number, page in enumerate(pages, 1):
                self.given.append(page)
                yield page
                self.happens(number)
                if number == self.last:
                    raise SourceUnavailable("the source of this test broke off")

    def head(self, collection_id: str) -> str | None:
        return self.source.head(collection_id)

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        return self.source.describe(collection_id)

    def collection_ids(self) -> frozenset[str] | None:
        return self.source.collection_ids()
