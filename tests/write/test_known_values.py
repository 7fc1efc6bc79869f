"""A known record is told by its version and its hash; what is declared of its object is not even read, and nothing follows from that."""

from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest

from sequin_pipeline.catalog import Collection, Column, parse_path
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.normalize.normalizer import Normalizer
from tests.support.builders import ListSource, collection, page_of, record
from tests.support.reading import execute, query
from tests.support.syncing import sync
from tests.support.ways import going

Record = dict[str, object]
STATUS, AMOUNT = Column("status", parse_path("status"), "text"), Column("amount", parse_path("amount"), "bigint")
TAGS = Column("tags", parse_path("tags"), "text[]")
ROWS = "select id, updated_idx, status, amount, xmin::text, ctid::text from demo.thing order by id"


@pytest.fixture
def way() -> str:
    """Here it matters."""
    return "as the product chooses"


def thing(*columns: Column, **overrides: object) -> Collection:
    return replace(collection(columns=columns), reject_limit_records=100, **overrides)  # type: ignore[arg-type]


def read_again(url: str, of: Collection, *pages: list[Record], run_id: str = "again") -> Counts:
    """A full read, each page a batch, of which the second is the first one that is asked about and read lazily."""
    return sync(url, of=of, source=ListSource(pages), run_id=run_id, full_refresh=True, batch_records=1).counts


def sent_bytes(url: str, run_id: str) -> list[int]:
    """Of each batch of a run, in order."""
    rows = query(
        url,
        "select sum(bytes)::int from sequin_pipeline.merges where run_id = %s group by batch_id order by min(committed_at)",
        run_id,
    )
    return [sent for (sent,) in rows]


# ---- hashes of earlier builds


def age(url: str, of: Collection, records: list[Record]) -> None:
    """Gives rows the hashes that builds before the present framing stored."""
    normalizer = Normalizer(of)
    frame = normalizer(page_of(records, None).records).frame
    hashes = normalizer.earlier_hashes(pa.Table.from_pandas(frame)).to_pylist()
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        aged = [(value.hex(), name) for value, name in zip(hashes, frame["id"], strict=True)]
        cursor.executemany("update demo.thing set content_hash = %s::uuid where id = %s", aged)


BATCHES: list[list[Record]] = [
    [
        record(f"{letter}{number}", 7, deleted=number == 5, data=None if number == 5 else {"status": "é", "amount": number})
        for number in range(6)
    ]
    for letter in "abcde"
]
ALL = [each for batch in BATCHES for each in batch]


@pytest.mark.parametrize("overrides", [{}, {"observes_time": True}, {"data_type": "json"}], ids=["versions", "times", "json"])
@pytest.mark.parametrize("aged", [ALL, ALL[::2], ALL[:3]], ids=["all", "every second one", "a few"])
def test_rows_of_an_earlier_build_are_known_and_not_written(
    overrides: dict[str, object], aged: list[Record], warehouse_url: str
) -> None:
    of = thing(STATUS, AMOUNT, **overrides)
    sync(warehouse_url, ALL, of=of)
    age(warehouse_url, of, aged)
    before = query(warehouse_url, ROWS)

    # Not full refreshes, which compare whatever is more than ASCII.
    first = sync(warehouse_url, of=of, source=ListSource([ALL, *BATCHES]), run_id="again", batch_records=1).counts

    assert first == Counts(fetched=30, unchanged=30)
    assert query(warehouse_url, ROWS) == before
    assert sent_bytes(warehouse_url, "again")[1:] == [0, 0, 0, 0]


def test_a_row_of_an_earlier_build_gets_the_present_hash_when_it_changes(warehouse_url: str) -> None:
    of = thing(STATUS, AMOUNT)
    sync(warehouse_url, [record("fresh", 8)], ALL, of=of)
    present = dict(query(warehouse_url, "select id, content_hash from demo.thing"))
    age(warehouse_url, of, ALL)
    newer = record("c2", 8, data={"status": "new", "amount": 2})
    other = record("d1", 7, data={"status": "other", "amount": 1})

    counts = read_again(warehouse_url, of, *BATCHES[:2], [*BATCHES[2][:2], newer, *BATCHES[2][3:]], [BATCHES[3][0], other])
    fresh = dict(query(warehouse_url, "select id, content_hash from demo.thing"))

    assert (counts.updated, counts.rewritten, counts.unchanged) == (2, 1, 18)
    assert query(warehouse_url, "select id, status from demo.thing where status <> 'é' and id <> 'fresh' order by id") == [
        ("c2", "new"),
        ("d1", "other"),
    ]
    assert present["fresh"] == fresh["fresh"]
    assert {name for name in fresh if fresh[name] == present[name]} == {"fresh"}


# ---- text that was stored in another encoding


def test_a_full_read_finds_text_that_came_as_an_escape_garbled(warehouse_url: str) -> None:
    sent = record("odd", 5, data={"status": "é", "amount": 1})
    sync(warehouse_url, [*GOOD, sent], of=thing(STATUS, AMOUNT))
    execute(warehouse_url, "update demo.thing set status = 'Ã©' where id = 'odd'")

    with going("asked first"):
        counts = read_again(warehouse_url, thing(STATUS, AMOUNT), GOOD, GOOD, [*GOOD[:3], sent])

    assert counts == Counts(fetched=12, updated=1, unchanged=11, rewritten=1)
    assert query(warehouse_url, "select status from demo.thing where id = 'odd'") == [("é",)]


