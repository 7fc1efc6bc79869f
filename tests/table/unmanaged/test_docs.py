"""The declaration that docs/your-tables.md shows, loaded and run."""

import re
from pathlib import Path

from sequin_pipeline.orchestration.catalog_files import load_collections
from tests.support.builders import record
from tests.support.checkout import CHECKOUT
from tests.support.reading import execute, query
from tests.table.unmanaged.tables import deliver

DOCS = CHECKOUT / "docs" / "your-tables.md"


def test_the_declaration_of_the_docs_writes_the_table_it_names(app_url: str, tmp_path: Path) -> None:
    found = re.search(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "stripe").mkdir()
    (tmp_path / "stripe" / "defs.yaml").write_text(found[1])
    (collection,) = load_collections({"SEQUIN_COLLECTIONS": str(tmp_path)}).values()
    execute(
        app_url,
        'create table public."Subscription" (id text primary key, "upstreamId" text not null, "syncId" text not null,'
        ' "updatedIdx" bigint not null, "isDeleted" boolean not null, status text,'
        ' "endsAt" timestamp(3), "updatedAt" timestamp(3) not null)',
    )

    deliver(
        app_url,
        collection,
        [record("a", 1, collection_id="stripe:subscription", data={"status": "active", "current_period_end": 1_767_225_600})],
    )

    rows = query(
        app_url, 'select id, "upstreamId", "syncId", "updatedIdx", "isDeleted", status, "endsAt"::text from public."Subscription"'
    )
    assert rows == [("a", "up_a", "s1", 1, False, "active", "2026-01-01 00:00:00")]
