"""A connector of Airbyte's protocol as a source: what lands, what is remembered, and what becomes of one that lies or breaks off."""

import json
import logging
import math
from datetime import timedelta
from pathlib import Path

import pytest

from sequin_pipeline.errors import SourceError, SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.reads import StreamRead
from sequin_pipeline.sources.connectors.airbyte import Airbyte
from tests.sources.connectors.child import CATALOG, SECRET, START, THING, Step, good_read, installed, never, open_child, thing
from tests.support.reading import query, rows
from tests.support.syncing import sync

pytestmark = pytest.mark.processes

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

FIRST = [thing("a", 1), thing("b", 2), thing("c", 3)]


def amounts(url: str) -> dict[str, int]:
    return dict(rows(url, "upstream_id", "amount", table="demo.thing where not deleted"))


def state(url: str) -> object:
    [(cursor,)] = query(url, "select cursor from sequin_pipeline.cursors")
    stored = json.loads(cursor).get("state")
    return stored and stored["stream"]["stream_state"]


def changes(folder: Path, *objects: dict[str, object]) -> list[Step]:
    """The steps of a read of a file that says what there is; the connector keeps the newest time as its state."""
    (folder / "things.json").write_text(json.dumps({str(one["id"]): one for one in objects}))
    return [["changes", "thing", str(folder / "things.json")], ["status", "thing", "COMPLETE"]]


def test_first_run_takes_everything_and_the_next_one_what_is_behind_the_state(warehouse_url: str, tmp_path: Path) -> None:
    first = sync(warehouse_url, of=THING, source=open_child(tmp_path, *changes(tmp_path, *FIRST)))
    again = sync(warehouse_url, of=THING, source=open_child(tmp_path, *changes(tmp_path, *FIRST)))
    changed = [thing("a", 9, 7), *FIRST[1:], thing("d", 9)]
    second = sync(warehouse_url, of=THING, source=open_child(tmp_path, *changes(tmp_path, *changed)))

    assert (first.counts.inserted, first.counts.fetched) == (3, 3)
    assert (again.counts.fetched, again.counts.unchanged) == (1, 1)
    assert (second.counts.updated, second.counts.inserted, second.counts.unchanged) == (1, 1, 1)
    assert amounts(warehouse_url) == {"a": 7, "b": 1, "c": 1, "d": 1}
    assert state(warehouse_url) == {"version": "2026-01-01T00:00:09Z"}


def test_listing_once_a_day_finds_what_is_gone(warehouse_url: str, tmp_path: Path) -> None:
    sync(warehouse_url, of=THING, source=open_child(tmp_path, *changes(tmp_path, *FIRST)))

    left = changes(tmp_path, FIRST[0], FIRST[2])
    before = sync(warehouse_url, of=THING, source=open_child(tmp_path, *left, now=START + HOUR))
    listing = sync(warehouse_url, of=THING, source=open_child(tmp_path, *left, now=START + DAY))

    assert (before.counts.deleted, listing.counts.deleted) == (0, 1)
    assert amounts(warehouse_url) == {"a": 1, "c": 1}


def test_start_date_that_moves_deletes_nothing_of_what_lies_before_it(warehouse_url: str, tmp_path: Path) -> None:
    """As the default of some connectors does, which read the last two years: what is older is not sent, and not gone."""
    sync(warehouse_url, of=THING, source=open_child(tmp_path, *changes(tmp_path, *FIRST, thing("d", 4), thing("e", 5))))

    moved = changes(tmp_path, FIRST[2], thing("e", 5))
    listing = sync(warehouse_url, of=THING, source=open_child(tmp_path, *moved, now=START + DAY))
    nothing = sync(warehouse_url, of=THING, source=open_child(tmp_path, *changes(tmp_path), now=START + 2 * DAY))

    assert (listing.counts.deleted, nothing.counts.deleted) == (1, 0)
    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1, "e": 1}


