"""The record around the provider's object: both forms of the contract, and what each fault is called."""

import pytest

from tests.normalize.records import column, normalize, page, record, rows, text

ENVELOPE = (
    "id",
    "upstream_id",
    "internal_id",
    "sync_id",
    "updated_idx",
    "deleted",
    "record_inserted_at",
    "upstream_created_at",
    "upstream_updated_at",
    "data",
)

OLDER_FORM = {
    "collection": "stripe:subscription",
    "sync_id": "sync_1",
    "upstream_id": "sub_1",
    "updated_idx": 7,
    "created_at": "2024-03-01T12:00:00Z",
    "data": {"customer": "cus_1"},
}


def shown(normalized):
    return [
        tuple(str(value) if name.endswith("_at") else value for name, value in zip(ENVELOPE, row, strict=True))
        for row in rows(normalized, *ENVELOPE)
    ]


def test_the_current_form_is_read():
    normalized = normalize(record())

    assert normalized.rejects == ()
    assert shown(normalized) == [
        (
            "rec_1",
            "sub_1",
            "tenant_1",
            "sync_1",
            2745327036,
            False,
            "2024-03-01 12:00:00.123456+00:00",
            "2024-01-01 00:00:00+00:00",
            "None",
            '{"customer": "cus_1"}',
        )
    ]


def test_the_older_form_is_read_with_a_derived_id():
    normalized = normalize(OLDER_FORM)

    assert normalized.rejects == ()
    assert shown(normalized) == [
        (
            "fd17ad05-32c8-59f4-bbc6-58d0127f5499",
            "sub_1",
            None,
            "sync_1",
            7,
            False,
            "2024-03-01 12:00:00+00:00",
            "None",
            "None",
            '{"customer": "cus_1"}',
        )
    ]


@pytest.mark.parametrize(
    ("upstream_id", "expected"),
    [
        ("sub_1", "fd17ad05-32c8-59f4-bbc6-58d0127f5499"),
        ("sub_2", "75a38851-bcd6-5eaf-8deb-cb6fb67862cd"),
        ("sub_8", "25570cc9-2718-5e74-a99f-10e68a5b2dbf"),
        ('Zoë "2"', "2abf62eb-dff4-5291-9bc9-833669ea12a2"),
    ],
    ids=["plain", "plain, with an 8 for its variant", "plain, with an a", "not ASCII, with quotes"],
)
def test_a_record_without_id_has_the_id_that_postgres_would_derive(upstream_id, expected):
    """`uuid_generate_v5('19f76ecc-fa6a-575f-9e83-cf2696e34104', json_build_array(sync_id, collection_id, upstream_id)::text)`."""
    normalized = normalize(record(id=..., upstream_id=upstream_id))

    assert rows(normalized, "id") == [(expected,)]


def test_a_derived_id_tells_apart_what_plain_joining_would_not():
    normalized = normalize(
        OLDER_FORM | {"sync_id": "a/b", "upstream_id": "c"},
        OLDER_FORM | {"sync_id": "a", "upstream_id": "b/c"},
        OLDER_FORM | {"sync_id": "a/b", "upstream_id": "c", "updated_idx": 8},
    )

    [(first,), (second,), (again,)] = rows(normalized, "id")
    assert (first == second, first == again) == (False, True)


OPTIONAL = {
    "deleted absent is false": ({"deleted": ...}, "deleted", False),
    "inserted_at absent": ({"inserted_at": ...}, "record_inserted_at", None),
    "inserted_at null": ({"inserted_at": None}, "record_inserted_at", None),
    "upstream_created_at absent": ({"upstream_created_at": ...}, "upstream_created_at", None),
    "external_id absent": ({"sync": {"id": "sync_1"}}, "internal_id", None),
    "external_id null": ({"sync": {"id": "sync_1", "external_id": None}}, "internal_id", None),
    "provider and stream_id absent": ({"provider": ..., "stream_id": ...}, "id", "rec_1"),
    "unknown members": ({"extra": {"a": "\x00"}}, "id", "rec_1"),
    "updated_idx zero": ({"updated_idx": 0}, "updated_idx", 0),
    "updated_idx of 64 bits": ({"updated_idx": 2**63 - 1}, "updated_idx", 2**63 - 1),
    "a live object that is empty": ({"data": {}}, "data", "{}"),
    "a live record without object": ({"data": None}, "data", None),
    "a live record with data absent": ({"data": ...}, "data", None),
    "a tombstone with an object": ({"deleted": True}, "data", '{"customer": "cus_1"}'),
    "a tombstone with null": ({"deleted": True, "data": None}, "data", None),
    "a tombstone with data absent": ({"deleted": True, "data": ...}, "data", None),
    "a tombstone with an empty object": ({"deleted": True, "data": {}}, "data", None),
}


