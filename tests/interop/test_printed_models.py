"""What `sequin-pipeline schema` prints is the table that the pipeline made, by the judgement of the tools themselves."""

import json
from pathlib import Path

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import model_table
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from tests.interop.apps import TSX, App
from tests.interop.conftest import MakeApp
from tests.operate.models.declared import collections
from tests.support.builders import ListSource, live_run_config, record

TSC = ("node_modules/.bin/tsc", "--noEmit")
BIG = 9_007_199_254_740_993
"""The first whole number that a number of JavaScript cannot be."""


@pytest.fixture
def app_with_tables(request: pytest.FixtureRequest, make_app: MakeApp) -> App:
    """The application, in whose database the pipeline has made the tables, with a row in the first."""
    app = make_app(request.param)
    for number, of in enumerate(collections()):
        records = [] if number else [record("r1", BIG, data={"x": None}, upstream_created_at="2024-01-02T03:04:05.678Z")]
        run_sync(
            RecordStream(live_run_config(of), ListSource([records] if records else [])),
            Warehouse(app.url),
            run_id=f"run-{number}",
        )
    return app


def write_models(app: App, file: str, of: tuple[Collection, ...] = (), *, head: str = "") -> None:
    (app.folder / file).write_text(head + FORMATS[app.name]([model_table(each) for each in of or collections()]))


def run_script(app: App, *lines: str) -> object:
    (app.folder / "src" / "script.ts").write_text("\n".join(lines))
    return json.loads(app.run((*TSX, "src/script.ts"), time_zone="America/New_York"))


ROW = {"id": "r1", "updatedIdx": str(BIG), "deleted": False, "upstreamCreatedAt": "2024-01-02T03:04:05.678Z"}
SHOWN = "({ id: row.id, updatedIdx: String(row.updatedIdx), deleted: row.deleted, upstreamCreatedAt: row.upstreamCreatedAt })"


@pytest.mark.parametrize("app_with_tables", ["drizzle"], indirect=True)
def test_drizzle_finds_nothing_to_change_and_reads_the_row(app_with_tables: App) -> None:
    app = app_with_tables
    write_models(app, "src/schema.ts")
    for script in ("upsert.ts", "print.ts"):
        (app.folder / "src" / script).unlink()
    config = app.folder / "drizzle.config.ts"
    config.write_text(config.read_text().replace('schemaFilter: ["public"]', 'schemaFilter: ["demo", "Demo"]'))

    app.run(TSC)
    row = run_script(
        app,
        'import { client, database } from "./database.js";',
        'import { demoThing } from "./schema.js";',
        f"console.log(JSON.stringify((await database.select().from(demoThing)).map((row) => {SHOWN})));",
        "await client.end();",
    )

    app.check_migrated()
    assert row == [ROW]


@pytest.mark.parametrize("app_with_tables", ["typeorm"], indirect=True)
def test_typeorm_leaves_the_tables_alone_and_reads_the_row(app_with_tables: App) -> None:
    """Made to look at them, it would only take away the one comment on a table, which its entity schemas cannot name."""
    app = app_with_tables
    write_models(app, "src/entity.ts")
    models = app.folder / "src" / "entity.ts"
    for script in ("upsert.ts", "print.ts"):
        (app.folder / "src" / script).unlink()
    database = app.folder / "src" / "database.ts"
    names = "DemoThingEntity, DemoThing2Entity, Demo2ndThingEntity"
    database.write_text(database.read_text().replace("SubscriptionEntity", names))

    app.run(TSC)
    row = run_script(
        app,
        'import { database } from "./database.js";',
        'import { DemoThingEntity } from "./entity.js";',
        "await database.initialize();",
        f"console.log(JSON.stringify((await database.getRepository(DemoThingEntity).find()).map((row) => {SHOWN})));",
        "await database.destroy();",
    )

    app.check_migrated()
    models.write_text(models.read_text().replace("synchronize: false", "synchronize: true"))
    assert app.run(app.commands.check) == 'COMMENT ON TABLE "Demo"."2nd-thing" IS NULL\n'
    assert row == [ROW]


@pytest.mark.parametrize("app_with_tables", ["prisma"], indirect=True)
def test_prisma_finds_nothing_to_change_and_reads_the_row(app_with_tables: App) -> None:
    app = app_with_tables
    schema = Path("prisma/schema.prisma")
    head = (app.folder / schema).read_text().partition("model ")[0]
    write_models(app, str(schema), head=head.replace('env("DATABASE_URL")', 'env("DATABASE_URL")\n  schemas  = ["demo", "Demo"]'))
    for script in ("upsert.ts", "print.ts"):
        (app.folder / "src" / script).unlink()

    said = app.run(app.commands.migrate)
    app.run(TSC)
    row = run_script(
        app,
        'import { prisma } from "./database.js";',
        f"console.log(JSON.stringify((await prisma.demoThing.findMany()).map((row) => {SHOWN})));",
        "await prisma.$disconnect();",
    )

    assert app.commands.unchanged in said
    assert row == [ROW]
