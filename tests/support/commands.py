"""What running a command of ours gives."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it wrote."""

    status: int
    stdout: str
    stderr: str


RunMain = Callable[..., Finished]
