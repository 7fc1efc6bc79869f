"""This module sends the sandbox's records as a self-hosted Sequin would: each object is a row of table `provider.collection`.

A sync stands for the database that a row lies in, an object's own id for its primary key, a position for a place in the log.
"""

import msgspec

from sequin_pipeline.sandbox.consumers import Message
from sequin_pipeline.sandbox.settings import MessageForm
from sequin_pipeline.sandbox.wire import members_of

LSN_STEP = 64
"""Two commits lie at least so far apart in a log of Postgres."""


class ChangeMessages:
    """This builds the messages of one consumer, and remembers the last object of each record, which a delete carries.

    What lies up to position `backfilled_to` is sent as rows of a backfill.
    """

    def __init__(self, name: str, *, backfilled_to: int) -> None:
        self._name = name
        self._backfilled_to = backfilled_to
        self._last_rows: dict[str, bytes] = {}

    def text(self, message: Message, form: MessageForm) -> bytes:
        """Returns the message's JSON text."""
        ack_id, change = msgspec.json.encode(message.ack_token), self._change(message)
        if form == "flat":
            return b'{"ack_id":' + ack_id + b"," + change + b"}"
        return b'{"ack_id":' + ack_id + b',"data":{' + change + b"}}"

    def _change(self, message: Message) -> bytes:
        """Returns the change's members; a record that cannot be told from others is sent whole, as a row of no table."""
        entry = message.entry
        if entry.key is None or entry.collection_id is None:
            return b'"record":' + entry.body
        record = members_of(entry.body)
        row = record.get("data", b"null")
        is_new = entry.key not in self._last_rows
        if row == b"null":
            row = self._last_rows.get(entry.key, b"{}")
        self._last_rows[entry.key] = row
        is_read = entry.position <= self._backfilled_to
        action = "delete" if record.get("deleted") == b"true" else "read" if is_read else "insert" if is_new else "update"
        metadata = msgspec.json.encode(self._metadata(message, record))
        return b'"record":' + row + b',"changes":null,"action":"' + action.encode() + b'","metadata":' + metadata

    def _metadata(self, message: Message, record: dict[str, bytes]) -> dict[str, object]:
        entry = message.entry
        schema, _, table = (entry.collection_id or "").partition(":")
        inserted_at = record.get("inserted_at") or record.get("created_at") or b"null"
        return {
            "table_schema": schema,
            "table_name": table,
            "commit_timestamp": msgspec.Raw(inserted_at),
            "commit_lsn": entry.position * LSN_STEP,
            "commit_idx": 0,
            "idempotency_key": f"{entry.position}:0",
            "record_pks": [msgspec.Raw(record.get("upstream_id", b"null"))],
            "database": {"id": entry.sync_id, "name": entry.sync_id},
            "consumer": {"name": self._name},
        }