def test_deletion_that_the_connector_tells_marks_the_row(warehouse_url: str, tmp_path: Path) -> None:
    read = StreamRead("thing", deleted=("gone",))
    sync(warehouse_url, of=THING, source=open_child(tmp_path, *good_read(*FIRST), read=read))

    gone = good_read({**thing("b", 5), "gone": "2026-01-01T00:00:05Z"})
    second = sync(warehouse_url, of=THING, source=open_child(tmp_path, *gone, read=read))

    assert second.counts.deleted == 1
    assert amounts(warehouse_url) == {"a": 1, "c": 1}


@pytest.mark.parametrize("end", ["INCOMPLETE", "nothing", "a status", "a signal"])
def test_state_that_a_failing_connector_sends_last_is_not_kept(warehouse_url: str, tmp_path: Path, end: str) -> None:
    """It may stand behind what was never sent: the next run reads from the last one that records followed."""
    ends: dict[str, list[Step]] = {
        "INCOMPLETE": [["status", "thing", "INCOMPLETE"], ["exit_with", 1]],
        "nothing": [],
        "a status": [["status", "thing", "COMPLETE"], ["exit_with", 1]],
        "a signal": [["kill", 9]],
    }
    steps: list[Step] = [
        ["records", "thing", FIRST[0]],
        ["state", "thing", {"version": "safe"}, 1],
        ["records", "thing", FIRST[1]],
        ["state", "thing", {"version": "not safe"}, 1],
    ]

    with pytest.raises(SourceError):
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps, *ends[end]))

    assert amounts(warehouse_url) == {"a": 1, "b": 1}
    assert state(warehouse_url) == {"version": "safe"}


def test_states_behind_an_error_are_not_kept_though_records_follow(warehouse_url: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        ["records", "thing", FIRST[0]],
        ["error", "system_error", "one partition failed"],
        ["state", "thing", {"version": "not safe"}, 1],
        ["records", "thing", FIRST[1]],
        ["status", "thing", "INCOMPLETE"],
        ["exit_with", 1],
    ]

    with pytest.raises(SourceFault, match="one partition failed"):
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps))

    assert (amounts(warehouse_url), state(warehouse_url)) == ({"a": 1, "b": 1}, None)


@pytest.mark.parametrize("count", [2, 4, 0], ids=["one too few", "one too many", "none"])
def test_count_of_records_that_is_not_what_came_ends_the_run(warehouse_url: str, tmp_path: Path, count: int) -> None:
    steps: list[Step] = [
        ["records", "thing", *FIRST],
        ["state", "thing", {"version": "x"}, count],
        ["status", "thing", "COMPLETE"],
    ]

    with pytest.raises(SourceFault) as fault:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps))

    assert (
        f"says that it sent {count} records of stream 'thing' since its last state, and 3 came: a part was lost on the way"
        in str(fault.value)
    )
    assert query(warehouse_url, "select cursor from sequin_pipeline.cursors where cursor like '%version%'") == []


def test_listing_that_breaks_off_takes_nothing_for_deleted(warehouse_url: str, tmp_path: Path) -> None:
    sync(warehouse_url, of=THING, source=open_child(tmp_path, *changes(tmp_path, *FIRST)))
    short: list[Step] = [["once", str(tmp_path / "news"), "status", "thing", "COMPLETE"], ["records", "thing", FIRST[0]]]

    with pytest.raises(SourceFault, match="never said that the stream is COMPLETE"):
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *short, now=START + DAY))

    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}


