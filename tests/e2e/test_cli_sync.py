"""`sequin-pipeline sync` and `status` against real servers: what they print, how they exit, what they refuse.

Most tests call the console script's own function in this process, which saves the start of one; what only a process shows (streams
while it runs, all that it leaves behind) is seen on a real one.
"""

import json
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from urllib.parse import urlsplit

import psycopg
import pytest

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import THIS_MONTH, TOKEN, Command, MakeProject, Project, SandboxControls, killed_at_the_end
from tests.support.builders import record
from tests.support.waits import PATIENCE_SECONDS, wait_until

HEAD = f"""\
  provider: demo
  windows: {{every: month, start: {THIS_MONTH}}}
"""
TWO_COLLECTIONS = (
    HEAD
    + """\
  collections:
    thing:
      columns:
        amount: {path: amount, type: bigint}
    part: {}
"""
)


def lines(*records: dict[str, object]) -> list[bytes]:
    return [json.dumps(each).encode() for each in records]


THINGS = lines(
    record("t1", 1), record("t2", 2), record("t1", 3), record("t3", 4, sync={"id": "s2", "external_id": None, "metadata": {}})
)
"""Three things of two syncs, one of them twice."""
BAD_THING = lines(record("t9", 9, data={"amount": "a dozen"}))


@pytest.fixture
def api() -> Iterator[SandboxControls]:
    """A stream that keeps every version, behind the project's token."""
    with running_sandbox(RecordedFeed(THINGS, is_compacted=False), Settings(token=TOKEN)) as url:
        yield SandboxControls(url)


NO_PARTS = (
    "\ndemo/part: the source offers no collection 'demo:part', so that no record of it can come: fix its name in the defs.yaml, or "
    "have it synced there\n"
)


def row_versions(project: Project) -> list[tuple[object, ...]]:
    return project.query("select id, ctid::text, xmin::text, xmax::text, updated_at from demo.thing order by id")


def relations(project: Project) -> list[tuple[object, ...]]:
    """Every table of the warehouse but the ledger's."""
    return project.query(
        "select schemaname || '.' || tablename from pg_tables"
        " where schemaname not in ('pg_catalog', 'information_schema', 'sequin_pipeline') order by 1"
    )


def test_a_sync_prints_what_landed_and_a_second_one_writes_nothing(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)

    first = command(project, "sync")
    before = row_versions(project)
    second = command(project, "sync")
    status = command(project, "status", "--verbose")

    assert (first.status, second.status, status.status) == (0, 0, 0)
    assert [NO_PARTS in said for said in (first.stderr, second.stderr, status.stdout)] == [True, True, True]
    assert "demo/thing: the source offers no collection" not in first.stderr + second.stderr + status.stdout
    heading, *rows = (line.split() for line in first.stdout.splitlines()[:3])
    assert " ".join(heading) == "collection table inserted updated deleted unchanged stale duplicate rejected rows seconds"
    assert [" ".join(row[:-1]) for row in rows] == [
        "demo/thing demo.thing 3 0 0 0 0 1 0 3",
        "demo/part demo.part 0 0 0 0 0 0 0 0",
    ]
    assert "3 rows written from 4 records.\n" in first.stdout
    assert "Nothing new: nothing was written.\n" in second.stdout
    assert row_versions(project) == before
    assert [line.split()[:4] for line in status.stdout.splitlines()[1:3]] == [
        ["demo/thing", "demo.thing", "3", "NA"],
        ["demo/part", "demo.part", "0", "none"],
    ]


