"""What a change of a Postgres table becomes: the record that a reader of the records API would have been given."""

import json
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequin_pipeline.catalog import OnDelete, TableName
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.records import json_text
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.runs.queue_run import drain
from sequin_pipeline.sources.sequin_stream import Change, record_of_change, records_of_change, version_of
from sequin_pipeline.sources.sequin_stream_keys import may_have_changed, old_key
from tests.support.builders import collection
from tests.support.queues import ListQueue
from tests.support.reading import query

LSN = 123_456_789
ORDERS = replace(collection(columns=()), provider="shop", name="orders", table=TableName("shop", "orders"))


COMPACT, SPACED, WIDE = (",", ":"), (", ", ": "), (" , ", " : ")
"""How JSON texts may stand between their values; Sequin writes the first."""


def change(separators: tuple[str, str] = COMPACT, **overrides: Any) -> dict[str, bytes]:
    """An update of a row of `shop.orders`; `metadata` overrides single fields, and None takes one out."""
    metadata = {
        "table_schema": "shop",
        "table_name": "orders",
        "commit_timestamp": "2024-10-28T21:37:01.127470Z",
        "commit_lsn": LSN,
        "commit_idx": 1,
        "record_pks": ["1234"],
        "database": {"id": "db-1", "name": "myapp-prod"},
    } | overrides.pop("metadata", {})
    message = {
        "record": {"id": 1234, "status": "shipped"},
        "changes": {"status": "pending"},
        "action": "update",
        "metadata": {name: value for name, value in metadata.items() if value is not None},
    } | overrides
    return json_text.members(json.dumps(message, separators=separators).encode())


def record(**overrides: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(record_of_change(change(**overrides), stream="orders-sink"))
    return found


def test_a_change_becomes_a_record_whose_table_key_and_version_come_from_the_metadata() -> None:
    found = record()

    assert found == {
        "id": "95458ad2-ebc1-5db1-916b-667c1690c5ec",
        "collection_id": "shop:orders",
        "provider": "shop",
        "stream_id": "orders-sink",
        "sync": {"id": "db-1", "external_id": None, "metadata": {}},
        "upstream_id": "1234",
        "updated_idx": LSN * 4096 + 1,
        "deleted": False,
        "inserted_at": "2024-10-28T21:37:01.127470Z",
        "data": {"id": 1234, "status": "shipped"},
    }


def test_the_row_is_handed_on_byte_for_byte() -> None:
    row = b'{"id": 1,  "price": 199.990000000000000000000001, "big": 9007199254740993, "a": "\\u00e9"}'

    found = record_of_change({**change(), "record": row}, stream="s")

    assert found.endswith(b',"data":' + row + b"}")


@pytest.mark.parametrize(
    ("overrides", "deleted"),
    [
        pytest.param({"action": "insert"}, False, id="insert"),
        pytest.param({"action": "update"}, False, id="update"),
        pytest.param({"action": "read"}, False, id="read"),
        pytest.param({"action": None}, False, id="none, as messages of the kind record have"),
        pytest.param({"action": "delete"}, True, id="delete"),
        pytest.param({"action": "truncate"}, "truncate", id="unknown: no boolean, so that the record is rejected"),
    ],
)
def test_the_action_tells_whether_the_row_is_gone(overrides: dict[str, Any], deleted: object) -> None:
    assert record(**overrides)["deleted"] == deleted


def test_a_delete_carries_the_last_values() -> None:
    assert record(action="delete")["data"] == {"id": 1234, "status": "shipped"}


@pytest.mark.parametrize(
    ("pks", "row"),
    [
        pytest.param(["1234"], {"id": 1234, "status": None}, id="one column"),
        pytest.param(["eu", "7"], {"region": "eu", "number": 7, "status": None}, id="two columns"),
        pytest.param(["1234"], {}, id="nothing at all"),
    ],
)
def test_a_delete_with_nothing_but_the_key_is_a_bare_tombstone(pks: list[str], row: dict[str, Any]) -> None:
    """Under REPLICA IDENTITY DEFAULT: its nulls must not replace what is stored."""
    assert record(action="delete", record=row, metadata={"record_pks": pks})["data"] is None
    assert record(action="update", record=row, metadata={"record_pks": pks})["data"] == row


@pytest.mark.parametrize(
    ("metadata", "row", "upstream_id"),
    [
        pytest.param({"record_pks": ["a", "b"]}, {"id": 1}, '["a","b"]', id="several columns"),
        pytest.param({"record_pks": [7]}, {"id": 1}, "7", id="a number"),
        pytest.param({"record_pks": None}, {"id": 1}, "1", id="not told: the column id"),
        pytest.param({"record_pks": None}, {"id": "x"}, "x", id="not told: the column id, a text"),
        pytest.param({"record_pks": None}, {"key": 1}, None, id="not told, and no column id"),
        pytest.param({"record_pks": None}, {"id": None}, None, id="not told, and the column id is null"),
    ],
)
def test_the_primary_key_is_what_the_metadata_tells_else_the_column_id(
    metadata: dict[str, Any], row: dict[str, Any], upstream_id: str | None
) -> None:
    found = record(metadata=metadata, record=row)

    assert found.get("upstream_id") == upstream_id
    assert ("id" in found) == (upstream_id is not None)


def test_rows_of_two_databases_or_tables_with_one_key_are_two_records() -> None:
    overrides: tuple[dict[str, object], ...] = (
        {},
        {"database": {"id": "db-2"}},
        {"table_name": "returns"},
        {"table_schema": "outlet"},
        {"record_pks": ["2"]},
    )

    ids = {record(metadata=metadata)["id"] for metadata in overrides}

    assert len(ids) == 5


@pytest.mark.parametrize(
    ("metadata", "sync_id"),
    [
        pytest.param({"database": None, "database_name": "myapp"}, "myapp", id="older servers name the database"),
        pytest.param({"database": None}, "orders-sink", id="else the consumer stands for it"),
    ],
)
def test_the_database_is_the_tenant(metadata: dict[str, Any], sync_id: str) -> None:
    assert record(metadata=metadata)["sync"]["id"] == sync_id


def test_versions_grow_with_the_log_and_within_a_transaction() -> None:
    places = [(LSN, 0), (LSN, 1), (LSN, 4095), (LSN + 1, 0), (LSN + 64, 0), (2**51 - 1, 4095)]

    versions = [version_of(lsn, idx) for lsn, idx in places]

    assert versions == sorted({version for version in versions if version is not None})
    assert versions[-1] == 2**63 - 1


def test_a_transaction_of_very_many_changes_stays_below_the_next_one_of_the_same_row() -> None:
    versions = [version_of(LSN, 262_142), version_of(LSN, 262_143), version_of(LSN + 64, 0)]

    assert versions == sorted({version for version in versions if version is not None})


@pytest.mark.parametrize(
    ("lsn", "idx", "action", "version"),
    [
        pytest.param(10, None, "update", 40_960, id="servers without an index"),
        pytest.param(None, None, "read", 0, id="a backfill without a position is older than every change"),
        pytest.param(None, None, "update", None, id="a change without a position has no version"),
        pytest.param(None, 3, None, None, id="nor has a row of the kind record"),
    ],
)
def test_what_stands_in_for_a_place_in_the_log(lsn: int | None, idx: int | None, action: str | None, version: int | None) -> None:
    assert version_of(lsn, idx, action=action) == version


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({"metadata": {"table_name": None}}, id="no table"),
        pytest.param({"metadata": {"commit_lsn": "0/16B3748"}}, id="a position that is no number"),
    ],
)
def test_a_change_that_names_no_table_is_told_apart(overrides: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"table_name|commit_lsn"):
        record(**overrides)


