"""dlt: its own source of REST APIs, with the merge disposition and its upsert strategy, from the same list."""

import os
from collections.abc import Callable

from bench import child

TABLE = "things"


def main() -> None:
    place = child.place()
    os.environ |= {"DLT_DATA_DIR": place.scratch, "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    import dlt  # type: ignore[import-not-found,unused-ignore]  # reads the environment when it is imported; lives in the peers' environment
    from dlt.sources.rest_api import rest_api_source  # type: ignore[import-not-found,unused-ignore]  # as above

    pipeline = dlt.pipeline(
        "bench_rest",
        pipelines_dir=place.scratch,
        destination=dlt.destinations.postgres(place.database_url.replace("postgres@", "postgres:unused@localhost")),
        dataset_name=place.schema,
    )
    limit = int(place.options.get("limit", 100))

    def prepare(task: child.Task) -> Callable[[], None]:
        source = rest_api_source(
            {
                "client": {
                    "base_url": place.api_url,
                    "paginator": {"type": "cursor", "cursor_path": "next", "cursor_param": "after"},
                },
                "resources": [
                    {
                        "name": TABLE,
                        "primary_key": "id",
                        "write_disposition": {"disposition": "merge", "strategy": "upsert"},
                        "max_table_nesting": 0,
                        "endpoint": {"path": "things", "data_selector": "data", "params": {"limit": limit}},
                    }
                ],
            }
        )

        def work() -> None:
            pipeline.run(source)

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
