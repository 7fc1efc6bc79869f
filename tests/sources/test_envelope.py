"""Pages are taken apart without looking into the records."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sequin_pipeline.sources.page_envelope import EnvelopeError, PageEnvelope, _members_by_brackets, read_page

DEEP = b"[" * 5000 + b"]" * 5000


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        pytest.param(b'{"records": [{"id": 1}], "cursor": "NjA3"}', PageEnvelope(b'[{"id": 1}]', "NjA3"), id="page"),
        pytest.param(
            b'{"cursor": "NjA3", "more": {}, "records": [ ]}', PageEnvelope(b"[ ]", "NjA3"), id="other order and fields"
        ),
        pytest.param(b' \n{"records":[]} \n', PageEnvelope(b"[]", None), id="no cursor"),
        pytest.param(b'{"records":[],"cursor":null}', PageEnvelope(b"[]", None), id="null cursor"),
        pytest.param(b'{"records":[],"cursor":""}', PageEnvelope(b"[]", None), id="empty cursor"),
        pytest.param(b'{"records":[],"cursor":607}', PageEnvelope(b"[]", "607"), id="integer cursor"),
        pytest.param(b'{"records":[],"cursor":1.50}', PageEnvelope(b"[]", "1.50"), id="cursor keeps its literal text"),
        pytest.param('{"records":[],"cursor":"\\u00e9é"}'.encode(), PageEnvelope(b"[]", "éé"), id="cursor of any characters"),
    ],
)
def test_page_is_records_as_they_came_and_a_cursor(body: bytes, envelope: PageEnvelope) -> None:
    assert read_page(body) == envelope


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(rb'{"id": "a", "data": {"name": "\ud83d"}}', id="half of a surrogate pair"),
        pytest.param(b'{"id": "a", "data": {"n": NaN}}', id="NaN"),
        pytest.param(b'{"id": "a", "data": ' + DEEP + b"}", id="nested deeper than decoders go"),
        pytest.param(b'{"id": "a", "data": tru}', id="a word"),
        pytest.param(b'{"id": "a", "data": "\x01\xff"}', id="bytes that are no text"),
        pytest.param(rb'{"id": "a", "data": "[{\\\" ]"}, NaN', id="brackets and quotes in a string"),
    ],
)
def test_record_that_json_refuses_does_not_take_its_page_along(record: bytes) -> None:
    body = b'{"cursor" : "NjA3", "records" :\n[{"id": 1}, ' + record + b"] }"

    assert read_page(body) == PageEnvelope(b'[{"id": 1}, ' + record + b"]", "NjA3")


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        pytest.param(b"", "a body that is not JSON: Input data was truncated", id="empty"),
        pytest.param(b"<html>", "a body that is not JSON: JSON is malformed: invalid character (byte 0)", id="HTML"),
        pytest.param(b'{"records": [{"id": 1}', "a body that is not JSON: Input data was truncated", id="cut"),
        pytest.param(b'{"records": ["a]}', "a body that is not JSON: Input data was truncated", id="cut in a string"),
        pytest.param(
            b'{"records": []} {}', "a body that is not JSON: JSON is malformed: trailing characters (byte 17)", id="two"
        ),
        pytest.param(
            b'{"records": [NaN}]', "a body that is not JSON: JSON is malformed: invalid character (byte 13)", id="crossed"
        ),
        pytest.param(
            b'{"records": [{NaN]}}', "a body that is not JSON: JSON is malformed: expected '\"' (byte 14)", id="crossed within"
        ),
        pytest.param(
            b'{"records": [NaN]} x', "a body that is not JSON: JSON is malformed: invalid character (byte 13)", id="tail"
        ),
        pytest.param(b"[]", "JSON that is not a page: Expected `object`, got `array`", id="array"),
        pytest.param(b'{"cursor": null}', "JSON that is not a page: Object missing required field `records`", id="no records"),
        pytest.param(b'{"data": NaN}', "JSON that is not a page: it has no field `records`", id="no records, no JSON either"),
        pytest.param(b'{"records": {}}', "JSON that is not a page: its `records` are not an array", id="records no array"),
        pytest.param(b'{"records": null}', "JSON that is not a page: its `records` are not an array", id="records null"),
        pytest.param(b'{"records": [], "cursor": true}', "a cursor that is neither a string nor null", id="cursor true"),
        pytest.param(b'{"records": [], "cursor": {}}', "a cursor that is neither a string nor null", id="cursor object"),
        pytest.param(
            rb'{"records": [], "cursor": "a\u0000"}',
            "a cursor of more than 4096 characters or with a NUL, which cannot be sent back or kept",
            id="cursor with NUL",
        ),
        pytest.param(
            b'{"records": [], "cursor": "' + b"a" * 4097 + b'"}',
            "a cursor of more than 4096 characters or with a NUL, which cannot be sent back or kept",
            id="cursor too long",
        ),
    ],
)
def test_what_is_no_page_is_refused_with_a_reason(body: bytes, sentence: str) -> None:
    with pytest.raises(EnvelopeError) as caught:
        read_page(body)

    assert str(caught.value) == sentence


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda deeper: st.lists(deeper, max_size=4) | st.dictionaries(st.text(), deeper, max_size=4),
    max_leaves=10,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5), st.sampled_from([{}, {"indent": 1}, {"ensure_ascii": False}]))
def test_brackets_alone_find_the_members_that_a_decoder_finds(members: dict[str, Any], style: dict[str, Any]) -> None:
    body = json.dumps(members, **style).encode()

    spans = _members_by_brackets(body)

    assert spans is not None
    assert {json.loads(key): json.loads(value) for key, value in spans.items()} == members


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:\\ recods"', max_size=40).map(str.encode))
def test_no_body_raises_anything_but_the_error_for_it(body: bytes) -> None:
    try:
        envelope = read_page(body)
    except EnvelopeError:
        return

    assert envelope.records.startswith(b"[")
    assert isinstance(msgspec.json.encode(envelope.cursor), bytes)
