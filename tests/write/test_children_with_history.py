"""Child tables and a history table of one collection: both hold what they promise, in one transaction."""

from dataclasses import replace

from sequin_pipeline.catalog import HistoryTable, TableName
from tests.support.builders import collection, record
from tests.support.children import with_children
from tests.support.reading import query
from tests.support.syncing import sync


def test_every_version_is_kept_and_the_newest_has_its_children(warehouse_url: str) -> None:
    of = replace(with_children(collection(columns=())), history_table=HistoryTable(TableName("demo", "thing_history")))

    def invoice(version: int, *ids: str) -> dict[str, object]:
        return record("r", version, data={"lines": {"data": [{"id": one} for one in ids]}})

    sync(warehouse_url, [invoice(3, "a", "b"), invoice(2, "late")], of=of)
    sync(warehouse_url, [], [invoice(1, "earlier"), invoice(4, "b")], of=of)
    sync(warehouse_url, [], [], [record("r", 5, deleted=True, data=None)], of=of)

    assert query(warehouse_url, "select id, deleted from demo.thing_line") == [("b", True)]
    assert query(warehouse_url, "select updated_idx from demo.thing_history order by 1") == [(1,), (2,), (3,), (4,), (5,)]
