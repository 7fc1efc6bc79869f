"""`shards` of a collection: which sources take them, and what is said to the others."""

from pathlib import Path

import pytest

from sequin_pipeline.errors import CatalogError
from sequin_pipeline.orchestration.catalog_files import load_collections
from tests.orchestration.files import write


def declared(source: str, more: str = "") -> str:
    return f"  provider: demo\n  source: {source}\n{more}  collections:\n    thing: {{shards: 4}}\n"


@pytest.mark.parametrize(
    ("attributes", "line", "said"),
    [
        pytest.param(
            declared("stripe").replace("demo", "stripe").replace("thing", "charge"),
            6,
            "source 'stripe' takes no 'shards', into which a first load is divided: it reads eight spans of time at once, as fast as an "
            "account may be asked; remove it",
            id="stripe",
        ),
        pytest.param(
            declared("sequin_consumer", "  queue: {consumer: c1}\n"),
            7,
            "source 'sequin_consumer' takes no 'shards', into which a first load is divided: a queue is drained by several steps with "
            "queue: {consumers: N}; remove it",
            id="queue",
        ),
        pytest.param(
            declared("rest").replace("demo", "github").replace("thing", "issue"),
            6,
            "source 'rest' takes no 'shards', into which a first load is divided: it cannot be asked for the records of one sync; remove "
            "it",
            id="rest",
        ),
    ],
)
def test_a_source_that_cannot_be_read_sync_by_sync_takes_no_shards(tmp_path: Path, attributes: str, line: int, said: str) -> None:
    with pytest.raises(CatalogError) as caught:
        load_collections(write(tmp_path, demo=attributes))

    assert str(caught.value) == f"{tmp_path}/demo/defs.yaml:{line}: {said}"


def test_the_records_api_takes_shards(tmp_path: Path) -> None:
    assert load_collections(write(tmp_path, demo=declared("sequin")))["demo/thing"].shards == 4
