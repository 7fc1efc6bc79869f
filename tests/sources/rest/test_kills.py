"""A run that is killed at any page is gone on with by the next one, at that page."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.sources.rest.reading import LIST, PAGINATORS, Runs
from tests.support.checkout import CHECKOUT
from tests.support.reading import query
from tests.support.rest_api import FakeRest, fake_rest
from tests.support.waits import wait_until

AHEAD = 8
"""From this page on something has been committed, or will be without any other answer."""


def _is_anything_committed(warehouse_url: str) -> bool:
    exists = query(warehouse_url, "select to_regclass('sequin_pipeline.cursors') is not null") == [(True,)]
    return exists and query(warehouse_url, "select count(*) > 0 from sequin_pipeline.cursors where cursor is not null") == [
        (True,)
    ]


def run_killed_at(fake: FakeRest, warehouse_url: str, page: int, *, relist_hours: int = 24) -> None:
    """Runs in a process of its own, which is killed while it waits for answer number `page` of this run."""
    last = fake.answers + page
    arguments = [sys.executable, "-m", "tests.sources.rest.kill_process", fake.base_url, warehouse_url, str(relist_hours)]
    with subprocess.Popen(arguments, cwd=CHECKOUT) as process:

        def kill(number: int) -> None:
            if number == last:
                # Pages are fetched ahead of the first commit: without one there would be nothing to go on with.
                wait_until(lambda: page < AHEAD or _is_anything_committed(warehouse_url), "the first commit")
                os.kill(process.pid, signal.SIGKILL)

        fake.happens = kill
        assert process.wait(60) == -signal.SIGKILL
    fake.happens = lambda number: None


@pytest.mark.parametrize("page", [1, 3, 8, 12])
def test_killed_run_is_gone_on_with_at_its_page(warehouse_url: str, page: int) -> None:
    with fake_rest(page_records=4) as fake:
        fake.fill(40)
        run_killed_at(fake, warehouse_url, page)
        before = len(fake.lists())
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=PAGINATORS["header_link"]))
        runs.sync()

        goes_on = fake.lists()[before].query["since"] > "2026-01-01T00:00:00Z"
        assert runs.live() == fake.things
        assert goes_on or page < AHEAD


def test_killed_listing_marks_nothing_and_the_next_run_completes_it(warehouse_url: str) -> None:
    with fake_rest(page_records=4) as fake:
        fake.fill(16)
        runs = Runs(fake, warehouse_url, replace(LIST, paginator=PAGINATORS["header_link"]))
        runs.sync()
        del fake.things["t3"]
        # Real time is the process's own: by that the next listing is long due.
        run_killed_at(fake, warehouse_url, 4, relist_hours=0)
        marked = runs.deleted()
        fake.now += timedelta(days=2000)
        runs.sync()

        assert (marked, runs.deleted()) == (set(), {"t3"})
        assert runs.live() == fake.things
