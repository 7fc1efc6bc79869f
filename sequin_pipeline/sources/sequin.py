"""This source reads the page API of Sequin's API sync, `GET /v1/records`: pages of a compacted stream from a cursor to its end.

The rules of `SequinSource.pages` follow from what the API promises and from what it leaves open; how requests are sent and repeated is in
http/client.py, how a page is taken apart in page_envelope.py.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import msgspec

from sequin_pipeline.errors import ConfigurationError, CursorRefused, SourceFault
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity, SyncListing
from sequin_pipeline.sources.http.client import Answer, HttpClient, HttpOptions, Response
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.http.retries import AskAgain
from sequin_pipeline.sources.page_envelope import EnvelopeError, PageEnvelope, read_page

DEFAULT_PAGE_SIZE_RECORDS = 1000
"""This is the most that servers of this API are known to give; they may give fewer."""

MAX_EMPTY_PAGES = 10_000
"""This many empty pages in a row, each with a new cursor, make the stream count as endless.

A server that looks for a rare collection in steps of 1,000 records passes over 10 million of them in so many. Each cursor has
been handed on, so the next run continues there.
"""

CURSOR_REFUSALS = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY})
MISSING_ENDPOINT = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.NOT_IMPLEMENTED})
DESCRIBED_SYNCS = 3
"""This many syncs are asked for a collection's fields: they are alike across accounts, but a sync may not be described yet."""

DEFAULT_OPTIONS = HttpOptions()

LISTING_SECONDS = 15.0
"""This is the time for what only somebody who watches wants to know: no record depends on it."""

MALFORMED_REPEATS = 6
"""A request whose answer is not a page is repeated this many times.

That is half a minute, for a gateway that shows its error page with status 200; a wrong address answers so for ever.
"""


class _Sync(msgspec.Struct):
    id: str
    collection_ids: list[str] | None = None
    provider: str | None = None

    def may_hold(self, collection_id: str) -> bool:
        """Says whether the sync offers the collection, or does not say what it offers and may be of its provider."""
        if self.collection_ids is None:
            return self.provider in (None, collection_id.partition(":")[0])
        return collection_id in self.collection_ids


class _Syncs(msgspec.Struct):
    data: list[_Sync]


class _Field(msgspec.Struct):
    name: str | None = None
    accessor: str | None = None
    type: str | None = None


class _Collection(msgspec.Struct):
    id: str | None = None
    upstream_id: str | None = None
    name: str | None = None
    fields: list[_Field] | None = None


class _Collections(msgspec.Struct):
    data: list[_Collection]


Listing = TypeVar("Listing", _Syncs, _Collections)


