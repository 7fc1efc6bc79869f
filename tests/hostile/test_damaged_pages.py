"""Any bytes end in an error of ours or in the right rows, and both readers of records always say the same."""

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import psycopg
import pytest
from hypothesis import event, given

from sequin_pipeline.errors import SourceFault, TooManyRejects
from sequin_pipeline.normalize.normalizer import Normalizer
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.records.json_text import elements
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.sources import Page, ReadRequest
from sequin_pipeline.sources.page_envelope import EnvelopeError, read_page
from tests.hostile.damage import COLUMNS, REAL, bodies, records_texts, strict
from tests.hostile.effort import examples
from tests.normalize.test_paths_agree import NothingIsCertain
from tests.support.builders import ListSource, collection, live_run_config

ISSUES = replace(collection(columns=COLUMNS, table="github.issue", name="issue"), provider="github")


@examples(150)
@given(body=bodies())
def test_any_answer_is_a_page_or_a_fault_of_the_source(body: bytes) -> None:
    try:
        envelope = read_page(body)
    except EnvelopeError:
        event("no page")
        return
    try:
        normalized = Normalizer(ISSUES)(envelope.records)
    except SourceFault:
        event("no array of records")
        return

    event("a page")
    with suppress(ValueError):
        answer = strict(body)
        assert isinstance(answer, dict)
        assert normalized.fetched == len(answer["records"])
        assert envelope.cursor == (answer.get("cursor") or None)


@examples(60)
@given(records=records_texts())
def test_what_python_takes_for_a_page_is_one(records: bytes) -> None:
    body = b'{"cursor": "next", "records": %b}' % records
    with suppress(ValueError):
        answer = strict(body)
        assert isinstance(answer, dict)
        if isinstance(answer["records"], list):
            assert read_page(body).cursor == "next"
            assert Normalizer(ISSUES)(records).fetched == len(answer["records"])


@pytest.mark.slow
@examples(150)
@given(records=records_texts())
def test_the_fast_reader_gives_what_the_exact_one_would(records: bytes) -> None:
    fast, exact = Normalizer(ISSUES), Normalizer(ISSUES)
    exact._reader = NothingIsCertain(exact._reader)
    try:
        usual = fast(records)
    except SourceFault:
        event("no array of records")
        with pytest.raises(SourceFault):
            exact(records)
        return

    right = exact(records)

    event(f"{len(usual.rejects)} rejects")
    assert usual.rejects == right.rejects
    assert usual.frame.equals(right.frame)


class OnePage(ListSource):
    """A stream of one page of these bytes."""

    def __init__(self, records: bytes) -> None:
        super().__init__([])
        self._page = Page(records, "1", datetime(2030, 1, 1, tzinfo=UTC))

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        yield self._page


def test_of_any_array_each_record_is_in_the_table_or_a_reject(warehouse_url: str) -> None:
    warehouse = Warehouse(warehouse_url)
    run_sync(RecordStream(live_run_config(ISSUES), OnePage(b"[%b]" % REAL[0])), warehouse, run_id="first")

    with psycopg.connect(warehouse_url, autocommit=True) as connection:

        @examples(40)
        @given(records=records_texts(most=5))
        def check(records: bytes) -> None:
            connection.execute("truncate github.issue, sequin_pipeline.rejects, sequin_pipeline.cursors, sequin_pipeline.merges")
            stream = RecordStream(live_run_config(ISSUES), OnePage(records))

            try:
                with suppress(TooManyRejects):
                    run_sync(stream, warehouse, run_id="run")
            except SourceFault:
                event("no array of records")
                assert connection.execute("select from github.issue").fetchall() == []
                return

            rows = connection.execute("select id, updated_idx, data::text from github.issue").fetchall()
            refused = [raw for (raw,) in connection.execute("select raw from sequin_pipeline.rejects")]
            event(f"{len(refused)} rejects, {len(rows)} rows")
            assert {record_id: (version, data and exactly(data)) for record_id, version, data in rows} == fold(
                [raw for raw in elements(records) if raw not in refused]
            )
            assert set(refused) <= set(elements(records))
            counts = connection.execute("select sum(fetched), sum(rejected), sum(created) from sequin_pipeline.merges").fetchone()
            assert counts == (len(elements(records)), sum(raw in refused for raw in elements(records)), len(rows))

        check()


def fold(raws: Iterable[bytes]) -> dict[str, tuple[int, object]]:
    """By id the greatest version, of equal ones the last, and its object; a tombstone without one leaves the object as it is."""
    rows: dict[str, tuple[int, object]] = {}
    for raw in raws:
        record = exactly(raw)
        assert isinstance(record, dict)
        record_id, version = id_of(record), int(str(record["updated_idx"]))
        stored_version, stored_data = rows.get(record_id, (version, None))
        data = record.get("data")
        is_bare = record.get("deleted", False) and not data
        if version >= stored_version:
            rows[record_id] = version, stored_data if is_bare else data
    return rows


def exactly(text: str | bytes) -> object:
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def id_of(record: dict[str, object]) -> str:
    """Its own, or that of the older form, which has none."""
    if "id" in record:
        return str(record["id"])
    sync = record.get("sync")
    sync_id = sync["id"] if isinstance(sync, dict) and "id" in sync else record["sync_id"]
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://api.sequin.io/v1/records")
    return str(uuid.uuid5(namespace, json.dumps([sync_id, "github:issue", record["upstream_id"]], ensure_ascii=False)))
