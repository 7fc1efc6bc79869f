"""Writers of overlapping batches that each go either way at random, beside an application that upserts row by row, while their
sessions are ended: the table is the fold, each row has been counted as created once, and nobody has met a deadlock."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from unittest.mock import patch

import psycopg

from sequin_pipeline.errors import PipelineError
from sequin_pipeline.ledger.ledger import Ledger
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.session import Session
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.table.target import collection_target
from sequin_pipeline.write.job import WriteJob
from sequin_pipeline.write.known_rows import Asking
from sequin_pipeline.write.prepare import PageGroup
from sequin_pipeline.write.writer import TableWriter
from tests.support.builders import collection, record
from tests.support.reading import query
from tests.support.syncing import sync
from tests.support.ways import WAYS, going, ways_of

WRITERS = 4
IDS_A_ROUND = 200
BATCHES_A_WRITER = 5
VERSIONS = 6
LONGEST_PAUSE_SECONDS = 0.05
KILL_SECONDS = (0.05, 0.3)
"""Between two sessions that are ended."""

THING = collection()
WRITTEN = (
    "insert into demo.thing as t (id, upstream_id, sync_id, updated_idx, deleted, status, inserted_at, updated_at)"
    " values (%s, 'u', 's', %s, false, %s, now(), now()) on conflict (id) do update set updated_idx = excluded.updated_idx,"
    " deleted = false, status = excluded.status, content_hash = null, updated_at = now() where t.updated_idx < excluded.updated_idx"
    " returning xmax = 0"
)
"""An application's own upsert."""

Version = tuple[str, int]


@dataclass
class Races:
    """One table, on which round after round others meet. Versions of ours are even, those of the application odd."""

    url: str
    chance: Random
    rounds: int = 0
    versions: int = 0
    batches: Counter[str] = field(default_factory=Counter)
    foreign: int = 0
    ended: int = 0

    def __post_init__(self) -> None:
        sync(self.url, of=THING, run_id="before")

    @property
    def summary(self) -> str:
        """What all rounds came to."""
        ways = ", ".join(f"{what} {count}" for what, count in self.batches.most_common())
        return f"{self.rounds} races of {self.versions} versions: batches {ways}; {self.ended} sessions ended; 0 rows wrong, 0 deadlocks"

    def play(self) -> str:
        """One round with ids of its own; returns what happened in it, on one line. Raises AssertionError."""
        chance, refused = self.chance, Counter[str]()
        run_id = f"race {self.rounds}"
        ids = [f"{self.rounds:06}-{number:03}" for number in range(IDS_A_ROUND)]
        works = [[self._batch(ids) for _ in range(BATCHES_A_WRITER)] for _ in range(WRITERS)]
        foreign = [(each, 2 * chance.randrange(VERSIONS) + 1) for each in chance.sample(ids, IDS_A_ROUND // 3)]
        pausing = Asking.pause

        def pause(asking: Asking) -> None:
            refused["refused"] += 1
            pausing(asking)

        with (
            going(chance.choice(WAYS[1:]), seed=chance.getrandbits(32)),
            patch.object(Asking, "pause", pause),
            self._ended_sessions(Random(chance.random()), is_on=chance.random() < 0.5),
            ThreadPoolExecutor(WRITERS + 1) as threads,
        ):
            writing = [threads.submit(self._write, work, run_id) for work in works]
            created = threads.submit(self._upsert, foreign)
            for done in writing:
                done.result()
            self.foreign += created.result()
        self._compare(ids, {*(version for work in works for batch in work for version in batch), *foreign})
        self.rounds += 1
        told = Counter(ways_of(self.url, run_id)) + refused
        self.batches += told
        return f"race {self.rounds}: " + ", ".join(f"{what} {count}" for what, count in sorted(told.items())) + "; equal"

    def _batch(self, ids: Sequence[str]) -> list[Version]:
        """Of many or of few ids, some of them twice."""
        chance = self.chance
        share = chance.choice((0.3, 0.05, 0.02, 0.01))
        some = [each for each in ids if chance.random() < share] or [chance.choice(ids)]
        batch = [(each, 2 * chance.randrange(VERSIONS)) for each in some for _ in range(chance.choice((1, 1, 1, 2)))]
        chance.shuffle(batch)
        return batch

    def _write(self, work: Sequence[Sequence[Version]], run_id: str) -> None:
        """Each batch as often as it takes: what the next run would do."""
        normalize, ledger = Normalizer(THING), Ledger("demo.thing", THING.label)
        warehouse = Warehouse(self.url, sleep=lambda seconds: time.sleep(min(seconds, LONGEST_PAUSE_SECONDS)))
        with Session(warehouse) as session:
            writer = TableWriter(session, WriteJob(collection_target(THING), ledger, run_id, "backfill"))
            for batch in work:
                page = normalize(json.dumps([_record(*version) for version in batch]).encode())
                while not _is_written(writer, PageGroup(pages=(page,))):
                    continue

    def _upsert(self, versions: Sequence[Version]) -> int:
        """Row by row, in no order; returns how many rows it created."""
        created = 0
        with psycopg.connect(self.url, autocommit=True, application_name="foreign") as connection:
            for record_id, version in versions:
                row = connection.execute(WRITTEN, (record_id, version, f"{record_id} {version}")).fetchone()
                created += row == (True,)
        return created

    @contextmanager
    def _ended_sessions(self, chance: Random, *, is_on: bool) -> Iterator[None]:
        over = threading.Event()

        def end() -> None:
            with psycopg.connect(self.url, autocommit=True, application_name="killer") as connection:
                while not over.wait(chance.uniform(*KILL_SECONDS)):
                    found = connection.execute(
                        "select pid from pg_stat_activity where application_name = 'sequin_pipeline' and state <> 'idle'"
                        " and datname = current_database()"
                    ).fetchall()
                    if found:
                        connection.execute("select pg_terminate_backend(%s)", chance.choice(found))
                        self.ended += 1

        ending = threading.Thread(target=end if is_on else lambda: None)
        ending.start()
        try:
            yield
        finally:
            over.set()
            ending.join()

    def _compare(self, ids: Sequence[str], delivered: set[Version]) -> None:
        newest = {each: max(version for record_id, version in delivered if record_id == each) for each, _ in delivered}
        self.versions += len(delivered)
        found = query(
            self.url, "select id, updated_idx, deleted, status from demo.thing where id between %s and %s", ids[0], ids[-1]
        )
        expected = {(each, version, _is_deleted(version), f"{each} {version}") for each, version in newest.items()}
        assert set(found) == expected, f"round {self.rounds}: {sorted(set(found) ^ expected)}"
        [(rows, counted, created)] = query(
            self.url,
            "select (select count(*) from demo.thing), (select row_count from sequin_pipeline.tables where table_name = 'demo.thing'),"
            " (select sum(created)::bigint from sequin_pipeline.merges)",
        )
        assert rows - self.foreign == counted == created, f"round {self.rounds}: {rows}, {self.foreign}, {counted}, {created}"
        assert query(self.url, "select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]


def _is_written(writer: TableWriter, group: PageGroup) -> bool:
    try:
        writer.write(group)
    except PipelineError as error:
        if not error.is_retryable:
            raise
        return False
    return True


def _record(record_id: str, version: int) -> dict[str, object]:
    return record(record_id, version, deleted=_is_deleted(version), data={"status": f"{record_id} {version}", "amount": version})


def _is_deleted(version: int) -> bool:
    """Every third version of ours is a tombstone with its object."""
    return version % 6 == 0
