"""The commands with a provider that is read from a queue, against the sandbox's consumer."""

from collections.abc import Iterator

import pytest

from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import TOKEN, Command, MakeProject, Project
from tests.support.builders import record
from tests.support.queues import feed_of, other

QUEUE = "  provider: demo\n  source: sequin_consumer\n  queue: {consumer: c1}\n  collections: {thing: {}%s}\n"
LATER = ", later: {table: {name: demo.elsewhere}}"


@pytest.fixture
def project(make_project: MakeProject) -> Iterator[Project]:
    """A queue of three records: one declared, one of a collection that will be, and one that names none."""
    later = other("u", 7, collection_id="demo:later")
    with running_sandbox(feed_of(record("a"), later, {"id": "n"})) as url:
        yield make_project(url).declare(demo=QUEUE % "")


def test_undeclared_records_of_a_queue_are_listed_shown_discarded_and_replayed_once_declared(
    project: Project, command: Command, tmp_path_factory: pytest.TempPathFactory
) -> None:
    first, second = command(project, "sync"), command(project, "sync")
    listed = command(project, "rejects", "list")
    numbers = dict(project.query("select label, left(content_hash::text, 8) from sequin_pipeline.rejects"))
    shown = command(project, "rejects", "show", "demo/later", str(numbers["demo/later"]))
    too_early = command(project, "rejects", "replay", "demo/later")
    discarded = command(project, "rejects", "discard", "/unnamed", str(numbers["/unnamed"]))
    project.variables["SEQUIN_COLLECTIONS"] = str(tmp_path_factory.mktemp("declared"))
    declared = Project(project.folder / "again", project.warehouse_url, project.dagster_url, project.api_url).declare(
        demo=QUEUE % LATER
    )
    project.variables.update(declared.variables)
    synced = command(project, "sync")
    replayed = command(project, "rejects", "replay", "demo/later")
    rest = command(project, "rejects", "list")

    assert first.status == 3
    assert [ended.status for ended in (second, listed, shown, discarded, synced, replayed)] == [0] * 6
    assert [" ".join(line.split()[:-1]) for line in first.stdout.splitlines()[1:4]] == [
        "demo/thing demo.thing 1 0 0 0 0 0 0 1",
        "/unnamed not declared 0 0 0 0 0 0 1",
        "demo/later not declared 0 0 0 0 0 0 1",
    ]
    assert "1 rows written, 2 records rejected: `sequin-pipeline rejects list` says why." in first.stdout
    assert "no defs.yaml declares collection 'demo:later': declare it and replay the record, or discard it" in listed.stdout
    assert "the record names no collection" in listed.stdout
    assert shown.stdout.startswith("record    u, version 7\n")
    assert (too_early.status, "declare it in a defs.yaml, then replay them" in too_early.stderr) == (2, True)
    assert replayed.stdout == "1 of 1 rejects of demo/later have been settled.\n"
    assert project.query("select id, updated_idx from demo.elsewhere") == [("u", 7)]
    assert rest.stdout == "No open rejects.\n"


def test_the_doctor_tells_of_each_queue_whether_it_is_there_and_takes_the_token(project: Project, command: Command) -> None:
    unknown = command(project, "doctor")
    command(project, "sync")
    known = command(project, "doctor")

    assert "demo: draining sequin_consumer 'c1': ack from" in unknown.stdout
    assert "Is there a consumer 'c1'?" in unknown.stdout
    assert f"sequin_consumer {project.api_url} stream 'c1' is drained for demo, and accepts the token" in known.stdout
    assert "\nok       records API" not in known.stdout  # its pages are not asked for: nobody reads them
    assert (unknown.status, known.status) == (0, 0)


def test_the_doctor_tells_of_a_queue_that_does_not_take_the_token(make_project: MakeProject, command: Command) -> None:
    with running_sandbox(feed_of(record("a")), Settings(token="another")) as url:
        refused = command(make_project(url).declare(demo=QUEUE % ""), "doctor")

    assert refused.status == 1
    assert "does not accept the token that was sent: set SEQUIN_API_TOKEN to a token that may read there" in refused.stdout
    assert TOKEN not in refused.stdout + refused.stderr


def test_one_queue_of_several_providers_is_drained_and_told_once_whichever_of_them_is_asked_for(
    make_project: MakeProject, command: Command
) -> None:
    with running_sandbox(feed_of(record("a"), record("c", collection_id="shop:order"))) as url:
        project = make_project(url).declare(demo=QUEUE % "", shop=QUEUE.replace("demo", "shop").replace("thing", "order") % "")
        synced = command(project, "sync", "--provider", "shop")
        examined = command(project, "doctor")

    assert synced.status == 0, synced.stderr
    assert "2 rows written from 2 records." in synced.stdout
    assert project.query('select id from demo.thing union all select id from shop."order"') == [("a",), ("c",)]
    assert f"sequin_consumer {url} stream 'c1' is drained for demo and shop, and accepts the token" in examined.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("backfill", "demo/thing", "--from", "2024-01"), id="backfill"),
        pytest.param(("sync", "--full-refresh"), id="full refresh"),
        pytest.param(("sync", "--sync-id", "s1"), id="one sync"),
    ],
)
def test_a_queue_cannot_be_read_again(project: Project, command: Command, arguments: tuple[str, ...]) -> None:
    refused = command(project, *arguments)

    assert refused.status == 2
    assert "demo/thing: consumer 'c1' is a queue, which cannot be read again: it has no windows, no backfill" in refused.stderr


def test_a_plan_takes_no_message_from_a_queue(project: Project, command: Command) -> None:
    planned, synced = command(project, "plan"), command(project, "sync")

    assert "demo/thing is read from a queue: what a run would do cannot be tried without taking its messages" in planned.stdout
    assert "1 rows written, 2 records rejected" in synced.stdout
