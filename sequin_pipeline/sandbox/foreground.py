"""This module runs a sandbox in this process until it is interrupted: from a terminal or as a child of the launcher."""

import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import click

from sequin_pipeline.sandbox import launcher
from sequin_pipeline.sandbox.feeds import Feed, GeneratedFeed, feed_of_file
from sequin_pipeline.sandbox.journal import Journal
from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sandbox.server import listening_socket, server_of, url_of
from sequin_pipeline.sandbox.settings import SANDBOX_TOKEN, Settings


def serve(
    settings: Settings,
    *,
    records: Path | None,
    is_compacted: bool,
    seed: int,
    rate: float,
    state: Path | None,
    port: int,
    listener_fd: int | None,
) -> None:
    """Serves the records of a file, or made-up ones, on `port` of loopback or on an inherited socket, and then leaves the terminal.

    Raises ConfigurationError for a port that is taken or a file that holds no records.
    """
    listener = listening_socket(port) if listener_fd is None else socket.socket(fileno=listener_fd)
    if records is not None:
        feed_opened = _recorded(records, is_compacted=is_compacted)
    else:
        home = Path(settings.home) if settings.home else launcher.default_home(os.environ)
        feed_opened = _generated(seed, rate, state=state or home / f"seed-{seed}.json", is_compacted=is_compacted)
    with closing(listener), feed_opened as feed:
        server = server_of(feed, settings)
        if listener_fd is not None:
            launcher.leave_parent()
        else:
            token = shlex.quote(settings.token or SANDBOX_TOKEN)
            click.echo(f"sandbox: {url_of(listener)}")
            click.echo(f"  export SEQUIN_API_URL={url_of(listener)} SEQUIN_API_TOKEN={token}")
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])


@contextmanager
def _recorded(path: Path, *, is_compacted: bool) -> Iterator[Feed]:
    yield feed_of_file(path, is_compacted=is_compacted)


@contextmanager
def _generated(seed: int, rate: float, *, state: Path, is_compacted: bool) -> Iterator[Feed]:
    """Yields a feed of made-up objects; a sandbox that stands still, and always did, leaves no state and shares nobody's."""
    with closing(Journal(seed, state if rate or state.exists() else None)) as journal:
        yield GeneratedFeed(Population(seed), journal, rate=rate, clock=lambda: datetime.now(UTC), is_compacted=is_compacted)
