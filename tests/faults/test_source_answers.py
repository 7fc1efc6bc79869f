"""Answers that fail and then come: what was read before is kept, the same page is asked for again, and nothing is passed over."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from sequin_pipeline.errors import SourceBusy, SourceError, SourceFault, SourceUnavailable
from sequin_pipeline.sources import TimeWindow
from tests.faults.every_place import PLACES, OpenPlace
from tests.faults.faulty_api import IMPATIENT, cursor_after, faulty_api, things
from tests.faults.landing import THING, Landing, assert_says
from tests.faults.places import AskedPlace, deliver_rest
from tests.sources.reading import source
from tests.support.builders import EPOCH, live_run_config

RECORDS = things(1, 6)
"""Three pages."""

GAVE_UP = r"gave up after 3 requests in 2 seconds; the last one ended with "
RUN_AGAIN = r"\. Run again once the source has recovered"


@dataclass(frozen=True)
class Outage:
    """A fault as the sandbox takes it, how a run ends for which it lasts too long, and how long a run waits that meets it once: our
    own 0.5 seconds, or as long as it is told to. More answers than one may be lost where the first spoiled the connection, or where
    little time is given to each. Of an answer that is none its `beginning` is told, and what was found in the source's words."""

    fault: str
    said: str
    ends_as: type[SourceError] = SourceUnavailable
    told_to_wait_seconds: float = 0.0
    retries: tuple[int, ...] = (1,)
    read_timeout_seconds: float = 60.0
    beginning: str | None = None

    def says(self, place: AskedPlace) -> str:
        return self.said if self.beginning is None else GAVE_UP + place.malformed(self.said, self.beginning)


def status(code: int, phrase: str) -> Outage:
    return Outage(f"status:{code}", rf"{GAVE_UP}status {code} \({phrase}\), saying '{{\"summary\":\"{phrase}\"}}'{RUN_AGAIN}")


def limited(retry_after: str, *, seconds: float) -> Outage:
    said = rf"{TOO_MANY}\. The source asks us to come back at [0-9: -]{{19}} UTC, beyond the 2 seconds that are left .*"
    return Outage(f"status:429,{retry_after}", said, SourceBusy, told_to_wait_seconds=seconds)


def not_an_answer(fault: str, found: str, beginning: str) -> Outage:
    return Outage(fault, found, SourceFault, beginning=beginning)


def broken(fault: str, said: str) -> Outage:
    return Outage(fault, rf"{GAVE_UP}{said}{RUN_AGAIN}")


TOO_MANY = r"status 429 \(Too Many Requests\), saying '{\"summary\":\"Too Many Requests\"}'"

OUTAGES = {
    "status 500": status(500, "Internal Server Error"),
    "status 502": status(502, "Bad Gateway"),
    "status 503": status(503, "Service Unavailable"),
    "status 504": status(504, "Gateway Timeout"),
    "status 408": status(408, "Request Timeout"),
    "status 425": status(425, "Too Early"),
    "status 429 without Retry-After": status(429, "Too Many Requests"),
    "status 429, Retry-After in seconds": limited("retry-after=7", seconds=7),
    "status 429, Retry-After as a date": limited("retry-after-date=120", seconds=120),
    "status 429, Retry-After that is no time": Outage("status:429,retry-after=-5", rf"{GAVE_UP}{TOO_MANY}{RUN_AGAIN}"),
    "connection reset before the answer": broken("reset-before", r"ReadError: .*"),
    "connection reset in the body": broken("reset-in-body:50", r"(ReadError|RemoteProtocolError): .*"),
    "body cut": broken("cut:50", r"RemoteProtocolError: .*received 50 bytes.*"),
    "body slower than the timeout": replace(
        broken("slow:10000", r"ReadTimeout: .*"), read_timeout_seconds=0.25, retries=(1, 2, 3)
    ),
    "body shorter than its length": broken("wrong-length:10", r"RemoteProtocolError: .*"),
    "body longer than its length": Outage("wrong-length:-10", rf"{GAVE_UP}.*", SourceError, retries=(1, 2)),
    "gzip that is broken": broken("broken-gzip", r"DecodingError: .*"),
    "HTML with status 200": not_an_answer(
        "html", r"a body that is not JSON: .*; content type 'text/html; charset=utf-8'", r"'<!doctype html>.*'"
    ),
    "JSON cut": not_an_answer("json-cut", r"a body that is not JSON: ", r"'{\".*'"),
    "JSON that is not an object": not_an_answer(
        "not-object", r"JSON that is not a page: Expected `object`, got `array`", r"'\[{\".*'"
    ),
    "JSON of something else": not_an_answer("other-object", r"JSON that is not a page: ", r"'{\"status\":\"maintenance\"}'"),
    "empty body": not_an_answer("empty-body", r"a body that is not JSON: ", "''"),
}


