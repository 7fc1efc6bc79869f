"""Work beside the caller's own, in threads that nobody has to wait for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Value = TypeVar("Value")


def start(work: Callable[[], Value], name: str) -> "Future[Value]":
    """Does it in a thread of its own, which ends with the process: who interrupts a run does not wait for a source that is asked
    again for minutes."""
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed over as it is to the thread that waits
            future.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
