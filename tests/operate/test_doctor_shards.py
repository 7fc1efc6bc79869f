"""What the doctor says of first loads that are to be divided."""

import json
from dataclasses import replace

import pytest

from sequin_pipeline.operate.doctor.finding import Finding
from sequin_pipeline.operate.doctor.source import divided_loads
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sources.sequin import SequinSource
from tests.support.builders import collection, record


@pytest.mark.parametrize(
    ("syncs", "finding"),
    [
        pytest.param(
            3,
            Finding("shards", "ok", "a first load of demo/thing is divided into 2, by the 3 syncs that the API lists"),
            id="more syncs than shards",
        ),
        pytest.param(
            1,
            Finding(
                "shards",
                "warning",
                "a first load of demo/thing is read as one stream, and not as 2: the API lists 1 sync of it",
                "remove `shards`",
            ),
            id="one sync",
        ),
        pytest.param(
            0,
            Finding(
                "shards",
                "warning",
                "a first load of demo/thing is read as one stream, and not as 2: the API lists 0 syncs of it",
                "remove `shards`",
            ),
            id="no sync",
        ),
    ],
)
def test_a_first_load_is_divided_where_there_are_syncs_to_divide_it_by(syncs: int, finding: Finding) -> None:
    lines = [json.dumps(record(f"r{number}", sync={"id": f"s{number}"})).encode() for number in range(syncs)]

    with running_sandbox(RecordedFeed(lines)) as url:
        found = list(divided_loads(SequinSource(url), [replace(collection(), shards=2), collection(name="plain")]))

    assert found == [finding]
