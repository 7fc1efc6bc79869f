"""These checks look at settings of somebody's server and storage of tables that cost speed: advice, never a problem.

A value that somebody chose is left alone, and so is what a role may not see. Each advice says what was measured, records of 2.4 kB.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from sequin_pipeline.environment.settings import WAREHOUSE_URL
from sequin_pipeline.errors import PipelineError
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.postgres.warehouse import Connection
from sequin_pipeline.table.target import Target, collection_target

BY_PGLZ = ("on", "pglz")
SETTINGS = ("wal_compression", "max_wal_size", "checkpoint_timeout")
OLDEST_LZ4 = 140000
"""Older servers have no column that tells how values are compressed either."""
WRITTEN_BY_INITDB = "max_wal_size"
"""Its default stands in the configuration file of a new server, so that only another value tells that somebody chose it."""


@dataclass(frozen=True)
class Setting:
    """This value is a row of pg_settings; `choices` are the values that this server was built with, none where it is no choice."""

    name: str
    value: str
    default: str
    source: str
    choices: tuple[str, ...]

    @property
    def is_untouched(self) -> bool:
        return self.value == self.default and (self.source == "default" or self.name == WRITTEN_BY_INITDB)


def server_settings(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Yields what another setting would gain; nothing of the embedded server, whose settings are ours."""
    if WAREHOUSE_URL in patient.settings.embedded_variables:
        return
    rows = connection.execute(
        "select name, setting, boot_val, source, coalesce(enumvals, '{}') from pg_settings where name = any(%s)",
        (list(SETTINGS),),
    ).fetchall()
    found = {}
    for name, value, default, source, choices in rows:
        assert isinstance(choices, list)  # noqa: S101 - a text[]
        found[str(name)] = Setting(str(name), str(value), str(default), str(source), tuple(map(str, choices)))
    yield from advice(found)


def advice(found: Mapping[str, Setting]) -> Iterator[Finding]:
    """Yields what to say of the settings that a role may see."""
    compression = found.get("wal_compression")
    if compression is not None and compression.value in BY_PGLZ:
        said = f"wal_compression is {compression.value}, which costs the server 20 µs of a changed record's 70"
        if "lz4" in compression.choices:
            yield _setting(f"{said}; lz4 saves nearly as much WAL for 2 µs", "wal_compression", "lz4")
        else:
            yield _setting(f"{said}, and saves a third of its WAL", "wal_compression", "off")
    elif compression is not None and compression.is_untouched and "lz4" in compression.choices:
        said = "wal_compression is off: with lz4 a changed record takes 3.2 kB of WAL instead of 4.3, for 2 µs of the server's 51"
        yield _setting(said, "wal_compression", "lz4")
    again = "the first change of a page after a checkpoint writes the whole page to the WAL"
    if (size := found.get("max_wal_size")) is not None and size.is_untouched:
        said = f"max_wal_size is 1 GB: {again}, so that 300,000 changed records took 2.0 GB of it, and with 8 GB 1.3"
        yield _setting(said, "max_wal_size", "8GB", " if its disk has the room")
    if (pause := found.get("checkpoint_timeout")) is not None and pause.is_untouched:
        said = f"checkpoint_timeout is 5 minutes: {again}, so that a changed record takes 5.8 kB right after one and 3.0 kB later"
        yield _setting(said, "checkpoint_timeout", "15min", " if a crash may take longer to recover from")


def storage(connection: Connection, patient: Patient) -> Iterator[Finding]:
    """Yields what columns of JSON cost by the way in which their tables store them."""
    for collection in patient.collections.values():
        try:
            yield from _of_table(connection, collection_target(collection))
        except PipelineError:
            continue  # told by `tables`


def _of_table(connection: Connection, target: Target) -> Iterator[Finding]:
    if connection.info.server_version < OLDEST_LZ4:
        return
    names = [column.table_name for column in target.stored]
    rows = connection.execute(
        "select a.attname::text, a.attstorage = 'e' from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s and c.relkind = 'r'"
        " and a.attname = any(%s) and not a.attisdropped"
        " and a.atttypid in ('json'::regtype, 'jsonb'::regtype) and (a.attstorage = 'e' or a.attstorage = 'x'"
        " and coalesce(nullif(a.attcompression::text, ''), left(current_setting('default_toast_compression'), 1)) = 'p'"
        " and not exists (select from unnest(c.reloptions) o where o like 'toast_tuple_target=%%')"
        " and exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any(enumvals)))"
        " order by a.attnum",
        (target.table.schema, target.table.name, names),
    ).fetchall()
    apart = [str(name) for name, is_external in rows if is_external]
    by_pglz = [str(name) for name, is_external in rows if not is_external]
    if apart:
        said = f"{_columns(apart)} stored apart from the row (external), which costs the server 26 µs of a changed record's 69"
        yield _altered(connection, target, said, apart, "set storage extended")
    if by_pglz:
        said = f"{_columns(by_pglz)} compressed by pglz, at three times the CPU of lz4: a third of what a record costs the server"
        yield _altered(connection, target, said, by_pglz, "set compression lz4")


def _columns(names: Sequence[str]) -> str:
    return f"column {names[0]!r} is" if len(names) == 1 else f"columns {' and '.join(map(repr, names))} are"


def _altered(connection: Connection, target: Target, said: str, names: Sequence[str], action: str) -> Finding:
    table = sql.Identifier(target.table.schema, target.table.name).as_string(connection)
    changes = ", ".join(f"alter column {sql.Identifier(name).as_string(connection)} {action}" for name in names)
    return Finding("storage", "advice", f"{target.table}: {said}", f"alter table {table} {changes}")


def _setting(said: str, name: str, value: str, condition: str = "") -> Finding:
    fix = f"alter system set {name} = '{value}' and select pg_reload_conf(), or the same among the parameters of a hosted server"
    return Finding("settings", "advice", said, f"{fix}{condition}")
