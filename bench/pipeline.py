"""The pipeline itself, in a plain process: `python -m bench.pipeline`, a contestant.

Options: `part` is "whole" (from HTTP to the table) or "source" (what it delivers thrown away, and acknowledged: what the source alone
could deliver); `kind` is that of the source; `limit`, its objects a page; `lanes`, how many connections write; `database_url`, another
database than that of the place; `data`, the type of that column; `keeps_versions`, whether there is a history table.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module
from uuid import uuid4

from bench import child
from bench.collection import TABLE, collection_in, live_run_config
from bench.contestants import QUEUES
from sequin_pipeline.catalog import Collection, HistoryTable, SourceAccount, SourceDeclaration, TableName
from sequin_pipeline.postgres.warehouse import Warehouse
from sequin_pipeline.read.stream import RecordStream
from sequin_pipeline.reads import Read, RestApi
from sequin_pipeline.runs.collection_run import run_sync
from sequin_pipeline.runs.outcome import SyncOutcome
from sequin_pipeline.runs.queue_run import drain
from sequin_pipeline.sources import ReadRequest, Source
from sequin_pipeline.sources.keyed.source import KeyedSource
from sequin_pipeline.sources.rest.source import rest_source
from sequin_pipeline.sources.sequin import SequinSource
from sequin_pipeline.sources.sequin_consumer import SequinConsumerSource
from sequin_pipeline.sources.sequin_stream import SequinStreamSource
from sequin_pipeline.sources.stripe.source import LIVE_REQUESTS_PER_SECOND, StripeSource

CONTINUING_PHASES = ("new", "nothing_new")
"""They go on from the live cursor; the others read the stream from its beginning, in which records have changed or not."""

ACCOUNT = SourceAccount("bench", "STRIPE_API_KEY")

PAGE_LIMIT = 100
"""As many objects as most APIs give at once."""

REST_LIST = Read(
    path="things",
    key=(("id",),),
    select=("data",),
    version=("updated_at",),
    params={"since": "{since}"},
    is_ascending=True,
    paginator={"type": "cursor", "cursor_path": "next", "cursor_param": "after"},
)


def main() -> None:
    place = child.place()

    def prepare(task: child.Task) -> Callable[[], Mapping[str, float]]:
        options = {**place.options, **task.options}
        kind = options.get("kind", "sequin")
        history = HistoryTable(TableName(place.schema, f"{TABLE}_history")) if options.get("keeps_versions") else None
        collection = replace(_collection(place.schema, kind), data_type=options.get("data", "jsonb"), history_table=history)
        source = _source(kind, place.api_url, int(options.get("limit", PAGE_LIMIT)))
        if options["part"] == "source":
            return lambda: _drain_source(source, collection)
        warehouse, run_id = Warehouse(options.get("database_url", place.database_url)), str(uuid4())
        if kind in QUEUES:
            return lambda: notes_of(drain(source, (collection,), warehouse, run_id=run_id).collections[collection.label])
        run_config = live_run_config(collection, full_refresh=task.phase not in CONTINUING_PHASES)
        lanes = int(options.get("lanes", 1))
        return lambda: notes_of(run_sync(RecordStream(run_config, source), warehouse, run_id=run_id, lanes=lanes))

    child.compete(prepare)


def _drain_source(source: Source, collection: Collection) -> Mapping[str, float]:
    requests = 0
    for page in source.pages(ReadRequest(frozenset({collection.id}))):
        requests += page.cost.requests
        if page.cursor is not None:
            source.committed(page.cursor)
    return {"requests": requests}


def _collection(schema: str, kind: str) -> Collection:
    collection = collection_in(schema)
    if kind == "rest":
        return replace(collection, observes_time=KeyedSource.observes_time)
    if kind != "stripe":
        return collection
    return replace(collection, source=SourceDeclaration("stripe", (ACCOUNT,)), observes_time=StripeSource.observes_time)


def _source(kind: str, url: str, limit: int) -> Source:
    if kind == "rest":
        # What is imported when something is first read, as it is by the peer before it is measured.
        import_module("dlt.sources.helpers.rest_client.paginators")
        read = replace(REST_LIST, params={**REST_LIST.params, "limit": limit})
        return rest_source(RestApi(url, {"subscription": read}), {})
    if kind == "sequin_consumer":
        return SequinConsumerSource(url, consumer="bench")
    if kind == "sequin_stream":
        return SequinStreamSource(url, consumer="bench")
    if kind == "stripe":
        # As fast as an account in live mode may be asked.
        keys = {ACCOUNT.name: "sk_test_bench"}
        return StripeSource(keys, (ACCOUNT,), base_url=url, requests_per_second=LIVE_REQUESTS_PER_SECOND)
    return SequinSource(url)


def notes_of(outcome: SyncOutcome) -> dict[str, float]:
    """Counts, and the seconds of each stage."""
    counts = outcome.counts
    return {
        "requests": outcome.requests,
        "pages": outcome.pages,
        "fetched": counts.fetched,
        "inserted": counts.inserted,
        "updated": counts.updated,
        "unchanged": counts.unchanged,
        **{f"{stage}_seconds": seconds for stage, seconds in outcome.seconds.items()},
    }


if __name__ == "__main__":
    main()
