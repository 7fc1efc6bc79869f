"""One daemon a Dagster storage, whichever machine it runs on: claimed in the storage itself."""

import psycopg
import pytest

from sequin_pipeline.cli.daemon_claim import claimed_storage
from sequin_pipeline.errors import ConfigurationError
from tests.faults.pooler import is_installed, pooler, pooler_folder
from tests.support.postgres import PostgresServer
from tests.support.reading import execute, query
from tests.support.system import LEFT_OUT, SKIP_SYSTEM


def claim_and_be_refused(url: str) -> str:
    with claimed_storage(url), pytest.raises(ConfigurationError) as refused, claimed_storage(url):
        pass
    return str(refused.value)


def test_a_claim_is_refused_to_others_until_it_ends(empty_url: str) -> None:
    first, again = claim_and_be_refused(empty_url), claim_and_be_refused(empty_url)

    assert first == again
    assert first.startswith("another UI is at work on the same Dagster storage (sequin-pipeline ui on ")


def test_a_claim_ends_with_its_connection(empty_url: str) -> None:
    with pytest.raises(psycopg.OperationalError), claimed_storage(empty_url):
        execute(empty_url, "select pg_terminate_backend(pid, 5000) from pg_locks where locktype = 'advisory'")

    with claimed_storage(empty_url):
        pass


@pytest.mark.parametrize("setting", ["idle_in_transaction_session_timeout = '50ms'", "statement_timeout = '50ms'"])
def test_a_claim_outlasts_limits_of_time_and_holds_no_vacuum_back(empty_url: str, setting: str) -> None:
    [(database,)] = query(empty_url, "select current_database()")
    execute(empty_url, f'alter database "{database}" set {setting}')

    with claimed_storage(empty_url), psycopg.connect(empty_url, options="-c statement_timeout=0") as other:
        other.execute("select pg_sleep(0.2)")  # four times the limit
        held = other.execute(
            "select backend_xmin is null, state from pg_stat_activity where application_name like 'sequin-pipeline ui%'"
        ).fetchall()

    assert held == [(True, "idle in transaction")]


@pytest.mark.skipif(SKIP_SYSTEM, reason=LEFT_OUT)
@pytest.mark.skipif(not is_installed(), reason="pgbouncer is not installed: apt-get install pgbouncer")
def test_a_claim_holds_behind_a_pooler_that_lends_connections_by_transaction(
    empty_url: str, postgres_server: PostgresServer
) -> None:
    database = psycopg.conninfo.conninfo_to_dict(empty_url)["dbname"]
    with pooler_folder() as folder, pooler(folder, postgres_server.socket_directory, connections=3):
        url = f"postgresql://postgres@/{database}?host={folder}&port=6432"

        refused = [claim_and_be_refused(url) for _ in range(3)]

    assert len(set(refused)) == 1
