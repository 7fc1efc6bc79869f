"""This module decides how much memory the embedded server takes for its buffers, by what the machine or its container has."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

MEBIBYTE = 1024**2
SHARE = 4
"""A quarter is what Postgres' own documentation starts from."""
LEAST_MEBIBYTES, MOST_MEBIBYTES = 128, 1024
"""The least is Postgres' default. With the most, changed and known records take a tenth less of the server than with the least."""

LEAST_BUFFERS = f"{LEAST_MEBIBYTES}MB"


def shared_buffers(memory_bytes: int | None) -> str:
    """Returns the setting for so much memory, the least for None."""
    quarter = (memory_bytes or 0) // SHARE // MEBIBYTE
    return f"{min(max(quarter, LEAST_MEBIBYTES), MOST_MEBIBYTES)}MB"


def usable_memory(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Returns the bytes that the machine has, or that a control group leaves us of them; None where the system does not tell."""
    return min([*_physical(), *_limits(proc, cgroups)], default=None)


def _physical() -> Iterator[int]:
    try:
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return


def _limits(proc: Path, cgroups: Path) -> Iterator[int]:
    """Yields the limits of our group and of those around it, of both versions of control groups (Linux documentation, cgroup-v2).

    In a container our group's path is often that of the host, while only the container's own group is mounted, as the topmost.
    """
    for line in _lines(proc / "self" / "cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            top, file = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            top, file = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        ours = PurePosixPath(path.lstrip("/"))
        for group in (ours, *ours.parents) if ".." not in ours.parts else (PurePosixPath(),):
            yield from (int(limit) for limit in _lines(top / group / file) if limit.isdigit())


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