@pytest.mark.parametrize(("changes", "name", "expected"), OPTIONAL.values(), ids=OPTIONAL)
def test_a_member_may_be(changes, name, expected):
    normalized = normalize(record(**changes))

    assert normalized.rejects == ()
    assert rows(normalized, name) == [(expected,)]


FILLED = "where a string that is not empty was expected: fix the source"
STRING = "where a string was expected: fix the source"
VERSION = "where an integer of 64 bits was expected, the record's version: fix the source"
ISO = "where an ISO time as 2024-01-31T12:00:00Z was expected: fix the source"
ZONE = "where an ISO time with a zone was expected: fix the source"
NO_SYNC = "the record names no sync: sync.id (in the older form sync_id) was expected; fix the source"

FAULTS = {
    "id null": ({"id": None}, None, f"id is null, {FILLED}"),
    "id empty": ({"id": ""}, None, f"id is the string '', {FILLED}"),
    "id a number": ({"id": 1}, None, f"id is the number '1', {STRING}"),
    "id with NUL": (
        {"id": "a\x00"},
        None,
        r"""id is the string '"a\\u0000"', and Postgres can hold no \u0000 in a text: fix the source""",
    ),
    "upstream_id absent": ({"upstream_id": ...}, "rec_1", f"upstream_id is missing, {FILLED}"),
    "upstream_id empty": ({"upstream_id": ""}, "rec_1", f"upstream_id is the string '', {FILLED}"),
    "upstream_id a number": ({"upstream_id": 5}, "rec_1", f"upstream_id is the number '5', {STRING}"),
    "collection_id absent": ({"collection_id": ...}, "rec_1", f"collection is missing, {FILLED}"),
    "another collection": (
        {"collection_id": "stripe:invoice"},
        "rec_1",
        "collection_id is the string 'stripe:invoice', but records of 'stripe:subscription' were asked for: fix the source or the request",
    ),
    "sync absent": ({"sync": ...}, "rec_1", NO_SYNC),
    "sync without id": ({"sync": {}}, "rec_1", NO_SYNC),
    "sync a string": (
        {"sync": "s"},
        "rec_1",
        "sync is the string 's', where an object with id and external_id was expected: fix the source",
    ),
    "sync.id null": ({"sync": {"id": None}}, "rec_1", f"sync.id is null, {FILLED}"),
    "sync.id a number": ({"sync": {"id": 1}}, "rec_1", f"sync.id is the number '1', {STRING}"),
    "external_id a number": ({"sync": {"id": "s", "external_id": 1}}, "rec_1", f"sync.external_id is the number '1', {STRING}"),
    "updated_idx absent": ({"updated_idx": ...}, "rec_1", f"updated_idx is missing, {VERSION}"),
    "updated_idx null": ({"updated_idx": None}, "rec_1", f"updated_idx is null, {VERSION}"),
    "updated_idx a string": ({"updated_idx": "12"}, "rec_1", f"updated_idx is the string '12', {VERSION}"),
    "updated_idx a fraction": ({"updated_idx": 1.0}, "rec_1", f"updated_idx is the number '1.0', {VERSION}"),
    "updated_idx a boolean": ({"updated_idx": True}, "rec_1", f"updated_idx is the boolean 'true', {VERSION}"),
    "updated_idx of 65 bits": ({"updated_idx": 2**63}, "rec_1", f"updated_idx is the number '9223372036854775808', {VERSION}"),
    "deleted null": ({"deleted": None}, "rec_1", "deleted is null, where true or false was expected: fix the source"),
    "deleted a number": ({"deleted": 1}, "rec_1", "deleted is the number '1', where true or false was expected: fix the source"),
    "inserted_at no time": ({"inserted_at": "soon"}, "rec_1", f"inserted_at is the string 'soon', {ISO}"),
    "inserted_at a number": ({"inserted_at": 5}, "rec_1", f"inserted_at is the number '5', {STRING}"),
    "inserted_at without zone": (
        {"inserted_at": "2024-01-01T00:00:00"},
        "rec_1",
        f"inserted_at is the string '2024-01-01T00:00:00', {ZONE}",
    ),
    "upstream_created_at empty": ({"upstream_created_at": ""}, "rec_1", f"upstream_created_at is the string '', {ISO}"),
    "upstream_updated_at no time": ({"upstream_updated_at": "x"}, "rec_1", f"upstream_updated_at is the string 'x', {ISO}"),
    "data a string": (
        {"data": "x"},
        "rec_1",
        "data is the string 'x', where the provider's object was expected: fix the source",
    ),
    "data an array": ({"data": []}, "rec_1", "data is the array '[]', where the provider's object was expected: fix the source"),
}


