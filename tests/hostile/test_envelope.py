"""Members of the envelope that are null, absent, repeated or of another kind, and records that are no records."""

import pytest

from tests.hostile.sending import Landed, built, land, tolerant
from tests.support.builders import COLUMNS

STORED: dict[str, tuple[dict[str, bytes | None], dict[str, str | None]]] = {
    "version beyond the doubles": ({"updated_idx": b"9007199254740993"}, {"updated_idx": "9007199254740993"}),
    "greatest version": ({"updated_idx": b"9223372036854775807"}, {"updated_idx": "9223372036854775807"}),
    "least version": ({"updated_idx": b"-9223372036854775808"}, {"updated_idx": "-9223372036854775808"}),
    "version -0": ({"updated_idx": b"-0"}, {"updated_idx": "0"}),
    "provider null": ({"provider": b"null"}, {}),
    "stream_id null": ({"stream_id": b"null"}, {}),
    "external_id null": ({"sync": b'{"id": "s1", "external_id": null, "metadata": null}'}, {"internal_id": None}),
    "deleted absent": ({"deleted": None}, {"deleted": "false"}),
    "times null": (
        {"upstream_created_at": b"null", "upstream_updated_at": b"null", "inserted_at": b"null"},
        {"upstream_created_at": None, "upstream_updated_at": None, "record_inserted_at": None},
    ),
    "inserted_at absent": ({"inserted_at": None}, {"record_inserted_at": None}),
    "data null": ({"data": b"null"}, {"data": None, "status": None}),
    "data absent": ({"data": None}, {"data": None, "status": None}),
    "data empty": ({"data": b"{}"}, {"data": "{}", "status": None}),
    "all of data null": ({"data": b'{"status": null, "amount": null}'}, {"status": None, "amount": None}),
    "bare tombstone": ({"deleted": b"true", "data": b"{ }"}, {"deleted": "true", "data": None}),
    "members in other scripts": ({"идентификатор": b'"x"', "\u0000": b'"\\u0000"'}, {}),
}
"""Members that change, and columns that follow."""

REFUSED: dict[str, tuple[dict[str, bytes | None], str]] = {
    "version 2^63": ({"updated_idx": b"9223372036854775808"}, "updated_idx is the number '9223372036854775808'"),
    "version of 30 digits": (
        {"updated_idx": b"123456789012345678901234567890"},
        "updated_idx is the number '123456789012345678901234567890'",
    ),
    "version 1.0": ({"updated_idx": b"1.0"}, "updated_idx is the number '1.0'"),
    "version 1e3": ({"updated_idx": b"1e3"}, "updated_idx is the number '1e3'"),
    "version a string": ({"updated_idx": b'"5"'}, "updated_idx is the string '5'"),
    "version true": ({"updated_idx": b"true"}, "updated_idx is the boolean 'true'"),
    "version null": ({"updated_idx": b"null"}, "updated_idx is null"),
    "version absent": ({"updated_idx": None}, "updated_idx is missing"),
    "id null": ({"id": b"null"}, "id is null"),
    "id a number": ({"id": b"5"}, "id is the number '5'"),
    "id an array": ({"id": b'["a"]'}, "id is the array '[\"a\"]'"),
    "upstream_id null": ({"upstream_id": b"null"}, "upstream_id is null"),
    "sync null": ({"sync": b"null"}, "the record names no sync"),
    "sync an array": ({"sync": b"[]"}, "sync is the array '[]'"),
    "sync.id null": ({"sync": b'{"id": null}'}, "sync.id is null"),
    "external_id a number": ({"sync": b'{"id": "s1", "external_id": 7}'}, "sync.external_id is the number '7'"),
    "collection null": ({"collection_id": b"null"}, "collection_id is null"),
    "another collection": ({"collection_id": b'"demo:Thing"'}, "collection_id is the string 'demo:Thing'"),
    "deleted null": ({"deleted": b"null"}, "deleted is null"),
    "deleted 0": ({"deleted": b"0"}, "deleted is the number '0'"),
    "deleted a string": ({"deleted": b'"false"'}, "deleted is the string 'false'"),
    "inserted_at a number": ({"inserted_at": b"1709951400"}, "inserted_at is the number '1709951400'"),
    "inserted_at empty": ({"inserted_at": b'""'}, "inserted_at is the string ''"),
    "data an array": ({"data": b"[]"}, "data is the array '[]'"),
    "data a string": ({"data": b'"{}"'}, "data is the string '{}'"),
    "data false": ({"data": b"false"}, "data is the boolean 'false'"),
}

