"""From measurements to figures: pure. A ratio is taken within a round, then the median over the rounds is what counts."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.contestants import (
    COPY,
    COPY_TWO,
    CORE,
    CORE_PHASES,
    ENTRIES,
    LIMIT,
    LIMIT_TWO,
    PEER_ENTRIES,
    PHASE_LABELS,
    PIPELINE,
    PIPELINE_TWO,
    Entry,
    beside,
)
from bench.rounds import Measurement, Results


@dataclass(frozen=True)
class Ratio:
    """How the pipeline stands to somebody else: above 1 it is ahead. `median` and `rounds` are of wall time, `best` sets the best
    rounds of both against each other, `cpu` is the median of the CPU of both sides, client and server; None where unknown."""

    name: str
    label: str
    phase: str
    measure: str
    median: float
    best: float
    rounds: tuple[float, ...]
    cpu: float | None


@dataclass(frozen=True)
class Cost:
    """What one contestant's record costs in one phase: medians over the rounds, and the rate of the best one."""

    name: str
    label: str
    phase: str
    records: int
    records_per_second: float
    best_records_per_second: float
    client_us: float
    server_us: float | None
    wal_bytes: float
    peak_rss_bytes: int


def ratios(results: Results) -> list[Ratio]:
    """To the limit first, then to the peers, each over all of its phases."""
    found: list[Ratio | None] = []
    for how, ours, merging, copying in (
        ("one connection", PIPELINE, LIMIT, COPY),
        ("two lanes", PIPELINE_TWO, LIMIT_TWO, COPY_TWO),
    ):
        for phase in CORE_PHASES:
            limit = copying if phase == "new" else merging
            found.append(_ratio(results, limit, phase, f"share of the limit, {how}", ours=ours))
        found.append(_ratio(results, merging, "new", f"times as fast as ready bytes staged and merged, {how}", ours=ours))
    for peer in PEER_ENTRIES:
        for phase in peer.phases:
            for apart, entry in beside(peer).items():
                found.append(_ratio(results, peer.name, phase, f"times as fast as {peer.label}{apart}", ours=entry.name))
    return [ratio for ratio in found if ratio is not None]


def costs(results: Results) -> list[Cost]:
    """Of everybody, phase by phase."""
    return [
        _cost(entry, phase, measured)
        for entry in (*CORE, *PEER_ENTRIES)
        for phase in entry.phases
        if phase != "nothing_new" and (measured := _of(results, entry.name, phase))
    ]


def stages(results: Results) -> dict[str, dict[str, float]]:
    """Microseconds of wall time a record of each stage of the pipeline by phase, medians; stages overlap, for they are pipelined."""
    found: dict[str, dict[str, float]] = {}
    for phase in CORE_PHASES:
        measured = _of(results, PIPELINE, phase)
        names = [name for name in (measured[0].notes if measured else ()) if name.endswith("_seconds")]
        found[phase] = {
            name.removesuffix("_seconds"): statistics.median(each.notes[name] / each.records * 1e6 for each in measured)
            for name in names
        }
    return found


def nothing_new(results: Results) -> dict[str, float]:
    """What a run costs that finds nothing: medians."""
    measured = _of(results, PIPELINE, "nothing_new")
    if not measured:
        return {}
    return {
        "seconds": statistics.median(each.seconds for each in measured),
        "requests": statistics.median(each.notes["requests"] for each in measured),
        "transactions": statistics.median(each.transactions for each in measured),
        "wal_bytes": statistics.median(each.wal_bytes for each in measured),
    }


def phase_label(phase: str) -> str:
    return PHASE_LABELS[phase]


def _of(results: Results, name: str, phase: str) -> list[Measurement]:
    return [each for each in results.measurements if each.name == name and each.phase == phase]


def _cpu_seconds(measurement: Measurement) -> float | None:
    server = measurement.server_cpu_seconds
    return None if server is None else measurement.client_cpu_seconds + server


def _ratio(results: Results, other: str, phase: str, measure: str, *, ours: str = PIPELINE) -> Ratio | None:
    """None where one of the two was not measured."""
    our_rounds = {each.round: each for each in _of(results, ours, phase)}
    pairs = [(theirs, our_rounds[theirs.round]) for theirs in _of(results, other, phase) if theirs.round in our_rounds]
    if not pairs:
        return None
    rounds = tuple((theirs.seconds / theirs.records) / (our.seconds / our.records) for theirs, our in pairs)
    best = min(theirs.seconds / theirs.records for theirs, _ in pairs) / min(our.seconds / our.records for _, our in pairs)
    cpu = [
        (their_cpu / theirs.records) / (our_cpu / our.records)
        for theirs, our in pairs
        if (their_cpu := _cpu_seconds(theirs)) is not None and (our_cpu := _cpu_seconds(our))
    ]
    label = next(entry.label for entry in ENTRIES if entry.name == other)
    return Ratio(other, label, phase, measure, statistics.median(rounds), best, rounds, statistics.median(cpu) if cpu else None)


def _cost(entry: Entry, phase: str, measured: Sequence[Measurement]) -> Cost:
    rates = [each.records / each.seconds for each in measured]
    server = [each.server_cpu_seconds / each.records * 1e6 for each in measured if each.server_cpu_seconds is not None]
    return Cost(
        name=entry.name,
        label=entry.label,
        phase=phase,
        records=measured[0].records,
        records_per_second=statistics.median(rates),
        best_records_per_second=max(rates),
        client_us=statistics.median(each.client_cpu_seconds / each.records * 1e6 for each in measured),
        server_us=statistics.median(server) if server else None,
        wal_bytes=statistics.median(each.wal_bytes / each.records for each in measured),
        peak_rss_bytes=max(each.peak_rss_bytes for each in measured),
    )
