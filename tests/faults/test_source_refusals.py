"""A source that will not or cannot answer: told at once or in bounded time, nothing changed beyond what was read, and the next run
goes on where this one stopped."""

import re
import ssl
from pathlib import Path

import pytest

from sequin_pipeline.errors import CursorRefused, SourceBusy, SourceError, SourceFault, SourceRefused, SourceUnavailable
from sequin_pipeline.sandbox.feeds import RecordedFeed, append_lines
from tests.faults.every_place import PLACES, SERVED, OpenPlace
from tests.faults.faulty_api import IMPATIENT, cursor_after, faulty_api, reserved_port, things
from tests.faults.landing import THING, Landing, assert_says, lines
from tests.faults.places import deliver_rest
from tests.sources.certificates import server_context, write_certificate
from tests.sources.reading import StandingTime, source
from tests.sources.scripted import Reply, page, scripted_server
from tests.support.builders import live_run_config, record

CURSOR_UNKNOWN = (
    r"status 4\d\d \(.*\), saying '.*': the source will not serve this request: check SEQUIN_API_URL and what is asked for\. "
    r"The cursor of an earlier run is most likely no longer known there: run again with --full-refresh to read the collection "
    r"from its earliest record; rows that are there stay"
)
TOO_FAR = (
    r"status 429 .*\. The source asks us to come back in more than a year, beyond the 600 seconds that are left for this request: "
    r"run again then"
)


@pytest.mark.parametrize(
    ("fault", "ends_as", "status"),
    [
        pytest.param("status:401", SourceRefused, 401, id="status 401 in the middle"),
        pytest.param("status:403", SourceRefused, 403, id="status 403 in the middle"),
        pytest.param("status:400", (CursorRefused, SourceRefused), 400, id="status 400 in the middle"),
        pytest.param("status:422", (CursorRefused, SourceRefused), 422, id="status 422 in the middle"),
        pytest.param("status:429,retry-after=99999999999", SourceBusy, None, id="status 429, Retry-After absurd"),
    ],
)
@pytest.mark.parametrize("at", [pytest.param(at, id=name) for name, at in PLACES.items()])
def test_refusal_is_told_at_once_and_the_next_run_goes_on(
    warehouse_url: str, at: OpenPlace, fault: str, ends_as: type[SourceError], status: int | None
) -> None:
    with at(warehouse_url) as place:
        begun = place.asked()
        place.set_faults(f"{fault},from={place.fails_from}")
        with pytest.raises(ends_as) as caught:
            place.sync()
        asked = place.asked() - begun
        place.landing.deliver(*place.records[:2])
        place.check(2)
        waits = list(place.time.waits)
        place.set_faults()
        place.sync()

        said = TOO_FAR if status is None else place.refused(status)
        assert_says(str(caught.value), rf"{re.escape(place.purpose(2))} from {place.url}: {said}")
        assert (asked, waits) == (place.fails_from + place.begins_anew_after(status), [])
        deliver_rest(place)
        place.check(6)


@pytest.mark.parametrize(
    "at", [pytest.param(at, id=f"status 404 for a {name}") for name, at in PLACES.items() if name != "object of Stripe"]
)
def test_what_the_source_does_not_know_is_told_at_once_and_the_next_run_goes_on(warehouse_url: str, at: OpenPlace) -> None:
    """Of an object of Stripe it says that there is none any more."""
    with at(warehouse_url) as place:
        place.set_faults(f"status:404,from={place.fails_from}")
        with pytest.raises((CursorRefused, SourceRefused)) as caught:
            place.sync()
        place.landing.deliver(*place.records[:2])
        place.check(2)
        waits = list(place.time.waits)
        place.set_faults()
        place.sync()

        assert_says(str(caught.value), rf"{re.escape(place.purpose(2))} from {place.url}: {place.refused(404)}")
        assert waits == []
        deliver_rest(place)
        place.check(6)


def test_cursor_that_the_source_has_lost_changes_nothing_until_a_full_refresh_is_asked_for(landing: Landing) -> None:
    before, since = things(1, 4), things(1, 2)

    with reserved_port() as port:
        with faulty_api(before, port=port) as api:
            landing.sync(source(api.url))
        landing.deliver(*before)
        with faulty_api(since, port=port) as api:
            with pytest.raises(CursorRefused) as caught:
                landing.sync(source(api.url))
            landing.check(cursor=cursor_after(4))
            landing.sync(source(api.url), run_config=live_run_config(THING, full_refresh=True))

    assert_says(str(caught.value), rf"reading demo:thing after cursor '{cursor_after(4)}' from {api.url}: {CURSOR_UNKNOWN}")
    landing.deliver(*since)
    landing.check(cursor=cursor_after(2))


def test_source_that_is_gone_changes_nothing_until_it_is_back(landing: Landing) -> None:
    before, since = things(1, 2), things(3, 4)
    feed = RecordedFeed(lines(*before))

    with reserved_port() as port:
        with faulty_api(feed, port=port) as api:
            landing.sync(source(api.url))
        append_lines(feed.stream, lines(*since))
        with pytest.raises(SourceUnavailable) as caught:
            landing.sync(source(api.url, retry=IMPATIENT))
        landing.deliver(*before)
        landing.check(cursor=cursor_after(2))
        with faulty_api(feed, port=port) as api:
            landing.sync(source(api.url))

    assert_says(
        str(caught.value),
        rf"reading demo:thing after cursor '{cursor_after(2)}' from {api.url}: gave up after 3 requests in 2 seconds; the last one "
        r"ended with ConnectError: '.*Connection refused'\. Run again once the source has recovered",
    )
    landing.deliver(*since)
    landing.check(cursor=cursor_after(4))


