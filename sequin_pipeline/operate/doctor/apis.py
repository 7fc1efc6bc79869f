"""This check asks each API by declaration for a few objects of each collection, and compares them with what is declared."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sequin_pipeline.catalog import Collection, SourceDeclaration
from sequin_pipeline.errors import ConfigurationError, SourceError, SourceRefused
from sequin_pipeline.operate.doctor.finding import Finding, Patient, clock_finding, lacking
from sequin_pipeline.operate.doctor.source import PATIENCE
from sequin_pipeline.reads import JsonPath, Read
from sequin_pipeline.sources.keyed.shape import ValueReader
from sequin_pipeline.sources.rest.lists import ListPage
from sequin_pipeline.sources.rest.source import RestFeed

MOST_PARTITIONS = 5
"""A declaration may name hundreds of repositories: the first ones stand for all."""
RECORDS = 5
"""These are enough to see their order."""


def apis(patient: Patient) -> Iterator[Finding]:
    """Yields a finding for each declared collection, then what the API tells of its clock and of the requests that are left."""
    declarations = {one.provider: one.source for one in patient.collections.values() if one.source.rest is not None}
    for provider, declaration in declarations.items():
        if (missing := lacking("APIs", provider, declaration, patient)) is not None:
            yield missing
            continue
        collections = [one for one in patient.collections.values() if one.provider == provider]
        try:
            yield from _of_provider(provider, declaration, collections, patient)
        except ConfigurationError as error:
            yield Finding("APIs", "problem", f"{provider}: {error}", "the message says what to do")


def _of_provider(
    provider: str, declaration: SourceDeclaration, collections: list[Collection], patient: Patient
) -> Iterator[Finding]:
    assert declaration.rest is not None  # noqa: S101 - the caller asked
    feed = RestFeed(declaration.rest, patient.environment, options=PATIENCE)
    clock: Finding | None = None
    for collection in collections:
        read = declaration.rest.reads[collection.name]
        for number, ask in enumerate(feed.first_pages(collection.name, most=MOST_PARTITIONS, records=RECORDS), start=1):
            where = collection.label if not read.each else f"{collection.label}, value {number} of `each`"
            asked_at = datetime.now(UTC)
            try:
                page = ask()
            except SourceRefused as error:
                yield Finding("APIs", "problem", f"{where}: {error}", "let the credential read it, or do not declare it")
                continue
            except SourceError as error:
                yield Finding("APIs", "problem", f"{where}: {error}", "the message says what to do")
                continue
            took = datetime.now(UTC) - asked_at
            clock = clock or (None if page is None else clock_finding("API clock", page.received_at, asked_at + took / 2))
            yield _of_page(where, read, page, took)
    if clock is not None:
        yield clock
    if declaration.rest.auth is not None and not (feed.endpoint.is_encrypted or feed.endpoint.is_loopback):
        said = f"{provider}: every request to {feed.endpoint.base_url} carries the credential, and is not encrypted"
        yield Finding("APIs", "warning", said, "write https:// if the API can be reached so")
    if told := feed.limits_told():
        yield Finding("APIs", "ok", f"{provider}: {feed.endpoint.base_url} says that {told}")


def _of_page(where: str, read: Read, page: ListPage | None, took: timedelta) -> Finding:
    """Says whether the objects of a page have what is declared."""
    answers = f"{where}: {read.method} {read.path} answers in {took.total_seconds() * 1000:,.0f} ms"
    if page is None or not page.elements:
        return Finding("APIs", "ok", f"{answers}; it has no objects yet, so that nothing else could be seen")
    keys = ValueReader(read.key)
    lacking = next((path for found in map(keys.read, page.elements) for path in _lacking(read.key, found)), None)
    if lacking is not None:
        said = f"{answers}; an object has nothing at {_dotted(lacking)}, which is declared as its key"
        return Finding("APIs", "problem", said, "correct `key`, or `select`, which leads to the objects")
    said = f"{answers}; objects are told apart by {' and '.join(map(_dotted, read.key))}"
    if read.version is None:
        return Finding("APIs", "ok", f"{said}; they have no version, so that each run reads all of them")
    if any(version is None for version in page.versions):
        said += f", and one has neither a time nor an integer at {_dotted(read.version)}, which is declared as its version"
        return Finding("APIs", "problem", said, "correct `version`: an object without one counts as new at each run")
    order = "ascending" if read.is_ascending else "descending" if read.is_descending else "no declared"
    return Finding("APIs", "ok", f"{said}, their versions by {_dotted(read.version)}, in {order} order")


def _lacking(paths: tuple[JsonPath, ...], found: tuple[object, ...] | None) -> Iterator[JsonPath]:
    yield from (path for path, value in zip(paths, found or (None,) * len(paths), strict=True) if value is None)


def _dotted(path: JsonPath) -> str:
    return ".".join(path)
