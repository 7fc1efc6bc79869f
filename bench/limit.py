"""The limits: the same rows as bytes made ready beforehand, so that nothing is left to do but what Postgres must do.

`python -m bench.limit`, a contestant. Options: `statements` is "merge" (the pipeline's own staging and merge, batch by batch, each in
a transaction) or "copy" (a bare COPY into the table, which knows neither repeated reads nor versions: the limit for new records);
`connections`, how many share it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from bench import child
from bench.collection import COLLECTION, live_run_config, target_in
from bench.records import PAGE_RECORDS
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.ledger.schema import migrate
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres import copy_binary
from sequin_pipeline.postgres.warehouse import Connection, Warehouse
from sequin_pipeline.runs.collection_run import BATCH_RECORDS
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.table.managed import prepare_table
from sequin_pipeline.table.target import Target
from sequin_pipeline.write import staging
from sequin_pipeline.write.batch import Batch, build_batch
from sequin_pipeline.write.merge import merge_rows

SOURCE = SourceIdentity("bench", "")
WINDOW_STARTS = live_run_config(full_refresh=False).window_starts
Send = Callable[[Connection], None]


def main() -> None:
    place = child.place()
    warehouse, target = Warehouse(place.database_url), target_in(place.schema, data_type=place.options.get("data", "jsonb"))
    ledger = Ledger(str(target.table), target.label)
    with warehouse.connect() as connection:
        migrate(connection)
        prepare_table(connection, target, ledger, source=SOURCE)
    build = {"merge": _merging, "copy": _copying}[place.options["statements"]]
    connections = int(place.options["connections"])

    def prepare(task: child.Task) -> Callable[[], None]:
        sends = [build(target, ledger, batch) for batch in _batches(target, task.pages)]

        def work() -> None:
            with ThreadPoolExecutor(connections) as threads:
                shares = [sends[at::connections] for at in range(connections)]
                list(threads.map(lambda share: _send(warehouse, share), shares))

        return work

    child.compete(prepare)


def _batches(target: Target, pages: Sequence[str]) -> list[Batch]:
    normalize = Normalizer(COLLECTION)
    size = BATCH_RECORDS // PAGE_RECORDS
    return [
        build_batch(
            target, [normalize(Path(page).read_bytes()) for page in pages[start : start + size]], window_starts=WINDOW_STARTS
        )
        for start in range(0, len(pages), size)
    ]


def _send(warehouse: Warehouse, sends: Sequence[Send]) -> None:
    with warehouse.connect() as connection:
        for send in sends:
            with connection.transaction():
                send(connection)


def _merging(target: Target, ledger: Ledger, batch: Batch) -> Send:
    encoded = staging.encode(target, batch)

    def send(connection: Connection) -> None:
        merge_rows(connection, encoded, window_starts=WINDOW_STARTS, versions=ledger.table("versions"))

    return send


def _copying(target: Target, ledger: Ledger, batch: Batch) -> Send:
    now = pa.array([datetime.now(UTC)] * len(batch), pa.timestamp("us", "UTC"))
    columns, types = [], []
    for column in target.columns:
        values = batch.column(column.name)
        # jsonb travels as its text after a version byte of 1 (jsonb_recv).
        columns.append(pc.binary_join_element_wise("\x01", values, "") if column.type == "jsonb" else values)
        types.append(column.staging)
    stamps = [name for name in (target.created_at, target.changed_at) if name]
    names = [*target.column_names, *stamps]
    table = pa.table([*columns, *([now] * len(stamps))], names=names)
    payload = copy_binary.encode(table, [*types, *(["timestamptz"] * len(stamps))])
    statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
        sql.Identifier(target.table.schema, target.table.name), sql.SQL(", ").join(map(sql.Identifier, names))
    )

    def send(connection: Connection) -> None:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            copy.write(payload)

    return send


if __name__ == "__main__":
    main()
