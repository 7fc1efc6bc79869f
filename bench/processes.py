"""What processes cost and hold, as /proc tells it: of a process and all that it has started."""

import os
from pathlib import Path

PROC = Path("/proc")


def tree(pid: int) -> list[int]:
    """The process, and those that it and its children have started and that still run."""
    try:
        children = [int(child) for file in (PROC / str(pid) / "task").glob("*/children") for child in file.read_text().split()]
    except OSError:
        return []  # ended meanwhile
    return [pid, *(each for child in children for each in tree(child))]


def cpu_seconds(pid: int, *, with_reaped: bool = False) -> float:
    """User and system time, and on request that of children that have ended; 0 for a process that is gone."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # The name in parentheses may hold anything (proc(5)).
    return sum(map(int, fields[11:15] if with_reaped else fields[11:13])) / os.sysconf("SC_CLK_TCK")


def pss_bytes(pid: int) -> int:
    """Its memory, what it shares with others in part; 0 for a process that is gone."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
