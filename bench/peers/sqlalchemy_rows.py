"""SQLAlchemy Core, `insert … on conflict do update`. Option `rows`: 1 is a statement and a commit for each record, else so many."""

from collections.abc import Callable, Mapping
from itertools import chain, islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.types import TypeEngine

from bench import child
from bench.peers import mapping

TYPES: Mapping[str, TypeEngine[Any]] = {
    **dict.fromkeys(mapping.COLUMNS, sa.Text()),
    **dict.fromkeys(mapping.TIME_COLUMNS, sa.DateTime(timezone=True)),
    **dict.fromkeys(mapping.JSON_COLUMNS, JSONB()),
    "updated_idx": sa.BigInteger(),
    "quantity": sa.Integer(),
    "deleted": sa.Boolean(),
}


def main() -> None:
    place = child.place()
    engine = sa.create_engine(
        place.database_url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool
    )
    table = sa.Table(
        "subscription",
        sa.MetaData(),
        *(sa.Column(name, TYPES[name], primary_key=name == "id") for name in mapping.COLUMNS),
        sa.Column("updated_at", sa.DateTime(timezone=True)),
        schema=place.schema,
    )
    statement = insert(table)
    incoming = statement.excluded
    upsert = statement.on_conflict_do_update(
        index_elements=["id"],
        set_={name: incoming[name] for name in mapping.COLUMNS if name != "id"} | {"updated_at": sa.func.now()},
        where=table.c.updated_idx <= incoming.updated_idx,
    )
    size = int(place.options["rows"])

    def prepare(task: child.Task) -> Callable[[], None]:
        def work() -> None:
            rows = chain.from_iterable(mapping.pages(task.pages))
            with engine.connect() as connection:
                while some := list(islice(rows, size)):
                    connection.execute(upsert, some if size > 1 else some[0])

        return work

    child.compete(prepare)


if __name__ == "__main__":
    main()
