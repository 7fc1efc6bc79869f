"""Records, a source of changes of five objects, and a client that sees the bytes of an answer and how its connection ended."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import httpx2

from sequin_pipeline.sandbox.records import Change, FieldInfo, SyncInfo

SYNC = SyncInfo(
    id="s1",
    name="Acme",
    provider="stripe",
    stream_id="default",
    collection_ids=("stripe:customer",),
    external_id="org_1",
    metadata={"plan": "pro"},
    initial_backfill_completed_at=datetime(2023, 12, 15, 1, 29, 29, tzinfo=UTC),
)


def line(record_id: str = "r1", **overrides: object) -> bytes:
    """A record in the current form, as a line of a file."""
    record: dict[str, object] = {
        "id": record_id,
        "collection_id": "stripe:customer",
        "provider": "stripe",
        "stream_id": "default",
        "sync": {"id": "s1", "external_id": "org_1", "metadata": {}},
        "upstream_id": f"cus_{record_id}",
        "updated_idx": 2745327036,
        "deleted": False,
        "inserted_at": "2024-05-01T10:00:00.000000Z",
        "upstream_created_at": None,
        "upstream_updated_at": None,
        "data": {"n": 1},
    }
    return json.dumps(record | overrides).encode()


def lines(count: int) -> list[bytes]:
    """Records r1, r2, … of one collection."""
    return [line(f"r{number}") for number in range(1, count + 1)]


class FiveCustomers:
    """Five objects, of which one after the other changes."""

    def __init__(self) -> None:
        self._changes = 0

    def initial(self) -> Iterator[Change]:
        start = datetime(2024, 1, 1, tzinfo=UTC)
        return (_customer(number, b'{"n":0}', start + timedelta(days=number)) for number in range(5))

    def next_change(self, at: datetime) -> Change:
        self._changes += 1
        return _customer(self._changes % 5, b'{"n":%d}' % self._changes, at)

    def syncs(self) -> tuple[SyncInfo, ...]:
        return (SYNC,)

    def fields(self, collection_id: str) -> tuple[FieldInfo, ...]:
        return (FieldInfo(id="fld_1", name="N", accessor="n", type="number"),)


def _customer(number: int, content: bytes, changed_at: datetime) -> Change:
    return Change("stripe:customer", SYNC, f"cus_{number}", deleted=False, data=content, changed_at=changed_at)


def client(url: str) -> httpx2.Client:
    return httpx2.Client(base_url=url, trust_env=False, timeout=10)


def ids(answer: httpx2.Response) -> list[str]:
    return [record["id"] for record in answer.json()["records"]]


@dataclass(frozen=True)
class RawAnswer:
    """`was_reset`: the connection ended with RST instead of FIN."""

    received: bytes
    was_reset: bool

    @property
    def head(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[0]

    @property
    def body(self) -> bytes:
        return self.received.partition(b"\r\n\r\n")[2]


def get_raw(url: str, target: str) -> RawAnswer:
    """Reads until the server ends the connection."""
    address = urlsplit(url)
    received = b""
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\n\r\n".encode())
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            return RawAnswer(received, was_reset=True)
    return RawAnswer(received, was_reset=False)
