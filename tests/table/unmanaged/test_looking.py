"""What is told of unmanaged tables without writing to them: `plan` and `explain`."""

import psycopg
import pytest

from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.explain import explain_record
from sequin_pipeline.postgres.warehouse import Warehouse
from tests.support.builders import ListSource, record
from tests.table.unmanaged.tables import MAPPING, SUBSCRIPTION, deliver, unmanaged


def table(url: str, definition: str = SUBSCRIPTION) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("create schema app")
        connection.execute(definition.encode())


def rows(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("""select xmin::text, t::text from app."Subscription" t order by 2""").fetchall()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_plan_counts_what_the_run_will_and_leaves_the_table_alone(warehouse_url: str, *, is_first: bool) -> None:
    of = unmanaged(MAPPING)
    table(warehouse_url)
    if not is_first:
        deliver(warehouse_url, of, [record("a", 1), record("b", 1)])
    before = rows(warehouse_url)
    page = [record("a", 5), record("b", 2, deleted=True), record("c", 1, data={"status": None, "amount": 1})]

    found = dry_run(ListSource([[], page]), Warehouse(warehouse_url), of)

    assert (found.changes, found.differences, found.swept) == ((), (), 0)
    assert rows(warehouse_url) == before
    ran = deliver(warehouse_url, of, [], page)
    assert found.counts == ran.counts
    assert found.counts.rejected == 1


def test_a_row_is_found_by_the_column_that_takes_its_id(warehouse_url: str) -> None:
    of = unmanaged({**MAPPING, "record_inserted_at": "seenAt"})
    table(warehouse_url, SUBSCRIPTION.replace('"amountCents"', '"seenAt" timestamp, "amountCents"'))
    deliver(warehouse_url, of, [record("a", 3), record("b", 4)])

    with Warehouse(warehouse_url).connect() as connection:
        found = explain_record(connection, of, Ledger(str(of.table), of.label), "a")

    assert found.row is not None
    assert (found.row.version, found.row.is_deleted, found.row.values["recordId"]) == (3, False, "a")
    assert found.row.stream_time is not None
    assert found.row.stream_time.isoformat() == "2024-01-01T00:03:00+00:00"
    assert found.last_write is None


def test_a_table_that_keeps_no_version_or_no_id_says_so(warehouse_url: str) -> None:
    mapping = {ours: name for ours, name in MAPPING.items() if ours not in ("id", "updated_idx")}
    of = unmanaged(mapping, key=("upstream_id",))
    table(
        warehouse_url,
        SUBSCRIPTION.replace('"recordId" text primary key,', "")
        .replace('"updatedIdx" bigint not null,', "")
        .replace('"upstreamId" text not null', '"upstreamId" text primary key'),
    )
    ran = deliver(warehouse_url, of, [record("a", 3)])

    with Warehouse(warehouse_url).connect() as connection:
        found = explain_record(connection, of, Ledger(str(of.table), of.label), "a")

    assert ran.counts == Counts(fetched=1, inserted=1, created=1)
    assert (found.row, found.tells_id) == (None, False)
