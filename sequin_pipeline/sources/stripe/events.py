"""This module finds what has changed since: events name the objects, and each object is read again as it is now.

So neither the order of events matters, nor how many of them fall into one second, nor at which API version they were written; an
object that no longer exists becomes a tombstone.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus

from sequin_pipeline import threads
from sequin_pipeline.catalog import SourceAccount
from sequin_pipeline.sources import PageCost
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.stripe.api import EventPage, StripeApi, StripeObject
from sequin_pipeline.sources.stripe.objects import Listable
from sequin_pipeline.sources.stripe.records import event_version, write_record, write_tombstone

OVERLAP_SECONDS = 10
"""This many seconds before the last look are read again: an event may appear in the list a little after the second that it bears."""

KEPT_SECONDS = 29 * 86_400
"""Stripe keeps events for 30 days; this is a day less, so that none expires while they are being read."""

REQUESTS_BESIDE = 8


@dataclass(frozen=True)
class Changes:
    """This value is a page of events and the records of what they changed."""

    page: EventPage
    records: list[bytes]
    cost: PageCost


def walk_events(api: StripeApi, listable: Listable, collection_id: str, *, since: int, after: str | None) -> Iterator[Changes]:
    """Yields the changes from the second `since`, behind the event `after`, to the end of the list."""
    while True:
        bound = (("created[gte]", str(since)),)
        try:
            page = api.event_page(listable, bound if after is None else (*bound, ("starting_after", after)))
        except StatusRefused as refusal:
            if after is None or refusal.status not in (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND):
                raise
            after = None  # it has expired since: what was read comes again, and is known
            continue
        records, cost = _read_again(api, listable, collection_id, page)
        yield Changes(page, records, page.cost + cost)
        if not page.has_more or not page.events:
            return
        after = page.events[-1].id


def _read_again(api: StripeApi, listable: Listable, collection_id: str, page: EventPage) -> tuple[list[bytes], PageCost]:
    """Returns one record for each object that the page names, at the time of its newest event there."""
    newest: dict[str, int] = {}
    shown: dict[str, StripeObject] = {}
    for event in page.events:
        found = event.object
        if found is not None and found.kind == listable.name and event.created >= newest.get(found.id, 0):
            newest[found.id], shown[found.id] = event.created, found
    cost, records = PageCost(requests=0), []
    ids = list(newest)
    for start in range(0, len(ids), REQUESTS_BESIDE):
        asked = [(object_id, _ask(api, listable, shown[object_id])) for object_id in ids[start : start + REQUESTS_BESIDE]]
        for object_id, answer in asked:
            found, spent = answer.result()
            cost += spent
            records.append(_record(api.account, collection_id, shown[object_id], found, at=newest[object_id]))
    return records, cost


def _ask(api: StripeApi, listable: Listable, shown: StripeObject) -> "Future[tuple[StripeObject | None, PageCost]]":
    if listable.retrieves:
        return threads.start(lambda: api.retrieve(listable, shown.id), "sequin-stripe")
    future: Future[tuple[StripeObject | None, PageCost]] = Future()
    future.set_result((shown, PageCost(requests=0)))
    return future


def _record(account: SourceAccount, collection_id: str, shown: StripeObject, found: StripeObject | None, *, at: int) -> bytes:
    if found is None:
        return write_tombstone(account, collection_id, shown, version=event_version(at), entered=at)
    return write_record(account, collection_id, found, version=event_version(at), entered=at)
