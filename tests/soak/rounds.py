"""Round after round: the stream grows, runs of all kinds work beside each other under faults, and when all is quiet again the table
is compared with the fold, and the ledger with what was delivered."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

import psycopg

from sequin_pipeline.errors import PipelineError, TooManyRejects
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RunConfig
from sequin_pipeline.sandbox.feeds import RecordedFeed
from sequin_pipeline.sandbox.server import running_sandbox
from sequin_pipeline.sandbox.settings import Settings
from sequin_pipeline.sources import Source, TimeWindow
from sequin_pipeline.sources.http.retries import RetryPolicy
from tests.e2e.project import SandboxControls
from tests.faults.faulty_api import cursor_after
from tests.faults.landing import KEPT, Landing, lines
from tests.soak.growing import IDS, GrowingStream
from tests.soak.races import Races
from tests.soak.trouble import Trouble
from tests.sources.reading import TOKEN, source
from tests.support.builders import EPOCH, live_run_config
from tests.support.checkout import CHECKOUT
from tests.support.postgres import SETTINGS, running_server

KINDS = ("rounds", "races")
"""Whole runs under faults of all kinds, and writers of one table that race each other."""
PAGE_RECORDS = 10
LONGEST_PAUSE_SECONDS = 0.2
"""Between attempts: six of them outlast a restart, and a round stays short."""
PROCESS_SECONDS = (1.0, 4.0)
"""Until a process is killed: it imports for a second or two, and reads and writes for as long."""


@dataclass
class Report:
    """How often what happened."""

    rounds: int = 0
    records: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)


def soak(
    seed: int, *, goes_on: Callable[[int], bool], tell: Callable[[str], None], kinds: Sequence[str] = KINDS
) -> tuple[Report, Races]:
    """Rounds and races in turn for as long as `goes_on` says of their number. Raises AssertionError where the table or the ledger is
    wrong, and whatever a run raises that is no error of ours."""
    settings = {**SETTINGS, "synchronous_commit": "on"}
    with running_server(settings) as server, running_sandbox(_empty_feed(), _api_settings()) as url:
        landing = Landing(server.url(server.make_database()), of=KEPT)
        chance = Random(seed)
        api = SandboxControls(url)
        rounds = Rounds(landing, GrowingStream(chance), Trouble(server, api, landing.url, chance), chance)
        races = Races(server.url(server.make_database()), chance)
        rounds.begin()
        while goes_on(max(rounds.report.rounds, races.rounds)):
            if "rounds" in kinds:
                tell(rounds.play())
            if "races" in kinds:
                tell(races.play())
    return rounds.report, races


def _empty_feed() -> RecordedFeed:
    return RecordedFeed([], is_compacted=False)


def _api_settings() -> Settings:
    return Settings(token=TOKEN, limit_cap=PAGE_RECORDS)


@dataclass
class Rounds:
    """What is played on, and what has happened so far."""

    landing: Landing
    stream: GrowingStream
    trouble: Trouble
    chance: Random
    report: Report = field(default_factory=Report)

    def begin(self) -> None:
        """An empty table, with a column of somebody else's."""
        self._sync_live()
        with psycopg.connect(self.landing.url) as foreign:
            foreign.execute("alter table demo.thing add column note text")

    def play(self) -> str:
        """One round; returns what happened in it, on one line."""
        chance, trouble = self.chance, self.trouble
        settled = len(self.stream.lines)
        trouble.api.append(lines(*self.stream.grow(chance.randint(1, 120))))
        kinds = [chance.choice(("live", "live", "killed process")), *chance.choices(("live", "backfill", "backfill"), k=2)]
        run_configs = [self._backfill_run_config(settled) if kind == "backfill" else live_run_config(KEPT) for kind in kinds]
        batches = [chance.choice((5, 20, 500)) for _ in kinds]
        faults = [trouble.draw() for _ in range(chance.randint(1, 3))]
        pauses = [chance.uniform(0, 0.4) for _ in faults]
        with self._foreign_writer(Random(chance.random())), ThreadPoolExecutor(len(kinds)) as threads:
            running = [
                threads.submit(self._run_process, chance.uniform(*PROCESS_SECONDS))
                if kind == "killed process"
                else threads.submit(self._run, run_config, batch)
                for kind, run_config, batch in zip(kinds, run_configs, batches, strict=True)
            ]
            for fault, pause in zip(faults, pauses, strict=True):
                time.sleep(pause)
                trouble.make(fault)
            endings = [run.result() for run in running]
            trouble.end()
        self._compare()
        self.report.rounds += 1
        self.report.records = len(self.stream.lines)
        self.report.runs.update(kinds)
        self.report.faults.update(faults)
        self.report.endings.update(endings)
        return (
            f"round {self.report.rounds}: {len(self.stream.lines)} records; {', '.join(kinds)}; under {'; '.join(faults)}; "
            f"ended with {', '.join(endings)}; equal"
        )

    def _compare(self) -> None:
        """Once a run has come to the end in peace."""
        self._sync_live()
        self.landing.delivered = list(self.stream.lines)
        self.landing.rejected = self.stream.rejected
        self.landing.check_against(self.stream.fold, cursor=cursor_after(len(self.stream.lines)), modes=("live",))
        assert self.landing.versions() == self.stream.versions.rows()

    def _sync_live(self) -> None:
        with suppress(TooManyRejects):
            self.landing.sync(self._source())

    def _run(self, run_config: RunConfig, batch_records: int) -> str:
        warehouse = Warehouse(self.landing.url, sleep=lambda seconds: time.sleep(min(seconds, LONGEST_PAUSE_SECONDS)))
        try:
            self.landing.sync(self._source(), run_config=run_config, warehouse=warehouse, batch_records=batch_records)
        except PipelineError as error:
            return type(error).__name__
        return "success"

    def _run_process(self, seconds: float) -> str:
        command = [sys.executable, "-m", "tests.faults.sync_process", self.trouble.api.url, self.landing.url, "kept"]
        with subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=seconds)
            process.kill()
        return f"status {process.returncode}"

    def _backfill_run_config(self, settled: int) -> RunConfig:
        """A window of what live runs have read before: which object a bare tombstone keeps depends on what came before it."""
        first = self.chance.randint(0, settled)
        last = self.chance.randint(first, settled)
        window = TimeWindow(EPOCH + timedelta(minutes=first), EPOCH + timedelta(minutes=last))
        return RunConfig(KEPT, "backfill", window, partition_keys=("2024-01",), window_starts=(EPOCH,))

    def _source(self) -> Source:
        return source(self.trouble.api.url, retry=RetryPolicy(budget_seconds=2.0))

    @contextmanager
    def _foreign_writer(self, chance: Random) -> Iterator[None]:
        """Notes on random rows, several in one transaction and in no order: it waits for our rows, and we for its."""
        ended = threading.Event()

        def write() -> None:
            while not ended.wait(0.01):
                with suppress(psycopg.Error), psycopg.connect(self.landing.url) as foreign:
                    for number in chance.sample(range(IDS), 5):
                        foreign.execute("update demo.thing set note = %s where id = %s", (str(number), f"r{number:03}"))

        writing = threading.Thread(target=write)
        writing.start()
        try:
            yield
        finally:
            ended.set()
            writing.join()
