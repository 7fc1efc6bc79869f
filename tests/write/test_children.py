"""Child tables hold the elements of what their parents hold: for any order, repetition, crash and overlap of runs."""

import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import hypothesis.strategies as st
import psycopg
from hypothesis import HealthCheck, given, note, settings

from sequin_pipeline.catalog import Collection, UnmanagedTable
from sequin_pipeline.errors import SourceUnavailable, TooManyRejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.children import (
    APPLICATION,
    ParentRow,
    counted_children,
    fold,
    in_an_application,
    random_lists,
    stored_children,
    with_children,
)
from tests.support.fold import Fold
from tests.support.reading import execute, raw
from tests.support.ways import WAYS, going

EXAMPLES = 40

MARKED = with_children(collection(table="demo.marked"))
REMOVED = with_children(collection(table="demo.removed", on_delete="remove"))
OBSERVED = with_children(collection(table="demo.observed", observes_time=True))
OF_APPLICATION = in_an_application(collection(table="demo.others"))
ALL_OF_APPLICATION = in_an_application(
    replace(
        collection(table="app.owned", on_delete="remove", columns=()),
        unmanaged=UnmanagedTable({"id": "id", "updated_idx": "version", "data": "data"}),
    )
)
KINDS = (MARKED, REMOVED, OBSERVED, OF_APPLICATION, ALL_OF_APPLICATION)

UNFIT = (
    {"lines": {"data": [{"id": "a"}, {"id": "a"}]}},
    {"lines": {"data": [{"id": "a", "amount": "none"}]}},
    {"lines": {"data": {"a": 1}}},
    {"lines": {"data": [{"id": "a", "taxes": "none"}]}},
    {"labels": ["x"]},
    {"lines": {"data": [{"id": None}]}},
)


def random_record(chance: random.Random) -> dict[str, object]:
    deleted = chance.random() < 0.3
    objects: list[object] = [random_lists(chance) for _ in range(3)]
    objects += [None, {}] if deleted else [None]
    data = chance.choice(UNFIT) if chance.random() < 0.1 else chance.choice(objects)
    sync = chance.choice(("s1", "s2"))
    return record(
        chance.choice("abc"),
        chance.randint(1, 5),
        deleted=deleted,
        data=data,
        sync={"id": sync, "external_id": "tenant", "metadata": {}},
        marker=sync,
    )


def test_any_history_leaves_the_elements_of_the_objects_that_are_stored(warehouse_url: str) -> None:
    met: Counter[str] = Counter()
    execute(warehouse_url, "create schema demo; create schema app", *(APPLICATION.format(schema) for schema in ("demo", "app")))
    execute(
        warehouse_url,
        "create table app.owned (id text primary key, version bigint, data jsonb) partition by hash (id)",
        *(f"create table app.owned_{n} partition of app.owned for values with (modulus 2, remainder {n})" for n in (0, 1)),
    )
    for of in KINDS:
        run_sync(RecordStream(live_run_config(of), ListSource([])), Warehouse(warehouse_url), run_id="first")

    with psycopg.connect(warehouse_url, autocommit=True) as connection:

        @given(st.randoms(use_true_random=True))
        @settings(
            max_examples=EXAMPLES, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow], deadline=None
        )
        def check(chance: random.Random) -> None:
            of, stream = chance.choice(KINDS), list[list[dict[str, object]]]()
            config = live_run_config(of)
            told = Fold(of.on_delete == "remove", config.partition_keys, config.window_starts, observes_time=of.observes_time)
            _forget_everything(connection, of)
            cursor = 0
            for number in range(chance.randint(1, 3)):
                stream += [
                    [random_record(chance) for _ in range(chance.choice((1, 2, 4, 6)))] for _ in range(chance.randint(1, 3))
                ]
                is_refresh, way = chance.random() < 0.3, chance.choice(WAYS)
                cursor = 0 if is_refresh else cursor
                ends = chance.choice((len(stream), len(stream), cursor + 1))
                note(f"{of.table}, to {ends} of {stream} {way}")
                lanes = chance.choice((1, 1, 2))
                for page in stream[cursor:ends]:
                    good = [one for one in page if one["data"] not in UNFIT]
                    told.deliver_batch(good, [raw(one) for one in page if one["data"] in UNFIT])

                _sync(warehouse_url, of, stream, run_id=f"run {number}", ends=ends, full_refresh=is_refresh, lanes=lanes, way=way)

                cursor = max(cursor, min(ends, len(stream)))
                parents = [ParentRow(one, row.is_deleted, row.marker, row.data) for one, row in told.rows.items()]
                expected = fold(parents)
                assert stored_children(warehouse_url, of) == expected
                assert counted_children(warehouse_url, of) == {name: len(rows) for name, rows in expected.items()}
                met.update(table for table, rows in expected.items() if rows)
                met.update(["removed parent"] if told.removed else [])
                met.update([str(of.table)] if any(expected.values()) else [])

        check()

    assert met.keys() == {"line", "line_tax", "label", "removed parent", *(str(of.table) for of in KINDS)}


def _sync(
    url: str,
    of: Collection,
    stream: list[list[dict[str, object]]],
    *,
    run_id: str,
    ends: int,
    full_refresh: bool,
    lanes: int,
    way: str,
) -> None:
    source = ListSource(list(stream), breaks_at=ends if ends < len(stream) else None)
    with suppress(TooManyRejects, SourceUnavailable), going(way):
        run_sync(
            RecordStream(live_run_config(of, full_refresh=full_refresh), source),
            Warehouse(url),
            run_id=run_id,
            batch_records=1,
            lanes=lanes,
        )


def _forget_everything(connection: psycopg.Connection[tuple[object, ...]], of: Collection) -> None:
    children = ", ".join(f'{child.table.schema}."{child.table.name}"' for child in of.children)
    connection.execute(
        f"truncate {of.table}, {children}, sequin_pipeline.merges, sequin_pipeline.rejects, sequin_pipeline.versions,"
        " sequin_pipeline.cursors, sequin_pipeline.positions, sequin_pipeline.runs, sequin_pipeline.fields"
    )
    connection.execute("update sequin_pipeline.tables set row_count = 0")
