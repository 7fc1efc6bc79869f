"""Acknowledgements that a queue does not take, or whose answer is lost: what is stored stays, what comes again is known."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sequin_pipeline.errors import SourceBusy, SourceError, SourceRefused, SourceUnavailable
from tests.faults.faulty_api import IMPATIENT
from tests.faults.places import OfQueue, of_queue

QUEUES = [pytest.param("consumer", id="consumer"), pytest.param("stream", id="Sequin Stream")]


@pytest.fixture
def queue(warehouse_url: str, request: pytest.FixtureRequest) -> Iterator[OfQueue]:
    """Whose acknowledgements can fail."""
    with of_queue(warehouse_url, request.param) as place:
        yield replace(place, verb="/ack")


@pytest.mark.parametrize("queue", QUEUES, indirect=True)
@pytest.mark.parametrize(
    ("fault", "ends_as", "counts"),
    [
        pytest.param("status:503", SourceUnavailable, False, id="status 503"),
        pytest.param("status:429,retry-after=7", SourceBusy, False, id="status 429, Retry-After in seconds"),
        pytest.param("status:401", SourceRefused, False, id="status 401"),
        pytest.param("status:404", SourceRefused, False, id="status 404"),
        pytest.param("status:422", SourceRefused, False, id="status 422"),
        pytest.param("reset-before", SourceUnavailable, True, id="connection reset before the answer"),
    ],
)
def test_acknowledgement_that_fails_keeps_what_is_stored_and_what_comes_again_is_known(
    queue: OfQueue, fault: str, ends_as: type[SourceError], *, counts: bool
) -> None:
    """Two deliveries are stored; that of the second one `counts` where only its answer is lost."""
    landing, records = queue.landing, queue.records
    queue.set_faults(f"{fault},from=2")

    with pytest.raises(ends_as):
        queue.sync(retry=IMPATIENT)
    landing.deliver(*records[:2], records[3], rejected=[records[2]])
    landing.check(cursor=None)
    queue.set_faults()
    queue.taken = 4 if counts else 2
    outcome = queue.sync()

    again = [] if counts else [records[3]]
    landing.deliver(*again, *records[4:], rejected=[] if counts else [records[2]])
    landing.check(cursor=None)
    assert (outcome.counts.inserted, outcome.counts.unchanged, outcome.counts.rejected) == (2, len(again), len(again))
    assert queue.watch.too_early == []
    assert set(queue.watch.acknowledged) == {(one["upstream_id"], one["updated_idx"]) for one in records}
