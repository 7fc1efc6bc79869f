"""Where bytes stand in a database: every row of every table, as text and in its bytes."""

from psycopg import sql

from tests.support.reading import query

TABLES = (
    "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
    " where c.relkind in ('r', 'p') and n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' order by 1, 2"
)


def holding(url: str, marker: str) -> dict[str, int]:
    """By table, how many rows hold the marker somewhere; none of those that do not."""
    found = {}
    for schema, table in query(url, TABLES):
        binary = query(
            url,
            "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and atttypid = 'bytea'::regtype",
            sql.Identifier(schema, table).as_string(),
        )
        held = [sql.SQL("position({marker} in t::text) > 0").format(marker=sql.Literal(marker))]
        held += [
            sql.SQL("position(convert_to({marker}, 'UTF8') in t.{name}) > 0").format(
                marker=sql.Literal(marker), name=sql.Identifier(name)
            )
            for (name,) in binary
        ]
        statement = sql.SQL("select count(*) from {} t where {}").format(
            sql.Identifier(schema, table), sql.SQL(" or ").join(held)
        )
        ((count,),) = query(url, statement.as_string())
        if count:
            found[f"{schema}.{table}"] = count
    return found
