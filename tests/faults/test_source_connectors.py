"""A connector that fails in the middle, in any way: what it had sent is kept, no state behind it is, and the next run has everything."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from sequin_pipeline.errors import SourceError, SourceFault, SourceRefused, SourceUnavailable
from tests.faults.keyed_places import of_connector
from tests.faults.landing import assert_says
from tests.faults.places import deliver, deliver_rest
from tests.sources.connectors.child import SECRET, Step

AHEAD: Step = ("state", "thing", {"version": "9"}, 0)
"""Behind everything: a run that believed it would read nothing more."""

INCOMPLETE: Step = ("status", "thing", "INCOMPLETE")
READING = r"reading stream 'thing': the connector '\S+' "


@dataclass(frozen=True)
class Failure:
    """What the connector does behind its second object, and how the run ends."""

    steps: Sequence[Step]
    ends_as: type[SourceError]
    said: str


def error(kind: str, ends_as: type[SourceError], said: str) -> Failure:
    steps = (("error", kind, f"{SECRET} is wrong"), AHEAD, INCOMPLETE, ("exit_with", 1))
    return Failure(steps, ends_as, rf"{READING}{said}")


FAILURES = {
    "error that passes": error(
        "transient_error", SourceUnavailable, r"gave up for a reason that passes \(ended with status 1\): \*\*\* is wrong"
    ),
    "configuration refused": error(
        "config_error",
        SourceRefused,
        r"refuses its configuration \(ended with status 1\): \*\*\* is wrong: fix `connector\.config` in the defs\.yaml, or the account's "
        r"rights",
    ),
    "error of its own": error("system_error", SourceFault, r"failed \(ended with status 1\): \*\*\* is wrong"),
    "killed": Failure(
        (AHEAD, ("kill", 9)),
        SourceUnavailable,
        rf"{READING}ended by signal 9: the system ends what takes too much memory in this way, and said nothing of an error",
    ),
    "status without an error": Failure(
        (AHEAD, ("stderr", f"ValueError: {SECRET}"), ("exit_with", 1)),
        SourceFault,
        rf"{READING}ended with status 1, and said nothing of an error; the last that it said: ValueError: \*\*\*",
    ),
    "INCOMPLETE": Failure(
        (AHEAD, INCOMPLETE, ("exit_with", 0)),
        SourceFault,
        rf"{READING}ended with status 0, but said that the stream is INCOMPLETE: what it sent last is not relied on",
    ),
    "end without a word": Failure(
        (AHEAD, ("exit_with", 0)),
        SourceFault,
        rf"{READING}ended with status 0, but never said that the stream is COMPLETE: what it sent last is not relied on",
    ),
    "line cut": Failure(
        (AHEAD, ("raw", '{"type": "RECORD", "record": {"stream": "thing", "da'), ("exit_with", 0)),
        SourceFault,
        r"the connector '\S+' wrote a line that holds a RECORD message, but is none: it is cut, or something else writes to its standard "
        r"output; 52 bytes",
    ),
    "count that is not what came": Failure(
        (("state", "thing", {"version": "9"}, 99), ("exit_with", 0)),
        SourceFault,
        r"the connector '\S+' says that it sent 99 records of stream 'thing' since its last state, and 0 came: a part was lost on the way, "
        r"and nothing behind the last good state is relied on",
    ),
}


@pytest.mark.parametrize("failure", [pytest.param(failure, id=f"connector, {name}") for name, failure in FAILURES.items()])
def test_connector_that_fails_keeps_what_it_sent_and_the_next_run_has_everything(warehouse_url: str, failure: Failure) -> None:
    with of_connector(warehouse_url) as place:
        place.fault = tuple(failure.steps)
        with pytest.raises(failure.ends_as) as caught:
            place.sync()
        deliver(place, *place.records[:2])
        place.check(2)
        place.fault = ()
        outcome = place.sync()

        assert_says(str(caught.value), failure.said)
        deliver_rest(place)
        place.check(6)
    assert (outcome.counts.fetched, outcome.counts.inserted, outcome.counts.unchanged, outcome.counts.rejected) == (6, 3, 2, 1)
