"""From pages to Arrow tables, by hand: what users of a tool that loads Arrow write, with the fastest parser there is for it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa

from bench.peers import mapping

UTC = pa.timestamp("us", "UTC")


class Sync(msgspec.Struct):
    id: str
    external_id: str


class Record(msgspec.Struct):
    id: str
    sync: Sync
    upstream_id: str
    updated_idx: int
    deleted: bool
    inserted_at: str
    upstream_created_at: str
    upstream_updated_at: str
    data: msgspec.Raw


class Price(msgspec.Struct):
    id: str


class Item(msgspec.Struct):
    price: Price
    quantity: int


class Items(msgspec.Struct):
    data: list[Item]


class Subscription(msgspec.Struct):
    customer: str
    status: str
    current_period_end: int
    metadata: msgspec.Raw
    items: Items


RECORDS = msgspec.json.Decoder(list[Record])
SUBSCRIPTION = msgspec.json.Decoder(Subscription)


def tables(files: Sequence[str], *, pages: int) -> Iterator[pa.Table]:
    """A table for so many pages, JSON as text."""
    for start in range(0, len(files), pages):
        yield table([record for file in files[start : start + pages] for record in RECORDS.decode(Path(file).read_bytes())])


def table(records: Sequence[Record]) -> pa.Table:
    objects = [SUBSCRIPTION.decode(record.data) for record in records]
    columns = [
        pa.array([record.id for record in records]),
        pa.array([record.upstream_id for record in records]),
        pa.array([record.sync.external_id for record in records]),
        pa.array([record.sync.id for record in records]),
        pa.array([record.updated_idx for record in records]),
        pa.array([record.deleted for record in records]),
        pa.array([record.inserted_at for record in records]).cast(UTC),
        pa.array([record.upstream_created_at for record in records]).cast(UTC),
        pa.array([record.upstream_updated_at for record in records]).cast(UTC),
        pa.array([each.customer for each in objects]),
        pa.array([each.items.data[0].price.id for each in objects]),
        pa.array([each.items.data[0].quantity for each in objects], pa.int32()),
        pa.array([each.status for each in objects]),
        pa.array([each.current_period_end for each in objects], pa.int64()).cast(pa.timestamp("s", "UTC")).cast(UTC),
        pa.array([bytes(each.metadata) for each in objects]).cast(pa.string()),
        pa.array([bytes(record.data) for record in records]).cast(pa.string()),
    ]
    return pa.table(columns, names=list(mapping.COLUMNS))
