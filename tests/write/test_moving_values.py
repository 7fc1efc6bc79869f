"""A value that must be unique may move from one row to another: what can be stored one by one is stored, in any order of ids."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.status import run_summaries
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.builders import ListSource, collection, record
from tests.support.reading import execute, query, rejects, row_count
from tests.support.syncing import sync
from tests.table.unmanaged.tables import unmanaged

MANAGED = collection()
GUEST = unmanaged({"id": "id", "updated_idx": "updated_idx", "deleted": "deleted"}, table="demo.thing")
KINDS = [
    pytest.param(MANAGED, id="managed, mark"),
    pytest.param(replace(MANAGED, on_delete="remove"), id="managed, remove"),
    pytest.param(GUEST, id="unmanaged, mark"),
    pytest.param(replace(GUEST, on_delete="remove"), id="unmanaged, remove"),
]
UNIQUE = "create unique index one_status on demo.thing (status) where not deleted"


def holds(record_id: str, version: int, status: str, **overrides: object) -> dict[str, object]:
    return record(record_id, version, data={"status": status, "amount": version}, **overrides)


def made(url: str, of: Collection, *records: dict[str, object], constraint: str = UNIQUE) -> None:
    """The table with these rows, under the constraint."""
    if of.unmanaged is not None:
        execute(
            url,
            "create schema demo",
            "create table demo.thing (id text primary key, updated_idx bigint, deleted boolean, status text, amount bigint)",
        )
    sync(url, list(records), of=of, run_id="before")
    execute(url, constraint)


def stored(url: str) -> list[tuple[object, ...]]:
    return query(url, "select id, updated_idx, status from demo.thing where not deleted order by id")


@pytest.mark.parametrize("of", KINDS)
@pytest.mark.parametrize(("giver", "taker"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("batch_records", [1, 100])
def test_a_value_moves_from_a_deleted_row_to_a_new_one(
    warehouse_url: str, of: Collection, giver: str, taker: str, batch_records: int
) -> None:
    made(warehouse_url, of, holds(giver, 1, "x"))
    # Records of one page are one batch; of two pages, the taker is met first where batches are small.
    pages = [[holds(taker, 3, "x")], [holds(giver, 2, "x", deleted=True), holds("n", 4, "n")]]

    outcome = sync(warehouse_url, *pages, of=of, batch_records=batch_records, full_refresh=True)

    assert stored(warehouse_url) == sorted([(taker, 3, "x"), ("n", 4, "n")])
    assert rejects(warehouse_url) == {}
    with Warehouse(warehouse_url).connect() as connection:
        told = run_summaries(connection, "run")["demo/thing"].counts
    removed = 1 if of.on_delete == "remove" else 0
    assert told == Counts(fetched=3, inserted=2, deleted=1, created=2, removed=removed)
    assert outcome.counts.fetched == outcome.counts.accounted == 3
    assert row_count(warehouse_url) == 3 - removed


@pytest.mark.parametrize("of", [KINDS[0], KINDS[2]])
@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("step", [1, -1])
def test_a_value_is_handed_on_along_a_chain(warehouse_url: str, of: Collection, lanes: int, step: int) -> None:
    ids = [f"r{number:02}" for number in range(20)]
    made(warehouse_url, of, *(holds(record_id, 1, f"s{place:02}") for place, record_id in enumerate(ids)))

    sync(
        warehouse_url,
        [holds(record_id, 2, f"s{place + step:02}") for place, record_id in enumerate(ids)],
        of=of,
        lanes=lanes,
        full_refresh=True,
    )

    assert stored(warehouse_url) == [(record_id, 2, f"s{place + step:02}") for place, record_id in enumerate(ids)]
    assert rejects(warehouse_url) == {}


@pytest.mark.parametrize(
    "constraint",
    [
        pytest.param("alter table demo.thing add constraint one unique (status)", id="unique"),
        pytest.param("alter table demo.thing add constraint one exclude using btree (status with =)", id="exclusion"),
        pytest.param("create unique index one on demo.thing (lower(status))", id="expression"),
    ],
)
@pytest.mark.parametrize("of", [KINDS[0], KINDS[2]])
def test_two_rows_that_exchange_their_values_are_both_rejected_with_a_sentence(
    warehouse_url: str, of: Collection, constraint: str
) -> None:
    made(warehouse_url, of, holds("a", 1, "x"), holds("b", 1, "y"), constraint=constraint)

    outcome = sync(warehouse_url, [holds("a", 2, "y"), holds("b", 2, "x"), holds("c", 2, "z")], of=of, full_refresh=True)

    assert stored(warehouse_url) == [("a", 1, "x"), ("b", 1, "y"), ("c", 2, "z")]
    sqlstate = "23P01" if "exclude" in constraint else "23505"
    assert rejects(warehouse_url) == {"a": ("conflict", sqlstate), "b": ("conflict", sqlstate)}
    [(reason,)] = query(warehouse_url, "select reason from sequin_pipeline.rejects where record_id = 'a'")
    assert reason.endswith(
        "; it is tried again at the end of this run and of later ones, since the row that holds the value may let it go. "
        "Rows that exchange their values need a deferrable constraint"
    )
    assert "=(y)" in reason
    assert outcome.counts == Counts(fetched=3, inserted=1, rejected=2, created=1)


@pytest.mark.parametrize("when", ["deferrable", "deferrable initially deferred"])
@pytest.mark.parametrize("of", KINDS[2:])
@pytest.mark.parametrize("others", [[], [holds("n", 2, "bad")]], ids=["alone", "beside a bad row"])
def test_rows_exchange_their_values_under_a_deferrable_constraint(
    warehouse_url: str, of: Collection, when: str, others: list[dict[str, object]]
) -> None:
    made(
        warehouse_url,
        of,
        holds("a", 1, "x"),
        holds("b", 1, "y"),
        constraint=f"alter table demo.thing add constraint one unique (status) {when}",
    )
    execute(warehouse_url, "alter table demo.thing add check (status <> 'bad')")

    sync(
        warehouse_url,
        [holds("a", 2, "y"), holds("b", 2, "x"), *others],
        of=of,
        full_refresh=True,
    )

    assert stored(warehouse_url) == [("a", 2, "y"), ("b", 2, "x")]
    assert rejects(warehouse_url) == {str(one["id"]): ("postgres", "23514") for one in others}


def test_a_taker_waits_for_a_later_run(warehouse_url: str) -> None:
    made(warehouse_url, GUEST, holds("a", 1, "x"))
    source = ListSource([[holds("b", 3, "x"), holds("c", 1, "c")]])
    first = sync(warehouse_url, of=GUEST, source=source, run_id="first", full_refresh=True)
    waiting = rejects(warehouse_url)
    source.page_records = [*source.page_records, [holds("a", 2, "w")]]

    second = sync(warehouse_url, of=GUEST, source=source, run_id="second")

    assert (waiting, first.counts.rejected, first.settled) == ({"b": ("conflict", "23505")}, 1, 0)
    assert stored(warehouse_url) == [("a", 2, "w"), ("b", 3, "x"), ("c", 1, "c")]
    assert rejects(warehouse_url) == {}
    assert second.counts == Counts(fetched=1, updated=1)
    assert row_count(warehouse_url) == 3


def test_a_run_of_nothing_but_a_taker_that_its_end_stores_does_not_fail(warehouse_url: str) -> None:
    made(warehouse_url, GUEST, holds("a", 1, "x"))
    sync(warehouse_url, [holds("b", 3, "x"), holds("z", 1, "z")], of=GUEST, run_id="first", full_refresh=True)

    outcome = sync(warehouse_url, [holds("c", 4, "x")], [holds("a", 2, "w")], of=GUEST, batch_records=1, full_refresh=True)

    assert outcome.counts == Counts(fetched=2, updated=1, rejected=1)
    assert len(stored(warehouse_url)) == 3
    assert len(rejects(warehouse_url)) == 1


SELF = (
    "create table demo.thing (id text primary key, updated_idx bigint, deleted boolean, status text references demo.thing {deferred},"
    " amount bigint check (amount < 100))"
)


@pytest.mark.parametrize("deferred", ["", "deferrable initially deferred"])
@pytest.mark.parametrize("parent", ["a", "z"])
@pytest.mark.parametrize("bad", ["m", "parent"])
def test_children_of_a_parent_in_their_batch_are_not_rejected_for_an_unrelated_row(
    warehouse_url: str, deferred: str, parent: str, bad: str
) -> None:
    execute(warehouse_url, "create schema demo", SELF.format(deferred=deferred))
    children = [record(f"c{number:02}", 1, data={"status": parent, "amount": 1}) for number in range(30)]
    worse = record(parent if bad == "parent" else bad, 2, data={"amount": 1000})

    outcome = sync(warehouse_url, [*children, record(parent, 1, data={"amount": 1}), worse], of=GUEST, full_refresh=True)

    assert query(warehouse_url, "select count(*), count(status) from demo.thing") == [(31, 30)]
    assert rejects(warehouse_url) == {worse["id"]: ("postgres", "23514")}
    assert outcome.counts == Counts(fetched=32, inserted=31, rejected=1, created=31)


def test_children_that_come_batches_before_their_parent_are_stored_at_the_end_of_the_run(warehouse_url: str) -> None:
    execute(warehouse_url, "create schema demo", SELF.format(deferred=""))
    chain = [record(f"r{depth}", 1, data={"status": f"r{depth + 1}", "amount": 1}) for depth in range(5)]

    sync(warehouse_url, *([one] for one in chain), [record("r5", 1, data={"amount": 1})], of=GUEST, batch_records=1)

    assert query(warehouse_url, "select count(*) from demo.thing") == [(6,)]
    assert rejects(warehouse_url) == {}
    assert row_count(warehouse_url) == 6


def test_a_dry_run_tells_of_a_value_that_moves_as_the_run_does_it(warehouse_url: str) -> None:
    made(warehouse_url, MANAGED, holds("a", 1, "x"), holds("b", 1, "y"))
    source = ListSource([[holds("a", 1, "x"), holds("b", 1, "y")], [holds("a", 2, "y"), holds("b", 2, "z")]])

    found = dry_run(source, Warehouse(warehouse_url), MANAGED)

    assert found.counts == Counts(fetched=2, updated=2)


def random_history(chance: random.Random) -> list[list[list[dict[str, object]]]]:
    """Some runs of some pages: few records that hold few values, and let them go again, or are deleted."""
    versions = iter(range(2, 1000))

    def draw() -> dict[str, object]:
        status = chance.choice("vwxyz")
        return holds(chance.choice("abcdef"), next(versions), status, deleted=chance.random() < 0.25)

    return [
        [[draw() for _ in range(chance.choice((1, 2, 4, 8)))] for _ in range(chance.randint(1, 4))]
        for _ in range(chance.randint(1, 3))
    ]


def newest(delivered: Sequence[dict[str, object]]) -> dict[str, tuple[int, str | None]]:
    """By id the version that counts and the value that it holds: the promise, without any table."""
    counted: dict[str, tuple[int, str | None]] = {}
    for one in delivered:
        version, data = int(str(one["updated_idx"])), one["data"]
        assert isinstance(data, dict)
        if version > counted.get(str(one["id"]), (0, None))[0]:
            counted[str(one["id"])] = (version, None if one["deleted"] else str(data["status"]))
    return counted


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_not_stored_waits_for_a_value_that_another_row_holds(warehouse_url: str, seed: int) -> None:
    chance = random.Random(seed)
    of = chance.choice([kind.values[0] for kind in KINDS])
    assert isinstance(of, Collection)
    made(warehouse_url, of)
    of = replace(of, reject_limit_records=1000)
    source, delivered = ListSource([[]]), list[dict[str, object]]()

    for number, drawn in enumerate(random_history(chance)):
        pages = [*drawn, [holds("good", 1000 + number, f"good{number}")]]
        source.page_records = [*source.page_records, *pages]
        delivered += [one for page in pages for one in page]
        outcome = sync(
            warehouse_url,
            of=of,
            source=source,
            run_id=str(number),
            batch_records=chance.randint(1, 9),
            lanes=chance.choice((1, 2)),
        )

        assert outcome.counts.fetched == outcome.counts.accounted
        row_count(warehouse_url)
        table = {str(key): (version, status) for key, version, status in stored(warehouse_url)}
        held = {status: key for key, (_, status) in table.items()}
        wanted = newest(delivered)
        missing = {key: status for key, (version, status) in wanted.items() if status and table.get(key) != (version, status)}
        assert {key: held.get(status) not in (None, key) for key, status in missing.items()} == dict.fromkeys(missing, True)
        assert [key for key, (_, status) in wanted.items() if status is None and key in table] == []
        assert set(missing) <= set(rejects(warehouse_url))
        if not missing:
            assert rejects(warehouse_url) == {}
