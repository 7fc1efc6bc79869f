"""A Postgres socket that holds back the second half of what is copied: a client behind it stands in the middle of COPY."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\x00"
SOCKET_NAME = ".s.PGSQL.5432"


@contextmanager
def stalling_proxy(folder: Path, server: Path) -> Iterator[threading.Event]:
    """Listens in `folder` for the server whose socket lies in `server`; the event is set once a COPY has been held back."""
    stalled = threading.Event()
    ending = threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / SOCKET_NAME))
        listener.listen()
        listener.settimeout(0.1)
        accepting = threading.Thread(target=_accept, args=(listener, server / SOCKET_NAME, stalled, ending))
        accepting.start()
        try:
            yield stalled
        finally:
            ending.set()
            accepting.join()


def _accept(listener: socket.socket, server: Path, stalled: threading.Event, ending: threading.Event) -> None:
    pumps: list[threading.Thread] = []
    while not ending.is_set():
        try:
            client, _ = listener.accept()
        except TimeoutError:
            continue
        client.setblocking(True)
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(str(server))
        pumps.append(threading.Thread(target=_pump, args=(client, upstream, stalled)))
        pumps.append(threading.Thread(target=_pump, args=(upstream, client, None)))
        for pump in pumps[-2:]:
            pump.start()
    for pump in pumps:
        pump.join()


def _pump(origin: socket.socket, destination: socket.socket, stalled: threading.Event | None) -> None:
    """Until the origin is gone; what comes after a COPY's first half is read and dropped."""
    with origin:
        while piece := _received(origin):
            if stalled is not None and COPY_SIGNATURE in piece:
                destination.sendall(piece[: len(piece) // 2])
                stalled.set()
            elif stalled is None or not stalled.is_set():
                destination.sendall(piece)
        try:
            destination.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _received(origin: socket.socket) -> bytes:
    try:
        return origin.recv(65_536)
    except OSError:
        return b""
