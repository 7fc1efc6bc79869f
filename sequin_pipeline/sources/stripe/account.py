"""This module reads one collection of one account: lists everything once, then follows events, and lists again in time.

The order of these reads, and what the cursor remembers of them, is decided here.
"""

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec.structs import replace

from sequin_pipeline.errors import SourceRefused
from sequin_pipeline.sources import NO_COST, Listed, Page, PageCost, TimeWindow
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.stripe.api import ListPage, StripeApi, StripeObject
from sequin_pipeline.sources.stripe.cursor import Listing, ListSlice, States, SyncState, Walk, write_cursor
from sequin_pipeline.sources.stripe.events import KEPT_SECONDS, OVERLAP_SECONDS, Changes, walk_events
from sequin_pipeline.sources.stripe.listing import list_ids, list_slices, slices_between
from sequin_pipeline.sources.stripe.objects import LISTABLE, TEST_CLOCK, TEST_CLOCKS, Listable
from sequin_pipeline.sources.stripe.records import listing_version, record_id, write_page, write_record, write_unreadable

LOGGER = logging.getLogger("sequin_pipeline.sources")

QUIET_SECONDS = 3600
"""While nothing happens, the cursor is moved this often, so that events never expire behind it."""


class AccountReader:
    """A reader reads one collection of one account once; `states` belongs to the whole cursor and is kept up to date."""

    def __init__(
        self,
        api: StripeApi,
        listable: Listable,
        collection_id: str,
        states: States,
        *,
        options: HttpOptions,
        relist_seconds: int,
    ) -> None:
        self._api = api
        self._listable = listable
        self._collection_id = collection_id
        self._states = states
        self._options = options
        self._relist_seconds = relist_seconds
        self._name = api.account.name
        self._notes = [f"Stripe API version {api.api_version}"]
        self._spent = NO_COST

    def live(self) -> Iterator[Page]:
        """Yields what the state does not know: everything, where it knows nothing."""
        state = self._states.get(self._name, SyncState())
        if state.listing is None and self._has_to_list(state):
            state = self._begin(state)
        if state.listing is not None:
            state = yield from self._list(state, state.listing)
        if self._listable.events:
            yield from self._follow_events(state)
        elif self._listable.filters_created:
            yield from self._list_new(state)

    def window(self, window: TimeWindow) -> Iterator[Page]:
        """Yields what was created in the window, as it is now, and also what does not tell its time, as if at the window's end."""
        started = self._look()[0]
        lower = None if window.start is None else int(window.start.timestamp())
        upper = min(int(window.end.timestamp()), started + 1)
        for page, _ in list_slices(self._api, self._listable, self._slices(lower, upper, self._clocks() or ())):
            within = [
                found
                for found in page.objects
                if found.created is None or ((lower is None or found.created >= lower) and found.created < upper)
            ]
            records = self._write_all(page, started, within, untimed=upper - 1)
            yield self._page(records, None, page.received_at, page.cost)

    def _has_to_list(self, state: SyncState) -> bool:
        """Returns True the first time, when the last listing is old enough, and after a gap in the events.

        Such a gap is then reported.
        """
        now = int(self._options.now().timestamp())
        if is_listing_due(self._listable, state, now=now, relist_seconds=self._relist_seconds):
            return True
        if not self._listable.events or state.walk is not None or state.known_until is None:
            return False
        gap = ""
        if now - state.known_until > KEPT_SECONDS:
            gap = f"events are known up to {_at(state.known_until)} only, and Stripe keeps them for 30 days"
        elif state.witness is not None and not self._is_known(state.witness):
            gap = f"event {state.witness!r}, which was seen last, is no longer there"
        if gap:
            self._say(f"{gap}: everything is listed again")
        return bool(gap)

    def _say(self, what: str) -> None:
        LOGGER.warning("stripe:%s of sync %r: %s", self._listable.name, self._name, what)
        self._notes.append(f"{self._name}: {what}")

    def _is_known(self, event_id: str) -> bool:
        is_known, cost = self._api.has_event(event_id)
        self._spent += cost
        return is_known

    def _begin(self, state: SyncState) -> SyncState:
        account, cost = self._api.account_id()
        self._spent += cost
        if account and state.account and account != state.account:
            raise SourceRefused(
                f"sync {self._name!r} has been filled from account {state.account!r}, but its key in {self._api.account.key_variable} "
                f"now belongs to {account!r}, so every row would look deleted: set the right key, or give the account a sync of its own"
            )
        started, witness = self._look()
        clocks = self._clocks()
        if clocks is None:
            self._notes.append(
                f"{self._name}: the key in {self._api.account.key_variable} may not list test clocks, so objects on them are not listed, "
                "and no object counts as deleted for being absent: let the key read them"
            )
        return replace(
            state,
            account=account or state.account,
            listing=Listing(started, self._slices(None, started + 1, clocks or ()), is_whole=clocks is not None),
            known_until=started,
            witness=witness,
            walk=None,
        )

    def _clocks(self) -> Sequence[str] | None:
        """Returns the account's test clocks where objects on them would not be listed otherwise, or None where the key may not list
        them."""
        if not (self._listable.hides_test_clocks and self._api.is_test_mode):
            return ()
        clocks, cost = list_ids(self._api, LISTABLE[TEST_CLOCKS])
        self._spent += cost
        return clocks

    def _slices(self, lower: int | None, upper: int, clocks: Sequence[str]) -> tuple[ListSlice, ...]:
        """Returns the slices of the time span and one for each test clock.

        A clock's slice has no end, since a clock may stand in the future, and then what is on it was created there.
        """
        slices = slices_between(self._listable, lower, upper)
        return (*slices, *(replace(slices[0], upper=None, variant=(TEST_CLOCK, clock)) for clock in clocks))

    def _look(self) -> tuple[int, str | None]:
        """Returns the second in which Stripe's clock stands before anything is listed, and an event that it knows."""
        if not self._listable.events:
            listed = self._api.list_page(self._listable, limit=1)
            self._spent += listed.cost
            return _second(listed.received_at), None
        page = self._api.event_page(self._listable, limit=1)
        self._spent += page.cost
        return _second(page.received_at), page.events[0].id if page.events else None

    def _list(self, state: SyncState, listing: Listing) -> Generator[Page, None, SyncState]:
        version = listing_version(listing.started)
        received_at = self._options.now()
        for page, remaining in list_slices(self._api, self._listable, listing.slices):
            received_at = page.received_at
            listing = replace(listing, slices=remaining, is_whole=listing.is_whole and not page.unreadable)
            state = replace(state, listing=listing)
            if page.unreadable:
                self._say("something in the list has no id and waits as a reject, so no object counts as deleted")
            ids = tuple(record_id(self._api.account, self._collection_id, found.id) for found in page.objects)
            records = self._write_all(page, listing.started, page.objects)
            listed = Listed(self._name, version, ids) if self._finds_unseen(listing) else None
            yield self._page(records, self._cursor(state), page.received_at, page.cost, listed=listed)
        state = replace(state, listing=None, listed=listing.started)
        complete = Listed(self._name, version, is_complete=True) if self._finds_unseen(listing) else None
        yield self._page([], self._cursor(state), received_at, NO_COST, listed=complete)
        return state

    def _finds_unseen(self, listing: Listing) -> bool:
        return self._listable.lists_all and listing.is_whole

    def _list_new(self, state: SyncState) -> Iterator[Page]:
        """Lists what has been created since, for objects that no event tells of."""
        started, known_until = self._look()[0], state.known_until or 0
        found_any = False
        since = slices_between(self._listable, known_until - OVERLAP_SECONDS, started + 1)
        for page, remaining in list_slices(self._api, self._listable, since):
            found_any = found_any or bool(page.objects)
            is_worth_moving = found_any or started - known_until >= QUIET_SECONDS
            reached = replace(state, known_until=started) if not remaining and is_worth_moving else state
            records = self._write_all(page, started, page.objects)
            yield self._page(records, self._cursor(reached), page.received_at, page.cost)

    def _follow_events(self, state: SyncState) -> Iterator[Page]:
        known_until = state.known_until or 0
        walk = state.walk
        started = walk.started if walk else None
        newest_at, newest = (walk.newest_at, walk.newest) if walk else (0, None)
        is_quiet = walk is None
        since = known_until - OVERLAP_SECONDS
        for changes in walk_events(
            self._api, self._listable, self._collection_id, since=since, after=walk.after if walk else None
        ):
            page = changes.page
            started = started or _second(page.received_at)
            for event in page.events:
                newest_at, newest = max((newest_at, newest or ""), (event.created, event.id))
            is_quiet = is_quiet and not page.events
            if page.has_more and page.events:
                state = replace(state, walk=Walk(started, page.events[-1].id, newest, newest_at))
            elif not is_quiet or started - known_until >= QUIET_SECONDS:
                state = replace(state, walk=None, known_until=started, witness=newest or state.witness)
            self._note_versions(changes)
            yield self._page(changes.records, self._cursor(state), page.received_at, changes.cost)

    def _note_versions(self, changes: Changes) -> None:
        others = {event.api_version for event in changes.page.events} - {None, self._api.api_version}
        for other in sorted(filter(None, others)):
            note = f"{self._name}: the account's own API version is {other}, and records are read at {self._api.api_version}"
            if note not in self._notes:
                LOGGER.info("%s", note)
                self._notes.append(note)

    def _page(
        self, records: list[bytes], cursor: str | None, received_at: datetime, cost: PageCost, *, listed: Listed | None = None
    ) -> Page:
        """Makes a page that carries the notes so far, and the cost of what was asked for beside pages since the last one."""
        notes, self._notes = tuple(self._notes), []
        spent, self._spent = self._spent, NO_COST
        return Page(write_page(records), cursor, received_at, spent + cost, listed=listed, notes=notes)

    def _write_all(
        self, page: ListPage, started: int, objects: Iterable[StripeObject], *, untimed: int | None = None
    ) -> list[bytes]:
        """Writes these objects of the page as the listing that began then saw them, and the rest of it as unreadable records.

        Each object entered the stream when it was created; where it does not tell that, in the second `untimed`, else when the listing
        began.
        """
        account, collection_id, version = self._api.account, self._collection_id, listing_version(started)
        otherwise = started if untimed is None else untimed
        records = [
            write_record(
                account, collection_id, found, version=version, entered=otherwise if found.created is None else found.created
            )
            for found in objects
        ]
        return [*records, *(write_unreadable(account, collection_id, raw) for raw in page.unreadable)]

    def _cursor(self, state: SyncState) -> str:
        self._states[self._name] = state
        return write_cursor(self._states)


def is_listing_due(listable: Listable, state: SyncState, *, now: int, relist_seconds: int) -> bool:
    """Says whether everything is listed next, as far as the state tells: for the first time, in time, or on from where a run ended."""
    if state.listing is not None or state.listed is None or state.known_until is None:
        return True
    return now - state.listed >= relist_seconds or not (listable.events or listable.filters_created)


def _second(moment: datetime) -> int:
    return int(moment.timestamp())


def _at(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"
