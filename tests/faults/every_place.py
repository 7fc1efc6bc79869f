"""All places at which sources can fail, by the words of docs/reliability.md."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import pytest

from tests.faults.keyed_places import of_connector, of_rest
from tests.faults.places import AskedPlace, of_events, of_listing, of_objects, of_pages, of_queue

OpenPlace = Callable[[str], AbstractContextManager[AskedPlace]]
"""Of the URL of an empty database."""

PLACES: Mapping[str, OpenPlace] = {
    "page of the records API": of_pages,
    "delivery of a consumer": lambda url: of_queue(url, "consumer"),
    "delivery of a Sequin Stream": lambda url: of_queue(url, "stream"),
    "page of a list of Stripe": of_listing,
    "page of events of Stripe": of_events,
    "object of Stripe": of_objects,
    "page of a list of a REST API": of_rest,
}

SERVED = [
    pytest.param(PLACES["delivery of a consumer"], id="consumer"),
    pytest.param(PLACES["delivery of a Sequin Stream"], id="Sequin Stream"),
    pytest.param(PLACES["page of a list of Stripe"], id="lists of Stripe"),
    pytest.param(PLACES["page of a list of a REST API"], id="lists of a REST API"),
]
"""Those that are asked over HTTP, but for the records API and what is Stripe's beside its lists."""

OTHERS = [*SERVED, pytest.param(of_connector, id="Airbyte connector")]
"""Those whose batches other tests do not have: a queue's, which are acknowledged, a list's, which remember what was seen, and those of
which a part comes again."""

EACH = [
    pytest.param(PLACES["page of the records API"], id="records API"),
    *OTHERS,
    pytest.param(PLACES["page of events of Stripe"], id="events of Stripe"),
]
"""Each way in which records are read, for tests of what becomes of them."""
