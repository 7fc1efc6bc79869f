"""This module reads one collection of an API once: its partitions, what is new in each, or everything that is there.

What is known of a partition is the newest version behind which nothing can be missing: page by page where the list comes in the order of
its versions; else only once it has been read to its end, and then not beyond the time at which that began.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

from sequin_pipeline.reads import Read
from sequin_pipeline.sources import NO_COST, PageCost, TimeWindow
from sequin_pipeline.sources.keyed.feed import Arrival, Reading
from sequin_pipeline.sources.keyed.shape import Found, Shape
from sequin_pipeline.sources.keyed.times import MICROSECOND, SKEW, micros
from sequin_pipeline.sources.rest.client import RestClient
from sequin_pipeline.sources.rest.details import Detail, DetailReader
from sequin_pipeline.sources.rest.fields import FieldNames
from sequin_pipeline.sources.rest.knowledge import Knowledge
from sequin_pipeline.sources.rest.lists import ListPage, ListReader
from sequin_pipeline.sources.rest.partitions import Partition, partitions_of
from sequin_pipeline.sources.rest.place import Place
from sequin_pipeline.sources.rest.refusals import Refusals
from sequin_pipeline.sources.rest.templates import (
    FIELDS,
    SINCE,
    UNTIL,
    after,
    before,
    first_moment,
    names_in,
    names_of,
    time_text,
)

DETAILS_A_RUN = 1_000
"""This many objects are asked for one by one in a run; the next run goes on with the others."""

TURN_SECONDS = 900
"""Where not all of them can be asked for in one run, the next ones have their turn this much later."""

GOLDEN = 0.6180339887498949
"""Steps of this part of a circle come to all of it, whatever multiple of a turn lies between two listings."""

DETAILS_TOGETHER = 50
"""After this many the place is remembered."""

_SKEW_MICROS = SKEW // MICROSECOND

Arrivals = Generator[Arrival, None, None]
Know = Callable[[int], None]
"""This callable takes note of a version up to which everything is known."""


class CollectionReading:
    """This reading of one collection is under way."""

    def __init__(
        self,
        client: RestClient,
        name: str,
        read: Read,
        paginator: Mapping[str, object],
        reading: Reading,
        *,
        environment: Mapping[str, str],
        details_a_run: int = DETAILS_A_RUN,
    ) -> None:
        self._client = client
        self._name = name
        self._read = read
        self._reading = reading
        self._environment = environment
        latest = micros(reading.started) + _SKEW_MICROS
        self._latest = latest
        self._known = Knowledge(reading.state, latest=latest)
        self._list = self._lister(read, paginator)
        changes = None if read.changes is None else replace(read.changes, version=read.changes.version or read.version)
        self._changes = changes
        self._changes_list = None if changes is None else self._lister(changes, changes.paginator or paginator)
        self._until = latest
        self._fields = FieldNames(client, read.fields, name)
        self._asked: set[tuple[str, int | None]] = set()
        self._details_a_run = details_a_run
        self._has_moved = False
        self._pages = self._partitions = 0

    def _lister(self, read: Read, paginator: Mapping[str, object]) -> ListReader:
        shape = replace(shape_of(self._read), version=read.version)
        return ListReader(self._client, read, read.paginator or paginator, shape, purpose=self._purpose(read.method, read.path))

    def _purpose(self, method: str, path: str) -> str:
        """Names templates only: values of a path or a query may be secrets."""
        return f"reading {self._name} ({method} {path.partition('?')[0]})"

    def news(self) -> Arrivals:
        """Yields what the state does not know."""
        known, lister, read = self._known, self._list, self._read
        is_by_changes = self._changes is not None and known.is_by_changes
        if self._changes is not None and self._changes_list is not None and is_by_changes:
            lister, read = self._changes_list, self._changes
        elif self._changes is not None:
            known.begin_list(micros(self._reading.started) - _SKEW_MICROS)
        refusals = Refusals()
        for partition in self._partitions_of(read):
            self._partitions += 1
            new = self._new_details if read.detail is not None else self._new_objects
            with refusals.of_one(self._partitions):
                ends_early = yield from new(lister, read, partition)
                if ends_early:
                    return
        refusals.end(self._partitions)
        if self._changes is not None and not is_by_changes:
            known.begin_changes(group.name for group in self._partitions_of(self._changes))
        yield Arrival(state=known.text(), notes=(self._summary("changes"),))

    def _new_objects(self, lister: ListReader, read: Read, partition: Partition) -> Generator[Arrival, None, bool]:
        earlier = self._known.of(partition.name, read)
        least, place = _least(read, earlier), Place(read, latest=self._latest)
        # The next run reads the whole of it where nothing bounds it.
        is_partial = lister.asks_since or read.is_descending or self._changes is not None
        for page in self._looks(lister, self._values(read, partition), _since(read, least), read, least, most=1 + is_partial):
            place.look(page)
            state = None
            if read.is_ascending and lister.asks_since:
                state = self._follow(partition, page, earlier)
            yield Arrival(page.elements, state, values=self._values_of(page, read), cost=page.cost)
        if place.reached is not None:
            self._known.know(partition.name, place.reached)
            yield Arrival(state=self._known.text())
        return False

    def _follow(self, partition: Partition, page: ListPage, earlier: int | None) -> bytes:
        """Returns the state behind a page of a list in the order of its versions."""
        self._known.follow(partition.name, page, earlier)
        newest = page.newest_until(self._latest)
        if newest is not None:
            self._known.know(partition.name, newest)
        return self._known.text()

    def _new_details(self, lister: ListReader, read: Read, partition: Partition) -> Generator[Arrival, None, bool]:
        """Asks for what has changed object by object, in the order of versions, so that the place can be remembered on the way."""
        name = partition.name
        earlier = self._known.of(name, read)
        least = _least(read, earlier)
        details = self._detail_reader(read, partition)
        if lister.asks_since and read.is_ascending:
            for page in self._counted(lister.pages(self._values(read, partition), _since(read, least))):
                self._known.follow(name, page, earlier)
                know = partial(self._known.know, name)
                ends_early = yield from self._ask(details, _wanted(details, page, least), earlier, know, page.cost)
                if ends_early:
                    return True
            return False
        found, place, cost = self._gather(lister, read, partition, details, least)
        return (
            yield from self._ask(details, found, earlier, lambda version: self._known.know(name, place.within(version)), cost)
        )

    def _gather(
        self, lister: ListReader, read: Read, partition: Partition, details: DetailReader, least: int | None
    ) -> tuple[list[Detail], "Place", PageCost]:
        """Returns what has changed in a list without the order of versions, the oldest first."""
        found: dict[str, Detail] = {}
        place, cost = Place(read, latest=self._latest), NO_COST
        for page in self._looks(lister, self._values(read, partition), _since(read, least), read, least):
            place.look(page)
            cost += page.cost
            found.update({detail.path: detail for detail in _wanted(details, page, least)})
        return sorted(found.values(), key=lambda detail: detail.version or 0), place, cost

    def _ask(
        self, details: DetailReader, wanted: Iterable[Detail], known: int | None, know: Know, cost: PageCost
    ) -> Generator[Arrival, None, bool]:
        """Asks for objects one by one; returns whether it left some to the next run, which it does only behind a newer version."""
        objects: list[bytes] = []
        for detail in wanted:
            if (detail.path, detail.version) in self._asked:
                continue
            if len(self._asked) >= self._details_a_run and self._has_moved:
                note = (
                    f"{len(self._asked):,} objects were asked for one by one, which is the most of one run: the next one goes on"
                )
                yield Arrival(objects, self._known.text(), ends_early=True, cost=cost, notes=(self._summary("changes"), note))
                return True
            body, spent = details.ask(detail)
            self._asked.add((detail.path, detail.version))
            objects += [] if body is None else [body]
            cost += spent
            if detail.version is not None and detail.version <= self._latest:
                know(detail.version)
                self._has_moved = self._has_moved or known is None or detail.version > known
            if len(objects) >= DETAILS_TOGETHER:
                yield Arrival(objects, self._known.text(), cost=cost)
                objects, cost = [], NO_COST
        yield Arrival(objects, self._known.text(), cost=cost)
        return False

    def _looks(
        self,
        lister: ListReader,
        values: Mapping[str, str],
        since: int,
        read: Read,
        least: int | None = None,
        *,
        most: int = 2,
    ) -> Iterator[ListPage]:
        """Yields the pages of a list: down to `least` where the newest comes first, and twice where they are counted.

        What leaves its place between two counted pages pushes another object out of sight; it is lost only if a second look misses it.
        """
        for _ in range(most):
            is_single = True
            for number, page in enumerate(self._counted(lister.pages(values, since))):
                yield page
                if read.is_descending and least is not None and page.is_before(least):
                    break
                # Below a page that ends with what is known there is nothing new that could be pushed.
                is_single &= number == 0 and not (page.has_next and page.is_behind(least))
            if is_single or not lister.is_positional or lister.is_asked_anew:
                return

    def listing(self) -> Arrivals:
        """Yields everything that is there; of objects that are asked for one by one mostly that they are."""
        found: dict[str, tuple[DetailReader, Detail]] = {}
        read = self._read
        for partition in self._partitions_of(read):
            self._partitions += 1
            details = None if read.detail is None else self._detail_reader(read, partition)
            known = self._known.of(partition.name, read) if self._list.asks_since else None
            for page in self._looks(self._list, self._values(read, partition), _since(read, known), read):
                if details is not None:
                    found.update({detail.path: (details, detail) for detail in details.of(page)})
                yield self._listed(page, partition)
        left = yield from self._ask_in_turn(list(found.values()))
        yield Arrival(notes=(self._summary("listing"), *left))

    def _ask_in_turn(self, found: list[tuple[DetailReader, Detail]]) -> Generator[Arrival, None, tuple[str, ...]]:
        """Asks for objects of a listing one by one, as many as a run may, and the next ones at the next listing; returns notes.

        Without versions nobody can say which of them have changed. With versions it brings back what was marked by mistake, and what
        was not there yet when it was asked for.
        """
        limit, turn = self._details_a_run, int(self._reading.started.timestamp()) // TURN_SECONDS
        at = turn * limit if self._read.version is None else int(turn * GOLDEN % 1 * len(found))
        first = at % len(found) if len(found) > limit else 0
        asked = (found[first:] + found[:first])[:limit]
        for details, detail in asked:
            yield from self._ask(details, [detail], None, lambda version: None, NO_COST)
        left = len(found) - len(asked)
        return (f"{left:,} of {len(found):,} objects are asked for by later runs",) if left else ()

    def _listed(self, page: ListPage, partition: Partition) -> Arrival:
        state = None
        if self._list.asks_since and self._read.is_ascending:
            state = self._follow(partition, page, None)
        if self._read.detail is not None:
            return Arrival(seen=page.elements, state=state, cost=page.cost)
        return Arrival(page.elements, state, values=page.values, cost=page.cost)

    def window(self, window: TimeWindow) -> Arrivals:
        """Yields what a time window holds, as far as the API can be asked; more may come."""
        lister, read = self._list, self._read
        if (
            not lister.asks_since
            and self._changes is not None
            and self._changes_list is not None
            and self._changes_list.asks_since
        ):
            lister, read = self._changes_list, self._changes
        # An object that was created in the window may have changed after it.
        self._until = after(micros(window.end), read.since) if self._read.created is None else self._until
        least = None if window.start is None else micros(window.start)
        for partition in self._partitions_of(read):
            self._partitions += 1
            if read.detail is not None:
                details = self._detail_reader(read, partition)
                found, _, cost = self._gather(lister, read, partition, details, least)
                self._details_a_run = len(self._asked) + len(found) + 1
                yield from self._ask(details, found, None, lambda version: None, cost)
                continue
            for page in self._looks(lister, self._values(read, partition), _since(read, least), read, least):
                yield Arrival(page.elements, values=self._values_of(page, read), cost=page.cost)
        yield Arrival(notes=(self._summary("window"),))

    def first_pages(self, most: int) -> Iterator[Callable[[], ListPage | None]]:
        """Yields, for each partition up to `most`, what asks for its first page; that raises SourceError."""
        for partition in self._partitions_of(self._read)[:most]:
            yield partial(self._first_page, partition)

    def _first_page(self, partition: Partition) -> ListPage | None:
        return next(self._list.pages(self._values(self._read, partition), first_moment(self._read.since)), None)

    def _partitions_of(self, read: Read) -> list[Partition]:
        """Returns one for each combination of the values that are asked for."""
        return partitions_of(self._read, self._environment, names=names_of(read) | names_in(read.detail or ""))

    def _values_of(self, page: ListPage, read: Read) -> Sequence[Found | None] | None:
        """Returns what has been read of the objects, None where their version stands elsewhere than in the list's."""
        return page.values if read.version == self._read.version else None

    def _counted(self, pages: Iterator[ListPage]) -> Iterator[ListPage]:
        for page in pages:
            self._pages += 1
            yield page

    def _detail_reader(self, read: Read, partition: Partition) -> DetailReader:
        template = read.detail or ""
        values = dict(partition.values)
        if FIELDS in names_in(template):
            values[FIELDS] = self._fields.of(partition.values)
        return DetailReader(self._client, template, values, self._read.key, purpose=self._purpose("GET", template))

    def _summary(self, what: str) -> str:
        told = [f"{self._partitions:,} partitions" if self._partitions != 1 else "1 partition"]
        told.append(f"{self._pages:,} pages" if self._pages != 1 else "1 page")
        if self._asked:
            told.append(f"{len(self._asked):,} objects asked for one by one")
        return f"{what}: {', '.join(told)}"

    def _values(self, read: Read, partition: Partition) -> Mapping[str, str]:
        values = {**partition.values, UNTIL: time_text(self._until, read.since)}
        if FIELDS in names_of(read):
            values[FIELDS] = self._fields.of(partition.values)
        return values


def shape_of(read: Read) -> Shape:
    """Returns how the objects of a list tell their keys, as declared."""
    can_go_on = read.is_ascending and read.version is not None and SINCE in names_of(read)
    return Shape(read.key, read.version, read.created, read.deleted, resumes_listings=can_go_on)


def _least(read: Read, known: int | None) -> int | None:
    """Returns the least version that may be new."""
    return None if known is None else known - read.since.lookback_seconds * 1_000_000


def _since(read: Read, least: int | None) -> int:
    """Returns from when on a list is asked for; never from before 1970 without being told to, which some APIs refuse."""
    first = first_moment(read.since)
    return first if least is None else max(min(first, 0), before(least, read.since))


def _wanted(details: DetailReader, page: ListPage, least: int | None) -> list[Detail]:
    return [detail for detail in details.of(page) if detail.version is None or least is None or detail.version >= least]
