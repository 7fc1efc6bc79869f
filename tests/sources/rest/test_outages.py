"""Faults at the requests of a REST API that are none for a list: they are asked again, or end the run in words, and the next run has
everything. Those for lists meet every fault in tests/faults; what happens on the way here is the same client's."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from sequin_pipeline.errors import SourceError
from sequin_pipeline.reads import FieldList, Read
from tests.sources.rest.reading import CURSOR, LIST, Runs
from tests.support.rest_api import FIELDS, TOKEN, FakeRest, fake_rest
from tests.support.rest_api import LIST as LIST_PATH

FAULTS = (
    "status:429,retry-after=1",
    "cut:20",
    "html",
    "json-cut",
    "not-object",
    "other-object",
    "empty-body",
)

DETAILED = replace(
    LIST,
    paginator=CURSOR,
    params={"since": "{since}", "fields": "{fields}"},
    fields=FieldList("fields", ("name",), ("fields",)),
    detail="things/{id}",
)
PLACES: Mapping[str, tuple[str, Read]] = {
    "one object": (f"{LIST_PATH}/", DETAILED),
    "fields": (FIELDS, DETAILED),
    "access token": (TOKEN, replace(LIST, paginator=CURSOR)),
}


def credentials(fake: FakeRest) -> dict[str, Any]:
    url = f"{fake.url}{TOKEN}"
    return {"type": "oauth2_client_credentials", "access_token_url": url, "client_id": "id", "client_secret": "client-secret-9X"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_that_lasts_ends_the_run_and_one_that_passes_does_not(warehouse_url: str, fault: str, place: str) -> None:
    path, read = PLACES[place]
    with fake_rest() as fake:
        fake.fill(3)
        runs = Runs(fake, warehouse_url, read, auth=credentials(fake) if place == "access token" else None)
        fake.faults.replace([f"{fault},path={path}"])
        with pytest.raises(SourceError) as caught:
            runs.sync()
        fake.faults.replace([f"{fault},path={path},at=1"])
        runs.sync()

        detailed = {"detailed": True} if read.detail else {}
        assert runs.live() == {name: {**thing, **detailed} for name, thing in fake.things.items()}
        assert "client-secret-9X" not in str(caught.value)
        assert fake.url in str(caught.value)
