"""This module runs a sandbox in this process until it is interrupted: from a terminal or as a child of the launcher."""

import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import click
import uvicorn

from sequin_pipeline.sandbox import launcher
from sequin_pipeline.sandbox.app import build_app
from sequin_pipeline.sandbox.feeds import Feed, Follower, GeneratedFeed, feed_of_file
from sequin_pipeline.sandbox.journal import Journal
from sequin_pipeline.sandbox.listening import listening_socket, url_of
from sequin_pipeline.sandbox.population import Population
from sequin_pipeline.sandbox.server import server_of
from sequin_pipeline.sandbox.settings import SANDBOX_TOKEN, Settings
from sequin_pipeline.sandbox.stripe.app import build_stripe_app
from sequin_pipeline.sandbox.stripe.books import Books
from sequin_pipeline.sandbox.stripe.clock import Clock
from sequin_pipeline.sandbox.stripe.keys import SANDBOX_KEY


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
    feed_opened = _opened(settings, records, seed=seed, rate=rate, state=state, is_compacted=is_compacted)
    with closing(listener), feed_opened as feed:
        server = server_of(build_app(feed, settings))
        if listener_fd is not None:
            launcher.leave_parent()
        else:
            token = shlex.quote(settings.token or SANDBOX_TOKEN)
            click.echo(f"sandbox: {url_of(listener)}")
            click.echo(f"  export SEQUIN_API_URL={url_of(listener)} SEQUIN_API_TOKEN={token}")
        _run(server, listener)


def serve_stripe(settings: Settings, *, records: Path | None, seed: int, rate: float, state: Path | None, port: int) -> None:
    """Serves the Stripe API so, for the accounts in these records; it keeps its own state, so that both may run beside each other."""
    clock = Clock(_now)
    books = Books(clock)
    feed_opened = _opened(
        settings, records, seed=seed, rate=rate, state=state, name="stripe-seed", follower=books.take, is_compacted=True
    )
    with closing(listening_socket(port)) as listener, feed_opened as feed:
        books.name_accounts(feed.syncs())
        server = server_of(build_stripe_app(feed, books, settings, clock), sends_date=False)
        key = shlex.quote(settings.token or SANDBOX_KEY)
        click.echo(f"sandbox: {url_of(listener)}")
        click.echo(f"  export STRIPE_API_URL={url_of(listener)} STRIPE_API_KEY={key}")
        _run(server, listener)


def _now() -> datetime:
    return datetime.now(UTC)


def _run(server: uvicorn.Server, listener: socket.socket) -> None:
    with suppress(KeyboardInterrupt):
        server.run(sockets=[listener])


def _opened(
    settings: Settings,
    records: Path | None,
    *,
    seed: int,
    rate: float,
    state: Path | None,
    is_compacted: bool,
    name: str = "seed",
    follower: Follower | None = None,
) -> AbstractContextManager[Feed]:
    if records is not None:
        return _recorded(records, is_compacted=is_compacted, follower=follower)
    home = Path(settings.home) if settings.home else launcher.default_home(os.environ)
    return _generated(seed, rate, state=state or home / f"{name}-{seed}.json", is_compacted=is_compacted, follower=follower)


@contextmanager
def _recorded(path: Path, *, is_compacted: bool, follower: Follower | None) -> Iterator[Feed]:
    yield feed_of_file(path, is_compacted=is_compacted, follower=follower)


@contextmanager
def _generated(seed: int, rate: float, *, state: Path, is_compacted: bool, follower: Follower | None) -> Iterator[Feed]:
    """Yields a feed of made-up objects; a sandbox that stands still, and always did, leaves no state and shares nobody's."""
    with closing(Journal(seed, state if rate or state.exists() else None)) as journal:
        yield GeneratedFeed(Population(seed), journal, rate=rate, clock=_now, is_compacted=is_compacted, follower=follower)
