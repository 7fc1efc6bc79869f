"""This module lists all objects of one class: slice by slice of their time of creation, several slices at once.

What remains is always a tuple of slices, so that a reader who was killed goes on where the last page ended.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from http import HTTPStatus
from itertools import pairwise

from msgspec.structs import replace

from sequin_pipeline import threads
from sequin_pipeline.errors import SourceFault
from sequin_pipeline.sources import NO_COST, PageCost
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.stripe.api import UNREADABLE, ListPage, StripeApi
from sequin_pipeline.sources.stripe.cursor import ListSlice
from sequin_pipeline.sources.stripe.objects import LISTABLE, TEST_CLOCK, TEST_CLOCKS, Listable

SLICES_BESIDE = 8
"""This many requests are under way at once: with 50 ms each they come close to the 100 a second that an account may send."""

SHORTEST_SPLIT_SECONDS = 3600
"""A slice shorter than this is read page by page rather than cut in two."""

FOUNDED = 1_262_304_000
"""On 2010-01-01 Stripe held nothing yet, so that even an open slice has a middle at which it can be cut."""

MAX_RESTARTS = 5
"""A list may begin again at its first page this often, because the object that the next page was to follow has been deleted."""


def slices_between(listable: Listable, lower: int | None, upper: int) -> tuple[ListSlice, ...]:
    """Returns slices for all that was created between the two seconds, or for everything where the list takes no bounds."""
    part = ListSlice(lower, upper) if listable.filters_created else ListSlice()
    return tuple(replace(part, variant=variant) for variant in listable.variants) or (part,)


def list_slices(
    api: StripeApi, listable: Listable, slices: tuple[ListSlice, ...]
) -> Iterator[tuple[ListPage, tuple[ListSlice, ...]]]:
    """Yields pages in the order in which they come in, each with the slices that remain behind it; raises SourceError."""
    waiting, under_way = list(slices), dict["Future[tuple[ListSlice, ListPage]]", ListSlice]()
    course = _Course(api, listable)
    while waiting or under_way:
        while waiting and len(under_way) < SLICES_BESIDE:
            part = waiting.pop(0)
            under_way[threads.start(_Fetch(api, listable, part), "sequin-stripe")] = part
        finished, _ = wait(under_way, return_when=FIRST_COMPLETED)
        for future in finished:
            del under_way[future]
            part, page = future.result()
            course.check(part, page)
            waiting += _remaining(listable, part, page, spare=SLICES_BESIDE - len(waiting) - len(under_way))
            yield page, (*under_way.values(), *waiting)


def list_ids(api: StripeApi, listable: Listable) -> tuple[list[str] | None, PageCost]:
    """Returns the ids of a class with few objects: none where the server has no such list, None where the key may not read it."""
    ids, cost = list[str](), NO_COST
    try:
        for page, _ in list_slices(api, listable, (ListSlice(),)):
            ids += [found.id for found in page.objects]
            cost += page.cost
    except StatusRefused as refusal:
        if refusal.status not in UNREADABLE:
            raise
        return ([] if refusal.status == HTTPStatus.NOT_FOUND else None), cost
    return ids, cost


class _Fetch:
    """This task fetches the next page of a slice, and returns it with the slice that was really asked for."""

    def __init__(self, api: StripeApi, listable: Listable, part: ListSlice) -> None:
        self._api = api
        self._listable = listable
        self._slice = part

    def __call__(self) -> tuple[ListSlice, ListPage]:
        try:
            return self._slice, self._api.list_page(self._listable, _params(self._slice))
        except StatusRefused as refusal:
            if refusal.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                raise
            if self._is_of_a_gone_clock():
                # With a clock goes all that was on it.
                return self._slice, ListPage((), (), has_more=False, received_at=self._api.now(), cost=NO_COST)
            if self._slice.after is None:
                raise
        # The object that the page was to follow has been deleted: from the edge of the part on, which it had moved, at most the
        # objects of one second come again.
        part = replace(self._slice, after=None)
        return part, self._api.list_page(self._listable, _params(part))

    def _is_of_a_gone_clock(self) -> bool:
        name, clock = self._slice.variant or ("", "")
        return name == TEST_CLOCK and self._api.retrieve(LISTABLE[TEST_CLOCKS], clock)[0] is None


class _Course:
    """This class notices a list that leads nowhere or silently begins again: a page that starts with the same object as an earlier
    one."""

    def __init__(self, api: StripeApi, listable: Listable) -> None:
        self._api = api
        self._listable = listable
        self._first_ids: set[bytes] = set()
        self._count = 0

    def check(self, part: ListSlice, page: ListPage) -> None:
        if not page.objects:
            if page.has_more:
                raise SourceFault(
                    f"listing stripe:{self._listable.name} of sync {self._api.account.name!r} from {self._api.base_url}: no object "
                    f"on a page has an id, but more are to come, which can only be requested by the last id: ask whoever runs the source"
                )
            return
        digest = hashlib.blake2b(page.objects[0].id.encode(), digest_size=8).digest()
        self._count += digest in self._first_ids
        self._first_ids.add(digest)
        if self._count > MAX_RESTARTS:
            raise SourceFault(
                f"listing stripe:{self._listable.name} of sync {self._api.account.name!r} from {self._api.base_url}: the list began again "
                f"{self._count} times (last behind {part.after!r}), where its end was expected: run again when fewer objects are "
                "being deleted; what was read is stored"
            )


def _params(part: ListSlice) -> tuple[tuple[str, str], ...]:
    bounds = (("created[gte]", part.lower), ("created[lt]", part.upper))
    after = (("starting_after", part.after),) if part.after else ()
    variant = (part.variant,) if part.variant else ()
    return (*variant, *((name, str(bound)) for name, bound in bounds if bound is not None), *after)


def _remaining(listable: Listable, part: ListSlice, page: ListPage, *, spare: int) -> tuple[ListSlice, ...]:
    """Returns what the slice still holds behind the page, cut in two where there is room for another request."""
    if not page.has_more or not page.objects:
        return ()
    last = page.objects[-1]
    times = [found.created for found in page.objects if found.created is not None]
    is_newest_first = len(times) == len(page.objects) and all(newer >= older for newer, older in pairwise(times))
    if not listable.filters_created or not is_newest_first:
        return (replace(part, after=last.id),)
    edge = times[-1]
    lower = FOUNDED if part.lower is None else part.lower
    middle = (lower + edge) // 2
    rest = replace(part, upper=edge + 1, after=last.id)
    if spare < 1 or edge - lower < 2 * SHORTEST_SPLIT_SECONDS:
        return (rest,)
    return (replace(rest, lower=middle), replace(part, upper=middle, after=None))
