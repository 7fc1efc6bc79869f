"""The joins of docs/collections.md, over two syncs whose objects have the same ids."""

import re
from datetime import UTC, datetime

import pandas as pd
import pytest

from sequin_pipeline.catalog import Collection, Column, TableName, Windows, parse_path
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.frame_run import read_frame
from tests.support.builders import ListSource, live_run_config, record
from tests.support.checkout import CHECKOUT
from tests.support.reading import query

DOCS = CHECKOUT / "docs" / "collections.md"


def block(language: str) -> str:
    """The code of the section on joins."""
    section = DOCS.read_text(encoding="utf-8").partition("## Joining collections")[2]
    found = re.search(rf"```{language}\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1]


def of(name: str, *columns: Column) -> Collection:
    windows = Windows("month", datetime(2024, 1, 1, tzinfo=UTC))
    return Collection("stripe", name, TableName("stripe", name), windows, columns, indexes=(("sync_id", "upstream_id"),))


CUSTOMER = of("customer", Column("email", parse_path("email"), "text"))
SUBSCRIPTION = of(
    "subscription",
    Column("status", parse_path("status"), "text"),
    Column("stripe_customer_id", parse_path("customer"), "text"),
)


def put(url: str, collection: Collection, objects: dict[tuple[str, str], dict[str, object]]) -> None:
    records = [
        record(
            f"{account}-{upstream_id}", 1, collection_id=collection.id, sync={"id": account}, upstream_id=upstream_id, data=data
        )
        for (account, upstream_id), data in objects.items()
    ]
    run_sync(RecordStream(live_run_config(collection), ListSource([records])), Warehouse(url), run_id=collection.name)


@pytest.fixture
def url(warehouse_url: str) -> str:
    put(warehouse_url, CUSTOMER, {("one", "cus_1"): {"email": "at@one"}, ("two", "cus_1"): {"email": "at@two"}})
    subscriptions: dict[tuple[str, str], dict[str, object]] = {
        ("one", "sub_1"): {"status": "active", "customer": "cus_1"},
        ("two", "sub_1"): {"status": "past_due", "customer": "cus_1"},
    }
    put(warehouse_url, SUBSCRIPTION, subscriptions)
    return warehouse_url


JOINED = [("sub_1", "active", "at@one"), ("sub_1", "past_due", "at@two")]


def test_the_join_by_sync_and_upstream_id_finds_each_syncs_own(url: str) -> None:
    statement = block("sql")

    joined, by_upstream_id_alone = query(url, statement), query(url, statement.replace("c.sync_id = s.sync_id and ", ""))

    assert joined == JOINED
    assert len(by_upstream_id_alone) == 4


def test_the_merge_of_two_frames_finds_each_syncs_own(url: str) -> None:
    frames = {each.name: read_frame(Warehouse(url), each.table) for each in (CUSTOMER, SUBSCRIPTION)}

    merged: pd.DataFrame = eval(block("python").strip(), {}, frames)

    found = merged.sort_values("sync_id")[["upstream_id", "status", "email"]]
    assert list(found.itertuples(index=False, name=None)) == JOINED
