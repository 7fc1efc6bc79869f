"""Dagster's storage with kept connections: as many as are needed at once, replaced when they died, and of one process only."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import dagster as dg
import psycopg
import pytest
import sqlalchemy as db
from dagster_postgres import PostgresEventLogStorage

from sequin_pipeline.orchestration.assets import POOL
from sequin_pipeline.postgres.urls import psycopg2_url
from tests.faults.pooler import is_installed, pooler, pooler_folder
from tests.support.checkout import CHECKOUT
from tests.support.postgres import PostgresServer
from tests.support.reading import execute, query
from tests.support.system import LEFT_OUT, SKIP_SYSTEM

MakeInstance = Callable[[str], dg.DagsterInstance]
OTHERS = "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"


@pytest.fixture
def make_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeInstance]:
    """Makes the instance of the checkout's dagster.yaml over a database."""
    shutil.copy(CHECKOUT / "dagster.yaml", tmp_path)
    made: list[dg.DagsterInstance] = []

    def make(url: str) -> dg.DagsterInstance:
        monkeypatch.setenv("DAGSTER_POSTGRES_URL", psycopg2_url(url))
        made.append(dg.DagsterInstance.from_config(str(tmp_path)))
        return made[-1]

    yield make
    for instance in made:
        instance.dispose()


def backends(url: str) -> set[int]:
    return {pid for (pid,) in query(url, f"select pid {OTHERS}")}


def use(instance: dg.DagsterInstance) -> None:
    """Asks each of the three storages."""
    instance.get_runs_count()
    instance.get_asset_keys()
    instance.all_instigator_state()


def test_one_connection_serves_one_thread_for_all_three_storages(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)

    use(instance)
    first = backends(dagster_url)
    for _ in range(20):
        use(instance)

    assert len(first) == 1
    assert backends(dagster_url) == first


def test_threads_get_connections_of_their_own_and_few_are_kept(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)

    with ThreadPoolExecutor(12) as threads:
        for done in [threads.submit(use, instance) for _ in range(60)]:
            done.result()

    assert 1 <= len(backends(dagster_url)) <= 2


def test_connections_that_died_are_replaced_before_they_are_used(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)

    with ThreadPoolExecutor(4) as threads:
        for _ in range(10):
            for done in [threads.submit(use, instance) for _ in range(8)]:
                done.result()
            known = backends(dagster_url)
            execute(dagster_url, f"select pg_terminate_backend(pid, 5000) {OTHERS}")
            assert known
            assert not known & backends(dagster_url)


def test_a_connection_on_which_the_server_has_said_something_is_used_on(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)
    _ask(instance, "listen news; select true")
    before = backends(dagster_url)

    execute(dagster_url, "notify news")
    use(instance)

    assert backends(dagster_url) == before


def test_a_connection_that_is_in_use_costs_no_statement_more(
    dagster_url: str, make_instance: MakeInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = make_instance(dagster_url)
    use(instance)
    storage = instance.event_log_storage
    assert isinstance(storage, PostgresEventLogStorage)
    monkeypatch.setattr(storage._engine.dialect, "do_ping", None)

    use(instance)


def test_a_forked_process_uses_none_of_its_parents(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)
    use(instance)
    before = backends(dagster_url)

    child = multiprocessing.get_context("fork").Process(target=_use_in_child, args=(instance, before))
    child.start()
    child.join()
    use(instance)

    assert child.exitcode == 0
    assert backends(dagster_url) == before


def _use_in_child(instance: dg.DagsterInstance, of_parent: set[int]) -> None:
    """Ends with status 3 where the child asks over a connection of its parent's."""
    use(instance)
    [(own,)] = _ask(instance, "select pg_backend_pid()")
    os._exit(3 if own in of_parent else 0)


def _ask(instance: dg.DagsterInstance, statement: str) -> list[tuple[object, ...]]:
    storage = instance.event_log_storage
    assert isinstance(storage, PostgresEventLogStorage)
    with storage.index_connection() as connection:
        return [tuple(row) for row in connection.execute(db.text(statement))]


def test_an_instance_that_ends_closes_its_connections(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)
    use(instance)

    instance.dispose()

    assert backends(dagster_url) == set()


def test_the_web_server_may_have_its_own_pool(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)

    instance.optimize_for_webserver(statement_timeout=5000, pool_recycle=60, max_overflow=5)

    use(instance)
    assert _ask(instance, "show statement_timeout") == [("5s",)]


def places(instance: dg.DagsterInstance, pool: str = POOL) -> tuple[int | None, bool | None, int]:
    """The limit of the pool, whether it is dagster.yaml's, and how many places there are."""
    info = instance.event_log_storage.get_concurrency_info(pool)
    return info.limit, info.using_default_limit, info.slot_count


def with_default_limit(tmp_path: Path, limit: int) -> None:
    """Changes what dagster.yaml says of pools."""
    path = tmp_path / "dagster.yaml"
    settings = path.read_text()
    assert "default_limit: 4" in settings
    path.write_text(settings.replace("default_limit: 4", f"default_limit: {limit}"))


def test_a_pool_that_many_processes_meet_first_gets_its_places_once(dagster_url: str, make_instance: MakeInstance) -> None:
    instances = [make_instance(dagster_url) for _ in range(4)]
    everybody = Barrier(len(instances))

    def meet(instance: dg.DagsterInstance, pool: str) -> None:
        everybody.wait()
        instance.event_log_storage.initialize_concurrency_limit_to_default(pool)

    pools = [f"pool_{number}" for number in range(10)]
    with ThreadPoolExecutor(len(instances)) as threads:
        for pool in pools:
            for done in [threads.submit(meet, instance, pool) for instance in instances]:
                done.result()

    assert [places(instances[0], pool) for pool in pools] == [(4, True, 4)] * 10


@pytest.mark.parametrize("limit", [2, 4, 7])
def test_another_limit_in_dagster_yaml_holds_for_pools_that_are_known(
    limit: int, dagster_url: str, make_instance: MakeInstance, tmp_path: Path
) -> None:
    make_instance(dagster_url).event_log_storage.initialize_concurrency_limit_to_default(POOL)
    with_default_limit(tmp_path, limit)
    instance = make_instance(dagster_url)

    instance.event_log_storage.initialize_concurrency_limit_to_default(POOL)

    assert places(instance) == (limit, True, limit)


def test_a_limit_that_was_set_by_hand_stays(dagster_url: str, make_instance: MakeInstance) -> None:
    instance = make_instance(dagster_url)
    instance.event_log_storage.set_concurrency_slots(POOL, 9)

    instance.event_log_storage.initialize_concurrency_limit_to_default(POOL)

    assert places(instance) == (9, False, 9)


@pytest.mark.skipif(SKIP_SYSTEM, reason=LEFT_OUT)
@pytest.mark.skipif(not is_installed(), reason="pgbouncer is not installed: apt-get install pgbouncer")
def test_a_pooler_in_front_lends_one_connection_to_several_instances(
    dagster_url: str, make_instance: MakeInstance, postgres_server: PostgresServer
) -> None:
    database = psycopg.conninfo.conninfo_to_dict(dagster_url)["dbname"]
    with pooler_folder() as folder, pooler(folder, postgres_server.socket_directory, connections=1):
        instances = [make_instance(f"postgresql://postgres@/{database}?host={folder}&port=6432") for _ in range(3)]
        for _ in range(5):
            for instance in instances:
                use(instance)
        assert len(backends(dagster_url)) == 1
