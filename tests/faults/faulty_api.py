"""The sandbox as a source that fails on demand: two records a page, and nothing that waits.

A fault is a text as in docs/sandbox.md. What the sandbox cannot do is scripted: tests/sources/scripted.py.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sandbox.stream import cursor_at
from tests.builders import EPOCH, record
from tests.e2e.project import SandboxControls
from tests.faults.landing import lines
from tests.fold import Record
from tests.sources.reading import TOKEN

PAGE_RECORDS = 2


def things(first: int, last: int) -> list[Record]:
    """Records r1, r2, … in the order in which they entered the stream."""
    return [
        record(f"r{number}", number, inserted_at=(EPOCH + timedelta(days=number)).isoformat(), marker="x")
        for number in range(first, last + 1)
    ]


def cursor_after(position: int) -> str:
    """The sandbox's cursor behind that many versions."""
    return cursor_at(position)


@contextmanager
def faulty_api(records: Sequence[Record] | RecordedFeed, *, port: int = 0) -> Iterator[SandboxControls]:
    """Serves the records, and checks the token."""
    feed = records if isinstance(records, RecordedFeed) else RecordedFeed(lines(*records))
    with running_sandbox(feed, Settings(token=TOKEN, limit_cap=PAGE_RECORDS), port=port) as url:
        yield SandboxControls(url)
