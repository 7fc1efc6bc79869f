"""Rows that a trigger, a rule or an application leaves out in silence: none counts as written, deleted or stale, and none is lost."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sequin_pipeline.catalog import Collection, Column, parse_path
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.replay_rejects import replay
from tests.support.builders import COLUMNS, ListSource, collection, record
from tests.support.racing import OpenBatch, wait_until_blocked
from tests.support.reading import execute, ids_and_versions, merges, query, rejects, row_count
from tests.support.syncing import sync
from tests.table.unmanaged.tables import unmanaged
from tests.table.unmanaged.test_listings import ListingSource

REASON = "a trigger, rule or policy of the table left the row out: Postgres reported no error and wrote nothing"
MANAGED = collection()
GUEST = unmanaged({"id": "id", "updated_idx": "updated_idx", "deleted": "deleted"}, table="demo.thing")
VERSIONLESS = unmanaged({"id": "id"}, table="demo.thing", on_delete="remove")
KINDS = [
    pytest.param(MANAGED, id="managed, mark"),
    pytest.param(replace(MANAGED, on_delete="remove"), id="managed, remove"),
    pytest.param(replace(MANAGED, observes_time=True), id="managed, times of observation"),
    pytest.param(GUEST, id="unmanaged, mark"),
    pytest.param(replace(GUEST, on_delete="remove"), id="unmanaged, remove"),
    pytest.param(VERSIONLESS, id="unmanaged, versions in the ledger"),
]
UPPER = (
    "create function demo.upper() returns trigger language plpgsql as $$ begin new.status := upper(new.status); return new; end $$",
    "create trigger upper before insert or update on demo.thing for each row execute function demo.upper()",
)
FIRST = [record("a", 1), record("b", 1), record("c", 1)]


def made(url: str, of: Collection, *, event: str = "", condition: str = "") -> None:
    """The table with three rows, and then a trigger that returns null on this event where the condition holds."""
    if of.unmanaged is not None:
        version = "" if of is VERSIONLESS else "updated_idx bigint, deleted boolean, "
        execute(url, "create schema demo", f"create table demo.thing (id text primary key, {version}status text, amount bigint)")
    sync(url, FIRST, of=of, run_id="before")
    if event:
        execute(
            url,
            "create function demo.quiet() returns trigger language plpgsql as $$ begin"
            f" if {condition} then return null; end if; return case tg_op when 'DELETE' then old else new end; end $$",
            f"create trigger quiet before {event} on demo.thing for each row execute function demo.quiet()",
        )


def stored(url: str) -> list[tuple[object, ...]]:
    return query(url, "select id, amount from demo.thing order by id")


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize("lanes", [1, 2])
def test_an_insert_that_a_trigger_leaves_out_is_a_reject_and_the_rest_lands(
    warehouse_url: str, of: Collection, lanes: int
) -> None:
    made(warehouse_url, of, event="insert", condition="new.status = 'test'")
    good, bad = [record("d", 1), record("e", 1)], record("x", 1, data={"status": "test", "amount": 7})

    outcome = sync(warehouse_url, FIRST, [*good, bad], of=of, lanes=lanes, full_refresh=True)

    assert stored(warehouse_url) == [(record_id, 1) for record_id in "abcde"]
    assert rejects(warehouse_url) == {"x": ("left out", None)}
    assert query(warehouse_url, "select reason, version from sequin_pipeline.rejects") == [(REASON, 1)]
    assert outcome.counts == Counts(fetched=6, inserted=2, unchanged=3, rejected=1, created=2)
    assert outcome.rows == row_count(warehouse_url) == 5
    assert query(warehouse_url, "select count(*) from sequin_pipeline.versions where id = 'x'") == [(0,)]


@pytest.mark.parametrize("of", KINDS)
def test_an_update_that_a_trigger_leaves_out_is_a_reject_and_the_row_stays(warehouse_url: str, of: Collection) -> None:
    made(warehouse_url, of, event="update", condition="new.amount = 9")

    outcome = sync(
        warehouse_url,
        [record("a", 5, data={"status": "x", "amount": 9}), record("b", 5, data={"status": "x", "amount": 8}), record("d", 1)],
        of=of,
        full_refresh=True,
    )

    assert stored(warehouse_url) == [("a", 1), ("b", 8), ("c", 1), ("d", 1)]
    assert rejects(warehouse_url) == {"a": ("left out", None)}
    assert outcome.counts == Counts(fetched=3, inserted=1, updated=1, rejected=1, created=1)
    assert row_count(warehouse_url) == 4


@pytest.mark.parametrize("of", [KINDS[1], KINDS[4], KINDS[5]])
def test_a_removal_that_a_trigger_leaves_out_is_a_reject_and_is_not_remembered(warehouse_url: str, of: Collection) -> None:
    made(warehouse_url, of, event="delete", condition="old.id = 'a'")
    pages = [[record("a", 2, deleted=True), record("b", 2, deleted=True), record("n", 2, deleted=True), record("d", 1)]]

    outcome = sync(warehouse_url, *pages, of=of, full_refresh=True)
    again = sync(warehouse_url, *pages, of=of, full_refresh=True, run_id="again")

    assert stored(warehouse_url) == [("a", 1), ("c", 1), ("d", 1)]
    assert rejects(warehouse_url) == {"a": ("left out", None)}
    assert outcome.counts == Counts(fetched=4, inserted=1, deleted=2, rejected=1, created=1, removed=1)
    assert again.counts == Counts(fetched=4, unchanged=3, rejected=1)
    assert row_count(warehouse_url) == 3
    assert query(warehouse_url, "select id from sequin_pipeline.versions where updated_idx = 2 order by id") == [("b",), ("n",)]


def test_a_mark_that_a_trigger_leaves_out_is_a_reject(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="update", condition="new.deleted and old.id = 'a'")

    outcome = sync(warehouse_url, [record("a", 2, deleted=True, data=None), record("b", 2, deleted=True)], full_refresh=True)

    assert ids_and_versions(warehouse_url) == [("a", 1, False), ("b", 2, True), ("c", 1, False)]
    assert rejects(warehouse_url) == {"a": ("left out", None)}
    assert outcome.counts == Counts(fetched=2, deleted=1, rejected=1)


def test_an_older_version_is_stored_where_a_trigger_leaves_out_the_newest(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="insert or update", condition="new.amount = 9")

    sync(warehouse_url, [record("a", 2), record("a", 3, data={"status": "x", "amount": 9})], full_refresh=True)

    assert ids_and_versions(warehouse_url)[0] == ("a", 2, False)
    assert query(warehouse_url, "select record_id, version, class from sequin_pipeline.rejects") == [("a", 3, "left out")]


def test_history_tells_of_the_row_that_was_left_out(warehouse_url: str) -> None:
    of = replace(MANAGED, history=timedelta(days=1))
    made(warehouse_url, of, event="update", condition="new.id = 'a'")

    sync(warehouse_url, [record("a", 2), record("b", 2)], of=of, full_refresh=True, run_id="second")

    assert query(
        warehouse_url, "select record_id, version, fate, reason from sequin_pipeline.history where run_id = 'second' order by 1"
    ) == [("a", 2, "rejected", REASON), ("b", 2, "updated", None)]


def test_what_was_left_out_is_stored_by_a_replay_once_the_trigger_is_gone_and_not_by_a_run(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="insert", condition="new.id = 'x'")
    pages = [FIRST, [record("x", 1)]]
    sync(warehouse_url, *pages, full_refresh=True)
    execute(warehouse_url, "drop trigger quiet on demo.thing")

    sync(warehouse_url, *pages, [record("y", 1)], run_id="later")  # a run that changes a row tries what waits for another one
    waiting = rejects(warehouse_url)
    counts = replay(Warehouse(warehouse_url), MANAGED, Ledger("demo.thing", "demo/thing"), run_id="replay")

    assert waiting == {"x": ("left out", None)}
    assert counts == Counts(fetched=1, inserted=1, created=1)
    assert rejects(warehouse_url) == {}
    assert row_count(warehouse_url) == 5


def test_what_was_left_out_is_settled_once_it_is_delivered_again_and_stored(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="insert", condition="new.id = 'x'")
    sync(warehouse_url, [record("x", 1), record("a", 1)], full_refresh=True)
    execute(warehouse_url, "drop trigger quiet on demo.thing")

    sync(warehouse_url, [record("x", 1)], full_refresh=True, run_id="later")

    assert rejects(warehouse_url) == {}
    assert row_count(warehouse_url) == 4


def test_a_change_of_the_same_version_that_was_left_out_stays_open(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="update", condition="true")

    sync(warehouse_url, [record("a", 1, data={"status": "other", "amount": 1}), record("b", 1)], full_refresh=True)

    assert rejects(warehouse_url) == {"a": ("left out again", None)}


def test_a_refill_keeps_what_a_trigger_leaves_out_as_rejects(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="update", condition="new.id = 'a'")
    of = replace(MANAGED, columns=(*COLUMNS, Column("twice", parse_path("amount"), "bigint")))

    outcome = sync(warehouse_url, of=of)

    assert query(warehouse_url, "select id, twice from demo.thing order by id") == [("a", None), ("b", 1), ("c", 1)]
    assert (outcome.refilled, rejects(warehouse_url)) == (2, {"a": ("refill", None)})


def test_a_sweep_removes_what_a_trigger_does_not_keep_and_goes_on_with_the_next_run(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="delete", condition="old.id = 'a'")
    sync(warehouse_url, [record("a", 2, deleted=True), record("b", 2, deleted=True)], full_refresh=True)
    removing = collection(on_delete="remove")

    first = sync(warehouse_url, of=removing, run_id="first")
    execute(warehouse_url, "drop trigger quiet on demo.thing")
    second = sync(warehouse_url, of=removing, run_id="second")
    third = sync(warehouse_url, of=removing, run_id="third")

    assert (first.swept, second.swept, third.swept) == (1, 1, 0)
    assert ids_and_versions(warehouse_url) == [("c", 1, False)]
    assert row_count(warehouse_url) == 1


@pytest.mark.parametrize(("of", "event"), [(MANAGED, "update"), (replace(MANAGED, on_delete="remove"), "delete")])
def test_a_listing_counts_what_a_trigger_keeps_as_rejected(warehouse_url: str, of: Collection, event: str) -> None:
    observed = replace(of, observes_time=True)
    made(warehouse_url, observed, event=event, condition="old.id = 'a'")

    outcome = sync(warehouse_url, of=observed, source=ListingSource([[record("c", 1)]], version=20), full_refresh=True)

    assert query(warehouse_url, "select id from demo.thing where not deleted order by id") == [("a",), ("c",)]
    assert rejects(warehouse_url) == {"a": ("left out", None)}
    assert (outcome.counts.deleted, outcome.counts.rejected, outcome.counts.unchanged) == (1, 1, 1)
    assert outcome.notes == ("s1: 1 records that are listed no longer",)


def test_a_dry_run_tells_of_what_a_trigger_leaves_out(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, event="insert", condition="new.id = 'x'")

    found = dry_run(ListSource([FIRST, [record("x", 1), record("y", 1)]]), Warehouse(warehouse_url), MANAGED)

    assert [(reject.record_id, reject.reason) for reject in found.rejects] == [("x", REASON)]
    assert (found.counts.inserted, found.counts.rejected) == (1, 1)


def test_a_trigger_that_changes_a_value_leaves_nothing_out(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED)
    execute(warehouse_url, *UPPER)

    outcome = sync(warehouse_url, [record("a", 2), record("n", 1)], full_refresh=True)

    assert outcome.counts == Counts(fetched=2, inserted=1, updated=1, created=1)
    assert merges(warehouse_url, "run")[0] == {"fetched": 2, "inserted": 1, "updated": 1, "created": 1}
    assert rejects(warehouse_url) == {}


RESTATED = replace(MANAGED, columns=COLUMNS[:1])


@pytest.mark.parametrize(
    ("of", "later", "status", "rewritten"),
    [
        pytest.param(MANAGED, MANAGED, "öffen", 0, id="text that a full refresh compares"),
        pytest.param(MANAGED, RESTATED, "open", 3, id="a column less"),
        pytest.param(replace(MANAGED, on_delete="remove"), replace(RESTATED, on_delete="remove"), "open", 3, id="remove"),
        pytest.param(
            replace(MANAGED, observes_time=True), replace(RESTATED, observes_time=True), "open", 3, id="times of observation"
        ),
        pytest.param(
            replace(MANAGED, observes_time=True),
            replace(MANAGED, observes_time=True),
            "öffen",
            0,
            id="times of observation, text",
        ),
    ],
)
def test_known_rows_whose_values_a_trigger_changes_are_no_rejects(
    warehouse_url: str, of: Collection, later: Collection, status: str, rewritten: int
) -> None:
    made(warehouse_url, of)
    execute(warehouse_url, *UPPER)
    told = [record(record_id, 1, data={"status": status, "amount": 2}) for record_id in "xyz"]
    sync(warehouse_url, told, of=of, full_refresh=True, run_id="first")

    second = sync(warehouse_url, told, of=later, full_refresh=True, run_id="second")
    seen_later = [{**one, "updated_idx": 2} for one in told] if of.observes_time else told
    third = sync(warehouse_url, seen_later, of=later, full_refresh=True, run_id="third")

    assert rejects(warehouse_url) == {}
    assert second.counts.fetched == second.counts.accounted == 3
    assert (second.counts.updated, second.counts.unchanged) == (rewritten, 3 - rewritten)
    assert third.counts == Counts(fetched=3, unchanged=3)
    # What is upper case depends on the server's locale, where a letter is not ASCII.
    assert query(warehouse_url, "select distinct status = upper(%s) from demo.thing where id in ('x', 'y', 'z')", status) == [
        (True,)
    ]


def test_a_row_that_a_rival_outranks_is_stale_and_no_reject(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED)

    with OpenBatch(warehouse_url, MANAGED, record("a", 9)) as rival, OpenBatch(warehouse_url, MANAGED, record("a", 5)) as late:
        rival.write().result()
        waiting = late.write()
        wait_until_blocked(warehouse_url, [late.pid])
        rival.commit()
        counts = waiting.result()
        late.commit()

    assert counts == Counts(stale=1)
    assert ids_and_versions(warehouse_url)[0] == ("a", 9, False)