class SequinSource:
    """This source reads the records API at `url`, the base address with or without a path prefix, with bearer `token`.

    It opens its connections when something is read and closes them with it, so there is nothing to close, and reads in several
    threads do not share any. Raises ConfigurationError for an address, a token or a page size that cannot be used.
    """

    can_reread = True
    observes_time = False

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        page_size_records: int = DEFAULT_PAGE_SIZE_RECORDS,
        max_empty_pages: int = MAX_EMPTY_PAGES,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> None:
        if page_size_records < 1:
            raise ConfigurationError(
                f"the page size is {page_size_records} records: it must be at least 1, since an empty page never moves on"
            )
        self._endpoint = Endpoint(url, token)
        self._page_size_records = page_size_records
        self._max_empty_pages = max_empty_pages
        self._options = options
        self.identity = SourceIdentity("sequin", self._endpoint.base_url)

    def __repr__(self) -> str:
        return f"SequinSource({self._endpoint.base_url!r})"

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Sends one request per page, when the page is asked for; every answer is a page, the empty last one too.

        The stream ends at a page without a cursor, or at an empty one with the cursor that was sent. The API filters by one
        collection or one provider, and by one sync: for more of them the stream is read unfiltered, and the reader passes over
        what it does not want. The API has no filter by time.

        Raises CursorRefused, SourceRefused, SourceUnavailable, SourceFault.
        """
        if not request.collections or (request.sync_ids is not None and not request.sync_ids):
            return
        after, empty_pages = request.after, 0
        seen = _SeenCursors(after)
        with HttpClient(self._endpoint, self._options) as http:
            while True:
                answer = self._page(http, request, after=after, seen=seen)
                envelope = answer.value
                yield Page(envelope.records, envelope.cursor, answer.received_at, answer.cost)
                if envelope.cursor is None or envelope.cursor == after:
                    return
                empty_pages = empty_pages + 1 if envelope.is_empty else 0
                if empty_pages > self._max_empty_pages:
                    raise SourceFault(
                        f"{_purpose(request, after)} from {self._endpoint.base_url}: {empty_pages} empty pages in a row, each with a new "
                        "cursor, where records or the end of the stream were expected: ask whoever runs the source; the next run "
                        "continues from the last of these cursors"
                    )
                after = envelope.cursor
                seen.add(after)

    def committed(self, cursor: str) -> None:
        """Does nothing: a stream that can be read again needs no acknowledgement."""

    def head(self, collection_id: str) -> None:
        """Returns None: the API does not say where its stream ends."""

    def collection_ids(self) -> frozenset[str] | None:
        """Returns the collections of all syncs that the token can see, or None where the server has no `/v1/syncs`.

        It gives up after LISTING_SECONDS, sooner than a page would.
        """
        retry = replace(self._options.retry, budget_seconds=min(LISTING_SECONDS, self._options.retry.budget_seconds))
        with HttpClient(self._endpoint, replace(self._options, retry=retry)) as http:
            syncs = self._syncs(http)
        if syncs is None:
            return None
        return frozenset(collection_id for sync in syncs for collection_id in sync.collection_ids or ())

    def list_syncs(self, collection_id: str) -> SyncListing | None:
        """Returns the syncs that offer the collection, or do not say what they offer; None where the server has no `/v1/syncs`."""
        with HttpClient(self._endpoint, self._options) as http:
            answer = self._listing(http, "/v1/syncs", _Syncs, purpose=f"reading the syncs of {collection_id}")
        if answer is None:
            return None
        offering = {sync.id for sync in answer.value.data if sync.may_hold(collection_id)}
        return SyncListing(tuple(sorted(offering)), answer.received_at)

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """Returns the fields as one of the first syncs that offer the collection describes them.

        The API names the parameter of `/v1/collections` a credential id; a sync is the connection to one account, so its id is
        what is sent.
        """
        with HttpClient(self._endpoint, self._options) as http:
            offering = [sync.id for sync in self._syncs(http) or () if collection_id in (sync.collection_ids or ())]
            for sync_id in sorted(offering)[:DESCRIBED_SYNCS]:
                path = f"/v1/collections/{quote(sync_id, safe='')}"
                listing = self._listing(http, path, _Collections, purpose=f"reading the fields of {collection_id}")
                for collection in listing.value.data if listing else ():
                    if _is_named(collection, collection_id) and collection.fields:
                        return tuple(_described(field) for field in collection.fields if field.accessor or field.name)
        return ()

    def _page(self, http: HttpClient, request: ReadRequest, *, after: str | None, seen: "_SeenCursors") -> Answer[PageEnvelope]:
        params = [*_filters(request), ("limit", str(self._page_size_records))]
        if after is not None:
            params.append(("after_cursor", after))

        def read(response: Response) -> PageEnvelope:
            envelope = self._envelope(response)
            is_end = envelope.is_empty and envelope.cursor == after
            if envelope.cursor in seen and not is_end:
                raise AskAgain(
                    f"cursor {envelope.cursor!r}, which was used before in the same read: the source goes round in a circle",
                    at_most=1,
                )
            return envelope

        try:
            return http.get("/v1/records", params, purpose=_purpose(request, after), read=read)
        except StatusRefused as refusal:
            if after is None or refusal.status not in CURSOR_REFUSALS:
                raise
            raise CursorRefused(
                f"{refusal}. The cursor of an earlier run is most likely no longer known there: "
                "run again with --full-refresh to read the collection from its earliest record; rows that are there stay"
            ) from refusal

    def _envelope(self, response: Response) -> PageEnvelope:
        try:
            return read_page(response.body)
        except EnvelopeError as error:
            found = (
                f"{error}; content type {self._endpoint.excerpt(response.content_type)}" if response.content_type else str(error)
            )
            beginning = self._endpoint.excerpt(response.body[:4096].decode(errors="replace"))
            raise AskAgain(
                f"{found}, beginning with {beginning}, where a JSON object with `records` and `cursor` was expected "
                f"(does {self._endpoint.url_variable} name the records API?)",
                at_most=MALFORMED_REPEATS,
            ) from error

    def _syncs(self, http: HttpClient) -> list[_Sync] | None:
        listing = self._listing(http, "/v1/syncs", _Syncs, purpose="reading which collections there are")
        return None if listing is None else listing.value.data

    def _listing(self, http: HttpClient, path: str, kind: type[Listing], *, purpose: str) -> Answer[Listing] | None:
        """Returns what the endpoint at `path` lists, or None where the server has no such endpoint."""

        def read(response: Response) -> Listing:
            try:
                return msgspec.json.decode(response.body, type=kind)
            except (msgspec.DecodeError, RecursionError) as error:
                raise AskAgain(f"an answer that is not a listing: {self._endpoint.excerpt(str(error))}", at_most=1) from error

        try:
            return http.get(path, purpose=purpose, read=read)
        except StatusRefused as refusal:
            if refusal.status in MISSING_ENDPOINT:
                return None
            raise


class _SeenCursors:
    """This set remembers the cursors of one read, as 8 bytes each, however long they are."""

    def __init__(self, first: str | None) -> None:
        self._digests: set[bytes] = set()
        if first is not None:
            self.add(first)

    def add(self, cursor: str) -> None:
        self._digests.add(_digest(cursor))

    def __contains__(self, cursor: str | None) -> bool:
        return cursor is not None and _digest(cursor) in self._digests


def _digest(cursor: str) -> bytes:
    return hashlib.blake2b(cursor.encode(), digest_size=8).digest()


def _filters(request: ReadRequest) -> list[tuple[str, str]]:
    """Returns the narrowest filters that the API has for a request; they may let through more than was asked for, never less."""
    filters: list[tuple[str, str]] = []
    providers = {collection_id.partition(":")[0] for collection_id in request.collections}
    if len(request.collections) == 1:
        filters.append(("collection_id", _only(request.collections)))
    elif len(providers) == 1:
        filters.append(("provider", _only(providers)))
    if request.sync_ids is not None and len(request.sync_ids) == 1:
        filters.append(("sync_id", _only(request.sync_ids)))
    return filters


def _purpose(request: ReadRequest, after: str | None) -> str:
    what = _only(request.collections) if len(request.collections) == 1 else f"{len(request.collections)} collections"
    return f"reading {what} " + ("from the start" if after is None else f"after cursor {after[:80]!r}")


def _only(items: Iterable[str]) -> str:
    (item,) = items
    return item


def _is_named(collection: _Collection, collection_id: str) -> bool:
    names = (collection_id, collection_id.partition(":")[2])
    return collection.name in names or collection.id == collection_id


def _described(field: _Field) -> FieldDescription:
    return FieldDescription(field.accessor or field.name or "", field.type or "")
