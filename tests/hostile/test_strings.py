"""Strings in every place of a record: ids, the envelope, the sync's metadata, keys and values of the object, declared columns."""

import json
from dataclasses import dataclass

import pytest

from sequin_pipeline.catalog import Column, parse_path
from tests.hostile.sending import Landed, built, land, text, tolerant
from tests.support.builders import record

COLUMNS = (
    Column("word", parse_path("word"), "text"),
    Column("words", parse_path("words"), "text[]"),
    Column("any", parse_path("any"), "jsonb"),
    Column("metadata", parse_path("record.sync.metadata"), "jsonb"),
)

STORABLE = {
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "right to left": "\u202eשלום\u202c مرحبا \u2067x\u2069",
    "emoji": "👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 \U0010ffff",
    "combining": "e\u0301\u0327 é \ufeff\ufffe\uffff",
    "quotes": "'; drop table demo.thing; -- \" $$ ` \\ \\' %s %(x)s {} \\N \\.",
    "escapes in words": "\\u0000 \\ud800 \\x00",
    "space": " \t\r\n\u2028\u2029\u00a0 ",
    "null in words": "NULL",
}
UNSTORABLE = {
    "nul": r"a\u0000b",
    "high surrogate": r"a\ud83db",
    "low surrogate": r"\ude00",
    "surrogates the wrong way round": r"\ude00\ud83d",
    "high surrogate twice": r"\uD83D\uD83D",
}
"""As JSON text without its quotes: Python would not write most of them."""


@dataclass(frozen=True)
class Place:
    """Where a string is put: the members that it changes, `@` standing for its JSON text, and the class of the reject if it cannot be
    stored there (None: it is stored nowhere, and does no harm)."""

    members: dict[str, str]
    reject_class: str | None = "value"


PLACES = {
    "id": Place({"id": "@"}, "envelope"),
    "upstream_id": Place({"upstream_id": "@"}, "envelope"),
    "sync.id": Place({"sync": '{"id": @}'}, "envelope"),
    "sync.external_id": Place({"sync": '{"id": "s1", "external_id": @}'}, "envelope"),
    "value of the sync's metadata": Place({"sync": '{"id": "s1", "metadata": {"k": [@]}}'}),
    "key of the sync's metadata": Place({"sync": '{"id": "s1", "metadata": {@: 1}}'}),
    "value": Place({"data": '{"other": @}'}),
    "key": Place({"data": "{@: 1}"}),
    "key far below": Place({"data": '{"a": [{"b": {@: 1}}]}'}),
    "text column": Place({"data": '{"word": @}'}),
    "element of a text[] column": Place({"data": '{"words": ["x", @, null]}'}),
    "jsonb column": Place({"data": '{"any": {@: [@]}}'}),
    "unknown field": Place({"extra": "{@: @}"}, None),
}


def record_of(place: str, literal: bytes, *, name: str) -> bytes:
    """The record with the string at the place; `name` is its id, unless that is the place."""
    members = {member: value.encode().replace(b"@", literal) for member, value in PLACES[place].members.items()}
    return built(name, **members)


def name_of(place: str, string: str, *, is_escaped: bool) -> str:
    return f"{place}, {string}, {'escaped' if is_escaped else 'plain'}"


@pytest.fixture(scope="module")
def landed(shared_url: str) -> Landed:
    """Every string in every place, in one page."""
    stored = [
        record_of(place, text(value if place != "id" else value + spelling, is_escaped=is_escaped), name=name)
        for place in PLACES
        for string, value in STORABLE.items()
        for is_escaped, spelling in ((True, "escaped"), (False, "plain"))
        for name in [name_of(place, string, is_escaped=is_escaped)]
    ]
    refused = [
        record_of(place, f'"{literal}"'.encode(), name=f"{place}, {string}")
        for place in PLACES
        for string, literal in UNSTORABLE.items()
    ]
    return land(shared_url, tolerant(COLUMNS), *stored, *refused, *EMPTY.values())


EMPTY = {place: record_of(place, b'""', name=f"{place}, empty") for place in PLACES}
WHERE_EMPTY_IS_REFUSED = {"id", "upstream_id", "sync.id"}


