"""Numbers in the object and in declared columns of every type, as literals and as strings of the same digits."""

import pytest

from sequin_pipeline.catalog import COLUMN_TYPES, Column, parse_path
from tests.hostile.sending import Landed, land, text, tolerant, with_data

COLUMNS = tuple(Column(f"as {kind}", parse_path(f"['as {kind}']"), kind) for kind in COLUMN_TYPES)  # type: ignore[arg-type]

DIGITS = "123456789012345678901234567890"
HUGE = "1" + "0" * 400
TINY = "0." + "0" * 399 + "1"

EXPECTED: dict[str, dict[str, str]] = {
    "9007199254740993": dict.fromkeys(("text", "bigint", "numeric", "jsonb"), "9007199254740993"),
    "9223372036854775807": dict.fromkeys(("text", "bigint", "numeric", "jsonb"), "9223372036854775807"),
    "9223372036854775808": dict.fromkeys(("text", "numeric", "jsonb"), "9223372036854775808")
    | {"double precision": "9.223372036854776e+18"},
    "-9223372036854775809": dict.fromkeys(("text", "numeric", "jsonb"), "-9223372036854775809"),
    DIGITS: dict.fromkeys(("text", "numeric", "jsonb"), DIGITS),
    f"0.{DIGITS}": dict.fromkeys(("text", "numeric", "jsonb"), f"0.{DIGITS}") | {"double precision": "0.12345678901234568"},
    "1e400": {"text": "1e400", "numeric": HUGE, "jsonb": HUGE},
    "1E-400": {"text": "1E-400", "numeric": TINY, "jsonb": TINY, "double precision": "0"},
    "-0": dict.fromkeys(("integer", "bigint", "numeric", "double precision", "jsonb"), "0") | {"text": "-0"},
    "-0.0": {
        "text": "-0.0",
        "integer": "0",
        "bigint": "0",
        "numeric": "0.0",
        "double precision": "-0",
        "jsonb": "0.0",
    },
    "1.0": {"text": "1.0", "integer": "1", "bigint": "1", "numeric": "1.0", "double precision": "1", "jsonb": "1.0"},
    "1.50": {"text": "1.50", "numeric": "1.50", "double precision": "1.5", "jsonb": "1.50"},
    "1e3": dict.fromkeys(("integer", "bigint", "numeric", "double precision", "jsonb"), "1000") | {"text": "1e3"},
    "2147483648": dict.fromkeys(("text", "bigint", "numeric", "double precision", "jsonb"), "2147483648"),
    "1e131071": {"text": "1e131071", "numeric": "1" + "0" * 131071, "jsonb": "1" + "0" * 131071},
}
"""What stands in a column of each type; a type that is not named takes no such number."""

BEYOND = "1e131072"
"""The first power of ten that neither numeric nor jsonb can hold (Postgres documentation, 8.1)."""

CASES = [(literal, kind, spelling) for literal in EXPECTED for kind in COLUMN_TYPES for spelling in ("number", "string")]


def record_of(literal: str, kind: str, spelling: str) -> bytes:
    value = literal.encode() if spelling == "number" else text(literal)
    return with_data(f"{literal} {kind} {spelling}", b"{%b: %b}" % (text(f"as {kind}"), value))


@pytest.fixture(scope="module")
def landed(shared_url: str) -> Landed:
    """Every number for every type, in one page."""
    beyond = [record_of(BEYOND, kind, "number") for kind in COLUMN_TYPES]
    return land(shared_url, tolerant(COLUMNS), *(record_of(*case) for case in CASES), *beyond)


@pytest.mark.parametrize("spelling", ["number", "string"])
@pytest.mark.parametrize("literal", EXPECTED)
def test_a_number_is_stored_to_the_last_digit_or_its_record_is_one_reject(landed: Landed, literal: str, spelling: str) -> None:
    in_object = EXPECTED[literal]["jsonb"] if spelling == "number" else f'"{literal}"'
    taken = EXPECTED[literal] | {"jsonb": in_object}

    found = {kind: fate(landed, literal, kind, spelling) for kind in COLUMN_TYPES}

    assert found == {
        kind: (taken[kind], f'{{"as {kind}": {in_object}}}')
        if kind in taken
        else f"column 'as {kind}' (path $['as {kind}'], {kind}) found the {spelling} '{literal}'"
        for kind in COLUMN_TYPES
    }


def fate(landed: Landed, literal: str, kind: str, spelling: str) -> object:
    """What the column and the object hold, or the beginning of the reason of the reject."""
    row = landed.rows.get(f"{literal} {kind} {spelling}")
    refusal = landed.refusals.get(record_of(literal, kind, spelling))
    assert (row is None) != (refusal is None)
    if row is not None:
        return row[f"as {kind}"], row["data"]
    assert refusal is not None
    assert (refusal.reject_class, refusal.sqlstate) == ("value", None)
    return refusal.reason.split(", where ")[0]


@pytest.mark.parametrize("kind", COLUMN_TYPES)
def test_a_number_beyond_what_jsonb_holds_is_a_reject_whatever_its_column_takes(landed: Landed, kind: str) -> None:
    refusal = landed.refusals[record_of(BEYOND, kind, "number")]

    is_taken_until_then = kind in ("text", "numeric", "jsonb")
    assert (refusal.reject_class, refusal.sqlstate) == (("postgres", "22003") if is_taken_until_then else ("value", None))
    assert f"{BEYOND} {kind} number" not in landed.rows