PLACEHOLDER = "unchanged_toast"


@pytest.mark.parametrize(
    ("overrides", "unknown"),
    [
        pytest.param({"action": "update", "changes": {}}, ["body", "tags"], id="update, nothing told of the old row"),
        pytest.param({"action": "update", "changes": None}, ["body", "tags"], id="update without changes"),
        pytest.param({"action": "update", "changes": {"id": 1}}, ["body", "tags"], id="update that tells other columns"),
        pytest.param({"action": "update", "changes": {"body": "before"}}, ["tags"], id="the old value is told: a text"),
        pytest.param({"action": None}, ["body", "tags"], id="no action, as messages of the kind record have"),
        pytest.param({"action": "insert"}, [], id="insert: a text"),
        pytest.param({"action": "read"}, [], id="row of a backfill: a text"),
        pytest.param({"action": "delete"}, [], id="delete: a text"),
    ],
)
def test_the_word_for_a_value_that_was_not_sent_is_a_text_wherever_the_value_was(
    overrides: dict[str, Any], unknown: list[str]
) -> None:
    row = {"id": 1234, "status": PLACEHOLDER + "!", "body": PLACEHOLDER, "tags": PLACEHOLDER, "deep": {"of": PLACEHOLDER}}

    found = record(record=row, **overrides)

    if not unknown:
        assert (found["data"], "partial" in found) == (row, False)
        return
    assert found["unknown"] == unknown
    assert found["partial"] == {name: value for name, value in row.items() if name not in unknown}
    assert found["refused"] == (
        f"of {', '.join(unknown)} the message leaves out the value, which its change did not touch, and no object stored here tells it: "
        "set REPLICA IDENTITY FULL on the source table shop.orders, and have the row sent again. A table with managed: false stores "
        "objects only where its columns map data"
    )


