"""Values that a message leaves out are those of the version before it, in whichever order, batches and repetitions versions come."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import permutations

import pytest

from sequin_pipeline.catalog import Collection, Column, parse_path
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.completion import Completion
from sequin_pipeline.runs.queue_run import DrainOutcome, drain
from sequin_pipeline.table.target import collection_target
from tests.support.builders import collection, record
from tests.support.encodings import encoded_database
from tests.support.postgres import PostgresServer
from tests.support.queues import ListQueue
from tests.support.reading import execute, query, rejects
from tests.table.unmanaged.tables import unmanaged

COLUMNS = (
    Column("title", parse_path("title"), "text"),
    Column("body", parse_path("body"), "text"),
    Column("deep", parse_path("settings.deep"), "text"),
)
THING = collection(columns=COLUMNS)
MANAGED = {on_delete: replace(THING, on_delete=on_delete) for on_delete in ("mark", "remove")}
APPLICATION = unmanaged(
    {"id": "id", "updated_idx": "version", "deleted": "gone", "data": "object"}, table="app.thing", columns=COLUMNS
)
TABLE = """create table app.thing (id text primary key, version bigint not null, gone boolean not null default false, title text, body text,
    deep text, object jsonb)"""

Told = Mapping[str, object]
WHY = "of body, settings the message leaves out the value: set REPLICA IDENTITY FULL on the source table shop.article"


def partial(record_id: str, version: int, told: Told, *unknown: str) -> dict[str, object]:
    """As a source writes a record whose message does not know some values."""
    return {**record(record_id, version, data=False), "partial": told, "unknown": list(unknown), "refused": WHY}


def full(record_id: str, version: int, **told: object) -> dict[str, object]:
    return record(record_id, version, data=told)


def history(record_id: str) -> list[dict[str, object]]:
    """Five versions of a row, of which three know only a part of it."""
    return [
        full(record_id, 1, title="one", body="long 1", settings={"deep": "s1"}),
        partial(record_id, 2, {"title": "two", "settings": {"deep": "s2"}}, "body"),
        partial(record_id, 3, {"title": "three", "body": "long 3"}, "settings"),
        full(record_id, 4, title="four", body="long 4", settings={"deep": "s4"}),
        partial(record_id, 5, {"title": "five"}, "body", "settings"),
    ]


def history_of_one_that_is_gone_for_a_time(record_id: str) -> list[dict[str, object]]:
    return [
        full(record_id, 1, title="one", body="long 1", settings={"deep": "s1"}),
        partial(record_id, 2, {"title": "two", "body": "long 2"}, "settings"),
        record(record_id, 3, data=None, deleted=True),
        full(record_id, 4, title="four", body="long 4", settings={"deep": "s4"}),
        partial(record_id, 5, {"title": "five", "settings": {"deep": "s5"}}, "body"),
    ]


def history_in_parts(record_id: str) -> list[dict[str, object]]:
    """Four versions of a row, of which each that changes a value is the only one that tells it."""
    return [
        full(record_id, 1, title="one", body="long 1", settings={"deep": "s1"}),
        partial(record_id, 2, {"title": "two", "body": "long 2"}, "settings"),
        partial(record_id, 3, {"title": "three", "settings": {"deep": "s3"}}, "body"),
        partial(record_id, 4, {"title": "four"}, "body", "settings"),
    ]


def folded(versions: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """The object in the end, member by member: the newest version that told it."""
    ordered = sorted(versions, key=lambda one: int(str(one["updated_idx"])))
    found: dict[str, object] = {}
    for one in ordered:
        told = one.get("partial") or one["data"] or {}
        assert isinstance(told, dict)
        found |= told
    return found


def run(url: str, of: Collection, *deliveries: Sequence[Mapping[str, object]]) -> DrainOutcome:
    return drain(ListQueue(deliveries), (of,), Warehouse(url), run_id="run")


def table_of(url: str, of: Collection) -> dict[object, tuple[object, ...]]:
    names = (
        "updated_idx, deleted, title, body, deep, data" if of.unmanaged is None else "version, gone, title, body, deep, object"
    )
    return {row[0]: row[1:] for row in query(url, f"select id, {names} from {of.table}")}


@pytest.fixture
def app(warehouse_url: str) -> str:
    execute(warehouse_url, "create schema app", TABLE)
    return warehouse_url


@pytest.mark.parametrize("deliveries", [1, 5], ids="{} deliveries".format)
@pytest.mark.parametrize("of", [*MANAGED.values(), APPLICATION], ids=["mark", "remove", "unmanaged"])
@pytest.mark.parametrize("versions_of", [history, history_of_one_that_is_gone_for_a_time], ids=["updates", "gone for a time"])
def test_any_order_batches_and_repetition_end_in_the_same_row(
    app: str, of: Collection, deliveries: int, versions_of: object
) -> None:
    """Each of 120 rows gets its versions in another order, and each version twice; what has to wait as a reject is tried again."""
    assert callable(versions_of)
    orders = list(permutations(range(5)))
    sent = [[versions_of(f"r{number:03}")[order[step % 5]] for number, order in enumerate(orders)] for step in range(10)]
    size = 10 // deliveries
    batches = [[one for step in sent[start : start + size] for one in step] for start in range(0, 10, size)]

    drain(ListQueue(batches), (replace(of, reject_limit_share=1.0),), Warehouse(app), run_id="run")

    expected = folded(versions_of("any"))
    settings = expected["settings"]
    assert isinstance(settings, dict)
    row = (5, False, expected["title"], expected["body"], settings["deep"], expected)
    assert table_of(app, of) == {f"r{number:03}": row for number in range(len(orders))}
    assert rejects(app) == {}


@pytest.mark.parametrize("runs", [1, 4], ids="{} runs".format)
@pytest.mark.parametrize("of", [*MANAGED.values(), APPLICATION], ids=["mark", "remove", "unmanaged"])
def test_versions_that_come_once_in_any_order_end_in_the_same_row_without_a_command(app: str, of: Collection, runs: int) -> None:
    """What a newer version took from one before the reject is replaced by what the reject tells."""
    orders = list(permutations(range(4)))
    deliveries = [[history_in_parts(f"r{number}")[order[step]] for number, order in enumerate(orders)] for step in range(4)]

    for part in [deliveries] if runs == 1 else [[one] for one in deliveries]:
        run(app, of, *part)

    row = (4, False, "four", "long 2", "s3", {"title": "four", "body": "long 2", "settings": {"deep": "s3"}})
    assert table_of(app, of) == {f"r{number}": row for number in range(len(orders))}
    assert rejects(app) == {}


@dataclass
class QueueOfTwoRuns(ListQueue):
    """Another run drains the same queue once the first delivery of this one has been stored."""

    other_run: Callable[[], object] = tuple

    def committed(self, cursor: str) -> None:
        super().committed(cursor)
        if cursor == "0":
            self.other_run()


@pytest.mark.parametrize(
    "late",
    [
        pytest.param(full("a", 7, title="seven", body="new", settings={"deep": "s"}), id="whole"),
        pytest.param(full("a", 7, title="seven", body="new"), id="without a column that came later"),
        pytest.param(record("a", 7, data={"title": "seven", "body": "new"}, deleted=True), id="a tombstone with its object"),
    ],
)
@pytest.mark.parametrize("of", [*MANAGED.values(), APPLICATION], ids=["mark", "remove", "unmanaged"])
def test_a_late_version_tells_what_another_run_of_the_same_queue_had_to_borrow(
    app: str, of: Collection, late: dict[str, object]
) -> None:
    def other_run() -> None:
        one = full("a", 1, title="one", body="old", settings={"deep": "s"})
        run(app, of, [one], [partial("a", 10, {"title": "ten", "settings": {"deep": "s"}}, "body")])

    queue = QueueOfTwoRuns([[full("z", 1, title="z", body="z", settings={})], [late]], other_run=other_run)

    drain(queue, (of,), Warehouse(app), run_id="late")

    data = {"title": "ten", "body": "new", "settings": {"deep": "s"}}
    assert table_of(app, of)["a"] == (10, False, "ten", "new", "s", data)
    assert rejects(app) == {}


def test_a_value_that_is_not_known_leaves_the_stored_one_in_its_column_and_in_data(warehouse_url: str) -> None:
    one = full("a", 1, title="first", body="long", settings={"deep": "s", "n": 1e3})
    two = partial("a", 2, {"title": "second"}, "body", "settings")

    outcome = run(warehouse_url, THING, [one], [two])
    again = run(warehouse_url, THING, [two], [one, two])

    data = {"title": "second", "body": "long", "settings": {"deep": "s", "n": 1000}}
    assert table_of(warehouse_url, THING) == {"a": (2, False, "second", "long", "s", data)}
    assert outcome.collections["demo/thing"].counts == Counts(fetched=2, inserted=1, updated=1, created=1)
    assert again.collections["demo/thing"].counts == Counts(fetched=3, unchanged=2, duplicate=1)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param([], id="no row"),
        pytest.param([record("a", 1, data=None, deleted=True)], id="a tombstone without an object"),
        pytest.param([full("a", 1, title="first", body="long")], id="an object that lacks one of the values"),
    ],
)
def test_where_nothing_tells_the_value_the_record_is_a_reject(warehouse_url: str, before: list[dict[str, object]]) -> None:
    two = partial("a", 2, {"title": "second"}, "body", "settings")
    run(warehouse_url, THING, before)
    stored = table_of(warehouse_url, THING)

    run(warehouse_url, THING, [two])

    assert table_of(warehouse_url, THING) == stored
    [(raw, reason)] = query(warehouse_url, "select raw, reason from sequin_pipeline.rejects where resolved_at is null")
    assert (json.loads(bytes(raw)), reason) == (two, WHY)


def test_a_table_of_an_application_that_keeps_no_object_cannot_tell(app: str) -> None:
    of = unmanaged({"id": "id", "updated_idx": "version", "deleted": "gone"}, table="app.thing", columns=COLUMNS)
    run(app, of, [full("a", 1, title="first", body="long", settings={"deep": "s"})])

    run(app, of, [partial("a", 2, {"title": "second"}, "body", "settings")])

    assert table_of(app, of) == {"a": (1, False, "first", "long", "s", None)}
    assert rejects(app) == {"a": ("partial", None)}


def test_what_an_application_wrote_over_a_value_is_the_stored_one(app: str) -> None:
    run(app, APPLICATION, [full("a", 1, title="first", body="long", settings={"deep": "s"})])
    execute(app, """update app.thing set object = object || '{"body": "mine"}'""")

    run(app, APPLICATION, [partial("a", 2, {"title": "second"}, "body", "settings")])

    assert table_of(app, APPLICATION)["a"][3] == "mine"


def test_a_column_that_is_declared_later_is_filled_from_completed_objects(warehouse_url: str) -> None:
    run(warehouse_url, THING, [full("a", 1, title="first", body="long", settings={"deep": "s"})])
    run(warehouse_url, THING, [partial("a", 2, {"title": "second"}, "body", "settings")])
    wider = replace(THING, columns=(*COLUMNS, Column("settings", parse_path("settings"), "jsonb")))

    run(warehouse_url, wider, [])

    assert query(warehouse_url, "select updated_idx, settings, body from demo.thing") == [(2, {"deep": "s"}, "long")]


WHOLE = [full("b", 1, title="one"), full("c", 2, title="two")]
NEEDS_NO_VALUES = [
    pytest.param(json.dumps(WHOLE, indent=1), id="whole records"),
    pytest.param(json.dumps([full("b", 1, partial={"title": "one"}), *WHOLE]), id="a column named partial"),
    pytest.param(json.dumps([full("b", 1, title="\ud800"), record("c\ud800", 1)], indent=1), id="half a surrogate pair"),
    pytest.param(json.dumps([7, record(7, 1), {}, record("c\0", 1)], indent=1), id="records without an id"),  # type: ignore[arg-type]  # as a fault
]


@pytest.mark.parametrize("borrowed", [0, 1], ids=["nothing borrowed", "a value of another row borrowed"])
@pytest.mark.parametrize("page", NEEDS_NO_VALUES)
def test_pages_that_leave_nothing_out_are_handed_on_as_they_came(warehouse_url: str, page: str, borrowed: int) -> None:
    """The table is not asked: it is not even there."""
    part = partial("a", 2, {"title": "second", "settings": {}}, "body")
    run(warehouse_url, THING, [full("a", 1, title="first", body="long", settings={})], [part] * borrowed)
    execute(warehouse_url, "drop table demo.thing")
    records = page.encode()

    with Warehouse(warehouse_url).connect() as connection:
        completed = Completion(Ledger("demo.thing", "demo/thing"))(connection, collection_target(THING), records)

    assert completed is records
    assert query(warehouse_url, "select count(*) from sequin_pipeline.borrowed") == [(borrowed,)]


@pytest.mark.parametrize("beside", ['{ "id" : "b","updated_idx":1e0 }', '{"id": "\\ud800"}', '{"id": 7, "id": null}', "[ 7 ]"])
def test_beside_a_record_that_is_completed_the_others_keep_their_bytes(warehouse_url: str, beside: str) -> None:
    run(warehouse_url, THING, [full("a", 1, title="first", body="long")])
    part = '{"id": "a", "updated_idx": 2, "partial":{"title": "second"}, "unknown": ["body"], "refused": "", "data": false}'

    with Warehouse(warehouse_url).connect() as connection:
        completion = Completion(Ledger("demo.thing", "demo/thing"))
        completed = completion(connection, collection_target(THING), f"[{beside},{part},{beside}]".encode())

    whole = '{"id":"a","updated_idx":2,"deleted":false,"inserted_at":null,"data":{"title":"second","body":"long"}}'
    assert completed.decode() == f"[{beside},{whole},{beside}]"


APPLICATION_BY_UPSTREAM_ID = unmanaged(
    {"id": "id", "upstream_id": "up", "updated_idx": "version", "deleted": "gone", "data": "object"},
    table="app.thing",
    columns=COLUMNS,
    key=("upstream_id",),
)


@pytest.mark.parametrize(("encoding", "word"), [("LATIN1", "Ω"), ("WIN1252", "文"), ("KOI8R", "ë")])
@pytest.mark.parametrize(
    "of", [THING, APPLICATION, APPLICATION_BY_UPSTREAM_ID], ids=["managed", "unmanaged", "unmanaged by upstream_id"]
)
def test_a_partial_record_that_the_database_cannot_hold_is_a_reject_and_stops_nothing_else(
    postgres_server: PostgresServer, of: Collection, encoding: str, word: str
) -> None:
    bad = partial(f"b{word}", 2, {"title": "second", "settings": {}}, "body") | {"upstream_id": f"up{word}"}
    good = partial("a", 2, {"title": "second", "settings": {}}, "body")
    with encoded_database(postgres_server, encoding) as url:
        execute(url, "create schema app", TABLE.replace("id text primary key", "id text primary key, up text unique"))
        run(url, of, [full("a", 1, title="first", body="long", settings={})])

        run(url, of, [bad, good])

        assert table_of(url, of) == {"a": (2, False, "second", "long", None, {"title": "second", "body": "long", "settings": {}})}
        assert list(rejects(url).values()) == [("partial", None)]


@pytest.mark.parametrize(
    ("record_id", "version", "member"),
    [
        pytest.param("bΩ", 2, "body", id="an id of other characters"),
        pytest.param("b\0", 2, "body", id="an id with a NUL"),
        pytest.param("b", 2, "bodyΩ", id="a member of other characters"),
        pytest.param("b", 2, "body\0", id="a member with a NUL"),
        pytest.param("b", 2**63, "body", id="a version that is too great"),
    ],
)
def test_what_is_completed_within_a_delivery_and_cannot_be_held_is_a_reject_and_stops_nothing_else(
    postgres_server: PostgresServer, record_id: str, version: int, member: str
) -> None:
    bad = [full(record_id, 1, **{member: "long"}), partial(record_id, version, {"title": "second"}, member)]
    with encoded_database(postgres_server, "LATIN1") as url:
        run(url, THING, [*bad, full("a", 1, title="first")])

        assert "a" in table_of(url, THING)
        assert len(rejects(url)) == 1


@pytest.mark.parametrize("of", [*MANAGED.values(), APPLICATION], ids=["mark", "remove", "unmanaged"])
def test_the_history_tells_what_became_of_completed_records(app: str, of: Collection) -> None:
    kept = replace(of, history=timedelta(days=1))
    one = full("a", 1, title="one", body="old", settings={"deep": "s"})
    ten = partial("a", 10, {"title": "ten"}, "body", "settings")
    late = full("a", 7, title="seven", body="new", settings={"deep": "s"})

    run(app, kept, [ten], [one], [ten], [late], [late], [ten])

    # The first time that it comes, the late version is a value of the newer one; what comes again unchanged is not told.
    assert query(app, "select version, fate, stored_version, reason from sequin_pipeline.history order by at") == [
        (10, "rejected", None, WHY),
        (1, "inserted", None, None),
        (10, "updated", 1, None),
        (10, "updated", 10, None),
        (7, "stale", 10, None),
    ]
