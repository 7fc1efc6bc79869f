from tests.records import make_records
from tests.records.make_records import FOLDER, delivered, final_text, fold, lines


def test_the_committed_records_are_those_that_the_script_makes():
    expected = (FOLDER / "github.jsonl").read_text(encoding="utf-8")

    made = lines(delivered())

    assert made == expected


def test_the_committed_end_is_the_fold_of_the_committed_records():
    expected = (FOLDER / "final.json").read_text(encoding="utf-8")

    folded = final_text(fold(delivered()))

    assert folded == expected


def record(**overrides: object) -> make_records.Json:
    return {
        "id": "a",
        "collection_id": "github:issue",
        "sync": {"id": "s", "external_id": None},
        "upstream_id": "1",
        "updated_idx": 1,
        "deleted": False,
        "inserted_at": "2025-01-01T00:00:00.123999+02:00",
        "upstream_created_at": None,
        "upstream_updated_at": None,
        "data": {"n": 1},
    } | overrides


def test_the_fold_takes_the_greatest_version_and_a_bare_tombstone_keeps_the_object():
    deliveries = [
        record(updated_idx=5, data={"n": 5}),
        record(updated_idx=4, data={"n": 4}),
        record(updated_idx=6, deleted=True, data={}),
        record(updated_idx=3, data={"n": 3}),
    ]

    (row,) = fold(deliveries)

    assert row == {
        "id": "a",
        "collection_id": "github:issue",
        "upstream_id": "1",
        "internal_id": None,
        "sync_id": "s",
        "updated_idx": 6,
        "deleted": True,
        "upstream_created_at": None,
        "upstream_updated_at": None,
        "record_inserted_at": "2024-12-31T22:00:00.123Z",
        "data": {"n": 5},
    }
