"""This module makes the socket on which a sandbox listens; whoever only looks for a sandbox does not import a server."""

import socket

from sequin_pipeline.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
"""A sandbox listens on this address only: its controls know no password."""


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
