"""A run of a queue: what is acknowledged is stored, what is not comes again, and nothing is lost between the two."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import LedgerRefused, SourceRefused, TableRefused, TooManyRejects, WarehouseError
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.undeclared import UNNAMED, undeclared_labels
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import check_rejects, run_sync
from sequin_pipeline.runs.queue_run import DrainLimits, DrainOutcome, drain
from sequin_pipeline.runs.replay_rejects import replay
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources import Page, ReadRequest, Source
from tests.sandbox.builders import client
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.forked import Parent
from tests.support.queues import ListQueue, feed_of, lines_of, other, queue_of
from tests.support.reading import execute, ids_and_versions, merges, query, row_count, terminate
from tests.support.waits import PATIENCE_SECONDS, wait_until

THING, OTHER = collection(), collection(name="other", table="demo.other")
KINDS = ("consumer", "stream")


def run(url: str, source: Source, *collections: Collection, run_id: str = "run", **options: object) -> DrainOutcome:
    return drain(source, collections or (THING, OTHER), Warehouse(url), run_id=run_id, **options)  # type: ignore[arg-type]  # as named


def open_rejects(url: str) -> list[tuple[object, ...]]:
    """Table or label, record id and class of every record that waits."""
    return query(
        url,
        "select table_name, record_id, class from sequin_pipeline.rejects where resolved_at is null order by table_name, record_id",
    )


def test_every_share_of_a_delivery_lands_in_its_own_table_before_it_is_acknowledged(warehouse_url: str) -> None:
    queue = ListQueue([[record("a", 1), other("b", 1), record("c", 1)], [record("a", 2), other("b", 2, deleted=True)]])

    outcome = run(warehouse_url, queue)

    assert ids_and_versions(warehouse_url) == [("a", 2, False), ("c", 1, False)]
    assert ids_and_versions(warehouse_url, "demo.other") == [("b", 2, True)]
    assert (queue.acknowledged, queue.given_back) == ([0, 1], [])
    assert outcome.collections["demo/thing"].counts == Counts(fetched=3, inserted=2, updated=1, created=2)
    assert outcome.collections["demo/other"].counts == Counts(fetched=2, inserted=1, deleted=1, created=1)
    assert (outcome.undeclared, outcome.reached_end) == ({}, True)


def test_the_objects_of_a_page_of_several_collections_are_stored_byte_for_byte(warehouse_url: str) -> None:
    """Numbers beyond a double's digits must not pass through Python's."""
    exact = lines_of(record("a", 1, data={"n": "PLACE"}))[0].replace(b'"PLACE"', b"199.990000000000000000000001")
    with running_sandbox(RecordedFeed([exact, *lines_of(other("b"))])) as url:
        run(warehouse_url, queue_of("consumer", url))

    assert query(warehouse_url, "select data::text from demo.thing") == [('{"n": 199.990000000000000000000001}',)]


def test_a_queue_has_no_live_cursor_no_windows_and_no_positions(warehouse_url: str) -> None:
    outcome = run(warehouse_url, ListQueue([[record("a")], [record("b")]]))

    assert query(warehouse_url, "select count(*) from sequin_pipeline.cursors") == [(0,)]
    assert query(warehouse_url, "select count(*) from sequin_pipeline.positions") == [(0,)]
    assert query(warehouse_url, "select distinct mode, window_key, cursor_after from sequin_pipeline.merges") == [
        ("live", "", None)
    ]
    assert outcome.collections["demo/thing"].cursor is None


def test_a_run_ends_at_its_limit_of_records_and_leaves_the_rest_to_the_next(warehouse_url: str) -> None:
    queue = ListQueue([[record("a"), other("b")], [record("c")]])

    outcome = run(warehouse_url, queue, limits=DrainLimits(max_records=2))

    assert (queue.acknowledged, queue.given_back, outcome.reached_end) == ([0], [], False)


def test_undeclared_records_count_towards_the_limit(warehouse_url: str) -> None:
    queue = ListQueue([[record("a", collection_id="demo:unknown")], [record("c")]])

    run(warehouse_url, queue, limits=DrainLimits(max_records=1))

    assert queue.acknowledged == [0]


def test_a_run_ends_at_its_limit_of_time(warehouse_url: str) -> None:
    queue, seconds = ListQueue([[record("a")], [record("b")], [record("c")]]), iter([0.0, 30.0, 60.0])

    outcome = run(warehouse_url, queue, limits=DrainLimits(max_seconds=60), clock=lambda: next(seconds))

    assert (queue.acknowledged, outcome.reached_end) == ([0, 1], False)
    assert queue.given_back == [2], "it had been asked for, and is another run's"


def test_the_next_delivery_is_asked_for_while_the_last_one_is_being_stored(warehouse_url: str) -> None:
    class AskedAhead(ListQueue):
        """Takes the second acknowledgement once the third delivery is on its way."""

        def __init__(self, deliveries: list[list[dict[str, object]]]) -> None:
            super().__init__(deliveries)
            self.is_asked = threading.Event()

        def pages(self, request: ReadRequest) -> Iterator[Page]:
            for page in super().pages(request):
                if page.cursor == "2":
                    self.is_asked.set()
                yield page

        def committed(self, cursor: str) -> None:
            assert cursor != "1" or self.is_asked.wait(PATIENCE_SECONDS), "the third delivery was not asked for"
            super().committed(cursor)

    queue = AskedAhead([[record("a")], [record("b")], [record("c")]])

    outcome = run(warehouse_url, queue)

    assert (queue.acknowledged, queue.given_back, outcome.reached_end) == ([0, 1, 2], [], True)


def test_a_delivery_that_cannot_be_stored_is_given_back_with_the_one_that_was_asked_for_meanwhile(warehouse_url: str) -> None:
    run(warehouse_url, ListQueue([]))
    execute(
        warehouse_url,
        "create function demo.refuse() returns trigger language plpgsql as $$ begin raise 'no room' using errcode = '53100'; end $$",
        "create trigger refuse before insert on demo.other for each row execute function demo.refuse()",
    )
    queue = ListQueue([[record("a")], [other("b")], [record("c")], [record("d")]])

    with pytest.raises(WarehouseError, match="no room"):
        run(warehouse_url, queue)

    assert (queue.acknowledged, queue.given_back) == ([0], [1, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_consumer_that_gives_one_delivery_before_it_is_acknowledged_is_drained_to_its_end(
    warehouse_url: str, kind: str
) -> None:
    """While 1,000 messages are unacknowledged it answers that there is nothing, as at its end."""
    records = [record(f"r{number:04}") for number in range(3_500)]
    with running_sandbox(feed_of(*records), Settings(max_ack_pending=1_000)) as url:
        outcome = run(warehouse_url, queue_of(kind, url))

    assert counts_of(outcome)["demo/thing"] == Counts(fetched=3_500, inserted=3_500, created=3_500)
    assert outcome.reached_end


def test_all_collections_of_a_queue_are_written_over_one_connection(warehouse_url: str) -> None:
    connections = []

    class Watched(ListQueue):
        def committed(self, cursor: str) -> None:
            super().committed(cursor)
            [(count,)] = query(
                warehouse_url,
                "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'sequin_pipeline'",
            )
            connections.append(count)

    run(warehouse_url, Watched([[record("a"), other("b")], [record("c"), other("d")]]))

    assert connections == [1, 1]
    assert (row_count(warehouse_url), row_count(warehouse_url, "demo.other")) == (2, 2)


def test_a_connection_that_was_lost_between_two_deliveries_is_replaced_for_all_collections(warehouse_url: str) -> None:
    class Cutting(ListQueue):
        def committed(self, cursor: str) -> None:
            super().committed(cursor)
            terminate(warehouse_url, "datname = current_database() and application_name = 'sequin_pipeline'")

    run(warehouse_url, Cutting([[record("a"), other("b")], [record("c"), other("d")]]))

    assert (row_count(warehouse_url), row_count(warehouse_url, "demo.other")) == (2, 2)


@pytest.mark.parametrize(
    ("inserted_at", "acknowledged"),
    [
        pytest.param("2030-01-01T00:30:00Z", [0, 1], id="after the run began"),
        pytest.param("2030-01-01T00:00:00Z", [0, 1, 2], id="when it began"),
        pytest.param("2030-01-01T01:00:01Z", [0, 1, 2], id="long after its own answer: clocks that cannot be believed"),
        pytest.param(None, [0, 1, 2], id="nobody knows when"),
    ],
)
def test_a_run_ends_when_a_delivery_holds_only_what_came_after_it_had_begun(
    warehouse_url: str, inserted_at: str | None, acknowledged: list[int]
) -> None:
    """The queue in memory answers at the beginning of 2030."""
    newer = [record("b", inserted_at=inserted_at), other("c", inserted_at=inserted_at)]

    outcome = run(warehouse_url, queue := ListQueue([[record("a")], newer, [record("d")]]))

    assert queue.acknowledged == acknowledged
    assert (outcome.reached_end, queue.given_back) == (True, [])


def test_lag_is_the_age_of_the_last_record_when_the_limit_ends_a_run_and_none_at_the_end_of_the_queue(warehouse_url: str) -> None:
    an_hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    queue = ListQueue([[record("a", inserted_at=an_hour_ago)], [record("b")]])

    limited = run(warehouse_url, queue, limits=DrainLimits(max_records=1)).collections["demo/thing"].lag_seconds
    whole = run(warehouse_url, queue).collections["demo/thing"].lag_seconds

    assert limited is not None
    assert 3600 <= limited < 3700
    assert whole == 0.0


def test_a_table_that_is_refused_stops_the_run_before_anything_is_asked_of_the_queue(warehouse_url: str) -> None:
    execute(warehouse_url, "create schema demo", "create table demo.other (id text primary key)")
    queue = ListQueue([[record("a")]])

    with pytest.raises(TableRefused, match=r"demo\.other"):
        run(warehouse_url, queue)

    assert (queue.acknowledged, queue.given_back) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_delivery_of_which_one_share_cannot_be_committed_is_given_back_whole(warehouse_url: str, kind: str) -> None:
    """The other share is there already; when the delivery comes again it is known, and nothing is written twice."""
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        run(warehouse_url, queue_of(kind, url), run_id="empty")
        execute(
            warehouse_url,
            "create function demo.refuse() returns trigger language plpgsql as $$ begin raise 'no room' using errcode = '53100'; end $$",
            "create trigger refuse before insert on demo.other for each row execute function demo.refuse()",
        )
        http.post("/_sandbox/records", content=b"\n".join(lines_of(record("a"), other("b"))))
        with pytest.raises(WarehouseError, match="no room"):
            run(warehouse_url, queue_of(kind, url), run_id="broken")
        execute(warehouse_url, "drop trigger refuse on demo.other")
        again = run(warehouse_url, queue_of(kind, url), run_id="again")

    assert counts_of(again) == {
        "demo/thing": Counts(fetched=1, unchanged=1),
        "demo/other": Counts(fetched=1, inserted=1, created=1),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_killed_between_commit_and_acknowledgement_loses_nothing_and_writes_nothing_twice(
    warehouse_url: str, processes: Parent, kind: str
) -> None:
    with running_sandbox(RecordedFeed(), Settings(ack_wait_ms=1_000)) as url, client(url) as http:
        run(warehouse_url, queue_of(kind, url), run_id="empty")
        http.post("/_sandbox/faults", json={"faults": ["status:503,path=/ack"]})
        http.post("/_sandbox/records", content=b"\n".join(lines_of(record("a"), other("b"))))
        with processes.start("tests.runs.queue_process", warehouse_url, url, kind):
            wait_until(
                lambda: sum(counts.get("fetched", 0) for counts in merges(warehouse_url)) == 2, "both shares to be committed"
            )
        http.delete("/_sandbox/faults")
        before = rows(warehouse_url)
        wait_until(
            lambda: bool(run(warehouse_url, queue_of(kind, url), run_id="again").collections["demo/thing"].pages),
            "the redelivery",
        )

    assert rows(warehouse_url) == before
    assert merges(warehouse_url, "again") == [{"fetched": 1, "unchanged": 1}] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_acknowledgement_whose_answer_is_lost_is_sent_again_and_counts_once(warehouse_url: str, kind: str) -> None:
    with running_sandbox(feed_of(record("a")), Settings(faults=("reset-before,path=/ack,at=1",))) as url:
        first, second = run(warehouse_url, queue_of(kind, url)), run(warehouse_url, queue_of(kind, url))

    assert counts_of(first)["demo/thing"] == Counts(fetched=1, inserted=1, created=1)
    assert counts_of(second)["demo/thing"] == Counts()


@pytest.mark.parametrize("kind", KINDS)
def test_a_queue_that_refuses_the_acknowledgement_fails_the_run_after_the_rows_are_there(warehouse_url: str, kind: str) -> None:
    with running_sandbox(feed_of(record("a")), Settings(faults=("status:403,path=/ack,at=1",))) as url:
        with pytest.raises(SourceRefused, match="status 403"):
            run(warehouse_url, queue_of(kind, url), run_id="refused")
        again = run(warehouse_url, queue_of(kind, url), run_id="again")

    assert counts_of(again)["demo/thing"] == Counts(fetched=1, unchanged=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_poison_record_is_kept_and_acknowledged_and_stops_none_of_the_others(warehouse_url: str, kind: str) -> None:
    records = [record(f"r{number}") for number in range(3)] + [record("bad", data={"status": "a\u0000b", "amount": "many"})]
    with running_sandbox(feed_of(*records)) as url:
        first, second = run(warehouse_url, queue_of(kind, url)), run(warehouse_url, queue_of(kind, url))

    assert counts_of(first)["demo/thing"] == Counts(fetched=4, inserted=3, rejected=1, created=3)
    assert [waiting[2] for waiting in open_rejects(warehouse_url)] == ["value"]
    assert counts_of(second)["demo/thing"] == Counts()


def test_a_run_that_rejected_too_much_says_so_for_that_collection_after_everything_was_acknowledged(warehouse_url: str) -> None:
    queue = ListQueue([[record("a", updated_idx="x"), other("b")]])

    outcomes = run(warehouse_url, queue).collections

    assert queue.acknowledged == [0]
    check_rejects(OTHER, outcomes["demo/other"])
    with pytest.raises(TooManyRejects, match="1 of 1 records of 'demo/thing'"):
        check_rejects(THING, outcomes["demo/thing"])


@pytest.mark.parametrize("kind", KINDS)
def test_two_workers_drain_one_queue_beside_each_other_and_share_its_records(warehouse_url: str, kind: str) -> None:
    records = [(record if number % 2 else other)(f"r{number}", number) for number in range(3_000)]
    with running_sandbox(feed_of(*records), Settings(max_ack_pending=5_000)) as url, ThreadPoolExecutor(2) as workers:
        drained = [workers.submit(run, warehouse_url, queue_of(kind, url), run_id=f"worker-{name}") for name in "ab"]
        outcomes = [worker.result() for worker in drained]

    fetched = [sum(counts.fetched for counts in counts_of(outcome).values()) for outcome in outcomes]
    assert sum(fetched) == 3_000
    assert min(fetched) >= 1_000
    assert (row_count(warehouse_url), row_count(warehouse_url, "demo.other")) == (1_500, 1_500)


def test_records_of_undeclared_collections_wait_as_rejects_before_they_are_acknowledged(warehouse_url: str) -> None:
    unknown, nameless = record("u", 7, collection_id="demo:later"), {"id": "n", "data": {}}
    queue = ListQueue([[record("a"), unknown, nameless]])

    outcome = run(warehouse_url, queue)

    assert queue.acknowledged == [0]
    assert outcome.undeclared == {UNNAMED: 1, "demo/later": 1}
    assert open_rejects(warehouse_url) == [(UNNAMED, "n", "undeclared"), ("demo/later", "u", "undeclared")]
    assert query(warehouse_url, "select raw, version from sequin_pipeline.rejects where label = 'demo/later'") == [
        (json.dumps(unknown).encode(), 7)
    ]
    with Warehouse(warehouse_url).connect() as connection:
        assert undeclared_labels(connection) == [UNNAMED, "demo/later"]


def test_an_undeclared_record_that_comes_again_is_seen_again_and_kept_once(warehouse_url: str) -> None:
    unknown = record("u", 7, collection_id="demo:later")

    run(warehouse_url, ListQueue([[unknown], [unknown]]))

    assert query(warehouse_url, "select label, seen from sequin_pipeline.rejects") == [("demo/later", 2)]


@pytest.mark.parametrize("starts_from", ["queue", "replay alone"])
def test_records_that_waited_undeclared_are_put_in_by_a_replay_once_the_collection_is_declared(
    warehouse_url: str, starts_from: str
) -> None:
    later = collection(name="later", table="demo.elsewhere")
    old, new = record("u", 7, collection_id="demo:later"), record("u", 9, collection_id="demo:later")
    run(warehouse_url, ListQueue([[old, new]]))
    run(
        warehouse_url,
        ListQueue([[record("w", 1, collection_id="demo:later")] if starts_from == "queue" else []]),
        later,
        run_id="declared",
    )
    waiting = open_rejects(warehouse_url)

    counts = replay(Warehouse(warehouse_url), later, Ledger("demo.elsewhere", "demo/later"), run_id="replay")

    assert waiting == [("demo.elsewhere", "u", "undeclared")] * 2
    assert (counts.fetched, counts.inserted, counts.duplicate) == (2, 1, 1)
    assert ("u", 9, False) in ids_and_versions(warehouse_url, "demo.elsewhere")
    assert open_rejects(warehouse_url) == []


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'"no object"', id="no object"),
        pytest.param(b"{}", id="empty"),
        pytest.param(b'{"collection_id": 7}', id="a number for a name"),
        pytest.param(b'{"collection_id": "a\\u0000b:c"}', id="a name that Postgres cannot hold"),
        pytest.param(b'{"collection_id": "\\ud800:c", "id": "x"}', id="half a surrogate pair for a name"),
        pytest.param(b'{"id": "\\ud800"}', id="half a surrogate pair for an id"),
    ],
)
def test_what_names_no_collection_is_kept_as_it_came(warehouse_url: str, text: bytes) -> None:
    with running_sandbox(RecordedFeed([text, *lines_of(record("a"))])) as url:
        outcome = run(warehouse_url, queue_of("consumer", url))

    assert outcome.undeclared == {UNNAMED: 1}
    assert query(warehouse_url, "select raw from sequin_pipeline.rejects") == [(text,)]
    assert ids_and_versions(warehouse_url) == [("a", 1, False)]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        pytest.param(Settings(), b'{"record":"no object"}', id="nested"),
        pytest.param(Settings(message_form="flat"), None, id="flat: the whole message, token included"),
    ],
)
def test_a_message_that_names_no_table_is_kept_as_it_came(warehouse_url: str, settings: Settings, kept: bytes | None) -> None:
    with running_sandbox(RecordedFeed([b'"no object"', *lines_of(record("a"))]), settings) as url:
        outcome = run(warehouse_url, queue_of("stream", url))

    [(raw,)] = query(warehouse_url, "select raw from sequin_pipeline.rejects")
    assert isinstance(raw, bytes)
    assert raw == kept or (kept is None and raw.startswith(b'{"ack_id":') and raw.endswith(b'"record":"no object"}'))
    assert outcome.undeclared == {UNNAMED: 1}
    assert counts_of(outcome)["demo/thing"].inserted == 1


def test_a_record_with_an_unsound_object_is_a_reject_of_its_collection(warehouse_url: str) -> None:
    """The page as a whole is no JSON for a strict decoder: brackets alone tell the records apart."""
    text = lines_of(record("bad", data={"status": "PLACE"}))[0].replace(b"PLACE", b"\\ud800")
    with running_sandbox(RecordedFeed([text, *lines_of(record("a"), other("b"))])) as url:
        outcome = run(warehouse_url, queue_of("consumer", url))

    assert outcome.undeclared == {}
    assert open_rejects(warehouse_url) == [("demo.thing", "bad", "value")]
    assert counts_of(outcome)["demo/thing"] == Counts(fetched=2, inserted=1, rejected=1, created=1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_another_source_fills_is_refused_before_the_first_request(warehouse_url: str, kind: str) -> None:
    run_sync(RecordStream(live_run_config(THING), ListSource([[record("a")]])), Warehouse(warehouse_url), run_id="pages")
    with running_sandbox(feed_of(record("b"))) as url, client(url) as http:
        with pytest.raises(LedgerRefused, match="--adopt"):
            run(warehouse_url, queue_of(kind, url), THING)
        asked = http.get("/_sandbox/requests").json()["count"]
        adopted = run(warehouse_url, queue_of(kind, url), THING, adopt=True)

    assert asked == 0
    assert counts_of(adopted)["demo/thing"].inserted == 1


@pytest.mark.parametrize("kind", KINDS)
def test_an_outage_of_the_queue_fails_the_run_and_keeps_what_was_stored(warehouse_url: str, kind: str) -> None:
    records = [record(f"r{number:04}") for number in range(1_001)]
    verb = "next" if kind == "consumer" else "receive"
    with running_sandbox(feed_of(*records), Settings(faults=(f"status:401,path=/{verb},at=2",))) as url:
        with pytest.raises(SourceRefused):
            run(warehouse_url, queue_of(kind, url), run_id="refused")
        stored = row_count(warehouse_url)
        run(warehouse_url, queue_of(kind, url), run_id="again")

    assert (stored, row_count(warehouse_url)) == (1_000, 1_001)
    assert merges(warehouse_url, "again")[0] == {"fetched": 1, "inserted": 1, "created": 1}


def counts_of(outcome: DrainOutcome) -> dict[str, Counts]:
    return {label: collection_outcome.counts for label, collection_outcome in outcome.collections.items()}


def rows(url: str) -> list[tuple[object, ...]]:
    """Both tables with the marks that a write of any kind would leave."""
    statement = "select id, updated_idx, updated_at::text, ctid::text, xmin::text from {} order by id"
    return [*query(url, statement.format("demo.thing")), *query(url, statement.format("demo.other"))]
