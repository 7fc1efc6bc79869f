"""A source of your own: a REST API whose answers are `{"items": [...], "next": "https://…/tasks?after=812"}`, oldest change first,
and whose links hold a position: behind the number of a page, items that move while they are read would be passed over."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlsplit

import msgspec

from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity
from sequin_pipeline.sources.endpoint import Endpoint
from sequin_pipeline.sources.http import HttpClient, HttpOptions


class Item(msgspec.Struct):
    id: int | str
    updated_at: datetime


class Listing(msgspec.Struct):
    items: list[msgspec.Raw]
    next: str | None = None


class LinkedPages:
    can_reread, observes_time = True, False

    def __init__(self, url: str, token: str | None = None) -> None:
        self._endpoint = Endpoint(url, token, url_variable="TRACKER_URL", token_variable="TRACKER_TOKEN")  # noqa: S106 - a name
        self.identity = SourceIdentity("linked_pages", self._endpoint.base_url)

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        (collection_id,) = request.collections
        name, query = collection_id.partition(":")[2], request.after or "per_page=100&sort=updated_at"
        with HttpClient(self._endpoint, HttpOptions()) as http:
            while True:
                answer = http.get(f"/{name}", parse_qsl(query), purpose=f"reading {collection_id}", read=lambda got: got.body)
                listing = msgspec.json.decode(answer.value, type=Listing)
                records = msgspec.json.encode([_record(collection_id, item) for item in listing.items])
                # The last page has no next one: the next run reads it again, and finds what has been added to it.
                query = urlsplit(listing.next).query if listing.next else query
                yield Page(records, query, answer.received_at, answer.cost)
                if not listing.next:
                    return

    def committed(self, cursor: str) -> None: ...
    def head(self, collection_id: str) -> None: ...
    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        return ()

    def collection_ids(self) -> None: ...


def _record(collection_id: str, data: msgspec.Raw) -> dict[str, object]:
    item = msgspec.json.decode(data, type=Item)
    version = (item.updated_at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    names = {"id": f"{collection_id}:{item.id}", "upstream_id": str(item.id), "collection_id": collection_id}
    return {**names, "sync": {"id": "default"}, "updated_idx": version, "inserted_at": item.updated_at, "data": data}
