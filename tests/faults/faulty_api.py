"""The sandbox as a source that fails on demand, two records a page.

A fault is a text as in docs/sandbox.md. What the sandbox cannot do is scripted: tests/sources/scripted.py.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sandbox.stream import cursor_at
from sequin_pipeline.sources.http.retries import RetryPolicy
from tests.e2e.project import SandboxControls
from tests.faults.landing import lines
from tests.sources.reading import TOKEN
from tests.support.builders import EPOCH, record
from tests.support.fold import Record

PAGE_RECORDS = 2

IMPATIENT = RetryPolicy(budget_seconds=2.0)
"""With the draw of the jitter at 1: waits 0.5 and 1 second, and gives up before the third."""


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


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port on which nobody listens but who is told of it: other programs get another one."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
