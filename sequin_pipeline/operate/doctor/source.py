"""These checks ask a source whether it is there, accepts the token, and knows what is declared.

Queues are in queues.py, Stripe's keys in accounts.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from sequin_pipeline.catalog import Collection
from sequin_pipeline.environment.settings import SEQUIN_API_TOKEN, SEQUIN_API_URL
from sequin_pipeline.errors import PipelineError, SourceRefused, SourceUnavailable
from sequin_pipeline.operate.doctor.finding import Finding, Patient, clock_finding, lacking
from sequin_pipeline.sources import ListsSyncs, ReadRequest
from sequin_pipeline.sources.http.client import HttpOptions
from sequin_pipeline.sources.http.retries import RetryPolicy
from sequin_pipeline.sources.registry import open_source, source_kind
from sequin_pipeline.sources.sequin import SequinSource

PATIENCE = HttpOptions(retry=RetryPolicy(budget_seconds=5.0), connect_timeout_seconds=5.0, read_timeout_seconds=5.0)
"""A run retries for minutes; somebody who waits for an answer does not want to."""
SHOWN = 8


def records_api(patient: Patient) -> Iterator[Finding]:
    """Reads one page of one record, and the list of what there is."""
    declared = {
        one.id: one
        for one in patient.collections.values()
        if source_kind(one.source.kind).reads_records_api and not one.is_queued
    }
    if not declared:
        return
    if patient.api_url is None:
        yield Finding("records API", "ok", "the sandbox, which is not running: the next command that needs it starts it")
        return
    if not patient.environment.get(SEQUIN_API_TOKEN, "").strip():
        yield Finding("records API", "problem", f"{SEQUIN_API_TOKEN} is not set", "set it to the token of the records API")
        return
    source = SequinSource(patient.api_url, patient.environment.get(SEQUIN_API_TOKEN), page_size_records=1, options=PATIENCE)
    asked_at = datetime.now(UTC)
    try:
        page = next(source.pages(ReadRequest(frozenset({next(iter(declared))}))))
    except SourceRefused as error:
        yield Finding(
            "records API", "problem", str(error), f"set {SEQUIN_API_TOKEN} to a token that {source.identity.base_url} takes"
        )
        return
    except SourceUnavailable as error:
        yield Finding("records API", "problem", str(error), f"start it, or fix {SEQUIN_API_URL}")
        return
    answered_at = datetime.now(UTC)
    took = (answered_at - asked_at).total_seconds()
    yield Finding("records API", "ok", f"{source.identity.base_url} answers in {took * 1000:,.0f} ms and accepts the token")
    # Its Date has whole seconds: half of one is lost on average.
    yield clock_finding("API clock", page.received_at, asked_at + (answered_at - asked_at) / 2)
    offered = source.collection_ids()
    if offered is None:
        yield Finding("collections", "ok", f"{len(declared)} declared; the API does not say what it offers")
    else:
        yield from _compared(declared, offered)
    yield from divided_loads(source, declared.values())


def divided_loads(source: ListsSyncs, collections: Iterable[Collection]) -> Iterator[Finding]:
    """Says of each collection that declares shards whether its first load can be divided."""
    for one in collections:
        if one.shards == 1:
            continue
        listing = source.list_syncs(one.id)
        syncs = len(listing.sync_ids) if listing is not None else 0
        if syncs > 1:
            shards = min(one.shards, syncs)
            yield Finding(
                "shards", "ok", f"a first load of {one.label} is divided into {shards}, by the {syncs} syncs that the API lists"
            )
        else:
            listed = "no syncs" if listing is None else f"{syncs} {'sync' if syncs == 1 else 'syncs'} of it"
            said = f"a first load of {one.label} is read as one stream, and not as {one.shards}: the API lists {listed}"
            yield Finding("shards", "warning", said, "remove `shards`")


def other_sources(patient: Patient) -> Iterator[Finding]:
    """Checks sources of which nothing else is known here: whether the environment has what they need, and what they offer."""
    declarations = {one.provider: one.source for one in patient.collections.values() if not one.is_queued}
    for provider, source in declarations.items():
        kind = source_kind(source.kind)
        if kind.reads_records_api or kind.reads_accounts or source.connector is not None or source.rest is not None:
            continue
        if (missing := lacking("sources", provider, source, patient)) is not None:
            yield missing
            continue
        yield Finding("sources", "ok", f"{provider} is read from {source.kind}, whose variables are set")
        if kind.takes_options:
            yield from _offered(provider, patient)


def _offered(provider: str, patient: Patient) -> Iterator[Finding]:
    """Opens the source, and compares the collections that it offers, where it says, with those that are declared."""
    declared = {one.id: one for one in patient.collections.values() if one.provider == provider}
    try:
        offered = open_source(next(iter(declared.values())).source, patient.environment).collection_ids()
    except PipelineError as error:
        yield Finding("sources", "problem", f"{provider}: {error}", "the message says what to do")
        return
    if offered is not None:
        yield from _compared(declared, offered)


def _compared(declared: Mapping[str, Collection], offered: frozenset[str]) -> Iterator[Finding]:
    unknown, undeclared = sorted(declared.keys() - offered), sorted(offered - declared.keys())
    yield Finding("collections", "ok", f"{len(declared.keys() & offered)} are declared, and offered by the API")
    if unknown:
        fix = "fix the name, or connect an account that has it"
        yield Finding("collections", "warning", f"declared, and offered by no sync: {some(unknown)}", fix)
    if undeclared:
        yield Finding("collections", "warning", f"offered, and not declared: {some(undeclared)}", "declare them, or leave them")


def some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
