"""This script is the process between a run and its connector; it sees to it that the connector is gone when the run is gone.

It imports nothing of the project, so that it starts in milliseconds. Its standard input is a pipe whose other end only the run holds: it
ends when the run closes it, and also when the run dies of anything (SIGKILL, no memory), on every POSIX system. On Linux the kernel kills
the connector in case this process itself is killed (PR_SET_PDEATHSIG); elsewhere the connector ends then at its next write to a pipe.

    guard.py FOLDER GRACE_SECONDS COMMAND...
"""

import os
import shutil
import signal
import subprocess
import sys
import threading

NOT_STARTED = 126
"""A shell says this of a command that cannot be executed."""

BY_SIGNAL = 128
"""A shell adds this to the number of the signal by which a command ended."""

PR_SET_PDEATHSIG = 1


def main(folder: str, grace_seconds: float, command: list[str]) -> int:
    """Runs the command in a process group of its own, and returns its status once nothing of the group is left."""
    try:
        return _watch(command, grace_seconds)
    finally:
        # It holds the connector's configuration.
        shutil.rmtree(folder, ignore_errors=True)


def _watch(command: list[str], grace_seconds: float) -> int:
    try:
        # This process has one thread here, so that code between fork and exec is safe.
        child = subprocess.Popen(  # noqa: S603 - what the user declared is what is meant to be run
            command,
            stdin=subprocess.DEVNULL,
            process_group=0,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}\n".encode())
        return NOT_STARTED
    # From here on only the connector can write: the run sees the end of its pipes when the connector closes them.
    for descriptor in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    must_end, has_ended = threading.Event(), threading.Event()
    # A service manager tells every process to stop, this one too: the folder must not stay behind.
    signal.signal(signal.SIGTERM, lambda number, frame: must_end.set())
    threading.Thread(target=_wait_for_run, args=(must_end,), daemon=True).start()
    threading.Thread(target=_end_group, args=(child.pid, must_end, has_ended, grace_seconds), daemon=True).start()
    status = child.wait()
    has_ended.set()
    _signal_group(child.pid, signal.SIGKILL)
    return BY_SIGNAL - status if status < 0 else status


def _wait_for_run(must_end: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    must_end.set()


def _end_group(group: int, must_end: threading.Event, has_ended: threading.Event, grace_seconds: float) -> None:
    must_end.wait()
    _signal_group(group, signal.SIGTERM)
    if not has_ended.wait(grace_seconds):
        _signal_group(group, signal.SIGKILL)


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        """Nothing of it is left; of a group of zombies macOS says that it is not permitted."""


def _die_with_parent() -> None:
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))
