"""This module takes JSON text apart without parsing it: elements, members, and what Postgres cannot hold.

msgspec does it where it can. It refuses half a surrogate pair anywhere and nesting beyond the interpreter's stack, for the whole
text: then a scan of quotes and brackets finds the parts, so that the fault stays with the one record that has it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec
import pyarrow as pa

SPACE = b" \t\r\n"

MAX_SHOWN_CHARACTERS = 80
"""A reason shows this much of a value: enough to recognise it, too little to repeat a whole object in every log."""

Kind = Literal["null", "string", "number", "boolean", "array", "object"]
_KINDS: Mapping[bytes, Kind] = {b'"': "string", b"[": "array", b"{": "object", b"t": "boolean", b"f": "boolean", b"n": "null"}

REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec raises these for a text that it does not take, whatever the type asked for."""

_MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)
_MEMBER = re.compile(rb'[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")[ \t\r\n]*:', re.DOTALL)
_SUSPICIOUS = re.compile(rb"\\u(?:0000|[dD][89a-fA-F])")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<unstorable>u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_raw_elements = msgspec.json.Decoder(list[msgspec.Raw])
_raw_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_anything = msgspec.json.Decoder(msgspec.Raw)


def elements(*arrays: bytes) -> list[bytes]:
    """Returns the texts of the elements of all arrays, without the space around them.

    Raises ValueError where one of `arrays` is none.
    """
    found: list[bytes] = []
    for array in arrays:
        try:
            found += map(bytes, _raw_elements.decode(array))
        except REFUSALS:
            found += _parts(array.strip(SPACE), b"[]")
    return found


def members(record: bytes) -> dict[str, bytes]:
    """Returns the texts of an object's values by key; of a key that comes twice the last one, as jsonb does.

    Keys that no text can hold are left out. Raises ValueError where `record` is no object.
    """
    try:
        return {key: bytes(value) for key, value in _raw_members.decode(record).items()}
    except REFUSALS:
        return dict(_scanned_members(record.strip(SPACE)))


def elements_or_members(text: bytes) -> list[bytes]:
    """Returns the texts of what a list or an object has. Raises ValueError where `text` is neither."""
    return elements(text) if kind_of(text) == "array" else list(members(text).values())


def find_value(text: bytes, steps: Sequence[str | int]) -> bytes:
    """Returns the text of the value at a path, or `null` where the path leads nowhere."""
    found = text
    for step in steps:
        kind = kind_of(found)
        if isinstance(step, str):
            found = members(found).get(step, b"null") if kind == "object" else b"null"
        else:
            parts = elements(found) if kind == "array" else []
            found = parts[step] if step < len(parts) else b"null"
    return found


def _scanned_members(record: bytes) -> Iterator[tuple[str, bytes]]:
    for part in _parts(record, b"{}"):
        match = _MEMBER.match(part)
        if match is None:
            raise ValueError("an object's member has no key")
        if find_unstorable(match[1]) is None:
            yield msgspec.json.decode(match[1], type=str), part[match.end() :].strip(SPACE)


def _parts(text: bytes, brackets: bytes) -> Iterator[bytes]:
    """Returns what stands between the commas of the outermost brackets, which must enclose the whole text."""
    if len(text) < 2 or text[:1] + text[-1:] != brackets:
        raise ValueError(f"it is not enclosed in {brackets.decode()}")
    last = len(text) - 1
    if not text[1:last].strip(SPACE):
        return
    depth, start = 0, 1
    for match in _MARKS.finditer(text):
        mark = match[0]
        if mark in b"[{":
            depth += 1
        elif mark in b"]}":
            depth -= 1
        if depth == 0 and match.start() < last:
            raise ValueError("the outermost bracket closes before the end")
        if depth == 0 or (mark == b"," and depth == 1):
            part = text[start : match.start()].strip(SPACE)
            if not part:
                raise ValueError("a comma has nothing beside it")
            yield part
            start = match.end()
    if depth != 0:
        raise ValueError("brackets do not match")


def find_fault(text: bytes) -> str | None:
    """Returns why `text` is not JSON, else None.

    Half a surrogate pair is no fault of grammar, and what is nested too deeply to be checked is left to Postgres.
    """
    if not is_utf8(text):
        return "it is not UTF-8"
    try:
        _anything.decode(text if find_unstorable(text) is None else _ESCAPE.sub(_storable_escape, text))
    except RecursionError:
        return None
    except msgspec.DecodeError as error:
        return str(error)
    return None


def _storable_escape(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape["unstorable"] else escape[0]


def is_harmless(text: bytes) -> bool:
    """Says whether `text` is UTF-8 and has nothing in its strings that Postgres refuses."""
    return is_utf8(text) and find_unstorable(text) is None


def is_utf8(text: bytes) -> bool:
    """Says whether it is UTF-8 in the strict sense: no surrogates, no overlong forms."""
    if text.isascii():
        return True
    offsets = pa.array([0, len(text)], pa.int64()).buffers()[1]
    try:
        pa.LargeStringArray.from_buffers(1, offsets, pa.py_buffer(text)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def find_unstorable(text: bytes) -> str | None:
    r"""Returns the first escape in a JSON text that Postgres can hold neither in text nor in jsonb.

    That is `\u0000`, or half a surrogate pair. Knows `\\u0000`, a backslash and five characters, from `\u0000`.
    """
    # The first look costs a tenth of a millisecond for 10 MB, and most pages have no escape at all.
    if b"\\" not in text or _SUSPICIOUS.search(text) is None:
        return None
    for escape in _ESCAPE.finditer(text):
        if escape["unstorable"]:
            return escape[0].decode()
    return None


def kind_of(raw: bytes) -> Kind:
    """Returns what sort of JSON value a text is, by its first character."""
    return _KINDS.get(raw[:1], "number")


def show(raw: bytes) -> str:
    """Returns a JSON value as reasons quote it: its kind and its text, cut at 80 characters."""
    kind = kind_of(raw)
    is_readable = kind == "string" and find_unstorable(raw) is None
    quoted = repr(msgspec.json.decode(raw, type=str) if is_readable else raw.decode(errors="replace"))
    return (
        kind
        if kind == "null"
        else f"the {kind} " + (quoted if len(quoted) <= MAX_SHOWN_CHARACTERS else quoted[:MAX_SHOWN_CHARACTERS] + "…")
    )
