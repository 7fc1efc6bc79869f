"""First loads that are divided: any order, kill and repetition of the shards ends in the table of one stream, and nothing is lost."""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import RunFenced, SourceFault, SourceUnavailable
from sequin_pipeline.ledger.quiet import NothingNew, remember_nothing_new
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.first_load import read_collection
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity, SyncListing
from tests.support.builders import collection, live_run_config, record
from tests.support.reading import query

NOW = datetime(2026, 11, 1, tzinfo=UTC)
"""By the source's clock, when a load begins."""

DIVIDED = replace(collection(), shards=3)


@dataclass
class SyncsSource:
    """A compacted stream of several syncs, that can be asked for one; a cursor is a position. Whoever reads may be told to break off.

    `happens` is called after each page, as what goes on at the source meanwhile.
    """

    page_records: int = 2
    identity: SourceIdentity = field(default_factory=lambda: SourceIdentity("syncs", "http://demo"))
    can_reread: bool = True
    observes_time: bool = False
    entries: dict[str, tuple[int, dict[str, object]]] = field(default_factory=dict)
    unlisted: frozenset[str] = frozenset()
    lists: bool = True
    filters: bool = True
    breaks_after: int | None = None
    requests: list[ReadRequest] = field(default_factory=list)
    happens: list[tuple[str, str, datetime]] = field(default_factory=list)
    listings: int = 0
    positions: Iterator[int] = field(default_factory=lambda: count(1))

    def put(self, record_id: str, sync_id: str, at: datetime, *, deleted: bool = False) -> None:
        """The newest version of the record is of that sync, and stands at the end."""
        position = next(self.positions)
        sync: dict[str, object] = {"id": sync_id, "external_id": None, "metadata": {}}
        entry = record(record_id, position, sync=sync, inserted_at=at.isoformat(), deleted=deleted)
        self.entries.pop(record_id, None)
        self.entries[record_id] = (position, entry)

    @property
    def now(self) -> datetime:
        """By the source's clock, nothing that has entered the stream is of the future."""
        return max([NOW, *(datetime.fromisoformat(str(entry["inserted_at"])) for _, entry in self.entries.values())])

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        self.requests.append(request)
        after = int(request.after or 0)
        while True:
            if self.breaks_after is not None:
                self.breaks_after -= 1
                if self.breaks_after < 0:
                    raise SourceUnavailable("the source of this test broke off")
            wanted = request.sync_ids if self.filters else None
            following = [
                (position, entry)
                for position, entry in sorted(self.entries.values(), key=lambda one: one[0])
                if position > after and (wanted is None or _sync_of(entry) in wanted)
            ][: self.page_records]
            if not following:
                yield Page(b"[]", None, self.now)
                return
            after = following[-1][0]
            yield Page(json.dumps([entry for _, entry in following]).encode(), str(after), self.now)
            if self.happens:
                self.put(*self.happens.pop(0))

    def list_syncs(self, collection_id: str) -> SyncListing | None:
        self.listings += 1
        listed = {_sync_of(entry) for _, entry in self.entries.values()} - self.unlisted
        return SyncListing(tuple(sorted(listed)), self.now) if self.lists else None

    def committed(self, cursor: str) -> None: ...

    def head(self, collection_id: str) -> str | None:
        return None

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        return ()

    def collection_ids(self) -> frozenset[str] | None:
        return None


def _sync_of(entry: dict[str, object]) -> str:
    sync = entry["sync"]
    assert isinstance(sync, dict)
    return str(sync["id"])


def filled(*syncs: str, each: int = 5) -> SyncsSource:
    """A source in which records of the syncs take turns, one each day."""
    source = SyncsSource()
    for number in range(each * len(syncs)):
        source.put(f"r{number:02}", syncs[number % len(syncs)], NOW - timedelta(days=100 - number))
    return source


def read(
    url: str, source: SyncsSource, *, shard: int | None = None, run_id: str = "run", of: Collection = DIVIDED
) -> SyncOutcome:
    run_config = replace(live_run_config(of), only_shard=shard)
    return read_collection(RecordStream(run_config, source), Warehouse(url), run_id=run_id, batch_records=2)


def table_of(url: str) -> list[tuple[object, ...]]:
    return query(url, "select id, sync_id, updated_idx, deleted from demo.thing order by id")


def stands_in(source: SyncsSource) -> list[tuple[object, ...]]:
    return sorted((name, _sync_of(entry), position, entry["deleted"]) for name, (position, entry) in source.entries.items())


def cursors(url: str) -> list[tuple[object, ...]]:
    return query(url, "select shard, cursor from sequin_pipeline.cursors order by 1")


