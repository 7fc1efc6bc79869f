"""dlt: a resource of rows with the merge disposition and its scd2 strategy, which ends a version when the next load has another one.

Each load is all there is: what it does not have, scd2 takes for deleted. Its times are those of the loads.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from bench import child
from bench.peers import mapping


def main() -> None:
    place = child.place()
    os.environ |= {"DLT_DATA_DIR": place.scratch, "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    import dlt  # type: ignore[import-not-found,unused-ignore]  # reads the environment when it is imported; lives in the peers' environment

    pipeline = dlt.pipeline(
        "bench_scd2",
        pipelines_dir=place.scratch,
        destination=dlt.destinations.postgres(place.database_url.replace("postgres@", "postgres:unused@localhost")),
        dataset_name=place.schema,
    )
    hints = {name: {"data_type": "json"} for name in mapping.JSON_COLUMNS}

    def prepare(task: child.Task) -> Callable[[], None]:
        @dlt.resource(  # type: ignore[untyped-decorator,unused-ignore]  # as above
            name="subscription",
            primary_key="id",
            write_disposition={"disposition": "merge", "strategy": "scd2"},
            columns=hints,
            max_table_nesting=0,
        )
        def subscription() -> Iterator[list[dict[str, Any]]]:
            yield from mapping.pages(task.pages)

        def work() -> None:
            pipeline.run(subscription())

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