@pytest.mark.parametrize("outage", [pytest.param(outage, id=name) for name, outage in OUTAGES.items()])
@pytest.mark.parametrize("at", [pytest.param(at, id=name) for name, at in PLACES.items()])
def test_outage_keeps_what_was_read_and_the_next_run_asks_again(
    warehouse_url: str, at: OpenPlace, outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    with at(warehouse_url) as place:
        place.set_faults(f"{outage.fault},from={place.fails_from}")
        with pytest.raises(outage.ends_as) as caught:
            place.sync(retry=IMPATIENT, read_timeout_seconds=outage.read_timeout_seconds)
        place.landing.deliver(*place.records[:2])
        place.check(2)
        place.set_faults(f"{outage.fault},at=2")
        caplog.clear()
        place.time.waits.clear()
        outcome = place.sync(read_timeout_seconds=outage.read_timeout_seconds)

        about = f"{place.purpose(2)} from {place.url}: "
        assert str(caught.value).startswith(about)
        assert_says(str(caught.value).removeprefix(about), outage.says(place))
        deliver_rest(place)
        place.check(6)
        assert outcome.retries in outage.retries
        assert outcome.requests == place.requests + outcome.retries
        # A date names whole seconds.
        assert outcome.rate_limit_seconds == pytest.approx(outage.told_to_wait_seconds, abs=2)
        assert sum(place.time.waits) == (outcome.rate_limit_seconds or (0.0, 0.5, 1.5, 3.5)[outcome.retries])
    told = [entry.getMessage() for entry in caplog.records if entry.name == "sequin_pipeline.sources"]
    assert len(told) == outcome.retries
    assert any(line.startswith(f"{place.purpose(place.second)}: attempt 1 failed with ") for line in told)


def test_outage_during_a_backfill_keeps_what_was_read_and_moves_no_cursor(landing: Landing) -> None:
    january = replace(
        live_run_config(THING),
        mode="backfill",
        window=TimeWindow(None, datetime(2024, 2, 1, tzinfo=UTC)),
        partition_keys=("2024-01",),
        window_starts=(EPOCH,),
    )

    with faulty_api(RECORDS) as api:
        api.set_faults("status:503,from=2")
        with pytest.raises(SourceUnavailable):
            landing.sync(source(api.url, retry=IMPATIENT), run_config=january)
        landing.deliver(*RECORDS[:2])
        landing.check(cursor=None)
        api.set_faults()
        landing.sync(source(api.url), run_config=january)

    landing.deliver(*RECORDS)
    landing.check(cursor=None)


def test_outage_keeps_what_was_read_in_every_lane(landing: Landing) -> None:
    with faulty_api(RECORDS) as api:
        api.set_faults("status:503,from=3")
        with pytest.raises(SourceUnavailable):
            landing.sync(source(api.url, retry=IMPATIENT), lanes=3)
        landing.deliver(*RECORDS[:4])
        landing.check(cursor=cursor_after(4))
        api.set_faults()
        landing.sync(source(api.url), lanes=2)

    landing.deliver(*RECORDS[4:])
    landing.check(cursor=cursor_after(6))
