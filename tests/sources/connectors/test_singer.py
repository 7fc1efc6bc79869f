"""A Singer tap as a source: what lands, what is remembered, what is refused, and the one more try of a tap that fails."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from sequin_pipeline.errors import SourceFault, SourceRefused
from sequin_pipeline.reads import StreamRead
from tests.sources.connectors.child import SECRET, START, THING, Step, open_child, thing
from tests.support.reading import query, rows
from tests.support.syncing import sync

pytestmark = pytest.mark.processes

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

FIRST = [thing("a", 1), thing("b", 2), thing("c", 3)]


def amounts(url: str) -> dict[str, int]:
    return dict(rows(url, "upstream_id", "amount", table="demo.thing where not deleted"))


def state(url: str) -> object:
    [(cursor,)] = query(url, "select cursor from sequin_pipeline.cursors")
    return json.loads(cursor).get("state")


def changes(folder: Path, *objects: dict[str, object]) -> Step:
    (folder / "things.json").write_text(json.dumps({str(one["id"]): one for one in objects}))
    return ["changes", "thing", str(folder / "things.json")]


def test_tap_is_read_from_its_state_on_and_listed_once_a_day(warehouse_url: str, tmp_path: Path) -> None:
    first = sync(warehouse_url, of=THING, source=open_child(tmp_path, changes(tmp_path, *FIRST), kind="singer"))
    changed = changes(tmp_path, thing("a", 9, 7), FIRST[1])
    second = sync(warehouse_url, of=THING, source=open_child(tmp_path, changed, kind="singer", now=START + HOUR))
    reached = state(warehouse_url)
    listing = sync(warehouse_url, of=THING, source=open_child(tmp_path, changed, kind="singer", now=START + DAY))

    assert (first.counts.inserted, second.counts.updated, second.counts.unchanged, second.counts.deleted) == (3, 1, 0, 0)
    assert reached == {"version": "2026-01-01T00:00:09Z"}
    assert (listing.counts.deleted, amounts(warehouse_url)) == (1, {"a": 7, "b": 1})


@pytest.mark.parametrize(
    ("read", "method"),
    [
        (StreamRead("thing"), {"replication-method": "INCREMENTAL", "replication-key": "updated"}),
        (StreamRead("thing", version=("created",)), {"replication-method": "INCREMENTAL", "replication-key": "created"}),
    ],
    ids=["by the tap's only valid replication key", "by the declared one"],
)
def test_tap_is_told_the_stream_and_how_it_is_read(
    warehouse_url: str, tmp_path: Path, read: StreamRead, method: dict[str, str]
) -> None:
    steps: list[Step] = [["tell", str(tmp_path / "told")], ["records", "thing", *FIRST]]

    sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps, kind="singer", read=read))

    told = json.loads((tmp_path / "told").read_text())
    [stream] = json.loads(told["files"]["--catalog"][2])["streams"]
    of_stream, of_key = stream["metadata"]
    assert of_stream["metadata"] == {
        "table-key-properties": ["id"],
        "valid-replication-keys": ["updated"],
        "inclusion": "available",
        "selected": True,
        **method,
    }
    assert of_key == {"breadcrumb": ["properties", "id"], "metadata": {"inclusion": "automatic", "selected": True}}


def test_tap_that_fails_once_is_started_again_from_the_state_that_held(warehouse_url: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        ["tell", str(tmp_path / "told")],
        ["records", "thing", FIRST[0]],
        ["state", "thing", {"version": "one"}],
        ["records", "thing", FIRST[1]],
        ["state", "thing", {"version": "two"}],
        ["once", str(tmp_path / "failed"), "kill", 9],
        ["records", "thing", FIRST[2]],
    ]

    outcome = sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps, kind="singer"))

    told = json.loads((tmp_path / "told").read_text())
    assert json.loads(told["files"]["--state"][2]) == {"version": "one"}
    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}
    assert "it was started once more, since it ended by signal 9" in outcome.notes[0]


def test_tap_that_fails_twice_ends_the_run_with_its_last_words_and_no_secret(warehouse_url: str, tmp_path: Path) -> None:
    steps: list[Step] = [
        ["records", "thing", FIRST[0]],
        ["state", "thing", {"version": "not safe"}],
        ["stderr", f"KeyError: 'type' with {SECRET}"],
        ["exit_with", 1],
    ]

    with pytest.raises(SourceFault) as fault:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, *steps, kind="singer"))

    assert str(fault.value).startswith("reading stream 'thing': the tap 'python")
    assert str(fault.value).endswith("ended with status 1; the last that it said: KeyError: 'type' with ***, twice")
    assert (amounts(warehouse_url), state(warehouse_url)) == ({"a": 1}, None)


def test_activate_version_deletes_nothing_and_is_told_of(warehouse_url: str, tmp_path: Path) -> None:
    """Elsewhere it has emptied tables: a tap that sends it before a read that comes to nothing asks for all of them to go."""
    sync(warehouse_url, of=THING, source=open_child(tmp_path, ["records", "thing", *FIRST], kind="singer"))

    wiped: Step = ["say", {"type": "ACTIVATE_VERSION", "stream": "thing", "version": 2}]
    outcome = sync(warehouse_url, of=THING, source=open_child(tmp_path, wiped, wiped, kind="singer"))

    assert amounts(warehouse_url) == {"a": 1, "b": 1, "c": 1}
    [note] = outcome.notes
    assert note.startswith(
        "it sent ACTIVATE_VERSION, which asks for everything that was not sent to be deleted, and which is not followed"
    )


def test_batch_is_refused_in_words(warehouse_url: str, tmp_path: Path) -> None:
    batch: Step = ["say", {"type": "BATCH", "stream": "thing", "encoding": {}, "manifest": ["file:///spool/x.gz"]}]

    with pytest.raises(
        SourceRefused, match=r"sends BATCH messages, which name files in place of records: switch `batch_config` off"
    ):
        sync(warehouse_url, of=THING, source=open_child(tmp_path, batch, kind="singer"))


@pytest.mark.parametrize(
    "raw",
    [
        '{"type": "RECORD", "stream": "thing", "record": {"id": "x", "amo\n',
        '{"type": "RECORD", "stream": "thing"}\n',
        'log {"type": "RECORD"}\n',
    ],
    ids=["cut", "without record", "behind other words"],
)
def test_line_that_may_be_a_record_and_cannot_be_read_ends_the_run(warehouse_url: str, tmp_path: Path, raw: str) -> None:
    with pytest.raises(SourceFault, match="RECORD message"):
        sync(warehouse_url, of=THING, source=open_child(tmp_path, ["raw", raw], kind="singer"))


def test_record_that_is_no_json_becomes_a_reject_and_noise_stops_nobody(warehouse_url: str, tmp_path: Path) -> None:
    odd: list[Step] = [["raw", "Starting…\n"], ["records", "thing", {**thing("odd", 1), "amount": float("nan")}, *FIRST]]

    outcome = sync(warehouse_url, of=THING, source=open_child(tmp_path, *odd, kind="singer"))

    assert (outcome.counts.rejected, amounts(warehouse_url)) == (1, {"a": 1, "b": 1, "c": 1})
    assert outcome.notes[0].endswith(" wrote a line that is no message: 'Starting…'")


@pytest.mark.parametrize(
    ("discover", "said"),
    [
        ([["stderr", "no such account"], ["exit_with", 2]], "ended with status 2; the last that it said: no such account"),
        ([["raw", "nothing here"]], "wrote no catalog that can be read"),
        ([["raw", '{"streams": 1}']], "wrote no catalog that can be read"),
    ],
    ids=["a status", "no JSON", "another shape"],
)
def test_discovery_that_fails_says_why(warehouse_url: str, tmp_path: Path, discover: list[Step], said: str) -> None:
    with pytest.raises(SourceFault) as fault:
        sync(warehouse_url, of=THING, source=open_child(tmp_path, kind="singer", plan={"discover": discover}))

    assert str(fault.value).startswith("asking for the streams: the tap ")
    assert said in str(fault.value)