@pytest.mark.parametrize("at", [pytest.param(one.values[0], id=f"connection refused, {one.id}") for one in SERVED])
def test_server_that_is_gone_is_told_in_bounded_time_and_changes_nothing(warehouse_url: str, at: OpenPlace) -> None:
    with at(warehouse_url) as place:
        place.set_faults(f"status:401,from={place.fails_from}")
        with pytest.raises(SourceRefused):
            place.sync()
    place.landing.deliver(*place.records[:2])
    place.check(2)

    with pytest.raises(SourceUnavailable) as caught:
        place.sync(retry=IMPATIENT)

    assert_says(
        str(caught.value),
        rf"{re.escape(place.purpose(2))} from {place.url}: gave up after 3 requests in 2 seconds; the last one ended with "
        r"ConnectError: '.*Connection refused'\. Run again once the source has recovered",
    )
    place.check(2)


def test_certificate_that_cannot_be_verified_gets_no_request(landing: Landing, tmp_path: Path) -> None:
    records, time = things(1, 4), StandingTime()
    certificate = write_certificate(tmp_path / "loopback.pem")
    trusting = ssl.create_default_context(cafile=certificate)
    script = [page(*records[:2], cursor="1"), page(), page(*records[2:], cursor="2"), page()]

    with scripted_server(*script, tls=server_context(certificate)) as server:
        landing.sync(source(server.url, ssl_context=trusting))
        with pytest.raises(SourceRefused) as caught:
            landing.sync(source(server.url, time=time))
        landing.deliver(*records[:2])
        landing.check(cursor="1")
        asked = len(server.asked)
        landing.sync(source(server.url, ssl_context=trusting))

    assert_says(
        str(caught.value),
        rf"reading demo:thing after cursor '1' from {server.url}: the certificate of the host could not be verified \(.*\): "
        r"check the address, or name the authority that signed it in SSL_CERT_FILE",
    )
    assert (asked, time.waits) == (2, [])
    landing.deliver(*records[2:])
    landing.check(cursor="2")


def test_tls_that_is_not_agreed_on_is_tried_again_until_time_is_up(landing: Landing, tmp_path: Path) -> None:
    records = things(1, 2)
    certificate = write_certificate(tmp_path / "loopback.pem")
    modern, outdated = server_context(certificate), ssl.create_default_context(cafile=certificate)
    modern.minimum_version = ssl.TLSVersion.TLSv1_3
    outdated.maximum_version = ssl.TLSVersion.TLSv1_2

    with scripted_server(page(*records, cursor="1"), page(), tls=modern) as server:
        with pytest.raises(SourceUnavailable) as caught:
            landing.sync(source(server.url, retry=IMPATIENT, ssl_context=outdated))
        landing.check(cursor=None)
        landing.sync(source(server.url, ssl_context=ssl.create_default_context(cafile=certificate)))

    assert_says(
        str(caught.value),
        rf"reading demo:thing from the start from {server.url}: gave up after 3 requests in 2 seconds; the last one ended with "
        r"(ConnectError|ReadError): '.*'\. Run again once the source has recovered",
    )
    landing.deliver(*records)
    landing.check(cursor="1")


def test_redirect_to_another_host_is_not_followed(landing: Landing) -> None:
    records, time = things(1, 4), StandingTime()

    with scripted_server(page(*records)) as elsewhere:
        redirect = Reply(307, headers={"Location": f"{elsewhere.url}/v1/records?key=hunter2"})
        script = [page(*records[:2], cursor="1"), redirect, page(*records[2:], cursor="2"), page()]
        with scripted_server(*script) as server:
            with pytest.raises(SourceRefused) as caught:
                landing.sync(source(server.url, time=time))
            landing.deliver(*records[:2])
            landing.check(cursor="1")
            landing.sync(source(server.url))

    assert_says(
        str(caught.value),
        rf"reading demo:thing after cursor '1' from {server.url}: status 307 \(Temporary Redirect\): a redirect to "
        r"'http://127\.0\.0\.1', which is not followed, so that the token reaches no other host: set SEQUIN_API_URL to the address "
        r"that answers without redirecting",
    )
    assert (elsewhere.asked, time.waits) == ([], [])
    landing.deliver(*records[2:])
    landing.check(cursor="2")


def test_answer_that_is_too_large_is_given_up_while_it_arrives(landing: Landing) -> None:
    records, time = things(1, 4), StandingTime()
    records[2] = record("r3", 3, data={"status": "large", "amount": 3, "blob": "x" * 3_000_000})

    with faulty_api(records) as api:
        with pytest.raises(SourceFault) as caught:
            landing.sync(source(api.url, time=time, max_bytes=1_000_000))
        landing.deliver(*records[:2])
        landing.check(cursor=cursor_after(2))
        landing.sync(source(api.url))

    assert_says(
        str(caught.value),
        rf"reading demo:thing after cursor '{cursor_after(2)}' from {api.url}: the answer is larger than 1,000,000 bytes, the most "
        r"that is taken into memory at once: ask for fewer records a page",
    )
    assert time.waits == []
    landing.deliver(*records[2:])
    landing.check(cursor=cursor_after(4))
