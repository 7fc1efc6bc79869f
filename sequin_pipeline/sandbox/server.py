"""This module runs a sandbox on loopback only, in this process or in a thread of it."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from sequin_pipeline.sandbox.app import build_app
from sequin_pipeline.sandbox.damage import OpenProtocol
from sequin_pipeline.sandbox.feeds import Feed
from sequin_pipeline.sandbox.listening import listening_socket, url_of
from sequin_pipeline.sandbox.settings import Settings

_SHUTDOWN_SECONDS = 1


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