def records(*changes: dict[str, bytes]) -> list[dict[str, Any]]:
    """What the last of the changes becomes, behind the others."""
    examples: dict[str, deque[Change]] = {}
    found: list[bytes] = []
    for one in changes:
        found = records_of_change(one, stream="orders-sink", examples=examples)
    return [json.loads(raw) for raw in found]


def update(
    key: list[str], row: dict[str, object], changes: dict[str, object], separators: tuple[str, str] = COMPACT
) -> dict[str, bytes]:
    return change(separators, record=row, changes=changes, metadata={"record_pks": key})


@pytest.mark.parametrize("separators", [COMPACT, SPACED, WIDE], ids=["compact", "spaced", "wide"])
@pytest.mark.parametrize(
    ("key", "row", "changes", "old"),
    [
        pytest.param(["8"], {"id": 8, "t": "x"}, {"id": 7}, "7", id="a number"),
        pytest.param(
            ["b"], {"code": "b", "n": 1}, {"code": "a", "n": 2}, "a", id="a text of another name, beside another change"
        ),
        pytest.param(["8", "eu"], {"id": 8, "at": "eu"}, {"id": 7}, '["7","eu"]', id="the first of two"),
        pytest.param(["8", "eu"], {"id": 8, "at": "eu"}, {"at": "us"}, '["8","us"]', id="the second of two"),
        pytest.param(["8", "eu"], {"at": "eu", "id": 8}, {"at": "us", "id": 7}, '["7","us"]', id="both, in another order"),
        pytest.param(["8", "8"], {"a": 8, "b": 8}, {"a": 7, "b": 7}, '["7","7"]', id="two that are equal"),
        pytest.param(["t", "3"], {"flag": True, "n": 3}, {"flag": False}, '["f","3"]', id="a boolean, as keys write it"),
        pytest.param(["8"], {"id": 8, "copy": 8}, {"id": 7, "copy": 7}, "7", id="whichever of two it is, the same"),
        pytest.param(["8"], {"id": 8, "n": 8}, {"id": 7, "n": None}, "7", id="a null was no key"),
        pytest.param(["8"], {"id": 8, "list": [8]}, {"id": 7, "list": [7]}, "7", id="a list is no key"),
        pytest.param(
            ["8"], {"of": {"id": 8}, "n": 80, "at": "8:8", "id": 8}, {"id": 7}, "7", id="among others that hold the digit"
        ),
        pytest.param(["8.50"], {"id": "8.50"}, {"id": "7.50"}, "7.50", id="a number that is written as a text"),
        pytest.param(['b"/é'], {"code": 'b"/é'}, {"code": "a"}, "a", id="a text with characters that JSON escapes"),
        pytest.param(["b"], {'the "é"': "b"}, {'the "é"': "a"}, "a", id="a name with characters that JSON escapes"),
        pytest.param([""], {"code": ""}, {"code": "a"}, "a", id="an empty text"),
    ],
)
def test_an_update_that_changes_the_key_ends_the_row_of_the_old_one(
    key: list[str], row: dict[str, object], changes: dict[str, object], old: str, separators: tuple[str, str]
) -> None:
    live, ended = records(update(key, row, changes, separators))

    assert (live["deleted"], live["data"]) == (False, row)
    assert (ended["upstream_id"], ended["deleted"], ended["data"]) == (old, True, None)
    assert ended["id"] == derived_id("db-1", "shop:orders", old)
    assert {name: ended[name] for name in ("updated_idx", "inserted_at", "sync", "collection_id")} == {
        name: live[name] for name in ("updated_idx", "inserted_at", "sync", "collection_id")
    }


@pytest.mark.parametrize(
    ("key", "row", "changes"),
    [
        pytest.param(["8"], {"id": 8, "t": "x"}, {"t": "y"}, id="another column"),
        pytest.param(["8"], {"id": 8, "t": "x"}, {}, id="nothing told"),
        pytest.param(["2024-01-01 00:00:00+00"], {"at": "2024-01-01T00:00:00Z", "n": 1}, {"n": 2}, id="a time that stayed"),
        pytest.param(["8", "eu"], {"id": 8, "at": "eu", "n": 1}, {"n": 2}, id="beside two columns"),
        pytest.param(["\\x01"], {"raw": "AQ==", "n": 1}, {"n": 2}, id="a key that the row shows otherwise"),
    ],
)
def test_an_update_that_leaves_the_key_ends_no_row(key: list[str], row: dict[str, object], changes: dict[str, object]) -> None:
    assert len(records(update(key, row, changes))) == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="nothing told"),
        pytest.param({"status": "new", "at": "2026-01-01T08:08:08Z"}, id="texts"),
        pytest.param({"n": 80, "note": 'it "is":\n8'}, id="numbers, and a text with quotes and lines"),
        pytest.param({"of": {"n": 8}}, id="an object"),
    ],
)
def test_the_rows_of_updates_that_leave_the_key_are_not_parsed(changes: dict[str, object]) -> None:
    row = {"id": 8, "status": "done", "n": 81, "note": 'it "is":\n9', "of": {"m": 8}, "at": "2026-01-01T08:08:09Z"}
    raw, old = (json.dumps(one, separators=COMPACT).encode() for one in (row, changes))

    assert not may_have_changed(["8"], raw, old)


