"""The protocol: rounds on fresh tables, contestants taking turns phase by phase, each phase after a checkpoint.

What is compared has run within seconds of each other, so that a busy moment of the machine meets both; and everything is repeated,
so that it shows.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path

import psycopg
from psycopg import sql

from bench import child
from bench.child import Contestant, ContestantFailed, Place, Task
from bench.collection import TABLE, target_in
from bench.contestants import CHECKOUT, PIPELINE, QUEUES, VARIANTS, CannotRun, Entry, command
from bench.postgres import Postgres
from bench.records import FIRST_VERSION, REVISION_STEP, page_files
from bench.server import Seen, Serving
from sequin_pipeline.cli.session import KEPT_MEMORY

ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1", **KEPT_MEMORY}
"""Of every contestant: that of the processes which the UI starts."""


@dataclass(frozen=True)
class Measurement:
    """One contestant's phase in one round. `server_cpu_seconds` is None where the system does not tell."""

    name: str
    phase: str
    round: int
    records: int
    seconds: float
    client_cpu_seconds: float
    server_cpu_seconds: float | None
    wal_bytes: int
    transactions: int
    peak_rss_bytes: int
    notes: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Results:
    """Everything that was measured; `not_run` says why, by name; `unequal` names the tables that differ from the pipeline's."""

    measurements: list[Measurement] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    unequal: list[str] = field(default_factory=list)
    compared: list[str] = field(default_factory=list)