# ---- values that do not fit

GOOD: list[Record] = [record(f"good{number}", 5) for number in range(4)]
ODD_OBJECTS = {
    "another type": ({"status": "x", "amount": "many"}, (STATUS, replace(AMOUNT, type="text")), (STATUS, AMOUNT)),
    "required from now on": ({"amount": 1}, (STATUS, AMOUNT), (replace(STATUS, is_required=True), AMOUNT)),
    "no nulls any more": ({"status": "x", "tags": [None]}, (STATUS, TAGS), (STATUS, replace(TAGS, rejects_nulls=True))),
    "a new column": ({"status": "x", "amount": "many"}, (STATUS,), (STATUS, AMOUNT)),
}


@pytest.mark.parametrize(("odd", "before", "after"), ODD_OBJECTS.values(), ids=ODD_OBJECTS)
def test_a_stored_record_that_does_not_fit_its_new_declaration_is_a_reject_at_every_read(
    odd: object, before: tuple[Column, ...], after: tuple[Column, ...], warehouse_url: str
) -> None:
    stored = record("odd", 5, data=odd)
    sync(warehouse_url, [*GOOD, stored], of=thing(*before))
    changed = thing(*after)
    if before[-1].name == "amount" and before[-1].type == "text":
        execute(warehouse_url, "alter table demo.thing alter column amount type bigint using null")

    with going("asked first"):
        reads = [read_again(warehouse_url, changed, GOOD, [*GOOD[:3], stored], run_id=f"read {number}") for number in range(3)]

    assert [(counts.rejected, counts.fetched) for counts in reads] == [(1, 8)] * 3


UNFIT = {"status": "x", "amount": "many"}
BESIDE_KNOWN: dict[str, tuple[Record, str, Counts]] = {
    "an older version than the stored one": (record("good0", 4, data=UNFIT), "mark", Counts(fetched=4, unchanged=3, rejected=1)),
    "delivered beside the version that is known": (
        record("good1", 3, data=UNFIT),
        "mark",
        Counts(fetched=4, unchanged=3, rejected=1),
    ),
    "the stored version with another object": (
        record("good3", 5, data=UNFIT),
        "mark",
        Counts(fetched=4, unchanged=3, rejected=1),
    ),
    "a tombstone whose row has been removed": (
        record("gone", 9, deleted=True, data=UNFIT),
        "remove",
        Counts(fetched=4, unchanged=3, rejected=1),
    ),
}


@pytest.mark.parametrize(("odd", "on_delete", "expected"), BESIDE_KNOWN.values(), ids=BESIDE_KNOWN)
@pytest.mark.parametrize("way", ["staged", "asked first"])
def test_what_does_not_fit_is_a_reject_whatever_else_would_become_of_it(
    odd: Record, on_delete: str, expected: Counts, way: str, warehouse_url: str
) -> None:
    of = thing(STATUS, AMOUNT, on_delete=on_delete)
    sync(warehouse_url, [*GOOD, record("gone", 8)], [record("gone", 9, deleted=True, data=None)], of=of)
    before = query(warehouse_url, ROWS)

    with going(way):
        counts = read_again(warehouse_url, of, [*GOOD[:3], odd])

    assert counts == expected
    assert query(warehouse_url, ROWS) == before
    assert query(warehouse_url, "select record_id, class from sequin_pipeline.rejects") == [(odd["id"], "value")]


def test_where_the_newest_version_does_not_fit_the_one_before_it_is_stored(warehouse_url: str) -> None:
    of = thing(STATUS, AMOUNT)
    sync(warehouse_url, GOOD, of=of)
    versions = [record("good0", 7), record("good0", 8, data=UNFIT), record("new", 2, data=UNFIT), record("new", 1)]

    with going("asked first"):
        counts = read_again(warehouse_url, of, [*GOOD[1:], *versions])

    assert counts == Counts(fetched=7, inserted=1, updated=1, unchanged=3, rejected=2, created=1)
    assert query(warehouse_url, "select id, updated_idx from demo.thing where id in ('good0', 'new') order by id") == [
        ("good0", 7),
        ("new", 1),
    ]


def test_a_tombstone_brings_the_values_of_the_object_that_came_before_it_in_its_batch(warehouse_url: str) -> None:
    of = thing(STATUS, AMOUNT)
    sync(warehouse_url, GOOD, of=of)
    versions = [record("good0", 7, data={"status": "last", "amount": 7}), record("good0", 8, deleted=True, data=None)]

    with going("asked first"):
        counts = read_again(warehouse_url, of, [*GOOD[1:], *versions])

    assert counts == Counts(fetched=5, deleted=1, unchanged=3, duplicate=1)
    assert query(warehouse_url, "select status, amount, deleted from demo.thing where id = 'good0'") == [("last", 7, True)]
