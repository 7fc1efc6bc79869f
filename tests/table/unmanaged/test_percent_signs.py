"""An application's names with percent signs, which psycopg takes for placeholders where a statement has parameters."""

import ast
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import yaml
from psycopg import sql

import sequin_pipeline
from sequin_pipeline.catalog import TableName
from sequin_pipeline.environment.settings import Settings
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.operate.audit import audit_table
from sequin_pipeline.operate.doctor.finding import Finding, Patient
from sequin_pipeline.operate.doctor.warehouse import warehouse as examine_warehouse
from sequin_pipeline.operate.dry_run import dry_run
from sequin_pipeline.operate.explain import explain_record
from sequin_pipeline.operate.inference.mapping import propose_mapping
from sequin_pipeline.operate.inference.tried import declared, tried
from sequin_pipeline.postgres.percent_signs import with_parameters
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.frame_run import read_frame
from sequin_pipeline.table.introspect import introspect
from tests.operate.inference.sampled import COLLECTION, sample_of
from tests.support.builders import ListSource, record
from tests.support.postgres import PostgresServer
from tests.support.reading import rejects
from tests.table.unmanaged.tables import deliver, unmanaged

NAMES = ["100%", "%s", "%(table)s %%(batch)s %b"]
"""A sign by itself, and what would be placeholders: one that a statement has no value for, and one that it has."""


@pytest.fixture(params=NAMES, ids=["a sign", "a placeholder", "named placeholders"])
def odd(request: pytest.FixtureRequest) -> str:
    """A name for everything of the application."""
    return str(request.param)