class Api:
    """The process that serves the pages."""

    def __init__(self, process: "subprocess.Popen[str]", url: str) -> None:
        self._process = process
        self.url = url
        self._serving: Serving | None = None

    def serve(self, serving: Serving) -> None:
        """Returns when it serves that. A queue is filled again."""
        if serving != self._serving or serving.kind in QUEUES:
            self._tell(asdict(serving))
            self._serving = serving

    def seen(self) -> Seen:
        """What there was of requests since the last time, or since something else was served."""
        return Seen(**self._tell(None))

    def _tell(self, what: object) -> dict[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise ContestantFailed("the server of the pages has ended")
        told: dict[str, int] = json.loads(answer)
        return told


@contextmanager
def running_api(pages: Path) -> Iterator[Api]:
    """Serves the pages of a folder until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.server", str(pages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    ) as process:
        assert process.stdout is not None
        try:
            yield Api(process, process.stdout.readline().strip())
        finally:
            process.kill()


@dataclass(frozen=True)
class Arena:
    """What all contestants share: the server, the pages, the API, and how many records a round has; `other` is a checkout beside."""

    postgres: Postgres
    pages: Path
    api: Api
    scratch: Path
    records: int
    encoding: str = "zstd"
    other: Path | None = None

    @contextmanager
    def contestant(self, entry: Entry, database: str, **options: object) -> Iterator[Contestant]:
        """The contestant's process, ready, its schema made. Raises CannotRun or ContestantFailed."""
        started = command(entry)
        url = self.postgres.server.url(database)
        make_schema(url, entry)
        place = Place(url, entry.name, str(self.scratch / database / entry.name), self.api.url, {**entry.options, **options})
        with child.contestant(started, place, environment=ENVIRONMENT, directory=entry.directory) as process:
            yield process

    def measure(
        self, entry: Entry, contestant: Contestant, phase: str, *, round_number: int, database: str, **options: object
    ) -> Measurement:
        """One phase of one contestant, after a checkpoint."""
        records = entry.records(self.records)
        files = page_files(self.pages, VARIANTS[phase], records=records)
        contestant.prepare(Task(phase, [str(file) for file in files], records, options))
        self.postgres.checkpoint()
        before = self.postgres.read(database)
        spent = contestant.work()
        after = self.postgres.read(database)
        if spent.notes.get("fetched", 0) not in (0, records):
            raise ContestantFailed(f"the contestant fetched {spent.notes['fetched']:,.0f} records instead of {records:,}")
        has_cpu = before.cpu_seconds is not None and after.cpu_seconds is not None
        return Measurement(
            name=entry.name,
            phase=phase,
            round=round_number,
            records=records,
            seconds=spent.seconds,
            client_cpu_seconds=spent.cpu_seconds,
            server_cpu_seconds=after.cpu_seconds - before.cpu_seconds if has_cpu else None,  # type: ignore[operator]  # has_cpu
            wal_bytes=after.wal_bytes - before.wal_bytes,
            transactions=after.transactions - before.transactions,
            peak_rss_bytes=spent.peak_rss_bytes,
            notes=spent.notes,
        )


def run_round(arena: Arena, entries: Sequence[Entry], results: Results, *, number: int) -> None:
    """One round in a database of its own. A contestant that cannot run or fails is noted, and left out of what follows."""
    database = f"round_{number}"
    arena.postgres.make_database(database)
    sizes = sorted({entry.records(arena.records) for entry in entries})
    a_round = _Round(arena, results, number=number, database=database, sizes=sizes)
    for _, members in groupby(entries, key=lambda entry: entry.group):
        a_round.run_group(list(members))
    arena.postgres.drop_database(database)


class _Round:
    """One round's database; in the first, tables are compared as well."""

    def __init__(self, arena: Arena, results: Results, *, number: int, database: str, sizes: Sequence[int]) -> None:
        self._arena = arena
        self._results = results
        self._number = number
        self._database = database
        self._url = arena.postgres.server.url(database)
        self._sizes = sizes
        self._digests: dict[tuple[str, int], str] = {}

    def run_group(self, entries: Sequence[Entry]) -> None:
        try:
            for entry in entries:
                command(entry)
        except CannotRun as error:
            self._results.not_run[entry.name] = str(error)
            return
        with ExitStack() as stack:
            contestants: dict[Entry, Contestant] = {}
            for entry in entries:
                if entry.name in self._results.not_run:
                    continue
                try:
                    contestants[entry] = stack.enter_context(self._arena.contestant(entry, self._database))
                except ContestantFailed as error:
                    self._results.not_run[entry.name] = str(error)
            for phase in dict.fromkeys(phase for entry in entries for phase in entry.phases):
                self._run_phase(phase, contestants)

    def _run_phase(self, phase: str, contestants: dict[Entry, Contestant]) -> None:
        if phase in ("replay", "known"):
            _vacuum(self._url)
        taking_part = [entry for entry in contestants if phase in entry.phases]
        for entry in taking_part:
            records = entry.records(self._arena.records)
            self._arena.api.serve(Serving(VARIANTS[phase], self._arena.encoding, records=records))
            try:
                measurement = self._arena.measure(
                    entry, contestants[entry], phase, round_number=self._number, database=self._database
                )
            except ContestantFailed as error:
                self._results.not_run[entry.name] = str(error)
                del contestants[entry]
            else:
                self._results.measurements.append(measurement)
        if self._number == 1:
            self._compare(phase, [entry for entry in taking_part if entry in contestants])

    def _compare(self, phase: str, entries: Sequence[Entry]) -> None:
        """Every table must hold what the pipeline's holds, for the records that its contestant was given."""
        if any(entry.name == PIPELINE for entry in entries):
            self._digests |= {(VARIANTS[phase], size): digest(self._url, PIPELINE, records=size) for size in self._sizes}
        for entry in entries:
            if entry.name == PIPELINE:
                continue
            size = entry.records(self._arena.records)
            self._results.compared.append(f"{entry.name} after {phase}")
            if digest(self._url, entry.name, records=size) != self._digests.get((VARIANTS[phase], size)):
                self._results.unequal.append(f"{entry.name} after {phase}")


def make_schema(url: str, entry: Entry) -> None:
    """The contestant's schema, and its table where its tool makes none."""
    target = target_in(entry.name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(entry.name)))
        if not entry.needs_table:
            return
        columns = [
            sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type))
            for column in target.columns
            if column.name != target.content_hash
        ]
        stamps = [
            sql.SQL("{} timestamptz not null default now()").format(sql.Identifier(name))
            for name in ("inserted_at", "updated_at")
        ]
        connection.execute(
            sql.SQL("create table {} ({}, primary key (id))").format(
                sql.Identifier(entry.name, TABLE), sql.SQL(", ").join([*columns, *stamps])
            )
        )


def _vacuum(url: str) -> None:
    """What Postgres tidies up after earlier phases is not charged to a replay."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("vacuum")


def digest(url: str, schema: str, *, records: int) -> str:
    """Of all columns that every contestant writes, in the rows of the first `records`, whatever their order and exact types."""
    with psycopg.connect(url, autocommit=True, options="-c timezone=UTC") as connection:
        row = connection.execute(
            sql.SQL(
                "select count(*), sum(hashtextextended(concat_ws('|', id, upstream_id, internal_id, sync_id, updated_idx, deleted::boolean,"
                " extract(epoch from record_inserted_at::timestamptz), extract(epoch from upstream_created_at::timestamptz),"
                " extract(epoch from upstream_updated_at::timestamptz), stripe_customer_id, plan_id, quantity, status,"
                " extract(epoch from current_period_end::timestamptz), metadata::jsonb, data::jsonb), 0)::numeric)"
                " from {} where updated_idx::bigint %% {} < {}"
            ).format(sql.Identifier(schema, TABLE), sql.Literal(REVISION_STEP), sql.Literal(FIRST_VERSION + records)),
            (),
        ).fetchone()
    assert row is not None
    return f"{row[0]} rows, {row[1]}"
