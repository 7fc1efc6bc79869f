"""Postgres is there and does not take what it is given: no room, no connection, no right to write. The message says what to do, and
the run after that ends in the right table."""

import random
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.errors import ConfigurationError, WarehouseError, WarehouseUnavailable
from sequin_pipeline.postgres.warehouse import ATTEMPTS, Warehouse
from tests.faults.faulty_api import things
from tests.faults.landing import Landing, assert_says
from tests.faults.phases import held_in
from tests.faults.small_disk import small_disk
from tests.support.builders import ListSource, record
from tests.support.fold import Record
from tests.support.postgres import SETTINGS, PostgresServer, fast_folder, running_server
from tests.support.reading import execute, query
from tests.support.reading import terminate as end_sessions
from tests.support.waits import Waits

FIRST = things(1, 2)
SECOND = [*things(3, 4), {**FIRST[0], "updated_idx": 9}]
ALLOWED_CONNECTIONS = 3


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that the server's account can reach, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="sequin-faults-", dir=fast_folder()))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def big_things(count: int) -> list[Record]:
    """Records of 50 kB that no compression makes smaller."""
    chance = random.Random(5)
    return [record(f"big{number:03}", 1, data={"noise": chance.randbytes(25_000).hex()}, marker="x") for number in range(count)]


def test_full_disk_under_the_table_stops_the_run_and_the_next_one_goes_on(
    postgres_server: PostgresServer, landing: Landing, open_folder: Path
) -> None:
    landing.sync(ListSource([FIRST]))
    landing.deliver(*FIRST)
    big = big_things(60)
    waits = Waits()
    with small_disk(open_folder / "disk", megabytes=2) as disk:
        execute(landing.url, f"create tablespace small location '{disk.folder}'", "alter table demo.thing set tablespace small")
        try:
            with pytest.raises(WarehouseError) as caught:
                landing.sync(ListSource([FIRST, SECOND, big]), warehouse=Warehouse(landing.url, sleep=waits), batch_records=1)
            landing.deliver(*SECOND)
            landing.check(cursor="2")
            disk.grow(megabytes=64)

            landing.sync(ListSource([FIRST, SECOND, big]))

            landing.deliver(*big)
            landing.check(cursor="3")
        finally:
            execute(landing.url, "alter table demo.thing set tablespace pg_default", "drop tablespace small")
    assert_says(
        str(caught.value),
        r"while writing a batch of 'demo/thing' to table 'demo\.thing', Postgres said 'could not extend file \"pg_tblspc/\S+\": "
        r"No space left on device' \(SQLSTATE 53100\): its disk is full; make room and run again\. "
        r"Postgres' hint: Check free disk space\.",
    )
    assert not caught.value.is_retryable
    assert waits.seconds == []


def test_full_disk_under_the_log_stops_the_server_and_the_next_run_after_its_return_goes_on(open_folder: Path) -> None:
    big = big_things(300)
    pages = [FIRST, *(big[start : start + 30] for start in range(0, len(big), 30))]
    settings = {**SETTINGS, "max_wal_size": "2MB", "min_wal_size": "2MB", "wal_level": "replica", "max_wal_senders": "1"}
    waits = Waits()
    with small_disk(open_folder / "disk", megabytes=12) as disk:
        (disk.folder / "wal").mkdir()
        with running_server(settings, wal_folder=disk.folder / "wal") as server:
            landing = Landing(server.url(server.make_database()))
            # A consumer of the log that nobody reads any more: the commonest way to fill a disk.
            execute(landing.url, "select pg_create_physical_replication_slot('forgotten', true)")
            with pytest.raises(WarehouseError) as caught:
                landing.sync(ListSource(pages), warehouse=Warehouse(landing.url, sleep=waits), batch_records=1)
            server.process.wait(timeout=30)
            disk.grow(megabytes=128)
            server.start()
            [(cursor,)] = query(landing.url, "select cursor::int from sequin_pipeline.cursors")
            assert isinstance(cursor, int)
            landing.deliver(*(each for page in pages[:cursor] for each in page))
            landing.check(cursor=str(cursor))

            landing.sync(ListSource(pages))

            landing.deliver(*(each for page in pages[cursor:] for each in page))
            landing.check(cursor=str(len(pages)))
    assert 0 < cursor < len(pages)
    # Which of the server's processes first finds the disk full is Postgres' own affair: ours tells why it panics, and of another we see
    # that the server is gone.
    is_ours = not isinstance(caught.value, WarehouseUnavailable)
    assert_says(
        str(caught.value),
        r"while writing a batch of 'demo/thing' to table 'demo.thing', Postgres said 'could not write to file .*: No space left on device'"
        r" \(SQLSTATE 53100\): its disk is full; make room and run again\."
        if is_ours
        else r"while connecting to \S+, Postgres said 'connection (failed|is bad): .*'; this may be temporary: run again\.",
    )
    assert len(waits.seconds) == (0 if is_ours else ATTEMPTS - 1)


