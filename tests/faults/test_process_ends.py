"""The process of a run is asked to end, or cannot write its logs, in the middle of its work."""

import signal
from collections.abc import Callable

import pytest

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from tests.e2e.project import THIS_MONTH, TOKEN, Command, MakeProject
from tests.faults.every_place import OTHERS
from tests.faults.faulty_api import cursor_after, faulty_api, things
from tests.faults.landing import Landing, lines
from tests.faults.phases import PHASES, held_in
from tests.faults.places import Place, deliver, deliver_rest
from tests.faults.small_disk import small_disk
from tests.sources.reading import source
from tests.support.forked import Parent
from tests.support.reading import query

RECORDS = [*things(1, 3), {**things(1, 1)[0], "updated_idx": 9}, *things(5, 6)]
"""Three pages, each a batch; the second one writes r1 again."""

THINGS = f"""\
  provider: demo
  windows: {{every: month, start: {THIS_MONTH}}}
  collections:
    thing:
      columns:
        status: {{path: status, type: text}}
        amount: {{path: amount, type: bigint}}
        marker: {{path: record.marker, type: text}}
"""
"""The collection of a landing, as a project declares it."""

pytestmark = pytest.mark.filterwarnings("ignore:InitResourceContext.dagster_run is deprecated")
"""Said by Dagster of itself."""


@pytest.mark.parametrize(
    ("phase", "committed"),
    [pytest.param(phase, phase == "commit", id=f"TERM of a run in {phase}") for phase in PHASES],
)
def test_run_that_is_asked_to_end_leaves_whole_batches_and_the_next_one_goes_on(
    make_own_database: Callable[[], str], processes: Parent, phase: str, *, committed: bool
) -> None:
    landing = Landing(make_own_database())
    with faulty_api(RECORDS[:2]) as api:
        landing.sync(source(api.url))
        landing.deliver(*RECORDS[:2])
        api.append(lines(*RECORDS[2:]))
        with held_in(phase, landing.url) as held:
            with processes.start("tests.faults.sync_process", api.url, held.url) as process:
                held.arrived()

                process.terminate()
                process.wait()

            held.let_go()
        landing.wait_until_alone()
        if committed:
            landing.deliver(*RECORDS[2:4])
        landing.check(cursor=cursor_after(4 if committed else 2))
        landing.sync(source(api.url))

    assert process.returncode == -signal.SIGTERM
    landing.deliver(*RECORDS[4 if committed else 2 :])
    landing.check(cursor=cursor_after(6))


@pytest.mark.parametrize("place", OTHERS, indirect=True)
@pytest.mark.parametrize(
    ("phase", "committed"), [pytest.param(phase, phase == "commit", id=f"kill -9 in {phase}") for phase in ("ledger", "commit")]
)
def test_run_of_any_source_that_is_killed_loses_nothing_and_acknowledges_nothing_that_is_not_stored(
    place: Place, processes: Parent, phase: str, *, committed: bool
) -> None:
    """A queue has it come again, also what was stored: the process ended between the commit and the acknowledgement. A list that is asked
    for what has changed since has the newest object come again."""
    landing = place.landing
    with held_in(phase, landing.url) as held:
        with processes.start("tests.faults.sync_process", place.url, held.url, place.kind) as process:
            held.arrived()
            process.kill()
        held.let_go()
    landing.wait_until_alone()
    stored = query(landing.url, "select upstream_id from demo.thing order by 1")
    rejects = query(landing.url, "select record_id from sequin_pipeline.rejects")
    place.sync()

    bad = str(place.records[2]["id"])
    assert (stored, rejects) == (
        [(one,) for one in (["up_r1", "up_r2", "up_r4"] if committed else ["up_r1", "up_r2"])],
        [(bad,)] if committed else [],
    )
    if committed:
        deliver(place, *place.records[4 - place.again_when_killed : 4])
    deliver_rest(place)
    place.check(6)


def test_full_disk_under_dagsters_logs_loses_no_record(make_project: MakeProject, command: Command) -> None:
    with running_sandbox(RecordedFeed(lines(*RECORDS)), Settings(token=TOKEN)) as url:
        project = make_project(url).declare(demo=THINGS)
        landing = Landing(project.warehouse_url)
        with small_disk(project.folder / "storage", megabytes=1) as disk:
            with pytest.raises(OSError, match="No space left"):
                (disk.folder / "ballast").write_bytes(bytes(2 * 1024 * 1024))

            full = command(project, "sync")

            landing.deliver(*RECORDS[1:])  # the stream keeps the newest version of r1
            landing.check(cursor=cursor_after(6))
        after = command(project, "sync")

    assert (full.status, after.status) == (0, 0)
    assert "Nothing new: nothing was written." in after.stdout
    landing.check(cursor=cursor_after(6))
