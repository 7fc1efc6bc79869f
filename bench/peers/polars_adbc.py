"""polars: `DataFrame.write_database` by ADBC into a temporary table, and one guarded upsert from there."""

from collections.abc import Callable

import adbc_driver_postgresql.dbapi as adbc  # type: ignore[import-not-found,unused-ignore]  # lives in the peers' environment
import polars as pl  # type: ignore[import-not-found,unused-ignore]  # as above

from bench import child
from bench.peers import arrow_pages, mapping

PAGES_A_TRANSACTION = 5
STAGING = "staging"


def main() -> None:
    place = child.place()
    names = ", ".join(mapping.COLUMNS)
    values = ", ".join(f"{name}::jsonb" if name in mapping.JSON_COLUMNS else name for name in mapping.COLUMNS)
    upsert = f"insert into {place.schema}.subscription ({names}) select {values} from {STAGING} {mapping.newer_clause()}"

    def prepare(task: child.Task) -> Callable[[], None]:
        def work() -> None:
            with adbc.connect(place.database_url) as connection:
                for table in arrow_pages.tables(task.pages, pages=PAGES_A_TRANSACTION):
                    pl.from_arrow(table).write_database(
                        STAGING, connection, engine="adbc", if_table_exists="replace", engine_options={"temporary": True}
                    )
                    with connection.cursor() as cursor:
                        cursor.execute(upsert)
                    connection.commit()

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