def test_error_of_a_type_that_nobody_knows_ends_the_run_as_a_fault(tmp_path: Path, warehouse_url: str) -> None:
    """The types that the protocol has are those of tests/faults."""
    steps: list[Step] = [
        ["error", "something_new", f"the token {SECRET} is wrong"],
        ["status", "thing", "INCOMPLETE"],
        ["exit_with", 1],
    ]

    with pytest.raises(SourceFault) as failure:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps))

    assert str(failure.value).startswith("reading stream 'thing': the connector ")
    assert str(failure.value).endswith("failed (ended with status 1): the token *** is wrong")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([["kill", 11]], "ended by signal 11"),
        ([["status", "thing", "COMPLETE"], ["status", "thing", "INCOMPLETE"]], "said that the stream is INCOMPLETE"),
    ],
    ids=["a fault of memory", "complete, and then not"],
)
def test_end_that_is_not_known_to_be_good_fails_the_run_and_keeps_what_came(
    tmp_path: Path, warehouse_url: str, steps: list[Step], said: str
) -> None:
    with pytest.raises(SourceFault) as failure:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, ["records", "thing", *FIRST], *steps))

    assert said in str(failure.value)
    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}


def test_noise_is_counted_and_shown_once_without_secrets(
    warehouse_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noise: list[Step] = [
        ["raw", f"Downloading with {SECRET}\n"],
        ["raw", "\n{not json\n"],
        ["raw", '{"level": "info"}\n'],
        ["raw", '["RECORD"]\n'],
    ]

    outcome = sync(warehouse_url, of=THING, source=open_child(tmp_path, *noise, *good_read(*FIRST)))

    [note] = outcome.notes
    assert note.endswith(" wrote 4 lines that are no messages, the first: 'Downloading with ***'")
    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}
    assert SECRET not in caplog.text
    assert len([one for one in caplog.records if "no message" in one.message]) == 1


@pytest.mark.parametrize(
    "raw",
    [
        '{"type": "RECORD", "record": {"stream": "thing", "data": {"id": "x", "amount": 1}, "emi\n',
        'Downloading… {"type": "RECORD", "record": {"stream": "thing", "data": {"id": "x"}, "emitted_at": 1}}\n',
        '{"type": "RECORD", "record": {"stream": "thing"}}\n',
        '{"type": "RECORD"}\n',
        '{"type": "STATE", "state": {"type": "STREAM", "stream": {}}}\n',
        '{"type": "STATE", "state": \n',
        '{"type": "TRACE", "trace": {"type": "STREAM_STATUS", "stream_status": 1}}\n',
    ],
    ids=["cut", "behind other words", "without data", "without record", "a state of no stream", "a cut state", "a broken status"],
)
def test_line_that_may_be_a_message_and_cannot_be_read_ends_the_run(warehouse_url: str, tmp_path: Path, raw: str) -> None:
    with pytest.raises(SourceFault) as fault:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, ["raw", raw], *good_read(*FIRST)))

    assert "message" in str(fault.value)


def test_record_that_is_no_json_becomes_a_reject_and_stops_nobody(warehouse_url: str, tmp_path: Path) -> None:
    odd = {**thing("odd", 2), "amount": math.inf}
    sent = [FIRST[0], odd, FIRST[2]]

    outcome = sync(warehouse_url, of=THING, source=open_child(tmp_path, *good_read(*sent)))

    assert (outcome.counts.rejected, amounts(warehouse_url)) == (1, {"a": 1, "c": 1})
    [(raw,)] = query(warehouse_url, "select raw from sequin_pipeline.rejects where resolved_at is null")
    assert b'"amount": Infinity' in bytes(raw)


def test_line_of_16_mb_lands(warehouse_url: str, tmp_path: Path) -> None:
    steps: list[Step] = [["big", "thing", "big", 16], ["state", "thing", {"version": "x"}, 1], ["status", "thing", "COMPLETE"]]

    sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps))

    assert query(warehouse_url, "select upstream_id, length(data->>'text') from demo.thing") == [("big", 16 << 20)]


@pytest.mark.parametrize("kind", ["GLOBAL", "LEGACY"])
def test_state_of_all_streams_together_is_refused_in_words(warehouse_url: str, tmp_path: Path, kind: str) -> None:
    message = {"type": "STATE", "state": {"type": kind, "data": {}, "global": {"stream_states": []}}}

    with pytest.raises(SourceRefused) as refused:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, ["say", message], *good_read(*FIRST)))

    assert f"keeps a {kind} state, which stands for all of its streams together" in str(refused.value)


