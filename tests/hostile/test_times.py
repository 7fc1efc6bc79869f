"""Times in the envelope and in declared columns: offsets, no zone, microseconds, the first and the last year, epochs."""

from datetime import UTC, datetime

import pytest

from sequin_pipeline.catalog import Column, Windows, parse_path
from sequin_pipeline.ledger.status import cursor_times
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.windows import KeyRange, live_range
from tests.hostile.sending import Landed, built, land, query, text, tolerant, with_data
from tests.support.builders import EPOCH, ListSource, collection, live_run_config, record

MONTHS = Windows("month", EPOCH)
NOW = datetime(2024, 5, 2, tzinfo=UTC)

COLUMNS = (
    Column("day", parse_path("day"), "date"),
    Column("iso", parse_path("iso"), "timestamptz"),
    Column("utc", parse_path("utc"), "timestamptz", assume_utc=True),
    Column("rounded", parse_path("rounded"), "timestamptz", rounds=True),
    Column("seconds", parse_path("seconds"), "timestamptz", time_format="epoch_seconds"),
    Column("milliseconds", parse_path("milliseconds"), "timestamptz", time_format="epoch_milliseconds"),
)
ENVELOPE = {
    "inserted_at": "record_inserted_at",
    "upstream_created_at": "upstream_created_at",
    "upstream_updated_at": "upstream_updated_at",
}
"""The envelope's times and the columns that they land in."""

ISO = ("iso", "utc", "rounded", *ENVELOPE)
FIRST, LAST = "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"

EXPECTED: dict[str, dict[str, str]] = {
    '"2024-03-10T02:30:00+05:45"': dict.fromkeys(ISO, "2024-03-09 20:45:00+00"),
    '"2024-03-10T02:30:00-1200"': dict.fromkeys(ISO, "2024-03-10 14:30:00+00"),
    '"2024-03-10 02:30+00"': dict.fromkeys(ISO, "2024-03-10 02:30:00+00"),
    '"2024-03-10T02:30:00"': {"utc": "2024-03-10 02:30:00+00"},
    '"2024-03-10T02:30:00.000001Z"': dict.fromkeys(ISO, "2024-03-10 02:30:00.000001+00"),
    '"2024-03-10T02:30:00.1234567Z"': {"rounded": "2024-03-10 02:30:00.123457+00"},
    '"2024-03-10T02:30:00.123456000Z"': dict.fromkeys(ISO, "2024-03-10 02:30:00.123456+00"),
    '"0001-01-01T00:00:00Z"': dict.fromkeys(ISO, FIRST),
    '"0001-01-01T00:00:00+00:01"': {},
    '"9999-12-31T23:59:59.999999Z"': dict.fromkeys(ISO, LAST),
    '"9999-12-31T23:59:59.9999999Z"': {},
    '"9999-12-31T23:59:59.999999-00:01"': {},
    '"10000-01-01T00:00:00Z"': {},
    '"2016-12-31T23:59:60Z"': {},
    '"2023-02-29T00:00:00Z"': {},
    '"0001-01-01"': {"day": "0001-01-01"},
    '"9999-12-31"': {"day": "9999-12-31"},
    '"2024-02-30"': {},
    "1709951400": {"seconds": "2024-03-09 02:30:00+00", "milliseconds": "1970-01-20 18:59:11.4+00"},
    "1709951400.000001": {"seconds": "2024-03-09 02:30:00.000001+00"},
    "1709951400.5": {"seconds": "2024-03-09 02:30:00.5+00", "milliseconds": "1970-01-20 18:59:11.4005+00"},
    '"1709951400.250"': {"seconds": "2024-03-09 02:30:00.25+00", "milliseconds": "1970-01-20 18:59:11.40025+00"},
    "-62135596800": {"seconds": FIRST, "milliseconds": "1968-01-12 20:06:43.2+00"},
    "253402300799.999999": {"seconds": LAST},
    "253402300800": {"milliseconds": "1978-01-11 21:31:40.8+00"},
    "1e400": {},
    '"now"': {},
    '"infinity"': {},
}
"""What stands in each column; one that is not named takes no such value."""

PLACES = (*(column.name for column in COLUMNS), *ENVELOPE)
PARAMETERS = [(literal, place) for literal in EXPECTED for place in PLACES]


def record_of(literal: str, place: str) -> bytes:
    name = f"{literal} {place}"
    return (
        built(name, **{place: literal.encode()})
        if place in ENVELOPE
        else with_data(name, b"{%b: %b}" % (text(place), literal.encode()))
    )


@pytest.fixture(scope="module")
def landed(shared_url: str) -> Landed:
    """Every time in every place, in one page."""
    return land(shared_url, tolerant(COLUMNS), *(record_of(*case) for case in PARAMETERS))


@pytest.mark.parametrize(("literal", "place"), PARAMETERS, ids=[" ".join(case) for case in PARAMETERS])
def test_a_time_is_stored_to_the_microsecond_or_its_record_is_one_reject(landed: Landed, literal: str, place: str) -> None:
    name, sent = f"{literal} {place}", record_of(literal, place)
    wanted = EXPECTED[literal].get(place)

    if wanted is None:
        refusal = landed.refusals[sent]
        assert (refusal.reject_class, refusal.sqlstate) == ("envelope" if place in ENVELOPE else "value", None)
        assert "was expected" in refusal.reason
        assert place in refusal.reason
        assert name not in landed.rows
    else:
        assert landed.rows[name][ENVELOPE.get(place, place)] == wanted
        assert sent not in landed.refusals


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"])
def test_a_stream_goes_on_behind_a_record_from_the_edge_of_time(warehouse_url: str, edge: str) -> None:
    warehouse = Warehouse(warehouse_url)
    pages = [[record("first", inserted_at=edge)], [record("second", 2)], [record("third", 3, inserted_at=edge)]]

    for _ in pages:  # a page from the future ends the run: it entered the stream after the run's first response
        run_sync(RecordStream(live_run_config(collection()), ListSource(pages)), warehouse, run_id="run")

    assert query(warehouse_url, "select id from demo.thing order by id") == [("first",), ("second",), ("third",)]
    with warehouse.connect() as connection:
        [(label, cursor_at)] = cursor_times(connection).items()
    assert label == "demo/thing"
    assert live_range(MONTHS, cursor_at, NOW) == KeyRange("2024-05" if edge.startswith("9999") else "2024-01", "2024-05")


def test_a_cursor_before_the_first_window_asks_for_all_of_them() -> None:
    assert live_range(MONTHS, datetime.min.replace(tzinfo=UTC), NOW) == KeyRange("2024-01", "2024-05")
