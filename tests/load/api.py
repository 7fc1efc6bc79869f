"""A process that serves the stream while it changes: `python -m tests.load.api COLLECTIONS SYNCS RATE SECONDS`.

It prints its address, and serves until its stdin is closed.
"""

import sys
from datetime import UTC, datetime

from sequin_pipeline.sandbox.feeds import RecordedFeed, append_lines
from sequin_pipeline.sandbox.server import running_sandbox
from tests.load.changes import Scale, change, line


class ChangingFeed(RecordedFeed):
    """Whatever was due since the last request is in the stream when the next one is answered."""

    def __init__(self, scale: Scale, seconds: float) -> None:
        super().__init__()
        self._scale = scale
        self._last = int(scale.rate * seconds)
        self._next = 0
        self._began_at = datetime.now(UTC)

    def catch_up(self) -> None:
        due = min(self._last, int((datetime.now(UTC) - self._began_at).total_seconds() * self._scale.rate))
        append_lines(
            self.stream, [line(change(number, self._scale), self._began_at, self._scale) for number in range(self._next, due)]
        )
        self._next = max(self._next, due)


def main() -> None:
    collections, syncs, rate, seconds = sys.argv[1:]
    feed = ChangingFeed(Scale(int(collections), int(syncs), float(rate)), float(seconds))
    with running_sandbox(feed) as url:
        print(url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
