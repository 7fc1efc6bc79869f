"""This module takes a page of several collections apart. Pure.

Each one's share is a page of its own, its records byte for byte.
"""

from dataclasses import replace

import msgspec

from sequin_pipeline.errors import SourceFault
from sequin_pipeline.records import json_text
from sequin_pipeline.sources import Page, PageCost


class _Named(msgspec.Struct):
    collection_id: str | None = None
    collection: str | None = None


_named = msgspec.json.Decoder(_Named)


def shares_of(page: Page) -> dict[str | None, Page]:
    """Returns the page's records by collection id, in their order; None for those that name no collection, or not by a text.

    The shares have no cursor and cost nothing: both are the page's. Raises SourceFault where the page holds no array.
    """
    try:
        records = json_text.elements(page.records)
    except ValueError as error:
        raise SourceFault(
            f"a page of several collections should be a JSON array of records, but {error}: look at what the source answers"
        ) from error
    shares: dict[str | None, list[bytes]] = {}
    for record in records:
        shares.setdefault(collection_id_of(record), []).append(record)
    return {
        collection_id: replace(page, records=b"[" + b",".join(share) + b"]", cursor=None, cost=PageCost(requests=0))
        for collection_id, share in shares.items()
    }


def collection_id_of(record: bytes) -> str | None:
    """Returns `collection_id`, in the older form `collection`; None where there is none that Postgres could hold."""
    try:
        named = _named.decode(record)
        found = named.collection_id or named.collection
    except json_text.REFUSALS:
        found = _scanned(record)
    return found if found and "\x00" not in found else None


def _scanned(record: bytes) -> str | None:
    """Reads the collection's id of a record that is no sound JSON as a whole, or has something else than texts there."""
    try:
        members = json_text.members(record)
        raw = members.get("collection_id") or members.get("collection") or b"null"
        found: str | None = msgspec.json.decode(raw, type=str | None)
    except ValueError:
        return None
    return found
