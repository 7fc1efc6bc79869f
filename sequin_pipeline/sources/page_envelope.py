"""This module takes apart the envelope of a page, `{"records": […], "cursor": …}`, without looking into the records.

A page as servers usually write it, `records` first and `cursor` last, is recognised by its two ends: what stands between them is
parsed once, by whoever normalizes it. Any other page is parsed here. A record that strict JSON refuses (half of a surrogate pair,
NaN, nesting deeper than a decoder goes) concerns that record alone, but msgspec refuses the whole page for it; then brackets and
strings alone decide.
"""

import re
from dataclasses import dataclass, field

import msgspec

MAX_CURSOR_CHARACTERS = 4096
"""A cursor travels in a URL, and servers take about 8,000 characters of it."""


class EnvelopeError(ValueError):
    """The text is not a page; the message completes "the request ended with …"."""


@dataclass(frozen=True)
class PageEnvelope:
    """A page's envelope holds `records`, the text of an array as far as its ends tell, and `cursor`, which is None at the end of
    the stream."""

    records: bytes = field(repr=False)
    cursor: str | None

    @property
    def is_empty(self) -> bool:
        return _EMPTY_ARRAY.fullmatch(self.records) is not None


class _Members(msgspec.Struct):
    records: msgspec.Raw
    cursor: msgspec.Raw = msgspec.Raw(b"null")


_USUAL_BEGINNING = re.compile(rb'[ \t\r\n]*+\{[ \t\r\n]*+"records"[ \t\r\n]*+:[ \t\r\n]*+(?=\[)')
_USUAL_END = re.compile(
    rb'(?<=\])[ \t\r\n]*+,[ \t\r\n]*+"cursor"[ \t\r\n]*+:[ \t\r\n]*+(?P<cursor>null|"[^"\\]*+")[ \t\r\n]*+\}[ \t\r\n]*+\Z'
)
_USUAL_END_BYTES = 8192
"""A usual end begins at most this far from the end of the page."""
_EMPTY_ARRAY = re.compile(rb"\[\s*\]")
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|["\[\]{},:]', re.DOTALL)
_OPEN_STRING = b'"'
_JSON_SPACE = b" \t\r\n"
_CLOSING = {b"{": b"}", b"[": b"]"}
_decoder = msgspec.json.Decoder(_Members)


def read_page(body: bytes) -> PageEnvelope:
    """Reads the envelope of a page; raises EnvelopeError for what is no JSON object with an array `records` and a usable
    `cursor`.

    A cursor that is a number is taken as its literal text: it is opaque, and goes back as it came. Null, absent and the empty
    string are no cursor.
    """
    usual = _usual(body)
    if usual is not None:
        return usual
    try:
        members = _decoder.decode(body)
        records, cursor = bytes(members.records), bytes(members.cursor)
    except msgspec.ValidationError as error:
        raise EnvelopeError(f"JSON that is not a page: {error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        spans = _members_by_brackets(body)
        if spans is None:
            raise EnvelopeError(f"a body that is not JSON: {error}") from error
        if b'"records"' not in spans:
            raise EnvelopeError("JSON that is not a page: it has no field `records`") from error
        records, cursor = spans[b'"records"'], spans.get(b'"cursor"', b"null")
    if not records.startswith(b"["):
        raise EnvelopeError("JSON that is not a page: its `records` are not an array")
    return PageEnvelope(records, _cursor(cursor))


def _usual(body: bytes) -> PageEnvelope | None:
    """Reads a page of the usual form by its two ends; returns None where the ends are others.

    In JSON the last quoted word before a closing brace is a value, and one before a comma and a bracket is a key of the same
    object: inside a string each of these quotes would be escaped.
    """
    beginning = _USUAL_BEGINNING.match(body)
    tail_start = max(0, len(body) - _USUAL_END_BYTES)
    end = _USUAL_END.search(body[tail_start:])
    if beginning is None or end is None or tail_start + end.start() <= beginning.end():
        return None
    return PageEnvelope(body[beginning.end() : tail_start + end.start()], _cursor(end["cursor"]))


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
    """Returns the members of the outermost object (key literal → value text), or None where brackets or strings do not balance."""
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
