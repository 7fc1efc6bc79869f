"""`make load`: the real command syncs every collection each minute while the stream changes, with two backfills beside it.

Each sync is a process, as a tick of the schedule is, and goes through Dagster. Exit status 1 when a run failed, a table differs from what
was served, a record has no fate, the lag is not bounded, or memory grows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.e2e.project import Project, build_project
from tests.load.changes import Change, Scale, change
from tests.support.checkout import CHECKOUT
from tests.support.postgres import SETTINGS, running_server

DURABLE: Mapping[str, str] = {
    **SETTINGS,
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "max_wal_size": "2GB",
}
"""As users have it, not as tests do."""

TICK_SECONDS = 60.0
GROWTH = 1.1
"""Of memory, from the first half of the ticks to the second: more than that is a leak."""


@dataclass(frozen=True)
class Tick:
    """One sync of all collections: when it began, how long it took, what it held at most, how far behind its end the cursor stood."""

    command: str
    minute: float
    seconds: float
    peak_rss_mb: float
    lag_seconds: float


def main() -> int:
    arguments = _parser().parse_args()
    scale = Scale(arguments.collections, arguments.syncs, arguments.rate)
    seconds = 60 * arguments.minutes
    with (
        tempfile.TemporaryDirectory(prefix="sequin-load-") as folder,
        running_server(DURABLE) as server,
        _running_api(scale, seconds) as url,
    ):
        databases = [server.url(server.make_database()) for _ in range(2)]
        project = build_project(Path(folder) / "project", warehouse_url=databases[0], dagster_url=databases[1], api_url=url)
        _declare(project, scale)
        ticks = _run(project, seconds)
        faults = [*_judge(ticks), *_compare(project, scale, int(scale.rate * seconds))]
    report = {
        "scale": asdict(scale),
        "minutes": arguments.minutes,
        "cpus": os.cpu_count(),
        "ticks": [asdict(tick) for tick in ticks],
    }
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(faults) or "every table is what was served, every record has one fate, lag and memory are level")
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=2_000.0, help="changes a second")
    parser.add_argument("--collections", type=int, default=24)
    parser.add_argument("--syncs", type=int, default=20, help="syncs of each collection")
    parser.add_argument("--output", type=Path, help="a file for the figures as JSON")
    return parser


@contextmanager
def _running_api(scale: Scale, seconds: float) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.load.api", *map(str, (scale.collections, scale.syncs, scale.rate, seconds))]
    with subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def _declare(project: Project, scale: Scale) -> None:
    columns = "{columns: {number: {path: number, type: bigint}, status: {path: status, type: text}}}"
    collections = "".join(f"    c{number:02}: {columns}\n" for number in range(scale.collections))
    project.declare(
        load=f"  provider: load\n  windows: {{every: day, start: {datetime.now(UTC):%Y-%m-%d}}}\n  collections:\n{collections}"
    )


def _run(project: Project, seconds: float) -> list[Tick]:
    """A sync each minute until the stream stands still, then one more; backfills at a third and at two thirds."""
    began, ticks = time.monotonic(), list[Tick]()
    backfills = [seconds / 3, seconds * 2 / 3]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    print("minute  command   seconds  peak MB  lag s", flush=True)
    while True:
        minute = (time.monotonic() - began) / 60
        is_last = 60 * minute >= seconds
        beside = None
        if backfills and 60 * minute >= backfills[0]:
            backfills.pop(0)
            beside = project.start("backfill", "load/c00", "load/c01", "--from", today)
        started = time.monotonic()
        ticks.append(_tick(project, "sync", project.start("sync"), minute, started))
        if beside is not None:
            ticks.append(_tick(project, "backfill", beside, minute, started))
        if is_last:
            return ticks
        time.sleep(max(0.0, began + 60 * minute + TICK_SECONDS - time.monotonic()))


def _tick(project: Project, command: str, process: "subprocess.Popen[str]", minute: float, started: float) -> Tick:
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        said = process.stderr.read()
        process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"the {command} at minute {minute:.1f} ended with status {process.returncode}:\n{said[-2_000:]}")
    tick = Tick(
        command=command,
        minute=round(minute, 1),
        seconds=round(time.monotonic() - started, 1),
        peak_rss_mb=round(usage.ru_maxrss / 1024),
        lag_seconds=round(_lag_seconds(project), 1),
    )
    print(
        f"{tick.minute:6}  {tick.command:8}  {tick.seconds:7}  {tick.peak_rss_mb:7}  {tick.lag_seconds:5}",
        flush=True,
    )
    return tick


def _lag_seconds(project: Project) -> float:
    """How old the newest record is that each collection has, at worst."""
    [(lag,)] = project.query("select coalesce(extract(epoch from now() - min(stream_time)), 0) from sequin_pipeline.cursors")
    return float(str(lag))


def _judge(ticks: list[Tick]) -> list[str]:
    syncs = [tick for tick in ticks if tick.command == "sync"]
    late = [tick for tick in syncs[:-1] if tick.lag_seconds > 2 * TICK_SECONDS]
    faults = [f"at minute {tick.minute} a collection was {tick.lag_seconds} s behind" for tick in late]
    early, later = syncs[1 : len(syncs) // 2 + 1], syncs[len(syncs) // 2 + 1 :]
    if early and later and max(tick.peak_rss_mb for tick in later) > GROWTH * max(tick.peak_rss_mb for tick in early):
        faults.append("memory grows from tick to tick")
    return faults


def _compare(project: Project, scale: Scale, changes: int) -> list[str]:
    newest: dict[str, Change] = {}
    for number in range(changes):
        one = change(number, scale)
        newest[one.record_id] = one
    faults = []
    for collection in sorted({one.collection for one in newest.values()}):
        expected = {
            (one.record_id, one.sync_id, one.version, one.is_deleted, one.number)
            for one in newest.values()
            if one.collection == collection
        }
        found = project.query(f"select id, sync_id, updated_idx, deleted, number from load.{collection}")
        if len(found) != len(expected) or set(found) != expected:
            faults.append(
                f"table load.{collection} has {len(found)} rows, {len(set(found) - expected)} of them other than was served"
            )
    [(fetched, fated)] = project.query(
        "select sum(fetched), sum(inserted + updated + deleted + unchanged + stale + duplicate + rejected) from sequin_pipeline.merges"
    )
    print(f"{changes:,} changes, {len(newest):,} records, {fetched:,} fetched by all runs")
    if fetched != fated:
        faults.append(f"{fetched} records were fetched, and {fated} have a fate")
    return faults


if __name__ == "__main__":
    sys.exit(main())
