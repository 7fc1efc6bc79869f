"""Whoever has no patience gets no answer rather than a late one, whatever a source would do by itself."""

import socket
import time
from collections.abc import Iterator

import pytest

from sequin_pipeline import threads
from sequin_pipeline.errors import SourceUnavailable
from sequin_pipeline.sources import ReadRequest
from sequin_pipeline.sources.patience import patience, seconds_left
from sequin_pipeline.sources.sequin import SequinSource
from tests.sources.rest.reading import Runs
from tests.support.rest_api import fake_rest


@pytest.fixture
def mute_url() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def read(source: object) -> None:
    list(source.pages(ReadRequest(frozenset({"demo:thing"}))))  # type: ignore[attr-defined]  # any source


def test_a_mute_server_is_waited_for_no_longer_than_told(mute_url: str) -> None:
    started = time.monotonic()

    with (
        patience(0.3),
        pytest.raises(SourceUnavailable, match="gave up after 1 requests in 0 seconds; the last one ended with ReadT"),
    ):
        read(SequinSource(mute_url, "token"))

    assert time.monotonic() - started < 2


def test_a_source_that_wants_to_be_asked_later_is_not_waited_for() -> None:
    with fake_rest(token="another") as fake:
        runs = Runs(fake)
        with (
            patience(0),
            pytest.raises(SourceUnavailable, match="nothing was sent, since the time in which an answer was wanted is over"),
        ):
            read(runs.source())

    assert fake.asked == []


def test_patience_within_patience_is_never_longer_and_goes_along_into_threads() -> None:
    with patience(1), patience(60):
        here, there = seconds_left(), threads.start(seconds_left, "test").result(timeout=10)

    assert 0 < there <= here <= 1
    assert seconds_left() == float("inf")
