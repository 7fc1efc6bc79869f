"""What an API's objects look like as records: key, version, times and deletion of each, and the object untouched."""

import json
from datetime import UTC, datetime

import pytest

from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.records.literals import iso_microseconds
from sequin_pipeline.sources.keyed.records import RecordWriter
from sequin_pipeline.sources.keyed.shape import Shape
from sequin_pipeline.sources.keyed.times import micros, moment_of

STARTED = datetime(2026, 3, 1, 12, tzinfo=UTC)
SHAPE = Shape((("id",),), ("at",), ("made",), ("gone",))


def write(element: bytes, shape: Shape = SHAPE, *, floor: int = 0) -> tuple[dict[str, object], tuple[str, ...]]:
    writer = RecordWriter(shape, collection_id="demo:thing", sync_id="default", started=STARTED, floor=floor)
    written = writer.write([element])
    return json.loads(written.records[0]), written.ids


def test_record_is_the_envelope_with_the_object_byte_for_byte() -> None:
    element = (
        b'{ "id" : 7, "price":1.10, "at":"2026-02-01T00:00:00.5Z","made":"2026-01-01T00:00:00Z", "big":12345678901234567890123 }'
    )

    writer = RecordWriter(SHAPE, collection_id="demo:thing", sync_id="default", started=STARTED, floor=0)
    record = writer.write([element]).records[0]

    assert record.endswith(b',"data":' + element + b"}")
    assert json.loads(record) == {
        "id": derived_id("default", "demo:thing", "7"),
        "collection_id": "demo:thing",
        "provider": "demo",
        "sync": {"id": "default", "external_id": None, "metadata": {}},
        "upstream_id": "7",
        "updated_idx": 1_769_904_000_500_000,
        "deleted": False,
        "inserted_at": "2026-01-01T00:00:00Z",
        "upstream_created_at": "2026-01-01T00:00:00Z",
        "upstream_updated_at": "2026-02-01T00:00:00.5Z",
        "data": json.loads(element),
    }


