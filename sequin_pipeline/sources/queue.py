"""This module holds what all queues share.

Each delivery is a page, acknowledged after its commit and given back if there is none. How messages are requested and what a
message holds is up to each source. A queue keeps its own place, so a cursor is only the number of a delivery within this read,
and means nothing to another run.
"""

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import ClassVar

import msgspec

from sequin_pipeline.errors import SourceError, SourceRefused
from sequin_pipeline.records import json_text
from sequin_pipeline.sources import FieldDescription, Page, ReadRequest, SourceIdentity
from sequin_pipeline.sources.http.client import Answer, HttpClient, HttpOptions, Response
from sequin_pipeline.sources.http.endpoint import Endpoint
from sequin_pipeline.sources.http.failures import StatusRefused
from sequin_pipeline.sources.http.retries import AskAgain, RetryPolicy

LOGGER = logging.getLogger("sequin_pipeline.sources")

DEFAULT_OPTIONS = HttpOptions()

DELIVERY_MESSAGES = 1000
"""Both queues give at most this many messages at once.

A consumer has no more than so many unacknowledged either, unless it was told otherwise.
"""

WAIT_MILLISECONDS = 1000
"""A request waits this long for messages before the queue counts as empty; Sequin Stream refuses less than 500."""

GIVE_BACK = RetryPolicy(budget_seconds=5.0)
"""This policy is for a read that failed.

What cannot be given back in this time comes again by itself, once the queue stops waiting for it.
"""

MALFORMED_REPEATS = 6
"""As for pages, this is half a minute, for a gateway that shows its error page with status 200."""


UNPROCESSABLE = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY})

NEVER_DELIVERED = "00000000-0000-0000-0000-000000000000"
"""No queue gives out this token: acknowledging it does nothing, and shows who answers and whether our token is accepted."""


class QueueUnknown(SourceRefused):
    """The server answers, but has no such consumer."""


@dataclass(frozen=True)
class Message:
    """A message consists of what acknowledges it and of its record, as JSON text in the envelope of the records API."""

    ack_id: str
    record: bytes = field(repr=False)


