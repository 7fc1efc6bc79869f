"""Pages as a broken source, cable or proxy would hand them over: real ones, with tokens exchanged and bytes cut, doubled and spliced."""

import json
import re

from hypothesis import strategies as st

from sequin_pipeline.catalog import Column, parse_path
from tests.support.checkout import CHECKOUT

COLLECTION_ID = "github:issue"
REAL = (CHECKOUT / "tests" / "records" / "github.jsonl").read_bytes().splitlines()[:60]

COLUMNS = (
    Column("number", parse_path("number"), "integer"),
    Column("title", parse_path("title"), "text", is_required=True),
    Column("login", parse_path("user.login"), "text", empty_as_null=True),
    Column("label", parse_path("labels[0].name"), "text"),
    Column("labels", parse_path("labels"), "jsonb"),
    Column("locked", parse_path("locked"), "boolean"),
    Column("created", parse_path("created_at"), "timestamptz", assume_utc=True),
    Column("comments", parse_path("comments"), "numeric"),
    Column("score", parse_path("id"), "double precision"),
    Column("plan", parse_path("record.sync.metadata"), "jsonb"),
)

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[\[\]{},:]', re.DOTALL)

TOKENS = [
    *(
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b"0",
        b"-0",
        b"1.0",
        b"1e3",
        b"1e400",
        b"9007199254740993",
        b"9223372036854775808",
        b"NaN",
    ),
    *(rb'"\u0000"', rb'"\ud800"', rb'"\ud83d\ude00"', b'"\xff"', '"\u202e😀"'.encode(), rb'"\\u0000"', b'"2024-01-01T00:00:00"'),
    *(
        b'"9999-12-31T23:59:59.999999Z"',
        b'"id"',
        b'"data"',
        b'"updated_idx"',
        b'"title"',
        b'{"a": 1, "a": [2]}',
        b"[" * 40 + b"]" * 40,
    ),
    *(b"", b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\", b" \n\t", b"\x00", b"\xef\xbb\xbf"),
]


@st.composite
def records_texts(draw: st.DrawFn, *, most: int = 4) -> bytes:
    """The JSON text of an array of a few records, mostly whole, with some tokens exchanged and some bytes damaged."""
    texts = draw(st.lists(st.sampled_from(REAL), min_size=1, max_size=most))
    array = b"[" + b", ".join(texts) + b"]"
    for _ in range(draw(st.integers(0, 3))):
        array = exchanged(array, draw(st.integers(0, 10_000)), draw(st.sampled_from(TOKENS)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        array = damaged(draw, array)
    return array


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """An answer of the API: a page around such records, damaged as a whole in one of two."""
    cursor = draw(
        st.sampled_from([b'"NjA3"', b"null", b"7", b"1e2", b'""', b"[]", b'"\\u0000"', b'"\\ud800"', b'"' + b"x" * 5000 + b'"'])
    )
    body = b'{"records": %b, "cursor": %b}' % (draw(records_texts()), cursor)
    for _ in range(draw(st.integers(0, 2))):
        body = damaged(draw, body)
    return body


def exchanged(text: bytes, place: int, token: bytes) -> bytes:
    """The text with one of its tokens replaced."""
    found = [match.span() for match in _TOKEN.finditer(text)]
    start, end = found[place % len(found)] if found else (0, 0)
    return text[:start] + token + text[end:]


def damaged(draw: st.DrawFn, text: bytes) -> bytes:
    """The text cut off, with a piece lost, doubled, moved or overwritten, or a bit turned."""
    start, length, to = (draw(st.integers(0, 4_000)) % (len(text) + 1) for _ in range(3))
    piece = text[start : start + length % 200]
    end = start + len(piece)
    match draw(st.sampled_from(["cut", "lose", "double", "move", "overwrite", "turn"])):
        case "cut":
            return text[:start]
        case "lose":
            return text[:start] + text[end:]
        case "double":
            return text[:end] + piece + text[end:]
        case "move":
            rest = text[:start] + text[end:]
            return rest[:to] + piece + rest[to:]
        case "overwrite":
            return text[:start] + draw(st.binary(max_size=6)) + text[end:]
        case _:
            return text[:start] + bytes([text[start] ^ 1 << to % 8]) + text[start + 1 :] if start < len(text) else text


def strict(text: bytes) -> object:
    """As Python's own reader understands it: literals as they are written, NaN and bytes that are not UTF-8 refused by ValueError."""

    def refuse(constant: str) -> object:
        raise ValueError(constant)

    return json.loads(text.decode(), parse_int=Literal, parse_float=Literal, parse_constant=refuse)


class Literal(str):
    """A number as its digits."""
