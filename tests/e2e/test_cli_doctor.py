"""`sequin-pipeline doctor`: each thing that can be wrong is told with its fix, and nothing is changed by looking."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sequin_pipeline.operate.doctor.finding import Finding, clock_finding
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import TOKEN, Command, MakeProject, Project
from tests.runs.test_delete_limit import BEFORE_HELD_DELETES
from tests.support.builders import COLUMNS, collection, live_stream, record
from tests.support.encodings import encoded_database
from tests.support.postgres import PostgresServer

DECLARED = "  provider: demo\n  collections:\n    thing:\n      columns: {amount: {path: amount, type: bigint}}\n"
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def api() -> Iterator[str]:
    with running_sandbox(RecordedFeed([json.dumps(record("a", 1)).encode()], is_compacted=True), Settings(token=TOKEN)) as url:
        yield url


@dataclass(frozen=True)
class Examined:
    status: int
    findings: list[dict[str, str]]
    printed: str

    def told(self, check: str, *levels: str) -> list[str]:
        return [
            f["said"] for f in self.findings if f["check"] == check and f["level"] in (levels or ("ok", "warning", "problem"))
        ]

    @property
    def problems(self) -> list[tuple[str, str]]:
        return [(finding["check"], finding["fix"]) for finding in self.findings if finding["level"] == "problem"]


def examine(command: Command, project: Project) -> Examined:
    done = command(project, "doctor", "--json")
    return Examined(done.status, json.loads(done.stdout), done.stdout + done.stderr)


def objects(project: Project) -> list[tuple[object, ...]]:
    return project.query("select count(*), md5(string_agg(c::text, ',' order by c::text)) from pg_class c")


def test_a_project_in_good_health_is_left_as_it_is(api: str, make_project: MakeProject, command: Command) -> None:
    project = make_project(api).declare(demo=DECLARED)
    before = objects(project)

    done = command(project, "doctor")
    found = examine(command, project)

    assert (done.status, found.status, found.problems) == (0, 0, [])
    assert done.stdout.splitlines()[0] == "ok       definitions      1 collections are declared"
    assert done.stdout.splitlines()[-1].startswith("no problems, ")
    assert found.told("ledger") == ["none yet: the first run creates schema sequin_pipeline"]
    assert found.told("tables") == ["1 to be created"]
    assert found.told("database clock") == found.told("API clock") == ["within 5 s of ours"]
    assert found.told("Dagster storage")[0].startswith("connected as postgres@")
    assert found.told("collections") == ["1 are declared, and offered by the API"]
    assert objects(project) == before
    assert TOKEN not in done.stdout + done.stderr + found.printed


def test_a_table_that_a_run_would_change_is_told(api: str, make_project: MakeProject, command: Command) -> None:
    project = make_project(api).declare(demo=DECLARED.replace("bigint}", "bigint}, status: {path: status, type: text}"))
    run_sync(
        live_stream(replace(collection(), columns=COLUMNS[1:]), [record("a", 1)]), Warehouse(project.warehouse_url), run_id="1"
    )
    project.execute(f"update sequin_pipeline.tables set source_kind = 'sequin', base_url = '{api}'")

    found = examine(command, project)

    assert (found.status, found.told("tables")) == (0, ["1 to be changed"])


@pytest.mark.parametrize(
    ("token", "said"),
    [
        pytest.param("wrong", "401", id="refused"),
        pytest.param("", "SEQUIN_API_TOKEN is not set", id="not set"),
    ],
)
def test_a_token_that_is_not_taken_is_a_problem(
    api: str, make_project: MakeProject, command: Command, token: str, said: str
) -> None:
    project = make_project(api).declare(demo=DECLARED)
    project.variables["SEQUIN_API_TOKEN"] = token

    found = examine(command, project)

    assert found.status == 1
    assert [check for check, _ in found.problems] == ["records API"]
    assert said in found.told("records API")[0]


def test_servers_that_do_not_answer_are_told_each_and_the_rest_is_looked_at(
    make_project: MakeProject, command: Command, tmp_path: Path
) -> None:
    project = replace(
        make_project("http://127.0.0.1:9"),
        warehouse_url=f"postgresql://someone:s3cret@/x?host={tmp_path}",
        dagster_url=f"postgresql://someone:s3cret@/y?host={tmp_path}",
    ).declare(demo=DECLARED)

    found = examine(command, project)

    assert found.status == 1
    assert found.problems == [
        ("warehouse", "fix WAREHOUSE_URL, or start the server that it names"),
        ("Dagster storage", "fix DAGSTER_POSTGRES_URL, or start the server that it names"),
        ("records API", "start it, or fix SEQUIN_API_URL"),
    ]
    assert found.told("versions") != []
    assert "s3cret" not in found.printed


def test_each_right_that_lacks_comes_with_the_grant_that_fixes_it(api: str, make_project: MakeProject, command: Command) -> None:
    project = make_project(api).declare(demo=DECLARED)
    database = project.query("select current_database()")[0][0]
    role = f"poor_{database}"
    project.execute(
        f"create role {role} login",
        f"revoke all on database {database} from public",
        f"grant connect on database {database} to {role}",
        "create schema demo",
    )
    poor = replace(project, warehouse_url=project.warehouse_url.replace("postgres@", f"{role}@"))
    try:
        found = examine(command, poor)
        fixes = [fix for check, fix in found.problems if check == "rights"]
        project.execute(*fixes)
        fixed = examine(command, poor)
        run_sync(
            live_stream(replace(collection(), columns=COLUMNS[1:]), [record("a", 1)]),
            Warehouse(project.warehouse_url),
            run_id="1",
        )
        project.execute(
            f"update sequin_pipeline.tables set source_kind = 'sequin', base_url = '{api}'",
            f"revoke create on database {database} from {role}",
            f"revoke create on schema demo from {role}",
            f"grant usage on schema sequin_pipeline to {role}",
            f"grant select, insert, update, delete on all tables in schema demo, sequin_pipeline to {role}",
        )
        least = examine(command, poor)
    finally:
        project.execute(f"drop owned by {role}", f"drop role {role}")

    assert fixes == [
        f'grant temporary on database "{database}" to "{role}"',
        f'grant create on database "{database}" to "{role}"',
        f'grant usage, create on schema "demo" to "{role}"',
    ]
    assert (fixed.status, fixed.problems) == (least.status, least.problems) == (0, [])


def test_a_ledger_of_a_newer_pipeline_and_a_table_of_somebody_else_are_problems(
    api: str, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api).declare(demo=DECLARED)
    run_sync(
        live_stream(replace(collection(), columns=COLUMNS[1:]), [record("a", 1)]), Warehouse(project.warehouse_url), run_id="1"
    )
    project.execute("update sequin_pipeline.ledger set version = 999", "delete from sequin_pipeline.tables")

    found = examine(command, project)

    assert [check for check, _ in found.problems] == ["ledger", "tables"]
    assert found.told("ledger")[0].startswith("version 999 was written by a newer pipeline")
    assert "exists already, and this pipeline did not create it" in found.told("tables", "problem")[0]


def test_a_declaration_at_fault_is_one_line_with_its_place(api: str, make_project: MakeProject, command: Command) -> None:
    project = make_project(api).declare(demo="  provider: demo\n  collections:\n    thing: {colums: {}}\n")

    done = command(project, "doctor")

    (line, _, _, summary) = done.stdout.splitlines()
    assert (done.status, summary) == (1, "1 problem, no warnings")
    assert line.startswith("problem  configuration    ")
    assert f"{project.folder}/collections/demo/defs.yaml:5: " in line


def test_collections_that_only_one_side_knows_are_warnings(api: str, make_project: MakeProject, command: Command) -> None:
    project = make_project(api).declare(demo="  provider: demo\n  collections: {part: }\n")

    found = examine(command, project)

    assert (found.status, found.told("collections", "warning")) == (
        0,
        ["declared, and offered by no sync: demo:part", "offered, and not declared: demo:thing"],
    )


@pytest.mark.parametrize(
    ("skew_seconds", "finding"),
    [
        pytest.param(5, Finding("clock", "ok", "within 5 s of ours"), id="within"),
        pytest.param(
            -90,
            Finding(
                "clock",
                "warning",
                "90 s behind ours: ages and lags are wrong by that much",
                "set both machines by the same time server (NTP)",
            ),
            id="behind",
        ),
    ],
)
def test_clocks_apart_are_a_warning(skew_seconds: int, finding: Finding) -> None:
    assert clock_finding("clock", NOW + timedelta(seconds=skew_seconds), NOW) == finding


def test_wrong_usage_exits_with_2(make_project: MakeProject, command: Command) -> None:
    done = command(make_project("http://127.0.0.1:9"), "doctor", "everything")

    assert (done.status, done.stdout) == (2, "")
    assert "Got unexpected extra argument (everything)" in done.stderr


@pytest.mark.parametrize("name", ["doctor", "sync", "plan"])
def test_a_database_of_encoding_sql_ascii_is_refused_in_words(
    api: str, make_project: MakeProject, command: Command, postgres_server: PostgresServer, name: str
) -> None:
    with encoded_database(postgres_server, "SQL_ASCII") as url:
        project = replace(make_project(api), warehouse_url=url).declare(demo=DECLARED)

        done = command(project, name)

        assert project.query("select count(*) from pg_namespace where nspname in ('demo', 'sequin_pipeline')") == [(0,)]
    assert done.status == (1 if name == "doctor" else 2)
    assert "has the encoding SQL_ASCII, under which Postgres neither checks nor converts text" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


CHILDREN = """  provider: demo
  collections:
    thing:
      children:
        line: {path: lines, key: [id]}
        tax: {path: taxes, table: {name: app.Tax, managed: false, columns: {parent_id: thing, position: place}}}
"""


def test_a_new_version_of_the_package_tells_what_the_next_run_would_do_to_child_tables(
    api: str, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api).declare(demo=CHILDREN)
    project.execute('create schema app; create table app."Tax" (thing text, place int, primary key (thing, place))')
    before = command(project, "plan")
    assert command(project, "sync").status == 0
    project.execute(BEFORE_HELD_DELETES)

    found, planned = examine(command, project), command(project, "plan")

    assert "child table demo.thing_line, which would be created: no rows of it change" in before.stdout
    assert (found.problems, found.told("tables")) == ([], ["3 ready"])
    assert [told.partition(":")[0] for told in found.told("ledger")] == ["version 6"]
    assert "child table app.Tax: no rows of it change" in planned.stdout
