"""What the end of a run makes of rejects that wait for another row or version, and what it then says of the run."""

from dataclasses import replace

import pytest

from sequin_pipeline.errors import SourceUnavailable, TooManyRejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.runs.queue_run import drain
from tests.runs.test_completion import MANAGED as ARTICLES
from tests.runs.test_completion import full, partial
from tests.support.builders import ListSource, collection, record
from tests.support.queues import ListQueue
from tests.support.reading import execute, query, rejects
from tests.support.syncing import sync

STRICT = replace(collection(), reject_limit_records=0, reject_limit_share=0.0)
UNIQUE = "create unique index one_status on demo.thing (status)"
SMALL = "alter table demo.thing add check (amount < 100)"


def holds(record_id: str, version: int, status: str, amount: int = 1) -> dict[str, object]:
    return record(record_id, version, data={"status": status, "amount": amount})


def settled_as_shown(outcome: SyncOutcome) -> object:
    """The number in Dagster's metadata."""
    from sequin_pipeline.orchestration.run_metadata import run_metadata  # here: no other test of this room waits for Dagster

    return run_metadata(outcome)["settled"].value


def made(url: str, holders: int) -> None:
    """The table with rows that each hold a value which must be unique."""
    sync(url, [holds(f"a{number}", 1, f"u{number}") for number in range(holders)], of=STRICT, run_id="before")
    execute(url, UNIQUE, SMALL)


@pytest.mark.parametrize("bad", [1, 4, 5])
def test_what_an_earlier_attempt_rejected_does_not_make_up_for_the_rejects_of_this_one(warehouse_url: str, bad: int) -> None:
    made(warehouse_url, 5)
    takers = [holds(f"c{number}", 2, f"u{number}") for number in range(5)]
    lets_go = [holds(f"a{number}", 3, f"free{number}") for number in range(5)]
    pages = [[*takers, holds("g", 2, "good")], [*lets_go, *(holds(f"b{number}", 4, f"b{number}", 1000) for number in range(bad))]]
    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, of=STRICT, source=ListSource(pages, breaks_at=1), full_refresh=True, batch_records=1)

    with pytest.raises(TooManyRejects, match=rf"^{bad} of {5 + bad} records of 'demo/thing' were rejected.*'b\d'"):
        sync(warehouse_url, of=STRICT, source=ListSource(pages), batch_records=1)

    assert rejects(warehouse_url) == {f"b{number}": ("postgres", "23514") for number in range(bad)}
    stored = query(warehouse_url, "select id from demo.thing order by id")
    assert stored == [*((f"a{number}",) for number in range(5)), *((f"c{number}",) for number in range(5)), ("g",)]


def test_what_this_attempt_rejected_and_stored_at_its_end_is_not_held_against_it(warehouse_url: str) -> None:
    made(warehouse_url, 2)
    pages = [[holds("c0", 2, "u0"), holds("c1", 2, "u1")], [holds("a0", 3, "free0"), holds("a1", 3, "free1")]]

    outcome = sync(warehouse_url, *pages, of=STRICT, full_refresh=True, batch_records=1)

    assert (outcome.counts.rejected, outcome.settled, outcome.open_rejects) == (2, 2, 0)
    assert settled_as_shown(outcome) == 2


@pytest.mark.parametrize(("parents", "settled", "missing"), [(["p"], 1, 1), (["p", "q"], 2, 0), ([], 0, 2)])
def test_a_record_whose_parent_comes_later_in_the_run_is_settled_and_misses_none(
    warehouse_url: str, parents: list[str], settled: int, missing: int
) -> None:
    made(warehouse_url, 0)
    execute(warehouse_url, "drop index demo.one_status", "alter table demo.thing add foreign key (status) references demo.thing")
    children = [holds("a", 2, "p"), holds("b", 2, "q")]

    outcome = sync(warehouse_url, children, [holds(one, 3, one) for one in [*parents, "z"]], full_refresh=True, batch_records=1)

    assert (outcome.counts.rejected, outcome.settled, outcome.missing_parents) == (2, settled, missing)
    assert settled_as_shown(outcome) == settled


