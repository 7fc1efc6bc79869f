"""localstripe in a process of its own: on loopback only, keeping nothing on disk, ending with whoever started it.

Its own command listens on every interface and writes its whole store to one fixed path at each change. Prints its port as one line.
"""

import os
import socket
import sys
import threading

from aiohttp import web
from localstripe.resources import Store
from localstripe.server import app


def main() -> None:
    Store.dump_to_disk = lambda store: None  # localstripe's, in its own process
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
