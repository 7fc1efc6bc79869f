"""This module reads one list of an API from its beginning to its end, page by page, and sees to it that the paging advances.

A list in the order of its versions that can be asked for `since` is asked anew at each page: pages that are counted from the beginning
skip an object as soon as one before it moves to the end. Links and cursors are looked at, whether they count.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from itertools import pairwise

import msgspec
import xxhash

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.reads import Read
from sequin_pipeline.sources import PageCost
from sequin_pipeline.sources.http.client import Response
from sequin_pipeline.sources.keyed.shape import Found, Shape, ValueReader
from sequin_pipeline.sources.keyed.times import moment_of
from sequin_pipeline.sources.rest import dlt_parts
from sequin_pipeline.sources.rest.client import RestClient
from sequin_pipeline.sources.rest.elements import Element, ElementReader, ListAnswer
from sequin_pipeline.sources.rest.templates import SINCE, before, fill, fill_path, names_of, time_text


@dataclass(frozen=True)
class ListPage:
    """This value is a page of a list.

    `values` are those of its objects at the shape's paths, `versions` in microseconds, None for each that tells none.
    """

    elements: Sequence[Element] = field(repr=False)
    values: Sequence[Found | None] = field(repr=False)
    versions: Sequence[int | None] = field(repr=False)
    has_next: bool
    received_at: datetime
    cost: PageCost

    @property
    def newest(self) -> int | None:
        return max((version for version in self.versions if version is not None), default=None)

    def newest_until(self, latest: int) -> int | None:
        """Returns the newest version that can be true: one that is to come says nothing of what has come."""
        return max((version for version in self.versions if version is not None and version <= latest), default=None)

    def tells_before(self, moment: int) -> bool:
        """Says whether one of its objects is older."""
        return any(version is not None and version < moment for version in self.versions)

    def is_before(self, least: int) -> bool:
        """Says whether all of the page is older."""
        return bool(self.versions) and all(version is not None and version < least for version in self.versions)

    def is_behind(self, least: int | None) -> bool:
        """Says whether all of the page is newer."""
        return least is None or all(version is None or version > least for version in self.versions)


class ListReader:
    """A reader asks for one list, as `read` says it."""

    def __init__(self, client: RestClient, read: Read, paginator: Mapping[str, object], shape: Shape, *, purpose: str) -> None:
        """Takes the `shape` of the objects, and `purpose`, which opens messages.

        Raises ConfigurationError for paginator settings that cannot be used.
        """
        self._client = client
        self._read = read
        self._purpose = purpose
        self._make_paginator = dlt_parts.paginator_factory(paginator)
        self._elements = ElementReader(read.select, client.excerpt)
        self._values = ValueReader(shape.paths)
        self._version_place = shape.version_place
        paths = [str(path) for name, path in paginator.items() if path and name.endswith("_path") and "_body_" not in name]
        self._tells_elements = any(not read.select or read.select[0] in path for path in paths)
        self.asks_since = SINCE in names_of(read)
        self._heeds_since = True
        self.is_positional = paginator.get("type") in dlt_parts.POSITIONAL

    @property
    def is_asked_anew(self) -> bool:
        return self.asks_since and self._heeds_since and self._read.is_ascending and self.is_positional

    def pages(self, values: Mapping[str, str], since: int) -> Generator[ListPage, None, None]:
        """Yields the pages of the list with these values in braces; `since` is asked for where the list can be asked.

        Raises SourceError, also for a list that does not come in the order that is declared.
        """
        has_looked = False
        while True:
            following, pages, count = None, 0, 0
            for page in self._chain({**values, SINCE: time_text(since, self._read.since)}):
                yield page
                # One that does not heed it would be read from its beginning at each page.
                self._heeds_since &= not page.tells_before(since)
                pages, count = pages + bool(page.elements), count + len(page.elements)
                if page.has_next and self._may_ask_anew(count):
                    following = self._following(page, since, count)
                    if following is not None:
                        break
            # Many objects of one time are read by counted pages all the same: a second look finds what was passed over meanwhile.
            has_looked = self.is_asked_anew and pages > 1 and not has_looked
            if has_looked:
                continue
            if following is None:
                return
            since = following

    def _may_ask_anew(self, count: int) -> bool:
        if not (self.asks_since and self._read.is_ascending):
            return False
        return (self.is_positional and self._heeds_since) or (
            self._read.restart_after is not None and count >= self._read.restart_after
        )

    def _following(self, page: ListPage, since: int, count: int) -> int | None:
        """Returns from when on to ask anew.

        It is None while all of this page is of the time that was asked for, so that only its paginator leads on.
        """
        newest = page.newest
        following = since if newest is None else before(newest, self._read.since)
        if following > since:
            return following
        if self._read.restart_after is not None and count >= self._read.restart_after:
            raise SourceFault(
                f"{self._purpose}: {count:,} objects share one time of their last change, and the list does not go further than "
                f"`restart_after: {self._read.restart_after}`, so that the rest cannot be asked for: have some of them changed, or read "
                "the collection another way"
            )
        return None

    def _chain(self, values: Mapping[str, str]) -> Generator[ListPage, None, None]:
        """Yields the pages that a paginator finds, from the first on."""
        read = self._read
        url = f"{self._client.base_url}/{fill_path(read.path, values).lstrip('/')}"
        json = None if read.json is None else fill(dict(read.json), values)
        request = dlt_parts.make_request(read.method, url, fill(dict(read.params), values), json)
        paginator = self._make_paginator()
        paginator.init_request(request)
        asked: set[bytes] = set()
        came: set[bytes] = set()
        previous: ListPage | None = None
        while True:
            self._check_advance(asked, msgspec.json.encode([request.url, request.params, request.json]), "was asked for before")
            answer = self._client.ask(request, purpose=self._purpose, read=self._reading(request.url, is_first=previous is None))
            seen = answer.value
            found = [self._values.read(element) for element in seen.elements]
            if seen.elements:
                self._check_advance(came, _told(found) or seen.response.body, "holds the same as one before it")
            has_next = seen.response.status != HTTPStatus.NO_CONTENT and self._leads_on(paginator, seen)
            page = ListPage(seen.elements, found, self._versions_of(found), has_next, answer.received_at, answer.cost)
            self._check_order(page, previous)
            if has_next:
                asked_before = dlt_parts.numbers_in(request)
                paginator.update_request(request)
                # Links and cursors often are the number of a page, or an offset.
                self.is_positional |= _counts(asked_before, dlt_parts.numbers_in(request), len(page.elements))
            yield page
            if not has_next:
                return
            previous = page

    def _reading(self, url: str, *, is_first: bool) -> Callable[[Response], ListAnswer]:
        def read(response: Response) -> ListAnswer:
            # So GitHub tells of a repository without commits that it has no contributors; in the middle of a list it would be no answer.
            has_none = is_first and response.status == HTTPStatus.NO_CONTENT and not response.body
            elements = () if has_none else self._elements.read(response.body)
            return ListAnswer(response, url, elements, self._read.select, self._tells_elements)

        return read

    def _check_advance(self, known: set[bytes], text: bytes, what: str) -> None:
        mark = xxhash.xxh3_128_digest(text)
        if mark in known:
            raise SourceFault(
                f"{self._purpose}: the paging does not advance: page {len(known) + 1} of the list {what}. Check `paginator`: its "
                "type and the names of its parameters"
            )
        known.add(mark)

    def _leads_on(self, paginator: dlt_parts.Paginator, answer: ListAnswer) -> bool:
        dlt_parts.step_by_what_came(paginator, len(answer.elements))
        try:
            paginator.update_state(answer, answer.elements)
        except (ValueError, TypeError, AttributeError) as error:
            # The message repeats the answer.
            raise SourceFault(
                f"{self._purpose}: the paginator does not find in the answer what leads to the next page ({type(error).__name__}): check "
                "the paths of `paginator`"
            ) from None
        return paginator.has_next_page

    def _versions_of(self, values: Sequence[Found | None]) -> list[int | None]:
        place = self._version_place
        return [None if place is None or found is None else moment_of(found[place]) for found in values]

    def _check_order(self, page: ListPage, previous: ListPage | None) -> None:
        read = self._read
        if not (read.is_ascending or read.is_descending):
            return
        sign = 1 if read.is_ascending else -1
        told = [version * sign for version in page.versions if version is not None]
        is_ordered = all(one <= other for one, other in pairwise(told)) and (previous is None or _continues(previous, page, sign))
        if not is_ordered:
            word = "ascending" if read.is_ascending else "descending"
            raise SourceFault(
                f"{self._purpose}: the list does not come in the {word} order of {'.'.join(read.version or ())!r}, so that changes would "
                f"be missed: remove `{word}: true`, or have the API sort the list by `params`"
            )


def _told(found: Sequence[Found | None]) -> bytes | None:
    """Returns the keys and times of a page: what else stands in an answer may differ each time. None where no object tells any."""
    return repr(found).encode(errors="replace") if any(value is not None for values in found for value in values or ()) else None


def _counts(before: Mapping[str, int], after: Mapping[str, int], count: int) -> bool:
    """Says whether a number of the next request counts the pages, or the objects, of those before it."""
    return any(
        number in ((1, 2, count, count + 1) if name not in before else (before[name] + 1, before[name] + count))
        for name, number in after.items()
    )


def _continues(previous: ListPage, page: ListPage, sign: int) -> bool:
    """Says whether no object of the page belongs before those of the page before it.

    Objects that came late push others to the right: those of the page before may be here again, as they were.
    """
    last = max((version * sign for version in previous.versions if version is not None), default=None)
    early = [
        element
        for element, version in zip(page.elements, page.versions, strict=True)
        if version is not None and last is not None and version * sign < last
    ]
    return not early or {bytes(element) for element in early} <= {bytes(element) for element in previous.elements}
