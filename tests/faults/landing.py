"""A collection's table under faults: runs that write to it, and what must hold for it after each of them, however it ended.

What is expected comes from a fold of what runs were given; nothing of the pipeline's own arithmetic is asked.
"""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sequin_pipeline.catalog import Collection, Column, HistoryTable, TableName, parse_path
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream, RunConfig
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.runs.queue_run import drain
from sequin_pipeline.sources import Source
from tests.support.builders import COLUMNS, collection, live_run_config
from tests.support.children import counted_children, parents_in, stored_children, with_children
from tests.support.children import fold as children_of
from tests.support.fold import Fold, Record
from tests.support.racing import wait_for_activity
from tests.support.reading import query, raw
from tests.support.versions import VERSIONS, Version, VersionsFold

THING = collection(columns=(*COLUMNS, Column("marker", parse_path("record.marker"), "text")))
KEPT = replace(with_children(THING), history_table=HistoryTable(TableName("demo", "thing_history")))
"""With child tables and a history table, all of which a batch writes."""

SYNC_ID = "s1"
"""That of every record here."""

FATES = ("inserted", "updated", "deleted", "unchanged", "stale", "duplicate", "rejected")


@dataclass
class Landing:
    """One collection in one database. `delivered` are the records of every batch that was committed, in their order and as often as
    they came; `rejected` those among them that cannot be stored, and `written` is how their source writes them."""

    url: str
    of: Collection = THING
    written: Callable[[Record], bytes] = raw
    delivered: list[Record] = field(default_factory=list)
    rejected: list[Record] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def sync(
        self, source: Source, *, run_config: RunConfig | None = None, warehouse: Warehouse | None = None, **options: Any
    ) -> SyncOutcome:
        """One run to its end, live unless planned otherwise; `options` are those of `run_sync`."""
        options = {"run_id": f"run {next(self._numbers)}", **options}
        return run_sync(RecordStream(run_config or live_run_config(self.of), source), warehouse or Warehouse(self.url), **options)

    def drain(self, source: Source, *, warehouse: Warehouse | None = None, **options: Any) -> SyncOutcome:
        """One run of a queue to its end; `options` are those of `drain`."""
        options = {"run_id": f"run {next(self._numbers)}", **options}
        return drain(source, [self.of], warehouse or Warehouse(self.url), **options).collections[self.of.label]

    def deliver(self, *records: Record, rejected: Sequence[Record] = ()) -> None:
        """Says what runs have committed since the last time."""
        self.delivered += [*records, *rejected]
        self.rejected += rejected

    def cursors(self) -> set[object]:
        """Of every lane; none before the first live run."""
        return {cursor for (cursor,) in query(self.url, "select cursor from sequin_pipeline.cursors")}

    def versions(self) -> list[Version]:
        """What the history table holds, in the order of id, time and version."""
        assert self.of.history_table is not None
        return query(self.url, VERSIONS.format(self.of.history_table.name))

    def wait_until_alone(self) -> None:
        """Until the server has noticed that whoever was connected is gone, and has undone what they left open."""
        wait_for_activity(self.url, "datname = current_database()", [], count=0)

    def check(self, *, cursor: str | None) -> None:
        """The table is the fold of what was delivered, each record has one fate in the ledger, the live cursor is exactly where
        the deliveries end (None: where there were none), and every reject is kept, open until a good version as new has come."""
        stored = [record for record in self.delivered if record not in self.rejected]
        fold, versions = empty_fold(self.of), VersionsFold()
        for record in stored:
            fold.deliver_batch([record], rejected=())
            versions.deliver(record)
        self.check_against(fold, cursor=cursor)
        if self.of.history_table is not None:
            assert self.versions() == versions.rows()

    def check_against(self, fold: Fold, *, cursor: str | None, modes: Sequence[str] = ("live", "backfill")) -> None:
        """The same against a fold that is kept elsewhere. `modes` are those of the runs whose deliveries are known."""
        self.check_rows(fold)
        self.check_counts(rows=len(fold.rows), modes=modes)
        assert self.cursors() - {None} == ({cursor} if cursor is not None else set())
        self.check_rejects(fold)

    def check_rows(self, fold: Fold) -> None:
        rows = query(
            self.url, f"select id, updated_idx, deleted, record_inserted_at, marker, status, amount, data from {self.of.table}"
        )
        assert {row[0]: row[1:] for row in rows} == {record_id: row.columns() for record_id, row in fold.rows.items()}
        assert len(rows) == len(fold.rows)
        if self.of.children:
            expected = children_of(parents_in(fold.rows, sync_id=SYNC_ID))
            assert stored_children(self.url, self.of) == expected
            assert counted_children(self.url, self.of) == {name: len(of_table) for name, of_table in expected.items()}

    def check_counts(self, *, rows: int, modes: Sequence[str] = ("live", "backfill")) -> None:
        [(fetched, fates, rejected, gained)] = query(
            self.url,
            "select coalesce(sum(fetched) filter (where mode = any(%(modes)s)), 0),"
            f" coalesce(sum({' + '.join(FATES)}) filter (where mode = any(%(modes)s)), 0),"
            " coalesce(sum(rejected) filter (where mode = any(%(modes)s)), 0), coalesce(sum(created - removed), 0)"
            " from sequin_pipeline.merges where table_name = %(table)s",
            modes=list(modes),
            table=str(self.of.table),
        )
        assert (fetched, fates, rejected) == (len(self.delivered), len(self.delivered), len(self.rejected))
        [(row_count,)] = query(
            self.url, "select row_count from sequin_pipeline.tables where table_name = %s", str(self.of.table)
        ) or [(0,)]
        assert (gained, row_count) == (rows, rows)

    def check_rejects(self, fold: Fold) -> None:
        kept = query(
            self.url,
            "select raw, resolved_at is null from sequin_pipeline.rejects where table_name = %s order by raw",
            str(self.of.table),
        )
        waiting = {self.written(record): self._waits(record, fold) for record in self.rejected}
        assert kept == sorted(waiting.items())

    def _waits(self, record: Record, fold: Fold) -> bool:
        return fold.reached.get(str(record["id"]), 0) < int(str(record["updated_idx"]))


def empty_fold(of: Collection) -> Fold:
    """Of one window that holds all times."""
    beginning = datetime(1, 1, 1, tzinfo=UTC)
    return Fold(of.on_delete == "remove", window_keys=("",), window_starts=(beginning,), observes_time=of.observes_time)


def lines(*records: Record) -> list[bytes]:
    """As a server sends them, and as a reject keeps them."""
    return [json.dumps(record).encode() for record in records]


def assert_says(message: str, pattern: str) -> None:
    """The whole message matches; compared so that a failure shows both."""
    assert re.fullmatch(pattern, message, re.DOTALL), f"\n{message}\ndoes not match\n{pattern}"
