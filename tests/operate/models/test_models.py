"""The printed models mean the tables that the pipeline itself creates. Those for Node are checked by its own tools in tests/interop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import MetaData, create_engine, select
from sqlalchemy.orm import Session

from sequin_pipeline.catalog import ChildTable, Collection, Column, TableName, UnmanagedTable, parse_path
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.names import camel_case, distinct
from sequin_pipeline.operate.models.relations import relations
from sequin_pipeline.operate.models.table import model_table, model_tables
from sequin_pipeline.operate.models.typescript import model_names, property_names
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from tests.operate.models.declared import AWKWARD_TEXT, LISTS, awkward_comments, collections, every_type
from tests.orchestration.files import write
from tests.support.builders import ListSource, collection, live_run_config, record
from tests.support.children import with_children
from tests.support.commands import Finished, RunMain
from tests.support.reading import execute, query
from tests.support.syncing import sync


def create_by_pipeline(url: str, of: Sequence[Collection]) -> None:
    for number, each in enumerate(of):
        run_sync(RecordStream(live_run_config(each), ListSource([])), Warehouse(url), run_id=f"run-{number}")


def catalog_of(url: str) -> list[tuple[object, ...]]:
    """All that Postgres knows of the tables in the demo schemas; the stamps too, in whatever order they were made."""
    return query(
        url,
        "select n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,"
        " pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum), obj_description(c.oid, 'pg_class'),"
        " array(select pg_get_indexdef(i.indexrelid) from pg_index i where i.indrelid = c.oid and a.attnum = any(i.indkey) order by 1)"
        " from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace"
        " left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum"
        " where lower(n.nspname) = 'demo' and c.relkind = 'r' and a.attnum > 0 order by 1, 2, 3",
    )


def secured(url: str) -> list[tuple[object, ...]]:
    """The tables that readers see by tenant."""
    return query(
        url,
        "select p.tablename, p.policyname, p.cmd, p.roles::text, p.qual from pg_policies p join pg_class c on c.relname = p.tablename"
        " where c.relrowsecurity and lower(p.schemaname) = 'demo'",
    )


def printed(format_name: str, of: Sequence[Collection]) -> str:
    return FORMATS[format_name]([table for each in of for table in model_tables(each)])


def loaded(source: str) -> MetaData:
    module = ModuleType("printed_models")
    exec(compile(source, "printed_models.py", "exec"), module.__dict__)
    metadata: MetaData = module.__dict__["Base"].metadata
    return metadata


def test_the_printed_sql_creates_what_the_pipeline_creates(make_database: Callable[[], str]) -> None:
    ours, theirs = make_database(), make_database()
    create_by_pipeline(ours, collections())

    execute(theirs, printed("sql", collections()))

    assert catalog_of(theirs) == catalog_of(ours)
    assert secured(theirs) == secured(ours)
    assert [table for table, *_ in secured(ours)] == ["2nd-thing"]
    assert len(catalog_of(ours)) == 3 * 13 + 2 * (11 + 11) + 1 + (11 + 11 + 10)


def test_the_pipeline_fills_a_table_that_the_printed_sql_created(warehouse_url: str) -> None:
    of = every_type()
    execute(warehouse_url, printed("sql", [of]))
    before = catalog_of(warehouse_url)

    run_sync(RecordStream(live_run_config(of, adopt=True), ListSource([])), Warehouse(warehouse_url), run_id="run")

    assert catalog_of(warehouse_url) == before


def test_the_printed_classes_of_sqlalchemy_create_what_the_pipeline_creates(make_database: Callable[[], str]) -> None:
    ours, theirs = make_database(), make_database()
    create_by_pipeline(ours, collections())
    execute(theirs, 'create schema demo; create schema "Demo"')
    engine = create_engine(theirs.replace("postgresql:", "postgresql+psycopg:"))

    loaded(printed("sqlalchemy", collections())).create_all(engine)
    engine.dispose()

    assert catalog_of(theirs) == catalog_of(ours)


def test_alembic_finds_nothing_to_migrate_between_the_printed_classes_and_the_pipeline_s_tables(warehouse_url: str) -> None:
    create_by_pipeline(warehouse_url, collections())
    metadata = loaded(printed("sqlalchemy", collections()))
    engine = create_engine(warehouse_url.replace("postgresql:", "postgresql+psycopg:"))

    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_schemas": True, "include_name": lambda name, kind, _: kind != "schema" or name in ("demo", "Demo")},
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()

    assert differences == []


def test_a_row_of_the_pipeline_is_read_through_the_printed_class(warehouse_url: str) -> None:
    of = every_type()
    create_by_pipeline(warehouse_url, [of])
    execute(
        warehouse_url,
        "insert into demo.thing (id, updated_idx, deleted, inserted_at, updated_at, of_4, of_9, metadata, __dunder)"
        " values ('r1', 9007199254740993, false, now(), now(), 0.1, array['a', null], 'm', 'd')",
    )
    module = ModuleType("printed_models")
    exec(printed("sqlalchemy", [of]), module.__dict__)
    thing = module.__dict__["DemoThing"]
    engine = create_engine(warehouse_url.replace("postgresql:", "postgresql+psycopg:"))

    with Session(engine) as session:
        row = session.scalars(select(thing)).one()
    engine.dispose()

    assert (row.updated_idx, str(row.of_4), row.of_9, row.metadata_, row.dunder_) == (
        9007199254740993,
        "0.1",
        ["a", None],
        "m",
        "d",
    )


def test_relations_of_the_printed_classes_lead_to_the_rows_of_child_tables_and_back(warehouse_url: str) -> None:
    of = collections()[0]
    sync(warehouse_url, [record("r1", data=LISTS), record("r2", data=None)], of=of)
    module = ModuleType("printed_models")
    exec(printed("sqlalchemy", [of]), module.__dict__)
    engine = create_engine(warehouse_url.replace("postgresql:", "postgresql+psycopg:"))

    with Session(engine) as session:
        first, second = session.scalars(select(module.__dict__["DemoThing"]).order_by(module.__dict__["DemoThing"].id))
        line, label = first.line[0], first.label[0]
        told = (line.id, line.amount, [(str(tax.rate), tax.parent.parent.id) for tax in line.tax], label.value, label.parent.id)
        of_second = (second.line, second.label)
    engine.dispose()

    assert told == ("a", 7, [("0.2", "r1")], "1", "r1")
    assert of_second == ([], [])


@pytest.mark.parametrize("format_name", list(FORMATS))
def test_a_child_table_below_an_application_s_is_printed_by_itself(format_name: str) -> None:
    of = replace(
        with_children(collection()), unmanaged=UnmanagedTable({"id": "theirId", "updated_idx": "version", "data": "data"})
    )

    text = printed(format_name, [of])

    assert [str(table.name) for table in model_tables(of)] == ["demo.thing_line", "demo.thing_line_tax", "demo.thing_label"]
    assert ('"thing"' in text, '"thing_line"' in text) == (False, True)
    assert format_name in ("sql", "sqlalchemy") or "Each row belongs to the row of demo.thing with theirId = parent_id." in text


def test_a_relation_takes_no_name_that_a_column_has() -> None:
    line = ChildTable(
        "status", TableName("demo", "thing_status"), parse_path("lines"), columns=(Column("parent", parse_path("p"), "text"),)
    )
    of = replace(collection(), children=(line,))

    found = relations(model_tables(of), property_names, camel_case)

    assert {name: [one.name for one in of_table] for name, of_table in found.items()} == {
        "demo.thing": ["status2"],
        "demo.thing_status": ["parent2"],
    }


def test_names_that_become_equal_are_told_apart() -> None:
    tables = [model_table(each) for each in collections()]

    assert list(model_names(tables).values()) == ["DemoThing", "DemoThing2", "Demo2ndThing"]
    properties = property_names(tables[0])
    assert (properties["aB"], properties["a_b"]) == ("aB", "aB2")
    assert (properties["_1st"], properties["__dunder"]) == ("n1st", "dunder")
    assert len(set(properties.values())) == len(properties)


def test_a_number_behind_a_name_does_not_take_another_one_s() -> None:
    assert distinct([("x", "a"), ("y", "a"), ("z", "a2")]) == {"x": "a", "y": "a2", "z": "a22"}


@pytest.mark.parametrize("format_name", ["drizzle", "typeorm", "prisma"])
def test_a_comment_cannot_end_before_its_end(format_name: str) -> None:
    of_comments = [collections()[2]]

    text = printed(format_name, of_comments)

    shown = " ".join(AWKWARD_TEXT.split()).replace("*/", "*\\/")
    assert "\na second line" not in text
    assert text.count(f"/// {shown}\n" if format_name == "prisma" else f"/** {shown} */\n") == 2


@pytest.mark.parametrize(
    ("format_name", "kept", "rejected"),
    [
        pytest.param("prisma", "  // Prisma fails at a null within the array: declare the column", None, id="prisma"),
        pytest.param("typeorm", "  tags: (string | null)[] | null;", "  tags: string[] | null;", id="typeorm"),
    ],
)
def test_nulls_within_arrays_are_told_unless_they_are_rejected(format_name: str, kept: str, rejected: str | None) -> None:
    tags = Column("tags", parse_path("tags"), "text[]")
    of = replace(awkward_comments(), columns=(tags,), description="")

    taking = printed(format_name, [of])
    rejecting = printed(format_name, [replace(of, columns=(replace(tags, rejects_nulls=True),))])

    assert (kept in taking, kept in rejecting) == (True, False)
    assert rejected is None or rejected in rejecting


@pytest.mark.slow
def test_the_command_prints_the_collections_that_it_is_asked_for(tmp_path: Path, run_main: RunMain) -> None:
    attributes = (
        "  provider: demo\n  collections:\n    thing: {}\n    other: {}\n"
        "    theirs: {on_delete: remove, table: {name: app.Thing, managed: false, columns: {id: id}}}\n"
    )
    variables = write(tmp_path / "collections", demo=attributes)

    def run(*labels: str) -> Finished:
        return run_main("schema", "--format", "sql", *labels, folder=tmp_path, variables=variables)

    every, one, unknown, theirs = run(), run("demo/other"), run("demo/nothing"), run("demo/theirs")

    assert one.status == 0
    assert [line for line in one.stdout.splitlines() if line.startswith("create table")] == ['create table "demo"."other" (']
    assert unknown.status == 2
    assert unknown.stderr == "sequin-pipeline: no collection 'demo/nothing' is declared: did you mean 'demo/thing'?\n"
    assert (every.status, "Thing" in every.stdout) == (0, False)
    assert theirs.status == 2
    assert theirs.stderr == (
        "sequin-pipeline: table 'app.Thing' of 'demo/theirs' belongs to an application, which has the model of it: ask for collections "
        "whose tables the pipeline manages\n"
    )
