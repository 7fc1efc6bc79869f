"""What `sequin-pipeline schema` prints is the table that the pipeline made, by the judgement of the tools themselves."""

import json
import re
from pathlib import Path

import pytest

from sequin_pipeline.catalog import Collection
from sequin_pipeline.operate.models import FORMATS
from sequin_pipeline.operate.models.table import model_tables
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from tests.interop.apps import TSX, App
from tests.interop.conftest import MakeApp
from tests.operate.models.declared import LISTS, collections
from tests.support.builders import ListSource, live_run_config, record

TSC = ("node_modules/.bin/tsc", "--noEmit")
BIG = 9_007_199_254_740_993
"""The first whole number that a number of JavaScript cannot be."""


@pytest.fixture
def app_with_tables(request: pytest.FixtureRequest, make_app: MakeApp) -> App:
    """The application, in whose database the pipeline has made the tables, with a row in the first and in each of its child tables."""
    app = make_app(request.param)
    for number, of in enumerate(collections()):
        records = [] if number else [record("r1", BIG, data=LISTS, upstream_created_at="2024-01-02T03:04:05.678Z")]
        run_sync(
            RecordStream(live_run_config(of), ListSource([records] if records else [])),
            Warehouse(app.url),
            run_id=f"run-{number}",
        )
    return app


def write_models(app: App, file: str, of: tuple[Collection, ...] = (), *, head: str = "") -> None:
    (app.folder / file).write_text(
        head + FORMATS[app.name]([table for each in of or collections() for table in model_tables(each)])
    )


def run_script(app: App, *lines: str) -> object:
    (app.folder / "src" / "script.ts").write_text("\n".join(lines))
    return json.loads(app.run((*TSX, "src/script.ts"), time_zone="America/New_York"))


LINE = {"id": "a", "amount": "7", "rates": ["0.2"]}
LINES_SHOWN = (
    "row.line.map((line) => ({ id: line.id, amount: String(line.amount), rates: line.tax.map((tax) => String(tax.rate)) }))"
)
ROW = {"id": "r1", "updatedIdx": str(BIG), "deleted": False, "upstreamCreatedAt": "2024-01-02T03:04:05.678Z"}
SHOWN = "({ id: row.id, updatedIdx: String(row.updatedIdx), deleted: row.deleted, upstreamCreatedAt: row.upstreamCreatedAt })"


@pytest.mark.parametrize("app_with_tables", ["drizzle"], indirect=True)
def test_drizzle_finds_nothing_to_change_and_reads_the_row(app_with_tables: App) -> None:
    app = app_with_tables
    write_models(app, "src/schema.ts")
    for script in ("upsert.ts", "print.ts"):
        (app.folder / "src" / script).unlink()
    config = app.folder / "drizzle.config.ts"

    app.run(TSC)
    row = run_script(
        app,
        'import { drizzle } from "drizzle-orm/postgres-js";',
        'import { client } from "./database.js";',
        'import * as schema from "./schema.js";',
        "const database = drizzle({ client, schema });",
        "const rows = await database.query.demoThing.findMany({ with: { line: { with: { tax: true } } } });",
        "const [label] = await database.query.demoThingLabel.findMany({ with: { parent: true } });",
        f"const told = rows.map((row) => [{SHOWN}, ...{LINES_SHOWN}]);",
        "console.log(JSON.stringify([...told, [label!.value, label!.parent.id]]));",
        "await client.end();",
    )

    # drizzle-kit 0.31.11 reads the columns of a key in no order, and takes one of three columns for another one.
    exported = re.findall(r"export const (\w+)", (app.folder / "src" / "schema.ts").read_text())
    pushed = ", ".join(name for name in exported if "Tax" not in name and not name.endswith("Relations"))
    (app.folder / "src" / "pushed.ts").write_text(f'export {{ {pushed} }} from "./schema";\n')
    looked_at = 'schemaFilter: ["demo", "Demo"], tablesFilter: ["!thing_line_tax"]'
    settings = config.read_text().replace('schemaFilter: ["public"]', looked_at).replace("./src/schema.ts", "./src/pushed.ts")
    config.write_text(settings)
    app.check_migrated()
    assert row == [[ROW, LINE], ["1", "r1"]]


@pytest.mark.parametrize("app_with_tables", ["typeorm"], indirect=True)
def test_typeorm_leaves_the_tables_alone_and_reads_the_row(app_with_tables: App) -> None:
    """Made to look at them, it would only take away the one comment on a table, which its entity schemas cannot name."""
    app = app_with_tables
    write_models(app, "src/entity.ts")
    models = app.folder / "src" / "entity.ts"
    for script in ("upsert.ts", "print.ts"):
        (app.folder / "src" / script).unlink()
    database = app.folder / "src" / "database.ts"
    of_children = "DemoThingLineEntity, DemoThingLineTaxEntity, DemoThingLabelEntity"
    names = f"DemoThingEntity, {of_children}, DemoThing2Entity, Demo2ndThingEntity"
    database.write_text(database.read_text().replace("SubscriptionEntity", names))
    maybe = LINES_SHOWN.replace("row.line.", "row.line!.").replace("line.tax.", "line.tax!.")

    app.run(TSC)
    row = run_script(
        app,
        'import { database } from "./database.js";',
        'import { DemoThingEntity, DemoThingLabelEntity } from "./entity.js";',
        "await database.initialize();",
        "const rows = await database.getRepository(DemoThingEntity).find({ relations: { line: { tax: true } } });",
        "const [label] = await database.getRepository(DemoThingLabelEntity).find({ relations: { parent: true } });",
        f"const told = rows.map((row) => [{SHOWN}, ...{maybe}]);",
        "console.log(JSON.stringify([...told, [label!.value, label!.parent!.id]]));",
        "await database.destroy();",
    )

    app.check_migrated()
    models.write_text(models.read_text().replace("synchronize: false", "synchronize: true"))
    said = [line for line in app.run(app.commands.check).splitlines() if not line.startswith('COMMENT ON TABLE "demo"."thing_')]
    assert said == ['COMMENT ON TABLE "Demo"."2nd-thing" IS NULL']
    assert row == [[ROW, LINE], ["1", "r1"]]


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
        "const rows = await prisma.demoThing.findMany({ include: { line: { include: { tax: true } } } });",
        "const [tax] = await prisma.demoThingLineTax.findMany({ include: { parent: { include: { parent: true } } } });",
        f"const told = rows.map((row) => [{SHOWN}, ...{LINES_SHOWN}]);",
        "console.log(JSON.stringify([...told, [tax!.parent.id, tax!.parent.parent.id]]));",
        "await prisma.$disconnect();",
    )

    assert app.commands.unchanged in said
    assert row == [[ROW, LINE], ["a", "r1"]]
