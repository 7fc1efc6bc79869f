"""Rows that are new to a table are copied straight into it, where that is the same as to stage and merge them; else they are staged."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from sequin_pipeline.catalog import Collection, Column, parse_path
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.write import direct_copy
from sequin_pipeline.write.batch import build_batch
from sequin_pipeline.write.known_rows import PAUSE_BATCHES
from sequin_pipeline.write.merge import ShortWayRefused
from tests.support.builders import COLUMNS, collection, record
from tests.support.racing import holding, wait_for_activity
from tests.support.reading import execute, ids_and_versions, query, rejects, row_count
from tests.support.syncing import sync
from tests.support.ways import ways_of

Pages = Sequence[list[dict[str, object]]]

OLD = [record("a", 1), record("b", 1), record("c", 1), record("d", 1)]
NEW = [record("e", 1), record("f", 1)]
NEWER = [record("g", 1), record("h", 1)]


@pytest.fixture
def way() -> str:
    """Here it matters."""
    return "as the product chooses"


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        pytest.param([NEW, NEWER], ["copied", "copied"], id="a first load"),
        pytest.param([NEW, [*NEW, *NEWER]], ["copied", "copied"], id="new among known"),
        pytest.param([NEW, NEW], ["copied", "nothing sent"], id="all known"),
        pytest.param([NEW, [record("e", 2), *NEWER]], ["copied", "staged"], id="new among changed"),
        pytest.param([NEW, [record("e", 2)], NEWER], ["copied", "staged", "staged"], id="new behind changed"),
        pytest.param([[record("e", 1), record("e", 2)]], ["copied"], id="the newest of two versions"),
        pytest.param(
            [[record("e", 1, deleted=True)], [record("f", 1, deleted=True, data=None)]], ["copied"] * 2, id="tombstones"
        ),
        pytest.param([[record("e", 1), record("e", 2, deleted=True, data=None)]], ["copied"], id="tombstone that carries"),
    ],
)
def test_a_batch_is_copied_where_the_table_needs_new_rows_only(warehouse_url: str, pages: Pages, expected: list[str]) -> None:
    sync(warehouse_url, *pages, run_id="run", batch_records=1)
    copied = query(warehouse_url, "select * from demo.thing order by id")
    counted = query(warehouse_url, "select sum(created), sum(fetched), sum(deleted) from sequin_pipeline.merges")

    again = sync(warehouse_url, *pages, run_id="again", full_refresh=True, batch_records=1)

    assert ways_of(warehouse_url) == expected
    assert again.counts.inserted + again.counts.updated + again.counts.deleted == 0, "the fold of it is there already"
    assert query(warehouse_url, "select * from demo.thing order by id") == copied
    assert counted[0][0] == row_count(warehouse_url) == len(copied)


@pytest.mark.parametrize(
    ("of", "statements"),
    [
        pytest.param(collection(on_delete="remove"), [], id="removed rows are remembered"),
        pytest.param(replace(collection(), history=timedelta(days=1)), [], id="a history is kept"),
        pytest.param(
            collection(columns=(*COLUMNS, Column("price", parse_path("price"), "numeric"))), [], id="a cast by the merge"
        ),
        pytest.param(
            collection(),
            [
                "create function demo.upper() returns trigger language plpgsql as"
                " $$ begin new.deleted := true; return new; end $$",
                "create trigger upper before insert on demo.thing for each row execute function demo.upper()",
            ],
            id="a trigger makes another row of it",
        ),
    ],
)
def test_a_batch_is_staged_where_a_copy_would_not_be_the_same(warehouse_url: str, of: Collection, statements: list[str]) -> None:
    sync(warehouse_url, of=of, run_id="before")
    execute(warehouse_url, *statements)

    outcome = sync(warehouse_url, NEW, NEWER, of=of, batch_records=1)

    assert ways_of(warehouse_url) == ["staged", "staged"]
    assert (outcome.counts.created, row_count(warehouse_url)) == (4, 4)
    assert outcome.counts.deleted == (4 if statements else 0)


def test_a_copied_row_has_the_moment_of_its_transaction_and_the_defaults_of_other_columns(warehouse_url: str) -> None:
    sync(warehouse_url, run_id="before")
    execute(
        warehouse_url, "alter table demo.thing add column note text default 'mine', add column born timestamptz default now()"
    )

    sync(warehouse_url, NEW, NEWER, batch_records=1)

    assert ways_of(warehouse_url) == ["copied", "copied"]
    rows = query(warehouse_url, "select id, note, inserted_at = born, updated_at = born from demo.thing order by id")
    assert rows == [(record_id, "mine", True, True) for record_id in "efgh"]
    assert query(warehouse_url, "select count(distinct inserted_at) from demo.thing") == [(2,)]


PARENT = ("create table demo.parent (status text primary key)", "insert into demo.parent values ('active')")
REFUSALS = [
    pytest.param(["alter table demo.thing add constraint modest check (amount < 1000)"], ("postgres", "23514"), id="check"),
    pytest.param(["alter table demo.thing alter status set not null"], ("postgres", "23502"), id="not null"),
    pytest.param(
        [*PARENT, "alter table demo.thing add foreign key (status) references demo.parent"],
        ("parent", "23503"),
        id="foreign key",
    ),
    pytest.param(
        [*PARENT, "alter table demo.thing add foreign key (status) references demo.parent deferrable initially deferred"],
        ("parent", "23503"),
        id="deferred foreign key",
    ),
    pytest.param(["create index on demo.thing ((1 / (1000 - amount)))"], ("postgres", "22012"), id="an expression of an index"),
    pytest.param(
        [
            "create function demo.refuse() returns trigger language plpgsql as $$ begin"
            " if new.amount = 1000 then raise exception 'no'; end if; return null; end $$",
            "create trigger refuse after insert on demo.thing for each row execute function demo.refuse()",
        ],
        ("postgres", "P0001"),
        id="a trigger behind it",
    ),
]


@pytest.mark.parametrize(("statements", "expected"), REFUSALS)
def test_a_row_that_postgres_refuses_to_copy_is_found_and_the_others_land(
    warehouse_url: str, statements: list[str], expected: tuple[str, str]
) -> None:
    sync(warehouse_url, run_id="before")
    execute(warehouse_url, *statements)
    bad = record("bad", 1, data={"status": None if "not null" in statements[0] else "orphan", "amount": 1000})

    outcome = sync(warehouse_url, NEW, [*NEWER, bad], [record("i", 1)], batch_records=1)

    # Behind them comes, at the end of the run, the row that waits for another one.
    assert ways_of(warehouse_url)[:3] == ["copied", "staged", "staged"]
    assert ids_and_versions(warehouse_url) == [(record_id, 1, False) for record_id in "efghi"]
    assert rejects(warehouse_url) == {"bad": expected}
    assert outcome.counts == Counts(fetched=6, inserted=5, created=5, rejected=1)
    assert row_count(warehouse_url) == 5


def test_nothing_is_copied_for_a_while_behind_a_refusal(warehouse_url: str) -> None:
    sync(warehouse_url, run_id="before")
    execute(warehouse_url, "alter table demo.thing add constraint modest check (amount < 1000)")
    bad = record("bad", 1, data={"status": "x", "amount": 1000})
    later = [[record(f"later {number:02}", 1)] for number in range(PAUSE_BATCHES + 2)]

    sync(warehouse_url, NEW, [*NEWER, bad], *later, batch_records=1)

    assert ways_of(warehouse_url) == ["copied", "staged", *["staged"] * (PAUSE_BATCHES - 1), "copied", "copied", "copied"]


RIVAL = "insert into demo.thing values ('e', 'u', null, 's', 5, false, null, null, null, 'rival', 5, null, null, now(), now())"


@pytest.mark.parametrize(
    ("version", "expected", "stored"),
    [
        pytest.param(4, Counts(fetched=2, inserted=1, stale=1, created=1), (5, "rival"), id="ours is older"),
        pytest.param(5, Counts(fetched=2, inserted=1, updated=1, created=1, rewritten=1), (5, "active"), id="of one version"),
        pytest.param(6, Counts(fetched=2, inserted=1, updated=1, created=1), (6, "active"), id="ours is newer"),
    ],
)
def test_a_row_that_somebody_else_inserts_after_the_table_was_asked_is_merged_by_its_version(
    warehouse_url: str, version: int, expected: Counts, stored: tuple[int, str]
) -> None:
    sync(warehouse_url, run_id="before")
    with holding(warehouse_url, "lock table demo.thing in share mode") as rival, ThreadPoolExecutor(1) as threads:
        running = threads.submit(sync, warehouse_url, [record("e", version), record("f", 4)])
        wait_for_activity(
            warehouse_url, "application_name = 'sequin_pipeline' and wait_event_type = 'Lock' and query ^@ %s", ["copy"]
        )
        rival.execute(RIVAL)
        rival.commit()
        outcome = running.result()

    assert ways_of(warehouse_url) == ["staged"]
    assert query(warehouse_url, "select updated_idx, status from demo.thing where id = 'e'") == [stored]
    assert outcome.counts == expected


def test_a_row_whose_other_writer_rolls_back_is_copied(warehouse_url: str) -> None:
    sync(warehouse_url, run_id="before")
    with holding(warehouse_url, RIVAL) as rival, ThreadPoolExecutor(1) as threads:
        running = threads.submit(sync, warehouse_url, [record("e", 4), record("f", 4)])
        wait_for_activity(warehouse_url, "application_name = 'sequin_pipeline' and wait_event = %s", ["transactionid"])
        rival.rollback()
        outcome = running.result()

    assert ways_of(warehouse_url) == ["copied"]
    assert ids_and_versions(warehouse_url) == [("e", 4, False), ("f", 4, False)]
    assert outcome.counts == Counts(fetched=2, inserted=2, created=2)


QUIET = "create function demo.quiet() returns trigger language plpgsql as $$ begin return null; end $$"


def try_to_copy(url: str, *records: dict[str, object]) -> str:
    """Whether these records are copied; then that is undone."""
    target = collection_target(collection())
    page = Normalizer(collection())(json.dumps(records).encode())
    encoded = direct_copy.encode(target, build_batch(target, [page], window_starts=()))
    with Warehouse(url).connect() as connection, connection.transaction(force_rollback=True):
        try:
            copied = direct_copy.copy_rows(connection, encoded)
        except ShortWayRefused:
            return "refused"
    assert copied.counts == {0: Counts(inserted=len(records), created=len(records))}
    return "copied"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        pytest.param([], "copied", id="nothing special"),
        pytest.param(
            ["create rule quiet as on insert to demo.thing do instead nothing"], "refused", id="a rule, which COPY passes by"
        ),
        pytest.param(
            ["drop table demo.thing", "create view demo.thing as select 'a' as id"], "refused", id="a view in its place"
        ),
        pytest.param(
            [QUIET, "create trigger t before insert on demo.thing for each row execute function demo.quiet()"],
            "refused",
            id="a trigger that may make another row of it",
        ),
        pytest.param(
            [
                QUIET,
                "create trigger t before insert on demo.thing for each row execute function demo.quiet()",
                "alter table demo.thing disable trigger t",
            ],
            "copied",
            id="such a trigger, disabled",
        ),
        pytest.param(
            [QUIET, "create trigger t before update on demo.thing for each row execute function demo.quiet()"],
            "copied",
            id="a trigger on updates",
        ),
        pytest.param(
            [QUIET, "create trigger t after insert on demo.thing for each row execute function demo.quiet()"],
            "copied",
            id="a trigger behind it",
        ),
        pytest.param([RIVAL], "refused", id="a row that is there"),
    ],
)
def test_a_table_is_looked_at_once_more_in_the_transaction_of_the_copy(
    warehouse_url: str, statements: list[str], expected: str
) -> None:
    sync(warehouse_url, run_id="before")
    execute(warehouse_url, *statements)

    assert try_to_copy(warehouse_url, record("e", 1), record("f", 1)) == expected

    assert query(warehouse_url, "select count(*) from demo.thing where id = 'f'") == [(0,)]
