"""By which way batches are written in a test: as the product chooses, by one of them, in turn, or by chance."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING
from unittest.mock import patch
from zlib import crc32

import pytest

if TYPE_CHECKING:
    from sequin_pipeline.write.batch import Batch
    from sequin_pipeline.write.known_rows import Asking

WAYS = ("as the product chooses", "asked first", "staged", "in turn", "by chance")
"""What is asked about first is copied where all that the table needs is new to it, and its declared values are read after the answer. Every
other batch that may be, is updated plainly."""


@contextmanager
def going(way: str, *, seed: int = 0) -> Iterator[None]:
    """Has every batch of this process written by that way until the block ends. No batch may need it: each way is always right."""
    if way == WAYS[0]:
        yield
        return
    from sequin_pipeline.write.known_rows import Asking  # here, so that tests without a database do not wait for it

    asks = _chooser(way, Random(seed))

    def is_worthwhile(asking: "Asking", batch: "Batch") -> bool:
        return asking._is_possible and len(batch) > 0 and asks()

    with (
        patch.object(Asking, "is_worthwhile", is_worthwhile),
        patch.object(Asking, "may_copy", property(lambda asking: asking._can_copy)),
        patch.object(Asking, "expects_only_new", property(lambda asking: asking._can_copy and asks())),
        patch.object(Asking, "reads_lazily", property(lambda asking: asking._is_possible and asks())),
        patch.object(Asking, "expects_only_older", property(lambda asking: asks())),
    ):
        yield


def _chooser(way: str, chance: Random) -> Callable[[], bool]:
    turns = cycle((True, True, False))
    return {
        "asked first": lambda: True,
        "staged": lambda: False,
        "in turn": lambda: next(turns),
        "by chance": lambda: chance.random() < 0.5,
    }[way]


def drawn(request: pytest.FixtureRequest) -> str:
    """The way of a test: that of the option `--way`, else one of WAYS by the test's name, so that all tests together go all ways."""
    asked: str | None = request.config.getoption("--way")
    return asked or WAYS[seed_of(request) % len(WAYS)]


def seed_of(request: pytest.FixtureRequest) -> int:
    return crc32(str(request.node.nodeid).encode())


def ways_of(url: str, run_id: str = "run") -> list[str]:
    """How each batch of a run was written, in the order of their commits, as the seconds of its stages tell."""
    from tests.support.reading import query

    rows = query(
        url,
        "select case when bool_or(seconds ? 'merge') then 'staged' when bool_or(seconds ? 'copy') then 'copied' else 'nothing sent' end"
        " from sequin_pipeline.merges where run_id = %s group by batch_id order by min(committed_at)",
        run_id,
    )
    return [way for (way,) in rows]