@pytest.fixture
def odd_url(postgres_server: PostgresServer, odd: str) -> Iterator[str]:
    """A database of that name, with schema, table, columns, type, constraint and index of that name."""
    name = sql.Identifier(odd)
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("create database {}").format(name))
    url = postgres_server.url(quote(odd, safe=""))
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in (
            "create schema {name}",
            "create type {name}.{kind} as enum ('active', 'gone%')",
            "create table {name}.{name} ({id} text primary key, {version} bigint not null, {gone} boolean not null,"
            " {status} {name}.{kind}, {amount} bigint constraint {name} check ({amount} < 1000))",
            "create unique index {index} on {name}.{name} ({amount}, {id})",
        ):
            parts = {
                part: sql.Identifier(f"{part} {odd}") for part in ("id", "version", "gone", "status", "amount", "index", "kind")
            }
            connection.execute(sql.SQL(statement).format(name=name, **parts))
    yield url
    with psycopg.connect(postgres_server.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database {} with (force)").format(name))


@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_every_name_of_an_application_may_hold_percent_signs(odd_url: str, odd: str, on_delete: str) -> None:
    mapping = {
        "id": f"id {odd}",
        "updated_idx": f"version {odd}",
        "deleted": f"gone {odd}",
        "status": f"status {odd}",
        "amount": f"amount {odd}",
    }
    of = unmanaged(mapping, on_delete="mark" if on_delete == "mark" else "remove")
    of = replace(of, table=TableName(odd, odd), history=timedelta(days=1))
    refused = record("b", 2, data={"status": "active", "amount": 5_000})
    first = [record("a", 1), refused, record("c", 3)]

    outcomes = [
        deliver(odd_url, of, first, [record("a", 4)]),
        deliver(odd_url, of, first, [record("a", 4)]),
        deliver(odd_url, of, [record("a", 5, data={"status": "gone%", "amount": 1})], [record("c", 6, deleted=True, data=None)]),
    ]

    assert [outcome.counts for outcome in outcomes] == [
        Counts(fetched=4, inserted=2, duplicate=1, rejected=1, created=2),
        Counts(fetched=4, unchanged=2, duplicate=1, rejected=1),
        Counts(fetched=2, updated=1, deleted=1, removed=int(on_delete == "remove")),
    ]
    assert rejects(odd_url) == {"b": ("postgres", "23514")}
    with Warehouse(odd_url).connect() as connection:
        introspected = introspect(connection, TableName(odd, odd))
    assert introspected is not None
    assert list(introspected.columns) == [f"{part} {odd}" for part in ("id", "version", "gone", "status", "amount")]
    frame = read_frame(Warehouse(odd_url), TableName(odd, odd), columns=[f"id {odd}", f"amount {odd}"])
    assert ["a", 1] in frame.to_numpy().tolist()
    with Warehouse(odd_url).connect() as connection:
        audit = audit_table(connection, of)
        explained = explain_record(connection, of, Ledger(f"{odd}.{odd}", of.label), "a")
    assert (audit.rows, audit.is_unmanaged) == (len(frame), True)
    assert explained.row is not None
    assert explained.row.version == 5
    tried = dry_run(ListSource([[record("a", 1)], [record("a", 1)], [record("d", 7)]]), Warehouse(odd_url), of)
    assert tried.counts == Counts(fetched=1, inserted=1, created=1)


def test_a_mapping_is_proposed_onto_a_table_with_percent_signs_and_written_through(odd_url: str, odd: str) -> None:
    parts = {
        part: sql.Identifier(name)
        for part, name in {
            "schema": odd,
            "table": f"of {odd}",
            "kind": f"kind {odd}",
            "id": "%id%",
            "version": "updated%Idx",
            "gone": "%%deleted",
            "state": "%(state)",
        }.items()
    }
    with psycopg.connect(odd_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL(
                "create table {schema}.{table} ({id} text primary key, {version} bigint not null, {gone} boolean not null,"
                " {state} {schema}.{kind})"
            ).format(**parts)
        )
    table, sample = TableName(odd, f"of {odd}"), sample_of({"state": "active"}, {"state": "gone%"})

    with Warehouse(odd_url).connect() as connection:
        introspected = introspect(connection, table)
        assert introspected is not None
        text = tried(propose_mapping(connection, COLLECTION, sample, table, introspected), sample)

    thing = yaml.safe_load(text)["attributes"]["collections"]["thing"]
    assert text.startswith("# Proposed from the first 2 records of demo:thing: all of them fit.\n")
    assert thing["table"] == {
        "name": f"{odd}.of {odd}",
        "managed": False,
        "columns": {"id": "%id%", "updated_idx": "updated%Idx", "deleted": "%%deleted", "state": "%(state)"},
    }
    outcome = deliver(
        odd_url, declared(text), [record("r0", 1, data={"state": "active"}), record("r1", 2, data={"state": "gone%"})]
    )
    assert (outcome.counts.inserted, outcome.counts.rejected) == (2, 0)


def test_the_doctor_looks_at_a_table_with_percent_signs_and_gives_names_as_they_are(odd_url: str, odd: str) -> None:
    mapping = {
        "id": f"id {odd}",
        "updated_idx": f"version {odd}",
        "deleted": f"gone {odd}",
        "internal_id": f"tenant {odd}",
        "status": f"status {odd}",
        "amount": f"amount {odd}",
    }
    of = replace(unmanaged(mapping), table=TableName(odd, odd))
    with psycopg.connect(odd_url, autocommit=True) as connection:
        table, tenant = sql.Identifier(odd, odd), sql.Identifier(f"tenant {odd}")
        connection.execute(sql.SQL("alter table {} add column {} text").format(table, tenant))
        connection.execute(sql.SQL("insert into {} values ('a', 1, false, null, null, 'cafÃ©')").format(table))
    settings = Settings(odd_url, odd_url, Path("/nowhere"), frozenset(), {}, None)

    found = list(examine_warehouse(Patient(settings, {"SEQUIN_API_URL": "http://localhost"}, {"demo/thing": of}, None)))

    (encoding,) = (finding for finding in found if finding.check == "encoding")
    assert encoding == Finding(
        "encoding",
        "problem",
        f"{odd}.{odd}: text of column {f'tenant {odd}'!r} was stored by a session of another encoding than UTF8, as in 1 of the rows "
        f"looked at, 'tenant {odd}' of 'a' among them",
        "`sequin-pipeline sync --collection demo/thing --full-refresh` writes them again; of keys see docs/operations.md",
    )
    assert [finding.said for finding in found if finding.check == "tables"] == ["1 ready"]


def test_only_names_and_values_have_their_percent_signs_doubled() -> None:
    statement = sql.SQL("select {}, {}, '%%', %(a)s from {}").format(
        sql.Identifier("a%"), sql.Literal("b%s"), sql.SQL(".").join([sql.Identifier("c"), sql.Identifier("%d")])
    )

    assert with_parameters(statement).as_string() == """select "a%%", 'b%%s', '%%', %(a)s from "c"."%%d\""""


OPENING = ("psycopg.connect", "psycopg.Connection.connect", "_Connection.connect")


def test_every_statement_goes_through_the_cursors_that_know_of_percent_signs() -> None:
    """A connection that is opened elsewhere, or a statement that is turned into bytes elsewhere, would not."""
    package = Path(sequin_pipeline.__file__).parent
    found = set()
    for module in package.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            called = ast.unparse(node.func)
            is_wrapped = isinstance(node.func.value, ast.Call) and ast.unparse(node.func.value.func) == "with_parameters"
            if called in ("psycopg.connect", "psycopg.Connection.connect", "_Connection.connect") or (
                node.func.attr == "as_bytes" and not is_wrapped
            ):
                found.add(f"{module.relative_to(package)}: {called}")

    assert found == {
        "environment/embedded/server.py: psycopg.connect",  # the names of our own databases
        "ledger/forgets.py: statement.as_bytes",  # without parameters, and without names
        "postgres/warehouse.py: _Connection.connect",
        "postgres/warehouse.py: psycopg.connect",  # which asks for settings only
    }