@pytest.mark.parametrize(
    ("element", "upstream_id"),
    [
        pytest.param(b'{"id": "a"}', "a", id="text"),
        pytest.param(b'{"id": 0}', "0", id="zero"),
        pytest.param(b'{"id": 9007199254740993}', "9007199254740993", id="beyond a double"),
        pytest.param(b'{"id": 12345678901234567890123}', "12345678901234567890123", id="beyond 64 bits"),
        pytest.param(b'{"id": 12345678901234567890124}', "12345678901234567890124", id="beyond 64 bits, the next one"),
        pytest.param(b'{"id": 1.50}', "1.50", id="a decimal, as it stands"),
        pytest.param(b'{"id": 5, "x": "\\ud800"}', "5", id="half of a surrogate pair elsewhere"),
        pytest.param(b'{"id": 5, "x": 1e400}', "5", id="a number beyond a double elsewhere"),
        pytest.param(b'{"id": 5, "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "5", id="nested deeper than a decoder goes"),
        pytest.param(b'{"id": 5, "at": {"odd": 1}}', "5", id="a version that is an object"),
    ],
)
def test_key_is_the_exact_value_whatever_else_is_in_the_object(element: bytes, upstream_id: str) -> None:
    writer = RecordWriter(SHAPE, collection_id="demo:thing", sync_id="default", started=STARTED, floor=0)

    written = writer.write([element])

    assert written.ids == (derived_id("default", "demo:thing", upstream_id),)
    assert f'"upstream_id":"{upstream_id}"'.encode() in written.records[0]


@pytest.mark.parametrize(
    ("element", "upstream_id"),
    [
        pytest.param(b'{"org": "o", "n": 1}', '["o",1]', id="two values"),
        pytest.param(b'{"org": "\xe6\x97\xa5 \\"q\\"", "n": 1}', '["日 \\"q\\"",1]', id="text that needs quoting"),
        pytest.param(b'{"org": "o", "n": 1, "x": "\\ud800"}', '["o",1]', id="the same, read the other way"),
    ],
)
def test_key_of_several_values_is_their_json_array(element: bytes, upstream_id: str) -> None:
    record, ids = write(element, Shape((("org",), ("n",))))

    assert (record["upstream_id"], ids) == (upstream_id, (derived_id("default", "demo:thing", upstream_id),))


@pytest.mark.parametrize(
    "element",
    [b"{}", b'{"id": null}', b'{"id": ""}', b'{"id": true}', b'{"id": {"a": 1}}', b'{"id": [1]}', b"5", b"null", b'"text"'],
    ids=lambda element: element.decode(),
)
def test_object_without_usable_key_is_a_record_that_says_so_and_has_no_id(element: bytes) -> None:
    record, ids = write(element)

    assert ids == ()
    assert record == {
        "collection_id": "demo:thing",
        "provider": "demo",
        "sync": {"id": "default", "external_id": None, "metadata": {}},
        "refused": "the object has no usable key at 'id', where a string or a number was expected: fix `key`, or the object at its source",
        "data": json.loads(element),
    }


@pytest.mark.parametrize(
    ("element", "floor", "version"),
    [
        pytest.param(b'{"id": 1, "at": "2026-02-01T00:00:00Z"}', 0, datetime(2026, 2, 1, tzinfo=UTC), id="its own"),
        pytest.param(
            b'{"id": 1, "at": "2026-02-01T00:00:00Z"}',
            micros(datetime(2026, 2, 2, tzinfo=UTC)),
            datetime(2026, 2, 2, tzinfo=UTC),
            id="the floor, where that is above it",
        ),
        pytest.param(
            b'{"id": 1, "at": null}', 0, datetime(2026, 3, 1, 11, 50, tzinfo=UTC), id="null: when it was read, less the skew"
        ),
        pytest.param(b'{"id": 1, "at": "soon"}', 0, datetime(2026, 3, 1, 11, 50, tzinfo=UTC), id="no time"),
        pytest.param(b'{"id": 1, "at": "9999-01-01T00:00:00Z"}', 0, datetime(2026, 3, 2, 12, tzinfo=UTC), id="a far future"),
        pytest.param(
            b'{"id": 1, "at": "2026-03-01T13:00:00Z"}', 0, datetime(2026, 3, 1, 13, tzinfo=UTC), id="a clock ahead of ours"
        ),
    ],
)
def test_version_is_the_time_of_the_last_change(element: bytes, floor: int, version: datetime) -> None:
    record, _ = write(element, floor=floor)

    assert record["updated_idx"] == micros(version)


@pytest.mark.parametrize(
    ("element", "inserted_at"),
    [
        (b'{"id": 1, "at": "2026-02-01T00:00:00Z", "made": "2026-01-01T00:00:00Z"}', "2026-01-01T00:00:00Z"),
        (b'{"id": 1, "at": "2026-02-01T00:00:00Z"}', "2026-02-01T00:00:00Z"),
        (b'{"id": 1}', "2026-03-01T12:00:00+00:00"),
        (b'{"id": 1, "at": "2026-03-01T12:00:01Z"}', "2026-03-01T12:00:00+00:00"),
        (b'{"id": 1, "at": "2026-02-01T00:00:00Z", "made": "2999-01-01T00:00:00Z"}', "2026-03-01T12:00:00+00:00"),
    ],
    ids=["creation", "else the last change", "else the read", "no later than the read", "creation no later either"],
)
def test_record_entered_when_its_object_was_created_and_not_after_the_read_began(element: bytes, inserted_at: str) -> None:
    record, _ = write(element)

    assert record["inserted_at"] == inserted_at


@pytest.mark.parametrize(
    ("flag", "deleted"),
    [
        ("true", True), ("false", False), ("null", False), ('"2026-01-01T00:00:00Z"', True), ('""', False), ('"false"', False),
        ("1", True), ("0", False), ('"False"', False), ('"0"', False), ('"no"', False), ('"N"', False), ('"null"', False),
        ('"0000-00-00 00:00:00"', False), ('"1"', True), ('"yes"', True), ('"True"', True), ('"2000-00-00"', True),
    ],
)  # fmt: skip
def test_deletion_is_a_flag_or_the_time_of_it(flag: str, *, deleted: bool) -> None:
    record, _ = write(f'{{"id": 1, "gone": {flag}}}'.encode())

    assert record["deleted"] is deleted


def test_values_are_found_below_other_objects_and_nowhere_else() -> None:
    shape = Shape((("meta", "key"),), ("meta", "at"), None, ("meta",))

    record, _ = write(b'{"key": 1, "meta": {"key": 2, "at": "2026-02-01T00:00:00Z"}}', shape)
    lacking, ids = write(b'{"key": 1, "meta": "text"}', shape)

    assert (record["upstream_id"], record["deleted"], record["updated_idx"]) == ("2", True, 1_769_904_000_000_000)
    assert (ids, "refused" in lacking) == ((), True)


@pytest.mark.parametrize(
    ("value", "moment"),
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:00.123456+00:00"),
        ("2026-01-01T02:00:00.000+0200", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01 00:00:00", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01", "2026-01-01T00:00:00+00:00"),
        (1_767_225_600, "2026-01-01T00:00:00+00:00"),
        (1_767_225_600.5, "2026-01-01T00:00:00.500000+00:00"),
        (1_767_225_600_123, "2026-01-01T00:00:00.123000+00:00"),
        ("1767225600123", "2026-01-01T00:00:00.123000+00:00"),
        (1_767_225_600_123_456, "2026-01-01T00:00:00.123456+00:00"),
    ],
)
def test_time_is_read_in_the_forms_that_apis_use(value: object, moment: str) -> None:
    assert moment_of(value) == micros(datetime.fromisoformat(moment))


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-01T00:00Z", "2026-01-01T00:00:00,5Z", "2026-01-01T00:00:00.1234567Z", "2026-01-01", "2026-01-01 00:00:00Z",
        "2026-01-01T00:00:00+01:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59Z",
    ],
)  # fmt: skip
def test_time_of_an_unusual_form_is_written_as_everybody_reads_it(text: str) -> None:
    record, _ = write(f'{{"id": 1, "at": "{text}"}}'.encode())

    written = record.get("upstream_updated_at")
    assert written is None or iso_microseconds(str(written)) == moment_of(text)


@pytest.mark.parametrize("value", [None, True, "", "soon", "2026-13-01T00:00:00Z", 17, "17", -5, 1e300, [], "2026-W01-1"])
def test_value_that_is_no_time_is_none(value: object) -> None:
    assert moment_of(value) is None
