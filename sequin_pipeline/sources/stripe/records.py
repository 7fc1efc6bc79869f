"""This module writes objects of Stripe as records in the envelope of the records API."""

from datetime import UTC, datetime

import msgspec

from sequin_pipeline.catalog import SourceAccount
from sequin_pipeline.records.envelope import derived_id
from sequin_pipeline.sources.stripe.api import StripeObject

MICROSECONDS = 1_000_000


def listing_version(started: int) -> int:
    """Returns the version of what a listing sees that began in that second."""
    return started * MICROSECONDS


def event_version(created: int) -> int:
    """Returns the version of what an event of that second led to.

    It is above that of a listing that began in the same second, which may have looked before.
    """
    return created * MICROSECONDS + 1


def record_id(account: SourceAccount, collection_id: str, upstream_id: str) -> str:
    """Returns an id that is the same for each version of an object, and different for each account."""
    return derived_id(account.name, collection_id, upstream_id)


def write_record(account: SourceAccount, collection_id: str, found: StripeObject, *, version: int, entered: int) -> bytes:
    """Writes a record that is not deleted; it entered the stream in the second `entered`."""
    head = _head(account, collection_id, found, version=version, entered=entered, is_deleted=False)
    return msgspec.json.encode(head)[:-1] + b',"data":' + found.raw + b"}"


def write_tombstone(account: SourceAccount, collection_id: str, last: StripeObject, *, version: int, entered: int) -> bytes:
    """Writes a bare tombstone, so that the row keeps the object as it last was.

    The times are those of `last`, the object as an event showed it.
    """
    head = _head(account, collection_id, last, version=version, entered=entered, is_deleted=True)
    return msgspec.json.encode(head)


def write_unreadable(account: SourceAccount, collection_id: str, raw: bytes) -> bytes:
    """Writes something that stood in a list without an id: a record that will be rejected, the same at each listing."""
    return msgspec.json.encode(_belonging(account, collection_id))[:-1] + b',"data":' + raw + b"}"


def write_page(records: list[bytes]) -> bytes:
    """Writes the records as the text of an array."""
    return b"[" + b",".join(records) + b"]"


def _head(
    account: SourceAccount, collection_id: str, found: StripeObject, *, version: int, entered: int, is_deleted: bool
) -> dict[str, object]:
    return {
        "id": record_id(account, collection_id, found.id),
        **_belonging(account, collection_id),
        "upstream_id": found.id,
        "updated_idx": version,
        "deleted": is_deleted,
        "inserted_at": _iso(entered),
        "upstream_created_at": _iso(found.created),
        "upstream_updated_at": _iso(found.updated),
    }


def _belonging(account: SourceAccount, collection_id: str) -> dict[str, object]:
    return {
        "collection_id": collection_id,
        "provider": collection_id.partition(":")[0],
        "sync": {"id": account.name, "external_id": account.external_id, "metadata": dict(account.metadata)},
    }


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
