"""This module runs a sandbox on loopback only, in this process or in a thread of it."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from sequin_pipeline.errors import ConfigurationError
from sequin_pipeline.sandbox.app import build_app
from sequin_pipeline.sandbox.damage import OpenProtocol
from sequin_pipeline.sandbox.feeds import Feed
from sequin_pipeline.sandbox.settings import Settings

LOOPBACK = "127.0.0.1"
"""A sandbox listens on this address only: its controls know no password."""

_SHUTDOWN_SECONDS = 1


def listening_socket(port: int = 0) -> socket.socket:
    """Returns a socket that takes connections at once, even before anybody serves them; port 0 means any free one.

    Raises ConfigurationError when the port is taken.
    """
    # asyncio turns Nagle's algorithm off (40 ms a request) only where the protocol is named.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen()
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"the sandbox cannot listen on port {port} of {LOOPBACK}: {error}. Choose another --port."
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}"


def server_of(app: ASGIApp, *, sends_date: bool = True) -> uvicorn.Server:
    """Returns a server: `run(sockets=[…])` serves until SIGINT or SIGTERM, or until `should_exit` is set."""
    return uvicorn.Server(_configured(app, sends_date=sends_date))


def _configured(app: ASGIApp, *, sends_date: bool = True) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=OpenProtocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=sends_date,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )


class _PromptServer(uvicorn.Server):
    """This server notices within 10 ms that it is to stop, where uvicorn takes 100: tests start and stop many."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await asyncio.sleep(0.01)


@contextmanager
def running_sandbox(
    feed: Feed, settings: Settings | None = None, *, port: int = 0, clock: Callable[[], float] = time.monotonic
) -> Iterator[str]:
    """Serves the feed in a thread for as long as the context lasts, and gives the URL; `clock` is that of build_app."""
    with running_app(build_app(feed, settings or Settings(), clock=clock), port=port) as url:
        yield url


@contextmanager
def running_app(app: ASGIApp, *, port: int = 0, sends_date: bool = True) -> Iterator[str]:
    """Serves any application so, to whose answers damage.py may be done; one that sends no `Date` has a clock of its own."""
    with listening_socket(port) as listener:
        server = _PromptServer(_configured(app, sends_date=sends_date))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="sandbox")
        thread.start()
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()
