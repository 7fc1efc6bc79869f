"""`python -m bench --beside CHECKOUT`: this checkout's pipeline and another one's take turns on one server, and the ratios are printed.

It answers what a change costs: a worktree of the commit before stands beside, on the same pages and within the same seconds. The other
checkout needs no environment of its own: its modules run with this one's packages.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from bench.child import Contestant
from bench.contestants import CORE, PIPELINE_TWO, VARIANTS, Entry
from bench.extras import arena_of
from bench.rounds import Arena, Measurement
from bench.server import Serving

HERE = tuple(entry for entry in CORE if entry.module == "bench.pipeline")
"""A checkout that does not know the option `data` writes jsonb beside this one's json."""

FIRST_LOAD_RECORDS = 1_000_000
LOADS = tuple(
    replace(
        entry,
        name=f"{entry.name}_load",
        label=f"{entry.label}, two lanes",
        phases=("new",),
        options={**entry.options, "lanes": 2},
    )
    for entry in HERE
    if entry.name != PIPELINE_TWO
)

FIGURES: dict[str, Callable[[Measurement], float]] = {
    "seconds": lambda measured: measured.seconds,
    "client CPU": lambda measured: measured.client_cpu_seconds,
    "server CPU": lambda measured: measured.server_cpu_seconds or float("nan"),
    "both": lambda measured: measured.client_cpu_seconds + (measured.server_cpu_seconds or float("nan")),
    "WAL": lambda measured: measured.wal_bytes,
    "memory": lambda measured: measured.peak_rss_bytes,
}

Pair = tuple[Measurement, Measurement]
"""A phase of this checkout, and the same phase of the other one right before or after it."""


def compare(arena: Arena, other: Path, *, rounds: int, tell: Callable[[str], None]) -> str:
    """Runs the rounds and returns a table: for each phase the median ratio of this checkout to the other one, then each round's."""
    return _compare(HERE, arena, other, rounds=rounds, tell=tell)


def compare_first_loads(arena: Arena, other: Path, *, records: int, rounds: int, tell: Callable[[str], None]) -> str:
    """Compares first loads over two lanes, with `data` in jsonb and in json, in the same way."""
    with arena_of(arena, records) as long:
        return _compare(LOADS, long, other, rounds=rounds, tell=tell)


def _compare(entries: Sequence[Entry], arena: Arena, other: Path, *, rounds: int, tell: Callable[[str], None]) -> str:
    pairs: list[Pair] = []
    for number in range(1, rounds + 1):
        tell(f"round {number} of {rounds}")
        pairs.extend(_round(entries, arena, other.resolve(), number=number))
    return _table(entries, pairs, records=arena.records)


def _round(entries: Sequence[Entry], arena: Arena, other: Path, *, number: int) -> Iterator[Pair]:
    for here in entries:
        there = replace(here, name=f"{here.name}_before", directory=other)
        # Each in a database of its own: their ledgers may be of two versions.
        databases = {entry: f"{entry.name}_{number}" for entry in (here, there)}
        with ExitStack() as stack:
            contestants: dict[Entry, Contestant] = {}
            for entry, database in databases.items():
                arena.postgres.make_database(database)
                contestants[entry] = stack.enter_context(arena.contestant(entry, database))
            for turn, phase in enumerate(here.phases):
                measured = {}
                for entry in (here, there) if (number + turn) % 2 else (there, here):
                    arena.api.serve(Serving(VARIANTS[phase], arena.encoding, records=arena.records))
                    measured[entry] = arena.measure(
                        entry, contestants[entry], phase, round_number=number, database=databases[entry]
                    )
                yield measured[here], measured[there]
        for database in databases.values():
            arena.postgres.drop_database(database)


def _table(entries: Sequence[Entry], pairs: list[Pair], *, records: int) -> str:
    lines = [f"{'':40}" + "".join(f"{name:>12}" for name in FIGURES) + "   µs of client and server CPU a record, here and beside"]
    for entry in entries:
        for phase in entry.phases:
            of_phase = [pair for pair in pairs if (pair[0].name, pair[0].phase) == (entry.name, phase)]
            medians = [statistics.median(_ratios(figure, of_phase)) for figure in FIGURES.values()]
            spent = [
                " + ".join(
                    f"{statistics.median(FIGURES[figure](pair[side]) for pair in of_phase) / records * 1e6:.1f}"
                    for figure in ("client CPU", "server CPU")
                )
                for side in (0, 1)
            ]
            each = " ".join(f"{ratio:.2f}" for ratio in _ratios(FIGURES["both"], of_phase))
            label = f"{entry.label}, {phase}"
            lines.append(f"{label:40}" + "".join(f"{median:12.2f}" for median in medians) + f"   {spent[0]}, {spent[1]} ({each})")
    return "\n".join(lines)


def _ratios(figure: Callable[[Measurement], float], pairs: list[Pair]) -> list[float]:
    return [figure(here) / figure(there) if figure(there) else float("nan") for here, there in pairs]