@pytest.fixture
def limited_role(landing: Landing) -> Iterator[str]:
    """The URL of a role that may write the table, which holds the first batch, and the ledger, over few connections."""
    landing.sync(ListSource([FIRST]))
    landing.deliver(*FIRST)
    execute(
        landing.url,
        f"create role limited login connection limit {ALLOWED_CONNECTIONS}",
        "grant usage on schema demo, sequin_pipeline to limited",
        "grant all on all tables in schema demo, sequin_pipeline to limited",
    )
    yield landing.url.replace("//postgres@", "//limited@")
    execute(landing.url, "drop owned by limited", "drop role limited")


def test_too_many_connections_are_waited_for_and_told_when_they_do_not_end(landing: Landing, limited_role: str) -> None:
    with ExitStack() as others:
        for _ in range(ALLOWED_CONNECTIONS):
            others.enter_context(closing(psycopg.connect(limited_role)))
        with pytest.raises(WarehouseUnavailable) as caught:
            landing.sync(ListSource([FIRST, SECOND]), warehouse=Warehouse(limited_role, sleep=Waits()))
        landing.check(cursor="1")

        landing.sync(ListSource([FIRST, SECOND]), warehouse=Warehouse(limited_role, sleep=Waits(meanwhile=others.close)))

    landing.deliver(*SECOND)
    landing.check(cursor="2")
    assert_says(
        str(caught.value),
        r"while connecting to limited@\S+, Postgres said 'connection failed: .*FATAL:  too many connections for role \"limited\"'; "
        r"this may be temporary: run again\.",
    )


def test_server_that_turns_read_only_under_a_run_stops_it_at_once(landing: Landing) -> None:
    """As a failover does, after which the URL may lead to what is a standby now."""
    landing.sync(ListSource([FIRST]))
    landing.deliver(*FIRST)
    [(database,)] = query(landing.url, "select current_database()")
    waits = Waits(meanwhile=partial(execute, landing.url, f"alter database {database} set default_transaction_read_only = on"))
    with held_in("merge", landing.url) as held, ThreadPoolExecutor(1) as threads:
        running = threads.submit(landing.sync, ListSource([FIRST, SECOND]), warehouse=Warehouse(held.url, sleep=waits))
        end_sessions(landing.url, f"pid = {held.arrived()}")
        held.let_go()
        with pytest.raises(WarehouseError) as caught:
            running.result()
    execute(
        psycopg.conninfo.make_conninfo(landing.url, options="-c default_transaction_read_only=off"),
        f"alter database {database} reset all",
    )
    landing.check(cursor="1")

    landing.sync(ListSource([FIRST, SECOND]))

    landing.deliver(*SECOND)
    landing.check(cursor="2")
    assert_says(
        str(caught.value),
        r"while writing a batch of 'demo/thing' to table 'demo\.thing', Postgres said 'cannot execute [A-Z ]+ in a read-only "
        r"transaction' \(SQLSTATE 25006\): point WAREHOUSE_URL at the primary server\.",
    )
    assert len(waits.seconds) == 1


def test_serialization_failure_is_tried_again(landing: Landing) -> None:
    """The pipeline's own transactions are read committed and have none; what a trigger does may."""
    landing.sync(ListSource([FIRST]))
    landing.deliver(*FIRST)
    execute(
        landing.url,
        "create sequence demo.tries",
        "create function demo.conflict() returns trigger language plpgsql as $$ begin"
        " if nextval('demo.tries') = 1 then raise exception 'could not serialize access' using errcode = '40001'; end if;"
        " return new; end $$",
        "create trigger conflict before insert on demo.thing for each row execute function demo.conflict()",
    )
    waits = Waits()

    landing.sync(ListSource([FIRST, SECOND]), warehouse=Warehouse(landing.url, sleep=waits))

    landing.deliver(*SECOND)
    landing.check(cursor="2")
    assert len(waits.seconds) == 1


def test_role_that_is_not_let_in_is_told_at_once(landing: Landing) -> None:
    waits = Waits()
    stranger = landing.url.replace("//postgres@", "//nobody_known:s3cret@")

    with pytest.raises(ConfigurationError) as caught:
        landing.sync(ListSource([FIRST]), warehouse=Warehouse(stranger, sleep=waits))
    landing.sync(ListSource([FIRST]))

    assert_says(
        str(caught.value),
        r"while connecting to nobody_known@\S+, Postgres said '.*FATAL:  role \"nobody_known\" does not exist': "
        r"fix WAREHOUSE_URL, or allow this role to connect",
    )
    assert waits.seconds == []
    landing.deliver(*FIRST)
    landing.check(cursor="1")