@pytest.mark.parametrize("is_escaped", [True, False], ids=["escaped", "plain"])
@pytest.mark.parametrize("string", STORABLE)
@pytest.mark.parametrize("place", PLACES)
def test_a_string_is_stored_to_the_last_character(landed: Landed, place: str, string: str, *, is_escaped: bool) -> None:
    value = STORABLE[string]
    name = value + ("escaped" if is_escaped else "plain") if place == "id" else name_of(place, string, is_escaped=is_escaped)

    row = landed.rows[name]

    assert found(row, place) == expected(value if place != "id" else name, place)


def found(row: "dict[str, str | None]", place: str) -> object:
    """What the row holds of the place, JSON as Python reads it."""
    if place in ("id", "upstream_id"):
        return row[place]
    if place == "sync.id":
        return row["sync_id"]
    if place == "sync.external_id":
        return row["internal_id"]
    if "metadata" in place:
        return json.loads(row["metadata"] or "null")
    if place == "text column":
        return row["word"], json.loads(row["data"] or "null")
    if place == "jsonb column":
        return json.loads(row["any"] or "null"), json.loads(row["data"] or "null")
    return json.loads(row["data"] or "null")


def expected(value: str, place: str) -> object:
    return {
        "id": value,
        "upstream_id": value,
        "sync.id": value,
        "sync.external_id": value,
        "value of the sync's metadata": {"k": [value]},
        "key of the sync's metadata": {value: 1},
        "value": {"other": value},
        "key": {value: 1},
        "key far below": {"a": [{"b": {value: 1}}]},
        "text column": (value, {"word": value}),
        "element of a text[] column": {"words": ["x", value, None]},
        "jsonb column": ({value: [value]}, {"any": {value: [value]}}),
        "unknown field": record()["data"],
    }[place]


@pytest.mark.parametrize("string", STORABLE)
def test_an_array_holds_its_strings_one_by_one(landed: Landed, shared_url: str, string: str) -> None:
    rows = [
        landed.rows[name_of("element of a text[] column", string, is_escaped=is_escaped)]["words"] for is_escaped in (True, False)
    ]

    assert [elements(literal or "") for literal in rows] == [["x", STORABLE[string], None]] * 2


def elements(literal: str) -> list[str | None]:
    """A text[] literal as Postgres writes it: elements in quotes where they need them, with backslashes before quotes and backslashes."""
    items: list[str | None] = []
    rest = literal[1:-1]
    while rest:
        if rest.startswith('"'):
            item, at = "", 1
            while rest[at] != '"':
                at += rest[at] == "\\"
                item += rest[at]
                at += 1
            items.append(item)
            rest = rest[at + 2 :]
        else:
            word, _, rest = rest.partition(",")
            items.append(None if word == "NULL" else word)
    return items


@pytest.mark.parametrize("string", UNSTORABLE)
@pytest.mark.parametrize("place", PLACES)
def test_a_string_that_postgres_cannot_hold_is_one_reject_unless_it_is_stored_nowhere(
    landed: Landed, place: str, string: str
) -> None:
    name = f"{place}, {string}"
    sent = record_of(place, f'"{UNSTORABLE[string]}"'.encode(), name=name)

    if PLACES[place].reject_class is None:
        assert json.loads(landed.rows[name]["data"] or "null") == record()["data"]
        assert sent not in landed.refusals
        return
    refusal = landed.refusals[sent]
    assert (refusal.reject_class, refusal.sqlstate) == (PLACES[place].reject_class, None)
    assert "can hold" in refusal.reason
    assert name not in landed.rows


@pytest.mark.parametrize("place", PLACES)
def test_an_empty_string_is_a_string_but_no_name(landed: Landed, place: str) -> None:
    name = f"{place}, empty"

    if place in WHERE_EMPTY_IS_REFUSED:
        refusal = landed.refusals[EMPTY[place]]
        assert (refusal.reject_class, refusal.sqlstate) == ("envelope", None)
        assert f"{place} is the string '', where a string that is not empty was expected" in refusal.reason
        assert name not in landed.rows
    else:
        assert found(landed.rows[name], place) == expected("", place)


def test_nothing_else_was_refused(landed: Landed) -> None:
    stored_nowhere = sum(place.reject_class is None for place in PLACES.values())

    assert len(landed.refusals) == (len(PLACES) - stored_nowhere) * len(UNSTORABLE) + len(WHERE_EMPTY_IS_REFUSED)
