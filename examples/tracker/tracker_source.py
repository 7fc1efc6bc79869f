"""This source reads a REST API with `{"items": [...], "next": "https://…?after=812"}`, oldest change first; `next` is a position."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sequin_pipeline.sources import Page, ReadRequest, SourceIdentity
from sequin_pipeline.sources.base import SourceBase
from sequin_pipeline.sources.http.client import HttpClient, HttpOptions, Response
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.retries import AskAgain


class Item(msgspec.Struct):
    id: int | str
    updated_at: datetime


class Listing(msgspec.Struct):
    items: list[msgspec.Raw]
    next: str | None = None


class TrackerSource(SourceBase):
    def __init__(self, url: str, token: str | None = None) -> None:
        self._endpoint = Endpoint(url, token, "options.url", "options.token")
        self.identity = SourceIdentity("tracker", self._endpoint.base_url)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        (collection_id,) = request.collections
        name, query = collection_id.partition(":")[2], request.after or "per_page=100&sort=updated_at"
        with HttpClient(self._endpoint, HttpOptions()) as http:
            while query:
                answer = http.get(f"/{name}", parse_qsl(query), purpose=f"reading {collection_id}", read=_listing)
                records = msgspec.json.encode([_record(collection_id, item) for item in answer.value.items])
                query = urlsplit(answer.value.next or "").query  # none behind the last page, which the next run reads again
                yield Page(records, query or None, answer.received_at, answer.cost)


def _listing(got: Response) -> Listing:
    try:
        return msgspec.json.decode(got.body, type=Listing)
    except ValueError as error:
        raise AskAgain(f"an answer that is not a listing ({error})", at_most=2) from error


def _record(collection_id: str, data: msgspec.Raw) -> object:
    try:
        item = msgspec.json.decode(data, type=Item)
    except ValueError:
        return data  # kept whole, as a reject
    version = (item.updated_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    names = {"id": f"{collection_id}:{item.id}", "upstream_id": str(item.id), "collection_id": collection_id}
    return {**names, "sync": {"id": "default"}, "updated_idx": version, "inserted_at": item.updated_at, "data": data}
