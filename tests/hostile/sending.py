"""Records as bytes: sent over HTTP, written by a run, and read back as text by plain SQL."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from sequin_pipeline.catalog import Collection, Column
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.sources import SourceIdentity
from sequin_pipeline.sources.sequin import SequinSource
from tests.sources.scripted import Reply, scripted_server
from tests.support.builders import collection, live_run_config, record

MANY = 10_000
IDENTITY = SourceIdentity("sequin", "http://hostile")
"""Each page has a server of its own, and all are one source."""


@dataclass(frozen=True)
class Refusal:
    """A reject as the ledger keeps it."""

    raw: bytes
    reason: str
    reject_class: str
    sqlstate: str | None


@dataclass(frozen=True)
class Landed:
    """What one run left behind: the table's rows as text, by id and column, and the rejects by what was sent."""

    outcome: SyncOutcome
    rows: Mapping[str, Mapping[str, str | None]]
    refusals: Mapping[bytes, Refusal]


def tolerant(columns: Sequence[Column] = (), **overrides: object) -> Collection:
    """A collection that takes any number of rejects without failing its run."""
    return replace(collection(columns=tuple(columns)), reject_limit_records=MANY, **overrides)  # type: ignore[arg-type]


def text(value: object, *, is_escaped: bool = True) -> bytes:
    """JSON text; with `is_escaped` in ASCII, else in UTF-8 as far as JSON allows."""
    return json.dumps(value, ensure_ascii=is_escaped).encode()


def built(record_id: str = "r1", **members: bytes | None) -> bytes:
    """A record with members replaced by JSON texts, left out (None), or added; names are JSON texts too where they stand in quotes."""
    texts = {name: text(value) for name, value in record(record_id).items()} | members
    return b"{" + b", ".join(text(name) + b": " + value for name, value in texts.items() if value is not None) + b"}"


def with_data(record_id: str, data: bytes) -> bytes:
    """A record around the JSON text of an object."""
    return built(record_id, data=data)


def sync(url: str, of: Collection, *records: bytes, refresh: str | None = None, adopt: bool = False) -> SyncOutcome:
    """One page of these records, and the end of the stream; `refresh` is the id of a run that begins again."""
    pages = [b'{"records": [' + b",".join(records) + b'], "cursor": "1"}', b'{"records": [], "cursor": "1"}']
    with scripted_server(*(Reply(body=page) for page in pages)) as server:
        source = SequinSource(server.url)
        source.identity = IDENTITY
        stream = RecordStream(live_run_config(of, full_refresh=refresh is not None, adopt=adopt), source)
        return run_sync(stream, Warehouse(url), run_id=refresh or "run")


def land(url: str, of: Collection, *records: bytes) -> Landed:
    """Syncs the records, a second time from the beginning as well, which must change nothing, and reads what is there."""
    landed = land_once(url, of, *records)
    sync(url, of, *records, refresh="again")
    assert read(url, of) == landed.rows
    return landed


def land_once(url: str, of: Collection, *records: bytes) -> Landed:
    """Syncs the records and reads what is there."""
    outcome = sync(url, of, *records)
    refused = query(url, "select raw, reason, class, sqlstate from sequin_pipeline.rejects")
    refusals = {raw: Refusal(raw, *others) for raw, *others in refused}  # type: ignore[arg-type]  # bytea and texts
    assert outcome.counts.fetched == len(records)
    assert outcome.counts.rejected == len(refused)
    return Landed(outcome, read(url, of), refusals)  # type: ignore[arg-type]  # as above


def read(url: str, of: Collection) -> dict[str, dict[str, str | None]]:
    """Every column as Postgres writes it as text, in UTC and ISO, and `xmin`, which any write would move."""
    with psycopg.connect(url, options="-c timezone=UTC -c datestyle=ISO", client_encoding="UTF8") as connection:
        names = [
            str(name)
            for (name,) in connection.execute(
                "select attname from pg_attribute where attrelid = to_regclass(%s) and attnum > 0",
                (sql.Identifier(of.table.schema, of.table.name).as_string(connection),),
            )
        ]
        selected = [sql.SQL("{}::text").format(sql.Identifier(name)) for name in (*names, "xmin")]
        rows = connection.execute(
            sql.SQL("select {} from {}").format(sql.SQL(", ").join(selected), sql.Identifier(of.table.schema, of.table.name))
        ).fetchall()
    found = [dict(zip((*names, "xmin"), row, strict=True)) for row in rows]
    return {str(row["id"]): row for row in found}


def query(url: str, statement: str) -> list[tuple[object, ...]]:
    """All rows of one statement."""
    with psycopg.connect(url, client_encoding="UTF8") as connection:
        return connection.execute(statement).fetchall()  # type: ignore[arg-type]  # tests write SQL as text