@pytest.mark.parametrize(("changes", "record_id", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_fault_of_the_envelope_is_one_reject_that_says_what_was_found(changes, record_id, reason):
    raw = text(record(**changes)).replace(rb"\x00", rb"\u0000")

    normalized = normalize(record(id="before"), raw, record(id="after"))

    assert rows(normalized, "id", "#position") == [("before", 0), ("after", 2)]
    [reject] = normalized.rejects
    assert (reject.record_id, reject.raw, reject.reason, reject.reject_class) == (record_id, raw, reason, "envelope")


NOT_RECORDS = {
    "a number": (b"5", "the record is the number '5', where an object was expected: fix the source"),
    "null": (b"null", "the record is null, where an object was expected: fix the source"),
    "an array": (b"[1, {}]", "the record is the array '[1, {}]', where an object was expected: fix the source"),
    "not UTF-8": (b'{"id": "\xff"}', "the record is not JSON: it is not UTF-8; fix the source"),
    "not UTF-8 where nobody looks": (
        text(record(data={"a": "@"})).replace(b"@", b"\xff"),
        "the record is not JSON: it is not UTF-8; fix the source",
    ),
    "a word": (b'{"id": tru}', "the record is not JSON: JSON is malformed: invalid character (byte 8); fix the source"),
}


@pytest.mark.parametrize(("raw", "reason"), NOT_RECORDS.values(), ids=NOT_RECORDS)
def test_what_is_no_record_is_one_reject_and_the_others_are_kept(raw, reason):
    normalized = normalize(record(id="before"), raw, record(id="after"))

    assert rows(normalized, "id", "#position") == [("before", 0), ("after", 2)]
    assert [(reject.record_id, reject.raw, reject.reason) for reject in normalized.rejects] == [(None, raw, reason)]


UNSTORABLE = {
    "NUL": (rb"a\u0000", r"\u0000"),
    "the first half of a pair": (rb"\ud800 ", r"\ud800"),
    "the second half of a pair": (rb"\uDC00", r"\uDC00"),
    "two first halves": (rb"\ud83d\ud83d\ude00", r"\ud83d"),
    "NUL behind an escaped backslash": (rb"\\\u0000", r"\u0000"),
}


@pytest.mark.parametrize(("string", "found"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_what_jsonb_cannot_hold_is_a_reject_and_nothing_is_altered(string, found):
    raw = text(record(data={"deep": ["@"]})).replace(b"@", string)

    normalized = normalize(raw, record(id="after", data={"a": "é"}))

    assert rows(normalized, "id", "data") == [("after", '{"a": "é"}')]
    [reject] = normalized.rejects
    assert (reject.record_id, reject.raw, reject.reject_class) == ("rec_1", raw, "value")
    assert reject.reason == f"data holds {found}, which neither jsonb nor text can hold: fix the object at the provider"


def test_a_backslash_before_u0000_and_a_pair_of_surrogates_are_kept():
    raw = text(record(data={"a": "@"})).replace(b"@", rb"\\u0000 \ud83d\ude00 \\\\ud800")

    normalized = normalize(raw)

    assert rows(normalized, "data") == [(r'{"a": "\\u0000 \ud83d\ude00 \\\\ud800"}',)]


def test_of_a_key_that_comes_twice_the_last_one_counts():
    columns = (column("a", "a", "integer"),)
    usual = b'{"id": "old", ' + text(record(data="@"))[1:].replace(b'"@"', b'{"a": 1, "a": 2}')
    unusual = usual.replace(b'"a": 2', b'"a": "3.0"')

    normalized = normalize(usual, unusual, columns=columns)

    assert rows(normalized, "id", "a") == [("rec_1", 2), ("rec_1", 3)]


def test_an_object_nested_too_deeply_for_the_parser_is_left_to_postgres():
    deep = b"[" * 5000 + b"]" * 5000
    raw = text(record(data="@")).replace(b'"@"', b'{"deep": ' + deep + b', "status": "active"}')

    normalized = normalize(record(id="before"), raw, columns=(column("status", "status"),))

    assert normalized.rejects == ()
    assert rows(normalized, "id", "status") == [("before", None), ("rec_1", "active")]


def test_the_raw_record_is_found_by_its_position():
    first, second = text(record(id="a")), b'{ "id":"b" }'

    normalized = normalize(first, second)

    assert [normalized.raw_record(0), normalized.raw_record(1)] == [first, second]
    assert normalized.pages == (page(first, second),)
    assert normalized.fetched == 2
