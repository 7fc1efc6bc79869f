"""This module decides whether the process whose number a lock file holds is the server of a data directory.

Numbers are used again: after a reboot, or in a restarted container, the number of a former server may be anybody's. And a dead server
may keep its number, as a zombie, where process 1 does not reap. Postgres takes both for a running server.
"""

import subprocess
from pathlib import Path

PROCESSES = Path("/proc")


def is_server(pid: int, data: Path) -> bool | None:
    """Says whether the process is the server; None where it cannot be told: there is no such process, or we may not look at it."""
    if (PROCESSES / "self" / "stat").exists():
        return _is_server_by_proc(PROCESSES / str(pid), data)
    return _is_server_by_ps(pid, data)


def read_pid(lock: Path) -> int | None:
    """Returns the number in the first line of a lock file of Postgres, or None if the file is missing, empty or half-written."""
    try:
        first_line = lock.read_bytes().split(b"\n", 1)[0].strip()
    except FileNotFoundError:
        return None
    return int(first_line) if first_line.isdigit() else None


def _is_server_by_proc(process: Path, data: Path) -> bool | None:
    try:
        state = (process / "stat").read_bytes().rpartition(b")")[2].split()[0]
        arguments = (process / "cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    if state in (b"Z", b"X"):
        return False
    return arguments[0].rpartition(b"/")[2] == b"postgres" and bytes(data) in arguments[1:]


def _is_server_by_ps(pid: int, data: Path) -> bool | None:
    listed = subprocess.run(["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)], check=False, capture_output=True, text=True)  # noqa: S603, S607 - a number of ours, the system's ps
    state, _, command = listed.stdout.strip().partition(" ")
    if not state:
        return None
    return not state.startswith("Z") and "postgres" in command and str(data) in command