NO_RECORDS = {
    "null": (b"null", "the record is null, where an object was expected"),
    "a number": (b"1e400", "the record is the number '1e400', where an object was expected"),
    "a string": (b'"r1"', "the record is the string 'r1', where an object was expected"),
    "an array": (b"[[]]", "the record is the array '[[]]', where an object was expected"),
    "an empty object": (b"{}", "collection is missing"),
    "not a number": (b'{"id": NaN}', "the record is not JSON"),
    "not UTF-8": (built("r", extra=b'"\xff\xfe"'), "the record is not JSON: it is not UTF-8"),
    "an overlong NUL": (built("r", extra=b'"\xc0\x80"'), "the record is not JSON: it is not UTF-8"),
    "a surrogate in UTF-8": (built("r", extra=b'"\xed\xa0\x80"'), "the record is not JSON: it is not UTF-8"),
    "a control character as it is": (built("r", extra=b'"\x01"'), "the record is not JSON"),
    "a key without value": (b'{"id"}', "the record is not JSON"),
    "single quotes": (b"{'id': 1}", "the record is not JSON"),
}

REPEATED = {
    "id twice": (b'{"id": "lost", %b' % built("id twice")[1:], {"id": "id twice"}),
    "version twice": (built("version twice")[:-1] + b', "updated_idx": 7}', {"updated_idx": "7"}),
    "version first of another kind": (
        b'{"updated_idx": [], %b' % built("version first of another kind")[1:],
        {"updated_idx": "1"},
    ),
    "version twice, once escaped": (
        built("version twice, once escaped")[:-1] + rb', "\u0075pdated_idx": 8}',
        {"updated_idx": "8"},
    ),
    "data twice": (built("data twice")[:-1] + b', "data": {"status": "last"}}', {"status": "last", "data": '{"status": "last"}'}),
    "deleted twice": (built("deleted twice")[:-1] + b', "deleted": true}', {"deleted": "true"}),
    "sync twice": (built("sync twice")[:-1] + b', "sync": {"id": "s2"}}', {"sync_id": "s2", "internal_id": None}),
    "a declared key twice": (
        built("a declared key twice", data=b'{"status": {"a": 1}, "status": "last"}'),
        {"status": "last", "data": '{"status": "last"}'},
    ),
    "a declared key twice, once escaped": (
        built("a declared key twice, once escaped", data=rb'{"status": "first", "st\u0061tus": "last"}'),
        {"status": "last", "data": '{"status": "last"}'},
    ),
    "a null last": (
        built("a null last", data=b'{"status": "first", "status": null}'),
        {"status": None, "data": '{"status": null}'},
    ),
}
"""The last one counts, as in jsonb."""


@pytest.fixture(scope="module")
def landed(shared_url: str) -> Landed:
    """All of these records in one page."""
    members = {name: each for name, (each, _) in (STORED | REFUSED).items()}  # type: ignore[operator]  # same first element
    records = [built(name, **each) for name, each in members.items()]
    odd = [raw for raw, _ in (NO_RECORDS | REPEATED).values()]  # type: ignore[operator]  # as above
    return land(shared_url, tolerant(COLUMNS), *records, *odd)


@pytest.mark.parametrize("name", STORED)
def test_a_record_is_stored_as_far_as_its_envelope_says(landed: Landed, name: str) -> None:
    members, columns = STORED[name]
    usual = {"id": name, "upstream_id": f"up_{name}", "sync_id": "s1", "updated_idx": "1", "deleted": "false"}

    row = landed.rows[name]

    assert {column: row[column] for column in usual | columns} == usual | columns
    assert built(name, **members) not in landed.refusals


@pytest.mark.parametrize("name", REFUSED)
def test_a_record_that_breaks_the_envelope_is_one_reject(landed: Landed, name: str) -> None:
    members, reason = REFUSED[name]

    refusal = landed.refusals[built(name, **members)]

    assert (refusal.reject_class, refusal.sqlstate) == ("envelope", None)
    assert refusal.reason.startswith(reason)
    assert name not in landed.rows


@pytest.mark.parametrize("name", NO_RECORDS)
def test_what_is_no_record_is_one_reject_with_its_bytes(landed: Landed, name: str) -> None:
    raw, reason = NO_RECORDS[name]

    refusal = landed.refusals[raw]

    assert (refusal.reject_class, refusal.sqlstate) == ("envelope", None)
    assert refusal.reason.startswith(reason)


@pytest.mark.parametrize("name", REPEATED)
def test_of_a_key_that_comes_twice_the_last_counts(landed: Landed, name: str) -> None:
    raw, columns = REPEATED[name]

    row = landed.rows[name]

    assert {column: row[column] for column in columns} == columns
    assert raw not in landed.refusals
    assert "lost" not in landed.rows


def test_nothing_else_was_refused(landed: Landed) -> None:
    assert len(landed.refusals) == len(REFUSED) + len(NO_RECORDS)
    assert len(landed.rows) == len(STORED) + len(REPEATED)