def test_what_is_asked_again_is_told_once_while_the_sync_goes_on(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    api.set_faults("status:503,at=1,collection=demo:thing")

    ended = command(project, "sync")

    assert ended.status == 0
    [told] = [line for line in ended.stderr.splitlines() if "attempt" in line]
    assert told.startswith(
        "reading demo:thing from the start: attempt 1 failed with status 503 (Service Unavailable), saying "
        '\'{"summary":"Service Unavailable"}\'; retrying in '
    )


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        pytest.param("status:404,path=/v1/syncs", "", id="cannot say"),
        pytest.param(
            "status:403,path=/v1/syncs",
            "\nWhat 'sequin' offers could not be found out: reading which collections there are from ",
            id="will not say",
        ),
    ],
)
def test_a_source_that_does_not_say_what_it_offers_fails_nothing(
    api: SandboxControls, make_project: MakeProject, command: Command, fault: str, told: str
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    api.set_faults(fault)

    ended = command(project, "sync", "--json")

    assert ended.status == 0
    assert [one["collection"] for one in json.loads(ended.stdout)] == ["demo/thing", "demo/part"]
    assert (told in ended.stderr, "offers" in ended.stderr) == (True, bool(told))


def test_a_sync_with_rejects_exits_with_3_and_its_json_says_so(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    api.append(BAD_THING)

    ended = command(project, "sync", "--json")

    things, parts = json.loads(ended.stdout)
    assert ended.status == 3
    assert {name: things[name] for name in ("collection", "table", "rows", "failure")} == {
        "collection": "demo/thing",
        "table": "demo.thing",
        "rows": 3,
        "failure": None,
    }
    assert things["counts"] == {
        "fetched": 5,
        "inserted": 3,
        "updated": 0,
        "deleted": 0,
        "unchanged": 0,
        "stale": 0,
        "duplicate": 1,
        "rejected": 1,
        "created": 3,
        "removed": 0,
        "rewritten": 0,
        "forgotten": 0,
    }
    assert parts["counts"]["fetched"] == 0


def test_a_collection_that_fails_exits_with_1_and_stops_no_other(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    api.append(lines(record("p1", collection_id="demo:part", updated_idx="first")))

    ended = command(project, "sync")

    assert ended.status == 1
    assert (
        "demo/part failed: 1 of 1 records of 'demo/part' were rejected, everything good has been committed; one of them is 'p1'"
        in (ended.stderr)
    )
    assert project.query("select count(*)::int from demo.thing") == [(3,)]


def test_options_narrow_what_is_read(api: SandboxControls, make_project: MakeProject, command: Command) -> None:
    project = make_project(api.url).declare(
        demo=TWO_COLLECTIONS, other=HEAD.replace("demo", "other") + "  collections: {gadget: {}}\n"
    )

    one_sync = command(project, "sync", "--collection", "demo/thing", "--sync-id", "s2", "--json")
    cursors_after_one_sync = project.query("select count(*)::int from sequin_pipeline.cursors")
    by_provider = command(project, "sync", "--provider", "other", "--json")
    by_label = command(project, "sync", "--collection", "demo/thing", "--json")
    refreshed = command(project, "sync", "--collection", "demo/thing", "--full-refresh")

    assert [(each["collection"], each["counts"]["fetched"]) for each in json.loads(one_sync.stdout)] == [("demo/thing", 1)]
    assert cursors_after_one_sync == [(0,)]
    assert [each["collection"] for each in json.loads(by_provider.stdout)] == ["other/gadget"]
    (things,) = json.loads(by_label.stdout)
    assert (things["counts"]["fetched"], things["counts"]["unchanged"], things["rows"]) == (4, 1, 3)
    assert "Nothing was written: 4 records fetched, all known.\n" in refreshed.stdout
    assert [query.get("sync_id") for query in api.page_requests()] == ["s2", "s2", None, None, None, None, None]
    assert refreshed.status == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(
            ["--provider", "shopify"], "no provider 'shopify' is declared: there are demo", id="provider that is not declared"
        ),
        pytest.param(
            ["--collection", "demo/thin"],
            "no collection 'demo/thin' is declared: did you mean 'demo/thing'?",
            id="collection that is not declared",
        ),
        pytest.param(
            ["--sync-id", "s1", "--full-refresh"],
            "--sync-id and --full-refresh exclude each other: a read of one sync moves no cursor",
            id="one sync and everything",
        ),
    ],
)
def test_wrong_usage_exits_with_2_before_anything_is_read(
    api: SandboxControls, make_project: MakeProject, command: Command, arguments: list[str], message: str
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)

    ended = command(project, "sync", *arguments)

    assert (ended.status, ended.stdout, ended.stderr) == (2, "", f"sequin-pipeline: {message}\n")
    assert (api.arrived(), relations(project)) == (0, [])


@pytest.mark.parametrize(
    ("collections", "message"),
    [
        pytest.param(
            "  collections:\n    thing:\n      columns:\n        n: {path: n, type: int8}\n",
            "defs.yaml:8: attributes.collections.thing.columns.n.type: Input should be 'text', 'boolean', 'integer', 'bigint'",
            id="unknown type",
        ),
        pytest.param(
            "  collections:\n    thing: {}\n    item:\n      table: {name: demo.thing}\n",
            "'demo/item' would both land in table 'demo.thing': name another table for one of them with `table: {name: schema.table}`",
            id="two collections on one table",
        ),
    ],
)
def test_a_declaration_at_fault_exits_with_2_and_names_its_line(
    api: SandboxControls, make_project: MakeProject, command: Command, collections: str, message: str
) -> None:
    project = make_project(api.url).declare(demo=HEAD + collections)

    ended = command(project, "sync")

    assert (ended.status, ended.stdout) == (2, "")
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (api.arrived(), relations(project)) == (0, [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            {"api_url": ""},
            "would come from the sandbox: set SEQUIN_API_URL, unset WAREHOUSE_URL, or pass --sandbox to put them there",
            id="made-up records for the user's own database",
        ),
        pytest.param(
            {"warehouse_url": "mysql://me:s3cret@db/app"},
            "WAREHOUSE_URL should be a URL as in postgresql://user:password@host:5432/database",
            id="a warehouse that is no Postgres",
        ),
        pytest.param(
            {"warehouse_url": "postgresql://me:s3cret@[db/app"},
            "sequin-pipeline: WAREHOUSE_URL is not understood",
            id="a warehouse URL that libpq does not take",
        ),
        pytest.param(
            {"variables": {"SEQUIN_API_TOKEN": ""}},
            "SEQUIN_API_URL is set, but SEQUIN_API_TOKEN is not: set it to the token of the records API",
            id="no token",
        ),
    ],
)
def test_an_environment_at_fault_exits_with_2_and_shows_no_secret(
    api: SandboxControls, make_project: MakeProject, command: Command, overrides: dict[str, object], message: str
) -> None:
    project = make_project(api.url)

    ended = command(replace(project, **overrides), "sync")  # type: ignore[arg-type]  # of the fields' types

    assert ended.status == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "s3cret" not in ended.stderr
    assert (api.arrived(), relations(project)) == (0, [])


