"""dlt, fed with Arrow tables and loading parquet by ADBC, with the merge disposition and its upsert strategy, into json columns.

Option `is_unique`: its table has a unique constraint on the key, as users need it; as it comes, dlt makes none.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from bench import child
from bench.peers import arrow_pages, mapping

PAGES_A_TABLE = 10


def main() -> None:
    place = child.place()
    os.environ |= {
        "DLT_DATA_DIR": place.scratch,
        "RUNTIME__DLTHUB_TELEMETRY": "false",
        "RUNTIME__LOG_LEVEL": "ERROR",
    }
    import adbc_driver_postgresql.dbapi  # type: ignore[import-not-found,unused-ignore]  # noqa: F401 - before the clock starts
    import dlt  # type: ignore[import-not-found,unused-ignore]  # reads the environment when it is imported; lives in the peers' environment
    import dlt.common.libs.pyarrow  # type: ignore[import-not-found,unused-ignore]  # as above

    pipeline = dlt.pipeline(
        "bench",
        pipelines_dir=place.scratch,
        destination=dlt.destinations.postgres(place.database_url.replace("postgres@", "postgres:unused@localhost")),
        dataset_name=place.schema,
    )
    hints: dict[str, dict[str, Any]] = {name: {"data_type": "json"} for name in mapping.JSON_COLUMNS}
    if place.options["is_unique"]:
        hints["id"] = {"unique": True, "nullable": False}

    def prepare(task: child.Task) -> Callable[[], None]:
        @dlt.resource(  # type: ignore[untyped-decorator,call-overload,unused-ignore]  # as above
            name="subscription",
            primary_key="id",
            write_disposition={"disposition": "merge", "strategy": "upsert"},
            columns=hints,
            file_format="parquet",
        )
        def subscription() -> Iterator[Any]:
            yield from arrow_pages.tables(task.pages, pages=PAGES_A_TABLE)

        def work() -> None:
            pipeline.run(subscription(), loader_file_format="parquet")

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