SHORT = st.sampled_from(["8", "t", "true", "null", "", 'a"', "é", "88", "8.0", "2024-01-01 00:00:00+00", "2024-01-01T00:00:00Z"])
VALUES = st.one_of(SHORT, st.sampled_from([8, 88, 8.0, True, None]), st.dictionaries(SHORT, SHORT, max_size=2), st.lists(SHORT))


@given(
    row=st.dictionaries(SHORT, VALUES, min_size=1, max_size=4),
    old=st.dictionaries(SHORT, VALUES, max_size=3),
    key=st.lists(SHORT, min_size=1, max_size=2),
    separators=st.sampled_from([COMPACT, SPACED, WIDE]),
)
def test_whatever_is_not_parsed_has_not_changed_the_key(
    row: dict[str, object], old: dict[str, object], key: list[str], separators: tuple[str, str]
) -> None:
    raw, changes = (json.dumps(one, separators=separators).encode() for one in (row, old))

    if not may_have_changed(key, raw, changes):
        assert old_key(key, json_text.members(raw), json_text.members(changes), ()) is None


@pytest.mark.parametrize("action", ["insert", "read", "delete", None])
def test_only_updates_change_keys(action: str | None) -> None:
    assert len(records(change(record={"id": 8}, changes={"id": 7}, action=action, metadata={"record_pks": ["8"]}))) == 1


LIKE_KEYS: dict[str, object] = {"id": 8, "quantity": 8}


def test_other_messages_tell_which_of_two_equal_columns_is_the_key() -> None:
    earlier = update(["5"], {"id": 5, "quantity": 2}, {"quantity": 1})

    same = records(earlier, update(["8"], LIKE_KEYS, {"quantity": 3}))
    (_, ended) = records(earlier, update(["8"], LIKE_KEYS, {"id": 7}))

    assert len(same) == 1
    assert ended["upstream_id"] == "7"


@pytest.mark.parametrize(
    ("key", "row", "changes", "changed"),
    [
        pytest.param(["8"], LIKE_KEYS, {"quantity": 3}, "quantity", id="a column that looks like the key"),
        pytest.param(["8"], LIKE_KEYS, {"quantity": 3, "id": 7}, "id, quantity", id="two old values"),
        pytest.param(
            ["2024-01-01 00:00:00+00"],
            {"at": "2024-01-01T00:00:00Z"},
            {"at": "2023-01-01T00:00:00Z"},
            "at",
            id="a time, written otherwise",
        ),
    ],
)
def test_a_key_whose_old_value_is_not_clear_is_told_as_a_reject_beside_the_row(
    key: list[str], row: dict[str, object], changes: dict[str, object], changed: str
) -> None:
    live, unclear = records(update(key, row, changes))
    normalized = Normalizer(ORDERS)(json.dumps([live, unclear]).encode())

    assert list(normalized.frame["upstream_id"]) == key
    assert [(reject.record_id, reject.reason) for reject in normalized.rejects] == [
        (
            None,
            f"an update changed {changed}, and the message does not tell whether that is the primary key, nor how it was written before: "
            "look for the row of the old key, delete it here if it is gone there, and discard this record",
        )
    ]


@pytest.mark.parametrize("on_delete", ["mark", "remove"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0), (1, 0, 1, 0)], ids=str)
def test_the_old_row_stays_ended_in_any_order_and_repetition(
    warehouse_url: str, on_delete: OnDelete, order: tuple[int, ...]
) -> None:
    first = change(record={"id": 7, "region": "eu"}, action="insert", metadata={"record_pks": ["7", "eu"], "commit_lsn": LSN})
    moved = change(
        record={"id": 8, "region": "eu"}, changes={"id": 7}, metadata={"record_pks": ["8", "eu"], "commit_lsn": LSN + 64}
    )
    deliveries = [[json.dumps(one) for one in records((first, moved)[which])] for which in order]

    drain(
        ListQueue([[json.loads(one) for one in delivery] for delivery in deliveries]),
        (replace(ORDERS, on_delete=on_delete),),
        Warehouse(warehouse_url),
        run_id="run",
    )

    live = ('["8","eu"]', False)
    expected = [live] if on_delete == "remove" else [('["7","eu"]', True), live]
    assert query(warehouse_url, "select upstream_id, deleted from shop.orders order by 1") == expected