def test_a_wrong_token_or_address_fails_the_collections_and_writes_no_row(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)

    refused = command(replace(project, variables={**project.variables, "SEQUIN_API_TOKEN": "tok-wrong"}), "sync")
    lost = command(replace(project, api_url=f"{api.url}/api"), "sync", "--adopt", "--collection", "demo/thing")

    assert (refused.status, lost.status) == (1, 1)
    assert f"demo/thing failed: reading demo:thing from the start from {api.url}: status 401" in refused.stderr
    assert "SEQUIN_API_TOKEN" in refused.stderr
    assert f"demo/thing failed: reading demo:thing from the start from {api.url}/api: status 404" in lost.stderr
    assert "SEQUIN_API_URL" in lost.stderr
    assert "tok-wrong" not in refused.stderr + refused.stdout
    assert project.query("select count(*)::int from demo.thing") == [(0,)]


@pytest.mark.parametrize("name", ["sync", "status"])
def test_a_warehouse_that_does_not_answer_is_told_at_once_and_without_its_password(
    api: SandboxControls, make_project: MakeProject, command: Command, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    elsewhere = replace(project, warehouse_url=f"postgresql://me:s3cret@127.0.0.1:{port}/records")

    ended = command(elsewhere, name)

    assert ended.status == 1
    assert f"sequin-pipeline: while connecting to me@127.0.0.1:{port}/records, Postgres said" in ended.stderr
    assert "Connection refused" in ended.stderr
    assert ended.stderr.endswith("this may be temporary: run again. If your Postgres is elsewhere, fix WAREHOUSE_URL\n")
    assert "s3cret" not in ended.stderr
    assert "attempt 1 of" not in caplog.text
    assert api.arrived() == 0


@pytest.mark.parametrize("name", ["sync", "ui"])
@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        pytest.param(
            ("//postgres@", "//nobody_known:s3cret@"), 2, "fix DAGSTER_POSTGRES_URL, or allow this role to connect", id="role"
        ),
        pytest.param(
            ("port=5432", "port=1"), 1, "If the Postgres of Dagster's runs is elsewhere, fix DAGSTER_POSTGRES_URL", id="port"
        ),
        pytest.param(
            ("port=5432", "port=5432&schema=public&connection_limit=5"), 2, "'schema', 'connection_limit'", id="parameters"
        ),
    ],
)
def test_a_bad_url_of_dagster_s_storage_is_one_sentence_at_once(
    api: SandboxControls, make_project: MakeProject, command: Command, name: str, change: tuple[str, str], status: int, told: str
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    bad = replace(project, dagster_url=project.dagster_url.replace(*change))

    ended = command(bad, name)

    assert ended.status == status
    assert told in ended.stderr.splitlines()[-1]
    assert ended.stderr.count("sequin-pipeline: ") == 1
    assert "Traceback" not in ended.stderr
    assert "s3cret" not in ended.stderr
    assert api.arrived() == 0


@pytest.mark.parametrize("name", ["sync", "status"])
def test_a_warehouse_that_does_not_let_us_in_is_told_at_once_as_wrong_usage(
    api: SandboxControls, make_project: MakeProject, command: Command, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    stranger = replace(project, warehouse_url=project.warehouse_url.replace("//postgres@", "//nobody_known:s3cret@"))

    ended = command(stranger, name)

    assert ended.status == 2
    assert 'FATAL:  role "nobody_known" does not exist\': fix WAREHOUSE_URL, or allow this role to connect\n' in ended.stderr
    assert "s3cret" not in ended.stderr
    assert "attempt 1 of" not in caplog.text
    assert api.arrived() == 0


def test_an_address_where_nobody_is_is_told_before_any_run_begins(make_project: MakeProject, command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed_soon:
        port = closed_soon.getsockname()[1]
    project = make_project(f"http://127.0.0.1:{port}").declare(demo=TWO_COLLECTIONS)

    ended = command(project, "sync")

    assert ended.status == 1
    assert (
        f"nothing answers at 127.0.0.1:{port}, where SEQUIN_API_URL says that the records API is (Connection refused): "
        in ended.stderr
    )
    assert relations(project) == []


def test_an_interrupt_ends_the_command_at_once_and_the_next_one_goes_on(api: SandboxControls, make_project: MakeProject) -> None:
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    api.set_faults("slow:60000,at=1")

    with killed_at_the_end(project.start("sync", "--collection", "demo/thing")) as process:
        wait_until(lambda: api.arrived() or process.poll() is not None, "the first request")
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    api.set_faults()
    again = project.run("sync", "--collection", "demo/thing")

    assert process.returncode == 130
    assert "Interrupted. What has been committed stays; the next run continues after it.\n" in stderr
    assert again.returncode == 0, again.stderr
    assert project.query("select count(*)::int from demo.thing") == [(3,)]


def test_a_table_of_another_server_is_refused_until_it_is_adopted(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=HEAD + "  collections: {thing: {}}\n")
    command(project, "sync")
    before = row_versions(project)
    with running_sandbox(RecordedFeed(lines(record("t7", 7))), Settings(token=TOKEN)) as other_url:
        other = replace(project, api_url=other_url)

        refused = command(other, "sync")
        requests_when_refused = SandboxControls(other_url).arrived()
        rows_when_refused = row_versions(project)
        adopted = command(other, "sync", "--adopt")
        alone = command(other, "sync", "--others", "mark")
        marked = command(other, "sync", "--full-refresh", "--others", "mark")

    assert refused.status == 1
    assert f"has been filled from sequin {api.url}, and this run would read sequin {other_url}" in refused.stderr
    assert (requests_when_refused, rows_when_refused) == (0, before)
    assert adopted.status == 0
    assert (
        f"demo/thing: sequin {other_url} does not have 3 rows of table 'demo.thing', which was filled from sequin {api.url} before: "
        "they stay as they are. To have them marked as deleted: `sequin-pipeline sync --collection demo/thing --full-refresh --others mark`"
    ) in adopted.stderr
    assert (alone.status, "--others mark needs --adopt or --full-refresh" in alone.stderr) == (2, True)
    assert (marked.status, ": 3 marked as deleted" in marked.stderr) == (0, True)
    assert project.query("select id, deleted from demo.thing order by id") == [
        ("t1", True),
        ("t2", True),
        ("t3", True),
        ("t7", False),
    ]


def test_tables_that_cannot_take_the_records_are_refused_unchanged(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(
        demo=HEAD
        + """\
  collections:
    thing: {}
    keyless: {}
    typed:
      columns: {amount: {path: amount, type: bigint}}
    closed: {table: {name: closed.thing}}
"""
    )
    role = f"limited_{urlsplit(project.warehouse_url).path[1:]}"
    project.execute(
        f"create role {role} login",
        f"grant create on database {urlsplit(project.warehouse_url).path[1:]} to {role}",
        f"create schema demo authorization {role}",
        "create schema closed",
        f"grant usage on schema closed to {role}",
        f"set role {role}; create table demo.thing (id text primary key); create table demo.keyless (number int);"
        " create table demo.typed (id text primary key, amount text)",
    )
    limited = replace(project, warehouse_url=project.warehouse_url.replace("postgres@", f"{role}@"))

    ended = command(limited, "sync")
    adopted = command(limited, "sync", "--adopt", "--collection", "demo/keyless", "--collection", "demo/typed")

    assert (ended.status, adopted.status) == (1, 1)
    assert (
        "table 'demo.thing' of 'demo/thing' exists already, and this pipeline did not create it: name another table"
        in ended.stderr
    )
    assert "preparing table 'closed.thing' of 'demo/closed', Postgres said 'permission denied for schema closed'" in ended.stderr
    assert "table 'demo.keyless' of 'demo/keyless' has no column 'id', which is its key" in adopted.stderr
    assert (
        "column 'amount' of table 'demo.typed' is of type 'text', and 'demo/typed' declares 'bigint': declare the type that is there, or "
        'run `alter table "demo"."typed" alter column "amount" type bigint using "amount"::bigint`'
    ) in adopted.stderr
    assert api.arrived() == 0
    assert project.query(
        "select table_name, column_name from information_schema.columns where table_schema = 'demo' order by 1, 2"
    ) == [
        ("keyless", "number"),
        ("thing", "id"),
        ("typed", "amount"),
        ("typed", "id"),
    ]
    project.execute(f"drop owned by {role}", f"drop role {role}")


CLOSED_VAULT = """
import dagster as dg

from sequin_pipeline.resources import WarehouseResource


class VaultedWarehouse(WarehouseResource):
    def setup_for_execution(self, context):
        raise PermissionError("the vault is closed")


defs = dg.Definitions(resources={"sequin_warehouse": VaultedWarehouse()})
"""


def test_a_run_that_fails_before_its_steps_fails_every_collection(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    """Here a resource of the project's own does not come up. It was shown as a sync with nothing to write."""
    project = make_project(api.url).declare(demo=TWO_COLLECTIONS)
    (project.folder / "collections" / "warehouse.py").write_text(CLOSED_VAULT)

    ended = command(project, "sync")

    assert ended.status == 1
    assert "demo/thing failed: PermissionError: the vault is closed" in ended.stderr
    assert "demo/part failed: PermissionError: the vault is closed" in ended.stderr


STRANGE_NAMES = [
    "gcSyR6LfxbXo7iART4m1vcLu",
    "GCSYR6LFXBXO7IART4M1VCLU",
    "billing_portal.session",
    "issuing.card.v2",
    "Select",
    "order",
    "2024_archive",
    "with-dash",
    "_private",
    "x" * 80,
    "x" * 79 + "y",
    *(f"tbl{number:014}" for number in range(9)),
]


def test_collections_that_were_never_heard_of_land_with_an_empty_declaration(make_project: MakeProject, command: Command) -> None:
    served = lines(
        *(record(f"a{place}", collection_id=f"airtable:{name}", provider="airtable") for place, name in enumerate(STRANGE_NAMES))
    )
    declared = "".join(f"    {json.dumps(name, ensure_ascii=False)}: {{}}\n" for name in STRANGE_NAMES)
    with running_sandbox(RecordedFeed(served)) as url:
        project = make_project(url).declare(airtable=HEAD.replace("demo", "airtable") + "  collections:\n" + declared)

        ended = command(project, "sync", "--json")

    assert ended.status == 0, ended.stderr
    landed = {each["collection"]: (each["table"], each["rows"]) for each in json.loads(ended.stdout)}
    assert landed.keys() == {f"airtable/{name}" for name in STRANGE_NAMES}
    assert set(dict(landed.values()).values()) == {1}
    assert landed["airtable/gcSyR6LfxbXo7iART4m1vcLu"] == ("airtable.gcSyR6LfxbXo7iART4m1vcLu", 1)
    assert landed["airtable/billing_portal.session"] == ("airtable.billing_portal_session", 1)
    assert len(set(landed.values())) == len(STRANGE_NAMES)
    assert project.query('select id, data from airtable."gcSyR6LfxbXo7iART4m1vcLu"') == [
        ("a0", {"amount": 1, "status": "active"})
    ]


def test_a_process_shows_life_every_second_and_leaves_no_secret_anywhere(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    password = "pw-77e1c0"
    project = make_project(api.url).declare(demo=HEAD + "  collections: {thing: {}}\n")
    project = replace(
        project,
        warehouse_url=project.warehouse_url.replace("postgres@", f"postgres:{password}@"),
        dagster_url=project.dagster_url.replace("postgres@", f"postgres:{password}@"),
    )
    api.set_faults("slow:4000,at=1", "status:401,at=3")
    heard: list[tuple[float, str]] = []

    with killed_at_the_end(project.start("sync")) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        heard.extend((time.monotonic(), line) for line in process.stderr)
        said = "".join(line for _, line in heard) + process.stdout.read()
    failed = command(project, "sync")

    assert (process.returncode, failed.status) == (0, 1)
    waited = [at for at, line in heard if line.startswith("demo/thing: 0 records, 0 pages")]
    assert len(waited) >= 3
    assert max(later - sooner for sooner, later in pairwise(waited)) < 2
    assert "failed" in failed.stderr
    for url in (project.warehouse_url, project.dagster_url):
        said += dump(url)
    assert TOKEN not in said + failed.stdout + failed.stderr
    assert password not in said + failed.stdout + failed.stderr


def dump(url: str) -> str:
    """Every row of every table as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select quote_ident(schemaname) || '.' || quote_ident(tablename) from pg_tables"
            " where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        return "\n".join(str(connection.execute(f"select t::text from {table} t".encode()).fetchall()) for (table,) in tables)