@pytest.mark.parametrize(("records", "settled"), [("x", 0), ("xy", 0), ("xg", 1)])
def test_a_partial_record_that_is_completed_and_then_refused_is_not_settled(
    warehouse_url: str, records: str, settled: int
) -> None:
    of = ARTICLES["mark"]
    drain(ListQueue([[full("z", 1, title="z", body="z", settings={})]]), (of,), Warehouse(warehouse_url), run_id="first")
    execute(warehouse_url, "alter table demo.thing add check (title <> 'bad')")
    titles = {"x": "bad", "y": "bad", "g": "good"}
    told = [partial(one, 5, {"title": titles[one], "settings": {}}, "body") for one in records]
    before = [full(one, 1, title="a", body="b", settings={}) for one in records]

    drained = drain(ListQueue([told, before]), (of,), Warehouse(warehouse_url), run_id="second")

    [outcome] = drained.collections.values()
    assert outcome.settled == settled
    assert rejects(warehouse_url) == {one: ("postgres", "23514") for one in records if one != "g"}


@pytest.mark.parametrize("waiting", [1, 12])
def test_the_example_of_a_run_that_fails_is_one_of_its_own_rejects(warehouse_url: str, waiting: int) -> None:
    made(warehouse_url, 5)
    olds = [holds(f"old{number:02}", 2, "u0") for number in range(waiting)]
    with pytest.raises(TooManyRejects, match="one of them is 'old"):
        sync(warehouse_url, [*olds, *(holds(f"g{n}", 2, f"g{n}") for n in range(30))], of=STRICT, full_refresh=True)

    with pytest.raises(
        TooManyRejects, match=r"^1 of 2 records .* one of them is 'b': Postgres refused the row: .*check constraint"
    ):
        sync(warehouse_url, [holds("a1", 3, "free"), holds("b", 4, "b", 1000)], of=STRICT, full_refresh=True, run_id="later")

    assert len(rejects(warehouse_url)) == waiting + 1


def last_tried(url: str) -> list[tuple[object, ...]]:
    return query(url, "select record_id, seen from sequin_pipeline.rejects where resolved_at is null order by record_id")


def rest(url: str, minutes: int) -> None:
    execute(url, f"update sequin_pipeline.rejects set last_seen_at = last_seen_at - interval '{minutes} minutes'")


@pytest.mark.parametrize(
    ("minutes", "pages", "seen"),
    [
        pytest.param(0, [], 2, id="nothing read"),
        pytest.param(59, [], 2, id="nothing read, tried lately"),
        pytest.param(61, [], 3, id="nothing read, not tried for an hour"),
        pytest.param(0, [holds("a0", 1, "u0")], 2, id="nothing but known rows"),
        pytest.param(0, [holds("n", 3, "n")], 3, id="a row written"),
    ],
)
def test_a_run_that_changes_nothing_leaves_alone_what_was_tried_within_the_hour(
    warehouse_url: str, minutes: int, pages: list[dict[str, object]], seen: int
) -> None:
    of = replace(STRICT, reject_limit_records=10)
    made(warehouse_url, 1)
    sync(warehouse_url, [holds("c", 2, "u0"), holds("g", 2, "g")], of=of, full_refresh=True, run_id="first")
    rest(warehouse_url, minutes)

    sync(warehouse_url, pages, of=of, full_refresh=bool(pages), run_id="second")

    assert last_tried(warehouse_url) == [("c", seen)]


def test_what_came_from_elsewhere_is_found_after_an_hour_of_runs_that_change_nothing(warehouse_url: str) -> None:
    made(warehouse_url, 1)
    takers = [holds("c", 2, "u0"), holds("g", 2, "g")]
    sync(warehouse_url, takers, of=replace(STRICT, reject_limit_records=10), full_refresh=True, run_id="first")
    execute(warehouse_url, "update demo.thing set status = 'mine' where id = 'a0'")
    rest(warehouse_url, 61)

    outcome = sync(warehouse_url, run_id="second")

    assert outcome.open_rejects == 0
    assert query(warehouse_url, "select id, status from demo.thing order by id") == [("a0", "mine"), ("c", "u0"), ("g", "g")]


def test_a_run_stops_after_a_thousand_refusals_and_the_next_one_begins_with_the_others(warehouse_url: str) -> None:
    of = replace(ARTICLES["mark"], reject_limit_records=10_000)
    told = [partial(f"p{number}", 5, {"title": "t", "settings": {}}, "body") for number in range(1_005)]
    good = [full(one, 1, title="a", body="b", settings={}) for one in "xy"]
    by_tries = "select seen, count(*) from sequin_pipeline.rejects where resolved_at is null group by 1 order by 1"

    drain(ListQueue([[*told, good[0]]]), (of,), Warehouse(warehouse_url), run_id="first")
    first = query(warehouse_url, by_tries)
    drain(ListQueue([[good[1]]]), (of,), Warehouse(warehouse_url), run_id="second")

    assert first == [(1, 5), (2, 1_000)]
    assert query(warehouse_url, by_tries) == [(2, 10), (3, 995)]
