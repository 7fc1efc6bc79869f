"""These settings say how a sandbox answers; where the API's contract leaves a form open, a test chooses one here."""

from dataclasses import dataclass, field
from typing import Literal, get_args

End = Literal["empty-null", "empty-absent", "empty-same", "records-null", "records-absent"]
"""This is what the end of the stream looks like: an empty page, or the last records, with the cursor null, absent, or the one sent."""

RecordForm = Literal["current", "old"]
NextForm = Literal["object", "array"]
MessageForm = Literal["nested", "flat"]
"""A Sequin Stream's message holds its change below `data`, as servers send it, or beside `ack_id`, as they document it."""

ENDS: tuple[End, ...] = get_args(End)
RECORD_FORMS: tuple[RecordForm, ...] = get_args(RecordForm)
NEXT_FORMS: tuple[NextForm, ...] = get_args(NextForm)
MESSAGE_FORMS: tuple[MessageForm, ...] = get_args(MessageForm)

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
"""A page holds at most this many records; the contract leaves default and cap open, and the sandbox uses this for both."""


@dataclass(frozen=True)
class Settings:
    """These are the settings of one sandbox; `token` None lets every request in.

    `faults` are texts that faults.py understands. The Stripe API allows each account `requests_per_second`, any number where it is 0.
    `home` is told by the health endpoint, so that a launcher knows its own.
    """

    token: str | None = field(default=None, repr=False)
    limit_cap: int = MAX_LIMIT
    delay_ms: int = 0
    end: End = "empty-null"
    form: RecordForm = "current"
    next_form: NextForm = "object"
    message_form: MessageForm = "nested"
    ack_wait_ms: int = 30_000
    max_ack_pending: int = 1000
    requests_per_second: int = 0
    faults: tuple[str, ...] = ()
    home: str | None = None


SANDBOX_TOKEN = "sandbox"  # noqa: S105 - the sandbox asks for none; runs must send something
