"""What may identify a row: ids of other types, several columns, keys of partitioned tables."""

import pytest

from sequin_pipeline.ledger.counts import Counts
from tests.support.builders import record
from tests.support.reading import execute, query, rejects
from tests.table.unmanaged.tables import deliver, unmanaged

BOTH = {"sync_id": "syncId", "upstream_id": "upstreamId", "updated_idx": "idx", "deleted": "gone"}
ROWS = 'select "syncId", "upstreamId", status, idx, gone from app.joined order by 1, 2'


def of_sync(sync: str, upstream_id: str, version: int, **overrides: object) -> dict[str, object]:
    return record(f"{sync}-{upstream_id}", version, sync={"id": sync}, upstream_id=upstream_id, **overrides)


@pytest.mark.parametrize("versions", ["in the table", "in the ledger"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_a_key_of_two_columns_tells_the_syncs_apart(app_url: str, versions: str, lanes: int) -> None:
    execute(
        app_url,
        'create table app.joined ("syncId" text, "upstreamId" text, status text not null, idx bigint, gone boolean,'
        ' unique ("upstreamId", "syncId"))',
    )
    mapping = BOTH if versions == "in the table" else {name: column for name, column in BOTH.items() if name != "updated_idx"}
    of = unmanaged(mapping, table="app.joined", columns=unmanaged({}).columns[:1], key=("sync_id", "upstream_id"))
    history = [
        [of_sync("one", "x", 1), of_sync("two", "x", 2), of_sync("one", "y", 3)],
        [of_sync("two", "x", 5, deleted=True, data=None), of_sync("one", "x", 4, data={"status": "new"}), of_sync("one", "x", 2)],
    ]

    outcome = deliver(app_url, of, *history, batch_records=1, lanes=lanes)
    again = deliver(app_url, of, *history, lanes=lanes)

    assert outcome.counts == Counts(fetched=6, inserted=3, updated=1, deleted=1, duplicate=1, created=3)
    assert again.counts == Counts(fetched=6, unchanged=3, duplicate=3)
    expected = [("one", "x", "new", False), ("one", "y", "active", False), ("two", "x", "active", True)]
    assert [(sync, upstream, status, gone) for sync, upstream, status, _, gone in query(app_url, ROWS)] == expected


def test_an_open_reject_is_settled_by_a_good_version_where_the_table_has_no_record_id(app_url: str) -> None:
    execute(app_url, 'create table app.joined ("syncId" text, "upstreamId" text, status text, idx bigint, gone boolean)')
    execute(app_url, 'create unique index on app.joined ("syncId", "upstreamId")')
    of = unmanaged(BOTH, table="app.joined", columns=unmanaged({}).columns[:1], key=("sync_id", "upstream_id"))
    deliver(app_url, of, [of_sync("one", "x", 3, data={"status": ["no text"]}), of_sync("one", "z", 1)])
    waiting = rejects(app_url)

    deliver(app_url, of, [of_sync("one", "x", 4)])

    assert waiting == {"one-x": ("value", None)}
    assert rejects(app_url) == {}


UUID = "5b0c3a34-93a3-4b56-8df4-2bb41ea1d7cf"


@pytest.mark.parametrize(
    ("id_type", "good", "others"),
    [
        ("uuid", UUID, {UUID.upper(): "a uuid as Postgres itself writes it", "x": "a uuid as Postgres itself writes it"}),
        (
            "bigint",
            "9007199254740993",
            {"042": "a whole number as Postgres itself writes it", "1e3": "a whole number as Postgres itself writes it"},
        ),
        ("integer", "-7", {"+7": "a whole number as Postgres itself writes it"}),
        ("varchar(8)", "x7", {"too long an id": "at most 8 characters"}),
    ],
    ids=["uuid", "bigint", "integer", "varchar"],
)
def test_ids_of_another_type_are_kept_as_they_are_written_or_rejected(
    app_url: str, id_type: str, good: str, others: dict[str, str]
) -> None:
    execute(app_url, f"create table app.typed (id {id_type} primary key, idx bigint, gone boolean)")
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "gone"}, table="app.typed", columns=())
    records = [record(good, 1), *(record(name, 2) for name in others)]

    deliver(app_url, of, records)
    again = deliver(app_url, of, records)

    assert query(app_url, "select id::text, idx from app.typed") == [(good, 1)]
    assert dict(query(app_url, "select record_id, reason from sequin_pipeline.rejects")) == {
        name: f"column 'id' of the table takes {expected}" for name, expected in others.items()
    }
    assert again.counts == Counts(fetched=1 + len(others), unchanged=1, rejected=len(others))


