"""Whatever a queue does to a history, the tables are its fold; and three sources of one history leave the same tables."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import hypothesis.strategies as st
from hypothesis import HealthCheck, given, note, settings

from sequin_pipeline.catalog import Collection
from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.queue_run import DrainLimits, drain
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sources.sequin import SequinSource
from tests.sandbox.builders import client
from tests.support.builders import collection, live_run_config, record
from tests.support.fold import Fold
from tests.support.queues import ListQueue, lines_of, queue_of
from tests.support.reading import execute, query

THING, OTHER = collection(), collection(name="other", table="demo.other")
COLLECTIONS = {"demo:thing": THING, "demo:other": OTHER}

HERE = ("inserted_at", "updated_at")
"""When a row was created and last changed in this very table."""

UNKNOWN_TO_A_STREAM = ("id", "internal_id", "updated_idx", "upstream_created_at", "upstream_updated_at", "content_hash")
"""A change of a Postgres table says nothing of a stream's ids and versions, of tenants, or of the provider's own times; the hash is
over all of them."""


@dataclass
class BrokenQueue(ListQueue):
    """Loses the connection when an acknowledgement is sent: the delivery comes again in another run."""

    breaks_at: int = -1

    def committed(self, cursor: str) -> None:
        if int(cursor) == self.breaks_at:
            raise SourceUnavailable("the connection of this test broke off")
        super().committed(cursor)


def random_record(chance: random.Random) -> dict[str, object]:
    """A version always holds the same, so that no order can make a difference."""
    collection_id, record_id, version = chance.choice(list(COLLECTIONS)), f"r{chance.randrange(4)}", chance.randrange(1, 7)
    is_deleted = version % 3 == 0
    data = None if version == 6 else {"status": f"{record_id} {version}", "amount": version}
    return record(record_id, version, collection_id=collection_id, deleted=is_deleted, data=data)


def fold_of(delivered: Sequence[Mapping[str, object]], of: str) -> list[tuple[object, ...]]:
    fold = Fold(removes=False, window_keys=(), window_starts=())
    for one in delivered:
        if one["collection_id"] == of:
            fold.deliver(one)
    return sorted((record_id, row.version, row.is_deleted, row.data) for record_id, row in fold.rows.items())


def test_any_order_repetition_and_loss_of_acknowledgements_leaves_the_fold_of_what_was_delivered(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    drain(ListQueue([]), (THING, OTHER), warehouse, run_id="first")

    @given(st.randoms(use_true_random=True))
    @settings(max_examples=20, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
    def check(chance: random.Random) -> None:
        execute(warehouse_url, "truncate demo.thing, demo.other")
        waiting = [[random_record(chance) for _ in range(chance.randrange(1, 5))] for _ in range(chance.randrange(1, 6))]
        waiting += chance.choices(waiting, k=chance.randrange(3))
        chance.shuffle(waiting)
        note(f"{waiting}")
        delivered: list[Mapping[str, object]] = []
        while waiting:
            queue = BrokenQueue(waiting, breaks_at=chance.choice([-1, -1, chance.randrange(len(waiting))]))
            with suppress(SourceUnavailable):
                drain(queue, (THING, OTHER), warehouse, run_id="run", limits=DrainLimits(max_records=chance.randrange(1, 12)))
            seen = len(queue.acknowledged) + len(queue.given_back)
            delivered += [one for delivery in waiting[:seen] for one in delivery]
            waiting = waiting[len(queue.acknowledged) :]

        for collection_id, of in COLLECTIONS.items():
            rows = query(warehouse_url, f"select id, updated_idx, deleted, data from {of.table} order by id")
            assert rows == fold_of(delivered, collection_id)

    check()


def history(chance: random.Random) -> list[list[dict[str, object]]]:
    """Steps of changes as a provider makes them: creations, updates, deletions with the last state and bare, and returns."""
    version, steps = 2**33, []
    for _ in range(5):
        step = []
        for _ in range(8):
            version += 1
            collection_id, number = chance.choice(list(COLLECTIONS)), chance.randrange(5)
            deleted = chance.random() < 0.3
            data = (
                None
                if deleted and chance.random() < 0.5
                else {"status": f"status {version}", "amount": version, "é": [1.50, None]}
            )
            step.append(
                record(
                    f"{collection_id} {number}",
                    version,
                    collection_id=collection_id,
                    upstream_id=f"up_{number}",
                    deleted=deleted,
                    data=data,
                    upstream_created_at="2024-01-01T00:00:00Z",
                )
            )
        steps.append(step)
    return steps


def columns(url: str, of: Collection, without: Sequence[str], *, order_by: str) -> list[tuple[object, ...]]:
    names = [
        str(name)
        for (name,) in query(url, "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0", str(of.table))
    ]
    kept = ", ".join(name for name in sorted(names) if name not in without)
    return query(url, f"select {kept} from {of.table} order by {order_by}")


def test_the_page_api_a_consumer_and_sequin_stream_leave_the_same_tables(make_database: Callable[[], str]) -> None:
    by_pages, by_consumer, by_stream = make_database(), make_database(), make_database()
    with running_sandbox(RecordedFeed()) as url, client(url) as http:
        for number, step in enumerate(history(random.Random(7))):
            http.post("/_sandbox/records", content=b"\n".join(lines_of(*step))).raise_for_status()
            for of in COLLECTIONS.values():
                run_sync(RecordStream(live_run_config(of), SequinSource(url)), Warehouse(by_pages), run_id=f"pages {number}")
            for kind, warehouse in (("consumer", by_consumer), ("stream", by_stream)):
                drain(queue_of(kind, url), (THING, OTHER), Warehouse(warehouse), run_id=f"{kind} {number}")

    for of in COLLECTIONS.values():
        whole = columns(by_pages, of, HERE, order_by="id")
        assert len(whole) == 5
        assert columns(by_consumer, of, HERE, order_by="id") == whole
        known = columns(by_pages, of, (*HERE, *UNKNOWN_TO_A_STREAM), order_by="sync_id, upstream_id")
        assert columns(by_stream, of, (*HERE, *UNKNOWN_TO_A_STREAM), order_by="sync_id, upstream_id") == known