def test_the_shards_read_their_syncs_and_the_last_one_goes_on_as_a_live_run(warehouse_url: str) -> None:
    source = filled("a", "b", "c", "d")

    first = read(warehouse_url, source, shard=2, run_id="two")
    second = read(warehouse_url, source, shard=1, run_id="one")
    assert (first.is_partial, second.is_partial) == (True, True)
    assert first.notes == ("of 3 shards of the first load, numbers 1, 3 are left",)
    assert second.notes == ("of 3 shards of the first load, number 3 is left",)
    assert query(warehouse_url, "select shard, syncs, completed_at is null from sequin_pipeline.shards order by 1") == [
        (1, ["a", "d"], False),
        (2, ["b"], False),
        (3, ["c"], True),
    ]
    last = read(warehouse_url, source, shard=3, run_id="three")

    assert not last.is_partial
    assert (first.counts.inserted, second.counts.inserted, last.counts.inserted) == (5, 10, 5)
    assert table_of(warehouse_url) == stands_in(source)
    assert cursors(warehouse_url) == [(0, "20")]
    assert query(warehouse_url, "select count(*) from sequin_pipeline.shards") == [(0,)]
    assert query(warehouse_url, "select mode, count(*) from sequin_pipeline.runs group by 1 order by 1") == [
        ("live", 1),
        ("load", 2),
    ]


def test_a_run_without_a_number_reads_all_shards_that_are_left(warehouse_url: str) -> None:
    source = filled("a", "b", "c")
    read(warehouse_url, source, shard=2, run_id="two")
    source.requests.clear()

    outcome = read(warehouse_url, source)

    assert (outcome.is_partial, outcome.counts.inserted) == (False, 10)
    assert [request.sync_ids for request in source.requests] == [frozenset({"a"}), frozenset({"c"}), None]
    assert table_of(warehouse_url) == stands_in(source)


def test_a_collection_that_was_loaded_is_read_as_ever(warehouse_url: str) -> None:
    source = filled("a", "b")
    read(warehouse_url, source)
    source.put("new", "z", NOW + timedelta(minutes=5))
    source.requests.clear()

    late = read(warehouse_url, source, shard=1, run_id="late")
    outcome = read(warehouse_url, source, run_id="next")

    assert (late.is_partial, late.counts.fetched) == (True, 0)
    assert (outcome.is_partial, outcome.counts.inserted) == (False, 1)
    assert [(request.after, request.sync_ids) for request in source.requests] == [("10", None)]


@pytest.mark.parametrize(
    "happens", ["a sync appears", "a record moves to another sync", "a record is deleted", "a record changes"]
)
@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)], ids=str)
def test_what_happens_during_the_load_is_read_behind_it(warehouse_url: str, happens: str, order: Sequence[int]) -> None:
    source = filled("a", "b", "c")
    for number, shard in enumerate(order):
        read(warehouse_url, source, shard=shard, run_id=f"shard {shard}")
        at = NOW + timedelta(seconds=number)
        if happens == "a sync appears":
            source.put(f"new{number}", "new", at)
        elif happens == "a record moves to another sync":
            source.put("r00", "abc"[number], at)
        else:
            source.put("r01", "b", at, deleted=happens == "a record is deleted")

    read(warehouse_url, source, run_id="next")

    assert table_of(warehouse_url) == stands_in(source)


Step = tuple[str, int | str | None, int | str | None]

steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.sampled_from([1, 2, 3, None]), st.one_of(st.none(), st.integers(0, 6))),
        st.tuples(
            st.just("put"), st.sampled_from(["r00", "r04", "r09", "new", "other"]), st.sampled_from(["a", "b", "c", "d", "e"])
        ),
    ),
    max_size=6,
)


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=steps, meanwhile=st.lists(st.sampled_from(["r01", "r05", "fresh"]), max_size=4))
def test_any_order_of_runs_that_break_off_ends_in_the_table_of_one_stream(
    warehouse_url: str, history: list[Step], meanwhile: list[str]
) -> None:
    with Warehouse(warehouse_url).connect() as connection:
        connection.execute("drop schema if exists demo cascade")
        connection.execute("delete from sequin_pipeline.tables")
    source = filled("a", "b", "c", "d", each=3)
    source.happens = [(name, "e", NOW + timedelta(seconds=number)) for number, name in enumerate(meanwhile)]
    runs = count()
    for number, (kind, what, how) in enumerate(history):
        if kind == "put":
            source.put(str(what), str(how), NOW + timedelta(minutes=1, seconds=number))
            continue
        source.breaks_after = None if how is None else int(how)
        with suppress(SourceUnavailable):
            read(warehouse_url, source, shard=None if what is None else int(what), run_id=f"run {next(runs)}")
    source.breaks_after = None

    for shard in (2, 3, 1, None):
        read(warehouse_url, source, shard=shard, run_id=f"run {next(runs)}")

    assert table_of(warehouse_url) == stands_in(source)
    assert [shard for shard, _ in cursors(warehouse_url)] == [0]


def test_of_runs_that_begin_together_one_asks_what_to_divide_by(warehouse_url: str) -> None:
    source, together = filled("a", "b", "c"), Barrier(3)

    def run(shard: int) -> None:
        together.wait()
        read(warehouse_url, source, shard=shard, run_id=f"run {shard}")

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(run, (1, 2, 3)))

    assert (source.listings, source.requests.count(ReadRequest(frozenset({"demo:thing"})))) == (1, 1)
    assert table_of(warehouse_url) == stands_in(source)


