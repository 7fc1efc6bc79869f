"""What a change of a Postgres table becomes: the record that a reader of the records API would have been given."""

import json
from typing import Any

import pytest

from sequin_pipeline.records import json_text
from sequin_pipeline.sources.sequin_stream import record_of_change, version_of

LSN = 123_456_789


def change(**overrides: Any) -> dict[str, bytes]:
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
    return json_text.members(json.dumps(message).encode())


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
