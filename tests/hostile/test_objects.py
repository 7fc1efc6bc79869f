"""Objects that are deep, wide, mixed or large."""

import json
import random

import pytest

from sequin_pipeline.catalog import Column, parse_path
from sequin_pipeline.errors import TooManyRejects
from tests.hostile.sending import Landed, built, land, land_once, query, sync, text, tolerant, with_data

LEVELS = 100
BOTTOM = "$" + ".a" * LEVELS
MIXED = b'[1, "1", 1.0, 1e400, true, null, [], [[null]], {}, {"a": [{}]}, "", -0]'
COLUMNS = (
    Column("bottom", parse_path(BOTTOM), "text"),
    Column("last", parse_path("k9999"), "integer"),
    Column("mixed", parse_path("mixed"), "jsonb"),
    Column("third", parse_path("mixed[2]"), "numeric"),
    Column("words", parse_path("words"), "text[]"),
)


def nested(levels: int, *, inside: str) -> bytes:
    return ('{"a": ' * levels + inside + "}" * levels).encode()


def arrays(levels: int) -> bytes:
    return b'{"deep": ' + b"[" * levels + b"]" * levels + b"}"


MANY_KEYS = {f"k{number}": number for number in range(10_000)}
RECORDS = {
    "deep": with_data("deep", nested(LEVELS, inside='"here"')),
    "deep, to an object": with_data("deep, to an object", nested(LEVELS + 1, inside="1")),
    "arrays": with_data("arrays", arrays(LEVELS)),
    "arrays of 5,000": with_data("arrays of 5,000", arrays(5_000)),
    "arrays of 30,000": with_data("arrays of 30,000", arrays(30_000)),
    "arrays in an unknown field": built("arrays in an unknown field", extra=b"[" * 30_000 + b"]" * 30_000),
    "many keys": with_data("many keys", text(MANY_KEYS)),
    "mixed": with_data("mixed", b'{"mixed": %b}' % MIXED),
    "mixed words": with_data("mixed words", b'{"words": ["a", 1]}'),
    "words in words": with_data("words in words", b'{"words": [["a"]]}'),
    "no words": with_data("no words", b'{"words": []}'),
    "null words": with_data("null words", b'{"words": [null, null]}'),
}


@pytest.fixture(scope="module")
def landed(shared_url: str) -> Landed:
    return land(shared_url, tolerant(COLUMNS), *RECORDS.values())


def test_a_value_a_hundred_levels_down_is_found(landed: Landed) -> None:
    assert landed.rows["deep"]["bottom"] == "here"
    assert landed.rows["deep"]["data"] == nested(LEVELS, inside='"here"').decode()


@pytest.mark.parametrize(("name", "levels"), [("arrays", LEVELS), ("arrays of 5,000", 5_000)])
def test_arrays_in_arrays_are_stored_to_the_innermost(landed: Landed, name: str, levels: int) -> None:
    assert landed.rows[name]["data"] == arrays(levels).decode()


def test_ten_thousand_keys_are_all_there(landed: Landed) -> None:
    row = landed.rows["many keys"]

    assert json.loads(row["data"] or "") == MANY_KEYS
    assert row["last"] == "9999"


def test_an_array_of_mixed_types_is_stored_as_it_was_written(landed: Landed) -> None:
    row = landed.rows["mixed"]

    written = MIXED.decode().replace("1e400", "1" + "0" * 400).replace("-0", "0")
    assert (row["mixed"], row["third"]) == (written, "1.0")
    assert row["data"] == f'{{"mixed": {written}}}'


def test_arrays_of_nothing_are_arrays(landed: Landed) -> None:
    assert (landed.rows["no words"]["words"], landed.rows["null words"]["words"]) == ("{}", "{NULL,NULL}")


def test_what_lies_in_an_unknown_field_does_no_harm(landed: Landed) -> None:
    assert landed.rows["arrays in an unknown field"]["upstream_id"] == "up_arrays in an unknown field"


@pytest.mark.parametrize(
    ("name", "expected", "reason"),
    [
        ("deep, to an object", ("value", None), "column 'bottom'"),
        ("mixed words", ("value", None), "column 'words' (path $.words, text[]) found the array '[\"a\", 1]'"),
        ("words in words", ("value", None), "column 'words' (path $.words, text[]) found the array '[[\"a\"]]'"),
        ("arrays of 30,000", ("postgres", "54001"), "Postgres refused the row: stack depth limit exceeded"),
    ],
)
def test_what_does_not_fit_is_one_reject(landed: Landed, name: str, expected: tuple[str, str | None], reason: str) -> None:
    refusal = landed.refusals[RECORDS[name]]

    assert (refusal.reject_class, refusal.sqlstate) == expected
    assert refusal.reason.startswith(reason)
    assert name not in landed.rows


STATUS = (Column("status", parse_path("status"), "text"),)
LARGE = "é日😀" + random.Random(5).randbytes(5 * 2**19).hex()
"""5 MB of what does not compress well."""


def test_five_megabytes_are_stored_wherever_no_index_is_in_the_way(warehouse_url: str) -> None:
    literal = text(LARGE, is_escaped=False)
    word = Column("word", parse_path("word"), "text")
    records = [
        built("upstream", upstream_id=literal),
        with_data("value", b'{"word": %b}' % literal),
        with_data("key", b"{%b: 1}" % literal),
    ]
    too_long = built("id", id=literal)

    landed = land_once(warehouse_url, tolerant([word]), *records, too_long)

    assert landed.rows["upstream"]["upstream_id"] == LARGE
    assert landed.rows["value"]["word"] == LARGE
    assert json.loads(landed.rows["value"]["data"] or "") == {"word": LARGE}
    assert json.loads(landed.rows["key"]["data"] or "") == {LARGE: 1}
    assert (landed.refusals[too_long].reject_class, landed.refusals[too_long].sqlstate) == ("postgres", "54000")
    assert len(landed.rows) == len(records)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(built("long", id=text(LARGE), data=b'{"status": []}'), id="id"),
        pytest.param(built("long", collection_id=text(LARGE)), id="collection"),
        pytest.param(built("long", data=b'{"status": [%b]}' % text(LARGE)), id="value"),
    ],
)
def test_five_megabytes_in_a_reject_stay_out_of_messages(warehouse_url: str, raw: bytes) -> None:
    with pytest.raises(TooManyRejects) as raised:
        sync(warehouse_url, tolerant(STATUS), raw)

    assert len(str(raised.value)) < 1_000
    assert query(warehouse_url, "select length(reason) < 1000 from sequin_pipeline.rejects") == [(True,)]


def test_objects_that_are_maps_leave_no_field_for_each_of_their_keys(warehouse_url: str) -> None:
    """An object keyed by ids, say: each run would add its keys to the ledger for ever."""
    of = tolerant()
    batches = [[with_data(f"r{batch}", text({f"{batch}-{key}": 1 for key in range(900)}))] for batch in range(4)]

    for number, batch in enumerate(batches):
        sync(warehouse_url, of, *batch, refresh=f"run {number}")

    assert query(warehouse_url, "select count(*) <= 2000 from sequin_pipeline.fields") == [(True,)]
    assert query(warehouse_url, "select count(*) from demo.thing") == [(4,)]
