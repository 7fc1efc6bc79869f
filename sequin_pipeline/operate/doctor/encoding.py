"""This check looks at the encoding of the warehouse, and for rows that a session of another encoding stored wrongly.

It reads a sample of each table.
"""

from collections.abc import Iterator

from psycopg import sql

from sequin_pipeline.errors import PipelineError
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.postgres.warehouse import CLIENT_ENCODING, Connection, held_text, server_encoding
from sequin_pipeline.table.managed import existing_columns
from sequin_pipeline.table.target import Target, TargetColumn, collection_target

CODECS = ("latin-1", "iso8859-15", "cp1252")
"""Sessions that do not say UTF8 say one of these, which turn a character of several bytes into as many characters."""

SAMPLE_PAGES = 1_000
"""This many pages are read of a table, spread over all of it: 8 MB and what is kept apart from it, some tenths of a second."""


def encoding(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Checks what the database can hold, and which tables hold text that was mistaken for another encoding's."""
    found = server_encoding(connection)
    if found != CLIENT_ENCODING:
        said = f"the database is encoded in {found}: a record with a character that it cannot hold becomes a reject"
        yield Finding("encoding", "warning", said, "create a database with encoding UTF8, unless that is what you want")
    damaged = 0
    for label, collection in patient.collections.items():
        try:
            target = collection_target(collection)
            if not _is_readable(connection, target):
                continue
            target = existing_columns(connection, target)
        except PipelineError:
            continue  # told by `tables`
        wrong = {column.table_name: ids for column in _texts(target) if (ids := _mistaken(connection, target, column))}
        if wrong:
            damaged += 1
            name, ids = next(iter(wrong.items()))
            said = (
                f"{target.table}: text of column {' and '.join(map(repr, wrong))} was stored by a session of another encoding than UTF8, "
                f"as in {len(ids)} of the rows looked at, {name!r} of {ids[0]!r} among them"
            )
            fix = f"`sequin-pipeline sync --collection {label} --full-refresh` writes them again; of keys see docs/operations.md"
            yield Finding("encoding", "problem", said, fix)
    if not damaged and found == CLIENT_ENCODING:
        yield Finding(
            "encoding", "ok", "the database is encoded in UTF8, and a sample of its rows shows no text of another encoding"
        )


def _texts(target: Target) -> list[TargetColumn]:
    return [column for column in target.stored if column.staging == "text"]


def _is_readable(connection: Connection, target: Target) -> bool:
    """Says whether the table can be sampled; what is not there yet, or a view, holds nothing of its own."""
    row = connection.execute(
        "select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s"
        " and c.relkind in ('r', 'p') and has_schema_privilege(n.oid, 'USAGE') and has_table_privilege(c.oid, 'SELECT')",
        (target.table.schema, target.table.name),
    ).fetchone()
    return row is not None


def _mistaken(connection: Connection, target: Target, column: TargetColumn) -> list[str]:
    """Returns keys of sampled rows in which the whole value reads as UTF-8 once the bytes of its characters are put together again."""
    table = sql.Identifier(target.table.schema, target.table.name)
    name = sql.Identifier(column.table_name)
    rows = connection.execute(
        sql.SQL(
            "select {key}::text, {name}::text from {table} tablesample system ({share}) where {name} is not null"
            " and case when octet_length(convert_to({name}::text, 'UTF8')) = length({name}::text) then false else {name}::text ~ %s end"
        ).format(
            key=sql.Identifier(target.column(target.record_id).table_name),
            name=name,
            table=table,
            share=_share(table.as_string(connection)),
        ),
        (_pattern(connection),),
    ).fetchall()
    return [str(key) for key, value in rows if _reads_as_utf8(str(value))]


def _share(table: str) -> sql.Composed:
    """Composes how many percent of the table's pages are SAMPLE_PAGES of them."""
    return sql.SQL(
        "least(100, 100.0 * {pages} * current_setting('block_size')::int / greatest(pg_table_size({table}::regclass), 1))"
    ).format(pages=sql.Literal(SAMPLE_PAGES), table=sql.Literal(table))


def _pattern(connection: Connection) -> str:
    """Returns a pattern of such a character's first byte and second byte, as the characters that they became."""
    seconds = {bytes([byte]).decode(codec, "ignore") for codec in CODECS for byte in range(0x80, 0xC0)}
    held = "".join(sorted(letter for letter in seconds if held_text(letter, connection) == letter))
    return f"[{''.join(map(chr, range(0xC2, 0xF5)))}][{held}]" if held_text("Ã", connection) == "Ã" else "$^"


def _reads_as_utf8(text: str) -> bool:
    for codec in CODECS:
        try:
            if text.encode(codec).decode() != text:
                return True
        except UnicodeError:
            continue
    return False
