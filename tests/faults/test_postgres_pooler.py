"""A pooler that lends connections for one transaction stands in front of Postgres."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psycopg
import pytest

from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RunConfig
from tests.faults.faulty_api import things
from tests.faults.landing import THING, Landing
from tests.faults.pooler import is_installed, pooler, pooler_folder
from tests.support.builders import EPOCH, ListSource
from tests.support.postgres import PostgresServer
from tests.support.reading import execute, query
from tests.support.system import LEFT_OUT, SKIP_SYSTEM

pytestmark = [
    pytest.mark.skipif(SKIP_SYSTEM, reason=LEFT_OUT),
    pytest.mark.skipif(not is_installed(), reason="pgbouncer is not installed: apt-get install pgbouncer"),
]

CONNECTIONS = 2
PAGES = [things(first, first + 4) for first in range(1, 40, 5)]


@pytest.fixture
def warehouse_url(empty_url: str) -> str:
    """Of an empty database: the ledger, too, is made through the pooler."""
    return empty_url


@pytest.fixture
def pooled(landing: Landing, postgres_server: PostgresServer) -> Iterator[Warehouse]:
    """The table's database, behind a pooler with fewer connections than the runs open."""
    with pooler_folder() as folder, pooler(folder, postgres_server.socket_directory, connections=CONNECTIONS):
        yield Warehouse(psycopg.conninfo.make_conninfo(landing.url, host=str(folder), port=6432))


def test_runs_behind_a_transaction_pooler_share_its_connections(landing: Landing, pooled: Warehouse) -> None:
    landing.sync(ListSource([]), warehouse=pooled)
    backfill = RunConfig(THING, "backfill", None, partition_keys=("2024-01",), window_starts=(EPOCH,))
    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(landing.sync, ListSource(PAGES), warehouse=pooled, batch_records=5, lanes=2)]
        runs += [
            threads.submit(landing.sync, ListSource(PAGES), warehouse=pooled, run_config=backfill, batch_records=number)
            for number in (5, 10)
        ]
        for run in runs:
            run.result()

    landing.deliver(*(each for _ in runs for page in PAGES for each in page))
    landing.check(cursor=str(len(PAGES)))
    [(backends,)] = query(
        landing.url, "select count(*)::int from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
    )
    assert backends <= CONNECTIONS


@pytest.mark.parametrize(
    "encoding",
    [pytest.param(name, id=f"role whose sessions speak {name}, behind pgbouncer") for name in ("LATIN1", "WIN1252", "SJIS")],
)
def test_connections_that_a_pooler_lends_speak_utf8_whoever_had_them_before(
    landing: Landing, pooled: Warehouse, encoding: str
) -> None:
    """pgbouncer keeps the encoding that each client said at its beginning."""
    [(database,)] = query(landing.url, "select current_database()::text")
    execute(landing.url, f"alter role postgres in database {database} set client_encoding to {encoding}")
    word = {"SJIS": "文"}.get(encoding, "é")
    pages = [[{**each, "marker": "Ж € é 文"} for each in page] for page in PAGES]
    with ExitStack() as others:
        for _ in range(2 * CONNECTIONS):
            other = others.enter_context(psycopg.connect(pooled.url, client_encoding=encoding, autocommit=True))
            assert other.execute("select %s::text", (word,)).fetchone() == (word,)

        landing.sync(ListSource(pages), warehouse=pooled, batch_records=5, lanes=2)

        assert other.execute("select %s::text", (word,)).fetchone() == (word,)
    landing.deliver(*(each for page in pages for each in page))
    landing.check(cursor=str(len(PAGES)))
