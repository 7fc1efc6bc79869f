"""What people see of a URL never holds a password or a token."""

import pytest

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.postgres.urls import mask_url, plain_postgres_url
from sequin_pipeline.postgres.warehouse import Warehouse


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        pytest.param("postgresql://you:hush@db:5432/w", "postgresql://you:***@db:5432/w", id="password"),
        pytest.param("postgresql+psycopg2://you:hush@db/w", "postgresql+psycopg2://you:***@db/w", id="with-driver"),
        pytest.param("postgresql://you@db/w", "postgresql://you@db/w", id="no-password"),
        pytest.param("postgresql://db/w", "postgresql://db/w", id="no-user"),
        pytest.param(
            "postgresql://postgres@/w?host=/a%20b&port=5432", "postgresql://postgres@/w?host=/a%20b&port=5432", id="socket"
        ),
        pytest.param("postgresql://you:hu@sh@db/w", "postgresql://you:***@db/w", id="at-sign-in-password"),
        pytest.param("postgresql://you:hu/sh?#@db/w", "postgresql://you:***@db/w", id="slash-in-password"),
        pytest.param("postgresql://you:hush\nhush@db/w", "postgresql://you:***@db/w", id="line-break-in-password"),
        pytest.param(
            "postgresql://db/w?password=hush&sslmode=require", "postgresql://db/w?password=***&sslmode=require", id="option"
        ),
        pytest.param("postgresql://db/w?sslpassword=hush", "postgresql://db/w?sslpassword=***", id="key-s-password"),
        pytest.param("https://hush@api.example/v1", "https://***@api.example/v1", id="token-as-user"),
        pytest.param("https://you:hush@api.example", "https://***@api.example", id="basic-auth"),
        pytest.param("https://api.example?api_key=hush", "https://api.example?api_key=***", id="api-key"),
        pytest.param("https://api.example/?access_token=hush#x", "https://api.example/?access_token=***", id="access-token"),
        pytest.param("host=db password=hush", "***", id="no-url"),
        pytest.param("", "***", id="empty"),
    ],
)
def test_a_shown_url_keeps_what_helps_and_drops_what_is_secret(url: str, shown: str) -> None:
    assert mask_url(url) == shown


@pytest.mark.parametrize("url", ["postgresql://db:54x2/w", "postgresql://you:hush@db:99999/w", "postgresql://one:1,two:0/w"])
def test_port_that_is_none_is_refused_without_showing_the_url(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        plain_postgres_url(url, "WAREHOUSE_URL")

    assert str(raised.value) == (
        "WAREHOUSE_URL names a port that is not a number from 1 to 65535: write it as in postgresql://user:password@host:5432/database"
    )


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://[::1]:5432/w",
        "postgresql://one:1,two:2/w",
        "postgresql:///w?host=/a",
        "postgresql://you:p:w@db:5432/w",
        "postgresql://you:p%40w%2F%3F%23@db:5432/w",
        "postgresql://db:5432/w?user=you@server",
        "postgresql://you@db/w?application_name=a@b",
        "postgresql:///w?host=/a@b&user=you",
    ],
)
def test_ports_and_hosts_that_libpq_takes_are_taken(url: str) -> None:
    assert plain_postgres_url(url, "WAREHOUSE_URL") == url


@pytest.mark.parametrize("url", ["postgresql://you:hu@sh@db/w", "postgresql://you:hu#sh@db/w", "postgresql://you:1/sh@db/w"])
def test_password_that_is_not_escaped_is_told_how_to_write_it(url: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        plain_postgres_url(url, "DAGSTER_POSTGRES_URL")
    with pytest.raises(ConfigurationError) as connecting, Warehouse(url).connect():
        pass
    with pytest.raises(ConfigurationError) as naming:
        _ = Warehouse(url).name

    assert str(raised.value) == (
        "DAGSTER_POSTGRES_URL is not understood: expected a libpq URL as postgresql://user:password@host:5432/database, in which a "
        "password's %, @, /, ?, # and : are written as %25, %40, %2F, %3F, %23 and %3A (its value is not "
        "shown, since it may hold a password)"
    )
    assert str(connecting.value) == str(naming.value) == str(raised.value).replace("DAGSTER_POSTGRES_URL", "WAREHOUSE_URL")


@pytest.mark.parametrize("variable", ["WAREHOUSE_URL", "DAGSTER_POSTGRES_URL"])
@pytest.mark.parametrize(
    ("query", "named"),
    [
        pytest.param("schema=public&connection_limit=5", "'schema', 'connection_limit'", id="Prisma's"),
        pytest.param("sslmode=require&pgbouncer=true", "'pgbouncer'", id="one among others"),
        pytest.param(
            "application_name=x&prepared_statement_cache_size=0&ssl=true", "'prepared_statement_cache_size'", id="asyncpg's"
        ),
    ],
)
def test_parameters_that_libpq_does_not_know_are_named(variable: str, query: str, named: str) -> None:
    url = f"postgresql://you:hush@db:5432/w?{query}"

    with pytest.raises(ConfigurationError) as raised:
        plain_postgres_url(url, variable)
    with pytest.raises(ConfigurationError) as connecting, Warehouse(url).connect():
        pass

    assert str(raised.value) == (
        f"{variable} has parameters that Postgres' own library does not know, as those of another program's URL (Prisma's schema, "
        f"connection_limit or pgbouncer): {named}. Leave them out; a table's schema stands in its defs.yaml"
    )
    assert str(connecting.value) == str(raised.value).replace(variable, "WAREHOUSE_URL")