class QueueSource(ABC):
    """A queue hands each message to one reader at a time, until it is acknowledged.

    Any number of readers may drain one queue at once. What one of them has neither acknowledged nor given back comes again by
    itself. One instance serves one thread at a time, except that the next page may be asked for while another thread calls
    `committed`. Connections are closed when a read ends.
    """

    can_reread = False
    observes_time = False
    tells_all_values = False
    """This is true where no message leaves values of an object out; the ledger is asked before each delivery otherwise."""

    ack_field: ClassVar[str]
    """This is the queue's name for the tokens in the body of `ack` and `nack`."""

    identity: SourceIdentity

    def __init__(
        self,
        endpoint: Endpoint,
        path: str,
        *,
        wait_milliseconds: int = WAIT_MILLISECONDS,
        options: HttpOptions = DEFAULT_OPTIONS,
    ) -> None:
        self._endpoint = endpoint
        self._path = path
        self._wait_milliseconds = wait_milliseconds
        self._options = options
        self._settling: HttpClient | None = None
        self._settling_lock = threading.Lock()
        self._delivered = 0
        self._outstanding: dict[int, tuple[str, ...]] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.identity)!r})"

    @property
    def _purpose(self) -> str:
        return f"draining {self.identity.kind} {self.identity.stream!r}"

    @abstractmethod
    def _receive(self, http: HttpClient) -> Answer[list[Message]]:
        """Returns the next messages, or none when none came within the waiting time."""

    def pages(self, request: ReadRequest) -> Iterator[Page]:
        """Yields each delivery as one page, all collections of the queue together, until it is empty; `request` narrows nothing.

        When the read fails or is closed, what was delivered and not committed is given back, to come again at once.
        Raises SourceRefused, SourceUnavailable, SourceFault.
        """
        with (
            HttpClient(self._endpoint, self._options) as http,
            HttpClient(self._endpoint, self._options) as self._settling,
        ):
            try:
                while True:
                    answer = self._next(http)
                    if not answer.value:
                        return
                    self._delivered += 1
                    self._outstanding[self._delivered] = tuple(message.ack_id for message in answer.value)
                    records = b"[" + b",".join(message.record for message in answer.value) + b"]"
                    yield Page(
                        records,
                        str(self._delivered),
                        answer.received_at,
                        answer.cost,
                        tells_all_values=self.tells_all_values,
                    )
            except BaseException:
                # Failed, interrupted or closed (GeneratorExit): given back in each case, and raised again.
                with self._settling_lock:
                    self._give_back()
                raise
            finally:
                with self._settling_lock:
                    self._settling = None

    def _next(self, http: HttpClient) -> Answer[list[Message]]:
        try:
            return self._receive(http)
        except StatusRefused as refusal:
            raise self._unknown_if_missing(refusal) from refusal

    def _unknown_if_missing(self, refusal: StatusRefused) -> SourceRefused:
        if refusal.status != HTTPStatus.NOT_FOUND:
            return refusal
        return QueueUnknown(
            f"{refusal}. Is there a consumer {self.identity.stream!r}? Fix `queue` in the defs.yaml, or the address"
        )

    def check_access(self, options: HttpOptions) -> None:
        """Raises QueueUnknown, or what `pages` raises, unless the queue is there and accepts the token; takes no message."""
        with HttpClient(self._endpoint, options) as http:
            try:
                self._settle(http, "ack", [NEVER_DELIVERED])
            except StatusRefused as refusal:
                # A server that looks closely at the token has let us in all the same.
                if refusal.status not in UNPROCESSABLE:
                    raise self._unknown_if_missing(refusal) from refusal

    def committed(self, cursor: str) -> None:
        """Acknowledges every delivery up to `cursor`.

        Raises as `pages` does, and then the rows are stored and the messages come again.
        """
        with self._settling_lock:
            # A copy: the next delivery may come in meanwhile.
            done = [number for number in list(self._outstanding) if number <= int(cursor)]
            ack_ids = [ack_id for number in done for ack_id in self._outstanding[number]]
            if self._settling is not None:
                self._settle(self._settling, "ack", ack_ids)
            else:
                with HttpClient(self._endpoint, self._options) as http:
                    self._settle(http, "ack", ack_ids)
            for number in done:
                del self._outstanding[number]

    def head(self, collection_id: str) -> str | None:
        """Returns None: a queue does not say where it ends."""
        return None

    def describe(self, collection_id: str) -> tuple[FieldDescription, ...]:
        """Returns nothing: a queue does not describe its records."""
        return ()

    def collection_ids(self) -> frozenset[str] | None:
        """Returns None: what a queue holds is known only after it has been drained."""
        return None

    def _give_back(self) -> None:
        ack_ids = [ack_id for delivery in self._outstanding.values() for ack_id in delivery]
        self._outstanding.clear()
        if not ack_ids:
            return
        try:
            with HttpClient(self._endpoint, replace(self._options, retry=GIVE_BACK)) as http:
                self._settle(http, "nack", ack_ids)
        except SourceError as error:
            LOGGER.warning(
                "%d messages could not be returned to the queue and will be delivered again later: %s", len(ack_ids), error
            )

    def _settle(self, http: HttpClient, verb: str, ack_ids: Sequence[str]) -> None:
        for start in range(0, len(ack_ids), DELIVERY_MESSAGES):
            content = {self.ack_field: list(ack_ids[start : start + DELIVERY_MESSAGES])}
            http.post(f"{self._path}/{verb}", content, purpose=f"{self._purpose}: {verb}", read=lambda response: None)

    def _read(self, response: Response) -> list[Message]:
        """Reads the messages of an answer in either of its forms, an object with `data` or a bare array; raises AskAgain."""
        body = response.body.strip(json_text.SPACE)
        try:
            array = member(json_text.members(body), "data") if body.startswith(b"{") else body
            return [self._message(element) for element in json_text.elements(array)]
        except ValueError as error:
            beginning = self._endpoint.excerpt(body[:4096].decode(errors="replace"))
            raise AskAgain(
                f"an answer that holds no messages ({self._endpoint.excerpt(str(error))}), beginning with "
                f"{beginning}, where JSON with an array of messages was expected (does {self._endpoint.url_variable} name the right "
                "server?)",
                at_most=MALFORMED_REPEATS,
            ) from error

    @abstractmethod
    def _message(self, element: bytes) -> Message:
        """Reads one message of an answer; raises ValueError for what could never be acknowledged."""


def member(members: Mapping[str, bytes], name: str) -> bytes:
    """Returns the JSON text of a member that must be there; raises ValueError where it is not."""
    if name not in members:
        raise ValueError(f"a message has no {name!r}")
    return members[name]


def text_member(members: Mapping[str, bytes], name: str) -> str:
    """Returns a member that must be a string; raises ValueError where it is not."""
    return msgspec.json.decode(member(members, name), type=str)