def test_an_id_beyond_the_range_of_its_column_is_a_reject(app_url: str) -> None:
    execute(app_url, "create table app.typed (id bigint primary key, idx bigint, gone boolean)")
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "gone"}, table="app.typed", columns=())

    deliver(app_url, of, [record("1", 1), record("99999999999999999999", 2)])

    assert query(app_url, "select id, idx from app.typed") == [(1, 1)]
    assert rejects(app_url) == {"99999999999999999999": ("postgres", "22003")}


def test_a_record_without_a_value_in_its_key_is_a_reject(app_url: str) -> None:
    execute(app_url, "create table app.typed (id text, tenant text, idx bigint, gone boolean, unique (tenant, id))")
    mapping = {"id": "id", "internal_id": "tenant", "updated_idx": "idx", "deleted": "gone"}
    of = unmanaged(mapping, table="app.typed", columns=(), key=("id", "internal_id"))
    nobodys = record("nobody's", 1, sync={"id": "s1", "external_id": None})

    deliver(app_url, of, [nobodys, record("a", 1)], [nobodys], batch_records=1)

    assert query(app_url, "select id, tenant from app.typed") == [("a", "tenant-1")]
    assert dict(query(app_url, "select record_id, reason from sequin_pipeline.rejects")) == {
        "nobody's": "column 'tenant' of the table takes a value in every row, for it is part of the key"
    }


def test_tombstones_by_uuid_remove_rows(app_url: str) -> None:
    execute(app_url, "create table app.typed (id uuid primary key, idx bigint)")
    of = unmanaged({"id": "id", "updated_idx": "idx"}, table="app.typed", columns=(), on_delete="remove")

    outcome = deliver(
        app_url, of, [record(UUID, 1)], [record(UUID, 3, deleted=True, data=None)], [record(UUID, 2)], batch_records=1
    )

    assert outcome.counts == Counts(fetched=3, inserted=1, deleted=1, stale=1, created=1, removed=1)
    assert query(app_url, "select * from app.typed") == []


@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_a_partitioned_table_is_served(app_url: str, on_delete: str) -> None:
    execute(
        app_url,
        "create table app.split (id text, sync text, idx bigint, gone boolean, status text not null, primary key (id, sync))"
        " partition by list (sync)",
        "create table app.split_one partition of app.split for values in ('one')",
        "create table app.split_rest partition of app.split default",
    )
    mapping = {"id": "id", "sync_id": "sync", "updated_idx": "idx", "deleted": "gone"}
    of = unmanaged(
        mapping,
        table="app.split",
        columns=unmanaged({}).columns[:1],
        key=("id", "sync_id"),
        on_delete="remove" if on_delete == "remove" else "mark",
    )

    outcome = deliver(
        app_url,
        of,
        [of_sync("one", "x", 1), of_sync("two", "x", 2), of_sync("two", "y", 3)],
        [of_sync("one", "x", 5, data={"status": "new"}), of_sync("two", "y", 6, deleted=True, data=None)],
        batch_records=1,
    )

    kept = [("one", "one-x", "new", False), ("two", "two-x", "active", False)]
    marked = [("two", "two-y", "active", True)] if on_delete == "mark" else []
    assert query(app_url, "select sync, id, status, gone from app.split order by 1, 2") == kept + marked
    removed = 0 if on_delete == "mark" else 1
    assert outcome.counts == Counts(fetched=5, inserted=3, updated=1, deleted=1, created=3, removed=removed)
    assert query(app_url, "select count(*) from app.split_one") == [(1,)]


def test_an_identity_of_the_applications_own_is_used_up_by_new_rows_only(app_url: str) -> None:
    execute(
        app_url,
        "create table app.numbered (n integer generated always as identity primary key, id text not null unique, idx bigint,"
        " gone boolean, twice bigint generated always as (idx * 2) stored)",
    )
    of = unmanaged({"id": "id", "updated_idx": "idx", "deleted": "gone"}, table="app.numbered", columns=())

    deliver(app_url, of, [record("a", 1)], [record("a", 2)], [record("a", 3), record("b", 1)], batch_records=1)

    assert query(app_url, "select n, id, twice from app.numbered order by n") == [(1, "a", 6), (2, "b", 2)]