def test_records_of_other_streams_are_not_taken_for_ours(warehouse_url: str, tmp_path: Path) -> None:
    steps: list[Step] = [["records", "other", thing("x", 1)], *good_read(*FIRST)]

    outcome = sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps))

    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}
    assert outcome.notes[0].endswith(" sent 1 messages of streams that were not asked for")


def test_configuration_that_the_connector_changes_is_used_masked_and_told_of(
    warehouse_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    renewed = "r3newed-token"
    config = {"token": renewed}
    control: Step = ["say", {"type": "CONTROL", "control": {"type": "CONNECTOR_CONFIG", "connectorConfig": {"config": config}}}]
    said: Step = ["say", {"type": "LOG", "log": {"level": "WARN", "message": f"using {renewed}"}}]
    plan: dict[str, list[Step]] = {
        "discover": [control, CATALOG],
        "read": [["tell", str(tmp_path / "told")], said, *good_read(*FIRST)],
    }

    with caplog.at_level(logging.DEBUG):
        outcome = sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan))

    told = json.loads((tmp_path / "told").read_text())
    assert json.loads(told["files"]["--config"][2]) == config
    assert "it has changed its own configuration" in outcome.notes[0]
    assert "using ***" in caplog.text
    assert renewed not in caplog.text


@pytest.mark.parametrize(
    ("steps", "answer"),
    [
        ([["say", {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "SUCCEEDED"}}]], None),
        (
            [["say", {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "FAILED", "message": f"{SECRET} is wrong"}}]],
            "*** is wrong",
        ),
        ([["say", {"type": "CONNECTION_STATUS", "connectionStatus": {"status": "FAILED"}}]], "it does not say why"),
    ],
    ids=["succeeded", "failed, though its status is 0", "failed without a reason"],
)
def test_check_says_whether_the_connector_reaches_what_it_reads(tmp_path: Path, steps: list[Step], answer: str | None) -> None:
    assert Airbyte(installed(tmp_path, {"check": steps})).check(never()) == answer


def test_specification_names_the_keys_that_are_secrets(tmp_path: Path) -> None:
    properties = {"token": {"type": "string", "airbyte_secret": True}, "account": {"type": "string"}}
    nested = {"oneOf": [{"properties": {"password": {"airbyte_secret": True}}}]}
    spec = {"type": "SPEC", "spec": {"connectionSpecification": {"properties": {**properties, "credentials": nested}}}}

    assert Airbyte(installed(tmp_path, {"spec": [["say", spec]]})).secret_keys(never()) == {"token", "password"}


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (StreamRead("things"), "has no stream 'things' for collection 'thing': it has thing; name one by `read: {stream: …}`"),
        (StreamRead("thing", key=()), None),
    ],
    ids=["a stream that is not there", "a key of its own"],
)
def test_stream_that_is_not_there_is_named_with_those_that_are(
    warehouse_url: str, tmp_path: Path, read: StreamRead, said: str | None
) -> None:
    if said is None:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *good_read(*FIRST), read=read))
        return
    with pytest.raises(SourceRefused) as refused:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *good_read(*FIRST), read=read))
    assert str(refused.value).endswith(said)


def catalog(**overrides: object) -> Step:
    stream = {
        "name": "thing",
        "json_schema": {},
        "supported_sync_modes": ["full_refresh", "incremental"],
        "source_defined_cursor": True,
        "default_cursor_field": ["updated"],
        "source_defined_primary_key": [["id"]],
    }
    return ["say", {"type": "CATALOG", "catalog": {"streams": [{**stream, **overrides}]}}]


def test_stream_without_a_key_is_refused_until_one_is_declared(warehouse_url: str, tmp_path: Path) -> None:
    plan: dict[str, list[Step]] = {"discover": [catalog(source_defined_primary_key=None)], "read": good_read(*FIRST)}

    with pytest.raises(SourceRefused) as refused:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan))
    sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan, read=StreamRead("thing", key=(("id",),))))

    assert (
        "says of no key what tells its records apart: declare it for collection 'thing', as in `read: {stream: thing, key: [id]}`"
        in str(refused.value)
    )
    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}