def test_a_run_that_breaks_off_before_it_has_divided_leaves_that_to_the_next(warehouse_url: str) -> None:
    source = filled("a", "b", "c")
    source.breaks_after = 0

    with pytest.raises(SourceUnavailable):
        read(warehouse_url, source, shard=1)
    source.breaks_after = None
    for shard in (2, 1, 3):
        read(warehouse_url, source, shard=shard)

    assert source.listings == 2
    assert table_of(warehouse_url) == stands_in(source)


def test_a_shard_that_broke_off_goes_on_where_it_was(warehouse_url: str) -> None:
    source = filled("a", "b", "c", "d")
    source.breaks_after = 6  # the look at the first page, the three of sync a, and two of sync d
    with pytest.raises(SourceUnavailable):
        read(warehouse_url, source, shard=1)
    assert cursors(warehouse_url) == [(1, '["d","8"]')]
    source.breaks_after = None
    source.requests.clear()

    outcome = read(warehouse_url, source, shard=1, run_id="again")

    assert [(request.after, request.sync_ids) for request in source.requests] == [("8", frozenset({"d"}))]
    assert outcome.counts.inserted == 3


def test_a_second_run_of_a_shard_stops_the_first(warehouse_url: str) -> None:
    source = filled("a", "b", "c")
    source.breaks_after = 3
    with pytest.raises(SourceUnavailable):
        read(warehouse_url, source, shard=1)
    source.breaks_after = None

    class Overtaken(SyncsSource):
        def pages(self, request: ReadRequest) -> Iterator[Page]:
            pages = super().pages(request)
            yield next(pages)
            if request.sync_ids == frozenset({"a"}):
                read(warehouse_url, source, shard=1, run_id="second")
            yield from pages

    with pytest.raises(RunFenced):
        read(warehouse_url, Overtaken(entries=source.entries), shard=1, run_id="first")

    assert query(warehouse_url, "select count(*) from demo.thing where sync_id = 'a'") == [(5,)]


@pytest.mark.parametrize(("then", "loaded_by"), [(5, [1, 2, 3]), (2, [1, 2, 3]), (1, [None])], ids=["more", "fewer", "one"])
def test_a_change_of_the_number_ends_the_load_as_it_was_begun_or_reads_one_stream(
    warehouse_url: str, then: int, loaded_by: list[int | None]
) -> None:
    source = filled("a", "b", "c")
    read(warehouse_url, source, shard=2, run_id="before")

    for shard in loaded_by:
        read(warehouse_url, source, shard=shard, run_id=f"after {shard}", of=replace(DIVIDED, shards=then))

    assert table_of(warehouse_url) == stands_in(source)
    assert cursors(warehouse_url)[0] == (0, "15")
    with Warehouse(warehouse_url).connect() as connection:
        # What a load left that was not ended is not taken for the live cursor.
        asked = NothingNew("demo.thing", f"after {loaded_by[-1]}", "15")
        assert remember_nothing_new(connection, [asked]) == {"demo.thing"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        pytest.param({"lists": False}, "lists no syncs", id="no listing"),
        pytest.param({"unlisted": frozenset({"b", "c"})}, "has 1 sync of it", id="one sync"),
        pytest.param(
            {"unlisted": frozenset({"a"})}, "has records of syncs that it does not list", id="a sync that is not listed"
        ),
    ],
)
def test_a_source_that_cannot_be_divided_is_read_as_one_stream_by_the_first_run(
    warehouse_url: str, source: dict[str, object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    undivided = replace(filled("a", "b", "c"), **source)  # type: ignore[arg-type]  # each row sets one field

    second = read(warehouse_url, undivided, shard=2, run_id="two")
    first = read(warehouse_url, undivided, shard=1, run_id="one")

    assert (second.is_partial, second.counts.fetched, first.is_partial) == (True, 0, False)
    assert table_of(warehouse_url) == stands_in(undivided)
    assert f"demo/thing: its first load is read as one stream and not as 3, since the source {said}" in caplog.messages


def test_a_source_that_gives_other_syncs_than_it_was_asked_for_is_refused(warehouse_url: str) -> None:
    source = replace(filled("a", "b", "c"), filters=False)

    with pytest.raises(
        SourceFault, match=re.escape("reading sync 'a' of 'demo/thing' by itself, the source gave records of sync 'b'")
    ):
        read(warehouse_url, source, shard=1)


def test_a_full_refresh_forgets_the_shards_and_reads_one_stream(warehouse_url: str) -> None:
    source = filled("a", "b", "c")
    read(warehouse_url, source, shard=2, run_id="two")
    run_config = live_run_config(DIVIDED, full_refresh=True)

    read_collection(RecordStream(run_config, source), Warehouse(warehouse_url), run_id="refresh")

    assert table_of(warehouse_url) == stands_in(source)
    assert cursors(warehouse_url) == [(0, "15")]
    assert query(warehouse_url, "select count(*) from sequin_pipeline.shards") == [(0,)]
