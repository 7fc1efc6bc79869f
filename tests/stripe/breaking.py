"""A source between which and its reader something happens, page by page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.sources import Page, ReadRequest
from sequin_pipeline.sources.stripe import StripeSource


def nothing(number: int) -> None:
    """Happens mostly."""


@dataclass
class Between:
    """Calls `happens` with the number of each page before the next is asked for; breaks off behind page `last`, as when killed."""

    source: StripeSource
    happens: Callable[[int], None] = nothing
    last: int | None = None
    given: list[Page] = field(default_factory=list)

    can_reread = True
    observes_time = True

    def __post_init__(self) -> None:
        self.identity = self.source.identity

    def committed(self, cursor: str) -> None:
        self.source.committed(cursor)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        for number, page in enumerate(self.source.pages(request), 1):
            self.given.append(page)
            yield page
            self.happens(number)
            if number == self.last:
                raise SourceUnavailable("the source of this test broke off")
