"""pandas: `DataFrame.to_sql` into a staging table, a thousand rows at a time, and one upsert from there."""

from collections.abc import Callable

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from bench import child
from bench.peers import mapping

STAGING = "staging"


def main() -> None:
    place = child.place()
    engine = sa.create_engine(place.database_url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
    names = ", ".join(mapping.COLUMNS)
    merge = sa.text(
        f"insert into {place.schema}.subscription ({names}) select {names} from {place.schema}.{STAGING} {mapping.upsert_clause()}"
    )
    types = dict.fromkeys(mapping.JSON_COLUMNS, JSONB())

    def prepare(task: child.Task) -> Callable[[], None]:
        def work() -> None:
            for rows in mapping.pages(task.pages):
                with engine.begin() as connection:
                    pd.DataFrame(rows).to_sql(
                        STAGING,
                        connection,
                        schema=place.schema,
                        if_exists="replace",
                        index=False,
                        method="multi",
                        dtype=types,
                    )
                    connection.execute(merge)

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
