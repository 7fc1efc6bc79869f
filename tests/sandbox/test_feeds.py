"""Made-up changes: the same seed and the same times give the same bytes, also across a restart."""

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.feeds import GeneratedFeed, RecordedFeed, feed_of_file
from sequin_pipeline.sandbox.journal import Journal
from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.stream import START
from tests.sandbox.builders import FiveCustomers, client, ids, line

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


class HandClock:
    """Stands still until it is set forward."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


def bodies(feed: GeneratedFeed) -> list[bytes]:
    return [entry.body for entry in feed.stream.after(START, 100_000)]


def test_a_record_of_a_change_is_in_the_documented_form() -> None:
    feed = GeneratedFeed(FiveCustomers(), Journal(1), clock=HandClock())

    with running_sandbox(feed) as url, client(url) as http:
        page = http.get("/v1/records", params={"limit": 1})

    assert page.json()["records"] == [
        {
            "id": "5b7cb976-ff15-5495-88f6-aa2e349eeeb5",
            "collection_id": "stripe:customer",
            "provider": "stripe",
            "stream_id": "default",
            "sync": {"id": "s1", "external_id": "org_1", "metadata": {"plan": "pro"}},
            "upstream_id": "cus_0",
            "updated_idx": 8589934593,
            "deleted": False,
            "inserted_at": "2024-01-01T00:00:00.000000Z",
            "upstream_created_at": None,
            "upstream_updated_at": None,
            "data": {"n": 0},
        }
    ]


@pytest.mark.slow
def test_the_population_of_a_seed_is_the_same_bytes_every_time() -> None:
    clock = HandClock()
    feeds = [GeneratedFeed(Population(3), Journal(3), rate=100, clock=clock) for _ in range(2)]
    clock.now += timedelta(seconds=3)
    for feed in feeds:
        feed.catch_up()

    first, second = (bodies(feed) for feed in feeds)

    assert len(first) > 5000
    assert first == second


@pytest.mark.slow
def test_versions_and_times_grow_along_the_stream_and_ids_are_unique() -> None:
    clock = HandClock()
    feed = GeneratedFeed(Population(1), Journal(1), rate=100, clock=clock)
    clock.now += timedelta(seconds=10)
    feed.catch_up()

    records = [json.loads(body) for body in bodies(feed)]

    versions = [record["updated_idx"] for record in records]
    times = [record["inserted_at"] for record in records]
    assert versions == sorted(set(versions))
    assert versions[0] > 2**32
    assert times == sorted(times)
    assert len({record["id"] for record in records}) == len(records)


def test_changes_happen_at_their_rate_while_the_sandbox_runs() -> None:
    clock = HandClock()
    feed = GeneratedFeed(FiveCustomers(), Journal(1), rate=2, clock=clock)

    clock.now += timedelta(seconds=1.6)
    feed.catch_up()

    assert feed.stream.head == 5 + 3
    assert feed.seconds_to_next_change() == pytest.approx(0.4)
    assert [json.loads(body)["inserted_at"] for body in bodies(feed)[-3:]] == [
        "2026-05-01T12:00:00.500000Z",
        "2026-05-01T12:00:01.000000Z",
        "2026-05-01T12:00:01.500000Z",
    ]


def test_a_clock_behind_the_made_up_past_makes_changes_all_the_same() -> None:
    clock = HandClock()
    clock.now = datetime(2023, 1, 1, tzinfo=UTC)
    feed = GeneratedFeed(FiveCustomers(), Journal(1), rate=1, clock=clock)

    clock.now += timedelta(seconds=1)
    feed.catch_up()

    assert [json.loads(body)["inserted_at"] for body in bodies(feed)[-2:]] == [
        "2024-01-05T00:00:00.000000Z",
        "2024-01-05T00:00:01.000000Z",
    ]


def test_a_sandbox_without_a_rate_stands_still() -> None:
    clock = HandClock()
    feed = GeneratedFeed(FiveCustomers(), Journal(1), clock=clock)

    clock.now += timedelta(days=400)
    feed.catch_up()

    assert (feed.stream.head, feed.seconds_to_next_change()) == (5, None)


def test_positions_versions_and_bytes_go_on_after_a_restart(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(Journal(1, tmp_path / "state.json")) as journal:
        first = GeneratedFeed(FiveCustomers(), journal, rate=2, clock=clock)
        clock.now += timedelta(seconds=2)
        first.catch_up()
    clock.now += timedelta(hours=1)

    with closing(Journal(1, tmp_path / "state.json")) as journal:
        second = GeneratedFeed(FiveCustomers(), journal, rate=1, clock=clock)
        after_restart = bodies(second)
        clock.now += timedelta(seconds=1)
        second.catch_up()

    assert after_restart == bodies(first)
    assert second.stream.head == first.stream.head + 1
    assert json.loads(bodies(second)[-1])["inserted_at"] == "2026-05-01T13:00:03.000000Z"


def test_a_clock_set_back_does_not_make_the_stream_go_back(tmp_path: Path) -> None:
    clock = HandClock()
    with closing(Journal(1, tmp_path / "state.json")) as journal:
        feed = GeneratedFeed(FiveCustomers(), journal, rate=1, clock=clock)
        clock.now += timedelta(seconds=60)
        feed.catch_up()
    clock.now = NOON

    with closing(Journal(1, tmp_path / "state.json")) as journal:
        feed = GeneratedFeed(FiveCustomers(), journal, rate=1, clock=clock)
        clock.now += timedelta(seconds=2)
        feed.catch_up()

    assert json.loads(bodies(feed)[-1])["inserted_at"] == "2026-05-01T12:01:02.000000Z"


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        pytest.param('{"seed":2,"runs":[]}', "belongs to seed 2, and seed 1 was asked for", id="another seed"),
        pytest.param("{", "cannot be read", id="no JSON"),
        pytest.param('{"seed":1,"runs":[{}]}', "cannot be read", id="another shape"),
    ],
)
def test_a_state_that_is_not_ours_is_refused_and_kept(tmp_path: Path, state: str, reason: str) -> None:
    (tmp_path / "state.json").write_text(state)

    with pytest.raises(ConfigurationError, match=reason):
        Journal(1, tmp_path / "state.json")

    assert (tmp_path / "state.json").read_text() == state


def test_two_sandboxes_do_not_share_a_state(tmp_path: Path) -> None:
    with closing(Journal(1, tmp_path / "state.json")), pytest.raises(ConfigurationError, match="is in use"):
        Journal(1, tmp_path / "state.json")


def test_a_file_is_served_in_its_order_without_its_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line("b") + b"\r\n\n" + line("a") + b"\n" + line("c"))

    with running_sandbox(feed_of_file(path)) as url, client(url) as http:
        page = http.get("/v1/records")

    assert ids(page) == ["b", "a", "c"]


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b'{"id":"b"', id="cut"),
        pytest.param(b'{"id":"b"}{"id":"c"}', id="two on a line"),
        pytest.param(b"id=b", id="no JSON"),
        pytest.param(b'{"id":"b","data":NaN}', id="NaN"),
        pytest.param(b'{"id":"b","data":"\xff"}', id="no UTF-8"),
    ],
)
def test_a_file_with_a_bad_line_is_refused_with_its_number(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(line("a") + b"\n\n" + bad + b"\n")

    with pytest.raises(ConfigurationError, match="line 3 is not JSON"):
        feed_of_file(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot read the records of '.*missing.jsonl': No such file"):
        feed_of_file(tmp_path / "missing.jsonl")


def test_syncs_of_made_up_objects_are_described_with_times_without_zone() -> None:
    feed = GeneratedFeed(FiveCustomers(), Journal(1), clock=HandClock())

    with running_sandbox(feed) as url, client(url) as http:
        syncs = http.get("/v1/syncs").json()

    assert syncs == {
        "data": [
            {
                "id": "s1",
                "name": "Acme",
                "provider": "stripe",
                "stream_id": "default",
                "collection_ids": ["stripe:customer"],
                "external_id": "org_1",
                "metadata": {"plan": "pro"},
                "status": "active",
                "health": "healthy",
                "max_age_days": None,
                "sync_frequency": "1m",
                "initial_backfill_completed_at": "2023-12-15 01:29:29",
            }
        ]
    }


def test_collections_of_a_credential_are_described_with_their_fields() -> None:
    feed = GeneratedFeed(FiveCustomers(), Journal(1), clock=HandClock())

    with running_sandbox(feed) as url, client(url) as http:
        collections = http.get("/v1/collections/s1").json()
        unknown = http.get("/v1/collections/s2")

    assert collections == {
        "data": [
            {
                "id": "stripe:customer",
                "upstream_id": "customer",
                "name": "customer",
                "fields": [{"id": "fld_1", "name": "N", "accessor": "n", "type": "number", "primary_key": False}],
            }
        ]
    }
    assert (unknown.status_code, unknown.json()) == (404, {"summary": "There is no such credential"})


def test_syncs_of_recorded_records_are_those_that_they_name() -> None:
    feed = RecordedFeed(
        [
            line("a", sync={"id": "s1", "external_id": "old"}),
            line(
                "b", collection_id="stripe:billing_portal.session", sync={"id": "s1", "external_id": "org", "metadata": {"a": 1}}
            ),
            b'{"sync_id":"s2","collection":"github:issue","upstream_id":"1"}',
        ]
    )

    with running_sandbox(feed) as url, client(url) as http:
        syncs = http.get("/v1/syncs").json()["data"]

    assert [(sync["id"], sync["provider"], sync["collection_ids"], sync["external_id"], sync["metadata"]) for sync in syncs] == [
        ("s1", "stripe", ["stripe:billing_portal.session", "stripe:customer"], "org", {"a": 1}),
        ("s2", "github", ["github:issue"], None, {}),
    ]
