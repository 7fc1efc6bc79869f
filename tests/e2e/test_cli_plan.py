"""`sequin-pipeline plan`: what a run would do, seen to be what it does then, and nothing of it left behind."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from sequin_pipeline.catalog import Collection, OnDelete
from sequin_pipeline.ledger.counts import Counts
from sequin_pipeline.operate.dry_run import Difference, DryRun, dry_run
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources.sequin import SequinSource
from sequin_pipeline.table.managed import PendingChange
from tests.e2e.project import TOKEN, Command, MakeProject, Project, SandboxControls
from tests.support.builders import COLUMNS, ListSource, collection, live_run_config, record

DECLARED = "  provider: demo\n  collections:\n    thing:\n      columns: {amount: {path: amount, type: bigint}}\n"
THING = replace(collection(), columns=COLUMNS[1:])
FIRST = [record("a", 1), record("b", 1), record("c", 1), record("same", 1)]
SECOND = [
    record("a", 5, data={"status": "paused", "amount": 1, "new": [1]}),
    record("b", 2, deleted=True, data=None),
    record("c", 0),
    record("d", 1, data={"amount": "a dozen"}),
    record("e", 1),
    record("e", 2),
    record("same", 1),
]


def everything(url: str) -> dict[str, object]:
    """All that a database holds which anybody could see: each row of each table and who wrote it, and every object of the catalog."""
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        seen: dict[str, object] = {
            str(name): connection.execute(f"select xmin::text, ctid::text, t::text from {name} t").fetchall()
            for (name,) in sorted(tables)
        }
        for name in ("pg_class", "pg_namespace", "pg_attribute", "pg_index", "pg_constraint", "pg_description"):
            seen[name] = connection.execute(
                f"select count(*), md5(string_agg(t::text, ',' order by t::text)) from {name} t"
            ).fetchone()
    return seen


def plan(url: str, source: ListSource, of: Collection = THING) -> DryRun:
    """Does a dry run, and sees that nothing remains."""
    before = everything(url)
    found = dry_run(source, Warehouse(url), of)
    assert everything(url) == before
    return found


@pytest.mark.parametrize("on_delete", ["mark", "remove"])
def test_counts_are_those_of_the_run_that_follows(warehouse_url: str, on_delete: OnDelete) -> None:
    of = replace(THING, on_delete=on_delete)
    source = ListSource([FIRST])
    first = plan(warehouse_url, source, of)
    ran = run_sync(RecordStream(live_run_config(of), source), Warehouse(warehouse_url), run_id="first")
    source.page_records = [*source.page_records, SECOND[:3], SECOND[3:]]

    second = plan(warehouse_url, source, of)

    assert first.counts == ran.counts == Counts(fetched=4, inserted=4, created=4)
    assert (first.changes, second.changes) == (None, ())
    then = run_sync(RecordStream(live_run_config(of), source), Warehouse(warehouse_url), run_id="second")
    assert second.counts == then.counts
    assert (second.counts.updated, second.counts.deleted, second.counts.stale, second.counts.duplicate) == (1, 1, 1, 1)
    assert [reject.record_id for reject in second.rejects] == ["d"]
    assert source.commits == ["1", "3"]


def test_differences_tell_old_and_new_by_column_and_key(warehouse_url: str) -> None:
    of = replace(THING, on_delete="remove")
    source = ListSource([FIRST])
    run_sync(RecordStream(live_run_config(of), source), Warehouse(warehouse_url), run_id="first")
    source.page_records = [*source.page_records, SECOND]

    found = plan(warehouse_url, source, of)

    assert found.differences == (
        Difference(
            "a",
            "updated",
            (
                ("updated_idx", "1", "5"),
                ("record_inserted_at", "2024-01-01T00:01:00+00:00", "2024-01-01T00:05:00+00:00"),
                ("data.new", None, "[1]"),
                ("data.status", '"active"', '"paused"'),
            ),
        ),
        Difference("e", "inserted", ()),
        Difference("b", "removed", ()),
    )


def test_a_table_that_exists_is_not_altered_and_what_would_be_is_told_with_its_lock(warehouse_url: str) -> None:
    source = ListSource([FIRST])
    run_sync(RecordStream(live_run_config(THING), source), Warehouse(warehouse_url), run_id="first")
    source.page_records = [*source.page_records, [record("a", 2)]]
    wider = replace(collection(), description="things")

    found = plan(warehouse_url, source, wider)

    assert found.changes == (
        PendingChange('alter table "demo"."thing" add column if not exists "status" text', "access exclusive"),
        PendingChange('comment on table "demo"."thing" is \'things\'', "share update exclusive"),
    )
    assert (found.filled, found.counts) == (("status",), Counts(fetched=1, updated=1))


def test_rows_that_postgres_refuses_are_told_as_rejects(warehouse_url: str) -> None:
    source = ListSource([FIRST])
    run_sync(RecordStream(live_run_config(THING), source), Warehouse(warehouse_url), run_id="first")
    with psycopg.connect(warehouse_url) as connection:
        connection.execute("alter table demo.thing add check (amount < 100)")
    source.page_records = [*source.page_records, [record("x", 200), record("y", 2)]]

    found = plan(warehouse_url, source)

    assert found.counts == Counts(fetched=2, inserted=1, rejected=1, created=1)
    assert [(reject.record_id, reject.sqlstate) for reject in found.rejects] == [("x", "23514")]


def test_a_lock_of_somebody_else_ends_it_soon(warehouse_url: str, command: Command, make_project: MakeProject) -> None:
    source = ListSource([FIRST])
    run_sync(RecordStream(live_run_config(THING), source), Warehouse(warehouse_url), run_id="first")
    source.page_records = [*source.page_records, [record("a", 2)]]

    with psycopg.connect(warehouse_url) as holder:
        holder.execute("select from demo.thing where id = 'a' for update")
        with pytest.raises(Exception, match=r"doing a dry run of 'demo/thing' \(nothing of it remains\).*SQLSTATE 55P03"):
            dry_run(source, Warehouse(warehouse_url), THING)


def test_pages_lie_in_no_file_that_has_a_name(warehouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[Path]] = []

    class Watched(ListSource):
        def pages(self, request):  # type: ignore[no-untyped-def]
            for page in super().pages(request):
                seen.append(list(tmp_path.iterdir()))
                yield page

    dry_run(Watched([FIRST, SECOND]), Warehouse(warehouse_url), THING)

    assert seen == [[], []]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def api() -> Iterator[SandboxControls]:
    lines = [json.dumps(each).encode() for each in FIRST]
    with running_sandbox(RecordedFeed(lines, is_compacted=False), Settings(token=TOKEN)) as url:
        yield SandboxControls(url)


def sync(project: Project) -> None:
    source = SequinSource(project.api_url, TOKEN)
    run_sync(RecordStream(live_run_config(THING), source), Warehouse(project.warehouse_url), run_id="first")


def test_the_command_tells_what_would_happen_and_exits_as_the_sync_would(
    api: SandboxControls, make_project: MakeProject, command: Command
) -> None:
    project = make_project(api.url).declare(demo=DECLARED)

    fresh = command(project, "plan")
    sync(project)
    nothing = command(project, "plan", "demo/thing")
    api.append([json.dumps(each).encode() for each in SECOND])
    before = everything(project.warehouse_url)
    second = command(project, "plan")

    end = "\n\nNothing of this was written: each transaction has been rolled back.\n"
    assert (fresh.status, fresh.stdout) == (
        0,
        "demo/thing, table demo.thing, which would be created\n"
        "  4 records from 2 pages: 4 inserted\n"
        "  inserted  a\n  inserted  b\n  inserted  c\n  inserted  same" + end,
    )
    assert (nothing.status, nothing.stdout) == (0, "demo/thing, table demo.thing\n  no new records" + end)
    head, counts, rejected, *differences = second.stdout.splitlines()
    assert (second.status, head) == (3, "demo/thing, table demo.thing")
    assert counts == ("  7 records from 2 pages: 1 inserted, 1 updated, 1 deleted, 1 unchanged, 1 stale, 1 duplicate, 1 rejected")
    assert rejected.startswith("  rejected  d: column 'amount' (path $.amount, bigint) found the string 'a dozen'")
    assert differences[:3] == [
        "  updated   a: updated_idx 1 -> 5, record_inserted_at 2024-01-01T00:01:00+00:00 -> 2024-01-01T00:05:00+00:00, "
        'data.new null -> [1], data.status "active" -> "paused"',
        "  updated   b: updated_idx 1 -> 2, deleted false -> true, record_inserted_at 2024-01-01T00:01:00+00:00 -> "
        "2024-01-01T00:02:00+00:00",
        "  inserted  e",
    ]
    assert everything(project.warehouse_url) == before


def test_what_would_fail_is_told_and_stops_no_other(api: SandboxControls, make_project: MakeProject, command: Command) -> None:
    project = make_project(api.url).declare(demo=DECLARED + "    part: {}\n")
    project.execute("create schema demo", "create table demo.thing (id text primary key)")

    done = command(project, "plan")

    assert done.status == 1
    assert (
        "demo/thing would fail: table 'demo.thing' of 'demo/thing' exists already, and this pipeline did not create it"
        in done.stderr
    )
    assert done.stdout.startswith("demo/part, table demo.part, which would be created\n  no new records\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("demo/none",), "no collection 'demo/none' is declared: did you mean 'demo/thing'?", id="collection"),
        pytest.param(("--dry-run",), "No such option '--dry-run'", id="option"),
    ],
)
def test_wrong_usage_exits_with_2(make_project: MakeProject, command: Command, arguments: tuple[str, ...], said: str) -> None:
    done = command(make_project("http://127.0.0.1:9").declare(demo=DECLARED), "plan", *arguments)

    assert (done.status, done.stdout) == (2, "")
    assert said in done.stderr
