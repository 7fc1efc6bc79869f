"""This module does work beside the caller's own, in threads that nobody has to wait for."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from typing import TypeVar

Value = TypeVar("Value")


def start(work: Callable[[], Value], name: str) -> "Future[Value]":
    """Does the work in a thread of its own, which ends with the process.

    So whoever interrupts a run need not wait for a source that is being asked again for minutes. It works in a copy of the caller's
    context, so that what bounds the one bounds the other.
    """
    future: Future[Value] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - handed over as it is to the thread that waits
            future.set_exception(error)

    threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True).start()
    return future
