"""The envelope of a page, `{"records": […], "cursor": …}`: takes it apart without looking into the records.

A record that strict JSON refuses (half of a surrogate pair, NaN, nesting deeper than a decoder goes) is a matter of that record.
msgspec, which takes a page of 2 MB apart in 3 ms, refuses the whole page for it; then brackets and strings alone decide, in 200 ms.
"""

import re
from dataclasses import dataclass, field

import msgspec

MAX_CURSOR_CHARACTERS = 4096
"""A cursor travels in a URL, and servers take about 8,000 characters of it."""


class EnvelopeError(ValueError):
    """The text is no page; the message completes "the request ended with …"."""


@dataclass(frozen=True)
class Envelope:
    """`records` is the text of an array whose brackets and strings balance; `cursor` None is the end of the stream."""

    records: bytes = field(repr=False)
    cursor: str | None

    @property
    def is_empty(self) -> bool:
        return _EMPTY_ARRAY.fullmatch(self.records) is not None


class _Members(msgspec.Struct):
    records: msgspec.Raw
    cursor: msgspec.Raw = msgspec.Raw(b"null")


_EMPTY_ARRAY = re.compile(rb"\[\s*\]")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},:]', re.DOTALL)
_OPEN_STRING = b'"'
_JSON_SPACE = b" \t\r\n"
_CLOSING = {b"{": b"}", b"[": b"]"}
_decoder = msgspec.json.Decoder(_Members)


def read_envelope(body: bytes) -> Envelope:
    """Raises EnvelopeError for what is no JSON object with an array `records` and a usable `cursor`.

    A cursor that is a number is taken as its literal text: it is opaque, and goes back as it came. Null, absent and the empty
    string are no cursor.
    """
    try:
        members = _decoder.decode(body)
        records, cursor = bytes(members.records), bytes(members.cursor)
    except msgspec.ValidationError as error:
        raise EnvelopeError(f"JSON that is no page: {error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        spans = _members_by_brackets(body)
        if spans is None:
            raise EnvelopeError(f"a body that is not JSON: {error}") from error
        if b'"records"' not in spans:
            raise EnvelopeError("JSON that is no page: it has no field `records`") from error
        records, cursor = spans[b'"records"'], spans.get(b'"cursor"', b"null")
    if not records.startswith(b"["):
        raise EnvelopeError("JSON that is no page: its `records` are not an array")
    return Envelope(records, _cursor(cursor))


def _cursor(literal: bytes) -> str | None:
    try:
        value = msgspec.json.decode(literal, type=str | int | float | None)
    except msgspec.DecodeError as error:
        raise EnvelopeError("a cursor that is neither a string nor null") from error
    if value is None or value == "":
        return None
    cursor = value if isinstance(value, str) else literal.decode()
    if len(cursor) > MAX_CURSOR_CHARACTERS or "\0" in cursor:
        raise EnvelopeError(
            f"a cursor of more than {MAX_CURSOR_CHARACTERS} characters or with a NUL, which cannot be sent back or kept"
        )
    return cursor


def _members_by_brackets(body: bytes) -> dict[bytes, bytes] | None:
    """The members of the outermost object, key literal → value text; None where brackets or strings do not balance."""
    text = body.strip(_JSON_SPACE)
    members: dict[bytes, bytes] = {}
    closing: list[bytes] = []
    key, start = None, 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        is_outside = not closing and (token.start() > 0 or mark != b"{")
        if is_outside or mark == _OPEN_STRING:
            return None
        if len(closing) == 1:
            if mark == b":" and key is None:
                key, start = text[start : token.start()].strip(_JSON_SPACE), token.end()
            elif mark in (b",", b"}"):
                if key is not None:
                    members[key] = text[start : token.start()].strip(_JSON_SPACE)
                key, start = None, token.end()
        if mark in _CLOSING:
            closing.append(_CLOSING[mark])
            start = start or token.end()
        elif mark in (b"}", b"]") and closing.pop() != mark:
            return None
    is_whole = text.startswith(b"{") and text.endswith(b"}") and not closing
    return members if is_whole else None