def test_stream_that_is_read_whole_is_never_given_its_state_where_a_version_is_declared(
    warehouse_url: str, tmp_path: Path
) -> None:
    """Then it is not listed at each run, and the state would come back."""
    read, done = StreamRead("thing", version=("updated",)), {"__ab_full_refresh_sync_complete": True}
    plan: dict[str, list[Step]] = {
        "discover": [catalog(supported_sync_modes=["full_refresh"])],
        "read": [["tell", str(tmp_path / "told")], *good_read(*FIRST, state=done)],
    }

    sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan, read=read))
    sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan, read=read, now=START + HOUR))

    assert "--state" not in json.loads((tmp_path / "told").read_text())["argv"]
    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}


def test_stream_that_is_read_whole_is_listed_at_each_run_and_never_given_its_state_back(
    warehouse_url: str, tmp_path: Path
) -> None:
    """Its state says that it has been read: given back, such a stream sends nothing, and everything would look deleted."""
    done = {"__ab_full_refresh_sync_complete": True}
    plan: dict[str, list[Step]] = {
        "discover": [catalog(supported_sync_modes=["full_refresh"])],
        "read": [["tell", str(tmp_path / "told")], *good_read(*FIRST, state=done)],
    }
    sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan))

    plan["read"] = [["tell", str(tmp_path / "told")], *good_read(*FIRST[1:], state=done)]
    second = sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan, now=START + HOUR))

    told = json.loads((tmp_path / "told").read_text())
    assert "--state" not in told["argv"]
    assert json.loads(told["files"]["--catalog"][2])["streams"][0]["sync_mode"] == "full_refresh"
    assert (second.counts.deleted, amounts(warehouse_url)) == (1, {"b": 1, "c": 1})


def test_namespace_tells_streams_of_one_name_apart(warehouse_url: str, tmp_path: Path) -> None:
    def stream(namespace: str) -> dict[str, object]:
        shape = {"json_schema": {}, "supported_sync_modes": ["full_refresh"], "source_defined_primary_key": [["id"]]}
        return {"name": "thing", "namespace": namespace, **shape}

    def record(namespace: str) -> dict[str, object]:
        data = {"stream": "thing", "namespace": namespace, "data": thing(namespace, 1), "emitted_at": 1}
        return {"type": "RECORD", "record": data}

    ended = {"stream_descriptor": {"name": "thing", "namespace": "eu"}, "status": "COMPLETE"}
    done = {"type": "TRACE", "trace": {"type": "STREAM_STATUS", "stream_status": ended}}
    plan: dict[str, list[Step]] = {
        "discover": [["say", {"type": "CATALOG", "catalog": {"streams": [stream("eu"), stream("us")]}}]],
        "read": [["say", record("eu")], ["say", record("us")], ["say", done]],
    }

    sync(warehouse_url, of=THING, source=open_child(tmp_path, plan=plan, read=StreamRead("eu.thing")))

    assert amounts(warehouse_url) == {"eu": 1}


def test_catalog_tells_the_fields_of_a_stream(tmp_path: Path) -> None:
    fields = open_child(tmp_path).describe("demo:thing")

    assert [(field.path, field.type) for field in fields] == [
        ("id", "string"),
        ("updated", "string or null (date-time)"),
        ("amount", "integer"),
    ]


def test_progress_is_stored_with_the_state_while_a_slow_connector_is_still_sending(warehouse_url: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        ["records", "thing", FIRST[0]],
        ["state", "thing", {"version": "one"}, 1],
        ["records", "thing", FIRST[1]],
        ["sleep", 0.3],
        ["kill", 9],
    ]

    with pytest.raises(SourceUnavailable):
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps, page_seconds=0.0))

    assert (amounts(warehouse_url), state(warehouse_url)) == ({"a": 1, "b": 1}, {"version": "one"})
