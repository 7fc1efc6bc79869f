"""localstripe in a process of its own: on loopback only, keeping nothing on disk, ending with whoever started it.

Its own command listens on every interface and writes its whole store to one fixed path at each change. Prints its port as one line.
"""

import os
import socket
import sys
import threading
import time

from aiohttp import web
from localstripe import resources
from localstripe.resources import Store
from localstripe.server import app


class Clock:
    """Takes the place of the module `time` for what localstripe makes; it can be stopped."""

    def __init__(self) -> None:
        self.stands_at: float | None = None

    def time(self) -> float:
        return time.time() if self.stands_at is None else self.stands_at

    async def stop(self, request: web.Request) -> web.Response:
        self.stands_at = time.time()
        return web.json_response({})

    async def go_on(self, request: web.Request) -> web.Response:
        self.stands_at = None
        return web.json_response({})


def main() -> None:
    # Both are localstripe's, in its own process.
    Store.dump_to_disk = lambda store: None
    resources.time = clock = Clock()
    app.router.add_post("/_config/clock/stop", clock.stop)
    app.router.add_post("/_config/clock/go_on", clock.go_on)
    listening = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    web.run_app(app, sock=listening, access_log=None, print=None)


def _end_with_parent() -> None:
    """The other end of stdin is closed when the parent closes it, or dies."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
