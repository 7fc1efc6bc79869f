"""A proxy on loopback in front of the test server, that can lose the answer to a COMMIT as a failing network does."""

import re
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.waits import PATIENCE_SECONDS

CHUNK_BYTES = 65_536
COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
"""The whole message: `begin isolation level read committed` ends alike."""


class CommitLosingProxy:
    """Forwards everything; once armed, the next COMMIT of something written reaches the server, and the client's connection breaks
    before its answer.

    `delivers` is set when the COMMIT may go on to the server: cleared, it stays on its way while the client is told nothing.
    """

    def __init__(self, server_socket: Path) -> None:
        self._server_socket = server_socket
        self._armed = threading.Event()
        self._closing = threading.Event()
        self.delivers = threading.Event()
        self.delivers.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.1)
        self._threads = [threading.Thread(target=self._accept)]
        self.lost = 0

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def arm(self) -> None:
        self._armed.set()

    def start(self) -> None:
        self._threads[0].start()

    def close(self) -> None:
        self._closing.set()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def answered(self, chunk: bytes) -> bytes:
        """What the client gets of an answer."""
        return chunk

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            thread = threading.Thread(target=self._forward, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _forward(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(str(self._server_socket))
            has_written = False
            while not self._closing.is_set():
                readable, _, _ = select.select([client, server], [], [], 0.1)
                for end in readable:
                    chunk = end.recv(CHUNK_BYTES)
                    if not chunk:
                        return
                    has_written |= end is client and b"insert into" in chunk
                    if end is client and chunk.endswith(COMMIT):
                        if has_written and self._armed.is_set():
                            self._lose(chunk, client, server)
                            return
                        has_written = False
                    (server if end is client else client).sendall(chunk if end is client else self.answered(chunk))

    def _lose(self, commit: bytes, client: socket.socket, server: socket.socket) -> None:
        self._armed.clear()
        if not self.delivers.is_set():
            client.close()
            self.delivers.wait(timeout=PATIENCE_SECONDS)
        server.sendall(commit)
        server.recv(CHUNK_BYTES)  # the answer: it has been committed
        self.lost += 1


class OldServerProxy(CommitLosingProxy):
    """Says of the server, whatever it is, that it is Postgres 12."""

    def answered(self, chunk: bytes) -> bytes:
        return re.sub(rb"(server_version\x00)\d\d", rb"\g<1>12", chunk)


@contextmanager
def commit_losing_proxy(server_socket: Path) -> Iterator[CommitLosingProxy]:
    """A running proxy; every connection through it ends with the block."""
    proxy = CommitLosingProxy(server_socket)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
