"""The pipeline and an application write one table, which the application's own tools made and keep."""

import shutil
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.interop.apps import COMMANDS, TSX, lines_of, set_time_zone, wait_until_connected
from tests.interop.conftest import MakeApp
from tests.interop.history import deliver, fold, history, seen, subscription
from tests.support.reading import execute, query

NUMBERS = range(16)
SHAPE = (
    "select c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, col_description(c.oid, a.attnum) from pg_class c"
    " join pg_attribute a on a.attrelid = c.oid where c.relnamespace = 'public'::regnamespace and a.attnum > 0 order by 1, 2"
)


def each(*names: str) -> list[ParameterSet]:
    """Tests of one application are run by one worker, which installs and migrates it once."""
    return [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]


@pytest.mark.parametrize("name", each(*COMMANDS))
def test_both_write_the_same_history_and_the_application_reads_the_fold(
    name: str, make_migrated: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever time zones the database, the pipeline's session and the application's processes are in."""
    app = make_migrated(name)
    set_time_zone(app.url, "Asia/Kolkata")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    shape = query(app.url, SHAPE)
    everything = history(NUMBERS, versions=range(1, 6))

    first = deliver(app, history(NUMBERS[1::2], versions=[1, 2]))
    app.run(app.commands.upsert, stdin=lines_of(history(NUMBERS[::2], versions=[1, 2])), time_zone="America/New_York")
    shared = seen(app.rows(time_zone="Europe/Berlin"))
    with app.start(app.commands.upsert, time_zone="Europe/Berlin") as writing:
        assert writing.stdin is not None
        writing.stdin.write(lines_of(everything * 3))
        writing.stdin.close()
        wait_until_connected(app.url)
        both = deliver(app, everything)
        while writing.poll() is None:
            deliver(app, everything)
    again = deliver(app, everything).counts
    app.run(app.commands.upsert, stdin=lines_of(history(NUMBERS, versions=[1, 2])))

    assert shared == fold(history(NUMBERS, versions=[1, 2]))
    assert writing.returncode == 0
    assert (first.counts.rejected, both.counts.rejected) == (0, 0)
    assert (again.inserted, again.updated, again.deleted) == (0, 0, 0)
    assert seen(app.rows(time_zone="Pacific/Auckland")) == fold(everything)
    assert query(app.url, SHAPE) == shape
    app.check_migrated()
    assert query(app.url, SHAPE) == shape
    assert query(app.url, "select to_regclass('sequin_pipeline.merges') is not null") == [(True,)]


@pytest.mark.parametrize("name", each("drizzle", "drizzle-1.0", "prisma", "typeorm"))
def test_a_row_that_an_upsert_without_guard_overwrote_is_repaired_by_the_next_delivery(name: str, make_migrated: MakeApp) -> None:
    app = make_migrated(name)
    newest = [subscription(number, 3) for number in NUMBERS]
    older = [subscription(number, 2) for number in NUMBERS]
    deliver(app, newest)

    shutil.copy(Path(__file__).parent / "unguarded" / f"{name.partition('-')[0]}.ts", app.folder / "src" / "unguarded.ts")
    app.run((*TSX, "src/unguarded.ts"), stdin=lines_of(older))
    overwritten = seen(app.rows(time_zone="UTC"))
    outcome = deliver(app, newest)

    assert overwritten == fold(older)
    assert outcome.counts.updated == len(NUMBERS)
    assert seen(app.rows(time_zone="UTC")) == fold(newest)


@pytest.mark.parametrize("name", each("drizzle"))
def test_a_value_that_the_application_changed_at_the_newest_version_is_repaired(name: str, make_migrated: MakeApp) -> None:
    app = make_migrated(name)
    newest = [subscription(number, 3) for number in NUMBERS]
    deliver(app, newest)
    execute(app.url, "update subscription set status = 'mine', plan_id = null where id = 'rec_01'")

    outcome = deliver(app, newest)

    assert (outcome.counts.updated, outcome.counts.unchanged) == (1, len(NUMBERS) - 1)
    assert seen(app.rows(time_zone="UTC")) == fold(newest)
